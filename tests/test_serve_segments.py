"""Texts into pieces and back: nothing is lost, nothing is too long, cuts are where a reader would make them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.segments import cut, fill, join, pieces, split

LAYOUT = st.sampled_from(
    ["\n", "\r\n", "\r", "\t", "  ", "\u00a0", "\u2028", "\x85", "\x0b", "\ufeff", "\u200b", "\0", ". ", "? ", "。", ", ", "a", "Æ", "🙂", "word "]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(LAYOUT, max_size=60).map("".join))


def by_bytes(texts: list[str]) -> list[int]:
    return [len(t.encode("utf-8", "surrogatepass")) for t in texts]


@given(TEXTS)
def test_joining_gives_the_text_back(text: str) -> None:
    assert join(split(text)) == text


@given(TEXTS, st.integers(1, 12))
@settings(max_examples=300)
def test_cut_to_a_limit_the_text_still_comes_back_and_nothing_is_over_it(text: str, limit: int) -> None:
    spans = split(text, by_bytes, limit)
    assert join(spans) == text
    for span in spans:
        assert not span.translate or by_bytes([span.text])[0] <= limit or len(span.text) == 1
        assert span.translate == bool(span.text.strip())
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
    ],
)
def test_pieces(text: str, expected: list[str]) -> None:
    assert [s.text for s in split(text) if s.translate] == expected


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
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
