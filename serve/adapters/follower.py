"""Follows the registry while the service runs: a version published there goes live, a pair removed there stops.

Reads <registry>/pairs/*.json and the adapters they name. Pairs without a live version there are answered by the adapter that came with
tellmt, if there is one. Pairs for which there is no place are cold: they are loaded on a request. Whatever is wrong, the versions that answer
now go on answering; the reason is kept per pair for GET /api/v1/adapters and logged once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Literal

from serve.adapters.agreement import Agreement
from serve.adapters.eviction import EvictionScope
from serve.adapters.load_times import LoadTimes
from serve.adapters.versions import Version, Versions
from serve.threads import FOLLOWER
from tell.adapter.card import Adapter
from tell.adapter.shipped import Shipped
from tell.errors import AdapterError, Overloaded, RegistryError, TellmtError
from tell.languages import parse_pair
from tell.registry.registry import PairState, Registry
from tell.registry.store import Stamp

logger = logging.getLogger(__name__)

# Seconds until something that failed is tried again, doubling: a copy in progress may be complete soon, a bad adapter stays bad.
FIRST_RETRY, LAST_RETRY = 1.0, 300.0
# Seconds before the end of a request's time at which one that waits for its pair is told when to come again, rather than that its time is over.
BEFORE_DEADLINE = 0.1

# The stamp of a pair that has only a shipped adapter.
SHIPPED: Stamp = (0, 0, 0)


@dataclasses.dataclass(slots=True)
class FollowedPair:
    """What the registry wants for a pair, and how far that is done. `reason` is None while nothing is wrong.

    `shipped`: the registry has no live version, and `wanted` is the adapter that came with tellmt.
    """

    wanted: str | None = None
    # The registry's number of the state that says so.
    generation: int = 0
    shipped: bool = False
    state: Literal["live", "loading", "cold", "refused"] = "loading"
    reason: str | None = None
    stamp: Stamp | None = None
    retry_at: float = 0.0
    retry_after: float = FIRST_RETRY
    # The error behind the reason, for requests for the pair.
    error: TellmtError | None = None
    # The load in progress.
    task: asyncio.Task[None] | None = None
    # When it began, by the monotonic clock.
    began: float | None = None
    # The id of the version that was last announced as live.
    announced: str | None = None


class Follower:
    def __init__(
        self,
        versions: Versions,
        registry: Registry,
        interval: float | None = None,
        shipped: Mapping[str, Shipped] | None = None,
        agreement: Agreement | None = None,
    ):
        """`agreement`: with the other replicas, about when a version goes live; None lets it go live as soon as it is loaded."""
        self.versions, self.registry, self.interval = versions, registry, registry.interval if interval is None else interval
        # The shipped adapters of the base that runs.
        self.shipped = dict(shipped or {})
        self.pairs: dict[str, FollowedPair] = {}
        # Why the registry itself cannot be read.
        self.reason: str | None = None
        self._registry_found = False
        self._load_times = LoadTimes()
        self._woken = asyncio.Event()
        self.versions.on_evicted = self._note_eviction
        self.agreement = agreement
        if agreement is not None:
            self.versions.hold, agreement.on_newer = agreement.hold, self.wake

    async def run(self) -> None:
        """Read the registry again and again. No pair waits for another that is being loaded."""
        while True:
            try:
                await self._scan()
                self.versions.registry_read = True
            except Exception as e:
                # If the follower ended, the live versions would stay for ever, and nothing would say so.
                self._mark_unreadable(f"unexpected {type(e).__name__}")
            # Not wait_for, which loses a cancellation that comes together with the event (Python 3.11).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.interval):
                    await self._woken.wait()
            self._woken.clear()

    def wake(self) -> None:
        """Read the registry now: it has just been changed."""
        self._woken.set()

    async def look(self) -> None:
        """Read the registry once. Returns when every published pair is live, cold or refused and, where none is live, a shipped one is or none can be."""
        if self.agreement is not None:
            await self.agreement.start()
        await self._scan()
        if published := self._load_tasks(shipped=False):
            await asyncio.wait(published)
        while not self.versions.live and (shipped := self._load_tasks(shipped=True)):
            # Converting a shipped adapter may take a minute: the service is ready with the first.
            await asyncio.wait(shipped, return_when=asyncio.FIRST_COMPLETED)
        self.versions.registry_read = True

    def _load_tasks(self, shipped: bool) -> list[asyncio.Task[None]]:
        return [f.task for f in self.pairs.values() if f.task and not f.task.done() and f.shipped is shipped]

    async def close(self) -> None:
        """Cancel the loads in progress."""
        tasks = [f.task for f in self.pairs.values() if f.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.agreement is not None:
            await self.agreement.close()

    async def _scan(self) -> None:
        try:
            stamps = await FOLLOWER.run(self.registry.stamps)
        except (OSError, TellmtError) as e:
            # A registry that is not there yet is empty; one that was there and is gone is a fault, and then the live versions stay.
            if self._registry_found or not isinstance(e, FileNotFoundError):
                return self._mark_unreadable((isinstance(e, OSError) and e.strerror) or str(e))
            stamps = {}
        else:
            self._registry_found = True
        if self.reason is not None:
            logger.info(f"registry {self.registry.place}: readable again")
            self.reason = None
        stamps = {**dict.fromkeys(self.shipped, SHIPPED), **stamps}
        for pair in [p for p in self.pairs if p not in stamps]:
            self.versions.keep_for_rollback(pair, None)
            self._stop_serving(pair, "removed from the registry")
            del self.pairs[pair]
        due = [pair for pair, stamp in stamps.items() if self._is_due(pair, self.pairs.setdefault(pair, FollowedPair()), stamp)]
        states = await FOLLOWER.run(self._read_states, [pair for pair in due if stamps[pair] != SHIPPED])
        for pair in due:
            state = states.get(pair)
            # Where a state cannot be read now, the one read before still holds.
            if state is None or isinstance(state, PairState):
                (self.versions.pinned.add if state and state.pinned else self.versions.pinned.discard)(pair)
        # Pinned and published pairs come first: the places are for them.
        for pair in sorted(due, key=lambda p: (stamps[p] == SHIPPED, p not in self.versions.pinned, p)):
            self._apply_state(pair, self.pairs[pair], states.get(pair))

    def _is_due(self, pair: str, followed: FollowedPair, stamp: Stamp) -> bool:
        if followed.stamp != stamp:
            followed.stamp, followed.retry_at, followed.retry_after = stamp, 0.0, FIRST_RETRY
            return True
        if followed.task or not followed.retry_at <= time.monotonic():
            return False
        # A cold pair is loaded when a place is free; a refused one is tried again where that takes no other pair's place.
        holds_place = pair in self.versions.live or pair in self.versions.pinned or followed.shipped or followed.wanted is None
        return (followed.state == "cold" and self.versions.has_place()) or (followed.retry_at > 0 and (holds_place or self.versions.has_place()))

    def _read_states(self, pairs: Iterable[str]) -> dict[str, PairState | TellmtError]:
        states: dict[str, PairState | TellmtError] = {}
        for pair in pairs:
            try:
                state = states[pair] = self.registry.state(pair)
                if str(parse_pair(state.pair)) != pair:
                    raise RegistryError("the state is of another pair", place=pair, found=state.pair)
            except TellmtError as e:
                states[pair] = e
            except OSError as e:
                states[pair] = RegistryError("the state of this pair cannot be read", place=pair, found=e.strerror)
        return states

    def _mark_unreadable(self, reason: str) -> None:
        if reason != self.reason:
            logger.error(f"registry {self.registry.place}: {reason}; what is live stays")
        self.reason = reason

    def _stop_serving(self, pair: str, why: str) -> None:
        versions, followed = self.versions, self.pairs[pair]
        if followed.task:
            followed.task.cancel()
        if versions.loaders.pop(pair, None) and followed.announced:
            logger.info(f"{pair}: no longer served: {why}", extra={"pair": pair})
        versions.switch(pair, None)
        if self.agreement is not None:
            self.agreement.leave(pair)
        for names in (versions.pinned, versions.shipped, versions.failing):
            names.discard(pair)

    def _apply_state(self, pair: str, followed: FollowedPair, state: PairState | TellmtError | None) -> None:
        """Begin what the registry asks for. Nothing is awaited, so a version that is still loaded answers at once."""
        if isinstance(state, TellmtError):
            self.versions.loaders.setdefault(pair, functools.partial(self._load_on_request, pair))
            return self._mark_refused(pair, followed, state)
        live, followed.generation = (state.live, state.generation) if state else (None, 0)
        shipped = self.shipped.get(pair) if live is None else None
        self.versions.keep_for_rollback(pair, state.previous if state else None)
        if live is None and shipped is None:
            self._stop_serving(pair, "no adapter is live")
            self.pairs[pair] = FollowedPair(stamp=followed.stamp, state="refused", reason="no adapter is live for this pair")
            return
        wanted_id, followed.shipped = (shipped.id, True) if shipped else (str(live), False)
        (self.versions.shipped.add if shipped else self.versions.shipped.discard)(pair)
        self.versions.loaders[pair] = functools.partial(self._load_on_request, pair)
        if followed.task and followed.wanted == wanted_id:
            if self.agreement is not None:
                self.agreement.advance(pair, followed.generation)
            return
        earlier_task, followed.wanted = followed.task, wanted_id
        current = self.versions.live.get(pair)
        if earlier_task:
            earlier_task.cancel()
        elif current and current.adapter.id == wanted_id:
            return self._mark_live(pair, followed)
        elif self.agreement is None and current and (loaded := self.versions.loaded_version(wanted_id)) and str(parse_pair(loaded.pair)) == pair:
            # A roll back: checked already and still loaded. One loaded for another pair was not checked for this one, so loading it here refuses it.
            self.versions.switch(pair, loaded)
            return self._mark_live(pair, followed)
        scope: EvictionScope = "any" if pair in self.versions.pinned else "free" if shipped else "shipped"
        self._start_load(pair, followed, scope, earlier_task)

    def _start_load(
        self, pair: str, followed: FollowedPair, scope: EvictionScope, earlier_task: asyncio.Task[None] | None = None, on_request: bool = False
    ) -> asyncio.Task[None]:
        followed.state, followed.began = "loading", time.monotonic()
        task = asyncio.get_running_loop().create_task(self._load(pair, followed, str(followed.wanted), scope, earlier_task, on_request))
        followed.task = task

        def clear_task(task: asyncio.Task[None]) -> None:
            if followed.task is task:
                followed.task = None

        task.add_done_callback(clear_task)
        return task

    async def _load(
        self, pair: str, followed: FollowedPair, adapter_id: str, scope: EvictionScope, earlier_task: asyncio.Task[None] | None, on_request: bool
    ) -> None:
        try:
            if earlier_task:
                await asyncio.wait({earlier_task})
            if followed.shipped and not on_request and not self.versions.registry_read and (published := self._load_tasks(shipped=False)):
                # At the start the published adapters are to answer first: adapters are converted one after the other, each for up to a minute.
                await asyncio.wait(published)
            began, was_loaded = time.monotonic(), self.versions.loaded_version(adapter_id) is not None
            # A load on a request may evict another pair: it must not do so for an adapter that is not whole.
            opened = await FOLLOWER.run(self._open, pair, adapter_id) if on_request else None
            async with self.versions.reserve_place(pair, adapter_id, scope):
                adapter = await FOLLOWER.run(self._open, pair, adapter_id) if opened is None else opened
                version = await self.versions.load_checked(adapter)
                if not was_loaded:
                    self._load_times.note(adapter_id, time.monotonic() - began)
                await self._go_live(pair, followed, version)
        except Overloaded as e:
            if scope == "free" or pair in self.versions.pinned or pair in self.versions.live:
                return self._mark_refused(pair, followed, e)
            followed.state, followed.reason, followed.error, followed.retry_at = "cold", None, e, 0.0
            self.versions.failing.discard(pair)
        except TellmtError as e:
            self._mark_refused(pair, followed, e)
        except OSError as e:
            self._mark_refused(pair, followed, AdapterError("the adapter cannot be read", place=pair, found=e.strerror))
        except Exception as e:
            # From a library below the engine. Its message may hold anything, so only its type is given.
            self._mark_refused(pair, followed, AdapterError("the adapter cannot be used", found=f"unexpected {type(e).__name__}"))

    async def _go_live(self, pair: str, followed: FollowedPair, version: Version) -> None:
        def switch() -> None:
            self.versions.switch(pair, version)
            self._mark_live(pair, followed)

        if self.agreement is None:
            switch()
        else:
            await self.agreement.agree(pair, followed.generation, switch)

    def _open(self, pair: str, adapter_id: str) -> Adapter:
        shipped = self.shipped.get(pair)
        adapter = shipped.open() if shipped and shipped.id == adapter_id else self.registry.adapter(adapter_id)
        if str(parse_pair(adapter.card.pair)) != pair:
            raise RegistryError("this adapter is for another pair", place=str(adapter.path), found=adapter.card.pair, valid=pair)
        self.versions.check(adapter)
        return adapter

    def _mark_live(self, pair: str, followed: FollowedPair) -> None:
        version = self.versions.live[pair]
        version.generation = followed.generation
        if self.agreement is not None:
            self.agreement.note_live(pair, followed.generation)
        if followed.announced != version.adapter.id:
            replaced = f", instead of {followed.announced[:12]}" if followed.announced else ""
            origin = ", as it came with tellmt" if followed.shipped else ""
            logger.info(f"{pair}: {version.adapter.short} is live{origin}{replaced}", extra={"pair": pair, "version": version.adapter.id})
            self.versions.metrics.swaps.labels(pair, "live").inc()
            followed.announced = version.adapter.id
        followed.state, followed.reason, followed.error, followed.retry_at, followed.retry_after = "live", None, None, 0.0, FIRST_RETRY
        self.versions.failing.discard(pair)

    def _note_eviction(self, pair: str, newcomer: str) -> None:
        if self.agreement is not None:
            self.agreement.leave(pair)
        followed = self.pairs.get(pair, FollowedPair())
        if followed.shipped:
            reason = f"its place went to {newcomer}, which was published"
            return self._mark_refused(pair, followed, Overloaded(reason, valid="a higher --max-adapters, which leaves a place for both"))
        followed.state = "cold"

    async def _load_on_request(self, pair: str, seconds: float) -> None:
        """Called for a request whose pair is not loaded, and which has so many seconds left; returns when the request may look again. Raises what keeps the
        pair from being loaded, Overloaded with the time that the load will still take where that is longer than the request can wait."""
        followed = self.pairs[pair]
        task = followed.task
        if started_here := task is None:
            if followed.state == "refused" and (time.monotonic() < followed.retry_at or followed.wanted is None):
                raise self._request_error(followed)
            task = self._start_load(pair, followed, "free" if followed.shipped else "any", on_request=True)
        assert task is not None
        finished, _ = await asyncio.wait({task}, timeout=min(self.versions.limits.patience + 1, max(0.0, seconds - BEFORE_DEADLINE)))
        if pair in self.versions.live:
            return
        if not finished:
            retry_after = self._load_times.retry_after(str(followed.wanted), followed.began)
            raise Overloaded("the adapter of this pair is still being loaded", found=pair, valid=f"asking again in {retry_after} s", retry_after=retry_after)
        # A load that was in progress before may have found no place within its scope; the next one has a wider scope.
        if followed.state == "refused" or (started_here and followed.error is not None):
            raise self._request_error(followed)

    def _request_error(self, followed: FollowedPair) -> TellmtError:
        """The first part of the reason. The whole is on /api/v1/adapters and once in the log; here it would come with every request."""
        kind = Overloaded if isinstance(followed.error, Overloaded) else AdapterError
        return kind(followed.error.thing if followed.error else "the adapter cannot be used")

    def _mark_refused(self, pair: str, followed: FollowedPair, error: TellmtError) -> None:
        if str(error) != followed.reason:
            live = self.versions.live.get(pair)
            answering = f"{live.adapter.short} goes on answering" if live else "nothing answers for this pair"
            logger.error(f"{pair}: not changed: {error}; {answering}", extra={"pair": pair, "version": followed.wanted})
            self.versions.metrics.swaps.labels(pair, "refused").inc()
        followed.state, followed.reason, followed.error = "refused", str(error), error
        followed.retry_at = time.monotonic() + followed.retry_after
        followed.retry_after = min(2 * followed.retry_after, LAST_RETRY)
        self.versions.failing.add(pair)
