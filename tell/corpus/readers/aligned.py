"""Line-aligned texts, and directories of them: one document a file. Reads texts, writes nothing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from tell.corpus.readers.segment import AlignedSegment, ReadOptions, ReadReport, Sides, blank
from tell.corpus.readers.streams import decoded_lines, plain_name
from tell.errors import CorpusError
from tell.text.normalise import spelled

UNEQUAL = "unequal lines in document"
_CODE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_PART_END = re.compile(r"([./])")


def _first(lines: Iterator[str], path: Path) -> Iterator[str]:
    """The lines. Raises CorpusError when there is none."""
    line = next(lines, None)
    if line is None:
        raise CorpusError("the file is empty", place=str(path), valid="at least one line")
    return itertools.chain([line], lines)


def _rest(*lines: Iterator[str | None]) -> list[int]:
    return [sum(1 for _ in side) for side in lines]


def read_text(source: Path, target: Path, docs: Path | None, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """Two line-aligned texts. `docs` has one document id per line. Raises CorpusError naming both counts when they differ."""
    files = [(p, _first(decoded_lines(p, want.pair, want.encoding, reading.encodings), p)) for p in (source, target, docs) if p is not None]
    sides = [lines for _, lines in files]
    number = 0
    for row in itertools.zip_longest(*sides):
        if None in row:
            remaining = _rest(*sides)
            counts = [number + (x is not None) + n for x, n in zip(row, remaining, strict=True)]
            if docs is not None and counts[0] == counts[1]:
                place, counts, valid = f"{docs} and {source}", [counts[2], counts[0]], "one document id per line"
            else:
                place, valid = f"{source} and {target}", "line-aligned files"
            raise CorpusError("unequal line counts", place=place, found=f"{counts[0]} and {counts[1]} lines", valid=valid)
        number += 1
        s, t = row[0] or "", row[1] or ""
        doc = ""
        if docs is not None and not (doc := (row[2] or "").strip()):
            raise CorpusError("no document id on this line", place=f"{docs}, line {number}", valid="one document id per line")
        yield AlignedSegment(s, t, doc, number, blank(s, t))
    reading.lines = number
    reading.documents = "--docs" if docs is not None else ""


def matched(directories: tuple[Path, ...], files: tuple[Path, ...], want: ReadOptions) -> tuple[list[tuple[str, Path, Path]], list[Path]]:
    """(document, source file, target file) of every pair of `files` in one directory, or in one directory for each side; and the files without a partner.

    In one directory the language is a directory of its own (`is/a.txt`, `en/a.txt`) or a part of the name (`a.is.txt`).
    """
    sides = Sides(want.pair)
    documents: dict[str, dict[int, Path]] = {}
    alone: list[Path] = []
    for number, directory in enumerate(directories):
        for path in sorted(p for p in files if p.is_relative_to(directory)):
            relative = path.relative_to(directory).with_name(plain_name(path))
            name, side = _without_language(str(relative), sides)
            if len(directories) == 2:
                side = number
            if side is None or side in documents.setdefault(name, {}):
                alone.append(path)
            else:
                documents[name][side] = path
    whole = [(name, by[0], by[1]) for name, by in sorted(documents.items()) if len(by) == 2]
    return whole, sorted([*alone, *(p for by in documents.values() if len(by) == 1 for p in by.values())])


def _without_language(name: str, sides: Sides) -> tuple[str, int | None]:
    """The name without the part that is one of the two languages, and which of the two it is."""
    parts = _PART_END.split(name)
    for i in range(len(parts) - 1, -1, -2):
        if _CODE.fullmatch(parts[i]) and (side := sides.which(parts[i])) is not None:
            return "".join(parts[:i] + parts[i + 2 :] if i + 1 < len(parts) else parts[: i - 1]), side
    return name, None


def read_directories(reading: ReadReport, want: ReadOptions, files: tuple[Path, ...], beside: bool = False) -> Iterator[AlignedSegment]:
    """The documents of one or two directories among `files`. A document whose sides have different numbers of lines is returned with a reason; where none is
    found, files `beside` memories and tables are named in a note."""
    documents, alone = matched(reading.paths, files, want)
    if not documents and not beside:
        names = ", ".join(sorted(spelled(p.name) for p in alone)[:5]) or "no files"
        valid = (
            f"{want.pair.source.tag}/a.txt and {want.pair.target.tag}/a.txt, a.{want.pair.source.tag}.txt and a.{want.pair.target.tag}.txt, or two directories"
        )
        raise CorpusError("no two files here are a document and its translation", place=reading.place, found=names, valid=valid)
    if alone:
        reading.notes.append(f"{len(alone)} files have no translation beside them: " + ", ".join(spelled(p.name) for p in alone[:5]))
    number = 0
    for doc, *paths in documents:
        sides = [list(decoded_lines(p, want.pair, want.encoding, reading.encodings)) for p in paths]
        reason = UNEQUAL if len(sides[0]) != len(sides[1]) else None
        for s, t in itertools.zip_longest(*sides, fillvalue=""):
            number += 1
            yield AlignedSegment(s, t, spelled(doc), number, reason or blank(s, t))
    reading.lines = number
    reading.documents = "files" if documents else ""
    if not number and not beside:
        raise CorpusError("the files are empty", place=reading.place, valid="at least one line")
