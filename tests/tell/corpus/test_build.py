"""`tellmt corpus build`: what is read, and what becomes of real data."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, SHARED, Ran
from tests.support.parallel_files import check, docs_of, rows, sentence, texts, tsv, write

CLI = Callable[..., Ran]
PAPER = (
    "This text is in {} and needs to be translated into {}. Please translate only the text, strictly maintaining the original content "
    "order without making any other changes.\n\n "
)
OPENING = "Sure, here is the {} translation: \n\n "


@pytest.fixture
def cli(here: CLI) -> CLI:
    return here


def test_line_aligned_text_without_documents_is_taken_in_blocks_of_ten(cli: CLI) -> None:
    a, b = texts(95)
    done = cli("corpus", "build", a, b, "--pair", "is-en", "-o", "c", "--json").json
    assert (done["pair"], done["read"], done["kept"], done["documents"]) == ("is-en", 95, 95, ["blocks of 10 lines"])
    assert done["splits"]["dev"]["pairs"] >= 9 and done["splits"]["test"]["pairs"] >= 9
    assert sum(s["docs"] for s in done["splits"].values()) == 10
    assert [s["lines"] for s in done["sources"]] == [95, 95]
    check(Path("c"))
    first = rows(Path("c/pairs.jsonl"))[0]
    assert (first["source"], first["target"], first["line"], first["origin"], first["doc"]) == (sentence(0, "is"), sentence(0, "en"), 1, "a0.is", "block-00001")


def test_document_ids_keep_documents_together(cli: CLI) -> None:
    a, b = texts(30)
    ids = write("ids", *(f"doc{i // 3}" for i in range(30)))
    done = cli("corpus", "build", a, b, "--pair", "is-en", "--docs", ids, "--dev", 4, "--test", 1, "-o", "c", "--json").json
    assert done["splits"] == {"dev": {"docs": 2, "pairs": 6}, "test": {"docs": 1, "pairs": 3}, "train": {"docs": 7, "pairs": 21}}
    check(Path("c"))


def test_blank_lines_part_documents_and_are_counted(cli: CLI) -> None:
    lines = {"is": [], "en": []}  # type: dict[str, list[str]]
    for i in range(20):
        for language, out in lines.items():
            out += [sentence(i, language), *([""] if i % 4 == 3 else [])]
    a, b = write("a.is", *lines["is"]), write("a.en", *lines["en"])
    done = cli("corpus", "build", a, b, "--pair", "is-en", "--dev", 1, "--test", 1, "-o", "c", "--json").json
    assert (done["read"], done["kept"], done["dropped"], done["documents"]) == (25, 20, {"blank line": 5}, ["blank lines"])
    assert done["splits"]["train"] == {"docs": 3, "pairs": 12}
    check(Path("c"))


def test_a_stray_blank_line_does_not_make_one_great_document(cli: CLI) -> None:
    a = write("a.is", *(sentence(i, "is") for i in range(40)), "")
    b = write("a.en", *(sentence(i, "en") for i in range(40)), "")
    done = cli("corpus", "build", a, b, "--pair", "is-en", "-o", "c", "--json").json
    assert done["documents"] == ["blocks of 10 lines"] and done["dropped"] == {"blank line": 1}


@pytest.mark.parametrize("direction", ["is-en", "en-is"])
def test_a_tsv_header_serves_both_directions(cli: CLI, direction: str) -> None:
    cli("corpus", "build", tsv("d.tsv", 40), "--pair", direction, "-o", "c")
    first = rows(Path("c/pairs.jsonl"))[0]
    languages = direction.split("-")
    assert (first["source"], first["target"]) == tuple(sentence(0, x) for x in languages)
    assert (first["line"], first["doc"]) == (2, "d000")
    check(Path("c"))


def test_both_directions_freeze_the_same_documents(cli: CLI) -> None:
    path = tsv("d.tsv", 100)
    for pair in ("is-en", "en-is"):
        cli("corpus", "build", path, "--pair", pair, "-o", pair)
    assert docs_of(Path("is-en")) == docs_of(Path("en-is"))


@pytest.mark.parametrize(
    ("args", "cells", "expected"),
    [
        ((), "{is}\t{en}\tattribution", "is-en"),
        (("--columns", "en,is"), "{en}\t{is}\tattribution", "is-en"),
        (("--columns", "note,en,is"), "x\t{en}\t{is}", "is-en"),
        (("--columns", "doc,is,en"), "d{doc}\t{is}\t{en}", "is-en"),
    ],
)
def test_a_tsv_without_a_header(cli: CLI, args: tuple[str, ...], cells: str, expected: str) -> None:
    path = write("t.tsv", *(cells.format(**{"is": sentence(i, "is"), "en": sentence(i, "en"), "doc": i // 10}) for i in range(40)))
    done = cli("corpus", "build", path, "--pair", expected, *args, "-o", "c", "--json").json
    assert done["kept"] == done["read"] == 40
    assert done["documents"] == (["document column"] if "doc" in "".join(args) else ["blocks of 10 lines"])
    first = rows(Path("c/pairs.jsonl"))[0]
    assert (first["source"], first["target"]) == (sentence(0, "is"), sentence(0, "en"))


def test_a_first_pair_that_looks_like_codes_is_a_pair(cli: CLI) -> None:
    # "no" and "hi" are language codes, and words.
    path = write("t.tsv", "Hi\tNo", *(f"{sentence(i, 'is')}\t{sentence(i, 'en')}" for i in range(30)))
    done = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json").json
    assert done["kept"] == 31


def test_several_files_of_both_kinds(cli: CLI) -> None:
    one, two = tsv("one.tsv", 40), write("two.jsonl", *(json.dumps({"source": sentence(i, "is"), "target": sentence(i, "en")}) for i in range(40, 80)))
    done = cli("corpus", "build", one, two, "--pair", "is-en", "-o", "c", "--json").json
    assert (done["kept"], [s["lines"] for s in done["sources"]]) == (80, [41, 40])
    assert {r["doc"].split("/")[0] for r in rows(Path("c/pairs.jsonl"))} == {"one.tsv", "two.jsonl"}
    check(Path("c"))


def test_two_files_of_one_name_keep_their_documents_apart(cli: CLI) -> None:
    for d in ("x", "y"):
        Path(d).mkdir()
    done = cli("corpus", "build", tsv("x/d.tsv", 20), tsv("y/d.tsv", 20, start=20), "--pair", "is-en", "-o", "c", "--json").json
    assert done["kept"] == 40
    assert {r["origin"] for r in rows(Path("c/pairs.jsonl"))} == {"d.tsv", "y/d.tsv"}
    check(Path("c"))


def test_jsonl_documents_split_at_line_feeds_alone(cli: CLI) -> None:
    joined = "a\u2028b c\u0085d"
    source, target = f"{{}}\n{joined} {{}}", "{}\n{}"
    records = [
        {"source": source.format(sentence(i, "is"), sentence(i + 500, "is")), "target": target.format(sentence(i, "en"), sentence(i + 500, "en"))}
        for i in range(12)
    ]
    records.append({"source": "ein lína\ntvær línur\nþrjár línur", "target": "one line\ntwo lines"})
    records.append({"source": "no target"})
    path = write("d.jsonl", *map(json.dumps, records))
    done = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json").json
    assert (done["read"], done["kept"], done["documents"]) == (28, 24, ["records"])
    assert done["dropped"] == {"no source and target": 1, "unequal lines in document": 3}
    assert done["sources"][0]["lines"] == 14
    assert joined in rows(Path("c/pairs.jsonl"))[1]["source"]
    check(Path("c"))


@pytest.mark.parametrize("pair", ["is-en", "en-is"])
def test_the_anchor_of_the_authors_data_is_taken_off_and_tells_the_direction(cli: CLI, pair: str) -> None:
    names = {"is": "Icelandic", "en": "English"}
    records = []
    for i in range(12):
        sides = {x: f"{sentence(i, x)}\n{sentence(i + 100, x)}" for x in names}
        records.append({"query": PAPER.format("Icelandic", "English") + sides["is"], "response": OPENING.format("English") + sides["en"]})
    path = write("paper.jsonl", *map(json.dumps, records))
    cli("corpus", "build", path, "--pair", pair, "-o", "c")
    source, target = pair.split("-")
    first = rows(Path("c/pairs.jsonl"))[0]
    assert (first["source"], first["target"]) == (sentence(0, source), sentence(0, target))


def test_gzip_crlf_and_bom_are_looked_through(cli: CLI) -> None:
    a, b = texts(30)
    Path("a.is.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + a.read_bytes().replace(b"\n", b"\r\n")))
    done = cli("corpus", "build", "a.is.gz", b, "--pair", "is-en", "-o", "c", "--json").json
    assert done["kept"] == 30
    assert rows(Path("c/pairs.jsonl"))[0]["source"] == sentence(0, "is")


def test_a_file_name_that_is_not_utf8(cli: CLI) -> None:
    a, b = texts(30)
    name = os.fsdecode(b"\xe9\xe8.is")
    try:
        a.rename(name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    cli("corpus", "build", name, b, "--pair", "is-en", "-o", "c")
    assert rows(Path("c/pairs.jsonl"))[0]["origin"] == "\\udce9\\udce8.is"


def test_the_shipped_examples(cli: CLI, tmp_path: Path) -> None:
    files = sorted((ROOT / "examples" / "en-is").glob("*.tsv"))
    done = cli("corpus", "build", *files, "--pair", "is-en", "-o", tmp_path / "c", "--json").json
    lines = sum(len(f.read_text(encoding="utf-8").split("\n")) - 2 for f in files)
    assert done["read"] == lines >= 500
    assert done["kept"] >= 0.99 * lines and done["splits"]["dev"]["pairs"] >= 50
    check(tmp_path / "c")


REAL = {
    # name: (arguments under ../shared/data, read, kept, dropped)
    "paper": (["en-is/tell-paper/dev-is-en.jsonl"], 1004, 1002, {"in newstest2021.is-en.src.is": 2}),
    "tatoeba": (["en-is/tatoeba/tatoeba.en-is.tsv", "--columns", "en,is"], 6558, 6524, {"in dev": 18, "in test": 12, "near-duplicate": 4}),
    "flores": (["en-is/flores/flores.is-en.is", "en-is/flores/flores.is-en.en"], 2009, 2009, {}),
    "ntrex": (
        ["ntrex/ntrex.isl.txt", "ntrex/ntrex.eng.txt", "--docs", "ntrex/DOCUMENT_IDS.tsv"],
        1997,
        1992,
        {"identical sides": 1, "in dev": 1, "near-duplicate": 3},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_data(cli: CLI, name: str) -> None:
    if not SHARED.exists():
        pytest.skip("the real data is not beside this checkout")
    args, read, kept, dropped = REAL[name]
    news = SHARED / "en-is" / "newstest2021"
    against = [x for f in sorted(news.glob("newstest2021.*")) for x in ("--against", f)]
    paths = [SHARED / a if (SHARED / a).is_file() else a for a in args]
    done = cli("corpus", "build", *paths, "--pair", "is-en", *against, "-o", "c", "--json").json
    assert (done["read"], done["kept"], done["dropped"]) == (read, kept, dropped)
    assert [a["texts"] for a in done["against"]] == [1000] * 4
    check(Path("c"))


def test_the_test_set_itself_leaves_nothing(cli: CLI) -> None:
    if not SHARED.exists():
        pytest.skip("the real data is not beside this checkout")
    news = SHARED / "en-is" / "newstest2021"
    sides = [news / "newstest2021.is-en.src.is", news / "newstest2021.is-en.ref.A.en"]
    ran = cli("corpus", "build", *sides, "--pair", "is-en", "--against", sides[0], "-o", "c", ok=False)
    assert ran.code == 2 and "no pairs left" in ran.err and "1000 read" in ran.err
