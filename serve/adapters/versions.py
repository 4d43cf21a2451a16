"""Which adapter version answers for which pair: versions are loaded, checked, switched to, drained and unloaded.

Every method runs in one event loop, so what happens between two `await`s is atomic: a request takes its version and is
counted against it in one step, and a new version takes a pair over in one step. A version that no longer answers is unloaded when its last
request has ended; one that a roll back would bring, or that gets no requests, only when its place is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from serve.adapters.eviction import EvictionScope, least_recently_used, victim, with_timeout
from serve.adapters.load_check import LoadCheck, check_loaded
from serve.config import Limits
from serve.metrics.adapter_loads import Loads
from tell.adapter.card import Adapter, BaseRef, Card, check_base
from tell.adapter.translation import translator_of
from tell.errors import AdapterError, EngineError, NotServed, Overloaded, RequestError, TellmtError
from tell.languages import LanguagePair, distance, language, nearest_pair, parse_pair, same_variety
from tell.machine import give_back
from tell.model.anchor import AnchorConfig, render
from tell.model.engine import Engine
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator, segment_limit

if TYPE_CHECKING:
    from serve.metrics.registry import Metrics

logger = logging.getLogger(__name__)

# Seconds between two looks at whether a place has become free.
LOOK = 0.02
# Seconds in which an engine is to unload an adapter.
UNLOAD = 60.0
# The name of the base without an adapter, where an adapter's id would stand.
BARE = "base"
# Adapters whose load check is kept for the next time they are loaded: a few kB each.
LOAD_CHECKS = 1024


@dataclasses.dataclass(eq=False, slots=True)
class Version:
    """A checked adapter in the engine. `idle` is set while no request uses it, `leaving` when its place is to go to another pair."""

    adapter: Adapter
    translator: Translator
    segment_tokens: int
    since: float = dataclasses.field(default_factory=time.time)
    loaded: float = dataclasses.field(default_factory=time.monotonic)
    used: float = dataclasses.field(default_factory=time.monotonic)
    in_flight: int = 0
    idle: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    leaving: bool = False
    # The registry's number of the change by which it is live; None before.
    generation: int | None = None
    unloading: bool = False

    def __post_init__(self) -> None:
        self.idle.set()

    @property
    def pair(self) -> str:
        return self.adapter.card.pair

    @property
    def bare(self) -> bool:
        """Whether it is the base without an adapter."""
        return self.translator.adapter_id is None

    @property
    def name(self) -> str:
        """How responses name it: by the adapter's id, or as the base where a pair has no adapter."""
        return self.adapter.id.partition(" ")[0]

    @property
    def labels(self) -> tuple[str, str]:
        """Pair and version as labels of metrics. Clients choose the pairs for which the base is asked, and must not choose labels: these share one."""
        return (BARE, BARE) if self.name == BARE else (self.pair, self.adapter.id)


