"""A pass over a file for tests: what it saw, and a translator that writes in capitals and keeps every placeholder and tag as it is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

from serve.formats import FORMATS
from serve.formats.units import Options, Replacement, Unit
from tell.languages import parse_pair
from tell.text.placeholders import find


def capitals(text: str) -> str:
    out, at = [], 0
    for place in find(text):
        out += [text[at : place.start].upper(), place.text]
        at = place.end
    return "".join([*out, text[at:].upper()])


class Seen:
    """`answer` says what becomes of a unit that has no translation yet."""

    def __init__(self, answer: Callable[[Unit], Replacement | None]):
        self.answer = answer
        self.units: list[Unit] = []
        self.said: list[str] = []

    def visit(self, unit: Unit) -> Replacement | None:
        self.units.append(unit)
        return None if unit.done else self.answer(unit)

    def unreadable(self, place: str, reason: str) -> None:
        self.said.append(f"bad {place}: {reason}")

    def warn(self, place: str, what: str) -> None:
        self.said.append(f"warn {place}: {what}")

    @property
    def texts(self) -> list[str]:
        return [u.text for u in self.units]


def nothing(unit: Unit) -> Replacement | None:
    return None


def same(unit: Unit) -> Replacement | None:
    return Replacement(unit.text)


def loud(unit: Unit) -> Replacement | None:
    return Replacement(capitals(unit.text))


def through(
    format: str, data: bytes | str, answer: Callable[[Unit], Replacement | None] = loud, pair: str | None = "en-is", **options: Any
) -> tuple[bytes, Seen]:
    """A file's bytes through a format, and what was seen on the way."""
    visitor, out = Seen(answer), io.BytesIO()
    raw = data.encode() if isinstance(data, str) else data
    FORMATS[format].convert(io.BytesIO(raw), out, visitor, Options(pair=parse_pair(pair) if pair else None, **options))
    return out.getvalue(), visitor


def members(data: bytes) -> dict[str, bytes]:
    """What is in a packed document."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {i.filename: archive.read(i) for i in archive.infolist()}
