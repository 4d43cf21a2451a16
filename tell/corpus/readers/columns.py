"""Which columns of a table are the two sides: by its header, by options, or by the language of the texts in them. Reads and writes nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from tell.corpus.readers.machine_output import named
from tell.corpus.readers.segment import ReadOptions, ReadReport, tagged
from tell.errors import CorpusError, suggestion
from tell.languages import Language, LanguagePair, distance, names
from tell.text.identifiers import is_text
from tell.text.normalise import letters

DOC_NAMES = ("document", "doc")
# Rows by whose texts columns are found, and characters of a column that its language is told by.
LOOKED_AT, TOLD_BY = 200, 4000
# What a column of texts must have: this share of its filled cells must be texts, and of its characters letters.
TEXTS, LETTERS = 0.8, 0.6
# What the two languages must have of the likelihood of all, and one of them of that of both, for a column to be in it.
LIKELY, SURE = 0.1, 0.8
# The same few words again and again are a state or a source, and no texts.
DIFFERENT = 0.5
# What first lines are made of that name the columns of a table in their own way.
_HEADER = {"id", "key", "source", "target", "text", "translation", "original", "context", "note", "notes", "comment", "comments", "string", "url", "nr", "no"}
_CODE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """Positions from 0. `marks`: columns that say who has made a translation, with their names; `header`: the first row is none of pairs."""

    source: int
    target: int
    doc: int | None = None
    marks: tuple[tuple[int, str], ...] = ()
    header: bool = True

    @property
    def last(self) -> int:
        return max(self.source, self.target, self.doc or 0)


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


def columns(header: Sequence[str], pair: LanguagePair) -> tuple[int, int, int | None] | None:
    """The positions of source, target and document among named columns; None when the names lack one side of the pair."""
    plain = [n.strip().lower() for n in header]
    doc = next((i for i, n in enumerate(plain) if n in DOC_NAMES), None)
    if "source" in plain and "target" in plain:  # as `tellmt select --text` writes it
        return plain.index("source"), plain.index("target"), doc
    for codes in (True, False):
        a, b = (next((i for i, n in enumerate(header) if _is(n, side, codes)), None) for side in (pair.source, pair.target))
        if a is not None and b is not None and a != b:
            return a, b, doc
    near = [[(distance(side, language), i) for i, n in enumerate(header) if (language := _code(n))] for side in (pair.source, pair.target)]
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


def find_columns(rows: Sequence[list[str]], want: ReadOptions, reading: ReadReport, place: str, line: int) -> Columns:
    """The columns by the first rows of a table, the first of which is line `line` of `place`.

    A first row that names both languages, or source and target, is a header; otherwise `columns` names the columns in order. Without either the first two
    columns are the sides where there are no more, else the two whose texts are in the two languages. Raises CorpusError where it cannot be told.
    """
    first, pair = rows[0], want.pair
    where = f"{place}, line {line}"
    if found := _chosen(first, want, where) or columns(first, pair):
        return Columns(*found, _marks(first))
    if any(c.strip().lower() in DOC_NAMES for c in first) and any(_code(c) for c in first):
        valid = f"{pair.source.tag} and {pair.target.tag}, or --source-column and --target-column"
        raise CorpusError("the header names other languages", place=where, found=", ".join(first), valid=valid)
    if want.columns is not None:
        header = want.columns.split(",")
        if (found := columns(header, pair)) is None:
            valid = f"{pair.source.tag},{pair.target.tag} in the file's order"
            raise CorpusError("does not name both languages", place="--columns", found=want.columns, valid=valid)
        return Columns(*found, _marks(header), header=False)
    filled = {i for row in rows for i, cell in enumerate(row) if cell.strip()}
    if max(filled, default=0) < 2:
        return Columns(0, 1, header=False)
    source, target = _by_language(rows, pair, place)
    named_in_its_own_way = _names_columns(first, pair)
    kept = f"{source + 1} ({pair.source.tag}) and {target + 1} ({pair.target.tag}), by the language of their texts"
    reading.notes.append(f"read columns {kept}; --columns, or --source-column and --target-column, name others")
    return Columns(source, target, None, _marks(first) if named_in_its_own_way else (), named_in_its_own_way)


def _marks(header: Sequence[str]) -> tuple[tuple[int, str], ...]:
    return tuple((i, name) for i, name in enumerate(header) if named(name))


def _names_columns(first: Sequence[str], pair: LanguagePair) -> bool:
    """Whether a first row is a header that names its columns in its own way."""
    languages = names(pair.source) | names(pair.target)
    return any(cell.strip().casefold() in _HEADER or bool(languages & set(cell.casefold().split())) or named(cell) for cell in first if len(cell) < 40)


def _by_language(rows: Sequence[list[str]], pair: LanguagePair, place: str) -> tuple[int, int]:
    from tell.text.language_id import label, language_likelihoods

    width = max(map(len, rows))
    texts = {i: [row[i].strip() for row in rows if i < len(row) and row[i].strip()] for i in range(width)}
    joined = {i: " ".join(cells)[:TOLD_BY] for i, cells in texts.items() if _is_of_texts(cells)}
    likelihoods = {i: language_likelihoods(text) for i, text in joined.items()}
    labels = [label(side.tag) for side in (pair.source, pair.target)]
    sides: list[list[int]] = [[], []]
    for i, found in likelihoods.items():
        of_sides = [found.get(name or "", 0.0) for name in labels]
        side = int(of_sides[1] > of_sides[0])
        if sum(of_sides) >= LIKELY and of_sides[side] >= SURE * sum(of_sides):
            sides[side].append(i)
    for side, name in enumerate(labels):
        # Of a language that the model does not know the column is the only one that is left.
        if name is None and len(sides[1 - side]) == 1:
            sides[side] = [i for i in joined if i not in sides[1 - side]]
    if len(sides[0]) == len(sides[1]) == 1 and sides[0] != sides[1]:
        return sides[0][0], sides[1][0]
    listed = "; ".join(f"{i + 1}: {cells[min(1, len(cells) - 1)][:30]!r}" for i, cells in texts.items() if cells)
    example = ["id", pair.source.tag, pair.target.tag, *(f"column{i}" for i in range(4, width + 1))][:width]
    valid = f"--columns with a name for each, such as {','.join(example)}, or a header with {pair.source.tag} and {pair.target.tag}"
    raise CorpusError("it cannot be told which columns are the two sides", place=place, found=listed[:300], valid=valid)


def _is_of_texts(cells: Sequence[str]) -> bool:
    if not cells or len(set(cells)) < DIFFERENT * len(cells):
        return False
    of_letters, of_all = (sum(len(kind(cell)) for cell in cells) for kind in (letters, lambda cell: cell.replace(" ", "")))
    return sum(map(is_text, cells)) >= TEXTS * len(cells) and of_letters >= LETTERS * of_all
