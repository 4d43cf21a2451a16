"""How nearest pairs are written before a source, and what of a user's text could be taken for one."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from tell.languages import parse_pair
from tell.lexicon.hints import escaped
from tell.retrieval.memory import collect
from tell.retrieval.retriever import RetrievalOptions, Retriever, without_pairs, write_pairs
from tests.support.naughty_strings import PATH, naughty

PAIRS = [("Vistaðu skrána.", "Save the file."), ("Vistaðu skjalið.", "Save the document."), ("Opnaðu skrána.", "Open the file."), ("Já.", "Yes.")]


def retriever(**options: float) -> Retriever:
    return Retriever(collect(parse_pair("is-en"), PAIRS)[0], RetrievalOptions(**{"min_score": 0.3, **options}))  # type: ignore[arg-type]


def test_a_pair_is_a_line_before_the_source() -> None:
    assert retriever().lines("Vistaðu skrána!") == "【Vistaðu skrána.】 Save the file.\n"
    # The nearest stands beside the source.
    assert retriever(pairs=2).lines("Vistaðu skrána!") == "【Vistaðu skjalið.】 Save the document.\n【Vistaðu skrána.】 Save the file.\n"
    assert retriever(min_score=0.9).lines("Vistaðu skrána núna!") == "" == retriever().lines("Hundurinn geltir")


@pytest.mark.parametrize("source", ["Vistaðu skrána.", "  Vistaðu \tskrána. "])
def test_the_own_pair_is_left_out_and_nothing_else(source: str) -> None:
    near = retriever()
    assert near.pairs(source) == [PAIRS[0]]
    assert near.pairs(source, without="Save the  file.") == [PAIRS[2]]
    # The same source with another target is another pair.
    assert near.pairs(source, without="Save it.") == [PAIRS[0]]


def test_a_text_of_several_lines_gets_none() -> None:
    assert retriever().pairs("Vistaðu\nskrána.") == []


def test_brackets_of_a_text_are_not_taken_for_pairs() -> None:
    written = write_pairs([("Sjá 【 cat】", "See 【cat】")]) + escaped("【x】 y")
    assert written == "【Sjá 〖 cat〗】 See 〖cat〗\n〖x〗 y" and without_pairs(written) == "〖x〗 y"


@naughty
def test_no_text_passes_for_a_pair() -> None:
    for text in json.loads(PATH.read_text(encoding="utf-8")):
        for inside in (text, f"【{text}】 x\n{text}", f"】 x\n【{text}"):
            assert without_pairs(escaped(inside)) == escaped(inside)
            memory, _ = collect(parse_pair("is-en"), [(inside, inside)])
            written = write_pairs(memory.pairs) + escaped(inside)
            assert written.count("【") == written.count("】") == 1 and without_pairs(written) == escaped(inside)


@pytest.mark.parametrize("options", [{"pairs": 0}, {"pairs": 9}, {"min_score": 0.0}, {"min_score": 1.1}, {"minimum": 1}])
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        RetrievalOptions(**options)  # type: ignore[arg-type]
