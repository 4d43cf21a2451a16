"""Follows the registry while the service runs: a version published there goes live, a pair removed there stops.

Reads the states of the registry's pairs and the adapters they name. Pairs without a live version there are answered by the adapter that came with
tellmt, if there is one. Whatever is wrong there, what answers now goes on answering; the reason
is kept per pair for GET /api/v1/adapters and said once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Literal

from serve.service import Service
from tell.card import Adapter
from tell.console import say
from tell.errors import Overloaded, RegistryError, TellmtError
from tell.languages import parse_pair
from tell.registry import Registry
from tell.registry_store import Stamp
from tell.shipped import Shipped

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
    state: Literal["live", "loading", "refused"] = "loading"
    reason: str | None = None
    stamp: Stamp | None = None
    retry_at: float = 0.0
    retry_after: float = FIRST_RETRY


class Follower:
    def __init__(self, service: Service, registry: Registry, interval: float | None = None, shipped: Mapping[str, Shipped] | None = None):
        self.service, self.registry, self.interval = service, registry, registry.interval if interval is None else interval
        # Those of the base that runs.
        self.shipped = dict(shipped or {})
        self.pairs: dict[str, Followed] = {}
        # Why the registry itself cannot be read.
        self.reason: str | None = None
        self._seen = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now rather than when it is time: something was changed."""
        self._woken.set()

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as e:
                # A follower that dies would freeze what is live without a word.
                self._unreadable(f"unexpected {type(e).__name__}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self.interval)
            self._woken.clear()

    async def look(self) -> None:
        """One look at the registry; returns when what it asks for is live or refused."""
        try:
            found = await asyncio.to_thread(self.registry.stamps)
        except (OSError, TellmtError) as e:
            # An empty registry is a beginning; one that was there and is not is a fault, and then what is live stays.
            if self._seen or not isinstance(e, FileNotFoundError):
                self._unreadable((isinstance(e, OSError) and e.strerror) or str(e))
                self.service.looked = True
                return
            found = {}
        else:
            self._seen = True
        if self.reason is not None:
            say(f"registry {self.registry.place}: readable again")
            self.reason = None
        found = {**dict.fromkeys(self.shipped, SHIPPED), **found}
        for pair in [p for p in self.pairs if p not in found]:
            self._stop(pair, "removed from the registry")
        # What was published comes first: it is what the room is for.
        for pair, stamp in sorted(found.items(), key=lambda item: (item[1] == SHIPPED, item[0])):
            followed = self.pairs.setdefault(pair, Followed())
            if followed.stamp != stamp:
                followed.stamp, followed.retry_at, followed.retry_after = stamp, 0.0, FIRST_RETRY
            elif followed.retry_at == 0.0 or time.monotonic() < followed.retry_at:
                continue
            await self._follow(pair, followed)
        self.service.looked = True

    def _unreadable(self, reason: str) -> None:
        if reason != self.reason:
            say(f"registry {self.registry.place}: {reason}; what is live stays")
        self.reason = reason

    def _stop(self, pair: str, why: str) -> None:
        if self.service.versions.live.get(pair):
            self.service.versions.switch(pair, None)
            say(f"{pair}: no longer served: {why}")
        self.pairs.pop(pair, None)

    async def _follow(self, pair: str, followed: Followed) -> None:
        try:
            wanted = None if followed.stamp == SHIPPED else await self._live(pair)
            own = self.shipped.get(pair) if wanted is None else None
            if wanted is None and own is None:
                stamp = followed.stamp
                self._stop(pair, "no adapter is live")
                self.pairs[pair] = Followed(stamp=stamp, state="refused", reason="no adapter is live for this pair")
                return
            followed.wanted, followed.shipped = (own.id, True) if own else (wanted, False)
            current = self.service.versions.live.get(pair)
            if current is None or current.adapter.id != followed.wanted:
                followed.state = "loading"
                adapter = await asyncio.to_thread(own.open if own else functools.partial(self._open, pair, str(wanted)))
                if current is None:
                    self._make_room(pair, for_shipped=own is not None)
                self.service.versions.switch(pair, await self.service.versions.bring_up(adapter))
                self.service.metrics.swaps.labels(pair, "live").inc()
                instead = f", instead of {current.adapter.short}" if current else ""
                say(f"{pair}: {adapter.short} is live{', as it came with tellmt' if own else ''}{instead}")
            followed.state, followed.reason, followed.retry_at = "live", None, 0.0
        except (TellmtError, OSError) as e:
            self._refuse(pair, followed, str(e))
        except Exception as e:
            # From a library under the engine; its message may hold anything, so only its kind is told.
            self._refuse(pair, followed, f"the adapter cannot be used: unexpected {type(e).__name__}")

    async def _live(self, pair: str) -> str | None:
        state = await asyncio.to_thread(self.registry.state, pair)
        if str(parse_pair(state.pair)) != pair:
            raise RegistryError("the state is of another pair", place=pair, found=state.pair)
        return state.live

    def _make_room(self, pair: str, for_shipped: bool) -> None:
        """Shipped adapters take only room that no published one wants. Raises Overloaded when there is none for this shipped one."""
        # One place is for the new version during a change.
        held = len(self.service.versions.live)
        if held < self.service.limits.adapters - 1:
            return
        if for_shipped:
            raise Overloaded("no room for a shipped adapter beside the published ones", found=f"{held} live", valid="a higher --max-adapters")
        for other in sorted(p for p in self.service.versions.live if self.pairs[p].shipped)[-1:]:
            self.service.versions.switch(other, None)
            self._refuse(other, self.pairs[other], f"its room went to {pair}, which was published; a higher --max-adapters has room for both")

    def _open(self, pair: str, adapter_id: str) -> Adapter:
        adapter = self.registry.adapter(adapter_id)
        if str(parse_pair(adapter.card.pair)) != pair:
            raise RegistryError("this adapter is for another pair", place=str(adapter.path), found=adapter.card.pair, valid=pair)
        return adapter

    def _refuse(self, pair: str, followed: Followed, reason: str) -> None:
        if reason != followed.reason:
            now = self.service.versions.live.get(pair)
            say(f"{pair}: not changed: {reason}; " + (f"{now.adapter.short} goes on answering" if now else "nothing answers for this pair"))
            self.service.metrics.swaps.labels(pair, "refused").inc()
        followed.state, followed.reason = "refused", reason
        followed.retry_at = time.monotonic() + followed.retry_after
        followed.retry_after = min(2 * followed.retry_after, LAST_RETRY)
