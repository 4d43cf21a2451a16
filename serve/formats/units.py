"""What all formats of files have in common: units, their replacements, and the visitor of a file's units.

A format is one function, `convert(source, out, visitor, options)`. It copies a file from `source` to `out` and asks `visitor` for the replacement of each
unit. So reading and writing are the same code: a first visitor only collects units, a second one puts the translations in, and everything that is no unit
stays byte for byte.
"""

from __future__ import annotations

import dataclasses
import re
from typing import IO, Any, Literal, Protocol

from tell.errors import CorpusError, TooLarge
from tell.languages import LanguagePair

BOM = b"\xef\xbb\xbf"
# By what name this program enters itself where a format says who has made a translation.
MACHINE = "tellmt"
# Between two lines, each of which keeps its end.
LINE_BORDER = re.compile(r"(?<=\n)")
# Bytes of one unpacked member of a document. A page of text is some thousand.
MEMBER = 256 << 20

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


_TOO_MUCH = {
    "unpacked": "the file unpacks to more than the limit",
    "text": "there is too much text in the file",
    "elements": "there are too many elements in one paragraph",
    "nesting": "elements are nested too deep",
    "cells": "there are too many cells in the tables of the file",
    "tokens": "there are too many tags and texts in the file",
    "units": "there are too many texts in the file",
    "blocks": "there are too many paragraphs and items in the file",
    "tag": "a tag is too long",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """How much of everything a file may hold. Real files have a fraction of it; what has more was made to keep a machine busy, or is nobody's text.

    `hint` is said to the user beside a bound that was exceeded.
    """

    # Bytes of a zipped document when it is unpacked.
    unpacked: int = 64 << 20
    # Characters of all units, and how many there are: each costs some thirty microseconds, twice, however short it is. Counted where a service keeps them all.
    text: int = 4 << 20
    units: int = 150_000
    # Tags and stretches of text in one paragraph, unit or cell.
    elements: int = 20_000
    # Elements inside one another.
    nesting: int = 100
    # Cells of all tables of a Markdown file: each costs a hundred times its characters.
    cells: int = 50_000
    # Tags and stretches of text in a file.
    tokens: int = 1_000_000
    # Blocks of a Markdown file, which cost more: beginnings and ends of paragraphs, items, rows and cells.
    blocks: int = 200_000
    # Bytes of one tag, with what pictures and drawings keep in attributes.
    tag: int = 8 << 20
    hint: str = ""

    def check(self, kind: str, found: int, place: str = "file") -> None:
        """Raises TooLarge with the bound's meaning where `found` is above the bound of this name."""
        limit: int = getattr(self, kind)
        if found > limit:
            raise TooLarge(_TOO_MUCH[kind], place=place, found=f"{found:,}", valid=f"at most {limit:,}{self.hint}")


def _times(bounds: Bounds, factor: int, hint: str) -> Bounds:
    values: dict[str, Any] = {field.name: factor * getattr(bounds, field.name) for field in dataclasses.fields(bounds) if field.name != "hint"}
    return Bounds(**values, hint=hint)


# Of files that strangers send, and of the user's own on the command line: ten times as much there, or whatever they hold.
UPLOADED = Bounds()
OWN = _times(UPLOADED, 10, "; --no-limits reads it all the same")
UNBOUNDED = _times(UPLOADED, 1 << 30, "")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The user's options for a file. `columns` of a table and `fields` of JSON lines are translated; the translations go to `into` (None: in their own place).

    `retranslate`: units that have a translation get a new one. `force`: a file that names other languages is filled all the same; `force_hint` is what the user
    is told of that. `name`: the file's, which may name its language.
    """

    pair: LanguagePair | None = None
    columns: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    into: str | None = None
    retranslate: bool = False
    bounds: Bounds = OWN
    force: bool = False
    force_hint: str = ""
    name: str = ""


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


def changed(visitor: UnitVisitor, unit: Unit) -> str | None:
    """The text that a unit is replaced by; None where it stays: it has no replacement, a failed one, or itself."""
    replacement = visitor.visit(unit)
    return None if replacement is None or replacement.failed or replacement.text == unit.text else replacement.text


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
