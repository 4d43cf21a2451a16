"""Which adapter version answers for which pair: loaded, proved, taken over from, drained and removed.

Every method runs in one event loop, so what happens between two `await`s is atomic: a request takes its version and is
counted against it in one step, and a new version takes a pair over in one step. A version is unloaded when nobody uses it any more and
nobody is likely to: what a roll back would bring, and what is not asked for, goes only when its place is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from serve.adapters.eviction import Reach, in_time, oldest, victim
from serve.adapters.load_check import Proof, prove
from serve.config import Limits
from serve.metrics.adapter_loads import Loads
from tell.adapter.card import Adapter, BaseRef, Card, check_base
from tell.errors import AdapterError, EngineError, NotServed, Overloaded, RequestError, TellmtError
from tell.languages import LanguagePair, distance, language, nearest_pair, parse_pair
from tell.model.anchor import AnchorConfig, render
from tell.model.engine import Engine
from tell.model.tokenizer import Tokens
from tell.model.translator import Translator, segment_limit

if TYPE_CHECKING:
    from serve.metrics.registry import Metrics

logger = logging.getLogger(__name__)

# Seconds between two looks at whether a place has become free.
LOOK = 0.02
# Seconds an engine has to let an adapter go.
UNLOAD = 60.0
# The name of the base without an adapter, where an adapter's id would stand.
BARE = "base"
# Adapters of which it is remembered how they were seen to act: a few kB each.
PROOFS = 1024


@dataclasses.dataclass(eq=False, slots=True)
class Version:
    """A proved adapter in the engine. `idle` is set while no request uses it; `leaving`, that its place is to go to another pair."""

    adapter: Adapter
    translator: Translator
    segment_tokens: int
    since: float = dataclasses.field(default_factory=time.time)
    loaded: float = dataclasses.field(default_factory=time.monotonic)
    used: float = dataclasses.field(default_factory=time.monotonic)
    in_flight: int = 0
    idle: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    leaving: bool = False
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
        """What answers are told of it: the adapter's id; of the base for a pair without an adapter, that it was the base."""
        return self.adapter.id.partition(" ")[0]

    @property
    def labels(self) -> tuple[str, str]:
        """Pair and version as metrics have them. For which pairs without an adapter the base is asked, clients decide, and labels must not be theirs."""
        return (BARE, BARE) if self.name == BARE else (self.pair, self.adapter.id)


