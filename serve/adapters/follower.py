"""Follows the registry while the service runs: a version published there goes live, a pair removed there stops.

Reads <registry>/pairs/*.json and the adapters they name. Pairs without a live version there are answered by the adapter that came with
tellmt, if there is one. Pairs for which there is no room are cold: loaded when they are asked for. Whatever is wrong, what answers now goes
on answering; the reason is kept per pair for GET /api/v1/adapters and said once.
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

from serve.adapters.eviction import Reach
from serve.adapters.versions import Versions
from tell.adapter.card import Adapter
from tell.adapter.shipped import Shipped
from tell.errors import AdapterError, Overloaded, RegistryError, TellmtError
from tell.languages import parse_pair
from tell.registry.registry import PairState, Registry
from tell.registry.store import Stamp

logger = logging.getLogger(__name__)

# Seconds until something that failed is tried again, doubling: a copy under way may be whole soon, a bad adapter stays bad.
FIRST_RETRY, LAST_RETRY = 1.0, 300.0

# That of a pair which only a shipped adapter is there for.
SHIPPED: Stamp = (0, 0, 0)


@dataclasses.dataclass(slots=True)
class Followed:
    """What the registry wants for a pair, and what came of it. `reason` is None while all is well.

    `shipped` tells that it wants nothing, and `wanted` is the adapter that came with tellmt.
    """

    wanted: str | None = None
    shipped: bool = False
    state: Literal["live", "loading", "cold", "refused"] = "loading"
    reason: str | None = None
    stamp: Stamp | None = None
    retry_at: float = 0.0
    retry_after: float = FIRST_RETRY
    # What the reason says, for who asks for the pair.
    error: TellmtError | None = None
    # The load under way.
    task: asyncio.Task[None] | None = None
    # The version that was said to be live.
    said: str | None = None


class Follower:
    def __init__(self, versions: Versions, registry: Registry, interval: float | None = None, shipped: Mapping[str, Shipped] | None = None):
        self.versions, self.registry, self.interval = versions, registry, registry.interval if interval is None else interval
        # Those of the base that runs.
        self.shipped = dict(shipped or {})
        self.pairs: dict[str, Followed] = {}
        # Why the registry itself cannot be read.
        self.reason: str | None = None
        self._seen = False
        self._woken = asyncio.Event()
        self.versions.displaced = self._displaced

    async def run(self) -> None:
        """Look again and again. What is being loaded keeps no other pair waiting."""
        while True:
            try:
                await self._scan()
                self.versions.looked = True
            except Exception as e:
                # A follower that dies would freeze what is live without a word.
                self._unreadable(f"unexpected {type(e).__name__}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self.interval)
            self._woken.clear()

    def wake(self) -> None:
        """Have the registry looked at now: somebody has just changed it."""
        self._woken.set()

    async def look(self) -> None:
        """One look at the registry; returns when what was published is live, cold or refused, and what came with tellmt too where nothing else is live."""
        await self._scan()
        if published := self._loading(shipped=False):
            await asyncio.wait(published)
        if not self.versions.live and (shipped := self._loading(shipped=True)):
            await asyncio.wait(shipped)
        self.versions.looked = True

    def _loading(self, shipped: bool) -> list[asyncio.Task[None]]:
        return [f.task for f in self.pairs.values() if f.task and f.shipped is shipped]

    async def close(self) -> None:
        """Leave off what is being loaded."""
        tasks = [f.task for f in self.pairs.values() if f.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _scan(self) -> None:
        try:
            found = await asyncio.to_thread(self.registry.stamps)
        except (OSError, TellmtError) as e:
            # An empty registry is a beginning; one that was there and is not is a fault, and then what is live stays.
            if self._seen or not isinstance(e, FileNotFoundError):
                return self._unreadable((isinstance(e, OSError) and e.strerror) or str(e))
            found = {}
        else:
            self._seen = True
        if self.reason is not None:
            logger.info(f"registry {self.registry.place}: readable again")
            self.reason = None
        found = {**dict.fromkeys(self.shipped, SHIPPED), **found}
        for pair in [p for p in self.pairs if p not in found]:
            self.versions.keep(pair, None)
            self._stop(pair, "removed from the registry")
            del self.pairs[pair]
        due = [pair for pair, stamp in found.items() if self._due(pair, self.pairs.setdefault(pair, Followed()), stamp)]
        states = await asyncio.to_thread(self._states, [pair for pair in due if found[pair] != SHIPPED])
        for pair in due:
            state = states.get(pair)
            # Of one that cannot be read now, what was read before holds.
            if state is None or isinstance(state, PairState):
                (self.versions.pinned.add if state and state.pinned else self.versions.pinned.discard)(pair)
        # What was pinned and what was published comes first: it is what the room is for.
        for pair in sorted(due, key=lambda p: (found[p] == SHIPPED, p not in self.versions.pinned, p)):
            self._want(pair, self.pairs[pair], states.get(pair))

    def _due(self, pair: str, followed: Followed, stamp: Stamp) -> bool:
        if followed.stamp != stamp:
            followed.stamp, followed.retry_at, followed.retry_after = stamp, 0.0, FIRST_RETRY
            return True
        if followed.task or not followed.retry_at <= time.monotonic():
            return False
        # A cold pair is loaded when there is room; one that was refused is tried again where that takes no other's place.
        held = pair in self.versions.live or pair in self.versions.pinned or followed.shipped or followed.wanted is None
        return (followed.state == "cold" and self.versions.has_place()) or (followed.retry_at > 0 and (held or self.versions.has_place()))

    def _states(self, pairs: Iterable[str]) -> dict[str, PairState | TellmtError]:
        out: dict[str, PairState | TellmtError] = {}
        for pair in pairs:
            try:
                state = out[pair] = self.registry.state(pair)
                if str(parse_pair(state.pair)) != pair:
                    raise RegistryError("the state is of another pair", place=pair, found=state.pair)
            except TellmtError as e:
                out[pair] = e
            except OSError as e:
                out[pair] = RegistryError("the state of this pair cannot be read", place=pair, found=e.strerror)
        return out

    def _unreadable(self, reason: str) -> None:
        if reason != self.reason:
            logger.error(f"registry {self.registry.place}: {reason}; what is live stays")
        self.reason = reason

    def _stop(self, pair: str, why: str) -> None:
        versions, followed = self.versions, self.pairs[pair]
        if followed.task:
            followed.task.cancel()
        if versions.loaders.pop(pair, None) and followed.said:
            logger.info(f"{pair}: no longer served: {why}", extra={"pair": pair})
        versions.switch(pair, None)
        for names in (versions.pinned, versions.shipped, versions.failing):
            names.discard(pair)

    def _want(self, pair: str, followed: Followed, state: PairState | TellmtError | None) -> None:
        """Begin what the registry asks for. Nothing is waited for, so a version that is still loaded takes over here and now."""
        if isinstance(state, TellmtError):
            self.versions.loaders.setdefault(pair, functools.partial(self._asked, pair))
            return self._refuse(pair, followed, state)
        live = state.live if state else None
        own = self.shipped.get(pair) if live is None else None
        self.versions.keep(pair, state.previous if state else None)
        if live is None and own is None:
            self._stop(pair, "no adapter is live")
            self.pairs[pair] = Followed(stamp=followed.stamp, state="refused", reason="no adapter is live for this pair")
            return
        wanted, followed.shipped = (own.id, True) if own else (str(live), False)
        (self.versions.shipped.add if own else self.versions.shipped.discard)(pair)
        self.versions.loaders[pair] = functools.partial(self._asked, pair)
        if followed.task and followed.wanted == wanted:
            return
        before, followed.wanted = followed.task, wanted
        current = self.versions.live.get(pair)
        if before:
            before.cancel()
        elif current and current.adapter.id == wanted:
            return self._settled(pair, followed)
        elif current and (kept := self.versions.resident(wanted)) and str(parse_pair(kept.pair)) == pair:
            # A roll back: proved already, and still loaded. What is loaded for another pair is not proved for this one, and is refused on its way.
            self.versions.switch(pair, kept)
            return self._settled(pair, followed)
        reach: Reach = "any" if pair in self.versions.pinned else "free" if own else "shipped"
        self._start(pair, followed, reach, before)

    def _start(self, pair: str, followed: Followed, reach: Reach, before: asyncio.Task[None] | None = None, asked: bool = False) -> asyncio.Task[None]:
        followed.state = "loading"
        task = asyncio.get_running_loop().create_task(self._load(pair, followed, str(followed.wanted), reach, before, asked))
        followed.task = task

        def done(task: asyncio.Task[None]) -> None:
            if followed.task is task:
                followed.task = None

        task.add_done_callback(done)
        return task

    async def _load(self, pair: str, followed: Followed, wanted: str, reach: Reach, before: asyncio.Task[None] | None, asked: bool) -> None:
        try:
            if before:
                await asyncio.wait({before})
            if followed.shipped and not asked and not self.versions.looked and (published := self._loading(shipped=False)):
                # At the start what was published is to answer first: where adapters are converted, one comes after the other, each for up to a minute.
                await asyncio.wait(published)
            # For one that was asked for another may have to go: not for an adapter that is not even whole.
            early = await asyncio.to_thread(self._open, pair, wanted) if asked else None
            async with self.versions.place(pair, wanted, reach):
                adapter = await asyncio.to_thread(self._open, pair, wanted) if early is None else early
                self.versions.switch(pair, await self.versions.bring_up(adapter))
            self._settled(pair, followed)
        except Overloaded as e:
            if reach == "free" or pair in self.versions.pinned or pair in self.versions.live:
                return self._refuse(pair, followed, e)
            followed.state, followed.reason, followed.error, followed.retry_at = "cold", None, e, 0.0
            self.versions.failing.discard(pair)
        except TellmtError as e:
            self._refuse(pair, followed, e)
        except OSError as e:
            self._refuse(pair, followed, AdapterError("the adapter cannot be read", place=pair, found=e.strerror))
        except Exception as e:
            # From a library under the engine; its message may hold anything, so only its kind is told.
            self._refuse(pair, followed, AdapterError("the adapter cannot be used", found=f"unexpected {type(e).__name__}"))

    def _open(self, pair: str, adapter_id: str) -> Adapter:
        own = self.shipped.get(pair)
        adapter = own.open() if own and own.id == adapter_id else self.registry.adapter(adapter_id)
        if str(parse_pair(adapter.card.pair)) != pair:
            raise RegistryError("this adapter is for another pair", place=str(adapter.path), found=adapter.card.pair, valid=pair)
        self.versions.check(adapter)
        return adapter

    def _settled(self, pair: str, followed: Followed) -> None:
        version = self.versions.live[pair]
        if followed.said != version.adapter.id:
            instead = f", instead of {followed.said[:12]}" if followed.said else ""
            origin = ", as it came with tellmt" if followed.shipped else ""
            logger.info(f"{pair}: {version.adapter.short} is live{origin}{instead}", extra={"pair": pair, "version": version.adapter.id})
            self.versions.metrics.swaps.labels(pair, "live").inc()
            followed.said = version.adapter.id
        followed.state, followed.reason, followed.error, followed.retry_at, followed.retry_after = "live", None, None, 0.0, FIRST_RETRY
        self.versions.failing.discard(pair)

    def _displaced(self, pair: str, by: str) -> None:
        followed = self.pairs.get(pair, Followed())
        if followed.shipped:
            why = f"its room went to {by}, which was published"
            return self._refuse(pair, followed, Overloaded(why, valid="a higher --max-adapters, which has room for both"))
        followed.state = "cold"

    async def _asked(self, pair: str) -> None:
        """Called for a request whose pair is not loaded: returns when it may look again. Raises what keeps the pair from being loaded."""
        followed = self.pairs[pair]
        task = followed.task
        if asked := task is None:
            if followed.state == "refused" and (time.monotonic() < followed.retry_at or followed.wanted is None):
                raise self._told(followed)
            task = self._start(pair, followed, "free" if followed.shipped else "any", asked=True)
        assert task is not None
        done, _ = await asyncio.wait({task}, timeout=self.versions.limits.patience + 1)
        if pair in self.versions.live:
            return
        if not done:
            raise Overloaded("the adapter of this pair is still being loaded", found=pair, valid="asking again in a while")
        # A load that was found under way may only have found no room that it might take; the next one may take more.
        if followed.state == "refused" or (asked and followed.error is not None):
            raise self._told(followed)

    def _told(self, followed: Followed) -> TellmtError:
        """The first part of the reason. The whole is on /api/v1/adapters and in the log, once; here it would be there for every request."""
        kind = Overloaded if isinstance(followed.error, Overloaded) else AdapterError
        return kind(followed.error.thing if followed.error else "the adapter cannot be used")

    def _refuse(self, pair: str, followed: Followed, error: TellmtError) -> None:
        if str(error) != followed.reason:
            now = self.versions.live.get(pair)
            answering = f"{now.adapter.short} goes on answering" if now else "nothing answers for this pair"
            logger.error(f"{pair}: not changed: {error}; {answering}", extra={"pair": pair, "version": followed.wanted})
            self.versions.metrics.swaps.labels(pair, "refused").inc()
        followed.state, followed.reason, followed.error = "refused", str(error), error
        followed.retry_at = time.monotonic() + followed.retry_after
        followed.retry_after = min(2 * followed.retry_after, LAST_RETRY)
        self.versions.failing.add(pair)
