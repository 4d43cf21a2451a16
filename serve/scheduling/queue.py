"""The queue in front of the engine: which requests are admitted, whose turn it is, and which requests wait for which decode.

A segment that several requests want of one adapter version is decoded once: it waits in the line of each of them, runs when the first of these
turns comes, answers all of them, and is cancelled when the last of them has left. Translations are kept in `serve.scheduling.translation_cache`. All of it
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
from serve.scheduling.batch_window import BatchWindow, adapters_to_pause, nearest
from serve.scheduling.translation_cache import DecodeKey, TranslationCache, decode_key
from tell.errors import EngineError, Overloaded
from tell.languages import parse_pair
from tell.model.engine import Prompt, Sampling
from tell.text.flags import Checked, checked

if TYPE_CHECKING:
    from serve.metrics.registry import Metrics
    from tell.lexicon.terms import SegmentTerms

# Tokens that an adapter, a caller or a request gets in each round: about one long segment, so that turns are short.
QUANTUM = 256
# Adapter, caller, number of the request: where its segments wait.
QueuePath = tuple[str, str, int]


@dataclasses.dataclass(eq=False, slots=True)
class Decode:
    """One segment to decode, for all requests that wait for it. Each has its own future, so that one may leave without the others."""

    version: Version
    segment: str
    key: DecodeKey
    prompt: Prompt
    since: float
    # Those of a glossary, which is part of the key where the segment has some.
    terms: SegmentTerms | None = None
    requests: dict[QueuedRequest, asyncio.Future[Checked]] = dataclasses.field(default_factory=dict)
    task: asyncio.Task[None] | None = None

    @property
    def cost(self) -> int:
        # The output is about as long as the prompt, for all segments alike.
        return len(self.prompt.ids)

    @property
    def kind(self) -> Hashable:
        return self.prompt.kind


@dataclasses.dataclass(eq=False, slots=True)
class QueuedRequest:
    """One request in the queue. `segments_left` are not translated yet; `decodes` counts how often each decode occurs in it; `terms` are those of a glossary
    that its translations are to follow."""

    version: Version
    path: QueuePath
    cache: bool
    segments_left: int
    characters: int
    terms: SegmentTerms | None = None
    decodes: Counter[Decode] = dataclasses.field(default_factory=Counter)

    @property
    def label(self) -> str:
        return self.version.labels[0]

    def key(self, segment: str, how: float | Sampling | None = None) -> DecodeKey:
        """`decode_key` with the request's glossary."""
        return decode_key(segment, how, self.terms.digest_for(segment) if self.terms else "")

    def prompt(self, segment: str, penalty_factor: float = 1.0) -> Prompt:
        return self.version.translator.prompt(segment, None, penalty_factor, self.terms)


# A segment's translation, or the future of it.
Pending = Checked | asyncio.Future[Checked]


