"""What a translation must bring back as it is: found, missed when it is lost, replaced by something short and put back."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tell.text.placeholders import around, bare, find_placeholders, lost, mask

FORMS = ["{name}", "{0:>8.2f}", "{}", "{{ user }}", "{% if a %}", "${x}", "%s", "%(n)d", "%1$s", "%-5.2f", "%%", "[X12X]",
         "<b>", "</b>", "<br/>", '<a href="x y">',
         "&amp;", "&#8211;", "https://tellmt.example/a_(b)?c=d#e", "www.ruv.is", "a.b+c@example.is", "$NAME$", "__KEY__", "[[1]]", "⟦0⟧"]  # fmt: skip
PARTS = st.lists(
    st.one_of(st.sampled_from(FORMS), st.sampled_from(["Halló ", " X1 ", "q2", "x", " ", "%", "{", "}", "<", ">", "5 % af", "ð"]), st.text(max_size=6)),
    max_size=12,
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["Halló {}, hvað segir þú?", "{}", "„{}“", "Sjá {}.", "({}): {}"])
def test_each_form_is_found_wherever_it_stands(form: str, text: str) -> None:
    placeholders = [p.text for p in find_placeholders(text.replace("{}", form))]
    assert placeholders == [form] * text.count("{}")


@pytest.mark.parametrize(
    "text",
    [
        "a < b og c > d",
        "5 % afsláttur",
        "100% sure",
        "50%–60% of it",
        "{ekki þetta, heldur hitt}",
        "[sjá neðar]",
        "AT&T",
        "a@b",
        "3 : 2",
        "$5 and $6",
        "Hvað?!",
        "<3",
        "e.g. this",
    ],
)
def test_what_is_text_is_not_taken_for_a_placeholder(text: str) -> None:
    assert find_placeholders(text) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Sjá https://ruv.is/frett.", "https://ruv.is/frett"),
        ("(https://is.wikipedia.org/wiki/Hekla_(fjall))", "https://is.wikipedia.org/wiki/Hekla_(fjall)"),
        ("„http://a.is/b?c=1&d=2“, sagði", "http://a.is/b?c=1&d=2"),
        ("Skrifið a.b@c.is!", "a.b@c.is"),
    ],
)
def test_an_address_ends_before_the_sentence_does(text: str, address: str) -> None:
    assert [p.text for p in find_placeholders(text)] == [address]


@pytest.mark.parametrize(
    ("source", "translation", "is_lost"),
    [
        ("Halló {name}", "Hello {name}", False),
        ("Halló {name}", "Hello {nafn}", True),
        ("Halló {name}", "Hello", True),
        ("Halló {name}", "{name} {name}", True),
        ("%s og %d", "%d and %s", False),
        ("%s", "%sand", False),
        ("Sjá http://a.is.", "See http://a.is/b.", True),
        ("Halló", "Hello {name}", True),
        # Made-up markup stays text.
        ("Halló", "<b>Hello", False),
        ("<b>Halló</b>", "<b>Hello</b>", False),
        ("<b>Halló</b>", "<b>Hello<b>", True),
    ],
)
def test_lost(source: str, translation: str, is_lost: bool) -> None:
    assert lost(source, translation) is is_lost


@given(PARTS)
def test_masked_and_restored_a_text_is_itself(parts: list[str]) -> None:
    text = "".join(parts)
    assert "".join(part for part, _ in around(text)) == text
    masked = mask(text)
    if masked is None:
        return
    # What does not change is there again, and what is between does not matter.
    assert not lost(text, masked.restore(masked.text))
    assert masked.restore(masked.text) == text


def test_the_stand_ins_are_short_and_are_not_in_the_text() -> None:
    masked = mask("X1 til {a}, {b} og {a} á %s")
    assert masked is not None and masked.text == "X1 til Q1, Q2 og Q1 á Q3"
    assert masked.restore("Q2 to X1 and q1's Q 3") == "{b} to X1 and {a}'s %s"
    assert masked.restore("Q4 Q12 aq1 Q1") == "Q4 Q12 aq1 {a}"
    assert mask("enginn") is None


def test_bare_is_what_there_is_to_translate() -> None:
    assert bare("Halló {name}, <b>5</b>").split() == ["Halló", ",", "5"]


@pytest.mark.parametrize("unit", ["<a ", "<!--", "{{", "%(", "a@", "http://", "&#", "[[", "x" * 50 + "://", "a.", "${", "$a", "<a <", "%" * 7, "__"])
def test_no_text_takes_long_to_look_through(unit: str) -> None:
    text = (unit * 100_000)[:100_000]
    began = time.thread_time()
    find_placeholders(text)
    assert time.thread_time() - began < 3
