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
from serve.formats.relationships import main_part, parts
from serve.formats.units import Options, Unit, UnitVisitor, changed
from serve.formats.xml_events import Event, Xml, children, escaped, raw_of
from serve.formats.zipped_xml import archive_members, open_archive, read, repack
from tell.text.xstring import decoded, encoded

# The usual names of parts, for a document without relationships.
_SHARED = "xl/sharedStrings.xml"
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_TABLE = re.compile(r"xl/tables/[^/]+\.xml")


def _text(events: list[Event], span: tuple[int, int]) -> str:
    return decoded("".join(e.text for e in events[span[0] : span[1]]))


def _item(xml: Xml, events: list[Event], place: str, visitor: UnitVisitor, unchanged_names: set[str]) -> bytes:
    """A shared string, or one in its cell: plain, or in runs."""
    runs = children(events, "r")
    spans = children(events, "t")
    prefix = xml.prefix_of(events[0].raw)
    if not runs and len(spans) == 1:
        formatted_texts = [("", _text(events, spans[0]))]
    else:
        formatted_texts = []
        for start, end in runs:
            run = events[start : end + 1]
            style = [raw_of(run[a : b + 1]) for a, b in children(run, "rPr")]
            formatted_texts.append((xml.decode(style[0]) if style else "", "".join(_text(run, s) for s in children(run, "t"))))
    text_of_cell = "".join(text for _, text in formatted_texts)
    if not formatted_texts or text_of_cell.strip() in unchanged_names:
        return raw_of(events)
    characters_by_format = Counter({style: 0 for style, _ in formatted_texts})
    for run_format, text in formatted_texts:
        characters_by_format[run_format] += len(text)
    main_format = characters_by_format.most_common(1)[0][0]
    pieces: list[Piece] = []
    for run_format, text in formatted_texts:
        text_piece = [Piece("text", text)] * bool(text)
        pieces += text_piece if run_format == main_format else [Piece("open", run_format), *text_piece, Piece("close", run_format)]
    line = line_of(pieces, visitor, place)
    if line is None:
        return raw_of(events)
    new_pieces = line.translated(visitor, place)
    if new_pieces is None:
        return raw_of(events)
    space = ' xml:space="preserve"'
    if not runs:
        text = "".join(p.value for p in new_pieces if p.kind == "text")
        return events[0].raw + xml.encode(f"<{prefix}t{space}>{escaped(encoded(text))}</{prefix}t>") + raw_of(events[spans[0][1] + 1 :])
    runs_written, current_format = [], main_format
    for piece in new_pieces:
        if piece.kind == "text":
            runs_written.append(f"<{prefix}r>{current_format}<{prefix}t{space}>{escaped(encoded(piece.value))}</{prefix}t></{prefix}r>")
        else:
            current_format = piece.value if piece.kind == "open" else main_format
    # The phonetic reading that follows the runs is of the source language, and is dropped.
    return events[0].raw + xml.encode("".join(runs_written)) + events[-1].raw


def _literal(xml: Xml, events: list[Event], place: str, visitor: UnitVisitor, unchanged_names: set[str]) -> bytes:
    """A cell with a text of its own as its value, as SheetJS writes them. The value of a formula is the formula's."""
    values = children(events, "v")
    if children(events, "f") or len(values) != 1:
        return raw_of(events)
    start, end = values[0]
    text = _text(events, values[0])
    if not any(map(str.isalpha, text)) or text.strip() in unchanged_names:
        return raw_of(events)
    new = changed(visitor, Unit(text, place))
    return raw_of(events) if new is None else raw_of(events[: start + 1]) + xml.encode(escaped(encoded(new))) + raw_of(events[end:])


def _part(xml: Xml, element: str, place: str, visitor: UnitVisitor, unchanged_names: set[str]) -> bytes:
    output = io.BytesIO()
    number = 0
    cell = ""
    for events in xml.units(lambda event: event.local == element or (event.local == "c" and event.attributes.get("t") == "str")):
        if len(events) > 1 and events[0].local == "c":
            output.write(_literal(xml, events, f"{place} {events[0].attributes.get('r', '')}".rstrip(), visitor, unchanged_names))
            continue
        if len(events) > 1:
            number += 1
            output.write(_item(xml, events, f"{place} {cell or number}", visitor, unchanged_names))
            continue
        if events[0].kind == "start" and events[0].local == "c":
            cell = events[0].attributes.get("r", "")
        output.write(events[0].raw)
    return output.getvalue()


def _names(xml: Xml) -> set[str]:
    return {decoded(e.attributes.get("name", "")).strip() for e in xml if e.kind == "start" and e.local == "tableColumn"}


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    with open_archive(source, "xlsx", options.bounds) as archive:
        main = main_part(archive, "xlsx", "xl/workbook.xml", options.bounds)
        all_names = set(archive.namelist())
        all_shared = parts(archive, main, {"sharedStrings"}, options.bounds)
        sheets = parts(archive, main, {"worksheet"}, options.bounds)
        if all_shared is None or sheets is None:
            all_shared, sheets = all_names & {_SHARED}, {n for n in all_names if _SHEET.fullmatch(n)}
        column_names: set[str] = set()
        tables = {n for n in all_names if _TABLE.fullmatch(n)}.union(*(parts(archive, sheet, {"table"}, options.bounds) or () for sheet in sheets))
        for name in tables:
            column_names |= _names(Xml(io.BytesIO(read(archive, name)), options.bounds, name))
        changed: dict[str, bytes] = {}
        for name in archive_members(archive, lambda n: n in all_shared or n in sheets):
            raw = read(archive, name)
            shared = name in all_shared
            if not shared and not any(mark in raw for mark in (b"<is>", b":is>", b't="str"', b"t='str'")):
                continue
            place = "text" if shared else name.rpartition("/")[2].removesuffix(".xml")
            converted = _part(Xml(io.BytesIO(raw), options.bounds, name), "si" if shared else "is", place, visitor, column_names)
            if converted != raw:
                changed[name] = converted
        repack(source, archive, out, changed)
