"""Columns of CSV: the cells of a column are translated where they are, or into another column. Every other cell stays byte for byte.

RFC 4180, UTF-8, with `,` or `;` between cells, whichever parts the first line into more of them, or what a first line `sep=;` names. The first line after it
names the columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import IO

from serve.formats.units import BOM, Options, Unit, UnitVisitor, decoded
from tell.errors import BadInput, CorpusError, suggestion
from tell.text.separators import separator_line

# Characters that one row may have: beyond that a quote was opened and not closed.
LONGEST = 1 << 20
_BREAKS = re.compile(r"[\t\r\n]+")


def cells(row: str, separator: str, quoted: bool) -> tuple[list[str], bool]:
    """The cells of a row as they are written, and whether a quote is still open at its end. A quote opens at the beginning of a cell alone."""
    if not quoted or '"' not in row:
        return row.split(separator), False
    row_cells: list[str] = []
    start, position, length = 0, 0, len(row)
    while True:
        if position < length and row[position] == '"':
            position += 1
            while (position := row.find('"', position)) >= 0 and row[position + 1 : position + 2] == '"':
                position += 2
            if position < 0:
                return [*row_cells, row[start:]], True
        cell_end = row.find(separator, position)
        if cell_end < 0:
            return [*row_cells, row[start:]], False
        row_cells.append(row[start:cell_end])
        start = position = cell_end + 1


def rows(source: IO[bytes], separator: str | None) -> Iterator[tuple[int, str, str, list[str], str]]:
    """(first line, BOM, separator, cells, line end) of each row. Without a `separator` cells may be in quotes, and a row goes on while one is open."""
    quoted = separator is None
    pending, first_line, offset = "", 1, 0
    for number, raw in enumerate(source, 1):
        bom = BOM.decode() if number == 1 and raw.startswith(BOM) else ""
        line = decoded(raw[len(bom.encode()) :], number, offset + len(bom.encode()))
        offset += len(raw)
        if separator is None:
            # Not by what stands in quotes.
            separator = separator_line(line) or max(",;", key=lambda sign: len(cells(line, sign, True)[0]))
        first_line = first_line if pending else number
        pending += line
        body = pending.rstrip("\r\n")
        row_cells, unfinished = cells(body if not quoted or '"' not in pending else pending, separator, quoted)
        if unfinished:
            if len(pending) > LONGEST:
                raise _unclosed(first_line)
            continue
        row_cells[-1] = row_cells[-1].rstrip("\r\n")
        yield first_line, bom, separator, row_cells, pending[len(body) :]
        pending = ""
    if pending:
        raise _unclosed(first_line)


def _unclosed(line: int) -> CorpusError:
    return CorpusError("a quote is not closed", place=f"line {line}", valid='cells like "this one"')


def _value(cell: str, quoted: bool) -> str:
    if quoted and len(cell) >= 2 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _written(text: str, old_cell: str, separator: str, quoted: bool) -> str:
    """A cell with this text, in quotes where the old cell has some or the text needs them."""
    if not quoted:
        return _BREAKS.sub(" ", text)
    if old_cell.startswith('"') or any(c in text for c in (separator, '"', "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text


def _columns(names: Sequence[str], chosen: Sequence[str]) -> list[int]:
    indices = []
    for name in chosen:
        if name in names:
            indices.append(names.index(name))
        elif name.isdigit() and 1 <= int(name) <= len(names):
            indices.append(int(name) - 1)
        else:
            raise BadInput("no such column", place="--column", found=name, valid=suggestion(name, names) + f", or a number up to {len(names)}")
    return indices


def _columns_to_translate(names: Sequence[str], options: Options) -> list[int]:
    """The columns to translate: those the user names, or the one with the name of the source language, or the only one there is."""
    if options.columns:
        return _columns(names, options.columns)
    lower = [n.strip().lower() for n in names]
    likely_names = [options.pair.source.tag.lower()] if options.pair else []
    for name in (*likely_names, "source", "text"):
        if name in lower:
            return [lower.index(name)]
    if len(names) == 1:
        return [0]
    raise BadInput("which column is to be translated?", place="--column", valid=", ".join(names))


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    convert_rows(source, out, visitor, options, None)


def convert_rows(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options, separator: str | None) -> None:
    """With a `separator` cells have no quotes, as in TSV."""
    quoted = separator is None
    columns: list[int] = []
    into_column, width = -1, 0
    for number, bom, delimiter, row, line_end in rows(source, separator):
        if quoted and number == 1 and separator_line(delimiter.join(row)):
            # It names the separator, and no columns.
            pass
        elif not columns:
            names = [_value(c, quoted) for c in row]
            columns, width = _columns_to_translate(names, options), len(names)
            if options.into is not None:
                if len(columns) > 1:
                    raise BadInput("one column goes into another", place="--into", found=f"{len(columns)} columns", valid="one --column")
                into_column = width if options.into not in names and not options.into.isdigit() else _columns(names, [options.into])[0]
                if into_column == width:
                    row.append(_written(options.into, "", delimiter, quoted))
        elif len(row) < width:
            # An empty line is no row.
            if row != [""]:
                visitor.unreadable(f"line {number}", f"too few columns: {len(row)} of {width}")
        else:
            original = list(row)
            if into_column == len(row):
                row.append("")
            for column in columns:
                text, target_column = _value(original[column], quoted), column if into_column < 0 else into_column
                has_translation = into_column >= 0 and bool(_value(row[into_column], quoted).strip())
                translation = visitor.visit(Unit(text, f"line {number}", has_translation))
                if translation is not None and text.strip() and (translation.text != text or target_column != column):
                    row[target_column] = _written(translation.text, row[target_column], delimiter, quoted)
        out.write((bom + delimiter.join(row) + line_end).encode())
