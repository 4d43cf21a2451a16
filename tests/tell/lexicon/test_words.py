"""What is a word that may get a hint, and the keys that words share."""

from __future__ import annotations

import time

import pytest

from tell.lexicon.initials import radical, rule_for
from tell.lexicon.words import Keying, folded, key, keying_for, keys, words


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Don't click the well-known link — again!", ["Don't", "click", "the", "well-known", "link", "again"]),
        ("is", "Vistaðu skjalið, áður en þú ferð.", ["Vistaðu", "skjalið", "áður", "en", "þú", "ferð"]),
        ("en", "Page 3 of 12, the 2nd of May, mp3 and COVID-19", ["Page", "of", "the", "of", "May", "and", "COVID"]),
        ("en", "a 60-year-old at 10:30", ["a", "year", "old", "at"]),
        ("en", "Hello {name}, %s of %(total)d, <b class='x'>bold</b>, snake_case", ["Hello", "of", "bold"]),
        ("en", "{n, plural, one {# day} other {# days}} left", ["day", "days", "left"]),
        ("en", "See https://example.org/path or mail me@example.org or visit mbl.is.", ["See", "or", "mail", "or", "visit"]),
        ("en", "the end.Start again", ["the", "end", "Start", "again"]),
        ("fr", "L’homme n'est pas aujourd’hui peut-être", ["L’", "homme", "n'", "est", "pas", "aujourd’", "hui", "peut-être"]),
        ("cy", "i'r tŷ", ["i'r", "tŷ"]),
        ("ca", "col·lecció d'art", ["col·lecció", "d'", "art"]),
        ("hi", "क्या हिन्दी अच्छी है?", ["क्या", "हिन्दी", "अच्छी", "है"]),
        ("fa", "می‌خواهم بروم", ["می‌خواهم", "بروم"]),
        ("th", "ภาษาไทย and English", ["and", "English"]),
        ("ja", "東京です OK", ["OK"]),
        ("is", "", []),
        ("is", "…!? 12 345 — ", []),
    ],
)
def test_words(language: str, text: str, expected: list[str]) -> None:
    found = words(text, language)
    assert [w.text for w in found] == expected
    assert all(text[w.start : w.end] == w.text for w in found)


def test_places_count_code_points() -> None:
    assert [(w.start, w.end) for w in words("🎈🎈 {x} héllo wörld", "en")] == [(7, 12), (13, 18)]


@pytest.mark.clock
@pytest.mark.parametrize("unit", ["a", "a-", "1a-", "a.a", "a1", "a'", "{a", "<a", "ab.", "a_", "ไ"])
@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_word_of_any_length_takes_linear_time(unit: str, language: str) -> None:
    text = unit * (100_000 // len(unit))
    words(text[:100], language)
    start = time.perf_counter()
    words(text, language)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("word", "keying", "expected"),
    [
        ("Hestarnir", Keying(), "hesta*"),
        ("HESTARNIR", Keying(), "hesta*"),
        ("hestar", Keying(prefix=0), "hestar"),
        ("hús", Keying(), "hús"),
        ("hu\u0301s", Keying(), "hús"),
        ("straße", Keying(prefix=0), "strasse"),
        ("don’t", Keying(prefix=0), "don't"),
        ("hestar", Keying(whole=0), "hesta*"),
    ],
)
def test_keys(word: str, keying: Keying, expected: str) -> None:
    assert key(word, keying) == expected
    assert keys(word, keying)[-1][0] == expected


def test_a_whole_word_counts_more_than_its_first_letters() -> None:
    assert keys("Hestarnir", Keying()) == (("hestarnir", 10), ("hesta*", 1))
    assert keys("hús", Keying()) == (("hús", 10),)
    # A word as long as a prefix shares the prefix's key with longer ones.
    assert [k for k, _ in keys("hesta", Keying())] == ["hesta", "hesta*"]


def test_soft_hyphens_are_no_letters() -> None:
    assert folded("skjal\u00adið") == "skjalið" and [w.text for w in words("skjal\u00adið", "is")] == ["skjal\u00adið"]


@pytest.mark.parametrize(
    ("language", "forms", "other"),
    [
        ("ga", ["bean", "bhean", "mbean"], "cathair"),
        ("ga", ["teach", "theach", "dteach"], "each"),
        ("ga", ["fuinneog", "fhuinneog", "bhfuinneog"], "buidéal"),
        ("ga", ["athair", "n-athair", "t-athair", "hathair"], "bathair"),
        ("gd", ["cathair", "chathair"], "athair"),
        ("cy", ["cath", "gath", "chath", "nghath"], "plant"),
        ("cy", ["plant", "blant", "phlant", "mhlant"], "tŷ"),
        ("cy", ["mam", "fam"], "tad"),
    ],
)
def test_mutations_of_a_word_have_one_key(language: str, forms: list[str], other: str) -> None:
    keying = keying_for(language)
    assert len({key(form, keying) for form in forms}) == 1
    assert key(other, keying) != key(forms[0], keying)


def test_other_languages_are_left_alone() -> None:
    assert keying_for("is") == Keying() and rule_for("en-GB") == "" and radical("bhean", "") == "bhean"
