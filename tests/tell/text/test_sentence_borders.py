"""Where sentences end in texts with dates, times, ordinal numbers and abbreviations, in every language that the segmenter claims."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tell.text.segments import sentences

HERE = Path(__file__).parent
# Language, and four dates and times as CLDR writes them in it, in its four lengths.
DATES = [line.split("\t") for line in (HERE / "dates.tsv").read_text(encoding="utf-8").strip().split("\n")]
# Language, a sentence, and what follows it, if anything.
SENTENCES = [line.split("|") for line in (HERE / "dates_in_sentences.txt").read_text(encoding="utf-8").strip().split("\n")]


def test_no_date_is_parted_in_any_language() -> None:
    parted = {(language, date): parts for language, *dates in DATES for date in dates if len(parts := sentences(f"x {date} x", language)) > 1}
    assert parted == {} and len(DATES) > 300


@pytest.mark.parametrize(("language", "first", "second"), SENTENCES, ids=[f"{row[0]}-{i}" for i, row in enumerate(SENTENCES)])
def test_sentences_end_where_a_reader_ends_them(language: str, first: str, second: str) -> None:
    text = f"{first} {second}".strip()
    assert sentences(text, language) == ([f"{first} ", second] if second else [first])


@pytest.mark.parametrize(
    ("language", "text"),
    [("no", "Møtet er den 3. Mai kl. 10."), ("nb-NO", "Møtet er den 3. Mai kl. 10."), ("deu_Latn", "Er wurde im 19. Jahrhundert geboren."),
     ("ekk", "Ta sündis 3. Märtsil 1980."),
     ("sr-Latn", "Rođen je 3. Januara 1980.")],
)  # fmt: skip
def test_other_names_of_a_language(language: str, text: str) -> None:
    assert sentences(text, language) == [text]


@pytest.mark.parametrize("text", ["1. " * 30_000, "kl. 5. " * 15_000, "a.m. " * 20_000, "3. Mai " * 15_000, "2024. 12. 22. " * 7_000, ". " * 50_000])
def test_no_text_takes_long(text: str) -> None:
    began = time.thread_time()
    assert "".join(sentences(text, "de")) == text and time.thread_time() - began < 5
