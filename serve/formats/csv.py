"""Columns of CSV: the cells of a column are translated where they are, or into another column. Every other cell stays byte for byte.

RFC 4180, UTF-8, with `,` or `;` between cells, whichever the first line has more of. The first line names the columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import IO

from serve.formats.units import BOM, Options, Pass, Unit, decoded
from tell.errors import BadInput, CorpusError, suggestion

# Characters that one row may have: beyond that a quote was opened and not closed.
LONGEST = 1 << 20


def cells(row: str, separator: str, quoted: bool) -> tuple[list[str], bool]:
    """The cells of a row as they are written, and whether a quote is still open at its end. A quote opens at the beginning of a cell alone."""
    if not quoted or '"' not in row:
        return row.split(separator), False
    out: list[str] = []
    start, at, size = 0, 0, len(row)
    while True:
        if at < size and row[at] == '"':
            at += 1
            while (at := row.find('"', at)) >= 0 and row[at + 1 : at + 2] == '"':
                at += 2
            if at < 0:
                return [*out, row[start:]], True
        end = row.find(separator, at)
        if end < 0:
            return [*out, row[start:]], False
        out.append(row[start:end])
        start = at = end + 1


def rows(source: IO[bytes], separator: str | None) -> Iterator[tuple[int, str, str, list[str], str]]:
    """(first line, BOM, separator, cells, line end) of each row. Without a `separator` cells may be in quotes, and a row goes on while one is open."""
    quoted = separator is None
    held, first, start = "", 1, 0
    for number, raw in enumerate(source, 1):
        bom = BOM.decode() if number == 1 and raw.startswith(BOM) else ""
        line = decoded(raw[len(bom.encode()) :], number, start + len(bom.encode()))
        start += len(raw)
        if separator is None:
            separator = ";" if line.count(";") > line.count(",") else ","
        first = first if held else number
        held += line
        body = held.rstrip("\r\n")
        found, unfinished = cells(body if not quoted or '"' not in held else held, separator, quoted)
        if unfinished:
            if len(held) > LONGEST:
                raise _unclosed(first)
            continue
        found[-1] = found[-1].rstrip("\r\n")
        yield first, bom, separator, found, held[len(body) :]
        held = ""
    if held:
        raise _unclosed(first)


def _unclosed(line: int) -> CorpusError:
    return CorpusError("a quote is not closed", place=f"line {line}", valid='cells like "this one"')


def _value(cell: str, quoted: bool) -> str:
    if quoted and len(cell) >= 2 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _written(text: str, like: str, separator: str, quoted: bool) -> str:
    """A cell of this text, in quotes where its model has some or it needs them."""
    if not quoted:
        return re.sub(r"[\t\r\n]+", " ", text)
    if like.startswith('"') or any(c in text for c in (separator, '"', "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text


def _columns(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    out = []
    for name in wanted:
        if name in names:
            out.append(names.index(name))
        elif name.isdigit() and 1 <= int(name) <= len(names):
            out.append(int(name) - 1)
        else:
            raise BadInput("no such column", place="--column", found=name, valid=suggestion(name, names) + f", or a number up to {len(names)}")
    return out


def _wanted(names: Sequence[str], options: Options) -> list[int]:
    """The columns to translate: those asked for, or the one that is named as the source's language, or the only one there is."""
    if options.columns:
        return _columns(names, options.columns)
    lower = [n.strip().lower() for n in names]
    likely = [options.pair.source.tag.lower()] if options.pair else []
    for name in (*likely, "source", "text"):
        if name in lower:
            return [lower.index(name)]
    if len(names) == 1:
        return [0]
    raise BadInput("which column is to be translated?", place="--column", valid=", ".join(names))


def convert(source: IO[bytes], out: IO[bytes], todo: Pass, options: Options) -> None:
    convert_rows(source, out, todo, options, None)


def convert_rows(source: IO[bytes], out: IO[bytes], todo: Pass, options: Options, separator: str | None) -> None:
    """A separator that is given comes without quotes, as in TSV."""
    quoted = separator is None
    wanted: list[int] = []
    into, width = -1, 0
    for number, bom, between, found, end in rows(source, separator):
        if not wanted:
            names = [_value(c, quoted) for c in found]
            wanted, width = _wanted(names, options), len(names)
            if options.into is not None:
                if len(wanted) > 1:
                    raise BadInput("one column goes into another", place="--into", found=f"{len(wanted)} columns", valid="one --column")
                into = width if options.into not in names and not options.into.isdigit() else _columns(names, [options.into])[0]
                if into == width:
                    found.append(_written(options.into, "", between, quoted))
        elif len(found) < width:
            # An empty line is no row.
            if found != [""]:
                todo.bad(f"line {number}", f"too few columns: {len(found)} of {width}")
        else:
            given = list(found)
            if into == len(found):
                found.append("")
            for column in wanted:
                text, to = _value(given[column], quoted), column if into < 0 else into
                done = into >= 0 and bool(_value(found[into], quoted).strip())
                made = todo.unit(Unit(text, f"line {number}", done))
                if made is not None and text.strip() and (made.text != text or to != column):
                    found[to] = _written(made.text, found[to], between, quoted)
        out.write((bom + between.join(found) + end).encode())
