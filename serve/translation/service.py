"""The service without HTTP: texts in, translations out, by the versions of `serve.adapters.versions`, in pieces that go through `serve.scheduling.queue`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, ParamSpec, TypeVar

from serve.adapters.base_only import PREFIX, base_of
from serve.adapters.versions import Version, Versions
from serve.config import Limits, Way
from serve.scheduling.batch_window import batch_window
from serve.scheduling.queue import Pending, Queue, QueuedRequest
from serve.translation.quality import samplings
from serve.translation.request import ASK, Ask, Chosen, Final, Translation, Work, final, pivoted
from serve.translation.retry import Mend
from serve.translation.routing import Route, reachable, route
from tell.errors import EngineError, TooLarge
from tell.languages import parse_pair
from tell.model.engine import Engine, Prompt, traits_of
from tell.model.tokenizer import Tokens
from tell.text.flags import Checked, prepare
from tell.text.mbr import best_first
from tell.text.segments import Span, pieces, split

P = ParamSpec("P")
T = TypeVar("T")

# Characters that are split and tokenised where they are, in a millisecond; more than that goes to a thread, whose start takes a part of one.
IN_PLACE = 1000
# The part of a request's time in which nothing is tried again: a flagged translation in time is better than none.
RESERVE = 0.3
# Of what may wait; while more does, nothing is tried again: a second try for one would cost another its first.
BUSY = 0.5
# Of a request that gives way: texts in the queue at once, seconds between two looks at it, and seconds until it is let in all the same, so that a busy
# service is watched too: then four segments in ten seconds, in their fair turn.
LOW_TEXTS, LOW_LOOK, LOW_WAIT = 4, 0.02, 10.0
_LINE = re.compile(r"\S[^\r\n]*")


class Service:
    def __init__(self, engine: Engine, limits: Limits | None = None):
        self.engine, self.base = engine, engine.base
        self.limits = limits or Limits()
        self.tokens = Tokens(engine.base)
        # On use, so that translating a file needs no metrics library.
        from serve.metrics.registry import Metrics
        from serve.metrics.traffic import Signals

        self.metrics = Metrics()
        self.versions = Versions(engine, self.tokens, self.limits, self.metrics)
        # The engine is up.
        self.started = False
        # Of this object's making, in seconds since 1970.
        self.since = time.time()
        # The process is about to end; and the engine is gone, as seen by who watches it.
        self.stopping = self.down = False
        self.queue = Queue(self.limits, batch_window(traits_of(engine), self.limits.batch), self.metrics)
        self.signals = Signals(self.metrics)
        self.versions.on_unloaded = self._unloaded

    def _unloaded(self, adapter_id: str) -> None:
        self.queue.forget(adapter_id)
        self.metrics.forget(adapter_id)
        self.metrics.forget(PREFIX + adapter_id)

    async def start(self) -> None:
        # What the guards read when they are first used, they would read while everybody waits.
        await asyncio.gather(self.engine.start(), asyncio.to_thread(prepare))
        self.started = True

    async def close(self) -> None:
        self.started = False
        await self.versions.close()
        await self.engine.close()

    async def state(self) -> Literal["ready", "starting", "stopping", "down", "empty"]:
        """Whether a translation asked for now would be answered, if its pair is served; `empty`: no adapter is there that has been seen to act."""
        if self.stopping:
            return "stopping"
        if not (self.started and self.versions.registry_read):
            return "starting"
        if self.down or not await self.engine.healthy():
            return "down"
        return "ready" if self.versions.can_answer() else "empty"

    def _answering(self) -> None:
        """Raises EngineError while the engine starts, or when it is gone."""
        if self.down:
            raise EngineError("the engine is down")
        if not self.started:
            raise EngineError("the service is stopping" if self.stopping else "the engine is still starting")

    @contextlib.asynccontextmanager
    async def lease(self, source: str, target: str) -> AsyncIterator[Version]:
        """`Versions.lease`. Raises EngineError while the engine starts, or when it is gone."""
        self._answering()
        async with self.versions.lease(source, target) as version:
            yield version

    @contextlib.asynccontextmanager
    async def step(self, route: Route, number: int) -> AsyncIterator[Version]:
        """`lease` of what translates in one step of a route."""
        pair = parse_pair(route.steps[number])
        async with contextlib.AsyncExitStack() as stack:
            if route.way != "base":
                version = await stack.enter_async_context(self.lease(pair.source.tag, pair.target.tag))
                yield base_of(version) if route.bare else version
                return
            self._answering()
            yield self.versions.base_version(pair)

    def pairs(self, ways: Sequence[Way] = ()) -> list[str]:
        """The pairs that are served, and those that these ways add."""
        return reachable(self.versions.pairs(), ways) if ways else self.versions.pairs()

    def route(self, source: str, target: str, ways: Sequence[Way] | None = None) -> Route:
        """`serve.translation.routing.route`; without `ways` by those that the operator has named. Raises EngineError as `lease`:
        before the start nothing is served yet."""
        self._answering()
        return route(self.versions, source, target, self.limits.fallback if ways is None else ways, self.limits.fallback)

    @property
    def busy(self) -> bool:
        """Whether so much waits that nothing is done twice."""
        return self.queue.admission.waiting > BUSY * self.limits.waiting

    def settled(self, ask: Ask) -> Ask:
        """What a request gets of what it wants: while the service is busy each segment is decoded once, whoever wants more."""
        got = dataclasses.replace(ask, quality="fast", alternatives=0) if ask.candidates > 1 and self.busy else ask
        if ask.quality == "best":
            self.metrics.best.labels(got.quality).inc()
        return got

    def check(self, texts: Sequence[str], ask: Ask = ASK) -> None:
        """Raises TooLarge, OverShare or Overloaded as `work` would, before a version is leased: a request that is refused loads no adapter."""
        self._characters(texts)
        self.queue.check(ask.caller, sum(map(lines, texts)), ask.candidates)

    def _characters(self, texts: Sequence[str]) -> int:
        if len(texts) > self.limits.texts:
            raise TooLarge("too many texts in one request", found=len(texts), valid=f"at most {self.limits.texts}")
        if (characters := sum(map(len, texts))) > self.limits.characters:
            raise TooLarge("too much text in one request", found=f"{characters} characters", valid=f"at most {self.limits.characters}")
        return characters

    @contextlib.asynccontextmanager
    async def work(self, version: Version, texts: Sequence[str], ask: Ask = ASK) -> AsyncIterator[Work]:
        """Texts on their way through the engine, by a version that the caller leases; left, what is not done is stopped.

        Raises TooLarge, OverShare, Overloaded, RequestError.
        """
        characters = sum(map(len, texts)) if ask.measured else self._characters(texts)
        # Before anything is tokenised, so that a refusal costs next to nothing.
        job = self.queue.admit(version, ask.caller, sum(map(lines, texts)), characters, ask.left(), ask.cache, ask.candidates)
        finals: dict[str, Final] = {}
        began = time.perf_counter()
        try:
            aside = characters > IN_PLACE
            plans = await _called(aside, self._plan, version, texts)
            segments = [plan[i].text for plan in plans for i in pieces(plan)]
            drawn = samplings(ask.candidates)
            prompts = await _called(aside, _prompts, version, self.queue.undecoded(version, segments, ask.cache, drawn))
            slots = self.queue.submit(job, segments, prompts)
            distinct = list(dict.fromkeys(segments))
            more = dict(zip(distinct, self.queue.sample(job, distinct, drawn, prompts), strict=True)) if drawn else {}
            for segment, slot in zip(segments, slots, strict=True):
                if segment in finals:
                    continue
                if isinstance(slot, Checked) and not slot.flags and not drawn:
                    finals[segment] = slot
                    self._note(job, segment, slot, ask)
                else:
                    finals[segment] = asyncio.create_task(self._final(job, segment, slot, more.get(segment, ()), ask))
            yield Work(plans, [finals[segment] for segment in segments], ask.alternatives)
            if segments and not ask.low and not version.bare:
                self.signals.took(*version.labels, time.perf_counter() - began)
        finally:
            tasks = [f for f in finals.values() if isinstance(f, asyncio.Task)]
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                # Also when the request is cancelled a second time meanwhile: out of time, and its client gone.
                await self.queue.leave(job)

    async def _final(self, job: QueuedRequest, segment: str, slot: Pending, drawn: Sequence[Pending], ask: Ask) -> Chosen:
        """What comes of a segment: the candidate that is chosen, tried again where it has flags and there is time."""
        made = await final(slot)
        ranked: list[Checked] = []
        if drawn:
            found = [made, *await _done(drawn, None if ask.deadline is None else ask.left() - ask.seconds * RESERVE)]
            ranked = await _called(sum(len(c.text) for c in found) > IN_PLACE, best_first, found)
            if ask.quality == "best":
                self.metrics.chosen.labels(job.label, "greedy" if ranked[0].text == made.text else "drawn").inc()
                made = ranked[0]
        best = await self._mended(job, segment, made, ask) if made.flags else made
        self._note(job, segment, best, ask)
        return Chosen(best.text, best.tokens, best.truncated, best.flags, tuple(c for c in ranked if c.text != best.text))

    async def _mended(self, job: QueuedRequest, segment: str, made: Checked, ask: Ask) -> Checked:
        async def decode(texts: Sequence[str], firmer: float) -> list[Checked]:
            return [await final(s) for s in self.queue.retry(job, texts, firmer)]

        mend = Mend(parse_pair(job.version.pair), segment, made, decode, self.limits.tries)
        busy = self.busy
        if not busy:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if ask.deadline is None else ask.deadline - ask.seconds * RESERVE):
                    await mend.run()
        best = mend.best
        self.metrics.mended.labels(job.label, "busy" if busy else "same" if best is made else "better" if best.flags else "clean").inc()
        return best

    def _note(self, job: QueuedRequest, segment: str, made: Checked, ask: Ask) -> None:
        if ask.low:
            return
        if not job.version.bare:
            self.signals.note(*job.version.labels, segment, made)
            return
        # What the bare base makes says nothing of what is live.
        for flag in made.flags:
            self.metrics.flagged.labels(*job.version.labels, flag).inc()

    async def translate(self, version: Version, texts: Sequence[str], ask: Ask = ASK) -> list[Translation]:
        """One translation per text, in order, its lines and white space kept, by a version that the caller leases.

        Raises what `work` does, or what the engine raises. Cancelled, it stops the engine's work for these texts.
        """
        if ask.low:
            return await self._behind(version, texts, ask)
        async with self.work(version, texts, ask) as work:
            return await work.translations()

    async def through(self, route: Route, texts: Sequence[str], ask: Ask, taken: Callable[[Version], None]) -> list[Translation]:
        """`translate` by all steps of a route, one after the other: a lease that waits for another's end could wait for ever. `taken` is told each version.

        What two steps made has the flags of both. Raises what `lease` and `translate` do.
        """
        made: list[Translation] = []
        by: list[Version] = []
        for number in range(len(route.steps)):
            last = number == len(route.steps) - 1
            own = dataclasses.replace(ask, alternatives=ask.alternatives if last else 0, measured=ask.measured or number > 0)
            async with self.step(route, number) as version:
                taken(version)
                by.append(version)
                found = await self.translate(version, texts, own)
            made = [pivoted(a, b) for a, b in zip(made, found, strict=True)] if made else found
            texts = [t.text for t in found]
        return made if route.way is None else [dataclasses.replace(t, way=route.way, by=tuple(by)) for t in made]

    async def _behind(self, version: Version, texts: Sequence[str], ask: Ask) -> list[Translation]:
        """A few texts at a time, each once nothing else waits, or, where something always does, when it has waited its time."""
        loop = asyncio.get_running_loop()
        out = []
        for at in range(0, len(texts), LOW_TEXTS):
            until = min(loop.time() + LOW_WAIT, math.inf if ask.deadline is None else ask.deadline - ask.seconds * RESERVE)
            while self.queue.admission.waiting and loop.time() < until:
                await asyncio.sleep(LOW_LOOK)
            async with self.work(version, texts[at : at + LOW_TEXTS], ask) as work:
                out += await work.translations()
        return out

    def _plan(self, version: Version, texts: Sequence[str]) -> list[list[Span]]:
        def measure(parts: list[str]) -> list[int]:
            return [len(ids) for ids in self.tokens.encode_batch(parts)]

        source = parse_pair(version.pair).source.tag
        return [split(text, measure, version.segment_tokens, source) for text in texts]


async def _done(slots: Sequence[Pending], seconds: float | None) -> list[Checked]:
    """Those that are done within so many seconds, in order; what goes wrong with one is raised."""
    futures = [s for s in slots if not isinstance(s, Checked)]
    if futures:
        await asyncio.wait(futures, timeout=None if seconds is None else max(0.0, seconds))
    return [s if isinstance(s, Checked) else s.result() for s in slots if isinstance(s, Checked) or s.done()]


def lines(text: str) -> int:
    """The lines that hold something: as many segments, or more where one must be cut."""
    return len(_LINE.findall(text))


def _prompts(version: Version, segments: Sequence[str]) -> dict[str, Prompt]:
    return {segment: version.translator.prompt(segment) for segment in segments}


async def _called(aside: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(work, *args, **kwargs) if aside else work(*args, **kwargs)
