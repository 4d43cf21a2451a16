"""What all formats of files have in common: units, their replacements, and the visitor of a file's units.

A format is one function, `convert(source, out, visitor, options)`. It copies a file from `source` to `out` and asks `visitor` for the replacement of each
unit. So reading and writing are the same code: a first visitor only collects units, a second one puts the translations in, and everything that is no unit
stays byte for byte.
"""

from __future__ import annotations

import dataclasses
from typing import IO, Literal, Protocol

from tell.errors import CorpusError
from tell.languages import LanguagePair

BOM = b"\xef\xbb\xbf"
# Bytes of one unpacked member of a document, and of all its members. A page of text is some thousand.
MEMBER, EXPANDED = 256 << 20, 1 << 30

# `engine`: translated; `corpus`: found as it is in a corpus; `failed`: there is no translation.
Origin = Literal["engine", "corpus", "failed"]


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A text to translate, of one line or more, and where it is in the file, in words. `translated`: the file has a translation of it already.

    `tagged`: what looks like `<x1>` in it is a tag of the file's.
    """

    text: str
    place: str
    translated: bool = False
    tagged: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Replacement:
    """A unit's translation, and where it comes from. `text` is empty where there is none."""

    text: str
    origin: Origin = "engine"

    @property
    def failed(self) -> bool:
        return self.origin == "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The user's options for a file. `columns` of a table and `fields` of JSON lines are translated; the translations go to `into` (None: in their own place).

    `retranslate`: units that have a translation get a new one. `expanded`: bytes that a zipped document may have when it is unpacked.
    """

    pair: LanguagePair | None = None
    columns: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    into: str | None = None
    retranslate: bool = False
    expanded: int = EXPANDED


class UnitVisitor(Protocol):
    """Is shown every unit of a file, in order."""

    def visit(self, unit: Unit) -> Replacement | None:
        """The unit's replacement; None: it stays as it is."""
        ...

    def unreadable(self, place: str, reason: str) -> None:
        """Called for a part of the file that cannot be read, and stays as it is."""
        ...

    def warn(self, place: str, warning: str) -> None:
        """Called for something odd by which nothing is lost."""
        ...


class Convert(Protocol):
    def __call__(self, source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options, /) -> None:
        """Raises BadInput for a file that cannot be read at all."""
        ...


def decoded(raw: bytes, line: int, start: int) -> str:
    """A line of UTF-8. Raises CorpusError with line and byte; a caller that knows the file's name puts it before that."""
    try:
        return raw.decode()
    except UnicodeDecodeError as e:
        byte = f"0x{raw[e.start]:02x}"
        raise CorpusError("not UTF-8", place=f"line {line}, byte {start + e.start}", found=byte, valid="UTF-8 text") from None
