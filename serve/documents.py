"""Files as the parts that are translated, and the file that comes of their translations. Reads and writes bytes; no disk.

A format is a class with `read` and what `Document` names, listed in FORMATS by the ending of its files. A part goes to the service as one text,
which keeps that text's lines and white space; so a format decides only what a part is, and how parts become a file again.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Protocol

from tell.errors import RequestError, TooLarge
from tell.files import decode
from tell.formats.units import BOM

# Characters and lines of a part. From SOFT on it ends at the next blank line, so that paragraphs stay whole; at HARD it ends wherever it is.
SOFT_CHARACTERS, SOFT_LINES = 1500, 12
HARD_CHARACTERS, HARD_LINES = 8000, 64
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


FORMATS = {".txt": Text.read}


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


def open_document(name: str, raw: bytes, characters: int, lines: int) -> Document:
    """The file as a document whose parts have at most so many characters and lines each.

    Raises RequestError for a format that is not read and for a file without text, TooLarge for a line that is longer than a part may be.
    """
    ending = ending_of(name)
    if ending not in FORMATS:
        known = re.fullmatch(r"\.[a-z0-9]{1,10}", ending)
        raise RequestError("files of this format are not translated", place="file", found=ending if known else None, valid=", ".join(FORMATS))
    document = FORMATS[ending](raw, characters, lines)
    if not any(part.strip() for part in document.parts):
        raise RequestError("there is nothing to translate in the file", place="file", valid="a file with text")
    if (longest := max(map(len, document.parts))) > characters:
        raise TooLarge("a line is too long", place="file", found=f"{longest} characters", valid=f"at most {characters}")
    return document


def fit_name(name: str, ending: str) -> str:
    """A name for the result: what was given, without a path and without what a file system or a header would trip over."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return (_UNFIT.sub("_", stem).strip(" .")[: MAX_NAME - len(ending)] or "document") + ending
