"""Corpora, general data and recipes for tests of `tellmt mix`, and what holds for every mix."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example, read_examples
from tests.conftest import Ran

CLI = Callable[..., Ran]


def words(i: int, stem: str) -> str:
    return f"{stem} " + "".join(chr(ord("a") + int(d)) for d in f"{i:05}")


_built: dict[tuple[Any, ...], dict[str, bytes]] = {}


def corpus(cli: CLI, name: str, start: int = 0, n: int = 100, pair: str = "is-en", extra: tuple[str, ...] = ()) -> Path:
    """A built corpus of `n` pairs in documents of ten, a tenth each in dev and test. Built once, and then laid out again."""
    if files := _built.get((name, start, n, pair, extra)):
        Path(name).mkdir()
        for file, data in files.items():
            Path(file).write_bytes(data)
        return Path(name)
    tsv = Path(f"{name}.tsv")
    rows = [f"d{i // 10:03}\t{words(i, 'This is the English sentence')}\t{words(i, 'Þetta er íslenska setningin')}" for i in range(start, start + n)]
    tsv.write_text("\n".join(["document\ten\tis", *rows, *extra]) + "\n", encoding="utf-8")
    cli("corpus", "build", tsv, "--pair", pair, "-o", name)
    _built[name, start, n, pair, extra] = {str(p): p.read_bytes() for p in (tsv, *Path(name).iterdir())}
    return Path(name)


def general(name: str, n: int = 300, rows: list[Any] | None = None) -> Path:
    """A pool of `n` general examples of many lengths, then `rows` as they are."""
    pool = [(words(i, "Explain briefly the meaning of"), words(i, "It is " + "rather " * (i % 7) + "like")) for i in range(n)]
    out = [json.dumps({"prompt": p, "completion": c}) for p, c in pool]
    out += [r if isinstance(r, str) else json.dumps(r) for r in rows or []]
    raw = ("\n".join(out) + "\n").encode()
    Path(name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return Path(name)


def recipe(text: str = "", name: str = "r.toml", pair: str = "is-en") -> Path:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(f'pair = "{pair}"\nbase = "tiny"\n{text}\n')
    return Path(name)


def check(out: Path, base: Base) -> tuple[dict[str, Any], list[Example]]:
    """Everything that holds for every mix: the counts in mix.json are those of mixed.jsonl, token by token."""
    report: dict[str, Any] = json.loads((out / "mix.json").read_text())
    examples = read_examples(out / "mixed.jsonl")
    lengths = [len(ids) for ids, _ in BaseTokenizer(base).example_ids(examples)]
    for kind in ("task", "general"):
        mine = [n for e, n in zip(examples, lengths, strict=True) if e.kind == kind]
        assert report["counts"][kind] == {"examples": len(mine), "tokens": sum(mine)}
    assert max(lengths) <= report["max_tokens"]
    assert report["sha256"] == hashlib.sha256((out / "mixed.jsonl").read_bytes()).hexdigest()
    assert sum(s["used"] for s in report["general_sources"]) == report["counts"]["general"]["examples"]
    assert len({e.id for e in examples}) == len(examples)
    task, other = (report["counts"][k]["tokens"] for k in ("task", "general"))
    # At least what was asked, and the last example, of each source that has a share, is the only one beyond.
    general_budget = round(report["ratio"] * task) if report["general_tokens"] is None else report["general_tokens"]
    assert general_budget <= other
    if other:
        draws = max(1, sum("share" in s for s in report["general_sources"]))
        assert other - draws * max(n for e, n in zip(examples, lengths, strict=True) if e.kind == "general") < general_budget
    return report, examples
