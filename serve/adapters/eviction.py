"""Whose place in the engine is given up when another adapter needs one, and waiting that has an end. Reads and writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")

# What a pair that needs a place may take: a free one; that of a shipped adapter; that of any pair that is not pinned.
Reach = Literal["free", "shipped", "any"]
# A version counts as asked for while its last request is so many seconds old at most.
ASKED = 1.0
# Seconds that work which was cancelled has to leave off.
LEAVE_OFF = 2.0


class Resident(Protocol):
    """What the choice looks at. `used` and `loaded` are moments of the monotonic clock, in seconds."""

    in_flight: int
    used: float
    loaded: float


R = TypeVar("R", bound=Resident)


def victim(live: dict[str, R], pinned: set[str], shipped: set[str], reach: Reach, stay: float, now: float) -> str | None:
    """The pair to unload: a shipped one first, then one without requests, then the one not asked for the longest. None: nobody's turn yet.

    A version loaded less than `stay` seconds ago keeps its place while it is asked for, or two pairs that are asked for in turn would do
    nothing but load.
    """

    def may_go(pair: str, v: R) -> bool:
        if pair in shipped:
            return reach != "free"
        fresh = now - v.loaded < stay and (v.in_flight > 0 or now - v.used < ASKED)
        return reach == "any" and pair not in pinned and not fresh

    taken = [pair for pair, v in live.items() if may_go(pair, v)]
    return min(taken, key=lambda pair: (pair not in shipped, live[pair].in_flight > 0, live[pair].used, pair), default=None)


def oldest(versions: Iterable[R]) -> R | None:
    """The idle version not used for the longest."""
    return min((v for v in versions if not v.in_flight), key=lambda v: v.used, default=None)


def _look_at(task: asyncio.Future[Any]) -> None:
    """So that what it raised after nobody waited any more is not told as never retrieved."""
    if not task.cancelled():
        task.exception()


async def in_time(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of `work`. Raises TimeoutError after `seconds`; then, and when cancelled, `work` is cancelled and not waited for for ever."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_look_at)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=LEAVE_OFF)
