"""How hints are written into a source, and what of a user's text could be taken for one."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tell.lexicon.hints import escaped, restored, write_hints
from tests.support.naughty_strings import PATH, naughty


@dataclasses.dataclass(frozen=True)
class Given:
    start: int
    end: int
    candidates: tuple[str, ...]


def test_a_hint_stands_behind_its_word() -> None:
    source = "Hundurinn beit manninn."
    hints = [Given(0, 9, ("dog", "the dog")), Given(15, 22, ("man",))]
    assert write_hints(source, hints) == "Hundurinn 【 dog, the dog】 beit manninn 【 man】."
    assert write_hints(source, []) == source


def test_brackets_of_a_text_are_not_taken_for_hints() -> None:
    source = "Sjá 【 cat】 og orð"
    assert write_hints(source, [Given(15, 18, ("word】 【 x",))]) == "Sjá 〖 cat〗 og orð 【 word〗 〖 x】"
    assert escaped(source) == "Sjá 〖 cat〗 og orð"


@pytest.mark.parametrize(
    ("translation", "source", "expected"),
    [
        ("See 〖 cat〗", "Sjá 【 cat】", "See 【 cat】"),
        # The source's own twins stay what they are.
        ("See 〖 cat〗", "Sjá 〖 cat〗", "See 〖 cat〗"),
        ("See 〖 cat〗 and 〖b〗", "Sjá 【 cat】 〖b〗", "See 〖 cat〗 and 〖b〗"),
        ("See cat", "Sjá cat", "See cat"),
    ],
)
def test_a_translation_has_the_brackets_of_its_source(translation: str, source: str, expected: str) -> None:
    assert restored(translation, source) == expected


@naughty
def test_no_text_brings_brackets_of_hints_into_a_prompt() -> None:
    for text in json.loads(PATH.read_text(encoding="utf-8")):
        for inside in (text, f"【{text}】", f"{text}】【"):
            written = write_hints(inside, [Given(0, len(inside), ("x",))])
            assert written.count("【") == written.count("】") == 1 and written.endswith(" 【 x】")
            assert restored(escaped(inside), inside) == inside or "〖" in inside
