"""The queue in front of the engine: what is let in, whose turn it is, and who waits for which decode.

A segment that several requests want of one adapter version is decoded once: it waits in the line of each of them, runs when the first of these
turns comes, answers all, and is cancelled when the last of them has left. What was translated is kept in `serve.scheduling.translation_cache`. All of it
runs in one event loop, so what happens between two `await`s is atomic.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from serve.adapters.versions import Version
from serve.config import Limits
from serve.engines.fair_queue import FairQueue
from serve.scheduling.admission import Admission, Throughput
from serve.scheduling.batch_window import BatchWindow, nearest, resting
from serve.scheduling.translation_cache import DecodeKey, TranslationCache
from tell.errors import EngineError, Overloaded
from tell.languages import parse_pair
from tell.model.engine import Prompt, Sampling
from tell.text.flags import Checked, checked

if TYPE_CHECKING:
    from serve.metrics.registry import Metrics

# Tokens that an adapter, a caller or a request gets in each round: about one long segment, so that turns are short.
QUANTUM = 256
# Adapter, caller, number of the request: where its segments wait.
Path = tuple[str, str, int]


@dataclasses.dataclass(eq=False, slots=True)
class Decode:
    """One segment for all requests that wait for it, each with a future of its own, so that one may leave without the others."""

    version: Version
    segment: str
    key: DecodeKey
    prompt: Prompt
    since: float
    jobs: dict[QueuedRequest, asyncio.Future[Checked]] = dataclasses.field(default_factory=dict)
    task: asyncio.Task[None] | None = None

    @property
    def cost(self) -> int:
        # The output is about as long again, for all segments alike.
        return len(self.prompt.ids)

    @property
    def kind(self) -> Hashable:
        return self.prompt.kind


@dataclasses.dataclass(eq=False, slots=True)
class QueuedRequest:
    """One request in the queue. `left` segments are not translated yet; `wanted` says how often a decode stands in it."""

    version: Version
    path: Path
    cache: bool
    left: int
    characters: int
    wanted: Counter[Decode] = dataclasses.field(default_factory=Counter)

    @property
    def label(self) -> str:
        return self.version.labels[0]


# A segment's translation, or the future of it.
Pending = Checked | asyncio.Future[Checked]


class Queue:
    def __init__(self, limits: Limits, window: BatchWindow, metrics: Metrics):
        self.metrics, self.window = metrics, window
        self.rate = Throughput()
        self.admission = Admission(limits.waiting, self.rate)
        self.cache = TranslationCache(limits.cache)
        self._waiting: FairQueue[Path, Decode] = FairQueue(QUANTUM)
        self._numbers = itertools.count(1)
        # Requests with segments that are not translated yet, and those segments by pair.
        self._jobs: set[QueuedRequest] = set()
        self._pairs: Counter[str] = Counter()
        # What waits or runs, by adapter and segment (with its settings where they are not the adapter's own); and what runs, by adapter, with the
        # tokens it was given since it last had none.
        self._decodes: dict[tuple[str, DecodeKey], Decode] = {}
        self._running: Counter[str] = Counter()
        self._given: Counter[str] = Counter()
        # Adapters that left the engine to make room for others, and have not been in it since.
        self._rested: set[str] = set()
        # Tokens per character so far: what a request will cost is asked before it is tokenised.
        self._density = 0.5
        # Segments and tokens begun since the engine was last empty; whether there has been enough to do since `_noted`, in the loop's time.
        self._begun = (0, 0)
        self._busy = False
        self._noted = 0.0
        metrics.oldest.set_function(self._oldest)

    def _oldest(self) -> float:
        found = self._waiting.oldest()
        return 0.0 if found is None else time.monotonic() - found.since

    def waiting(self) -> dict[str, int]:
        """Segments admitted and not translated yet, by pair."""
        return dict(self._pairs)

    # Requests come and go.

    def check(self, caller: str, segments: int, candidates: int = 1) -> None:
        """Raises TooLarge, OverShare or Overloaded when so many segments, each of which is decoded so many times, are not let in now."""
        if segments:
            with self._counted(segments):
                self.admission.check(caller, segments, candidates)

    def admit(self, version: Version, caller: str, segments: int, characters: int, seconds: float, cache: bool, candidates: int = 1) -> QueuedRequest:
        """Let a request in, by what can be told without tokenising it; it must leave by `leave`.

        Raises what `check` does, and Overloaded when its turn would come too late for its `seconds`.
        """
        self.check(caller, segments, candidates)
        adapter = version.adapter.id
        if segments:
            cost = int(characters * self._density) * candidates
            with self._counted(segments):
                self.admission.check_time(seconds, self._waiting.ahead((adapter, caller), cost), cost)
        job = QueuedRequest(version, (adapter, caller, next(self._numbers)), cache, 0, characters)
        self._count(job, segments * candidates)
        return job

    @contextlib.contextmanager
    def _counted(self, segments: int) -> Iterator[None]:
        try:
            yield
        except Overloaded as e:
            self.metrics.refused.inc(segments)
            self.metrics.refusals.labels(e.reason).inc()
            raise

    def unknown(self, version: Version, segments: Sequence[str], cache: bool, drawn: Sequence[Sampling] = ()) -> list[str]:
        """Those of the segments that are to be decoded anew, greedily or as `drawn` says, each once."""
        adapter = version.adapter.id

        def known(key: DecodeKey) -> bool:
            return (adapter, key) in self._decodes or (cache and self.cache.has(adapter, key))

        return [s for s in dict.fromkeys(segments) if not (known(s) and all(known((s, how)) for how in drawn))]

    def submit(self, job: QueuedRequest, segments: Sequence[str], prompts: Mapping[str, Prompt]) -> list[Pending]:
        """Put the request's segments in line; what comes of each, in order. Raises RequestError when one is too long."""
        self._count(job, len(segments) - job.left)
        slots: list[Pending] = []
        fresh = 0
        for segment in segments:
            slot, cost = self._slot(job, segment, segment, prompts.get(segment))
            slots.append(slot)
            fresh += cost
        if fresh and job.characters:
            self._density += 0.3 * (fresh / job.characters - self._density)
        self._pump()
        return slots

    def draw(self, job: QueuedRequest, segments: Sequence[str], drawn: Sequence[Sampling], prompts: Mapping[str, Prompt]) -> list[list[Pending]]:
        """For each of the segments, all different, as many more decodes as `drawn` has. Raises RequestError as `submit`."""
        self._count(job, len(segments) * len(drawn))
        out = []
        for segment in segments:
            prompt = prompts.get(segment) or job.version.translator.prompt(segment)
            out.append([self._slot(job, segment, (segment, how), dataclasses.replace(prompt, sampling=how))[0] for how in drawn])
        self._pump()
        return out

    def again(self, job: QueuedRequest, segments: Sequence[str], firmer: float) -> list[Pending]:
        """More decodes for a request that has been let in, with so many times the adapter's own penalty on repetition. Raises RequestError as `submit`."""
        prompts = [job.version.translator.prompt(segment) for segment in segments]
        keys: list[DecodeKey] = list(segments)
        if firmer != 1.0:
            prompts = [dataclasses.replace(p, repetition_penalty=min(2.0, p.repetition_penalty * firmer)) for p in prompts]
            keys = [(segment, p.repetition_penalty) for segment, p in zip(segments, prompts, strict=True)]
        self._count(job, len(segments))
        slots = [self._slot(job, segment, key, prompt)[0] for segment, key, prompt in zip(segments, keys, prompts, strict=True)]
        self._pump()
        return slots

    def _slot(self, job: QueuedRequest, segment: str, key: DecodeKey, prompt: Prompt | None) -> tuple[Pending, int]:
        """What comes of one segment, and the tokens that this adds to the line."""
        adapter = job.version.adapter.id
        if job.cache and (made := self.cache.get(adapter, key)) is not None:
            self.metrics.cache_hits.inc()
            self._answered(job, segment, made, 1)
            return made, 0
        cost = 0
        decode = self._decodes.get((adapter, key))
        if decode is None:
            # One that was known a moment ago may have gone since.
            prompt = prompt or job.version.translator.prompt(segment)
            decode = self._decodes[adapter, key] = Decode(job.version, segment, key, prompt, time.monotonic())
            cost = decode.cost
        else:
            self.metrics.shared.inc()
        return self._join(job, decode), cost

    def _join(self, job: QueuedRequest, decode: Decode) -> asyncio.Future[Checked]:
        job.wanted[decode] += 1
        if job not in decode.jobs:
            decode.jobs[job] = asyncio.get_running_loop().create_future()
            if decode.task is None:
                # In each request's own line: shared with a long document, a sentence must not wait for that document's turn.
                self._waiting.add(job.path, decode)
        return decode.jobs[job]

    async def leave(self, job: QueuedRequest) -> None:
        """Take a request out; returns when the engine has let go of what only it waited for. Nothing is left of one that is done."""
        stopped = []
        for decode in job.wanted:
            if (future := decode.jobs.pop(job, None)) is None:
                continue
            future.cancel()
            self._waiting.discard(job.path, decode)
            if not decode.jobs:
                del self._decodes[job.version.adapter.id, decode.key]
                if decode.task is not None:
                    decode.task.cancel()
                    stopped.append(decode.task)
        self._count(job, -job.left)
        self._pump()
        if stopped:
            await asyncio.wait(stopped)

    def _count(self, job: QueuedRequest, more: int) -> None:
        job.left += more
        (self._jobs.add if job.left else self._jobs.discard)(job)
        self.admission.take(job.path[1], more)
        self._pairs[job.label] += more
        self.metrics.waiting.set(self.admission.waiting)
        self.metrics.pair_waiting.labels(job.label).set(self._pairs[job.label])

    def _answered(self, job: QueuedRequest, segment: str, made: Checked, times: int) -> None:
        self._count(job, -times)
        labels = job.version.labels
        self.metrics.segments.labels(*labels).inc(times)
        self.metrics.characters.labels(*labels).inc(times * len(segment))
        self.metrics.truncated.labels(*labels).inc(times * made.truncated)

    # The engine is fed.

    def _pump(self) -> None:
        """Give the engine what it has room for. Called whenever something came, ended or left."""
        if self.window.batches:
            self._next_batch()
        else:
            while self._running.total() < self.window.size and (turn := self._waiting.take(self._open())):
                self._start(*turn)
        self.metrics.in_engine.set(self._running.total())

    def _open(self) -> Callable[[str], bool]:
        """Which adapters may be given more now."""
        outside = set(self._waiting.outermost()) - self._running.keys()
        if not outside or len(self._running) + len(outside) <= self.window.adapters:
            self._rested.clear()
            return lambda _: True
        if len(self._running) >= self.window.adapters:
            rest = resting(self.window, self._given, len(outside - self._rested))
            self._rested |= rest
            return lambda adapter: adapter in self._running and adapter not in rest
        # A slot is free. One that has just made room does not take it back while others have had none.
        if not (first := outside - self._rested):
            self._rested.clear()
            first = outside
        return lambda adapter: adapter in self._running or adapter in first

    def _next_batch(self) -> None:
        """For an engine that runs one batch from start to end. As long as one can hold all there is, it gets all, and puts it together itself."""
        waited, running, size = len(self._waiting), self._running.total(), self.window.size
        if not waited or (running and running + waited > size):
            return
        if not running:
            self._begun, self._busy, self._noted = (0, 0), False, asyncio.get_running_loop().time()
        self._busy = self._busy or running + waited >= size // 2
        if running + waited <= size:
            while turn := self._waiting.take():
                self._start(*turn)
        elif turn := self._waiting.take():
            path, head = turn
            self._start(path, head)
            # Of one adapter and of like length, whoever asked: what is chosen from all that waits makes fuller batches than the engine could.
            for other_path, decode in nearest(self._waiting.items(path[:1]), head, size - 1):
                self._waiting.take_item(other_path, decode)
                self._start(other_path, decode)

    def _start(self, path: Path, decode: Decode) -> None:
        adapter = path[0]
        self._running[adapter] += 1
        self._given[adapter] += decode.cost
        self._begun = (self._begun[0] + 1, self._begun[1] + decode.cost)
        decode.task = asyncio.get_running_loop().create_task(self._run(adapter, decode))
        # Not at the coroutine's end: one that is cancelled before its first step never gets there.
        decode.task.add_done_callback(lambda _: self._ended(adapter, decode))

    async def _run(self, adapter: str, decode: Decode) -> None:
        translator = decode.version.translator
        try:
            (generation,) = await translator.engine.generate([decode.prompt], translator.adapter_id)
            pair = parse_pair(decode.version.adapter.card.pair)
            made = checked(pair, decode.segment, translator.hypothesis(decode.segment, generation))
        except asyncio.CancelledError:
            # By `leave`, and then nobody waits; or with the whole loop.
            self._settle(adapter, decode, EngineError("the engine was closed"))
            raise
        except Exception as e:
            self._settle(adapter, decode, e)
        else:
            self._settle(adapter, decode, made)

    def _settle(self, adapter: str, decode: Decode, result: Checked | Exception) -> None:
        if decode.jobs:
            del self._decodes[adapter, decode.key]
        if isinstance(result, Checked):
            self.metrics.tokens.labels(*decode.version.labels).inc(result.tokens)
            if any(job.cache for job in decode.jobs):
                before = self.cache.evictions
                self.cache.put(adapter, decode.key, result)
                self.metrics.cache_evictions.inc(self.cache.evictions - before)
                self.metrics.cache_bytes.set(self.cache.size)
        for job, future in decode.jobs.items():
            if isinstance(result, Checked):
                self._answered(job, decode.segment, result, job.wanted[decode])
            if not future.done():
                if isinstance(result, Checked):
                    future.set_result(result)
                else:
                    future.set_exception(result)
                    # Told to whoever waits for it. A request that another segment has already ended does not.
                    future.exception()
        decode.jobs.clear()

    def _ended(self, adapter: str, decode: Decode) -> None:
        self._running[adapter] -= 1
        if not self._running[adapter]:
            del self._running[adapter], self._given[adapter]
        now = asyncio.get_running_loop().time()
        if self.window.batches:
            if self._busy and not self._running:
                self.rate.note(*self._begun, now - self._noted)
        else:
            # There was enough to do since the last one ended, if there is now.
            if self._busy:
                self.rate.note(1, decode.cost, now - self._noted)
            self._busy = self._running.total() + len(self._waiting) >= self.window.size // 2
            self._noted = now
        self._pump()

    def forget(self, adapter_id: str) -> None:
        """The version is unloaded: what it made goes with it."""
        self.cache.forget(adapter_id)
        self.metrics.cache_bytes.set(self.cache.size)
