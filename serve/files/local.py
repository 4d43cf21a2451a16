"""Translating without a server: the live adapter of a pair, or else the one that came with tellmt, in an engine of this process.

Segments get the service's guards and its second tries (serve.translation.retry).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from serve.files.segment_store import Done
from serve.translation.quality import Quality, candidates, samplings
from serve.translation.retry import Mend
from tell.adapter.card import check_base
from tell.adapter.shipped import Shipped
from tell.console import say
from tell.errors import NotServed, RequestError
from tell.extras import need
from tell.languages import LanguagePair
from tell.model.engine import EngineOptions, Sampling, choose_engine, open_engine, traits_of
from tell.model.translator import Translator
from tell.registry.registry import Registry
from tell.text.flags import Checked, checked, prepare, union
from tell.text.mbr import best_first
from tell.text.segments import Span, fill, pieces, split

# Tokens of prompt and output together: lines longer than what fits are cut at their sentences.
CONTEXT = 4096
# Ways in which a flagged segment is tried again.
TRIES = 4
# Segments whose flags are looked for where they are; more go to a thread, so that the engine is fed meanwhile.
IN_PLACE = 4
NONE_LIVE = "none yet; publish one with: tellmt publish"


class Local:
    """A Backend on one loaded adapter."""

    characters = 1 << 20

    def __init__(self, translator: Translator, pair: LanguagePair, segment_tokens: int, tries: int = TRIES, quality: Quality = "fast"):
        self.translator, self.pair, self.segment_tokens, self.tries, self.quality = translator, pair, segment_tokens, tries, quality
        traits = traits_of(translator.engine)
        self.lines, self.parallel = traits.segments_per_call, traits.calls_at_once
        self.adapters = [translator.adapter_id or ""]

    def _measure(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self.translator.tokens.encode_batch(texts)]

    def _plans(self, texts: Sequence[str]) -> tuple[list[list[Span]], dict[int, str], list[tuple[int, str]]]:
        """The texts as pieces that the engine can hold; why some cannot be, and the pieces of the others."""
        plans = [split(t, self._measure, self.segment_tokens, self.pair.source.tag) for t in texts]
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
        return plans, failed, wanted

    async def translate(self, texts: Sequence[str]) -> list[Done]:
        plans, failed, wanted = await asyncio.to_thread(self._plans, texts)
        own = await self._chosen([piece for _, piece in wanted])
        best = await asyncio.gather(*(self._final(piece, first) for (_, piece), first in zip(wanted, own, strict=True)))
        made: dict[int, list[Checked]] = {}
        for (i, _), one in zip(wanted, best, strict=True):
            made.setdefault(i, []).append(one)
        return [
            Done("", failed=failed[i]) if i in failed else Done(fill(plan, [m.text for m in made.get(i, [])]), union(m.flags for m in made.get(i, [])))
            for i, plan in enumerate(plans)
        ]

    async def _chosen(self, texts: Sequence[str]) -> list[Checked]:
        """One for each text: the greedy one, or with quality best the candidate that is chosen."""
        drawn = samplings(candidates(self.quality, 0))
        made = [await self._decode(texts, 1.0, how) for how in (None, *drawn)]
        if not drawn:
            return made[0]
        return await asyncio.to_thread(lambda: [best_first(list(own))[0] for own in zip(*made, strict=True)])

    async def _decode(self, texts: Sequence[str], firmer: float, sampling: Sampling | None = None) -> list[Checked]:
        """Each text once through the engine, with so many times the adapter's own penalty on repetition, and its flags."""
        prompts = [self.translator.prompt(t, sampling) for t in texts]
        if firmer != 1.0:
            prompts = [dataclasses.replace(p, repetition_penalty=min(2.0, p.repetition_penalty * firmer)) for p in prompts]
        if not prompts:
            return []
        made = await self.translator.engine.generate(prompts, self.translator.adapter_id)
        hypotheses = [self.translator.hypothesis(t, g) for t, g in zip(texts, made, strict=True)]

        def check() -> list[Checked]:
            return [checked(self.pair, t, h) for t, h in zip(texts, hypotheses, strict=True)]

        return await asyncio.to_thread(check) if len(texts) > IN_PLACE else check()

    async def _final(self, piece: str, first: Checked) -> Checked:
        """What comes of a piece, tried again where it has flags."""
        if not first.flags or not self.tries:
            return first
        mend = Mend(self.pair, piece, first, self._decode, self.tries)
        await mend.run()
        return mend.best


def live_pairs(registry: Registry, shipped: Mapping[str, Shipped]) -> list[str]:
    return sorted({s.pair for s in registry.states() if s.live} | set(shipped))


@asynccontextmanager
async def open_local(
    pair: LanguagePair, registry: Registry, shipped: Mapping[str, Shipped], engine_name: str, tries: int = TRIES, quality: Quality = "fast"
) -> AsyncIterator[Local]:
    """The engine started with the pair's live adapter, or else the shipped one, loaded and checked.

    Raises NotServed with the pairs there are, MissingExtra, BaseModelError, AdapterError or EngineError.
    """
    from tell.model.base import find_base
    from tell.model.tokenizer import Tokens

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
    from serve.adapters.load_check import check_loaded
    from tell.model.translator import segment_limit

    say(f"{pair}: adapter {adapter.short}{', which came with tellmt,' if live is None else ''} on {base.id}, engine {name}")
    options = EngineOptions(base=base, max_adapters=1, max_rank=max(16, adapter.card.rank), max_context=min(CONTEXT, base.context))
    engine = open_engine(name, options)
    tokens = Tokens(base)
    try:
        # What the guards read when they are first used takes a second, in which the engine starts.
        await asyncio.gather(engine.start(), asyncio.to_thread(prepare))
        await engine.load(adapter.id, adapter.path)
        await check_loaded(engine, tokens, adapter, options.max_context)
        translator = Translator(engine, tokens, adapter.card.anchor, adapter.card.decoding, adapter.id, options.max_context)
        yield Local(translator, pair, segment_limit(translator), tries, quality)
    finally:
        # Shielded: an interrupted run must not leave the engine's processes behind.
        await asyncio.shield(engine.close())
