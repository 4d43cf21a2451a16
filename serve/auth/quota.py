"""Quotas of API keys: requests a minute and characters a day. Counted in memory, or in a storage that replicas share (a `limits` URI).

Both are sliding windows: the use in the previous window counts by the part of that window that is less than one window ago, so no caller can use twice
the quota around the end of a window. Characters are those of the texts, counted before any work. A request that is refused, by a quota or because the
service is full, gets back what it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import AsyncIterator
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from serve.auth.keys import Caller
from tell.errors import Overloaded, QuotaUsed, TellmtError, TooLarge

logger = logging.getLogger(__name__)

Kind = Literal["requests", "characters"]
# Seconds of each window, and its name in messages.
WINDOW: dict[Kind, int] = {"requests": 60, "characters": 86_400}
SPAN: dict[Kind, str] = {"requests": "a minute", "characters": "a day"}
MEMORY = "memory://"
# Seconds that the service waits for a shared storage.
STORAGE_SECONDS = 1.0
# What DeepL's clients are told as the limit of a key without one.
UNLIMITED = 1_000_000_000_000
# Whose characters a service without keys counts. No key has this id.
KEYLESS = "-"
# Seconds after a failure of the storage in which callers without a quota do not wait for it.
PAUSE = 30.0


def wait(limit: int, window: int, cost: int, previous: float, current: float, seconds_left: float) -> int:
    """Whole seconds until `cost` fits in a sliding window. `previous` and `current` are the use in the last fixed window and in this one, which ends
    in `left` seconds."""
    # The storage rounds the use in the previous window down to whole units, so there may be room for one unit more.
    room = limit - cost - current + 1
    if previous and room > 0 and (seconds := seconds_left - room * window / previous) < seconds_left:
        # Within this window the use before it counts less and less.
        return max(1, math.floor(seconds) + 1)
    # In the next window the use in this one counts less and less.
    seconds = window - (limit - cost + 1) * window / current if current else 0.0
    return max(1, math.floor(seconds_left + max(0.0, seconds)) + 1)


@dataclasses.dataclass(slots=True)
class Meter:
    """Counts the characters of a request's segments that were translated, so that one that ends early is charged for those alone."""

    translated: int = 0


def with_port(uri: str) -> str:
    """Redis's address with its port. coredis wants one, and most addresses of Redis have none. Raises ValueError for a port that is none."""
    parts = urlsplit(uri)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.port is not None:
        return uri
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:6379"))


