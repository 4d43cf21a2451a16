"""Parallel files of sentences that differ in their letters, and what holds for every corpus that is built from some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tell.text.normalise import normalised


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write(path: str, *lines: str) -> Path:
    out = Path(path)
    out.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass"))
    return out


def sentence(i: int, language: str) -> str:
    """A sentence that differs from every other in its letters."""
    words = {"is": "Þetta er setning númer", "en": "This is sentence number"}[language]
    return f"{words} " + "".join(chr(ord("a") + int(d)) for d in f"{i:05}")


def texts(n: int, start: int = 0) -> tuple[Path, Path]:
    return (
        write(f"a{start}.is", *(sentence(i, "is") for i in range(start, start + n))),
        write(f"a{start}.en", *(sentence(i, "en") for i in range(start, start + n))),
    )


def tsv(path: str, n: int, per_doc: int = 10, start: int = 0) -> Path:
    return write(path, "document\ten\tis", *(f"d{i // per_doc:03}\t{sentence(i, 'en')}\t{sentence(i, 'is')}" for i in range(start, start + n)))


def docs_of(corpus: Path) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for r in rows(corpus / "pairs.jsonl"):
        out[r["split"]].add(r["doc"])
    return out


def check(corpus: Path) -> dict[str, Any]:
    """Everything that holds for every corpus: counts agree with the files, and splits share no document and no sentence."""
    report: dict[str, Any] = json.loads((corpus / "corpus.json").read_text())
    pairs, dropped = rows(corpus / "pairs.jsonl"), rows(corpus / "dropped.jsonl")
    assert report["kept"] == len(pairs) == sum(s["pairs"] for s in report["splits"].values())
    assert report["kept"] + len(dropped) == report["read"]
    assert report["dropped"] == {r: sum(d["reason"] == r for d in dropped) for r in {d["reason"] for d in dropped}}
    docs = docs_of(corpus)
    assert not docs["train"] & (docs["dev"] | docs["test"]) and not docs["dev"] & docs["test"]
    for side in ("source", "target"):
        held = {normalised(p[side]) for p in pairs if p["split"] != "train"} - {""}
        assert not held & {normalised(p[side]) for p in pairs if p["split"] == "train"}
    assert len({(p["doc"], p["line"]) for p in pairs}) == len(pairs)
    assert all(set(d) == {"origin", "line", "reason", "source", "target"} for d in dropped)
    return report
