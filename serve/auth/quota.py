"""Quotas of API keys: requests a minute and characters a day. Counted in memory, or in a storage that replicas share (a `limits` URI).

Both are sliding windows: what was used in the window before counts by the part of it that is less than one window ago, so there is no hour
at which twice the quota can be had. Characters are those of the texts, counted before anything is done with them. A request that
is refused, by a quota or because the service is full, gets back what it had taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator
from typing import Any, Literal

from serve.auth.keys import Caller
from tell.errors import Overloaded, QuotaUsed, TellmtError, TooLarge

logger = logging.getLogger(__name__)

Kind = Literal["requests", "characters"]
# Seconds of each window, and how it is called.
WINDOW: dict[Kind, int] = {"requests": 60, "characters": 86_400}
SPAN: dict[Kind, str] = {"requests": "a minute", "characters": "a day"}
MEMORY = "memory://"
# Seconds that a shared storage may take to answer.
PATIENCE = 1.0


def wait(limit: int, window: int, cost: int, before: float, now: float, left: float) -> int:
    """Whole seconds until `cost` fits in a sliding window. `before` and `now` were used in the last and this fixed window, which ends in `left` seconds."""
    # What is left of a window counts in whole units, rounded down: so one more than there is room for may still be there.
    room = limit - cost - now + 1
    if before and room > 0 and (faded := left - room * window / before) < left:
        # Within this window what was used before it fades.
        return max(1, math.floor(faded) + 1)
    # After it ends, what was used in it fades in turn.
    faded = window - (limit - cost + 1) * window / now if now else 0.0
    return max(1, math.floor(left + max(0.0, faded)) + 1)


class Quota:
    def __init__(self, uri: str = MEMORY):
        """Raises TellmtError when the storage is not one, or wants a package that is not installed."""
        from limits import RateLimitItemPerDay, RateLimitItemPerMinute
        from limits.aio.strategies import SlidingWindowCounterRateLimiter
        from limits.errors import ConfigurationError
        from limits.storage import storage_from_string

        self._items: dict[Kind, Any] = {"requests": RateLimitItemPerMinute, "characters": RateLimitItemPerDay}
        try:
            storage: Any = storage_from_string(uri if uri.startswith("async+") else f"async+{uri}", wrap_exceptions=True)
            self._windows: Any = SlidingWindowCounterRateLimiter(storage)
        except (ConfigurationError, NotImplementedError, ValueError, ImportError) as e:
            # The rest of the address may hold a password.
            found = f"{uri.partition('://')[0]}://… ({type(e).__name__})"
            raise TellmtError("no storage for quotas", place="--quota-storage", found=found, valid="memory:// or redis://HOST") from None
        self._down = False

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Raises Overloaded when the storage does not answer: a quota that cannot be counted is not waived."""
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except QuotaUsed:
            raise
        except Exception as e:
            if not self._down:
                logger.error(f"the storage of quotas does not answer: {type(e).__name__}")
            self._down = True
            raise Overloaded("quotas cannot be counted at the moment") from None
        if self._down:
            logger.info("the storage of quotas answers again")
        self._down = False

    def _limits(self, caller: Caller) -> dict[Kind, int]:
        known: dict[Kind, int | None] = {"requests": caller.requests_per_minute, "characters": caller.characters_per_day}
        return {kind: n for kind, n in known.items() if n is not None}

    async def take(self, caller: Caller, kind: Kind, cost: int) -> None:
        """Take `cost` from the caller's quota, all of it or nothing.

        Raises QuotaUsed; TooLarge when it is more than the quota ever holds; Overloaded when a shared storage does not answer.
        """
        limit = self._limits(caller).get(kind)
        if limit is None or not cost:
            return
        if cost > limit:
            raise TooLarge(f"more {kind} than the quota of this key", found=cost, valid=f"at most {limit} {SPAN[kind]}")
        item = self._items[kind](limit)
        async with self._asking():
            if await self._windows.hit(item, caller.id, kind, cost=cost):
                return
            before, fading, now, ends = await self._windows.storage.get_sliding_window(item.key_for(caller.id, kind), WINDOW[kind])
            # What is told of this window's end is the end of the entry, one window later; `fading` is known only when there was a window before.
            left = fading if before else max(0.0, ends - WINDOW[kind])
            raise QuotaUsed(f"the quota of {kind} is used up", wait(limit, WINDOW[kind], cost, before, now, left), valid=f"{limit} {SPAN[kind]}")

    async def give_back(self, caller: Caller, kind: Kind, cost: int) -> None:
        limit = self._limits(caller).get(kind)
        if limit is not None and cost:
            with contextlib.suppress(Overloaded):
                async with self._asking():
                    await self._windows.hit(self._items[kind](limit), caller.id, kind, cost=-cost)

    async def used(self, caller: Caller, kind: Kind) -> tuple[int, int] | None:
        """What the caller has used in the window, and how much it may; None without a quota. Raises Overloaded when a shared storage does not answer."""
        if (limit := self._limits(caller).get(kind)) is None:
            return None
        async with self._asking():
            return limit - await self._left(caller, kind, limit), limit

    async def _left(self, caller: Caller, kind: Kind, limit: int) -> int:
        found = await self._windows.get_window_stats(self._items[kind](limit), caller.id, kind)
        return min(limit, int(found.remaining))

    async def headers(self, caller: Caller) -> list[tuple[bytes, bytes]]:
        """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) of a caller with quotas."""
        limits = self._limits(caller)
        if not limits:
            return []
        left = []
        with contextlib.suppress(Overloaded):
            async with self._asking():
                for kind, limit in limits.items():
                    left.append(f'"{kind}";r={await self._left(caller, kind, limit)};t={WINDOW[kind]}')
        policy = ", ".join(f'"{kind}";q={limit};w={WINDOW[kind]}' for kind, limit in limits.items())
        return [(b"ratelimit-policy", policy.encode())] + ([(b"ratelimit", ", ".join(left).encode())] if left else [])