class Quota:
    """The use of all keys' quotas, in a `limits` storage."""

    def __init__(self, uri: str = MEMORY):
        """Raises TellmtError when `uri` names no storage, or one that needs a package that is not installed."""
        from limits import RateLimitItemPerDay, RateLimitItemPerMinute
        from limits.aio.strategies import SlidingWindowCounterRateLimiter
        from limits.errors import ConfigurationError
        from limits.storage import storage_from_string

        self._items: dict[Kind, Any] = {"requests": RateLimitItemPerMinute, "characters": RateLimitItemPerDay}
        try:
            uri = with_port(uri)
            storage: Any = storage_from_string(uri if uri.startswith("async+") else f"async+{uri}", wrap_exceptions=True)
            self._windows: Any = SlidingWindowCounterRateLimiter(storage)
        except (ConfigurationError, NotImplementedError, ValueError, ImportError) as e:
            # The rest of the address may hold a password.
            scheme = f"{uri.partition('://')[0]}://… ({type(e).__name__})"
            raise TellmtError("no storage for quotas", place="--quota-storage", found=scheme, valid="memory:// or redis://HOST") from None
        self._down = False
        self._down_until = 0.0

    @contextlib.asynccontextmanager
    async def _storage(self) -> AsyncIterator[None]:
        """Around calls of the storage. Raises Overloaded when it does not answer: a quota that cannot be counted is not waived."""
        try:
            async with asyncio.timeout(STORAGE_SECONDS):
                yield
        except QuotaUsed:
            raise
        except Exception as e:
            if not self._down:
                logger.error(f"the storage of quotas does not answer: {type(e).__name__}")
            self._down, self._down_until = True, time.monotonic() + PAUSE
            raise Overloaded("quotas cannot be counted at the moment") from None
        if self._down:
            logger.info("the storage of quotas answers again")
        self._down = False

    def _limits(self, caller: Caller) -> dict[Kind, int]:
        limits: dict[Kind, int | None] = {"requests": caller.requests_per_minute, "characters": caller.characters_per_day}
        return {kind: limit for kind, limit in limits.items() if limit is not None}

    async def take(self, caller: Caller, kind: Kind, cost: int) -> None:
        """Take `cost` from the caller's quota, all of it or nothing.

        Raises QuotaUsed; TooLarge when it is more than the quota ever holds; Overloaded when a shared storage does not answer.
        """
        limit = self._limits(caller).get(kind)
        if not cost:
            return
        if limit is None:
            return await self._count(caller, kind, cost)
        if cost > limit:
            raise TooLarge(f"more {kind} than the quota of this key", found=cost, valid=f"at most {limit} {SPAN[kind]}")
        item = self._items[kind](limit)
        async with self._storage():
            if await self._windows.hit(item, caller.id, kind, cost=cost):
                return
            raise await self._used_up(item, caller, kind, cost)

    async def check(self, caller: Caller, kind: Kind) -> None:
        """Raises as `take` of 1 would, and takes nothing."""
        limit = self._limits(caller).get(kind)
        if limit is None:
            return
        item = self._items[kind](limit)
        async with self._storage():
            if not await self._windows.test(item, caller.id, kind):
                raise await self._used_up(item, caller, kind, 1)

    async def _used_up(self, item: Any, caller: Caller, kind: Kind, cost: int) -> QuotaUsed:
        limit = item.amount
        previous, previous_ends, current, current_ends = await self._windows.storage.get_sliding_window(item.key_for(caller.id, kind), WINDOW[kind])
        # `previous_ends` is when the previous window stops counting, which is when this one ends; it is known only where there was a previous window.
        # `current_ends` is when this window stops counting, one window later.
        seconds_left = previous_ends if previous else max(0.0, current_ends - WINDOW[kind])
        return QuotaUsed(f"the quota of {kind} is used up", wait(limit, WINDOW[kind], cost, previous, current, seconds_left), valid=f"{limit} {SPAN[kind]}")

    async def _count(self, caller: Caller, kind: Kind, cost: int) -> None:
        """Count what a caller without a quota used, so that it can be told. Nothing depends on it: without the storage it is not counted."""
        if kind == "characters" and not (self._down and time.monotonic() < self._down_until):
            with contextlib.suppress(Overloaded, QuotaUsed):
                async with self._storage():
                    await self._windows.hit(self._items[kind](UNLIMITED), caller.id or KEYLESS, kind, cost=cost)

    async def give_back(self, caller: Caller, kind: Kind, cost: int) -> None:
        limit = self._limits(caller).get(kind)
        if limit is None:
            return await self._count(caller, kind, -cost)
        if cost:
            with contextlib.suppress(Overloaded):
                async with self._storage():
                    await self._windows.hit(self._items[kind](limit), caller.id, kind, cost=-cost)

    async def used(self, caller: Caller, kind: Kind) -> tuple[int, int]:
        """The caller's use in the window, and its limit, UNLIMITED without a quota. Raises Overloaded when a shared storage does not answer."""
        limit = self._limits(caller).get(kind, UNLIMITED)
        async with self._storage():
            return limit - await self._remaining(caller, kind, limit), limit

    async def _remaining(self, caller: Caller, kind: Kind, limit: int) -> int:
        window = await self._windows.get_window_stats(self._items[kind](limit), caller.id or KEYLESS, kind)
        return min(limit, int(window.remaining))

    async def headers(self, caller: Caller) -> list[tuple[bytes, bytes]]:
        """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) of a caller with quotas."""
        limits = self._limits(caller)
        if not limits:
            return []
        remaining = []
        with contextlib.suppress(Overloaded):
            async with self._storage():
                for kind, limit in limits.items():
                    remaining.append(f'"{kind}";r={await self._remaining(caller, kind, limit)};t={WINDOW[kind]}')
        policy = ", ".join(f'"{kind}";q={limit};w={WINDOW[kind]}' for kind, limit in limits.items())
        return [(b"ratelimit-policy", policy.encode())] + ([(b"ratelimit", ", ".join(remaining).encode())] if remaining else [])
