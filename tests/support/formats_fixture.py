"""A visitor of a file's units for tests, and a translator that writes in capitals and keeps every placeholder and tag as it is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

from serve.formats import FORMATS
from serve.formats.units import Options, Replacement, Unit
from tell.languages import parse_pair
from tell.text.placeholders import find_placeholders


def capitals(text: str) -> str:
    parts, position = [], 0
    for place in find_placeholders(text):
        parts += [text[position : place.start].upper(), place.text]
        position = place.end
    return "".join([*parts, text[position:].upper()])


class RecordingVisitor:
    """Records units and messages; `answer` gives the replacement of a unit that has no translation yet."""

    def __init__(self, answer: Callable[[Unit], Replacement | None]):
        self.answer = answer
        self.units: list[Unit] = []
        self.messages: list[str] = []

    def visit(self, unit: Unit) -> Replacement | None:
        self.units.append(unit)
        return None if unit.translated else self.answer(unit)

    def unreadable(self, place: str, reason: str) -> None:
        self.messages.append(f"bad {place}: {reason}")

    def warn(self, place: str, warning: str) -> None:
        self.messages.append(f"warn {place}: {warning}")

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
) -> tuple[bytes, RecordingVisitor]:
    """A file converted by a format, and the visitor that it met."""
    visitor, output = RecordingVisitor(answer), io.BytesIO()
    raw = data.encode() if isinstance(data, str) else data
    FORMATS[format].convert(io.BytesIO(raw), output, visitor, Options(pair=parse_pair(pair) if pair else None, **options))
    return output.getvalue(), visitor


def members(data: bytes) -> dict[str, bytes]:
    """The members of a zipped document."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {i.filename: archive.read(i) for i in archive.infolist()}
