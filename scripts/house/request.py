#!/usr/bin/env python3
"""The project's files that one request passes, from a traced run of a checkout's own service, and the names of its public schema.

    python scripts/house/request.py ROOT

Prints JSON. The service is the one that the tests run: the real HTTP server over their fake engine, so the driver of a real engine would come on top. After
one request that warms it, a profiler notes each function that is called between a request's arrival and its answer; a file counts if it has such functions
in every one of a few requests, each of one short sentence whose translation has no flag, so that nothing is tried again. Functions that the idle service
calls too, to look for new versions say, are left out.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

REQUESTS = 5
# The fake engine's translation repeats it, so it is in the language of the target.
SENTENCE = "The weather is good in the north today, and number {} is open."
# Seconds that the idle service is watched.
IDLE = 1.0
PRODUCT = ("tellmt", "tell", "train", "eval", "serve")


class Profiler:
    """Notes the code that is called in threads begun after `install`, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: set[CodeType] = set()

    def install(self) -> None:
        threading.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, arg: object) -> None:
        if self.on and event == "call":
            self.seen.add(frame.f_code)

    def taken(self) -> set[CodeType]:
        self.on = False
        calls, self.seen = self.seen, set()
        return calls


def module_with(root: Path, *definitions: str) -> ModuleType:
    """The module of the checkout's tests that defines these functions at its top, wherever it lies."""
    for path in sorted((root / "tests").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if all(re.search(rf"^def {name}\(", text, re.M) for name in definitions):
            return importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
    raise SystemExit(f"no file in {root / 'tests'} defines {' and '.join(definitions)}")


def files_of(codes: set[CodeType], root: Path) -> set[str]:
    """Paths, relative to `root`, of the product's files that hold these; the body of a module is none of its functions."""
    files = set()
    for code in codes:
        path = Path(code.co_filename)
        if code.co_name != "<module>" and path.is_relative_to(root) and path.relative_to(root).parts[0] in PRODUCT:
            files.add(path.relative_to(root).as_posix())
    return files


def measure(root: Path, work: Path) -> dict[str, Any]:
    for name in ("cache", "registry", "monitor", "shipped"):
        os.environ[f"TELLMT_{name.upper()}"] = str(work / name)
    os.environ["TELLMT_KEYS"] = str(work / "keys.json")
    (work / "shipped").mkdir()
    serving, fakes = module_with(root, "running", "publish"), module_with(root, "light_base", "light_adapter")
    base = fakes.light_base(work / "cache")
    registry = serving.Registry(work / "registry")
    serving.publish(registry, fakes.light_adapter(work / "is-en", base))
    profiler = Profiler()
    profiler.install()
    with serving.running(base, registry) as service:
        service.texts(SENTENCE.format(0))
        profiler.on = True
        time.sleep(IDLE)
        idle = profiler.taken()
        passed = []
        for number in range(1, REQUESTS + 1):
            profiler.on = True
            # One that no cache holds.
            answer = service.translate(SENTENCE.format(number))
            passed.append(files_of(profiler.taken() - idle, root))
            if answer.status_code != 200 or answer.json()["translations"][0]["flags"]:
                raise SystemExit(f"not a translation without flags: {answer.text}")
        schema = service.http.get("/openapi.json").json()
    names = sorted(schema["components"]["schemas"])
    return {"files": sorted(set.intersection(*passed)), "schemas": len(names), "path_names": [n for n in names if "__" in n]}


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    # The checkout named, whatever is installed; tests import those beside them by bare names too.
    sys.path[:1] = [str(root), *(str(p) for p in (root / "tests", root / "tests" / "support"))]
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        measures = measure(root, Path(work))
    print(json.dumps(measures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
