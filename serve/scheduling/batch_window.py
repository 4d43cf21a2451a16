"""How many segments an engine is given at once: enough for its best throughput, and no more, since what it holds can no longer be put in order.

Driver by driver, as each consumes what it is given.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping

# Tokens an adapter is given before it makes room for one that waits outside: a few seconds on a GPU, so that slots do not change hands all the time.
STAY = 8192


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """`size` in segments. `batches`: the engine runs one batch of one adapter from start to end. `adapters` may be in it at once."""

    size: int
    batches: bool = False
    adapters: int = sys.maxsize


def window_of(engine: str, batch: int) -> Window:
    if engine == "ct2":
        # It begins nothing while a batch runs, so the next is put together when the last one has ended: of one adapter, and of like length.
        return Window(batch, batches=True)
    if engine == "vllm":
        from serve.engines.vllm import MAX_PER_BATCH

        # It fills places as they fall free, in order of arrival; a quarter more waits inside, so that no place stays free for a turn of our loop.
        # With more adapters than it can batch, its hot ones would overtake the cold ones.
        return Window(batch + batch // 4, adapters=MAX_PER_BATCH)
    # A server elsewhere batches by itself.
    return Window(batch + batch // 4)


def resting(window: Window, given: Mapping[str, int], outside: int) -> set[str]:
    """Of the adapters in the engine, with the tokens they were `given`, those that get no more, so that as many as wait outside come in."""
    if not outside or len(given) < window.adapters:
        return set()
    stayed = sorted((a for a in given if given[a] >= STAY), key=lambda a: -given[a])
    return set(stayed[:outside])
