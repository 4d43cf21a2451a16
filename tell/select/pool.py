"""What `tellmt select` chooses from: general examples, the training pairs of corpora, or lines of text in one language.

Reads JSONL(.gz) of {prompt, completion}, corpus directories (`tell.corpus.build`), or a text. Writes nothing. An item that is not in the
pool is counted with its reason.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from tell.corpus.directory import Corpus, open_corpus
from tell.corpus.readers.dispatch import labels
from tell.errors import CorpusError
from tell.files import read_lines
from tell.model.anchor import SEPARATOR, general_prompt
from tell.records import Example, Pair
from tell.text.normalise import fault, normalised, spelled, storable, tidy

Kind = Literal["general", "corpus", "text"]
# What of an item is embedded.
Field = Literal["prompt", "both"]
Side = Literal["source", "target", "both"]


@dataclasses.dataclass(frozen=True, slots=True)
class PoolItem:
    """One thing that can be chosen. `parts` is what is embedded, encoded part by part as in training; `example` is what it costs."""

    id: str
    parts: tuple[str, ...]
    example: Example
    row: dict[str, Any]
    pair: Pair | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedCorpus:
    """A corpus of the pool, the name that its items carry, and its pairs of every split."""

    corpus: Corpus
    name: str
    pairs: list[Pair]


@dataclasses.dataclass(slots=True)
class SelectionPool:
    kind: Kind
    items: list[PoolItem]
    left_out: Counter[str]
    corpora: list[LoadedCorpus] = dataclasses.field(default_factory=list)


def check_files(paths: tuple[Path, ...], option: str) -> None:
    """Raises CorpusError for a missing file, and for one that is given twice."""
    for path in paths:
        if not path.is_file():
            raise CorpusError("no such file", place=str(path), valid=f"a file for {option}")
    if len({p.resolve() for p in paths}) < len(paths):
        raise CorpusError("the same file is given twice", place=option, found=", ".join(map(str, paths)))


def open_corpora(paths: tuple[Path, ...]) -> list[Corpus]:
    """Raises CorpusError when the corpora are not of one pair, one is given twice, or one was altered."""
    if len({c.resolve() for c in paths}) < len(paths):
        raise CorpusError("the same corpus is given twice", place="--corpus", found=", ".join(map(str, paths)))
    corpora: list[Corpus] = []
    for path in paths:
        corpus = open_corpus(path)
        if corpora and corpus.pair != corpora[0].pair:
            raise CorpusError("this corpus is of another pair", place=str(path), found=str(corpus.pair), valid=str(corpora[0].pair))
        corpora.append(corpus)
    return corpora


def corpus_names(corpora: list[Corpus]) -> list[str]:
    """The name of each corpus in the ids of its items."""
    return labels(c.path.absolute() for c in corpora)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) and storable(value) else ""


def general_pool(paths: tuple[Path, ...], field: Field) -> SelectionPool:
    """The general examples of all files; of equal ones the first. Raises CorpusError for a file with no usable line."""
    items: list[PoolItem] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for path, label in zip(paths, labels(paths), strict=True):
        lines = read_lines(path)
        usable = 0
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            prompt, completion = (_text(row.get(k)) if isinstance(row, dict) else "" for k in ("prompt", "completion"))
            if not (prompt and completion):
                left_out["no prompt and completion"] += 1
                continue
            usable += 1
            if (prompt, completion) in seen:
                left_out["duplicate"] += 1
                continue
            seen.add((prompt, completion))
            name = f"general:{label}:{number}"
            example = Example(name, "general", general_prompt(prompt), "", completion)
            parts = (example.prompt, completion) if field == "both" else (prompt,)
            items.append(PoolItem(name, parts, example, {"prompt": prompt, "completion": completion}))
        if not usable:
            raise CorpusError("no usable line", place=str(path), found=f"{len(lines)} lines", valid='JSONL of {"prompt": TEXT, "completion": TEXT}')
    return SelectionPool("general", items, left_out)


def corpus_pool(corpora: list[Corpus], embedded: Side) -> SelectionPool:
    """The training pairs of all corpora, less those that `tellmt mix` would leave out: repeats, and what another corpus holds as dev or test."""
    loaded = [LoadedCorpus(corpus, name, list(corpus.pairs())) for corpus, name in zip(corpora, corpus_names(corpora), strict=True)]
    outside = [p for c in loaded for p in c.pairs if p.split != "train"]
    held = [{normalised(getattr(p, side)) for p in outside} - {""} for side in ("source", "target")]
    items: list[PoolItem] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for corpus in loaded:
        for p in corpus.pairs:
            if p.split != "train":
                continue
            if (p.source, p.target) in seen:
                left_out["duplicate"] += 1
            elif normalised(p.source) in held[0] or normalised(p.target) in held[1]:
                left_out["in dev or test of another corpus"] += 1
            else:
                name = f"{corpus.name}/{p.doc}:{p.line}"
                parts = {"source": (p.source,), "target": (p.target,), "both": (p.source + SEPARATOR, p.target)}[embedded]
                example = Example(name, "task", p.source + SEPARATOR, "", p.target)
                row = {"source": p.source, "target": p.target, "doc": p.doc, "line": p.line, "corpus": corpus.name}
                items.append(PoolItem(name, parts, example, row, p))
            seen.add((p.source, p.target))
    return SelectionPool("corpus", items, left_out, loaded)


def text_pool(path: Path) -> SelectionPool:
    """The lines worth translating; of lines that differ in case and punctuation only, the first. Raises CorpusError when there is none."""
    lines = read_lines(path)
    items: list[PoolItem] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = tidy(line.replace("\t", " "))
        letters = normalised(text)
        # What `corpus build` would drop whatever its translation is.
        reason = fault(text, f"{text}?") if text else "blank line"
        if reason is None:
            reason = "no letters" if not letters else "duplicate" if letters in seen else None
        if reason is not None:
            left_out[reason] += 1
            continue
        seen.add(letters)
        items.append(PoolItem(f"text:{number}", (text,), Example(f"text:{number}", "task", text, "", ""), {"text": text, "line": number}))
    if not items:
        raise CorpusError("no usable line", place=spelled(str(path)), found=f"{len(lines)} lines", valid="a sentence a line")
    return SelectionPool("text", items, left_out)
