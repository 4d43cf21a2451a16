"""The set of the benchmark of glossaries: every term is found in its sentence, and its reference has what it is to become."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import tell.model.engine
from benchmarks.quality.glossary import measured, sentences, translated
from tell.languages import parse_pair
from tell.lexicon.glossary import Glossary
from tests.conftest import ROOT
from tests.support.fake_eval_engine import light_base
from tests.support.hint_engine import HintEngine, hinted_adapter


@pytest.mark.parametrize("name", ["is-en", "en-is"])
def test_the_set_is_whole(name: str) -> None:
    pair = parse_pair(name)
    test = sentences(pair)
    assert len({sentence.text for sentence in test}) == len(test) >= 100
    for sentence in test:
        terms = Glossary.inline({sentence.term: sentence.target}).segment_terms(pair)
        assert [hint.target for hint in terms.find(sentence.text)] == [sentence.target], sentence
        assert terms.missing(sentence.text, sentence.reference) == [], sentence
    examples = {cell for path in (ROOT / "examples").rglob("*.tsv") for line in path.read_text(encoding="utf-8").split("\n") for cell in line.split("\t")}
    assert not examples & {sentence.text for sentence in test}


def test_shares_and_scores() -> None:
    pair = parse_pair("is-en")
    references = [sentence.reference for sentence in sentences(pair)]
    row = measured(pair, [*references[:-1], "Something else."])
    assert (row["honoured"], row["sentences"]) == (len(references) - 1, len(references)) and 90 < row["chrf2"] < 100 and "nc:6" in row["signature"]


def test_an_adapter_is_asked_without_and_with_each_term(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = light_base(isolated / "cache")
    adapter = hinted_adapter(isolated / "is-en", base)
    monkeypatch.setattr(tell.model.engine, "open_engine", lambda _, options: HintEngine(options))
    system, outputs = asyncio.run(translated(parse_pair("is-en"), adapter.path, "ct2", 1))
    assert system["hints"] and measured(parse_pair("is-en"), outputs["with"])["share"] == 1.0
    assert measured(parse_pair("is-en"), outputs["without"])["share"] < 0.1
