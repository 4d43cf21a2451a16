"""Divides a file into parts to translate, and makes a file of their translations. Reads and writes bytes; no disk.

Plain text is cut into parts of whole lines. For the other formats (serve.formats) a part holds several segments of the file, a line each. A part goes to
the service as one text, which keeps that text's lines and white space.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Protocol

from serve.formats import BY_ENDING, Format
from serve.formats.structure import START, kind_by_start, kind_by_whole_name
from serve.formats.text import on_one_line
from serve.formats.units import BOM, UPLOADED, Bounds, Options, Replacement, Unit
from tell.errors import BadInput, RequestError, TellmtError, TooLarge
from tell.files import decode
from tell.languages import LanguagePair
from tell.text.segments import fill, pieces, split

# Characters and lines of a part. From SOFT on it ends at the next blank line, so that paragraphs stay whole; at HARD it ends wherever it is.
SOFT_CHARACTERS, SOFT_LINES = 1500, 12
HARD_CHARACTERS, HARD_LINES = 8000, 64
# Notes on a document, and characters of one.
MOST_NOTES, LONGEST_NOTE = 20, 200
# Characters of a result's name.
MAX_NAME = 100
_ENDING = re.compile(r"\.[a-z0-9]{1,10}")
_UNFIT = re.compile(r"[^\w.+ -]+")


class Document(Protocol):
    """A file to translate. `parts` are translated one by one, and become a file with this `media_type` and `ending`.

    `notes` say, with their places, what of it cannot be translated and what is odd.
    """

    @property
    def parts(self) -> Sequence[str]: ...
    @property
    def media_type(self) -> str: ...
    @property
    def ending(self) -> str: ...
    @property
    def notes(self) -> Sequence[str]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Plain text in UTF-8. The parts, joined, are the text; a BOM stays."""

    parts: tuple[str, ...]
    bom: bool
    media_type: str = "text/plain; charset=utf-8"
    ending: str = ".txt"
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, raw: bytes, characters: int, lines: int) -> Text:
        """Raises CorpusError with line and byte when the bytes are not UTF-8."""
        return cls(tuple(_parts(decode(raw, "file"), min(HARD_CHARACTERS, characters), min(HARD_LINES, lines))), raw.startswith(BOM))

    def filled(self, translations: Sequence[str]) -> bytes:
        return (BOM if self.bom else b"") + "".join(translations).encode()


class _SegmentVisitor:
    """Collects the segments of a file, or, where it has translations, puts them into it in order."""

    def __init__(self, bounds: Bounds, translations: Sequence[str] | None = None):
        self.bounds = bounds
        self.translations = iter(translations) if translations is not None else None
        self.segments: list[str] = []
        self.notes: list[str] = []
        self._characters = self._units = 0

    def visit(self, unit: Unit) -> Replacement | None:
        if unit.translated:
            return None
        self._characters += len(unit.text)
        self._units += 1
        self.bounds.check("text", self._characters)
        self.bounds.check("units", self._units)
        spans = split(unit.text)
        segments = [spans[i].text for i in pieces(spans)]
        if self.translations is None:
            self.segments += segments
            return None
        translations = self.translations
        return Replacement(fill(spans, [on_one_line(next(translations), text) for text in segments]))

    def unreadable(self, place: str, reason: str) -> None:
        self.warn(place, f"not translated: {reason}")

    def warn(self, place: str, warning: str) -> None:
        if len(self.notes) < MOST_NOTES:
            self.notes.append(": ".join(filter(None, (place, warning)))[:LONGEST_NOTE])


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file of some format. `parts` hold its segments, a line each; units with a translation are in none, and stay."""

    raw: bytes
    pair: LanguagePair
    parts: tuple[str, ...]
    ending: str
    notes: tuple[str, ...] = ()

    @property
    def media_type(self) -> str:
        return BY_ENDING[self.ending].media_type

    @classmethod
    def read(cls, raw: bytes, format: Format, pair: LanguagePair, ending: str, characters: int, lines: int) -> File:
        """Raises BadInput with the place in the file when it cannot be read."""
        options, visitor = Options(pair=pair, bounds=UPLOADED), _SegmentVisitor(UPLOADED)
        try:
            format.convert(io.BytesIO(raw), io.BytesIO(), visitor, options)
        except BadInput as e:
            place = e.place if e.place and e.place.startswith("file") else ", ".join(filter(None, ("file", e.place)))
            raise type(e)(e.thing, place=place, found=e.found, valid=e.valid) from None
        return cls(raw, pair, tuple(_grouped(visitor.segments, min(SOFT_CHARACTERS, characters), min(HARD_LINES, lines))), ending, tuple(visitor.notes))


def segments_of(parts: Sequence[str], translations: Sequence[str]) -> list[str]:
    """The translations of a file's segments, by those of its parts. Raises TellmtError where a part has not as many as it must."""
    segments: list[str] = []
    for part, translation in zip(parts, translations, strict=True):
        lines = translation.split("\n")
        if len(lines) != part.count("\n") + 1:
            raise TellmtError("not one translation for each segment of a document", found=len(lines), valid=str(part.count("\n") + 1))
        segments += lines
    return segments