class Queue:
    def __init__(self, limits: Limits, window: BatchWindow, metrics: Metrics):
        self.metrics, self.window = metrics, window
        self.rate = Throughput()
        self.admission = Admission(limits.waiting, self.rate)
        self.cache = TranslationCache(limits.cache)
        self._waiting: FairQueue[QueuePath, Decode] = FairQueue(QUANTUM)
        self._numbers = itertools.count(1)
        # Requests with segments that are not translated yet, and the number of those segments by pair.
        self._requests: set[QueuedRequest] = set()
        self._waiting_by_pair: Counter[str] = Counter()
        # Decodes that wait or run, by adapter and segment (with its settings where they are not the adapter's own). Decodes that run, by adapter, and the
        # tokens that each adapter was given since it last had none running.
        self._decodes: dict[tuple[str, DecodeKey], Decode] = {}
        self._running: Counter[str] = Counter()
        self._given_tokens: Counter[str] = Counter()
        # Adapters that get no more until others have had their turn, and have not been in the engine since.
        self._paused: set[str] = set()
        # Tokens per character so far: the cost of a request is needed before it is tokenised.
        self._density = 0.5
        # Segments and tokens started since the engine was last empty; whether there was enough to do since `_observed_at`, in the loop's time.
        self._started = (0, 0)
        self._was_busy = False
        self._observed_at = 0.0
        metrics.oldest.set_function(self._oldest_wait)

    def _oldest_wait(self) -> float:
        oldest = self._waiting.oldest()
        return 0.0 if oldest is None else time.monotonic() - oldest.since

    def waiting(self) -> dict[str, int]:
        """Segments admitted and not translated yet, by pair."""
        return dict(self._waiting_by_pair)

    # Requests come and go.

    def check(self, caller: str, segments: int, candidates: int = 1) -> None:
        """Raises TooLarge, OverShare or Overloaded when so many segments, each with so many candidates, are not admitted now."""
        if segments:
            with self._counted(segments):
                self.admission.check(caller, segments, candidates)

    def admit(self, version: Version, caller: str, segments: int, characters: int, seconds: float, cache: bool, candidates: int = 1) -> QueuedRequest:
        """Admit a request by what is known without tokenising it; it must end with `leave`.

        Raises what `check` does, and Overloaded when its turn would come too late for its `seconds`.
        """
        self.check(caller, segments, candidates)
        adapter = version.adapter.id
        if segments:
            cost = int(characters * self._density) * candidates
            with self._counted(segments):
                self.admission.check_time(seconds, self._waiting.ahead((adapter, caller), cost), cost)
        request = QueuedRequest(version, (adapter, caller, next(self._numbers)), cache, 0, characters)
        self._count(request, segments * candidates)
        return request

    @contextlib.contextmanager
    def _counted(self, segments: int) -> Iterator[None]:
        try:
            yield
        except Overloaded as e:
            self.metrics.refused.inc(segments)
            self.metrics.refusals.labels(e.reason).inc()
            raise

    def undecoded(self, request: QueuedRequest, segments: Sequence[str], samplings: Sequence[Sampling] = ()) -> list[str]:
        """Those of the segments that have to be decoded, greedily or with the samplings, each once."""
        adapter = request.version.adapter.id

        def known(key: DecodeKey) -> bool:
            return (adapter, key) in self._decodes or (request.cache and self.cache.has(adapter, key))

        return [s for s in dict.fromkeys(segments) if not (known(request.key(s)) and all(known(request.key(s, sampling)) for sampling in samplings))]

    def submit(self, request: QueuedRequest, segments: Sequence[str], prompts: Mapping[str, Prompt]) -> list[Pending]:
        """Queue the request's segments. Returns the translation of each or its future, in order. Raises RequestError when one is too long."""
        self._count(request, len(segments) - request.segments_left)
        pending: list[Pending] = []
        new_tokens = 0
        for segment in segments:
            translation, cost = self._pending(request, segment, request.key(segment), prompts.get(segment))
            pending.append(translation)
            new_tokens += cost
        if new_tokens and request.characters:
            self._density += 0.3 * (new_tokens / request.characters - self._density)
        self._feed_engine()
        return pending

    def sample(self, request: QueuedRequest, segments: Sequence[str], samplings: Sequence[Sampling], prompts: Mapping[str, Prompt]) -> list[list[Pending]]:
        """For each of the segments, all different, one more decode for each sampling. Raises RequestError as `submit` does."""
        self._count(request, len(segments) * len(samplings))
        pending = []
        for segment in segments:
            prompt = prompts.get(segment) or request.prompt(segment)
            sampled = ((request.key(segment, sampling), dataclasses.replace(prompt, sampling=sampling)) for sampling in samplings)
            pending.append([self._pending(request, segment, key, sampled_prompt)[0] for key, sampled_prompt in sampled])
        self._feed_engine()
        return pending

    def retry(self, request: QueuedRequest, segments: Sequence[str], penalty_factor: float) -> list[Pending]:
        """More decodes for an admitted request, with `penalty_factor` times the adapter's own penalty on repetition. Raises RequestError as `submit` does."""
        prompts = [request.prompt(segment, penalty_factor) for segment in segments]
        keys = [request.key(s, None if penalty_factor == 1.0 else prompt.repetition_penalty) for s, prompt in zip(segments, prompts, strict=True)]
        self._count(request, len(segments))
        pending = [self._pending(request, segment, key, prompt)[0] for segment, key, prompt in zip(segments, keys, prompts, strict=True)]
        self._feed_engine()
        return pending

    def _pending(self, request: QueuedRequest, segment: str, key: DecodeKey, prompt: Prompt | None) -> tuple[Pending, int]:
        """One segment's translation or its future, and the tokens that this adds to the queue."""
        adapter = request.version.adapter.id
        if request.cache and (cached := self.cache.get(adapter, key)) is not None:
            self.metrics.cache_hits.inc()
            self._count_translated(request, segment, cached, 1)
            return cached, 0
        cost = 0
        decode = self._decodes.get((adapter, key))
        if decode is None:
            # The decode or the cached translation may have gone since `undecoded` was asked.
            prompt = prompt or request.prompt(segment)
            decode = self._decodes[adapter, key] = Decode(request.version, segment, key, prompt, time.monotonic(), request.terms)
            cost = decode.cost
        else:
            self.metrics.shared.inc()
        return self._join(request, decode), cost

    def _join(self, request: QueuedRequest, decode: Decode) -> asyncio.Future[Checked]:
        request.decodes[decode] += 1
        if request not in decode.requests:
            decode.requests[request] = asyncio.get_running_loop().create_future()
            if decode.task is None:
                # On each request's own path: a sentence shared with a long document must not wait for that document's turn.
                self._waiting.add(request.path, decode)
        return decode.requests[request]

    async def leave(self, request: QueuedRequest) -> None:
        """Take a request out; returns when the engine has stopped the decodes that only it waited for. Does nothing more for one that is done."""
        stopped = []
        for decode in request.decodes:
            if (future := decode.requests.pop(request, None)) is None:
                continue
            future.cancel()
            self._waiting.discard(request.path, decode)
            if not decode.requests:
                del self._decodes[request.version.adapter.id, decode.key]
                if decode.task is not None:
                    decode.task.cancel()
                    stopped.append(decode.task)
        self._count(request, -request.segments_left)
        self._feed_engine()
        if stopped:
            await asyncio.wait(stopped)

    def _count(self, request: QueuedRequest, segments: int) -> None:
        request.segments_left += segments
        (self._requests.add if request.segments_left else self._requests.discard)(request)
        self.admission.take(request.path[1], segments)
        self._waiting_by_pair[request.label] += segments
        self.metrics.waiting.set(self.admission.waiting)
        self.metrics.pair_waiting.labels(request.label).set(self._waiting_by_pair[request.label])

    def _count_translated(self, request: QueuedRequest, segment: str, translation: Checked, times: int) -> None:
        self._count(request, -times)
        labels = request.version.labels
        self.metrics.segments.labels(*labels).inc(times)
        self.metrics.characters.labels(*labels).inc(times * len(segment))
        self.metrics.truncated.labels(*labels).inc(times * translation.truncated)

    # Feeding the engine.

    def _feed_engine(self) -> None:
        """Give the engine as much as its window holds. Called whenever a request came or left, or a decode ended."""
        if self.window.batches:
            self._next_batch()
        else:
            while self._running.total() < self.window.size and (turn := self._waiting.take(self._allowed_adapters())):
                self._start_decode(*turn)
        self.metrics.in_engine.set(self._running.total())

    def _allowed_adapters(self) -> Callable[[str], bool]:
        """Which adapters may be given more now."""
        outside = set(self._waiting.outermost()) - self._running.keys()
        if not outside or len(self._running) + len(outside) <= self.window.adapters:
            self._paused.clear()
            return lambda _: True
        if len(self._running) >= self.window.adapters:
            leaving = adapters_to_pause(self.window, self._given_tokens, len(outside - self._paused))
            self._paused |= leaving
            return lambda adapter: adapter in self._running and adapter not in leaving
        # A slot is free. An adapter that has just left does not take it back while others have had none.
        if not (newcomers := outside - self._paused):
            self._paused.clear()
            newcomers = outside
        return lambda adapter: adapter in self._running or adapter in newcomers

    def _next_batch(self) -> None:
        """For an engine that runs one batch from start to end. While one batch can hold all segments, the engine gets them all and forms batches itself."""
        waiting, running, size = len(self._waiting), self._running.total(), self.window.size
        if not waiting or (running and running + waiting > size):
            return
        if not running:
            self._started, self._was_busy, self._observed_at = (0, 0), False, asyncio.get_running_loop().time()
        self._was_busy = self._was_busy or running + waiting >= size // 2
        if running + waiting <= size:
            while turn := self._waiting.take():
                self._start_decode(*turn)
        elif turn := self._waiting.take():
            path, head = turn
            self._start_decode(path, head)
            # Of one adapter and of like length, from any request: a choice among all that waits makes fuller batches than the engine could.
            for other_path, decode in nearest(self._waiting.items(path[:1]), head, size - 1):
                self._waiting.take_item(other_path, decode)
                self._start_decode(other_path, decode)

    def _start_decode(self, path: QueuePath, decode: Decode) -> None:
        adapter = path[0]
        self._running[adapter] += 1
        self._given_tokens[adapter] += decode.cost
        self._started = (self._started[0] + 1, self._started[1] + decode.cost)
        decode.task = asyncio.get_running_loop().create_task(self._run(adapter, decode))
        # Not at the coroutine's end: a task that is cancelled before its first step never gets there.
        decode.task.add_done_callback(lambda _: self._decode_ended(adapter, decode))

    async def _run(self, adapter: str, decode: Decode) -> None:
        translator = decode.version.translator
        try:
            (generation,) = await translator.engine.generate([decode.prompt], translator.adapter_id)
            pair = parse_pair(decode.version.adapter.card.pair)
            translation = checked(pair, decode.segment, translator.hypothesis(decode.segment, generation), decode.terms)
        except asyncio.CancelledError:
            # By `leave`, and then no request waits; or with the whole loop.
            self._settle(adapter, decode, EngineError("the engine was closed"))
            raise
        except Exception as e:
            self._settle(adapter, decode, e)
        else:
            self._settle(adapter, decode, translation)

    def _settle(self, adapter: str, decode: Decode, result: Checked | Exception) -> None:
        if decode.requests:
            del self._decodes[adapter, decode.key]
        if isinstance(result, Checked):
            self.metrics.tokens.labels(*decode.version.labels).inc(result.tokens)
            if any(request.cache for request in decode.requests):
                evictions = self.cache.evictions
                self.cache.put(adapter, decode.key, result)
                self.metrics.cache_evictions.inc(self.cache.evictions - evictions)
                self.metrics.cache_bytes.set(self.cache.size)
        for request, future in decode.requests.items():
            if isinstance(result, Checked):
                self._count_translated(request, decode.segment, result, request.decodes[decode])
            if not future.done():
                if isinstance(result, Checked):
                    future.set_result(result)
                else:
                    future.set_exception(result)
                    # Mark it as retrieved: a request that another segment has ended does not await this future.
                    future.exception()
        decode.requests.clear()

    def _decode_ended(self, adapter: str, decode: Decode) -> None:
        self._running[adapter] -= 1
        if not self._running[adapter]:
            del self._running[adapter], self._given_tokens[adapter]
        now = asyncio.get_running_loop().time()
        if self.window.batches:
            if self._was_busy and not self._running:
                self.rate.observe(*self._started, now - self._observed_at)
        else:
            # If there is enough to do now, there was since the last decode ended.
            if self._was_busy:
                self.rate.observe(1, decode.cost, now - self._observed_at)
            self._was_busy = self._running.total() + len(self._waiting) >= self.window.size // 2
            self._observed_at = now
        self._feed_engine()

    def forget(self, adapter_id: str) -> None:
        """Drop the translations of a version that is unloaded."""
        self.cache.forget(adapter_id)
        self.metrics.cache_bytes.set(self.cache.size)
