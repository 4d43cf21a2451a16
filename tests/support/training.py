"""What tests of training share: the command line in this process, since torch is slow to import, a mix, and a corpus for validation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.files import sha256_file, write_json, write_jsonl
from tell.languages import parse_pair
from tell.model.anchor import AnchorConfig, general_prompt, render
from tell.records import Example
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


def make_mix(path: Path, base: Any, n: int = 40) -> Path:
    """A mix directory as `tellmt mix` writes it: n task examples and n/4 general ones."""
    anchor = render(AnchorConfig(), parse_pair("is-en"))
    rows = [Example(f"task:c/d:{i}", "task", anchor.prompt(f"Þetta er setning númer {i}."), anchor.opening, f"This is sentence number {i}.") for i in range(n)]
    rows += [Example(f"general:g:{i}", "general", general_prompt(f"What is {i} plus one?"), "", str(i + 1)) for i in range(n // 4)]
    path.mkdir(parents=True, exist_ok=True)
    write_jsonl(path / "mixed.jsonl", [r.row() for r in rows])
    write_json(
        path / "mix.json",
        {
            "pair": "is-en",
            "base": {"id": base.id, "revision": base.revision},
            "anchor": anchor.model_dump(),
            "seed": 0,
            "counts": {},
            "sha256": sha256_file(path / "mixed.jsonl"),
        },
    )
    return path
