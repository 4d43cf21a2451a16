"""What every format of a file has in common: units, what comes of them, and a pass over a file.

A format is one function, `convert(source, out, todo, options)`. It copies a file from `source` to `out`, and asks `todo` what becomes of each unit on its
way. So reading and writing are the same code: a first pass only collects, a second one puts the translations in, and what no unit is stays byte for byte.
"""

from __future__ import annotations

import dataclasses
from typing import IO, Literal, Protocol

from tell.errors import CorpusError, printable
from tell.languages import LanguagePair

BOM = b"\xef\xbb\xbf"
# Of one file that is unpacked, and of all in a document: bytes. A page of text is some thousand.
MEMBER, EXPANDED = 256 << 20, 1 << 30

# `engine`: translated; `corpus`: found as it is in a corpus; `failed`: there is no translation.
Origin = Literal["engine", "corpus", "failed"]


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A text to translate, of one line or more, and where it is in the file, in words. `done`: the file has a translation of it already.

    `tagged`: what looks like `<x1>` in it is a tag of the file's.
    """

    text: str
    place: str
    done: bool = False
    tagged: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What becomes of a unit. `text` is empty where it failed."""

    text: str
    origin: Origin = "engine"

    @property
    def failed(self) -> bool:
        return self.origin == "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the user says of a file. `columns` and `fields` are what is translated of a table and of JSON lines, `into` where it goes (its own place, if None).

    `again`: what has a translation gets a new one. `expanded`: bytes that a packed document may have when it is unpacked.
    """

    pair: LanguagePair | None = None
    columns: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    into: str | None = None
    again: bool = False
    expanded: int = EXPANDED


class Pass(Protocol):
    """What a pass over a file does."""

    def unit(self, unit: Unit) -> Made | None:
        """What becomes of a unit; None: it stays as it is."""
        ...

    def bad(self, place: str, reason: str) -> None:
        """A part of the file cannot be read, and is left as it is."""
        ...

    def warn(self, place: str, what: str) -> None:
        """Something is odd, and nothing is lost by it."""
        ...


class Convert(Protocol):
    def __call__(self, source: IO[bytes], out: IO[bytes], todo: Pass, options: Options, /) -> None:
        """Raises BadInput for a file that cannot be read at all."""
        ...


def decoded(raw: bytes, line: int, start: int) -> str:
    """A line of UTF-8. Raises CorpusError with line and byte; whoever knows the file's name puts it before that."""
    try:
        return raw.decode()
    except UnicodeDecodeError as e:
        found = f"0x{raw[e.start]:02x}"
        raise CorpusError("not UTF-8", place=f"line {line}, byte {start + e.start}", found=found, valid="UTF-8 text") from None


def short(text: str, length: int = 60) -> str:
    """A text as it is quoted in a message."""
    return printable(text if len(text) <= length else text[: length - 1] + "…")
