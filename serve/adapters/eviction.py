"""Which adapter leaves the engine when another needs its place, and waiting with a time limit. Reads and writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")

# Which places a pair may take: a free one only; that of a shipped adapter too; that of any pair that is not pinned.
EvictionScope = Literal["free", "shipped", "any"]
# A version counts as in demand until its last request is so many seconds old.
IN_DEMAND = 1.0
# Seconds in which cancelled work is to end.
CANCEL_TIMEOUT = 2.0


class Resident(Protocol):
    """What the choice depends on. `used` and `loaded` are moments of the monotonic clock, in seconds."""

    in_flight: int
    used: float
    loaded: float


R = TypeVar("R", bound=Resident)


def victim(live: dict[str, R], pinned: set[str], shipped: set[str], scope: EvictionScope, stay: float, now: float) -> str | None:
    """The pair to unload: a shipped one first, then one without requests, then the least recently used. None when no pair may go yet.

    A version loaded less than `stay` seconds ago keeps its place while it is in demand: otherwise two pairs in demand would only
    be loaded in turn.
    """

    def may_go(pair: str, version: R) -> bool:
        if pair in shipped:
            return scope != "free"
        protected = now - version.loaded < stay and (version.in_flight > 0 or now - version.used < IN_DEMAND)
        return scope == "any" and pair not in pinned and not protected

    candidates = [pair for pair, version in live.items() if may_go(pair, version)]
    return min(candidates, key=lambda pair: (pair not in shipped, live[pair].in_flight > 0, live[pair].used, pair), default=None)


def least_recently_used(versions: Iterable[R]) -> R | None:
    """The idle version that was used least recently."""
    return min((v for v in versions if not v.in_flight), key=lambda v: v.used, default=None)


def _retrieve_exception(task: asyncio.Future[Any]) -> None:
    """Retrieve what the task raised after nobody waited for it any more, or asyncio reports it as never retrieved."""
    if not task.cancelled():
        task.exception()


async def with_timeout(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of `work`. Raises TimeoutError after `seconds`; then, and when cancelled, it cancels `work` and waits for its end for a while only."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_retrieve_exception)
    try:
        finished, _ = await asyncio.wait({task}, timeout=seconds)
        if not finished:
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_TIMEOUT)
