"""Makes the golden sentences of an adapter that is being published: reads a dev split, translates a few of its segments.

Writes `<cache>/golden/<key>.json`, where the key is the hash of everything that decides them: published again, an adapter keeps its id.
"""

from __future__ import annotations

import asyncio
import dataclasses

from pydantic import ValidationError

import tell.model.engine
from eval.scoring.testset import TestSet
from tell.adapter.card import Adapter
from tell.adapter.golden import LONGEST, Golden, Sentence, engine_identity
from tell.adapter.translation import translator_of
from tell.errors import RequestError
from tell.files import key_of, sha256_bytes, write_json
from tell.model.base import Base
from tell.model.engine import Engine, EngineOptions, engine_version
from tell.model.tokenizer import BaseTokenizer
from tell.paths import cache_dir, writable
from tell.text.hypothesis import Hypothesis

# The number is part of every key.
FORMAT = 1
# How many a card gets, and how many are tried: not every segment comes out otherwise than from the bare base.
SENTENCES, TRIED = 8, 16
# Characters: shorter ones say little, and longer ones take long in every service that loads the adapter.
SHORT, LONG = 15, 160


def candidates(sources: list[str]) -> list[str]:
    """The segments to try, of suitable length where there are enough, in an order that is independent of their order in the corpus."""
    usable = list(dict.fromkeys(s.strip() for s in sources if s.strip() and "\n" not in s.strip() and len(s) <= LONGEST))
    fit = [s for s in usable if SHORT <= len(s) <= LONG]
    chosen = fit if len(fit) >= SENTENCES else usable
    return sorted(chosen, key=lambda s: sha256_bytes(s.encode()))[:TRIED]


def _good(hypothesis: Hypothesis, bare: Hypothesis) -> bool:
    return bool(hypothesis.text) and not hypothesis.truncated and hypothesis.text != bare.text and len(hypothesis.text) <= LONGEST


async def _make(engine: Engine, adapter: Adapter, sources: list[str], context: int) -> list[Sentence]:
    ours = translator_of(engine, BaseTokenizer(engine.base), adapter, context)
    base = dataclasses.replace(ours, adapter_id=None, hinter=None, retriever=None)
    fitting = []
    for source in sources:
        try:
            ours.prompt(source)
            fitting.append(source)
        except RequestError:
            continue
    await engine.load(adapter.id, adapter.path)
    bare = dict(zip(fitting, await base.translate(fitting), strict=True))
    translations = dict(zip(fitting, await ours.translate(fitting), strict=True))
    chosen = [s for s in fitting if _good(translations[s], bare[s])][:SENTENCES]
    while chosen:
        # Together, as a canary asks for them: the numbers of a batch depend on what else is in it.
        translations = dict(zip(chosen, await ours.translate(chosen), strict=True))
        good = [s for s in chosen if _good(translations[s], bare[s])]
        if good == chosen:
            break
        chosen = good
    return [Sentence(source=s, output=translations[s].text) for s in chosen]


def _key(adapter: Adapter, base: Base, sources: list[str], engine: str) -> str:
    card = adapter.card
    adapter_parts = {"adapter": card.files, "anchor": card.anchor.model_dump(), "decoding": card.decoding.model_dump(), "sources": sources}
    adapter_parts |= card.prompt_parts
    return key_of({"format": FORMAT, "base": [base.id, base.revision], **adapter_parts, "engine": [engine, engine_version(engine, base)]})


def golden_sentences(adapter: Adapter, base: Base, dev: TestSet, engine_name: str) -> Golden | None:
    """Golden sentences from the dev split; None when the adapter translates every segment as the bare base does. Raises what the engine raises."""
    sources = candidates(list(dev.sources))
    if not sources:
        return None
    file = writable(cache_dir() / "golden", "cache", "TELLMT_CACHE") / f"{_key(adapter, base, sources, engine_name)}.json"
    try:
        return Golden.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        pass
    options = EngineOptions(base, max_adapters=1, max_rank=max(16, adapter.card.rank), max_context=min(4096, base.context))

    async def run() -> Golden | None:
        engine = tell.model.engine.open_engine(engine_name, options)
        try:
            await engine.start()
            sentences = await _make(engine, adapter, sources, options.max_context)
            version = engine_version(engine_name, base)
            versions = {engine_name: version} if version else {}
            return Golden(engine=engine.name, versions=versions, exact=engine_identity(engine), sentences=tuple(sentences)) if sentences else None
        finally:
            await asyncio.shield(engine.close())

    if (golden := asyncio.run(run())) is not None:
        write_json(file, golden.model_dump(mode="json"))
    return golden
