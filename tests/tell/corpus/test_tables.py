"""Tables as people have them: without a header, with columns beside the texts, with `sep=;`, with the escapes of spreadsheets."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tell.corpus.readers.dispatch import groups, read_group
from tell.corpus.readers.segment import ReadOptions, ReadReport
from tell.corpus.readers.tables import unescaped
from tell.errors import CorpusError
from tell.languages import parse_pair
from tell.text.separators import separator_line
from tests.support import corpora

ROWS = corpora.pairs(12)
WANT = ReadOptions(parse_pair("is-en"))


def read(name: str, data: bytes, want: ReadOptions = WANT) -> tuple[list[tuple[str, str]], list[int], ReadReport]:
    Path(name).write_bytes(data)
    (group,) = groups((Path(name),))
    reading = group.reading()
    segments = [s for s in read_group(group, want, reading) if s.reason is None]
    return [(s.source, s.target) for s in segments], [s.line for s in segments], reading


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(rows: Sequence[Sequence[object]]) -> bytes:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [("url url source target score", "3 (is) and 4 (en)"), ("id target source", "3 (is) and 2 (en)"), ("source target attribution", "1 (is) and 2 (en)"),
     ("id date source key target", "3 (is) and 5 (en)")],
)  # fmt: skip
def test_columns_are_found_by_their_language(columns: str, expected: str) -> None:
    def cell(kind: str, i: int) -> object:
        source, target = ROWS[i]
        attribution = f"CC-BY 2.0 (France) Attribution: tatoeba.org #{i}77272 (CM) & #{i}597805 (Seael)"
        cells = {"url": f"https://til.is/{i}/hestur", "source": source, "target": target, "score": f"0.9{i}", "id": i, "date": f"2024-01-{i + 1:02}"}
        return {**cells, "key": f"menu.file.open{i}", "attribution": attribution}[kind]

    pairs, _, reading = read("t.tsv", table([[cell(kind, i) for kind in columns.split()] for i in range(len(ROWS))]))
    assert pairs == ROWS and f"read columns {expected}, by the language of their texts" in reading.notes[0]


def test_a_header_of_its_own_kind_is_no_pair() -> None:
    rows = [(f"k{i}", a, b, "MT" if i else "") for i, (a, b) in enumerate(ROWS)]
    pairs, lines, _ = read("t.tsv", table([("key", "Icelandic text", "English text", "Status"), *rows]))
    assert pairs == ROWS[:1] and lines == [2]


def test_a_language_that_the_model_does_not_know_is_the_column_that_is_left() -> None:
    rows = [(i, f"Ha{'ngu' * 3} mo wea tavala {b.lower()[::-1]}", b) for i, (_, b) in enumerate(ROWS)]
    pairs, _, _ = read("t.tsv", table(rows), ReadOptions(parse_pair("gil-en")))
    assert pairs == [(a, b) for _, a, b in rows]


@pytest.mark.parametrize(
    "rows",
    [
        [("https://a.is/1", "https://a.is/en/1", "0.9")] * 5,
        [("1", "2", "3")] * 5,
        [(a, a, b) for a, b in ROWS],
        [("x1", a, "0.5") for a, _ in ROWS],
    ],
)
def test_what_cannot_be_told_is_asked_for(rows: list[tuple[str, ...]]) -> None:
    with pytest.raises(CorpusError, match=r"it cannot be told which columns.*--columns with a name for each, such as id,is,en"):
        read("t.tsv", table(rows))


def test_columns_name_them() -> None:
    rows = [(a, a, b) for a, b in ROWS]
    pairs, _, reading = read("t.tsv", table(rows), ReadOptions(parse_pair("is-en"), columns="before,is,en"))
    assert pairs == ROWS and not reading.notes


def test_two_columns_are_the_two_sides() -> None:
    assert read("t.tsv", table([("já", "yes"), ("nei", "no", "")]))[0] == [("já", "yes"), ("nei", "no")]


@pytest.mark.parametrize(
    ("text", "pairs", "lines"),
    [("sep=;\nis;en\nSeyði, nei;Broth, no\n", [("Seyði, nei", "Broth, no")], [3]), ("sep=,\r\nis,en\r\na;b,c;d\r\n", [("a;b", "c;d")], [3]),
     ('"sep=;"\nis;en\na,b;c\n', [("a,b", "c")], [3]), ("sep=|\nis|en\na,b|c\n", [("a,b", "c")], [3]), ("sep=\t\nis\ten\na,b\tc\n", [("a,b", "c")], [3]),
     ('"is";"en, of 2024";"a;b"\n', [], []), ('"a, b; c",d\n"e; f; g",h\n', [("a, b; c", "d"), ("e; f; g", "h")], [1, 2]),
     ('"id; nr","is, íslenska (is)"\n"x","y"\n', [("id; nr", "is, íslenska (is)"), ("x", "y")], [1, 2])],
)  # fmt: skip
def test_separators(text: str, pairs: list[tuple[str, str]], lines: list[int]) -> None:
    if not pairs:
        with pytest.raises(CorpusError):
            read("t.csv", text.encode())
        return
    assert read("t.csv", text.encode())[:2] == (pairs, lines)


def test_what_names_no_separator() -> None:
    assert [separator_line(line) for line in ("sep=;", "SEP=;", "sep=", "sep=ab", "separate", "a,sep=;", "sep=;;;")] == [";", ";", None, None, None, None, ";"]


@pytest.mark.parametrize(
    ("cell", "text"),
    [("a_x000D_\nb", "a\nb"), ("a_x000D_b", "a\nb"), ("_x005F_x000D_", "_x000D_"), ("a_x0009_b", "a\tb"), ("_xD83D__xDE00_", "😀"), ("a_x_b", "a_x_b"),
     ("a_xyz_", "a_xyz_"), ("x005F_a", "x005F_a"), ("a_x000B_b", "a b")],
)  # fmt: skip
def test_escapes_of_spreadsheets(cell: str, text: str) -> None:
    assert unescaped(cell) == text


@pytest.mark.parametrize("shared", [True, False])
def test_escapes_are_read_once(shared: bool) -> None:
    """As Excel keeps strings, in a table of their own, and as other programs do, in the cells."""
    cells = ["is", "en", "Lína_x000D_\nlína", "Line_x005F_x000D_ line"]
    out, strings = io.BytesIO(), "".join(f"<si><t>{cell}</t></si>" for cell in cells)
    with zipfile.ZipFile(io.BytesIO(corpora.xlsx([("a", "b")]))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name).decode()
            if name == "[Content_Types].xml":
                kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
                data = data.replace("</Types>", f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>')
            if name == "xl/worksheets/sheet1.xml":
                written = [f'<c t="s"><v>{i}</v></c>' if shared else f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for i, cell in enumerate(cells)]
                rows = f"<row>{''.join(written[:2])}</row><row>{''.join(written[2:])}</row>"
                data = f'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{rows}</sheetData></worksheet>'
            new.writestr(name, data)
        new.writestr("xl/sharedStrings.xml", f'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">{strings}</sst>')
    assert read("t.xlsx", out.getvalue())[0] == [("Lína lína", "Line_x000D_ line")]
