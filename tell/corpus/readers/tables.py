"""Tables: tab-separated, comma-separated and spreadsheets. Reads files, writes nothing.

Tab-separated rows have no quoting; comma- or semicolon-separated rows have. `line` is the number of the row, from 1.
"""

from __future__ import annotations

import csv
import itertools
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tell.corpus.readers.columns import LOOKED_AT, find_columns
from tell.corpus.readers.machine_output import of_values
from tell.corpus.readers.segment import BLANK, AlignedSegment, ReadOptions, ReadReport, blank
from tell.corpus.readers.streams import decoded_lines, open_unpacked
from tell.errors import CorpusError, suggestion
from tell.extras import need
from tell.text import xstring
from tell.text.separators import separator_line

FEW = "too few columns"
# Bytes that a spreadsheet may unpack to, and how many times its size: a "zip bomb" is 1,000 times as large unpacked.
MOST_UNPACKED, MOST_TIMES = 1 << 31, 200
# Rows of a sheet: what spreadsheets can hold. A row that claims a higher number would have to be waited for.
MOST_ROWS = 1 << 20
_QUOTED = re.compile(r'"[^"]*"')


def table_segments(rows: Iterable[list[str]], want: ReadOptions, reading: ReadReport, place: str, before: int = 0) -> Iterator[AlignedSegment]:
    """Segments of a table's rows, which follow `before` blank rows, by the columns that `find_columns` finds."""
    walk = iter(rows)
    head = list(itertools.islice(walk, LOOKED_AT))
    if not head:
        raise CorpusError("the file is empty", place=place, valid="at least one line")
    where = find_columns(head, want, reading, place, before + 1)
    after = before + where.header
    number = after
    for number, cells in enumerate(itertools.chain(head[where.header :], walk), after + 1):
        if not any(c.strip() for c in cells):
            yield AlignedSegment("", "", "", number, BLANK)
        elif len(cells) <= where.last:
            yield AlignedSegment("\t".join(cells), "", "", number, FEW)
        else:
            name = "" if where.doc is None else cells[where.doc].strip() or f"line-{number}"
            s, t = (" ".join(c.split("\n")) if "\n" in c else c for c in (cells[where.source], cells[where.target]))
            # The same text in a column of the machine's translations is no yes.
            marks = () if want.machine_output else where.marks
            said = [(name, cells[i]) for i, name in marks if i < len(cells) and cells[i].strip().casefold() != t.strip().casefold()]
            yield AlignedSegment(s, t, name, number, blank(s, t) or of_values(said))
    if number == after:
        raise CorpusError("no rows after the header", place=place, valid="at least one pair")
    reading.lines = number
    reading.documents = "" if where.doc is None else "document column"


