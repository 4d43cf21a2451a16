"""Translates without a server: with the live adapter of a pair, or else the one that came with tellmt, in an engine of this process.

Segments go through the service's decoder (serve.translation.decoder), with its flags and its retries.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from serve.files.segment_store import SegmentResult
from serve.translation.decoder import Decoder, Effort, Quality
from tell.adapter.card import check_base
from tell.adapter.shipped import Shipped
from tell.adapter.translation import translator_of
from tell.console import say
from tell.errors import NotServed, RequestError
from tell.languages import LanguagePair, nearest_pair, parse_pair
from tell.lexicon.glossary import Glossary
from tell.model.engine import EngineOptions, choose_engine, open_engine, traits_of
from tell.registry.registry import Registry
from tell.text.flags import Checked, prepare, union
from tell.text.segments import Span, fill, pieces

# Tokens of prompt and output together: lines longer than what fits are cut at their sentences.
CONTEXT = 4096
# Ways in which a flagged segment is retried.
TRIES = 4
UNHINTED = "the adapter was trained without hints, so it cannot be given the terms of the glossary: they are only looked for in its translations"
NONE_LIVE = "none yet; publish one with: tellmt publish"


class LocalBackend:
    """A Backend on an engine of this process with one adapter."""

    characters = 1 << 20

    def __init__(self, decoder: Decoder, effort: Effort, glossary: Glossary | None = None):
        self.decoder, self.effort, self.glossary = decoder, effort, glossary
        traits = traits_of(decoder.translator.engine)
        self.lines, self.parallel = traits.segments_per_call, traits.calls_at_once
        self.adapters = [decoder.translator.adapter_id or ""]

    def _split(self, texts: Sequence[str]) -> list[list[Span] | RequestError]:
        """Each text as segments and layout, or why one of its segments is refused."""
        return [next(filter(None, map(self.decoder.translator.refusal, _segments(spans))), spans) for spans in self.decoder.split(texts)]

    async def translate(self, texts: Sequence[str]) -> list[SegmentResult]:
        splits = await asyncio.to_thread(self._split, texts)
        segments = [segment for spans in splits if not isinstance(spans, RequestError) for segment in _segments(spans)]
        decoder = self.decoder
        if self.glossary:
            # For each batch anew: the terms of segments that are done need no memory.
            decoder = dataclasses.replace(decoder, terms=decoder.translator.terms(self.glossary, decoder.pair))
        decoded = iter(await decoder.decode(segments, self.effort))
        return [
            SegmentResult("", failed=str(spans)) if isinstance(spans, RequestError) else _result(spans, [next(decoded) for _ in pieces(spans)])
            for spans in splits
        ]


def _segments(spans: Sequence[Span]) -> list[str]:
    return [spans[i].text for i in pieces(spans)]


def _result(spans: Sequence[Span], segments: Sequence[Checked]) -> SegmentResult:
    return SegmentResult(fill(spans, [s.text for s in segments]), union(s.flags for s in segments))


def live_pairs(registry: Registry, shipped: Mapping[str, Shipped]) -> list[str]:
    return sorted({s.pair for s in registry.states() if s.live} | set(shipped))


@asynccontextmanager
async def open_local(
    pair: LanguagePair,
    registry: Registry,
    shipped: Mapping[str, Shipped],
    engine_name: str,
    tries: int = TRIES,
    quality: Quality = "fast",
    glossary: Glossary | None = None,
) -> AsyncIterator[LocalBackend]:
    """An engine with the pair's live adapter, or else the shipped one, loaded and checked.

    Raises NotServed with the pairs there are, MissingExtra, BaseModelError, AdapterError or EngineError.
    """
    from tell.model.base import find_base
    from tell.model.tokenizer import BaseTokenizer

    name = choose_engine(engine_name)
    # What serves `no` serves `nb` too.
    nearest = nearest_pair(pair, map(parse_pair, live_pairs(registry, shipped))) or pair
    live, shipped_adapter = registry.state(str(nearest)).live, shipped.get(str(nearest))
    if live is not None:
        adapter = registry.adapter(live)
    elif shipped_adapter is not None:
        adapter = shipped_adapter.open()
    else:
        valid = ", ".join(live_pairs(registry, shipped)) or NONE_LIVE
        raise NotServed("no adapter is live for this pair", place=registry.place, found=str(pair), valid=valid)
    base = find_base(adapter.card.base.id)
    check_base(adapter, base.id, base.revision)
    from serve.adapters.load_check import check_loaded
    from tell.model.translator import segment_limit

    say(f"{pair}: adapter {adapter.short}{', which came with tellmt,' if live is None else ''} on {base.id}, engine {name}")
    options = EngineOptions(base=base, max_adapters=1, max_rank=max(16, adapter.card.rank), max_context=min(CONTEXT, base.context))
    engine = open_engine(name, options)
    tokens = BaseTokenizer(base)
    try:
        # `prepare` reads the model of languages, which takes a second, while the engine starts.
        await asyncio.gather(engine.start(), asyncio.to_thread(prepare))
        await engine.load(adapter.id, adapter.path)
        translator = translator_of(engine, tokens, adapter, options.max_context)
        await check_loaded(translator, adapter)
        if glossary and not translator.follows_terms:
            say(UNHINTED)
        yield LocalBackend(Decoder(translator, pair, segment_limit(translator)), Effort(quality, tries), glossary)
    finally:
        # Shielded: an interrupted run must not leave the engine's processes behind.
        await asyncio.shield(engine.close())