class Versions:
    """`loaders` holds every pair that is served: what is called when one is asked for and not loaded. It raises what keeps it from being loaded."""

    def __init__(self, engine: Engine, tokens: Tokens, limits: Limits, metrics: Metrics):
        self.engine, self.base, self.tokens, self.limits, self.metrics = engine, engine.base, tokens, limits, metrics
        self._loads = Loads(metrics.registry)
        self.live: dict[str, Version] = {}
        # The registry was looked at, so what was live at start now answers.
        self.looked = False
        self.loaders: dict[str, Callable[[], Awaitable[None]]] = {}
        self.pinned: set[str] = set()
        self.shipped: set[str] = set()
        # Told that a pair (the first) was unloaded for another.
        self.displaced: Callable[[str, str], None] = lambda pair, by: None
        # Told the id of every version that was unloaded.
        self.unloaded: Callable[[str], None] = lambda adapter_id: None
        # Of `loaders`, those whose adapter cannot be used.
        self.failing: set[str] = set()
        # When a pair was last asked for, in seconds since 1970.
        self.asked: dict[str, float] = {}
        # By pair: the version a roll back would bring.
        self._kept: dict[str, str] = {}
        self._versions: dict[str, Version] = {}
        # Loads under way: the pair by the adapter's id.
        self._coming: dict[str, str] = {}
        self._making_room = asyncio.Lock()
        self._proofs: dict[str, Proof] = {}
        # Pairs that were live, and were unloaded for others.
        self._evicted: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Loading

    def resident(self, adapter_id: str) -> Version | None:
        """The version, if it is loaded and stays."""
        found = self._versions.get(adapter_id)
        return None if found is None or found.leaving or found.unloading else found

    def has_place(self) -> bool:
        """Whether a pair more can be loaded without another's going."""
        return self._pairs() < self.limits.adapters - 1

    def _pairs(self) -> int:
        """Pairs that are loaded or being loaded. One place is for the new version during a change."""
        return len(self.live.keys() | self._coming.values())

    @contextlib.asynccontextmanager
    async def place(self, pair: str, adapter_id: str, reach: Reach) -> AsyncIterator[None]:
        """A place in the engine for a version of the pair, while it is loaded.

        Raises Overloaded when there is none within reach, or none became free in `patience` seconds.
        """
        try:
            async with asyncio.timeout(self.limits.patience), self._making_room:
                while not self._fits(pair, adapter_id):
                    await self._make_room(pair, adapter_id, reach)
                self._coming[adapter_id] = pair
        except TimeoutError:
            valid = "asking again in a while, or a higher --max-adapters"
            raise Overloaded("no room for another adapter until others have finished", found=f"{len(self._versions)} loaded", valid=valid) from None
        try:
            yield
        finally:
            self._coming.pop(adapter_id, None)

    def _fits(self, pair: str, adapter_id: str) -> bool:
        held = self._versions.keys() | self._coming.keys()
        return (pair in self.live or self.has_place()) and (adapter_id in held or len(held) < self.limits.adapters)

    async def _make_room(self, pair: str, adapter_id: str, reach: Reach) -> None:
        """One step towards a place: unload a version, or wait a little."""
        if pair in self.live or self.has_place():
            in_use = {id(v) for v in self.live.values()}
            spare = [v for v in self._versions.values() if id(v) not in in_use and v.adapter.id != adapter_id and not v.unloading]
            if (found := oldest(spare)) is not None:
                await self._drop(found)
            else:
                await asyncio.sleep(LOOK)
            return
        # What answers while a newer version is refused could not be loaded again.
        held = self.pinned | self.failing
        chosen = victim(self.live, held, self.shipped, reach, self.limits.stay, time.monotonic())
        if chosen is not None:
            await self._displace(chosen, pair)
        elif reach != "any":
            what = "a shipped adapter beside the published ones" if pair in self.shipped else "another adapter"
            raise Overloaded(f"no room for {what}", found=f"{self._pairs()} loaded", valid="a higher --max-adapters")
        elif self.live.keys() | self._coming.values() <= held:
            why = "no room for another adapter: every place is held by a pinned pair"
            raise Overloaded(why, found=f"{self._pairs()} loaded", valid="fewer pins, or a higher --max-adapters")
        else:
            await asyncio.sleep(LOOK)

    async def _displace(self, pair: str, by: str) -> None:
        """Unload the version of a pair once its requests have ended. Cancelled before that, it goes on answering."""
        version = self.live[pair]
        self._unset(pair)
        version.leaving = True
        try:
            while version.in_flight:
                await version.idle.wait()
        except asyncio.CancelledError:
            version.leaving = False
            if pair in self.loaders and pair not in self.live:
                self._set(pair, version)
            else:
                self._start(self._drain(pair, version))
            raise
        self._evicted.add(pair)
        self.displaced(pair, by)
        self._loads.evicted.labels(pair).inc()
        await self._drop(version)

    def check(self, adapter: Adapter) -> None:
        """Raises AdapterError for what can be told without the engine."""
        check_base(adapter, self.base.id, self.base.revision)
        if adapter.card.rank > self.limits.rank:
            raise AdapterError(
                "the adapter's rank is too high", place=str(adapter.path), found=adapter.card.rank, valid=f"at most {self.limits.rank} (--max-rank)"
            )

    async def bring_up(self, adapter: Adapter) -> Version:
        """The adapter loaded and proved, in the `place` that the caller holds. Raises TellmtError, the engine being left as it was."""
        self.check(adapter)
        while known := self._versions.get(adapter.id):
            if self.resident(adapter.id):
                # Still draining, as after a quick roll back, or kept for one: whole and proved.
                return known
            await asyncio.sleep(LOOK)
        pair, began, done = adapter.card.pair, time.perf_counter(), False
        try:
            proof = await in_time(self._load(adapter), self.limits.load)
            done = True
        except TimeoutError:
            raise EngineError("the adapter was not loaded and proved in time", place=str(adapter.path), found=f"over {self.limits.load:g} s") from None
        finally:
            self._loads.loads.labels(pair, "loaded" if done else "failed").inc()
            if done:
                self._loads.seconds.observe(time.perf_counter() - began)
            elif adapter.id in self.engine.loaded():
                await asyncio.shield(self._unload(adapter.id))
        self._proofs[adapter.id] = proof
        if len(self._proofs) > PROOFS:
            del self._proofs[next(iter(self._proofs))]
        card = adapter.card
        translator = Translator(self.engine, self.tokens, card.anchor, card.decoding, adapter.id, self.limits.context)
        version = self._versions[adapter.id] = Version(adapter, translator, segment_limit(translator))
        self._loads.resident.set(len(self._versions))
        return version

    async def _load(self, adapter: Adapter) -> Proof:
        await self.engine.load(adapter.id, adapter.path)
        return await prove(self.engine, self.tokens, adapter, self.limits.context, self._proofs.get(adapter.id))

    # Answering

    def switch(self, pair: str, version: Version | None) -> None:
        """Let `version` answer for the pair from now on, or nobody; requests under way end on the version they began with."""
        old = self.live.get(pair)
        if version is None:
            self._evicted.discard(pair)
        if old is version:
            return
        if old is not None:
            self._unset(pair)
        if version is not None:
            version.since = time.time()
            self._set(pair, version)
        if old is not None:
            self._start(self._drain(pair, old))

    def keep(self, pair: str, adapter_id: str | None) -> None:
        """Keep this version of the pair loaded, if it is, for a roll back, and no other that does not answer."""
        before = self._kept.pop(pair, None)
        if adapter_id is not None:
            self._kept[pair] = adapter_id
        if before not in (None, adapter_id) and (version := self._versions.get(str(before))):
            self._start(self._drain(pair, version))

    def _set(self, pair: str, version: Version) -> None:
        self.live[pair] = version
        self._evicted.discard(pair)
        self.metrics.live.labels(pair, version.adapter.id).set(1)

    def _unset(self, pair: str) -> None:
        self.metrics.live.remove(pair, self.live.pop(pair).adapter.id)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _drain(self, pair: str, version: Version) -> None:
        while version.in_flight:
            await version.idle.wait()
        if self.live.get(pair) is version or self._kept.get(pair) == version.adapter.id or version.leaving or version.unloading:
            return
        await self._drop(version)

    async def _drop(self, version: Version) -> None:
        """Out of the engine. What is begun is ended, whether or not the caller waits for it."""
        version.unloading = True

        async def drop() -> None:
            await self._unload(version.adapter.id)
            self._versions.pop(version.adapter.id, None)
            self._loads.resident.set(len(self._versions))

        await asyncio.shield(self._start(drop()))

    async def _unload(self, adapter_id: str) -> None:
        try:
            await in_time(self.engine.unload(adapter_id), UNLOAD)
        except TimeoutError:
            logger.warning(f"{adapter_id[:12]}: not unloaded: the engine did not let it go in {UNLOAD:g} s", extra={"version": adapter_id})
        except TellmtError as e:
            logger.warning(f"{adapter_id[:12]}: not unloaded: {e}", extra={"version": adapter_id})
        self.unloaded(adapter_id)

    @contextlib.asynccontextmanager
    async def lease(self, source: str, target: str) -> AsyncIterator[Version]:
        """The version that answers for a pair, loaded if it was not, found and kept from unloading in one step.

        Raises LanguageError for a code that is none,
        NotServed for a pair nobody answers for, Overloaded while there is no room for it, and what kept it from being loaded.
        """
        pair = self.find(source, target)
        self.asked[pair] = time.time()
        while (version := self.live.get(pair)) is None:
            if (loader := self.loaders.get(pair)) is None:
                raise NotServed("no adapter for this pair", found=pair, valid=self._valid())
            await loader()
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

    def find(self, source: str, target: str) -> str:
        """The pair that answers for these codes, of any case, and of a region that no adapter is for. Raises LanguageError, RequestError, NotServed."""
        into = language(target, "target")
        if source == "auto":
            served = [parse_pair(pair) for pair in self.pairs()]
            near = {p.target: far for p in served if (far := distance(into, p.target)) is not None}
            found = [str(p) for p in served if p.target in near and near[p.target] == min(near.values())]
            if len(found) > 1:
                raise RequestError("the source language cannot be told", place="source", found="auto", valid=f"its code: served are {', '.join(found)}")
            if not found:
                raise NotServed("no adapter translates into this language", found=into.tag, valid=self._valid())
            return found[0]
        out_of = language(source, "source")
        if out_of == into:
            raise RequestError("source and target are the same language", found=into.tag)
        wanted = LanguagePair(out_of, into)
        known = self.live.keys() | self.loaders.keys()
        if str(wanted) in known:
            return str(wanted)
        if (meant := nearest_pair(wanted, map(parse_pair, known))) is None:
            raise NotServed("no adapter for this pair", found=str(wanted), valid=self._valid())
        return str(meant)

    def bare(self, pair: LanguagePair) -> Version:
        """The base without an adapter, asked for a pair in words of its own."""
        anchor = render(AnchorConfig(), pair)
        base = BaseRef(id=self.base.id, revision=self.base.revision, licence=self.base.licence, notice=self.base.notice)
        card = Card(pair=str(pair), base=base, anchor=anchor, rank=0, recipe={}, seed=0, data={}, training={}, versions={}, files={})
        translator = Translator(self.engine, self.tokens, anchor, card.decoding, None, self.limits.context)
        # A name of its own for each pair: its prompts are others, and so are its translations in the cache.
        return Version(Adapter(f"{BARE} {pair}", self.base.path, card), translator, segment_limit(translator))

    def answers(self) -> bool:
        """Whether some adapter that has been seen to act is loaded, or would be if its pair were asked for."""
        return bool(self.live) or any(pair not in self.failing for pair in self._evicted)

    def pairs(self) -> list[str]:
        """The pairs that are served, loaded or not."""
        return sorted(self.live.keys() | (self.loaders.keys() - self.failing))

    def _valid(self) -> str:
        return ", ".join(self.pairs()) or "no pair is served now"
