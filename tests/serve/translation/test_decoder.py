"""The decoder of batch runs gives what the service answers: the same candidates, choice and retries, without HTTP and without a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from serve.translation.decoder import Decoded, Decoder, Effort
from tell.errors import RequestError
from tell.languages import parse_pair
from tell.model.engine import Decoding, EngineOptions
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator
from tests.serve.translation.test_quality import OUT, Drawing
from tests.serve.translation.test_retry import CASES
from tests.support.scripted_engine import ScriptedEngine
from tests.support.serving import Published

pytest_plugins = ["tests.support.serving_fixtures"]


@pytest.fixture
def decode(published: Published) -> Callable[..., list[Decoded]]:
    """Decode segments by the engine that `make_engine` makes, with the live adapter of is-en."""
    base, registry, ids = published
    adapter = registry.adapter(ids["is-en"])

    def run(make_engine: Callable[[EngineOptions], Any], segments: list[str], effort: Effort) -> list[Decoded]:
        async def decoded() -> list[Decoded]:
            engine = make_engine(EngineOptions(base=base, max_context=2048))
            await engine.load(adapter.id, adapter.path)
            translator = Translator(engine, BaseTokenizer(base), adapter.card.anchor, adapter.card.decoding, adapter.id, 2048)
            return await Decoder(translator, parse_pair("is-en"), 256).decode(segments, effort)

        return asyncio.run(decoded())

    return run


@pytest.mark.parametrize("case", CASES)
def test_retries_are_the_services(decode: Callable[..., list[Decoded]], case: str) -> None:
    script, source, (text, flags), decodes = CASES[case]
    engines: list[ScriptedEngine] = []

    def make_engine(options: EngineOptions) -> ScriptedEngine:
        engines.append(ScriptedEngine(options, lambda source, penalty: script.get((source, penalty), script.get(source))))
        return engines[-1]

    (decoded,) = decode(make_engine, [source.strip(" -\r\n")], Effort())
    assert (decoded.text, list(decoded.flags)) == (text.strip(" -\r\n"), flags)
    assert engines[0].requests == decodes and decoded.sampled is None
    assert decoded.retried == (None if len(decodes) == 1 else "clean" if not flags else "better" if case == "the best" else "same")


def test_the_best_candidate_and_the_others(decode: Callable[..., list[Decoded]]) -> None:
    house, yes, so = decode(Drawing, ["Húsið er gult.", "Já", "Það er svo."], Effort("best"))
    assert (house.text, house.sampled) == ("The house is yellow.", True) and {c.text for c in house.others} == set(OUT["Húsið er gult."]) - {house.text}
    assert (yes.text, yes.sampled, yes.others) == ("Yes", False, ())
    assert so.flags == () and so.retried is None
    (fast,) = decode(Drawing, ["Húsið er gult."], Effort())
    assert (fast.text, fast.sampled, fast.others) == ("The dog is gold.", None, ())


def test_a_busy_service_retries_nothing(decode: Callable[..., list[Decoded]]) -> None:
    script = CASES["loop"][0]
    effort = Effort(busy=lambda: True)
    (decoded,) = decode(lambda options: ScriptedEngine(options, lambda source, penalty: script.get((source, penalty))), ["Það er svo."], effort)
    assert decoded.retried == "busy" and "loop" in decoded.flags


def test_segments_that_do_not_fit_are_refused_one_by_one(published: Published) -> None:
    base, registry, ids = published
    adapter = registry.adapter(ids["is-en"])

    async def translated() -> list[Any]:
        engine = ScriptedEngine(EngineOptions(base=base, max_context=200), lambda source, penalty: source.upper())
        await engine.load(adapter.id, adapter.path)
        translator = Translator(engine, BaseTokenizer(base), adapter.card.anchor, Decoding(), adapter.id, 200)
        return await translator.translate_fitting(["já", " ", "orð " * 100, "nei"])

    first, blank, long, last = asyncio.run(translated())
    assert (first.text, blank.text, last.text) == ("JÁ", " ", "NEI")
    assert isinstance(long, RequestError) and "a segment is too long" in str(long)
