"""ICU messages: keywords, braces and numbers stay, the texts in them are pieces of their own; and a brace that was lost or made up is flagged."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tell.languages import parse_pair
from tell.text.flags import flags_of
from tell.text.icu import icu_parts
from tell.text.segments import fill, join, pieces, split

CASES: dict[str, list[str]] = {
    "{n, plural, one {# dagur} other {# dagar}}": ["dagur", "dagar"],
    "Þú átt {n, plural, =0 {engin skilaboð} one {# ný skilaboð frá {nafn}} other {# ný skilaboð}} í dag.": [
        "Þú átt", "engin skilaboð", "ný skilaboð frá {nafn}", "ný skilaboð", "í dag.",
    ],
    "{kyn, select, female {Hún kom} male {Hann kom # sinnum} other {Hán kom}}\nJá": ["Hún kom", "Hann kom # sinnum", "Hán kom", "Já"],
    "{n,plural,offset:1\n  one {Einn}\n  other {Margir\nmenn}\n}": ["Einn", "Margir", "menn"],
    "{n, selectordinal, one {#sti} other {#di}}": ["sti", "di"],
    "{k, select, a {{n, plural, one {Einn} other {Margir}}} other {Enginn}}": ["Einn", "Margir", "Enginn"],
    "{n, plural, one {Skrifaðu '{'x'}' hér} other {Tveir}}": ["Skrifaðu '{'x'}' hér", "Tveir"],
    # No message: not closed, without `other`, or a sentence in braces.
    "{n, plural, one {dagur} other {dagar}": ["{n, plural, one {dagur} other {dagar}"],
    "{n, plural, one {dagur}}": ["{n, plural, one {dagur}}"],
    "Hún {hló, grét, svaf} og fór.": ["Hún {hló, grét, svaf} og fór."],
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_what_is_text_in_a_message(text: str) -> None:
    spans = split(text)
    assert join(spans) == text and [spans[i].text for i in pieces(spans)] == CASES[text]
    # Translated, it is a message with the same skeleton.
    translated = fill(spans, ["Yes" for _ in pieces(spans)])
    kept = [[part for part, stays in icu_parts(t) or [] if stays] for t in (text, translated)]
    assert kept[0] == kept[1]


BITS = st.sampled_from(["{n, plural,", "{k,select,", " one {", " other {", "#", "}", "'", "'{'", "{x}", "dagur ", "\n", "offset:1", "=1 {"])


@given(st.lists(BITS, max_size=25).map("".join))
def test_nothing_is_lost_whatever_the_braces(text: str) -> None:
    assert join(split(text)) == text
    assert "".join(part for part, _ in icu_parts(text) or [(text, False)]) == text


def test_no_message_takes_long() -> None:
    began = time.thread_time()
    hard = "{n, plural, one {" * 4000, "{n, plural, other {a}} " * 4000, "{n, plural, " + "one {a} " * 10_000, "{" * 50_000, "{n, plural, one {{a}" * 4000
    for text in hard:
        split(text)
    assert time.thread_time() - began < 5


@pytest.mark.parametrize(("translation", "flagged"), [("{ the cat } sat", False), ("the cat } sat", True), ("the cat sat", True), ("{ the {cat} } sat", True)])
def test_a_brace_that_is_lost_or_made_up_is_flagged(translation: str, flagged: bool) -> None:
    assert ("placeholder" in flags_of(parse_pair("is-en"), "{ kötturinn } sat", translation)) == flagged
