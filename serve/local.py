"""Translating without a server: the live adapter of a pair, or else the one that came with tellmt, in an engine of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from serve.batch import Done
from serve.quality import Quality, candidates, samplings
from tell.card import check_base
from tell.console import say
from tell.engine import EngineOptions, choose_engine, open_engine
from tell.errors import NotServed, RequestError
from tell.extras import need
from tell.languages import LanguagePair
from tell.registry import Registry
from tell.shipped import Shipped
from tell.text.candidates import best_first
from tell.text.flags import checked
from tell.text.segments import fill, pieces, split
from tell.translate import Hypothesis, Translator

# Tokens of prompt and output together: lines longer than what fits are cut at their sentences.
CONTEXT = 4096
# Lines handed to the engine at once. The GPU driver batches by itself and wants many.
LINES = {"vllm": 256}
LINES_CPU = 64
NONE_LIVE = "none yet; publish one with: tellmt publish"


class Local:
    """A Backend on one loaded adapter."""

    parallel = 1
    characters = 1 << 20

    def __init__(self, translator: Translator, lines: int, segment_tokens: int, pair: LanguagePair, quality: Quality = "fast"):
        self.translator, self.lines, self.segment_tokens, self.pair, self.quality = translator, lines, segment_tokens, pair, quality
        self.adapters = [translator.adapter_id or ""]

    def _measure(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self.translator.tokens.encode_batch(texts)]

    async def translate(self, texts: Sequence[str]) -> list[Done]:
        plans = [split(t, self._measure, self.segment_tokens) for t in texts]
        failed: dict[int, str] = {}
        wanted: list[tuple[int, str]] = []
        for i, plan in enumerate(plans):
            own = [plan[k].text for k in pieces(plan)]
            try:
                for piece in own:
                    self.translator.prompt(piece)
                wanted += [(i, piece) for piece in own]
            except RequestError as e:
                failed[i] = str(e)
        made: dict[int, list[Hypothesis]] = {}
        for (i, _), h in zip(wanted, await self._decoded([piece for _, piece in wanted]), strict=True):
            made.setdefault(i, []).append(h)
        return [
            Done("", failed=failed[i]) if i in failed else Done(fill(plan, [h.text for h in made.get(i, [])]), any(h.truncated for h in made.get(i, [])))
            for i, plan in enumerate(plans)
        ]

    async def _decoded(self, texts: Sequence[str]) -> list[Hypothesis]:
        """One for each text: the greedy one, or with quality best the candidate that is chosen."""
        drawn = samplings(candidates(self.quality, 0))
        made = [await self.translator.translate(texts, how) for how in (None, *drawn)]
        if not drawn:
            return made[0]
        return [best_first([checked(self.pair, text, h) for h in own])[0] for text, own in zip(texts, zip(*made, strict=True), strict=True)]


def live_pairs(registry: Registry, shipped: Mapping[str, Shipped]) -> list[str]:
    return sorted({s.pair for s in registry.states() if s.live} | set(shipped))


@asynccontextmanager
async def open_local(
    pair: LanguagePair, registry: Registry, shipped: Mapping[str, Shipped], engine_name: str, quality: Quality = "fast"
) -> AsyncIterator[Local]:
    """The engine started with the pair's live adapter, or else the shipped one, loaded and proved.

    Raises NotServed with the pairs there are, MissingExtra, BaseModelError, AdapterError or EngineError.
    """
    from tell.bases import find_base
    from tell.tokens import Tokens

    name = choose_engine(engine_name)
    live, own = registry.state(str(pair)).live, shipped.get(str(pair))
    if live is not None:
        adapter = registry.adapter(live)
    elif own is not None:
        adapter = own.open()
    else:
        valid = ", ".join(live_pairs(registry, shipped)) or NONE_LIVE
        raise NotServed("no adapter is live for this pair", place=registry.place, found=str(pair), valid=valid)
    base = find_base(adapter.card.base.id)
    check_base(adapter, base.id, base.revision)
    need("prometheus_client", "serve")
    from serve.canary import prove
    from serve.versions import segment_limit

    say(f"{pair}: adapter {adapter.short}{', which came with tellmt,' if live is None else ''} on {base.id}, engine {name}")
    options = EngineOptions(base=base, max_adapters=1, max_rank=max(16, adapter.card.rank), max_context=min(CONTEXT, base.context))
    engine = open_engine(name, options)
    tokens = Tokens(base)
    try:
        await engine.start()
        await engine.load(adapter.id, adapter.path)
        await prove(engine, tokens, adapter, options.max_context)
        translator = Translator(engine, tokens, adapter.card.anchor, adapter.card.decoding, adapter.id, options.max_context)
        yield Local(translator, LINES.get(name, LINES_CPU), segment_limit(translator), pair, quality)
    finally:
        # Shielded: an interrupted run must not leave the engine's processes behind.
        await asyncio.shield(engine.close())
