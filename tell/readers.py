"""Parallel files as they come: line-aligned text, TSV and JSONL, read into segments with their document and place.

Reads the user's files and writes nothing. A line that cannot be a pair (too few columns, no `target`) is returned with a
reason; a file that cannot be read at all raises CorpusError.

`line` counts from 1: lines of the file for text, rows for TSV, segments for JSONL (a record of several lines holds several).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tell.anchors import AnchorConfig, render
from tell.clean import spelled
from tell.errors import CorpusError, LanguageError
from tell.files import read_jsonl, read_lines
from tell.languages import LanguagePair, language

# Without any sign of documents, this many consecutive lines are taken for one: neighbours are often about the same thing.
BLOCK = 10
DOC_NAMES = ("document", "doc")
BLANK = "blank line"


@dataclasses.dataclass(slots=True)
class Segment:
    """One line as read. `reason` says why it cannot be a pair, and is None when it can. `file` is the label of its file."""

    source: str
    target: str
    doc: str
    line: int
    file: str
    reason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """A file's segments, how many lines the file has, and what its documents were taken from."""

    segments: list[Segment]
    lines: int
    documents: str


def kind_of(path: Path) -> str:
    """`tsv`, `jsonl`, or `text` for every other name (`flores.is-en.is` is a text); `.gz` is looked through."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return {".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(suffix.lower(), "text")


def labels(paths: Iterable[Path]) -> list[str]:
    """A short name for each file: its own, with the directory before it where an earlier file has the same."""
    out: list[str] = []
    for path in paths:
        named = [path.name, f"{path.absolute().parent.name}/{path.name}", str(path.absolute())]
        out.append(next((n for n in map(spelled, named) if n not in out), spelled(named[-1])))
    return out


def _lines(path: Path) -> list[str]:
    lines = read_lines(path)
    if not lines:
        raise CorpusError("the file is empty", place=str(path), valid="at least one line")
    return lines


def _group(segments: list[Segment]) -> str:
    """Give every segment a document by blank lines or, where they do not part the file into three documents, by blocks."""
    groups, inside = 0, False
    for s in segments:
        blank = s.reason == BLANK
        if not blank and not inside:
            groups += 1
        inside = not blank
        s.doc = f"part-{max(groups, 1):05}"
    if groups >= 3:
        return "blank lines"
    for i, s in enumerate(segments):
        s.doc = f"block-{i // BLOCK + 1:05}"
    return f"blocks of {BLOCK} lines"


def _blank(source: str, target: str) -> str | None:
    return None if source.strip() or target.strip() else BLANK


def read_text(source: Path, target: Path, label: str, docs: Path | None) -> Parsed:
    """Two line-aligned texts. `docs` has one document id per line. Raises CorpusError naming both counts when they differ."""
    sides = _lines(source), _lines(target)
    if len(sides[0]) != len(sides[1]):
        raise CorpusError("unequal line counts", place=f"{source} and {target}", found=f"{len(sides[0])} and {len(sides[1])} lines", valid="line-aligned files")
    segments = [Segment(s, t, "", i, label, _blank(s, t)) for i, (s, t) in enumerate(zip(*sides, strict=True), 1)]
    if docs is None:
        return Parsed(segments, len(segments), _group(segments))
    ids = [line.strip() for line in _lines(docs)]
    if len(ids) != len(segments):
        raise CorpusError("unequal line counts", place=f"{docs} and {source}", found=f"{len(ids)} and {len(segments)} lines", valid="one document id per line")
    if "" in ids:
        raise CorpusError("no document id on this line", place=f"{docs}, line {ids.index('') + 1}", valid="one document id per line")
    for segment, doc in zip(segments, ids, strict=True):
        segment.doc = doc
    return Parsed(segments, len(segments), "--docs")


def _code(cell: str) -> str | None:
    """The tag of a header cell that is a language code; None for any other cell, long ones without a look-up."""
    cell = cell.strip()
    if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", cell):
        return None
    try:
        return language(cell).tag
    except LanguageError:
        return None


def _columns(names: list[str], pair: LanguagePair) -> tuple[int, int, int | None] | None:
    """Where source, target and document stand among named columns; None when the names lack one side of the pair."""
    tags, plain = [_code(n) for n in names], [n.strip().lower() for n in names]
    doc = next((i for i, n in enumerate(plain) if n in DOC_NAMES), None)
    if "source" in plain and "target" in plain:  # as `tellmt select --text` writes it
        return plain.index("source"), plain.index("target"), doc
    if pair.source.tag not in tags or pair.target.tag not in tags:
        return None
    return tags.index(pair.source.tag), tags.index(pair.target.tag), doc


def read_tsv(path: Path, pair: LanguagePair, label: str, columns: str | None) -> Parsed:
    """Tab-separated rows without quoting. A first row that names both languages, or source and target, is a header; else `columns` names them in order."""
    lines = _lines(path)
    first = lines[0].split("\t")
    where = _columns(first, pair)
    start = 0 if where is None else 1
    if where is None and any(c.strip().lower() in DOC_NAMES for c in first) and any(_code(c) for c in first):
        raise CorpusError("the header names other languages", place=f"{path}, line 1", found=", ".join(first), valid=f"{pair.source.tag} and {pair.target.tag}")
    if where is None and columns is not None:
        where = _columns(columns.split(","), pair)
        if where is None:
            valid = f"{pair.source.tag},{pair.target.tag} in the file's order"
            raise CorpusError("does not name both languages", place="--columns", found=columns, valid=valid)
    source, target, doc = where or (0, 1, None)
    segments = []
    for number, line in enumerate(lines[start:], start + 1):
        cells = line.split("\t")
        if not line.strip():
            segments.append(Segment("", "", "", number, label, BLANK))
        elif len(cells) <= max(source, target, doc or 0):
            segments.append(Segment(line, "", "", number, label, "too few columns"))
        else:
            name = "" if doc is None else cells[doc].strip()
            segments.append(Segment(cells[source], cells[target], name, number, label, _blank(cells[source], cells[target])))
    if not segments:
        raise CorpusError("no rows after the header", place=str(path), valid="at least one pair")
    if doc is None:
        return Parsed(segments, len(lines), _group(segments))
    for s in segments:
        s.doc = s.doc or f"line-{s.line}"
    return Parsed(segments, len(lines), "document column")


class _Unanchor:
    """Takes the TELL authors' anchor off a `query` and its `response`, and tells which way the text runs."""

    def __init__(self, pair: LanguagePair):
        paper = AnchorConfig(wording="paper")
        self._ways = [(render(paper, way), swap) for way, swap in ((pair, False), (pair.reverse, True))]

    def __call__(self, query: str, response: str, place: str) -> tuple[str, str]:
        for anchor, swap in self._ways:
            if query.startswith(anchor.prefix) and response.startswith(anchor.opening):
                sides = query.removeprefix(anchor.prefix), response.removeprefix(anchor.opening)
                return (sides[1], sides[0]) if swap else sides
        raise CorpusError(
            "query and response do not start with the anchor of this pair, so the text in them cannot be told from the instruction",
            place=place,
            found=query[:60],
            valid=repr(self._ways[0][0].prefix[:44] + "...") + ", or records with source and target",
        )


