#!/usr/bin/env python3
"""How the code is laid out, in figures: names with two meanings, long parameter lists, sizes, floors and circles of packages, files on a request's way.

Reads the source of a checkout of any layout, or of a revision of it, and prints one column; with --against, that revision's figures stand before it. What
counts as what is said where it is counted, in scripts/house/. Standard library only, but for --request, which runs the service that the tests run and needs
their environment: call it with that environment's Python. Exit code 1: a revision cannot be read, or the service did not answer.

    python scripts/measure_house.py
    python scripts/measure_house.py --against v0.1.0 --json
    .venv/bin/python scripts/measure_house.py --request --against v0.1.0 --markdown > docs/results/house.md
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from house.names import classes_twice, common_locals, functions_twice, vague_words
from house.packages import packages
from house.report import as_markdown, as_text
from house.source import read_modules
from house.uses import app_state, engine_names, long_lists

ROOT = Path(__file__).resolve().parent.parent
# Seconds for a service to start, to be asked a few times, and to end.
REQUEST_TIMEOUT = 120


class Unmeasured(Exception):
    pass


def measure(root: Path, request: bool = False) -> dict[str, Any]:
    """The figures of a checkout, as JSON takes them. All but those of packages are of the product alone, without tests, benchmarks and scripts."""
    modules = read_modules(root)
    if not modules:
        raise Unmeasured(f"no package of tellmt in {root}")
    product = [m for m in modules if m.product]
    return {
        "classes": classes_twice(product),
        "functions": functions_twice(product),
        "words": vague_words(product),
        "locals": common_locals(product),
        "parameters": long_lists(product),
        "app_state": app_state(product),
        "engines": engine_names(product),
        "packages": packages(modules),
        "request": measure_request(root) if request else None,
    }


def measure_request(root: Path) -> dict[str, Any]:
    """What house/request.py finds, in a process of its own, since two layouts' packages have the same names."""
    script = Path(__file__).resolve().parent / "house" / "request.py"
    env = {k: v for k, v in os.environ.items() if not k.startswith("TELLMT_")} | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, str(script), str(root)], capture_output=True, text=True, timeout=REQUEST_TIMEOUT, env=env, check=False)
    if done.returncode:
        raise Unmeasured(f"no request was answered by the service of {root}:\n{done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def git(root: Path, *words: str) -> bytes:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=False)
    if done.returncode:
        raise Unmeasured(done.stderr.decode(errors="replace").strip())
    return done.stdout


@contextlib.contextmanager
def revision_of(root: Path, revision: str) -> Iterator[Path]:
    """The files of a revision, in a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        with tarfile.open(fileobj=io.BytesIO(git(root, "archive", revision))) as archive:
            archive.extractall(directory, filter="data")
        yield Path(directory).resolve()


def measured(root: Path, revision: str | None, request: bool) -> tuple[str, dict[str, Any]]:
    """What to call them, and the figures, of a revision or of the files as they are."""
    if revision is not None:
        with revision_of(root, revision) as directory:
            return git(root, "rev-parse", "--short", f"{revision}^{{commit}}").decode().strip(), measure(directory, request)
    try:
        head = git(root, "rev-parse", "--short", "HEAD").decode().strip()
        label = f"{head} and changes" if git(root, "status", "--porcelain") else head
    except Unmeasured:
        label = "no revision"
    return label, measure(root, request)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: that of this script)")
    parser.add_argument("--revision", metavar="REV", help="measure this git revision instead of the files as they are")
    parser.add_argument("--against", metavar="REV", help="print this revision's figures before the others")
    parser.add_argument("--request", action="store_true", help="run the service too, and follow a request")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true")
    shape.add_argument("--markdown", action="store_true", help="print docs/results/house.md")
    options = parser.parse_args()
    try:
        root = options.root.resolve()
        sides = [measured(root, options.against, options.request)] if options.against is not None else []
        sides.append(measured(root, options.revision, options.request))
    except Unmeasured as e:
        print(f"measure_house: {e}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([{"revision": label, **figures} for label, figures in sides], indent=2))
    elif options.markdown:
        print(as_markdown(sides, shlex.join(["python", "scripts/measure_house.py", *sys.argv[1:]])))
    else:
        print(as_text(sides))
    return 0


if __name__ == "__main__":
    sys.exit(main())
