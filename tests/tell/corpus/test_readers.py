"""Every format that `corpus build` reads: the same pairs come out of all of them, and what is no pair is counted."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tell.corpus.readers.dispatch import groups, read_group
from tell.corpus.readers.segment import ReadOptions
from tell.errors import CorpusError
from tell.languages import parse_pair
from tests.conftest import Ran
from tests.support import corpora
from tests.tell.corpus import fuzz_readers

CLI = Callable[..., Ran]
ROWS = corpora.pairs(40)
SAME = ("--pair", "is-en", "--off", "near-duplicate", "--dev", 0, "--test", 0, "-o", "c", "--json")


def kept(side: str = "") -> list[Any]:
    rows = [json.loads(line) for line in Path("c/pairs.jsonl").read_text(encoding="utf-8").split("\n") if line]
    return [r[side] for r in rows] if side else [(r["source"], r["target"]) for r in rows]


def dropped() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("c/dropped.jsonl").read_text(encoding="utf-8").split("\n") if line]


UTF16 = ("\n".join(f"{a}\t{b}" for a, b in ROWS) + "\n").encode("utf-16")
FORMATS: dict[str, tuple[dict[str, bytes], list[str]]] = {
    "TMX": ({"m.tmx": corpora.tmx(ROWS)}, ["m.tmx"]),
    "TMX of regions": ({"m.tmx": corpora.tmx(ROWS, ("is-IS", "en_GB"))}, ["m.tmx"]),
    "TMX with a document type": ({"m.tmx": corpora.tmx(ROWS, head='<!DOCTYPE tmx SYSTEM "tmx14.dtd">')}, ["m.tmx"]),
    "TMX in UTF-16": ({"m.tmx": corpora.tmx(ROWS).decode().replace("UTF-8", "UTF-16").encode("utf-16")}, ["m.tmx"]),
    "TMX in gzip": ({"m.tmx.gz": gzip.compress(corpora.tmx(ROWS))}, ["m.tmx.gz"]),
    "XLIFF 1.2": ({"m.xlf": corpora.xliff(ROWS)}, ["m.xlf"]),
    "XLIFF the other way": ({"m.sdlxliff": corpora.xliff([(b, a) for a, b in ROWS], "en", "is")}, ["m.sdlxliff"]),
    "XLIFF 2": ({"m.xliff": corpora.xliff2(ROWS)}, ["m.xliff"]),
    "PO": ({"is.po": corpora.po(ROWS)}, ["is.po"]),
    "PO in Latin-1": ({"is.po": corpora.po(ROWS, "is_IS", "iso-8859-1")}, ["is.po"]),
    "MO": ({"is.mo": corpora.mo(sorted(ROWS, key=lambda r: r[1]))}, ["is.mo"]),
    "CSV": ({"t.csv": corpora.table(ROWS, ",", "is", "en").replace(b"\n", b"\r\n")}, ["t.csv"]),
    "CSV of semicolons": ({"t.csv": corpora.table(ROWS, ";", "Icelandic", "English")}, ["t.csv"]),
    "TSV of other names": ({"t.tsv": corpora.table(ROWS, "\t", "Frumtexti", "Þýðing")}, ["t.tsv", "--source-column", "frumtexti", "--target-column", "Þýðing"]),
    "TSV in UTF-16": ({"t.tsv": UTF16}, ["t.tsv"]),
    "TSV in UTF-16 without a mark": ({"t.tsv": UTF16[2:]}, ["t.tsv"]),
    "TSV in Windows-1252, found out": ({"t.tsv": corpora.table(ROWS, "\t").decode().encode("cp1252")}, ["t.tsv"]),
    "TSV in DOS letters, named": ({"t.tsv": corpora.table(ROWS, "\t").decode().encode("cp861")}, ["t.tsv", "--encoding", "cp861"]),
    "TSV of an old Mac": ({"t.tsv": corpora.table(ROWS, "\t").replace(b"\n", b"\r")}, ["t.tsv"]),
    "XLSX": ({"t.xlsx": corpora.xlsx([*ROWS], (), ("is", "en"))}, ["t.xlsx"]),
    "XLSX of full names": ({"t.xlsx": corpora.xlsx([(i, b, a) for i, (a, b) in enumerate(ROWS)], ("number", "Enska", "íslenska"))},
        ["t.xlsx", "--target-column", "Enska", "--source-column", "íslenska"]),
    "JSONL by codes": ({"r.jsonl": "".join(json.dumps({"en": b, "is": a}) + "\n" for a, b in ROWS).encode()}, ["r.jsonl"]),
    "JSONL of a hub": ({"r.jsonl": "".join(json.dumps({"translation": {"is": a, "en": b}}) + "\n" for a, b in ROWS).encode()}, ["r.jsonl"]),
    "texts in bzip2 and xz": (
        {"a.is.bz2": bz2.compress("".join(a + "\n" for a, _ in ROWS).encode()), "a.en.xz": lzma.compress("".join(b + "\n" for _, b in ROWS).encode())},
        ["a.is.bz2", "a.en.xz"],
    ),
    "swapped, and turned": ({"t.tsv": corpora.table([(b, a) for a, b in ROWS], "\t")}, ["t.tsv", "--swap", "t.tsv"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_pairs_come_out_of_every_format(here: CLI, name: str) -> None:
    files, args = FORMATS[name]
    for path, data in files.items():
        Path(path).write_bytes(data)
    done = here("corpus", "build", *args, *SAME).json
    assert (done["read"] - done["dropped"].get("blank line", 0), done["kept"]) == (40, 40), done["dropped"]
    assert sorted(kept()) == sorted(ROWS)
    assert not list(Path().glob(".c.*"))
    if "found out" in name or "without a mark" in name:
        assert "detected" in done["sources"][0]["encoding"] and "read as" in " ".join(done["notes"])


@pytest.mark.parametrize(
    ("names", "args"),
    [
        (("d/is/{}.txt", "d/en/{}.txt"), ["d"]),
        (("d/{}.is.txt", "d/{}.en.txt"), ["d"]),
        (("one/{}.txt", "two/{}.txt"), ["one", "two"]),
        (("d/{}.is", "d/{}.en"), ["d"]),
    ],
)
def test_directories_of_documents(here: CLI, names: tuple[str, str], args: list[str]) -> None:
    corpora.directories(Path(), ROWS, names)
    Path(args[0], "alone.txt").write_text("x\n")
    done = here("corpus", "build", *args, *SAME).json
    assert (done["kept"], done["documents"], len({*kept("doc")})) == (40, ["files"], 8)
    assert sorted(kept()) == sorted(ROWS) and "alone.txt" in done["notes"][0]


def test_a_directory_of_memories_is_read_file_by_file(here: CLI) -> None:
    Path("d/x").mkdir(parents=True)
    Path("d/m.tmx").write_bytes(corpora.tmx(ROWS[:20]))
    Path("d/x/is.po").write_bytes(corpora.po(ROWS[20:]))
    done = here("corpus", "build", "d", *SAME).json
    assert sorted(kept()) == sorted(ROWS) and [s["kind"] for s in done["sources"]] == ["tmx", "po"]


def test_units_that_are_no_pairs_are_counted(here: CLI) -> None:
    extra = '<tu><tuv xml:lang="is"><seg>Aðeins íslenska</seg></tuv></tu><tu><tuv xml:lang="de"><seg>x</seg></tuv></tu><tu><tuv><seg>x</seg></tuv></tu>'
    inline = (
        '<tu><prop type="x-document">doc7</prop><tuv xml:lang="is"><seg>Smelltu <bpt i="1">&lt;b&gt;</bpt>hér'
        '<ept i="1">&lt;/b&gt;</ept><ph/>núna strax</seg></tuv>'
        '<tuv xml:lang="en"><seg>Click <hi>here</hi><ph x="2">{0}</ph>right <!-- no -->now</seg></tuv></tu>'
    )
    Path("m.tmx").write_bytes(corpora.tmx(ROWS).replace(b"</body>", (extra + inline + "</body>").encode()))
    done = here("corpus", "build", "m.tmx", *SAME).json
    assert (done["read"], done["kept"]) == (44, 41)
    assert done["dropped"] == {"a unit without languages": 1, "neither is nor en in the unit": 1, "no en in the unit": 1}
    assert ("Smelltu hér núna strax", "Click here right now") in kept() and "doc7" in kept("doc")


def test_catalogues(here: CLI) -> None:
    more = """
