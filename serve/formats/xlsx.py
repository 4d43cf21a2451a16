"""XLSX: the texts of cells. Numbers, formulas, names of sheets, charts and everything else stay byte for byte.

Names of a table's columns stay as they are: formulas refer to them, and a table whose header differs from them is damaged. Parts of a cell that are formatted
otherwise go along as tags.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import IO

from serve.formats.inline_tags import Piece, line_of
from serve.formats.units import Options, Unit, UnitVisitor
from serve.formats.xml_events import Event, Xml, escaped, inner, raw_of
from serve.formats.zipped_xml import members, opened, read, repack

_SHARED = "xl/sharedStrings.xml"
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_TABLE = re.compile(r"xl/tables/[^/]+\.xml")


def _children(events: list[Event], name: str) -> list[tuple[int, int]]:
    out, at = [], 1
    while at < len(events) - 1:
        if events[at].kind == "start":
            end = inner(events, at)
            if events[at].local == name:
                out.append((at, end))
            at = end
        at += 1
    return out


def _text(events: list[Event], span: tuple[int, int]) -> str:
    # Excel writes characters that XML lacks as _x000D_.
    return "".join(e.text for e in events[span[0] : span[1]]).replace("_x000D_", "")


def _item(xml: Xml, events: list[Event], place: str, visitor: UnitVisitor, kept: set[str]) -> bytes:
    """A shared string, or one in its cell: plain, or in runs."""
    runs = _children(events, "r")
    spans = _children(events, "t")
    found = re.match(r"<([\w.-]+:)?", xml.decode(events[0].raw))
    prefix = (found.group(1) or "") if found else ""
    if not runs and len(spans) == 1:
        parts = [("", _text(events, spans[0]))]
    else:
        parts = []
        for start, end in runs:
            own = events[start : end + 1]
            style = [raw_of(own[a : b + 1]) for a, b in _children(own, "rPr")]
            parts.append((xml.decode(style[0]) if style else "", "".join(_text(own, s) for s in _children(own, "t"))))
    whole = "".join(text for _, text in parts)
    if not parts or whole.strip() in kept:
        return raw_of(events)
    common = Counter({style: 0 for style, _ in parts})
    for form, text in parts:
        common[form] += len(text)
    most = common.most_common(1)[0][0]
    pieces: list[Piece] = []
    for form, text in parts:
        inside = [Piece("text", text)] * bool(text)
        pieces += inside if form == most else [Piece("open", form), *inside, Piece("close", form)]
    line = line_of(pieces)
    if line is None:
        return raw_of(events)
    made = visitor.visit(Unit(line.text, place, tagged=line.tagged))
    if made is None or made.failed or made.text == line.text:
        return raw_of(events)
    placed, good = line.placed(made.text)
    if not good:
        visitor.warn(place, "tags inside the text lost their places")
    new = [*line.before, *placed, *line.after]
    space = ' xml:space="preserve"'
    if not runs:
        text = "".join(p.value for p in new if p.kind == "text")
        return events[0].raw + xml.encode(f"<{prefix}t{space}>{escaped(text)}</{prefix}t>") + raw_of(events[spans[0][1] + 1 :])
    out, now = [], most
    for piece in new:
        if piece.kind == "text":
            out.append(f"<{prefix}r>{now}<{prefix}t{space}>{escaped(piece.value)}</{prefix}t></{prefix}r>")
        else:
            now = piece.value if piece.kind == "open" else most
    # What follows the runs, how it is read aloud, is of the other language.
    return events[0].raw + xml.encode("".join(out)) + events[-1].raw


def _part(xml: Xml, element: str, place: str, visitor: UnitVisitor, kept: set[str]) -> bytes:
    out = io.BytesIO()
    held: list[Event] = []
    depth = number = 0
    cell = ""
    for event in xml:
        if held:
            held.append(event)
            depth += (event.kind == "start") - (event.kind == "end")
            if not depth:
                number += 1
                out.write(_item(xml, held, f"{place} {cell or number}", visitor, kept))
                held = []
            continue
        if event.kind == "start" and event.local == element:
            held, depth = [event], 1
            continue
        if event.kind == "start" and event.local == "c":
            cell = event.attributes.get("r", "")
        out.write(event.raw)
    return out.getvalue()


def _names(xml: Xml) -> set[str]:
    return {e.attributes.get("name", "").strip() for e in xml if e.kind == "start" and e.local == "tableColumn"}


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    with opened(source, "xlsx", "xl/workbook.xml", options.expanded) as archive:
        kept: set[str] = set()
        for name in members(archive, lambda n: _TABLE.fullmatch(n) is not None):
            kept |= _names(Xml(io.BytesIO(read(archive, name)), name))
        changed: dict[str, bytes] = {}
        for name in members(archive, lambda n: n == _SHARED or _SHEET.fullmatch(n) is not None):
            raw = read(archive, name)
            shared = name == _SHARED
            if not shared and b"<is>" not in raw and b":is>" not in raw:
                continue
            place = "text" if shared else name.rpartition("/")[2].removesuffix(".xml")
            made = _part(Xml(io.BytesIO(raw), name), "si" if shared else "is", place, visitor, kept)
            if made != raw:
                changed[name] = made
        repack(source, archive, out, changed)
