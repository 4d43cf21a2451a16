"""JSONL: a record a line. Reads a file, writes nothing.

A record is {source, target, doc?}, {is, en, doc?} by the codes of the pair, {translation: {is, en}}, or the TELL authors' {query, response}.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tell.corpus.readers.aligned import UNEQUAL
from tell.corpus.readers.columns import columns
from tell.corpus.readers.machine_output import named, of_values
from tell.corpus.readers.segment import AlignedSegment, ReadOptions, ReadReport, blank
from tell.corpus.readers.streams import decoded_lines
from tell.errors import CorpusError
from tell.files import parse
from tell.languages import LanguagePair
from tell.model.anchor import AnchorConfig, render
from tell.text.normalise import spelled


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


def _record(row: dict[str, Any], unanchor: _Unanchor, pair: LanguagePair, place: str) -> tuple[str, str] | None:
    """Source and target of one record; None when it has no shape that is known."""
    for source, target in (("source", "target"), ("query", "response"), ("src", "tgt"), ("src", "trg")):
        a, b = row.get(source), row.get(target)
        if isinstance(a, str) and isinstance(b, str):
            return unanchor(a, b, place) if source == "query" else (a, b)
    inner = row.get("translation", row)
    if isinstance(inner, dict):
        keys = [k for k, v in inner.items() if isinstance(v, str)]
        if where := columns(keys, pair):
            return inner[keys[where[0]]], inner[keys[where[1]]]
    return None


def read_records(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """Segments of the records, counted through the file; a text of several lines is a document."""
    unanchor = _Unanchor(want.pair)
    records = number = good = 0
    keys = ""
    documents = named = False
    for records, line in enumerate(decoded_lines(path, want.pair, want.encoding, reading.encodings), 1):
        place = f"{path}, line {records}"
        row = _object(line, place)
        doc = row.get("doc", row.get("document"))
        named = named or doc is not None
        name = f"record-{records}" if doc in (None, "") else spelled(str(doc))
        sides = _record(row, unanchor, want.pair, place)
        good += sides is not None
        if sides is None:
            keys = keys or ", ".join(row)
            number += 1
            yield AlignedSegment("", "", name, number, "no source and target")
            continue
        lines = [side.strip("\r\n").split("\n") for side in sides]
        documents = documents or max(map(len, lines)) > 1
        reason = UNEQUAL if len(lines[0]) != len(lines[1]) else None if want.machine_output else _machine(row)
        for s, t in itertools.zip_longest(*lines, fillvalue=""):
            number += 1
            yield AlignedSegment(s, t, name, number, reason or blank(s, t))
    if not records:
        raise CorpusError("the file is empty", place=str(path), valid="at least one record")
    if not good:
        valid = f"source and target, {want.pair.source.tag} and {want.pair.target.tag}, or translation with both in it"
        raise CorpusError("no record has both sides", place=str(path), found=keys, valid=valid)
    reading.lines = records
    # Records of one line without a name are sentences, and no documents.
    reading.documents = "doc" if named else "records" if documents else ""


def _machine(row: dict[str, Any]) -> str | None:
    """The reason where the record says that a machine has translated it. A yes may be a boolean."""
    return of_values((name, "true" if value is True else value) for name, value in row.items() if isinstance(value, (str, bool)) and value and named(name))


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = parse(line)
    except (ValueError, RecursionError) as e:
        raise CorpusError("not JSON", place=place, found=str(e)) from None
    if not isinstance(value, dict):
        raise CorpusError("not a JSON object", place=place, found=type(value).__name__)
    return value
