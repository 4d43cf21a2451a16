"""The service without HTTP: translates texts by the versions of `serve.adapters.versions`; their segments go through `serve.scheduling.queue`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Literal

from serve.adapters.base_only import PREFIX, base_of
from serve.adapters.versions import Version, Versions
from serve.config import Fallback, Limits
from serve.scheduling.batch_window import batch_window
from serve.scheduling.queue import Pending, Queue, QueuedRequest
from serve.threads import TEXTS
from serve.translation.decoder import IN_PLACE, Decoded, Decoder, Effort, choose_and_retry, finished, samplings, threaded
from serve.translation.request import DEFAULT_OPTIONS, PendingSegment, PendingTranslations, RequestOptions, Translation, pivoted
from serve.translation.routing import Route, TextRoutes, reachable, route, route_texts
from tell.errors import EngineError, TooLarge
from tell.languages import parse_pair
from tell.model.engine import Engine, traits_of
from tell.model.tokenizer import BaseTokenizer
from tell.text.flags import Checked, prepare, union
from tell.text.segments import pieces

if TYPE_CHECKING:
    from tell.lexicon.glossary import Glossary
    from tell.lexicon.terms import SegmentTerms

# The part of a request's time in which nothing is retried: a flagged translation in time is better than none.
RESERVE = 0.3
# The share of `Limits.waiting` from which the service is busy and retries nothing: a retry of one segment would cost another its first decode.
BUSY = 0.5
# A request in the background: its texts in the queue at once, seconds between two looks at the queue, and seconds after which its texts are let in all the
# same, so that a busy service is watched too: then four segments in ten seconds, in their fair turn.
BACKGROUND_TEXTS, BACKGROUND_LOOK, BACKGROUND_WAIT = 4, 0.02, 10.0
_LINE = re.compile(r"\S[^\r\n]*")


class Service:
    def __init__(self, engine: Engine, limits: Limits | None = None):
        self.engine, self.base = engine, engine.base
        self.limits = limits or Limits()
        self.tokens = BaseTokenizer(engine.base)
        # Imported on use: the commands that load this module may run without a metrics library.
        from serve.metrics.registry import Metrics
        from serve.metrics.traffic import Signals

        self.metrics = Metrics()
        self.versions = Versions(engine, self.tokens, self.limits, self.metrics)
        # The engine has started.
        self.started = False
        # When this object was made, in seconds since 1970.
        self.since = time.time()
        # `stopping`: the process is about to end; `down`: the engine is gone, as the process that watches it has seen.
        self.stopping = self.down = False
        self.queue = Queue(self.limits, batch_window(traits_of(engine), self.limits.batch), self.metrics)
        self.signals = Signals(self.metrics)
        self.versions.on_unloaded = self._unloaded

    def _unloaded(self, adapter_id: str) -> None:
        self.queue.forget(adapter_id)
        self.metrics.forget(adapter_id)
        self.metrics.forget(PREFIX + adapter_id)

    async def start(self) -> None:
        # `prepare` reads what the flags need, so that no request has to wait for that.
        await asyncio.gather(self.engine.start(), asyncio.to_thread(prepare))
        self.started = True

    async def close(self) -> None:
        self.started = False
        await self.versions.close()
        await self.engine.close()

    async def state(self) -> Literal["ready", "starting", "stopping", "down", "empty"]:
        """Whether the service would answer a request for a served pair now; `empty`: no adapter is loaded that has passed its load check."""
        if self.stopping:
            return "stopping"
        if not (self.started and self.versions.registry_read):
            return "starting"
        if self.down or not await self.engine.healthy():
            return "down"
        return "ready" if self.versions.can_answer() else "empty"

    def _check_engine(self) -> None:
        """Raises EngineError while the engine starts, or when it is gone."""
        if self.down:
            raise EngineError("the engine is down")
        if not self.started:
            raise EngineError("the service is stopping" if self.stopping else "the engine is still starting")

    @contextlib.asynccontextmanager
    async def lease(self, source: str, target: str, seconds: float = math.inf) -> AsyncIterator[Version]:
        """`Versions.lease`. Raises EngineError while the engine starts, or when it is gone."""
        self._check_engine()
        async with self.versions.lease(source, target, seconds) as version:
            yield version

    @contextlib.asynccontextmanager
    async def step(self, route: Route, number: int, seconds: float = math.inf) -> AsyncIterator[Version]:
        """`lease` of the version that translates one step of a route."""
        pair = parse_pair(route.steps[number])
        async with contextlib.AsyncExitStack() as stack:
            if route.fallback != "base":
                version = await stack.enter_async_context(self.lease(pair.source.tag, pair.target.tag, seconds))
                yield base_of(version) if route.bare else version
                return
            self._check_engine()
            yield self.versions.base_version(pair)

    def pairs(self, fallbacks: Sequence[Fallback] = ()) -> list[str]:
        """The pairs that are served, and those that the fallbacks add."""
        return reachable(self.versions.pairs(), fallbacks) if fallbacks else self.versions.pairs()

    def route(self, source: str, target: str, fallbacks: Sequence[Fallback] | None = None) -> Route:
        """`serve.translation.routing.route`; without `fallbacks` with those that the operator allows. Raises EngineError as `lease`:
        before the start nothing is served yet."""
        self._check_engine()
        return route(self.versions, source, target, self.limits.fallback if fallbacks is None else fallbacks, self.limits.fallback)

    async def routes(self, source: str, target: str, texts: Sequence[str], fallbacks: Sequence[Fallback] | None = None, base_only: bool = False) -> TextRoutes:
        """`serve.translation.routing.route_texts`: with `source` auto each text by its own language; with `base_only` the base without the adapters."""

        def find_route(source: str, target: str) -> Route:
            return dataclasses.replace(self.route(source, target, fallbacks), bare=base_only)

        served = self.pairs(self.limits.fallback if fallbacks is None else fallbacks)
        return await route_texts(served, find_route, source, target, texts)

    @property
    def busy(self) -> bool:
        """Whether so many segments wait that nothing is decoded twice."""
        return self.queue.admission.waiting > BUSY * self.limits.waiting

    def degraded_when_busy(self, options: RequestOptions) -> RequestOptions:
        """The options that a request gets: while the service is busy each segment is decoded once, whatever quality is asked for."""
        granted = dataclasses.replace(options, quality="fast", alternatives=0) if options.candidates > 1 and self.busy else options
        if options.quality == "best":
            self.metrics.best.labels(granted.quality).inc()
        return granted

    def check(self, texts: Sequence[str], options: RequestOptions = DEFAULT_OPTIONS, each: bool = False) -> None:
        """Raises TooLarge, OverShare or Overloaded as `decoding` would, before a version is leased: a request that is refused loads no adapter.

        With `each` the limit of characters is that of one text, as in LibreTranslate; the body's limit then bounds them all.
        """
        self._characters(texts, each)
        self.queue.check(options.caller, sum(map(count_lines, texts)), options.candidates)

    def _characters(self, texts: Sequence[str], each: bool = False) -> int:
        """The characters of all texts. Raises TooLarge when there are too many, or, with `each`, too many in one text."""
        if len(texts) > self.limits.texts:
            raise TooLarge("too many texts in one request", found=len(texts), valid=f"at most {self.limits.texts}")
        characters, most = sum(map(len, texts)), f"at most {self.limits.characters}"
        if each and (longest := max(map(len, texts), default=0)) > self.limits.characters:
            raise TooLarge("a text exceeds the text limit", found=f"{longest} characters", valid=most)
        if not each and characters > self.limits.characters:
            raise TooLarge("too much text in one request", found=f"{characters} characters", valid=most)
        return characters

    @contextlib.asynccontextmanager
    async def decoding(self, version: Version, texts: Sequence[str], options: RequestOptions = DEFAULT_OPTIONS) -> AsyncIterator[PendingTranslations]:
        """Texts on their way through the engine, by a version that the caller leases. When the block ends, the segments that are not translated are stopped.

        Raises TooLarge, OverShare, Overloaded, RequestError.
        """
        characters = sum(map(len, texts)) if options.measured else self._characters(texts)
        # Before anything is tokenised, so that a refusal costs next to nothing.
        segments_at_least = sum(map(count_lines, texts))
        queued = self.queue.admit(version, options.caller, segments_at_least, characters, options.seconds_left(), options.cache, options.candidates)
        pending: dict[str, PendingSegment] = {}
        segments: list[str] = []
        began = time.perf_counter()
        try:
            decoder = Decoder(version.translator, parse_pair(version.pair), version.segment_tokens)
            # Nearest pairs are looked up in milliseconds, which the loop does not have for each segment.
            in_thread = characters > IN_PLACE or version.translator.retriever is not None
            splits = await threaded(in_thread, decoder.split, texts)
            segments = [spans[i].text for spans in splits for i in pieces(spans)]
            if options.glossary:
                queued.terms = await TEXTS.run(_terms_of, options.glossary, version, segments)
                decoder = dataclasses.replace(decoder, terms=queued.terms)
            sampling = samplings(options.candidates)
            prompts = await threaded(in_thread, decoder.prompts, self.queue.undecoded(queued, segments, sampling))
            greedy = self.queue.submit(queued, segments, prompts)
            distinct = list(dict.fromkeys(segments))
            sampled = dict(zip(distinct, self.queue.sample(queued, distinct, sampling, prompts), strict=True)) if sampling else {}
            for segment, candidate in zip(segments, greedy, strict=True):
                if segment in pending:
                    continue
                if isinstance(candidate, Checked) and not candidate.flags and not sampling:
                    pending[segment] = candidate
                    self._note(queued, segment, candidate, options)
                else:
                    pending[segment] = asyncio.create_task(self._decoded(queued, segment, candidate, sampled.get(segment, ()), options))
            hints = await threaded(in_thread, decoder.hints, distinct) if options.hints else {}
            yield PendingTranslations(splits, [pending[segment] for segment in segments], options, hints)
            if segments and not options.background and not version.bare:
                self.signals.took(*version.labels, time.perf_counter() - began)
        finally:
            if options.meter:
                options.meter.translated += sum(len(segment) for segment in segments if segment in pending and _is_translated(pending[segment]))
            tasks = [p for p in pending.values() if isinstance(p, asyncio.Task)]
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                # Also when the request is cancelled a second time meanwhile: out of time, and its client gone.
                await self.queue.leave(queued)

    async def _decoded(self, queued: QueuedRequest, segment: str, greedy: Pending, sampled: Sequence[Pending], options: RequestOptions) -> Decoded:
        """`choose_and_retry` of a segment whose candidates are in the queue, counted."""

        async def decode_again(texts: Sequence[str], penalty_factor: float) -> list[Checked]:
            return [await finished(candidate) for candidate in self.queue.retry(queued, texts, penalty_factor)]

        follows_terms = queued.version.translator.follows_terms
        effort = Effort(options.quality, self.limits.tries, _reserve_begins(options), lambda: self.busy, queued.terms, follows_terms)
        decoded = await choose_and_retry(parse_pair(queued.version.pair), segment, greedy, sampled, effort, decode_again)
        if decoded.sampled is not None:
            self.metrics.chosen.labels(queued.label, "drawn" if decoded.sampled else "greedy").inc()
        if decoded.retried:
            self.metrics.mended.labels(queued.label, decoded.retried).inc()
        self._note(queued, segment, decoded, options)
        return decoded

    def _note(self, queued: QueuedRequest, segment: str, translated: Checked, options: RequestOptions) -> None:
        if options.background:
            return
        if not queued.version.bare:
            self.signals.note(*queued.version.labels, segment, translated)
            return
        # The bare base's translations tell nothing about the live adapters.
        for flag in translated.flags:
            self.metrics.flagged.labels(*queued.version.labels, flag).inc()

    async def translate(self, version: Version, texts: Sequence[str], options: RequestOptions = DEFAULT_OPTIONS) -> list[Translation]:
        """One translation per text, in order, its lines and white space kept, by a version that the caller leases.

        Raises what `decoding` does, or what the engine raises. Cancelled, it stops the engine's work for these texts.
        """
        if options.background:
            return await self._in_background(version, texts, options)
        async with self.decoding(version, texts, options) as pending:
            return await pending.translations()

    async def translate_route(self, route: Route, texts: Sequence[str], options: RequestOptions, on_lease: Callable[[Version], None]) -> list[Translation]:
        """`translate` by all steps of a route, one after the other: a lease that waits for another's end could wait for ever. `on_lease` gets each version.

        The translation of a pivot has the flags of both steps. Raises what `lease` and `translate` do.
        """
        translations: list[Translation] = []
        versions: list[Version] = []
        sources = texts
        for number in range(len(route.steps)):
            is_last_step = number == len(route.steps) - 1
            measured = options.measured or number > 0
            step_options = dataclasses.replace(
                options, alternatives=options.alternatives if is_last_step else 0, measured=measured, meter=options.meter if is_last_step else None
            )
            if len(route.steps) > 1:
                # The terms are of neither step's pair, and the segments are not told, since one step's are not the other's.
                step_options = dataclasses.replace(step_options, glossary=None, hints=False)
            async with self.step(route, number, options.seconds_left()) as version:
                on_lease(version)
                versions.append(version)
                step = await self.translate(version, texts, step_options)
            translations = [pivoted(a, b) for a, b in zip(translations, step, strict=True)] if translations else step
            texts = [t.text for t in step]
        if options.glossary and len(route.steps) > 1:
            translations = await TEXTS.run(_checked_terms, options.glossary, route.pair, sources, translations)
        if route.fallback is None:
            return translations
        return [dataclasses.replace(t, fallback=route.fallback, versions=tuple(versions)) for t in translations]

    async def _in_background(self, version: Version, texts: Sequence[str], options: RequestOptions) -> list[Translation]:
        """A few texts at a time: each waits until no other request waits, or for `BACKGROUND_WAIT` seconds at most."""
        loop = asyncio.get_running_loop()
        translations = []
        for start in range(0, len(texts), BACKGROUND_TEXTS):
            reserve = _reserve_begins(options)
            until = min(loop.time() + BACKGROUND_WAIT, math.inf if reserve is None else reserve)
            while self.queue.admission.waiting and loop.time() < until:
                await asyncio.sleep(BACKGROUND_LOOK)
            async with self.decoding(version, texts[start : start + BACKGROUND_TEXTS], options) as pending:
                translations += await pending.translations()
        return translations


def _is_translated(segment: PendingSegment) -> bool:
    return not isinstance(segment, asyncio.Task) or (segment.done() and not segment.cancelled() and segment.exception() is None)


def _terms_of(glossary: Glossary, version: Version, segments: Sequence[str]) -> SegmentTerms:
    """The glossary's terms in the segments, found."""
    terms = version.translator.terms(glossary, parse_pair(version.pair))
    terms.find_all(segments)
    return terms


def _checked_terms(glossary: Glossary, pair: str, texts: Sequence[str], translations: Sequence[Translation]) -> list[Translation]:
    """The translations of a pivot, with the flag `glossary` where terms of the text did not come out."""
    terms = glossary.segment_terms(parse_pair(pair))
    return [
        dataclasses.replace(translation, flags=union([translation.flags, ("glossary",)])) if terms.missing(text, translation.text) else translation
        for text, translation in zip(texts, translations, strict=True)
    ]


def count_lines(text: str) -> int:
    """The lines that hold something: the text has as many segments, or more where a line must be cut."""
    return len(_LINE.findall(text))


def _reserve_begins(options: RequestOptions) -> float | None:
    """When the request's reserve of time begins, in the loop's time; None where it has no deadline."""
    return None if options.deadline is None else options.deadline - options.seconds * RESERVE