def write_file(raw: bytes, ending: str, pair: LanguagePair, segments: Sequence[str]) -> bytes:
    """The file with the translations of its segments, in order."""
    output, options = io.BytesIO(), Options(pair=pair, bounds=UPLOADED)
    BY_ENDING[ending].convert(io.BytesIO(raw), output, _SegmentVisitor(UPLOADED, segments), options)
    return output.getvalue()


# Endings of plain text, and of the formats that need no options.
FORMATS = (".txt", *(ending for ending, f in BY_ENDING.items() if f.without_options and ending != ".txt"))


def _grouped(segments: Sequence[str], characters: int, lines: int) -> list[str]:
    """The segments, a line each, in parts of at most `lines` lines and `characters` characters; only a segment that is longer exceeds these."""
    parts: list[str] = []
    part_segments: list[str] = []
    size = 0
    for segment in segments:
        if part_segments and (size + len(segment) > characters or len(part_segments) >= lines):
            parts.append("\n".join(part_segments))
            part_segments, size = [], 0
        part_segments.append(segment)
        size += len(segment) + 1
    return [*parts, "\n".join(part_segments)] if part_segments else parts


def _parts(text: str, characters: int, lines: int) -> list[str]:
    """The text in parts of whole lines, each of at most `characters` where its lines allow it, and `lines`."""
    parts: list[str] = []
    part_lines: list[str] = []
    size = 0
    for line in text.split("\n"):
        full = size + len(line) >= characters or len(part_lines) >= lines
        at_paragraph_end = not line.strip() and (size >= SOFT_CHARACTERS or len(part_lines) >= SOFT_LINES)
        if part_lines and (full or at_paragraph_end):
            parts.append("\n".join(part_lines) + "\n")
            part_lines, size = [], 0
        part_lines.append(line)
        size += len(line) + 1
    return [*parts, "\n".join(part_lines)]


def ending_of(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).suffix.lower()


def open_document(name: str, raw: bytes, pair: LanguagePair, characters: int, lines: int) -> Text | File:
    """The file as a document whose parts have at most so many characters and lines each.

    Raises RequestError for a format that is not read and for a file without text, TooLarge for a line that is longer than a part may be, CorpusError
    for a file that is not what its name says.
    """
    ending = ending_of(name)
    if ending not in FORMATS:
        printable = _ENDING.fullmatch(ending)
        raise RequestError("files of this format are not translated", place="file", found=ending if printable else None, valid=", ".join(FORMATS))
    plain = ending == ".txt"
    if kind := kind_by_whole_name(name):
        raise RequestError("files of this kind are not translated", place="file", found=kind, valid="a file with texts")
    if plain and (kind := kind_by_start(raw[:START])):
        raise RequestError("this is not plain text", place="file", found=kind, valid=f"the ending of its format: {', '.join(FORMATS)}")
    document: Text | File = Text.read(raw, characters, lines) if plain else File.read(raw, BY_ENDING[ending], pair, ending, characters, lines)
    if not any(part.strip() for part in document.parts):
        raise RequestError("there is nothing to translate in the file", place="file", valid="a file with text")
    if (longest := max(map(len, document.parts))) > characters:
        raise TooLarge("a line is too long", place="file", found=f"{longest} characters", valid=f"at most {characters}")
    return document


def fit_name(name: str, ending: str) -> str:
    """A name for the result: the given one, without its path and without characters that a file system or a header would trip over."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return (_UNFIT.sub("_", stem).strip(" .")[: MAX_NAME - len(ending)] or "document") + ending
