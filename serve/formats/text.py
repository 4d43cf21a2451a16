"""Plain text, a line at a time: as many lines come out as went in. UTF-8; a BOM, indentation, trailing spaces and any line end stay."""

from __future__ import annotations

import re
from typing import IO

from serve.formats.units import BOM, Options, Unit, UnitVisitor, decoded

# Line ends as any program sees them. A translation must not bring in one that its source does not have.
_BREAKS = re.compile("[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]+")


def on_one_line(text: str, source: str) -> str:
    """`text` without the line breaks that `source` does not have."""
    return _BREAKS.sub(lambda m: m.group() if m.group() in source and "\n" not in m.group() else " ", text)


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    offset = 0
    for number, raw in enumerate(source, 1):
        line = raw
        if number == 1 and raw.startswith(BOM):
            out.write(BOM)
            line = raw[len(BOM) :]
        text = decoded(line, number, offset + len(raw) - len(line))
        core = text.strip()
        translation = visitor.visit(Unit(core, f"line {number}"))
        offset += len(raw)
        if translation is None or not core:
            out.write(line)
            continue
        start_of_core = text.index(core)
        out.write((text[:start_of_core] + on_one_line(translation.text, core) + text[start_of_core + len(core) :]).encode())
