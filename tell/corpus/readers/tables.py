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

from tell.corpus.readers.segment import BLANK, AlignedSegment, ReadOptions, ReadReport, blank, tagged
from tell.corpus.readers.streams import decoded_lines, open_unpacked
from tell.errors import CorpusError, suggestion
from tell.extras import need
from tell.languages import Language, LanguagePair, distance, names

DOC_NAMES = ("document", "doc")
FEW = "too few columns"
# Bytes that a spreadsheet may unpack to, and how many times its size: a "zip bomb" is 1,000 times as large unpacked.
MOST_UNPACKED, MOST_TIMES = 1 << 31, 200
# Rows of a sheet: what spreadsheets can hold. A row that claims a higher number would have to be waited for.
MOST_ROWS = 1 << 20
_CODE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_QUOTED = re.compile(r'"[^"]*"')


def _code(cell: str) -> Language | None:
    """The language of a header cell that is a language code; None for any other cell. Long cells are not looked up."""
    cell = cell.strip()
    return tagged(cell) if _CODE.fullmatch(cell) else None


def _is(cell: str, expected: Language, codes: bool) -> bool:
    """Whether a header cell names the language: by its code, or by its name in English or in the language itself."""
    language = _code(cell)
    if language is not None and language == expected:
        return True
    # Without a remark after it.
    name = (cell.partition("(")[0] if cell.endswith(")") else cell).strip().casefold()
    return not codes and name in names(expected)


def columns(names: list[str], pair: LanguagePair) -> tuple[int, int, int | None] | None:
    """The positions of source, target and document among named columns; None when the names lack one side of the pair."""
    plain = [n.strip().lower() for n in names]
    doc = next((i for i, n in enumerate(plain) if n in DOC_NAMES), None)
    if "source" in plain and "target" in plain:  # as `tellmt select --text` writes it
        return plain.index("source"), plain.index("target"), doc
    for codes in (True, False):
        a, b = (next((i for i, n in enumerate(names) if _is(n, side, codes)), None) for side in (pair.source, pair.target))
        if a is not None and b is not None and a != b:
            return a, b, doc
    near = [[(distance(side, language), i) for i, n in enumerate(names) if (language := _code(n))] for side in (pair.source, pair.target)]
    a, b = (min(((far, i) for far, i in side if far is not None), default=(None, None))[1] for side in near)
    return (a, b, doc) if a is not None and b is not None and a != b else None


def _chosen(first: list[str], want: ReadOptions, place: str) -> tuple[int, int, int | None] | None:
    """The positions of the columns that --source-column and the like name. Raises CorpusError with the nearest name in the header."""
    options = (("--source-column", want.source_column), ("--target-column", want.target_column), ("--doc-column", want.doc_column))
    if not any(name for _, name in options):
        return None
    plain = [c.strip().casefold() for c in first]
    chosen: list[int | None] = []
    for option, name in options:
        if name is None:
            chosen.append(None)
        elif name.strip().casefold() in plain:
            chosen.append(plain.index(name.strip().casefold()))
        else:
            raise CorpusError("no such column", place=f"{place}, {option}", found=name, valid=suggestion(name, {c.strip() for c in first if c.strip()}))
    usual = columns(first, want.pair) or (None, None, None)
    source, target, doc = (f if f is not None else u for f, u in zip(chosen, usual, strict=True))
    if source is None or target is None or source == target:
        missing = "--source-column" if source is None else "--target-column"
        raise CorpusError("the columns of both sides must be known", place=place, found=", ".join(c.strip() for c in first), valid=f"{missing} NAME too")
    return source, target, doc


def table_segments(rows: Iterable[list[str]], want: ReadOptions, reading: ReadReport, place: str, before: int = 0) -> Iterator[AlignedSegment]:
    """Segments of a table's rows, which follow `before` blank rows.

    A first row that names both languages, or source and target, is a header; otherwise `columns` names the columns in order.
    """
    walk = iter(rows)
    first = next(walk, None)
    if first is None:
        raise CorpusError("the file is empty", place=place, valid="at least one line")
    pair = want.pair
    line = f"{place}, line {before + 1}"
    where = _chosen(first, want, line) or columns(first, pair)
    after = before + 1
    if where is None:
        codes = [c for c in first if _code(c)]
        if any(c.strip().lower() in DOC_NAMES for c in first) and codes:
            valid = f"{pair.source.tag} and {pair.target.tag}, or --source-column and --target-column"
            raise CorpusError("the header names other languages", place=line, found=", ".join(first), valid=valid)
        if want.columns is not None:
            where = columns(want.columns.split(","), pair)
            if where is None:
                valid = f"{pair.source.tag},{pair.target.tag} in the file's order"
                raise CorpusError("does not name both languages", place="--columns", found=want.columns, valid=valid)
        walk, after = itertools.chain([first], walk), before
    source, target, doc = where or (0, 1, None)
    number = after
    for number, cells in enumerate(walk, after + 1):
        if not any(c.strip() for c in cells):
            yield AlignedSegment("", "", "", number, BLANK)
        elif len(cells) <= max(source, target, doc or 0):
            yield AlignedSegment("\t".join(cells), "", "", number, FEW)
        else:
            name = "" if doc is None else cells[doc].strip() or f"line-{number}"
            s, t = (" ".join(c.split("\n")) if "\n" in c else c for c in (cells[source], cells[target]))
            yield AlignedSegment(s, t, name, number, blank(s, t))
    if number == after:
        raise CorpusError("no rows after the header", place=place, valid="at least one pair")
    reading.lines = number
    reading.documents = "" if doc is None else "document column"


def read_tsv(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """Tab-separated rows without quoting."""
    yield from table_segments((line.split("\t") for line in decoded_lines(path, want.pair, want.encoding, reading.encodings)), want, reading, str(path))


def read_csv(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """Rows with quoting, separated by the comma, semicolon or tab, whichever is most frequent in the first lines."""
    lines = decoded_lines(path, want.pair, want.encoding, reading.encodings)
    head = list(itertools.islice(lines, 20))
    text = _QUOTED.sub("", "\n".join(head))
    delimiter = max(",;\t", key=lambda c: (min((line.count(c) for line in text.split("\n") if line.strip()), default=0) > 0, text.count(c)))
    csv.field_size_limit(1 << 24)
    rows = csv.reader((f"{line}\n" for line in itertools.chain(head, lines)), delimiter=delimiter)
    yield from table_segments(_checked(rows, path), want, reading, str(path))


def _checked(rows: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as e:
        raise CorpusError(
            "this is not a comma-separated table", place=f"{path}, line {rows.line_num}", found=str(e), valid="a closing quotation mark for each"
        ) from None


def read_xlsx(path: Path, want: ReadOptions, reading: ReadReport) -> Iterator[AlignedSegment]:
    """The rows of one sheet: the named one, else the first that has any."""
    openpyxl = need("openpyxl", "files")
    with open_unpacked(path) as stream:
        _refuse_bombs(stream, path)
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
        except Exception as e:  # of damage openpyxl raises whatever Python does
            raise CorpusError(
                "this spreadsheet cannot be read", place=str(path), found=str(e) or type(e).__name__, valid="an .xlsx file without a password"
            ) from None
        name, rows, before = _sheet(book, want.sheet, path)
        if len(book.sheetnames) > 1:
            reading.notes.append(f"read sheet {name!r} of {', '.join(book.sheetnames[:8])}; --sheet NAME takes another")
        yield from table_segments(rows, want, reading, f"{path}, sheet {name}", before)


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
        yield ["" if cell is None else str(cell) for cell in row]


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
