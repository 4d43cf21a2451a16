"""Files as the parts that are translated, and the file that comes of their translations. Reads and writes bytes; no disk.

Plain text is cut into parts of whole lines; files of the other formats (serve.formats) are read for their segments, some of which, a line each, are a part.
A part goes to the service as one text, which keeps that text's lines and white space.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Protocol

from serve.formats import BY_ENDING, Format
from serve.formats.text import one_line
from serve.formats.units import BOM, Options, Replacement, Unit
from tell.errors import BadInput, RequestError, TellmtError, TooLarge
from tell.files import decode
from tell.languages import LanguagePair
from tell.text.segments import fill, pieces, split

# Characters and lines of a part. From SOFT on it ends at the next blank line, so that paragraphs stay whole; at HARD it ends wherever it is.
SOFT_CHARACTERS, SOFT_LINES = 1500, 12
HARD_CHARACTERS, HARD_LINES = 8000, 64
# Bytes that a packed document may have when it is unpacked.
EXPANDED = 64 << 20
# Of a file's name as clients give it.
MAX_NAME = 100
_UNFIT = re.compile(r"[^\w.+ -]+")


class Document(Protocol):
    """`parts` are translated one by one; `media_type` and `ending` are those of the file that `filled` makes of as many translations."""

    @property
    def parts(self) -> Sequence[str]: ...
    @property
    def media_type(self) -> str: ...
    @property
    def ending(self) -> str: ...
    def filled(self, translations: Sequence[str]) -> bytes: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Plain text in UTF-8. The parts, joined, are the text; a BOM stays."""

    parts: tuple[str, ...]
    bom: bool
    media_type: str = "text/plain; charset=utf-8"
    ending: str = ".txt"

    @classmethod
    def read(cls, raw: bytes, characters: int, lines: int) -> Text:
        """Raises CorpusError with line and byte when the bytes are not UTF-8."""
        return cls(tuple(_parts(decode(raw, "file"), min(HARD_CHARACTERS, characters), min(HARD_LINES, lines))), raw.startswith(BOM))

    def filled(self, translations: Sequence[str]) -> bytes:
        return (BOM if self.bom else b"") + "".join(translations).encode()


class _Segments:
    """A pass over a file that collects segments, or gives those of a list back."""

    def __init__(self, made: Sequence[str] | None = None):
        self.made = iter(made) if made is not None else None
        self.found: list[str] = []

    def visit(self, unit: Unit) -> Replacement | None:
        if unit.done:
            return None
        spans = split(unit.text)
        own = [spans[i].text for i in pieces(spans)]
        if self.made is None:
            self.found += own
            return None
        made = self.made
        return Replacement(fill(spans, [one_line(next(made), text) for text in own]))

    def unreadable(self, place: str, reason: str) -> None: ...

    def warn(self, place: str, what: str) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file of some format. `parts` hold its segments, a line each; what is translated already is in none, and stays."""

    raw: bytes
    format: Format
    options: Options
    parts: tuple[str, ...]
    ending: str

    @property
    def media_type(self) -> str:
        return self.format.media_type

    @classmethod
    def read(cls, raw: bytes, format: Format, pair: LanguagePair, ending: str, characters: int, lines: int) -> File:
        """Raises BadInput with the place in the file when it cannot be read."""
        options, seen = Options(pair=pair, expanded=EXPANDED), _Segments()
        try:
            format.convert(io.BytesIO(raw), io.BytesIO(), seen, options)
        except BadInput as e:
            place = e.place if e.place and e.place.startswith("file") else ", ".join(filter(None, ("file", e.place)))
            raise type(e)(e.thing, place=place, found=e.found, valid=e.valid) from None
        return cls(raw, format, options, tuple(_grouped(seen.found, min(SOFT_CHARACTERS, characters), min(HARD_LINES, lines))), ending)

    def filled(self, translations: Sequence[str]) -> bytes:
        made: list[str] = []
        for part, text in zip(self.parts, translations, strict=True):
            own = text.split("\n")
            if len(own) != part.count("\n") + 1:
                raise TellmtError("not one translation for each segment of a document", found=len(own), valid=str(part.count("\n") + 1))
            made += own
        out = io.BytesIO()
        self.format.convert(io.BytesIO(self.raw), out, _Segments(made), self.options)
        return out.getvalue()


# By their endings: plain text, and what needs nothing said beside the file.
FORMATS = (".txt", *(ending for ending, f in BY_ENDING.items() if f.without_options and ending != ".txt"))


def _grouped(segments: Sequence[str], characters: int, lines: int) -> list[str]:
    """The segments, a line each, in parts of at most so many characters, where a segment has no more, and lines."""
    out: list[str] = []
    held: list[str] = []
    size = 0
    for segment in segments:
        if held and (size + len(segment) > characters or len(held) >= lines):
            out.append("\n".join(held))
            held, size = [], 0
        held.append(segment)
        size += len(segment) + 1
    return [*out, "\n".join(held)] if held else out


def _parts(text: str, characters: int, lines: int) -> list[str]:
    """The text in parts of whole lines, each of at most `characters` where its lines allow it, and `lines`."""
    out: list[str] = []
    held: list[str] = []
    size = 0
    for line in text.split("\n"):
        full = size + len(line) >= characters or len(held) >= lines
        ripe = not line.strip() and (size >= SOFT_CHARACTERS or len(held) >= SOFT_LINES)
        if held and (full or ripe):
            out.append("\n".join(held) + "\n")
            held, size = [], 0
        held.append(line)
        size += len(line) + 1
    return [*out, "\n".join(held)]


def ending_of(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).suffix.lower()


def open_document(name: str, raw: bytes, pair: LanguagePair, characters: int, lines: int) -> Document:
    """The file as a document whose parts have at most so many characters and lines each.

    Raises RequestError for a format that is not read and for a file without text, TooLarge for a line that is longer than a part may be, CorpusError
    for a file that is not what its name says.
    """
    ending = ending_of(name)
    if ending not in FORMATS:
        known = re.fullmatch(r"\.[a-z0-9]{1,10}", ending)
        raise RequestError("files of this format are not translated", place="file", found=ending if known else None, valid=", ".join(FORMATS))
    plain = ending == ".txt"
    document: Document = Text.read(raw, characters, lines) if plain else File.read(raw, BY_ENDING[ending], pair, ending, characters, lines)
    if not any(part.strip() for part in document.parts):
        raise RequestError("there is nothing to translate in the file", place="file", valid="a file with text")
    if (longest := max(map(len, document.parts))) > characters:
        raise TooLarge("a line is too long", place="file", found=f"{longest} characters", valid=f"at most {characters}")
    return document


def fit_name(name: str, ending: str) -> str:
    """A name for the result: what was given, without a path and without what a file system or a header would trip over."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return (_UNFIT.sub("_", stem).strip(" .")[: MAX_NAME - len(ending)] or "document") + ending
