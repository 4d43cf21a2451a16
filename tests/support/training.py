"""What tests of training share: the command line in this process, for torch is slow to import, and a corpus to look at while training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellmt.cli import main

Run = Callable[..., tuple[int, str, str]]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """`tellmt ARGS` in this process: exit code, stdout, stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        code = main([*map(str, args)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().split("\n") if line]


WORDS = ["hestur", "kind", "geit", "naut", "hundur", "refur", "selur", "hvalur", "lax", "ugla"]
WORDS += ["svanur", "lóa", "spói", "kría", "fluga", "maur", "bjarg", "foss", "gil", "hver"]


def dev_corpus(tellmt: Run, place: Path, pair: str = "is-en", dev: int = 9) -> Path:
    """A corpus of documents of one segment each, `dev` of which are its dev split."""
    rows = [f"{w}\tÞetta er setning um {w}{f', og {w}' * (i % 4)}.\tThis is sentence number {w}{f', and {w}' * (i % 4)}." for i, w in enumerate(WORDS)]
    (place / "dev.tsv").write_text("\n".join(["doc\tis\ten", *rows, ""]), encoding="utf-8")
    code, _, err = tellmt("corpus", "build", place / "dev.tsv", "--pair", pair, "--dev", dev, "--test", 1, "-o", place / f"corpus-{pair}-{dev}")
    assert code == 0, err
    return place / f"corpus-{pair}-{dev}"