def _record(row: dict[str, Any], unanchor: _Unanchor, place: str) -> tuple[str, str] | None:
    """Source and target of one record; None when it has neither shape."""
    for names in (("source", "target"), ("query", "response")):
        a, b = (row.get(n) for n in names)
        if isinstance(a, str) and isinstance(b, str):
            return (a, b) if names[0] == "source" else unanchor(a, b, place)
    return None


def read_records(path: Path, pair: LanguagePair, label: str) -> Parsed:
    """JSONL of {source, target, doc?} or of the TELL authors' {query, response}; a text of several lines is a document."""
    unanchor = _Unanchor(pair)
    segments: list[Segment] = []
    records, documents = 0, False
    named = False
    for number, row in read_jsonl(path):
        records = number
        doc = row.get("doc", row.get("document"))
        named = named or doc is not None
        name = f"record-{number}" if doc in (None, "") else spelled(str(doc))
        sides = _record(row, unanchor, f"{path}, line {number}")
        if sides is None:
            segments.append(Segment("", "", name, len(segments) + 1, label, "no source and target"))
            continue
        lines = [side.strip("\r\n").split("\n") for side in sides]
        height = max(map(len, lines))
        documents = documents or height > 1
        reason = "unequal lines in document" if len(lines[0]) != len(lines[1]) else None
        for i in range(height):
            s, t = (side[i] if i < len(side) else "" for side in lines)
            segments.append(Segment(s, t, name, len(segments) + 1, label, reason or _blank(s, t)))
    if not segments:
        raise CorpusError("the file is empty", place=str(path), valid="at least one record")
    if named or documents:
        return Parsed(segments, records, "doc" if named else "records")
    return Parsed(segments, records, _group(segments))


def read_against(path: Path, pair: LanguagePair) -> list[str]:
    """Every text of a test set that training must not repeat: lines, TSV cells, or both sides of JSONL records."""
    if kind_of(path) == "jsonl":
        return [side for s in read_records(path, pair, path.name).segments for side in (s.source, s.target) if side]
    lines = _lines(path)
    return [cell for line in lines for cell in line.split("\t")] if kind_of(path) == "tsv" else lines
