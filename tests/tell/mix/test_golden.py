"""The exact mix for a seed, byte for byte: one golden file for each order, and for shares, granularity and budgets.

tests/golden/mix has the inputs, `<name>.jsonl` as mixed.jsonl must be, and `<name>.json` with what mix.json must say. Where a change is meant,
write them anew with `python -m tests.tell.mix.test_golden` and say in the commit why every mix made before is now another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Ran

CLI = Callable[..., Ran]
GOLDEN = ROOT / "tests" / "golden" / "mix"

# name -> (the [mix] table, further arguments)
MIXES: dict[str, tuple[str, tuple[str, ...]]] = {
    "shuffled": ("ratio = 0.5", ("--general", "pool-a.jsonl")),
    "budget": ("ratio = 2\ntask_tokens = 1500", ("--general", "pool-a.jsonl", "--seed", "7")),
    "task-last": ("ratio = 0.5", ("--general", "pool-a.jsonl", "--order", "task-last")),
    "task-first": ('general = ["pool-a.jsonl"]\ngeneral_tokens = 2000\norder = "task-first"', ("--task-tokens", "1500")),
    "interleave": ('order = "interleave"', ("--general", "pool-a.jsonl", "--general-tokens", "3000", "--task-tokens", "2000")),
    "none": ('general = ["pool-a.jsonl"]\ngeneral_tokens = 2000\norder = "none"', ("--task-tokens", "2000")),
    "granularity": (
        "general_tokens = 3000\nmax_tokens = 256\ngranularity = { sentence = 0.3, paragraph = 0.3, document = 0.4 }\nparagraph_segments = 3\n"
        '[[mix.sources]]\npath = "pool-a.jsonl"\nshare = 3\n'
        '[[mix.sources]]\npath = "pool-b.jsonl"\nprompt = "question"\ncompletion = "answer"',
        (),
    ),
}
# Not of the mix: the base's weights are made by the torch that is installed, and the anchor has tests of its own.
UNSTABLE = ("key", "base", "anchor")


def make(run: Callable[..., Any], folder: Path) -> None:
    """Every golden mix, in `folder`."""
    for name in ("corpus.tsv", "plain.tsv", "pool-a.jsonl", "pool-b.jsonl"):
        (folder / name).write_bytes((GOLDEN / name).read_bytes())
    for name in ("corpus", "plain"):
        run("corpus", "build", f"{name}.tsv", "--pair", "is-en", "-o", name)
    for name, (table, arguments) in MIXES.items():
        (folder / f"{name}.toml").write_text(f'pair = "is-en"\nbase = "tiny"\nseed = 3\n[mix]\n{table}\n')
        run("mix", "--recipe", f"{name}.toml", "--corpus", "corpus", "plain", *arguments, "-o", f"{name}.mix")


def told(mixed: Path) -> str:
    report = json.loads((mixed / "mix.json").read_text(encoding="utf-8"))
    return json.dumps({k: v for k, v in report.items() if k not in UNSTABLE}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def mixes(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    _all(folder, tiny_cache)
    return folder


def _all(folder: Path, cache: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TELLMT_")}

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "tellmt", *arguments], cwd=folder, env={**clean, "TELLMT_CACHE": str(cache)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    make(run, folder)


@pytest.mark.parametrize("name", MIXES)
def test_the_mix_is_the_golden_one(mixes: Path, name: str) -> None:
    assert (mixes / f"{name}.mix" / "mixed.jsonl").read_bytes() == (GOLDEN / f"{name}.jsonl").read_bytes()
    assert told(mixes / f"{name}.mix") == (GOLDEN / f"{name}.json").read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    inputs = {"corpus.tsv", "plain.tsv", "pool-a.jsonl", "pool-b.jsonl"}
    assert {p.name for p in GOLDEN.iterdir()} == inputs | {f"{n}{s}" for n in MIXES for s in (".json", ".jsonl")}


if __name__ == "__main__":
    from tests.support.tiny import make_tiny_base

    with tempfile.TemporaryDirectory() as where:
        make_tiny_base(Path(where, "cache"))
        _all(Path(where), Path(where, "cache"))
        for golden in MIXES:
            (GOLDEN / f"{golden}.jsonl").write_bytes(Path(where, f"{golden}.mix", "mixed.jsonl").read_bytes())
            (GOLDEN / f"{golden}.json").write_text(told(Path(where, f"{golden}.mix")), encoding="utf-8")
