"""A file's text with stretches of it replaced: everything else stays as it is. Reads an open binary file as UTF-8."""

from __future__ import annotations

import bisect
from typing import IO

from serve.formats.units import BOM
from tell.errors import CorpusError


class Edits:
    """A text, and what is put in the place of stretches of it. Stretches do not overlap; what is inserted at one place comes in the order of the calls."""

    def __init__(self, text: str):
        self.text = text
        self._edits: list[tuple[int, int, str]] = []
        self._line_starts: list[int] = []

    def put(self, start: int, end: int, new: str) -> None:
        if self.text[start:end] != new:
            self._edits.append((start, end, new))

    def result(self) -> str:
        parts, position = [], 0
        for start, end, new in sorted(self._edits, key=lambda edit: edit[:2]):
            parts += [self.text[position:start], new]
            position = end
        return "".join([*parts, self.text[position:]])

    def line(self, position: int) -> int:
        """The number of the line that a place is in."""
        if not self._line_starts:
            self._line_starts = [0]
            start = self.text.find("\n")
            while start >= 0:
                self._line_starts.append(start + 1)
                start = self.text.find("\n", start + 1)
        return bisect.bisect_right(self._line_starts, position)


def read_utf8(source: IO[bytes]) -> tuple[bytes, str]:
    """The BOM that a file may have, and its text. Raises CorpusError with line and byte where it is not UTF-8."""
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    try:
        return bom, raw[len(bom) :].decode()
    except UnicodeDecodeError as e:
        byte = len(bom) + e.start
        line = raw.count(b"\n", 0, byte) + 1
        raise CorpusError("not UTF-8", place=f"line {line}, byte {byte}", found=f"0x{raw[byte]:02x}", valid="UTF-8 text") from None
