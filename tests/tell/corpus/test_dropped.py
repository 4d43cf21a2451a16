"""`tellmt corpus build`: what is dropped and why, and that training repeats neither dev nor test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tell.text.normalise import fault, normalised
from tests.conftest import Ran
from tests.support.parallel_files import check, docs_of, rows, sentence, texts, tsv, write

CLI = Callable[..., Ran]


@pytest.fixture
def cli(here: CLI) -> CLI:
    return here


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
    # The one in the test document too: it would be a source of both splits in the other direction.
    assert sum(done["dropped"].get(r, 0) for r in ("in dev", "in test")) == 5
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
