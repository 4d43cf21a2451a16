"""Texts into pieces and back: nothing is lost, nothing is too long, cuts are where a reader would make them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tell.text.segments import cut, fill, join, pieces, sentences, split, words_in

LAYOUT = st.sampled_from(
    [
        "\n", "\r\n", "\r", "\t", "  ", "\u00a0", "\u2028", "\x85", "\x0b",
        "\ufeff", "\u200b", "\u202b", "\u2069", "\0", ". ", "? ", "。", ", ", "a", "Æ", "🙂", "word ",
        "- ", "* ", "> ", "## ", "1. ", "12) ", "[x] ", "17", "“", "”", "(", ")", "Dr. ", "kl. ", "ก", "\ud800", "x" * 500,
    ]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(LAYOUT, max_size=60).map("".join))
LANGUAGES = st.sampled_from(["is", "en", "ja", "pt-BR", "am", "zxx"])


def by_bytes(texts: list[str]) -> list[int]:
    return [len(t.encode("utf-8", "surrogatepass")) for t in texts]


@given(TEXTS, LANGUAGES)
@settings(max_examples=400)
def test_joining_gives_the_text_back(text: str, language: str) -> None:
    assert join(split(text, language=language)) == text
    assert "".join(sentences(text, language)) == text


@given(TEXTS, st.integers(1, 12), LANGUAGES)
@settings(max_examples=300)
def test_cut_to_a_limit_the_text_still_comes_back_and_nothing_is_over_it(text: str, limit: int, language: str) -> None:
    spans = split(text, by_bytes, limit, language)
    assert join(spans) == text
    for span in spans:
        assert not span.translate or by_bytes([span.text])[0] <= limit or len(span.text) == 1
        assert not span.translate or words_in(span.text)
        assert not span.translate or span.text == span.text.strip()
        assert not span.translate or ("\n" not in span.text and "\r" not in span.text)


@given(TEXTS, st.integers(1, 12))
def test_a_measure_that_counts_more_for_the_whole_than_for_its_parts_still_holds(text: str, limit: int) -> None:
    def uneven(texts: list[str]) -> list[int]:
        return [len(t) + len(t) // 3 for t in texts]

    spans = split(text, uneven, limit)
    assert join(spans) == text
    assert all(uneven([s.text])[0] <= limit or len(s.text) == 1 for s in spans if s.translate)


@given(TEXTS)
def test_filling_in_the_pieces_themselves_changes_nothing(text: str) -> None:
    spans = split(text)
    assert fill(spans, [spans[i].text for i in pieces(spans)]) == text


def test_filling_in_another_number_of_translations_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 translations for 2 pieces"):
        fill(split("a\nb"), ["x"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t", []),
        ("  Halló.  \r\n\r\n\tHæ\n", ["Halló.", "Hæ"]),
        ("eitt\rtvö", ["eitt", "tvö"]),
        # Text, not line ends.
        ("eitt\u2028tvö\x85þrjú", ["eitt\u2028tvö\x85þrjú"]),
        # Marks of lists, headings, quotations and dialogues.
        ("- Mjólk\n  * [x] Brauð 2\n> > Sagt\n## Kafli\n– Já, sagði hann.", ["Mjólk", "Brauð 2", "Sagt", "Kafli", "Já, sagði hann."]),
        ("a) fyrst\nB) næst\n(iv) síðast\n12) annað", ["fyrst", "næst", "síðast", "annað"]),
        ("-5 stig\nJ. Smith\n(sjá hér)\n#merki", ["-5 stig", "J. Smith", "(sjá hér)", "#merki"]),
        # A number is a list's where other lines have one, and is an ordinal number before a small letter.
        ("1. Mjólk", ["1. Mjólk"]),
        ("1. Mjólk\n2.1. Brauð\n17. júní", ["Mjólk", "Brauð", "17. júní"]),
        # What has no letters is the same in both languages.
        ("-----\n12,5 %\n🙂🙂\n***\na", ["a"]),
        ("\ufeffHalló\u200b\n\u202bשלום\u202c", ["Halló", "שלום"]),
        # No word is so long; a paragraph without spaces is not a word in every script.
        (f"Lykill: {'QUJD' * 25_000} og texti", ["Lykill:", "og texti"]),
        ("今日は晴れ" * 200, ["今日は晴れ" * 200]),
    ],
)
def test_pieces(text: str, expected: list[str]) -> None:
    assert [s.text for s in split(text) if s.translate] == expected


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("Árið 1944. Þann 17. júní.", 14, ["Árið 1944. ", "Þann 17. ", "júní."]),
        ("Nr. 5. Hún kom.", 99, ["Nr. 5. Hún kom."]),
        ("Ég fer. Þú ferð! Hann fór?", 14, ["Ég fer. ", "Þú ferð! ", "Hann fór?"]),
        ("Ég fer. Þú ferð! Hann fór?", 22, ["Ég fer. Þú ferð! ", "Hann fór?"]),
        # A small letter after the stop: an abbreviation.
        ("Það er t.d. svo. Jæja þá.", 19, ["Það er t.d. svo. ", "Jæja þá."]),
        ("„Komdu.“ Hann kom.", 15, ["„Komdu.“ ", "Hann kom."]),
        ("eitt, tvö og þrjú", 13, ["eitt, ", "tvö og ", "þrjú"]),
        ("今日は晴れ。明日は雨。", 20, ["今日は晴れ。", "明日は雨。"]),
        ("aaaaaaaa", 4, ["aaaa", "aaaa"]),
    ],
)
def test_cuts(text: str, limit: int, expected: list[str]) -> None:
    assert cut(text, by_bytes, limit) == expected


def test_a_long_line_without_any_border_is_cut_in_time() -> None:
    text = "x" * 300_000 + ". " * 50_000
    parts = cut(text, by_bytes, 256)
    assert "".join(parts) == text
    assert max(by_bytes(parts)) <= 256


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hún fæddist 17. júní 1944. Hann kom kl. 5. Það var t.d. gott.", ["Hún fæddist 17. júní 1944. ", "Hann kom kl. 5. ", "Það var t.d. gott."]),
        ("Sjá 3. gr. laga nr. 5/2001. Jæja.", ["Sjá 3. gr. laga nr. 5/2001. ", "Jæja."]),
        ("Dr. Smith said no. She left.", ["Dr. Smith said no. ", "She left."]),
        ("Útgáfa 2.0.1 kom út.Strax.", ["Útgáfa 2.0.1 kom út.Strax."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text, "is") == expected


@pytest.mark.parametrize(
    "text", ["“a. " * 25_000, "a" + " " * 99_998 + "b", "- " * 50_000, "1. " * 33_333 + "a", ("x" * 499 + " ") * 200, "(" * 50_000, "1.\n" * 33_333]
)
def test_no_text_takes_long_to_divide(text: str) -> None:
    began = time.thread_time()
    spans = split(text, by_bytes, 256, "is")
    assert join(spans) == text and time.thread_time() - began < 5
