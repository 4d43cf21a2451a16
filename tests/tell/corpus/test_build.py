"""`tellmt corpus build`: what is read, what is dropped and why, what is frozen, and what each bad input is told."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tell.text.normalise import fault, normalised
from tests.conftest import ROOT, SHARED, Ran

CLI = Callable[..., Ran]
PAPER = (
    "This text is in {} and needs to be translated into {}. Please translate only the text, strictly maintaining the original content "
    "order without making any other changes.\n\n "
)
OPENING = "Sure, here is the {} translation: \n\n "


@pytest.fixture
def cli(here: CLI) -> CLI:
    return here


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write(path: str, *lines: str) -> Path:
    out = Path(path)
    out.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass"))
    return out


def sentence(i: int, language: str) -> str:
    """A sentence that differs from every other in its letters."""
    words = {"is": "Þetta er setning númer", "en": "This is sentence number"}[language]
    return f"{words} " + "".join(chr(ord("a") + int(d)) for d in f"{i:05}")


def texts(n: int, start: int = 0) -> tuple[Path, Path]:
    return (
        write(f"a{start}.is", *(sentence(i, "is") for i in range(start, start + n))),
        write(f"a{start}.en", *(sentence(i, "en") for i in range(start, start + n))),
    )


def tsv(path: str, n: int, per_doc: int = 10, start: int = 0) -> Path:
    return write(path, "document\ten\tis", *(f"d{i // per_doc:03}\t{sentence(i, 'en')}\t{sentence(i, 'is')}" for i in range(start, start + n)))


def docs_of(corpus: Path) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
    for r in rows(corpus / "pairs.jsonl"):
        out[r["split"]].add(r["doc"])
    return out


def check(corpus: Path) -> dict[str, Any]:
    """Everything that holds for every corpus: counts agree with the files, and splits share no document and no sentence."""
    report: dict[str, Any] = json.loads((corpus / "corpus.json").read_text())
    pairs, dropped = rows(corpus / "pairs.jsonl"), rows(corpus / "dropped.jsonl")
    assert report["kept"] == len(pairs) == sum(s["pairs"] for s in report["splits"].values())
    assert report["kept"] + len(dropped) == report["read"]
    assert report["dropped"] == {r: sum(d["reason"] == r for d in dropped) for r in {d["reason"] for d in dropped}}
    docs = docs_of(corpus)
    assert not docs["train"] & (docs["dev"] | docs["test"]) and not docs["dev"] & docs["test"]
    for side in ("source", "target"):
        held = {normalised(p[side]) for p in pairs if p["split"] != "train"} - {""}
        assert not held & {normalised(p[side]) for p in pairs if p["split"] == "train"}
    assert len({(p["doc"], p["line"]) for p in pairs}) == len(pairs)
    assert all(set(d) == {"origin", "line", "reason", "source", "target"} for d in dropped)
    return report


# --- what is read


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


# --- what is dropped


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("Halló.", "Hello.", None),
        ("", "Hello.", "empty source"),
        ("Halló.", "", "empty target"),
        ("a\x00b", "ab", "control characters"),
        ("a\x1bb", "ab", "control characters"),
        ("a\tb", "ab", None),
        ("a\u0085b\u2028c", "abc", None),
        ("\ud83d", "smile", "invalid characters"),
        ("x" * 2000, "y" * 2000, None),
        ("x" * 2001, "y" * 2000, "too long"),
        ("Reykjavík", "Reykjavík", "identical sides"),
        ("12:30", "12:30", None),
        ("a" * 20, "bc", None),
        ("a" * 25, "bcdef", None),
        ("a" * 26, "bcdef", "length ratio"),
        ("abcd", "e" * 21, "length ratio"),
    ],
)
def test_why_a_pair_is_dropped(source: str, target: str, reason: str | None) -> None:
    assert fault(source, target) == reason


def test_every_dropped_line_has_its_place_and_reason(cli: CLI) -> None:
    good = [f"{sentence(i, 'is')}\t{sentence(i, 'en')}" for i in range(40)]
    bad = [
        "only one column",
        "\tno source",
        "no target\t",
        "sama\tsama",
        "nul\x00\tnul",
        good[0],
        "x" * 2001 + "\ty",
        "\t",
        "  " + good[1].replace("\t", " \t ") + " ",
        "stutt\t" + "a very long translation of one word, many times over",
    ]
    path = write("t.tsv", *good, *bad)
    # No dev or test, so that no reason depends on the draw.
    done = cli("corpus", "build", path, "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "c", "--json").json
    assert (done["read"], done["kept"]) == (50, 40)
    assert [(r["line"], r["reason"]) for r in rows(Path("c/dropped.jsonl"))] == [
        (41, "too few columns"),
        (42, "empty source"),
        (43, "empty target"),
        (44, "identical sides"),
        (45, "control characters"),
        (46, "duplicate pair"),
        (47, "too long"),
        (48, "blank line"),
        (49, "duplicate pair"),
        (50, "length ratio"),
    ]
    assert rows(Path("c/dropped.jsonl"))[0] == {"origin": "t.tsv", "line": 41, "reason": "too few columns", "source": "only one column", "target": ""}
    check(Path("c"))


def test_text_is_kept_in_nfc(cli: CLI) -> None:
    a = write("a.is", "Kaffi\u0301 og te\u0301 ", *(sentence(i, "is") for i in range(30)))
    b = write("a.en", "Coffee and tea", *(sentence(i, "en") for i in range(30)))
    cli("corpus", "build", a, b, "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "c")
    assert rows(Path("c/pairs.jsonl"))[0]["source"] == "Kaffí og té"


def test_half_a_character_is_dropped_and_still_reported(cli: CLI) -> None:
    good = [json.dumps({"source": sentence(i, "is"), "target": sentence(i, "en")}) for i in range(30)]
    path = write("d.jsonl", *good, '{"source": "\\ud83d", "target": "x", "doc": "\\ud83d"}')
    done = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json").json
    assert done["dropped"] == {"invalid characters": 1}
    assert rows(Path("c/dropped.jsonl"))[0]["source"] == "\\ud83d"


def test_training_never_repeats_dev_or_test(cli: CLI) -> None:
    # Every document holds one sentence of every other, with other case and punctuation.
    path = tsv("d.tsv", 60)
    shared = [f"d{i:03}\t{sentence(900, 'en').upper()}{'!' * i}\t{sentence(900 + i, 'is')}" for i in range(6)]
    path.write_text(path.read_text() + "".join(x + "\n" for x in shared))
    done = cli("corpus", "build", path, "--pair", "is-en", "--dev", 1, "--test", 1, "-o", "c", "--json").json
    assert done["read"] == 66
    assert sum(done["dropped"].get(r, 0) for r in ("in dev", "in test")) == 4
    check(Path("c"))


def test_of_two_equal_pairs_the_one_outside_training_stays(cli: CLI) -> None:
    once = tsv("d.tsv", 60)
    cli("corpus", "build", once, "--pair", "is-en", "--dev", 10, "--test", 10, "-o", "one")
    dev = next(iter(docs_of(Path("one"))["dev"]))
    # The first line of the file now repeats the first line of the dev document, under a training document's name.
    train = next(iter(sorted(docs_of(Path("one"))["train"])))
    lines = once.read_text().split("\n")
    repeated = next(x for x in lines if x.startswith(dev)).replace(dev, train)
    once.write_text("\n".join([lines[0], repeated, *lines[1:]]))
    cli("corpus", "build", once, "--pair", "is-en", "--dev", 10, "--test", 10, "-o", "two")
    assert [(d["line"], d["reason"]) for d in rows(Path("two/dropped.jsonl"))] == [(2, "duplicate pair")]
    kept = {s: [p["source"] for p in rows(Path("two/pairs.jsonl")) if p["split"] == s] for s in ("dev", "test")}
    assert kept == {s: [p["source"] for p in rows(Path("one/pairs.jsonl")) if p["split"] == s] for s in ("dev", "test")}


@pytest.mark.parametrize("form", ["text", "tsv", "jsonl"])
def test_against_a_test_set(cli: CLI, form: str) -> None:
    lines = [sentence(3, "is").upper(), f"«{sentence(5, 'en')}»"]
    if form == "text":
        path = write("news.txt", *lines)
    elif form == "tsv":
        path = write("news.tsv", "\t".join(lines))
    else:
        path = write("news.jsonl", json.dumps({"source": lines[0], "target": lines[1]}))
    a, b = texts(40)
    done = cli("corpus", "build", a, b, "--pair", "is-en", "--against", path, "-o", "c", "--json").json
    assert done["dropped"] == {f"in {path.name}": 2}
    assert [d["line"] for d in rows(Path("c/dropped.jsonl"))] == [4, 6]
    assert done["against"][0]["texts"] == 2
    check(Path("c"))


@settings(max_examples=300, deadline=None)
@given(st.text(), st.text())
@example("\u0334 \u0339", "")
@example("\u0339 \u0334", "")
def test_normalising(a: str, b: str) -> None:
    once = normalised(a)
    assert all(c.isalpha() or not c.isascii() for c in once)
    assert normalised(once) == once
    assert normalised(f" {a}1, ") == once
    assert fault(a, b) is None or isinstance(fault(a, b), str)


@pytest.mark.parametrize(("a", "b"), [("Straße", "STRASSE"), ("é", "e\u0301"), ("Don't!", "dont"), ("हिन्दी।", "हिन्दी")])
def test_the_same_sentence_written_otherwise(a: str, b: str) -> None:
    assert normalised(a) == normalised(b)


def test_vowel_signs_are_letters() -> None:
    assert normalised("की") != normalised("का")


# --- what is frozen


def test_the_split_stays_when_data_is_added(cli: CLI) -> None:
    one = tsv("one.tsv", 200)
    cli("corpus", "build", one, "--pair", "is-en", "-o", "c")
    before = docs_of(Path("c"))
    old = {s: [p["source"] for p in rows(Path("c/pairs.jsonl")) if p["split"] == s] for s in ("dev", "test")}
    # A second file, before the first, and more documents in the first.
    zero = tsv("zero.tsv", 100, start=300)
    one.write_text(one.read_text() + "".join(f"new\t{sentence(i, 'en')}\t{sentence(i, 'is')}\n" for i in range(500, 520)))
    done = cli("corpus", "build", zero, one, "--pair", "is-en", "-o", "c", "--json").json
    after = docs_of(Path("c"))
    assert {s: after[s] for s in ("dev", "test")} == {s: {f"one.tsv/{d}" for d in before[s]} for s in ("dev", "test")}
    assert {s: [p["source"] for p in rows(Path("c/pairs.jsonl")) if p["split"] == s] for s in ("dev", "test")} == old
    assert done["splits"]["train"]["pairs"] == 200 + 100 + 20 - len(old["dev"]) - len(old["test"])
    check(Path("c"))


def test_a_frozen_split_refuses_other_sizes_until_told(cli: CLI) -> None:
    path = tsv("one.tsv", 200)
    cli("corpus", "build", path, "--pair", "is-en", "--seed", 3, "-o", "c")
    refused = cli("corpus", "build", path, "--pair", "is-en", "--dev", 50, "-o", "c", ok=False)
    assert refused.code == 2 and "--dev 50" in refused.err and "--new-split" in refused.err
    before = docs_of(Path("c"))
    assert cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json").json["seed"] == 3
    assert docs_of(Path("c")) == before
    done = cli("corpus", "build", path, "--pair", "is-en", "--dev", 50, "--new-split", "-o", "c", "--json").json
    assert done["splits"]["dev"]["pairs"] == 50


def test_frozen_documents_under_other_names_are_not_made_training_data(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    path.rename("renamed.tsv")
    refused = cli("corpus", "build", "renamed.tsv", "--pair", "is-en", "-o", "c", ok=False)
    assert refused.code == 2 and "frozen" in refused.err


def test_a_frozen_document_that_went_is_mentioned(cli: CLI) -> None:
    path = tsv("one.tsv", 200)
    cli("corpus", "build", path, "--pair", "is-en", "--dev", 20, "-o", "c")
    gone = min(docs_of(Path("c"))["dev"])
    write("one.tsv", *(x for x in path.read_text().split("\n") if x and not x.startswith(gone)))
    ran = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json")
    assert ran.json["missing_frozen"] == [f"one.tsv/{gone}"] and "1 frozen" in ran.err
    assert f"one.tsv/{gone}" in json.loads(Path("c/split.json").read_text())["documents"]


def test_the_seed_decides_and_the_same_seed_repeats(cli: CLI) -> None:
    path = tsv("one.tsv", 200)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cli("corpus", "build", path, "--pair", "is-en", "--seed", seed, "-o", name)
    assert Path("a/pairs.jsonl").read_bytes() == Path("b/pairs.jsonl").read_bytes()
    assert docs_of(Path("a"))["dev"] != docs_of(Path("c"))["dev"]


def test_unchanged_input_is_reused(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    first = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json")
    made = Path("c/pairs.jsonl").stat()
    again = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json")
    assert "unchanged, reused" in again.err and "reused" not in first.err
    assert again.json == first.json and Path("c/pairs.jsonl").stat().st_ino == made.st_ino
    forced = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json", "--force")
    assert "reused" not in forced.err and forced.json == first.json
    # What was built must still be there as it was built.
    pairs = Path("c/pairs.jsonl").read_bytes()
    Path("c/pairs.jsonl").write_bytes(pairs[:-10])
    assert "reused" not in cli("corpus", "build", path, "--pair", "is-en", "-o", "c").err and Path("c/pairs.jsonl").read_bytes() == pairs
    path.write_text(path.read_text() + "new\tA new one\tEin ný\n")
    assert cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json").json["read"] == 101


def test_zero_sizes_leave_all_for_training(cli: CLI) -> None:
    a, b = texts(3)
    done = cli("corpus", "build", a, b, "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "c", "--json").json
    assert {k: v["pairs"] for k, v in done["splits"].items()} == {"train": 3, "dev": 0, "test": 0}


def test_the_table_for_people(cli: CLI) -> None:
    out = cli("corpus", "build", tsv("one.tsv", 200), "--pair", "is-en", "-o", "c").out
    assert [line for line in out.split("\n") if "kept: train" in line and "160" in line and "16 documents" in line]


# --- bad input: exit 2, what and where, nothing written


BAD: dict[str, tuple[dict[str, bytes], list[str], list[str]]] = {
    "unequal line counts": ({"a": b"x\ny\n", "b": b"1\n2\n3\n"}, ["a", "b"], ["2 and 3 lines", "a and b"]),
    "not UTF-8": ({"a": b"fine\nhall\xf3\n", "b": b"1\n2\n"}, ["a", "b"], ["a, line 2, byte 9", "0xf3"]),
    "no such file": ({"a": b"x\n"}, ["a", "nowhere"], ["nowhere", "no such file"]),
    "a directory": ({"a": b"x\n", "d/x": b""}, ["a", "d"], ["d: this is a directory"]),
    "the same file twice": ({"a": b"x\n"}, ["a", "./a"], ["the same file is given twice"]),
    "the same table twice": ({"a.tsv": b"x\ty\n"}, ["a.tsv", "a.tsv"], ["the same file is given twice"]),
    "an empty file": ({"a": b"", "b": b""}, ["a", "b"], ["a: the file is empty"]),
    "an empty table": ({"a.tsv": b""}, ["a.tsv"], ["the file is empty"]),
    "an empty JSONL": ({"a.jsonl": b""}, ["a.jsonl"], ["the file is empty"]),
    "a header alone": ({"a.tsv": b"en\tis\n"}, ["a.tsv"], ["no rows after the header"]),
    "blank lines alone": ({"a": b"\n\n\n", "b": b"\n\n\n"}, ["a", "b"], ["no pairs left", "3 blank line"]),
    "no pairs left": ({"a": b"x\nx\n", "b": b"\n\n"}, ["a", "b"], ["no pairs left", "2 read: 2 empty target"]),
    "too few documents": ({"a": b"ein\n", "b": b"one\n"}, ["a", "b"], ["too small to leave any pair for training", "1 pairs in 1 documents", "--dev"]),
    "one text": ({"a": b"x\n"}, ["a"], ["found a;", "SOURCE.txt TARGET.txt"]),
    "three texts": ({"a": b"x\n", "b": b"x\n", "c": b"x\n"}, ["a", "b", "c"], ["a, b, c"]),
    "a text and a table": ({"a": b"x\n", "b.tsv": b"x\ty\n"}, ["a", "b.tsv"], ["a, b.tsv"]),
    "an unknown language": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--pair", "xq-en"], ["unknown language code", "'xq'"]),
    "one language": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--pair", "en-en"], ["same language"]),
    "document ids of another length": ({"a": b"x\n", "b": b"y\n", "i": b"1\n2\n"}, ["a", "b", "--docs", "i"], ["2 and 1 lines", "i and a"]),
    "a document without id": ({"a": b"x\nx\n", "b": b"y\ny\n", "i": b"1\n\n"}, ["a", "b", "--docs", "i"], ["i, line 2"]),
    "document ids for a table": ({"a.tsv": b"x\ty\n", "i": b"1\n"}, ["a.tsv", "--docs", "i"], ["--docs"]),
    "columns for texts": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--columns", "is,en"], ["--columns"]),
    "columns of other languages": ({"a.tsv": b"x\ty\n"}, ["a.tsv", "--columns", "de,en"], ["--columns", "de,en", "is,en"]),
    "a header of other languages": ({"a.tsv": b"document\tde\ten\n1\tx\ty\n"}, ["a.tsv"], ["a.tsv, line 1", "document, de, en"]),
    "not JSON": ({"a.jsonl": b'{"source": "x", "target": "y"}\nhello\n'}, ["a.jsonl"], ["a.jsonl, line 2", "not JSON"]),
    "JSON too deep": ({"a.jsonl": b"[" * 100_000 + b"\n"}, ["a.jsonl"], ["a.jsonl, line 1", "not JSON"]),
    "not an object": ({"a.jsonl": b"[1]\n"}, ["a.jsonl"], ["a.jsonl, line 1", "list"]),
    "an unknown anchor": ({"a.jsonl": b'{"query": "Translate: hello", "response": "hall"}\n'}, ["a.jsonl"], ["a.jsonl, line 1", "Translate: hello", "anchor"]),
    "damaged gzip": ({"a.tsv.gz": gzip.compress(b"x\ty\n" * 900)[:-12]}, ["a.tsv.gz"], ["a.tsv.gz", "gzip"]),
    "gzip with flipped bits": ({"a.tsv.gz": gzip.compress(b"x\ty\n")[:10] + b"\xff" * 40}, ["a.tsv.gz"], ["a.tsv.gz", "gzip"]),
    "not gzip": ({"a.tsv.gz": b"x\ty\n"}, ["a.tsv.gz"], ["a.tsv.gz", "gzip"]),
    "a test set that is not there": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--against", "nowhere"], ["nowhere", "no such file"]),
    "a test set not in UTF-8": ({"a": b"x\n", "b": b"y\n", "t": b"\xff\n"}, ["a", "b", "--against", "t"], ["t, line 1, byte 0"]),
    "a negative size": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--dev", "-1"], ["--dev"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(cli: CLI, name: str) -> None:
    files, args, said = BAD[name]
    for path, data in files.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(data)
    pair = [] if "--pair" in args else ["--pair", "is-en"]
    ran = cli("corpus", "build", *args, *pair, "-o", "out", ok=False)
    assert ran.code == 2, ran.err
    assert not [part for part in said if part not in ran.err], ran.err
    assert ran.out == "" and not Path("out").exists()


def test_a_failed_build_leaves_the_old_corpus(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    before = {p.name: p.read_bytes() for p in Path("c").iterdir()}
    path.write_bytes(path.read_bytes() + b"\xff\n")
    assert cli("corpus", "build", path, "--pair", "is-en", "-o", "c", ok=False).code == 2
    assert {p.name: p.read_bytes() for p in Path("c").iterdir()} == before
    assert sorted(p.name for p in Path().iterdir()) == ["c", "one.tsv"]


def test_a_directory_with_other_files_is_never_replaced(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    Path("home").mkdir()
    Path("home/thesis.txt").write_text("years of work")
    ran = cli("corpus", "build", path, "--pair", "is-en", "-o", "home", ok=False)
    assert ran.code == 2 and "thesis.txt" in ran.err
    assert Path("home/thesis.txt").read_text() == "years of work"
    ran = cli("corpus", "build", path, "--pair", "is-en", "-o", path, ok=False)
    assert ran.code == 2 and "not a directory" in ran.err


def test_a_corpus_of_another_pair_is_not_replaced(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    ran = cli("corpus", "build", path, "--pair", "en-is", "-o", "c", ok=False)
    assert ran.code == 2 and "another pair" in ran.err and "is-en" in ran.err


@pytest.mark.parametrize(("name", "text"), [("corpus.json", "{"), ("corpus.json", "[]"), ("corpus.json", "{}"), ("split.json", "{"), ("split.json", None)])
def test_a_damaged_corpus_is_told(cli: CLI, name: str, text: str | None) -> None:
    path = tsv("one.tsv", 100)
    cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    Path("c", name).unlink() if text is None else Path("c", name).write_text(text)
    ran = cli("corpus", "build", path, "--pair", "is-en", "--force", "-o", "c", ok=False)
    assert ran.code == 2 and name in ran.err


# --- real data


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