msgid "%d file was found in the folder"
msgid_plural "%d files were found in the folder"
msgstr[0] "%d skrá fannst í möppunni hér"
msgstr[1] "%d skrár fundust í möppunni hér"

#, fuzzy
msgid "Maybe this is right"
msgstr "Kannski er þetta rétt"

msgid "Nobody has translated this"
msgstr ""

msgid ""
"First line of the help\\n"
"Second line of the help\\n"
msgstr ""
"Fyrsta lína hjálparinnar\\n"
"Önnur lína hjálparinnar\\n"

#~ msgid "An old message"
#~ msgstr "Gömul skilaboð"
"""
    Path("is.po").write_bytes(corpora.po(ROWS) + more.encode())
    done = here("corpus", "build", "is.po", *SAME).json
    assert (done["read"], done["kept"], done["dropped"]) == (47, 44, {"fuzzy": 1, "not translated": 1, "obsolete": 1})
    assert {("%d skrár fundust í möppunni hér", "%d files were found in the folder"), ("Önnur lína hjálparinnar", "Second line of the help")} <= set(kept())


def test_a_memory_of_three_languages(here: CLI) -> None:
    Path("m.tmx").write_bytes(corpora.tmx(ROWS, more='<tuv xml:lang="de"><seg>Deutsch</seg></tuv>'))
    done = here("corpus", "build", "m.tmx", *SAME).json
    assert done["kept"] == 40 and done["sources"][0]["languages"] == {"is": 40, "en": 40, "de": 40}
    assert "de (40)" in done["notes"][0] and "read: is and en" in done["notes"][0]


def test_what_a_translator_filled_in_comes_back(here: CLI) -> None:
    import openpyxl

    Path("mono.txt").write_text("".join(a + "\n" for a, _ in ROWS) + "=1+1 er tveir alls staðar\n", encoding="utf-8")
    english = {**dict(ROWS), "=1+1 er tveir alls staðar": "=1+1 is two everywhere"}
    here("select", "--text", "mono.txt", "--pair", "is-en", "--method", "random", "-k", 41, "-o", "s")
    book = openpyxl.load_workbook("s/selected.xlsx")
    cells = list(book.active.iter_rows())
    assert [c.value for c in cells[0]] == ["number", "is", "en"]
    for row in cells[1:31]:
        assert row[1].data_type == "s"
        row[2].value, row[2].data_type = english[row[1].value], "s"
    book.save("done.xlsx")
    done = here("corpus", "build", "done.xlsx", *SAME).json
    assert (done["read"], done["kept"], done["dropped"]) == (41, 30, {"empty target": 11})
    units = Path("s/selected.xlf").read_text(encoding="utf-8").split("</source>")
    text = units[0] + "".join(
        f"</source>{f'<target>{english[before.rpartition(chr(62))[2]]}</target>' if i < 25 else ''}{after}"
        for i, (before, after) in enumerate(itertools.pairwise(units))
    )
    Path("done.xlf").write_text(text, encoding="utf-8")
    done = here("corpus", "build", "done.xlf", *SAME[:-1], "--force", "--new-split", "--json").json
    assert (done["read"], done["kept"], done["dropped"]) == (41, 25, {"not translated": 16})
    assert set(kept()) <= set(english.items())
    again = here("select", "--text", "mono.txt", "--pair", "is-en", "--method", "random", "-k", 41, "-o", "t", "--json").json
    assert again["files"] == json.loads(Path("s/select.json").read_text())["files"]


# --- bad input: one clear message with the file, the place, what was found and what is valid


def _bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(corpora.xlsx([*ROWS]))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]>' + data.partition(b"?>")[2] if "sheet1" in name else data)
    return out.getvalue()


ENTITIES = corpora.tmx(ROWS, head='<!DOCTYPE tmx [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>')
OUTSIDE = corpora.tmx(ROWS, head='<!DOCTYPE tmx [<!ENTITY e SYSTEM "file:///etc/passwd">]>')
MO = corpora.mo(ROWS)
BAD: dict[str, tuple[dict[str, bytes], list[str], list[str]]] = {
    "a TMX without languages": ({"m.tmx": corpora.tmx(ROWS).replace(b"xml:lang", b"x")}, ["m.tmx"], ["m.tmx, line 1", "without xml:lang", 'xml:lang="CODE"']),
    "a TMX of other languages": ({"m.tmx": corpora.tmx(ROWS, ("de", "fr"))}, ["m.tmx"], ["m.tmx: no unit has both", "de (40), fr (40)", "is and en"]),
    "a TMX without units": ({"m.tmx": b"<tmx/>"}, ["m.tmx"], ["m.tmx: no translation units"]),
    "a TMX cut short": ({"m.tmx": corpora.tmx(ROWS)[:-400]}, ["m.tmx"], ["m.tmx, line 1", "not well-formed"]),
    "a TMX in gzip cut short": ({"m.tmx.gz": gzip.compress(corpora.tmx(ROWS))[:-40]}, ["m.tmx.gz"], ["m.tmx.gz: the gzip data is damaged or cut short"]),
    "texts in bzip2 cut short": ({"a.bz2": bz2.compress(b"x\n" * 99)[:-9], "b": b"y\n" * 99}, ["a.bz2", "b"],
        ["a.bz2: the bzip2 data is damaged or cut short"]),
    "an xz that is none": ({"a.xz": b"no", "b": b"y\n"}, ["a.xz", "b"], ["a.xz: the xz data is damaged or cut short"]),
    "a bomb": ({"m.tmx": ENTITIES}, ["m.tmx"], ["m.tmx: the XML defines entities", "a, b"]),
    "an external entity": ({"m.tmx": OUTSIDE}, ["m.tmx"], ["defines entities", "found e"]),
    "a bomb in a spreadsheet": ({"t.xlsx": _bomb()}, ["t.xlsx"], ["t.xlsx, xl/worksheets/sheet1.xml", "defines entities"]),
    "an XLIFF of other languages": ({"m.xlf": corpora.xliff(ROWS, "de", "fr")}, ["m.xlf"], ["of other languages", "de-fr (40)", "is and en"]),
    "an XLIFF without languages": ({"m.xlf": corpora.xliff(ROWS, "", "")}, ["m.xlf"], ["does not say what language", "source-language"]),
    "a PO of another language": ({"x.po": corpora.po(ROWS, "de")}, ["x.po"], ["x.po: this catalogue is in another language", "found de", "is or en"]),
    "a PO that is none": ({"x.po": b'msgid "a"\nmsgstr "b"\nmsgstr oops\n'}, ["x.po"], ["x.po, line 3", "not a PO file"]),
    "a MO that is none": ({"x.mo": b"hello"}, ["x.mo"], ["x.mo: this is not a MO file", "68 65 6c 6c"]),
    "a MO cut short": ({"is.mo": MO[:-100]}, ["is.mo"], ["is.mo: this MO file is damaged"]),
    "a column that is not there": ({"t.tsv": corpora.table(ROWS, "\t", "Icelandic", "English")}, ["t.tsv", "--source-column", "Icelnadic"],
        ["t.tsv, line 1, --source-column: no such column", "found Icelnadic", "Icelandic (did you mean this?)"]),
    "half of the columns": ({"t.tsv": corpora.table(ROWS, "\t", "a", "b")}, ["t.tsv", "--source-column", "a"],
        ["both sides must be known", "--target-column NAME"]),
    "a sheet that is not there": ({"t.xlsx": corpora.xlsx([*ROWS])}, ["t.xlsx", "--sheet", "Shet"],
        ["no such sheet", "found Shet", "Sheet (did you mean this?)"]),
    "an empty sheet": ({"t.xlsx": corpora.xlsx([])}, ["t.xlsx"], ["t.xlsx: the sheet is empty"]),
    "a spreadsheet that is none": ({"t.xlsx": b"PK\x03\x04 no"}, ["t.xlsx"], ["t.xlsx: this is not an .xlsx file", "without a password"]),
    "an old spreadsheet": ({"t.xls": b"x"}, ["t.xls"], ["this format is not read", "found .xls", "save it as .xlsx"]),
    "a quotation mark without end": ({"t.csv": b'is,en\n"' + b"x" * (1 << 25)}, ["t.csv"], ["t.csv, line 2"]),
    "swapped sides": ({"t.tsv": corpora.table([(b, a) for a, b in ROWS], "\t")}, ["t.tsv"],
        ["t.tsv: the sides are swapped", "English where Icelandic should be", "--swap t.tsv", "--off language"]),
    "a swap of something else": ({"t.tsv": corpora.table(ROWS, "\t"), "u": b""}, ["t.tsv", "--swap", "u"], ["--swap: not one of the files", "found u"]),
    "no text": ({"t.tsv": bytes(range(256)) * 8 + b"\0" * 999}, ["t.tsv"], ["t.tsv: this is not text", "NUL bytes"]),
    "damaged UTF-8": ({"t.tsv": corpora.table(ROWS, "\t") + b"\xff\tx\n"}, ["t.tsv"], ["t.tsv, line 41", "not UTF-8", "0xff"]),
    "another encoding than is said": ({"t.tsv": b"\xff\xfe\tx\n"}, ["t.tsv", "--encoding", "ascii"], ["t.tsv, after line 0", "not ascii"]),
    "an unknown encoding": ({"t.tsv": b"x\ty\n"}, ["t.tsv", "--encoding", "windws-1252"],
        ["unknown encoding", "windws-1252", "windows-1252 (did you mean this?)"]),
    "a line without end": ({"t.tsv": b"x" * ((1 << 24) + 9)}, ["t.tsv"], ["t.tsv, line 1: this line has no end"]),
    "an unknown rule": ({"t.tsv": b"x\ty\n"}, ["t.tsv", "--off", "lenght"], ["--off: no such rule", "found lenght"]),
    "a directory of one language": ({"d/a.is.txt": b"x\n", "d/b.is.txt": b"y\n"}, ["d"], ["no two files here are a document and its translation", "a.is.txt"]),
    "three directories": ({"d/a": b"", "e/a": b"", "f/a": b""}, ["d", "e", "f"], ["directories cannot be read together", "d, e, f"]),
    "one language on both sides": ({"t.tsv": corpora.table([(ROWS[i][0], f"{ROWS[i + 20][0]} {ROWS[i + 3][0]}") for i in range(3)], "\t")}, ["t.tsv"],
        ["t.tsv: no pairs left", "3 read: 3 target in another language", "--off language"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_once(here: CLI, name: str) -> None:
    files, args, message = BAD[name]
    for path, data in files.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(data)
    ran = here("corpus", "build", *args, "--pair", "is-en", "-o", "out", ok=False)
    assert ran.code == 2, ran.err
    assert not [part for part in message if part not in ran.err], ran.err
    assert ran.err.count("\n") == 1 and ran.out == "" and not Path("out").exists()
    assert not list(Path().glob(".out*"))


def test_a_line_of_100_000_characters_and_nuls_are_dropped_with_their_place(here: CLI) -> None:
    Path("t.tsv").write_bytes(corpora.table([*ROWS, ("x" * 100_000, "y" * 99_999), ("nul\0 hér", "nul\0 here")], "\t"))
    done = here("corpus", "build", "t.tsv", *SAME).json
    assert done["kept"] == 40
    assert [(d["line"], d["reason"]) for d in dropped()] == [(41, "too long"), (42, "control characters")]


# --- damaged files


@pytest.mark.parametrize("name", fuzz_readers.SEEDS)
def test_damaged_files_are_read_or_told(name: str, tmp_path: Path) -> None:
    data = fuzz_readers.SEEDS[name]()

    @settings(max_examples=25, deadline=None)
    @given(st.integers(min_value=0, max_value=1 << 32))
    def run(seed: int) -> None:
        assert fuzz_readers.once(name, fuzz_readers.damaged(data, random.Random(seed)), tmp_path)

    run()


def test_texts_beside_a_memory_are_read_too(tmp_path: Path) -> None:
    """As the test sets of FLORES lie beside a table of where they are from."""
    sides = ("".join(f"{row[i]}\n" for row in ROWS) for i in (0, 1))
    files = {"d/isl_Latn.dev": next(sides), "d/eng_Latn.dev": next(sides), "README": "Texts.\n", "m.tmx": corpora.tmx([("Já, takk.", "Yes, please.")]).decode()}
    for name, text in files.items():
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).write_text(text, encoding="utf-8")
    want = ReadOptions(parse_pair("is-en"))

    def segments() -> list[tuple[str, str]]:
        return [(s.source, s.target) for g in groups((tmp_path / "f",)) for s in read_group(g, want, g.reading())]

    assert segments() == [("Já, takk.", "Yes, please."), *ROWS]
    (tmp_path / "f/d/isl_Latn.dev").unlink()
    assert segments() == [("Já, takk.", "Yes, please.")]


def test_what_a_reader_leaves_out_it_says(tmp_path: Path) -> None:
    path = tmp_path / "m.tmx"
    path.write_bytes(corpora.tmx(ROWS[:3], more='<tuv xml:lang="en"><seg>Another one</seg></tuv><tuv xml:lang="is-IS"><seg>Eins</seg></tuv>'))
    (group,) = groups((path,))
    reading = group.reading()
    assert [(s.source, s.target) for s in read_group(group, ReadOptions(parse_pair("is-en")), reading)] == ROWS[:3]
    assert reading.notes == ["3 units have more than one text in a language: the first of each is read", *reading.notes[1:]]
    records = tmp_path / "r.jsonl"
    records.write_text('{"id": 1, "sentence_isl_Latn": "já", "sentence_eng_Latn": "yes"}\n' * 3, encoding="utf-8")
    (group,) = groups((records,))
    with pytest.raises(CorpusError, match=r"no record has both sides; found id, sentence_isl_Latn, sentence_eng_Latn; valid: source and target, is and en"):
        list(read_group(group, ReadOptions(parse_pair("is-en")), group.reading()))