class Versions:
    """`loaders` holds every pair that is served, with the function that loads it on a request, which is given the seconds that the request has left and raises
    what keeps the pair from being loaded."""

    def __init__(self, engine: Engine, tokens: BaseTokenizer, limits: Limits, metrics: Metrics):
        self.engine, self.base, self.tokens, self.limits, self.metrics = engine, engine.base, tokens, limits, metrics
        self._loads = Loads(metrics.registry)
        self.live: dict[str, Version] = {}
        # The registry has been read once, so the versions that were live at the start now answer.
        self.registry_read = False
        self.loaders: dict[str, Callable[[float], Awaitable[None]]] = {}
        self.pinned: set[str] = set()
        self.shipped: set[str] = set()
        # What a request for the pair waits for before it takes its version; None where it may take it.
        self.hold: Callable[[str], Awaitable[object] | None] = lambda pair: None
        # Called with a pair that was evicted, and the pair that took its place.
        self.on_evicted: Callable[[str, str], None] = lambda pair, newcomer: None
        # Called with the id of every version that was unloaded.
        self.on_unloaded: Callable[[str], None] = lambda adapter_id: None
        # The pairs of `loaders` whose adapter cannot be used.
        self.failing: set[str] = set()
        # The time of each pair's last request, in seconds since 1970.
        self.last_requested: dict[str, float] = {}
        # By pair, the id of the version that a roll back would bring.
        self._rollback_ids: dict[str, str] = {}
        self._versions: dict[str, Version] = {}
        # Loads in progress: the pair by the adapter's id.
        self._loading: dict[str, str] = {}
        self._eviction_lock = asyncio.Lock()
        self._load_checks: dict[str, LoadCheck] = {}
        # Pairs that were live and were evicted.
        self._evicted: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Loading

    def loaded_version(self, adapter_id: str) -> Version | None:
        """The version, if it is loaded and stays."""
        version = self._versions.get(adapter_id)
        return None if version is None or version.leaving or version.unloading else version

    def has_place(self) -> bool:
        """Whether one more pair can be loaded without an eviction."""
        return self._resident_pairs() < self.limits.adapters - 1

    def _resident_pairs(self) -> int:
        """Pairs that are loaded or being loaded. One place is for the new version during a change."""
        return len(self.live.keys() | self._loading.values())

    @contextlib.asynccontextmanager
    async def reserve_place(self, pair: str, adapter_id: str, scope: EvictionScope) -> AsyncIterator[None]:
        """A place in the engine for a version of the pair, while it is loaded.

        Raises Overloaded when `scope` allows none, or when none became free in `patience` seconds.
        """
        try:
            async with asyncio.timeout(self.limits.patience), self._eviction_lock:
                while not self._fits(pair, adapter_id):
                    await self._evict_or_wait(pair, adapter_id, scope)
                self._loading[adapter_id] = pair
        except TimeoutError:
            valid = "asking again in a while, or a higher --max-adapters"
            raise Overloaded("no place for another adapter until others have finished", found=f"{len(self._versions)} loaded", valid=valid) from None
        try:
            yield
        finally:
            self._loading.pop(adapter_id, None)

    def _fits(self, pair: str, adapter_id: str) -> bool:
        held_ids = self._versions.keys() | self._loading.keys()
        return (pair in self.live or self.has_place()) and (adapter_id in held_ids or len(held_ids) < self.limits.adapters)

    async def _evict_or_wait(self, pair: str, adapter_id: str, scope: EvictionScope) -> None:
        """One step towards a free place: unload a version, or wait a little."""
        if pair in self.live or self.has_place():
            in_use = {id(v) for v in self.live.values()}
            # Those that are loaded and wait for other replicas are in `_loading`.
            kept = {adapter_id, *self._loading}
            spare = [v for v in self._versions.values() if id(v) not in in_use and v.adapter.id not in kept and not v.unloading]
            if (unused := least_recently_used(spare)) is not None:
                await self._remove(unused)
            else:
                await asyncio.sleep(LOOK)
            return
        # A version that answers while a newer one is refused could not be loaded again.
        protected = self.pinned | self.failing
        evicted_pair = victim(self.live, protected, self.shipped, scope, self.limits.stay, time.monotonic())
        if evicted_pair is not None:
            await self._evict(evicted_pair, pair)
        elif scope != "any":
            newcomer = "a shipped adapter beside the published ones" if pair in self.shipped else "another adapter"
            raise Overloaded(f"no place for {newcomer}", found=f"{self._resident_pairs()} loaded", valid="a higher --max-adapters")
        elif self.live.keys() | self._loading.values() <= protected:
            reason = "no place for another adapter: every place is held by a pinned pair"
            raise Overloaded(reason, found=f"{self._resident_pairs()} loaded", valid="fewer pins, or a higher --max-adapters")
        else:
            await asyncio.sleep(LOOK)

    async def _evict(self, pair: str, newcomer: str) -> None:
        """Unload the version of a pair once its requests have ended. Cancelled before that, it goes on answering."""
        version = self.live[pair]
        self._unset_live(pair)
        version.leaving = True
        try:
            while version.in_flight:
                await version.idle.wait()
        except asyncio.CancelledError:
            version.leaving = False
            if pair in self.loaders and pair not in self.live:
                self._set_live(pair, version)
            else:
                self._start_task(self._drain(pair, version))
            raise
        self._evicted.add(pair)
        self.on_evicted(pair, newcomer)
        self._loads.evicted.labels(pair).inc()
        await self._remove(version)

    def check(self, adapter: Adapter) -> None:
        """Raises AdapterError for what can be told without the engine."""
        check_base(adapter, self.base.id, self.base.revision)
        if adapter.card.rank > self.limits.rank:
            raise AdapterError(
                "the adapter's rank is too high", place=str(adapter.path), found=adapter.card.rank, valid=f"at most {self.limits.rank} (--max-rank)"
            )

    async def load_checked(self, adapter: Adapter) -> Version:
        """Load the adapter and check that it acts, in the place that the caller has reserved. Raises TellmtError and leaves the engine as it was."""
        self.check(adapter)
        while loaded := self._versions.get(adapter.id):
            if self.loaded_version(adapter.id):
                # Still draining, as after a quick roll back, or kept for one: it was checked already.
                return loaded
            await asyncio.sleep(LOOK)
        pair, started, succeeded = adapter.card.pair, time.perf_counter(), False
        try:
            translator = await asyncio.to_thread(translator_of, self.engine, self.tokens, adapter, self.limits.context)
            load_check = await with_timeout(self._load(translator, adapter), self.limits.load)
            succeeded = True
        except TimeoutError:
            raise EngineError("the adapter was not loaded and checked in time", place=str(adapter.path), found=f"over {self.limits.load:g} s") from None
        finally:
            self._loads.loads.labels(pair, "loaded" if succeeded else "failed").inc()
            if succeeded:
                self._loads.seconds.observe(time.perf_counter() - started)
            elif adapter.id in self.engine.loaded():
                await asyncio.shield(self._unload(adapter.id))
        self._load_checks[adapter.id] = load_check
        if len(self._load_checks) > LOAD_CHECKS:
            del self._load_checks[next(iter(self._load_checks))]
        version = self._versions[adapter.id] = Version(adapter, translator, segment_limit(translator))
        self._loads.resident.set(len(self._versions))
        return version

    async def _load(self, translator: Translator, adapter: Adapter) -> LoadCheck:
        await self.engine.load(adapter.id, adapter.path)
        load_check = await check_loaded(translator, adapter, self._load_checks.get(adapter.id))
        # Of the adapter's files, and of the check's batches.
        await asyncio.to_thread(give_back)
        return load_check

    # Switching and leasing

    def switch(self, pair: str, version: Version | None) -> None:
        """Let `version` answer for the pair from now on, or none; requests in flight end on the version that they began with."""
        earlier = self.live.get(pair)
        if version is None:
            self._evicted.discard(pair)
        if earlier is version:
            return
        if earlier is not None:
            self._unset_live(pair)
        if version is not None:
            version.since = time.time()
            self._set_live(pair, version)
        if earlier is not None:
            self._start_task(self._drain(pair, earlier))

    def keep_for_rollback(self, pair: str, adapter_id: str | None) -> None:
        """Keep this version of the pair loaded for a roll back, if it is loaded; no longer keep the one before."""
        earlier_id = self._rollback_ids.pop(pair, None)
        if adapter_id is not None:
            self._rollback_ids[pair] = adapter_id
        if earlier_id not in (None, adapter_id) and (version := self._versions.get(str(earlier_id))):
            self._start_task(self._drain(pair, version))

    def _set_live(self, pair: str, version: Version) -> None:
        self.live[pair] = version
        self._evicted.discard(pair)
        self.metrics.live.labels(pair, version.adapter.id).set(1)

    def _unset_live(self, pair: str) -> None:
        self.metrics.live.remove(pair, self.live.pop(pair).adapter.id)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _drain(self, pair: str, version: Version) -> None:
        while version.in_flight:
            await version.idle.wait()
        if self.live.get(pair) is version or self._rollback_ids.get(pair) == version.adapter.id or version.leaving or version.unloading:
            return
        await self._remove(version)

    async def _remove(self, version: Version) -> None:
        """Unload a version. The unloading ends whether or not the caller waits for it."""
        version.unloading = True

        async def drop() -> None:
            await self._unload(version.adapter.id)
            self._versions.pop(version.adapter.id, None)
            self._loads.resident.set(len(self._versions))

        await asyncio.shield(self._start_task(drop()))

    async def _unload(self, adapter_id: str) -> None:
        try:
            await with_timeout(self.engine.unload(adapter_id), UNLOAD)
        except TimeoutError:
            logger.warning(f"{adapter_id[:12]}: not unloaded: the engine did not unload it in {UNLOAD:g} s", extra={"version": adapter_id})
        except TellmtError as e:
            logger.warning(f"{adapter_id[:12]}: not unloaded: {e}", extra={"version": adapter_id})
        self.on_unloaded(adapter_id)

    @contextlib.asynccontextmanager
    async def lease(self, source: str, target: str, seconds: float = math.inf) -> AsyncIterator[Version]:
        """The version that answers for a pair, loaded if it was not. Finding it and keeping it from being unloaded are one step.

        `seconds` are those that the request has left. Raises LanguageError for a code that is none,
        NotServed for a pair that is not served, Overloaded while there is no place for it, or what keeps it from being loaded.
        """
        pair = self.find_pair(source, target)
        self.last_requested[pair] = time.time()
        deadline = time.monotonic() + seconds
        while (held := self.hold(pair)) is not None or (version := self.live.get(pair)) is None:
            if held is not None:
                await held
                continue
            if (loader := self.loaders.get(pair)) is None:
                raise NotServed("no adapter for this pair", found=pair, valid=self._served_text())
            await loader(deadline - time.monotonic())
        # No `await` since it was found.
        version.in_flight += 1
        version.idle.clear()
        version.used = time.monotonic()
        try:
            yield version
        finally:
            version.in_flight -= 1
            version.used = time.monotonic()
            if not version.in_flight:
                version.idle.set()

    def find_pair(self, source: str, target: str) -> str:
        """The pair that answers for these codes, in any case; without its region where no adapter is for it. Raises LanguageError, RequestError, NotServed."""
        target_language = language(target, "target")
        if source == "auto":
            served = [parse_pair(pair) for pair in self.pairs()]
            distances = {p.target: steps for p in served if (steps := distance(target_language, p.target)) is not None}
            nearest = [str(p) for p in served if p.target in distances and distances[p.target] == min(distances.values())]
            if len(nearest) > 1:
                raise RequestError("the source language cannot be told", place="source", found="auto", valid=f"its code: served are {', '.join(nearest)}")
            if not nearest:
                raise NotServed("no adapter translates into this language", found=target_language.tag, valid=self._served_text())
            return nearest[0]
        source_language = language(source, "source")
        if same_variety(source_language, target_language):
            raise RequestError("source and target are the same language", found=target_language.tag)
        requested = LanguagePair(source_language, target_language)
        served_pairs = self.live.keys() | self.loaders.keys()
        if str(requested) in served_pairs:
            return str(requested)
        if (nearest_served := nearest_pair(requested, map(parse_pair, served_pairs))) is None:
            raise NotServed("no adapter for this pair", found=str(requested), valid=self._served_text())
        return str(nearest_served)

    def base_version(self, pair: LanguagePair) -> Version:
        """The base without an adapter, with the default anchor of the pair."""
        anchor = render(AnchorConfig(), pair)
        base = BaseRef(id=self.base.id, revision=self.base.revision, licence=self.base.licence, notice=self.base.notice)
        card = Card(pair=str(pair), base=base, anchor=anchor, rank=0, recipe={}, seed=0, data={}, training={}, versions={}, files={})
        translator = Translator(self.engine, self.tokens, anchor, card.decoding, None, self.limits.context)
        # Each pair has its own id: its prompts differ, and so do its translations in the cache.
        return Version(Adapter(f"{BARE} {pair}", self.base.path, card), translator, segment_limit(translator))

    def can_answer(self) -> bool:
        """Whether some checked adapter is loaded, or would be loaded on a request."""
        return bool(self.live) or any(pair not in self.failing for pair in self._evicted)

    def pairs(self) -> list[str]:
        """The pairs that are served, loaded or not."""
        return sorted(self.live.keys() | (self.loaders.keys() - self.failing))

    def _served_text(self) -> str:
        return ", ".join(self.pairs()) or "no pair is served now"