def read_tsv(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """Tab-separated rows without quoting."""
    yield from table_segments((line.split("\t") for line in decoded_lines(path, want.pair, want.encoding, reading.encodings)), want, reading, str(path))


def read_csv(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """Rows with quoting, separated by what a first line `sep=;` names, else by the comma, semicolon or tab, whichever is most frequent in the first lines."""
    lines = decoded_lines(path, want.pair, want.encoding, reading.encodings)
    head = list(itertools.islice(lines, 20))
    delimiter = separator_line(head[0]) if head else None
    before = int(delimiter is not None)
    head = head[before:]
    if delimiter is None:
        text = _QUOTED.sub("", "\n".join(head))
        delimiter = max(",;\t", key=lambda c: (min((line.count(c) for line in text.split("\n") if line.strip()), default=0) > 0, text.count(c)))
    csv.field_size_limit(1 << 24)
    rows = csv.reader((f"{line}\n" for line in itertools.chain(head, lines)), delimiter=delimiter)
    yield from table_segments(_checked(rows, path), want, reading, str(path), before)


def _checked(rows: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as e:
        raise CorpusError(
            "this is not a comma-separated table", place=f"{path}, line {rows.line_num}", found=str(e), valid="a closing quotation mark for each"
        ) from None


def read_xlsx(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """The rows of one sheet: the named one, else the first that has any."""
    need("openpyxl", "files")
    with open_unpacked(path) as stream:
        _refuse_bombs(stream, path)
        try:
            book = _workbook(stream)
        except Exception as e:  # of damage openpyxl raises whatever Python does
            raise CorpusError(
                "this spreadsheet cannot be read", place=str(path), found=str(e) or type(e).__name__, valid="an .xlsx file without a password"
            ) from None
        name, rows, before = _sheet(book, want.sheet, path)
        if len(book.sheetnames) > 1:
            reading.notes.append(f"read sheet {name!r} of {', '.join(book.sheetnames[:8])}; --sheet NAME takes another")
        yield from table_segments(rows, want, reading, f"{path}, sheet {name}", before)


def _workbook(stream: Any) -> Any:
    """The book, with the escapes in its strings as they are: openpyxl drops what tells an escaped escape from one."""
    excel, text, xml = (need(f"openpyxl.{name}", "files") for name in ("reader.excel", "cell.text", "xml.functions"))

    reader = excel.ExcelReader(stream, True, False, True, True, False)

    def read_strings() -> None:
        part = reader.package.find(excel.SHARED_STRINGS)
        if part is not None:
            with reader.archive.open(part.PartName[1:]) as strings:
                reader.shared_strings = []
                for _, node in xml.iterparse(strings):
                    if node.tag.endswith("}si"):
                        reader.shared_strings.append(text.Text.from_tree(node).content)
                        node.clear()

    reader.read_strings = read_strings
    reader.read()
    return reader.wb


def unescaped(cell: str) -> str:
    """The text of a cell, without a spreadsheet's escapes; an escaped line end is one, and an escaped vertical tab a space."""
    return xstring.decoded(cell).replace("\r\n", "\n").replace("\r", "\n").replace("\v", " ") if "_x" in cell else cell


def _rows(sheet: Any, path: Path) -> Iterator[list[str]]:
    walk = sheet.iter_rows(values_only=True, max_row=MOST_ROWS)
    while True:
        try:
            row = next(walk, None)
        except Exception as e:
            raise CorpusError(
                "this sheet cannot be read", place=f"{path}, sheet {sheet.title}", found=str(e) or type(e).__name__, valid="a spreadsheet that opens"
            ) from None
        if row is None:
            return
        yield ["" if cell is None else unescaped(cell) if isinstance(cell, str) else str(cell) for cell in row]


def _sheet(book: Any, sheet_name: str | None, path: Path) -> tuple[str, Iterator[list[str]], int]:
    """The sheet's name, its rows from the first that is not blank, and the number of blank rows before it."""
    names = [s.title for s in book.worksheets]
    if sheet_name is not None and sheet_name not in names:
        raise CorpusError("no such sheet", place=f"{path}, --sheet", found=sheet_name, valid=suggestion(sheet_name, names))
    for sheet in book.worksheets:
        if sheet_name in (None, sheet.title):
            rows = _rows(sheet, path)
            for before, row in enumerate(rows):
                if any(c.strip() for c in row):
                    return sheet.title, itertools.chain([row], rows), before
    raise CorpusError("the sheet is empty", place=str(path), found=", ".join(names) or "no sheets", valid="a sheet with a row for each pair")


def _refuse_bombs(stream: Any, path: Path) -> None:
    """Raises CorpusError for an archive that unpacks to more than memory can hold, and for XML that defines entities."""
    try:
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                if info.file_size > MOST_UNPACKED or (info.file_size > 1 << 26 and info.file_size > MOST_TIMES * max(info.compress_size, 1)):
                    found = f"{info.filename}: {info.compress_size:,} bytes that unpack to {info.file_size:,}"
                    raise CorpusError("this spreadsheet is too large unpacked", place=str(path), found=found, valid="a spreadsheet as it was saved")
                if info.filename.endswith((".xml", ".rels")):
                    with archive.open(info) as member:
                        head = member.read(4096).replace(b"\0", b"")
                    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
                        raise CorpusError(
                            "the XML defines entities, which are not read", place=f"{path}, {info.filename}", valid="a spreadsheet as it was saved"
                        )
    except CorpusError:
        raise
    except Exception as e:
        raise CorpusError(
            "this is not an .xlsx file", place=str(path), found=str(e) or type(e).__name__, valid="a spreadsheet saved as .xlsx, without a password"
        ) from None
    stream.seek(0)
