"""How many segments an engine is given at once: enough for its best throughput, and no more, since the order of what it holds can no longer be changed.

From the engine's traits (tell.model.engine), which say how it consumes what it is given.
"""

from __future__ import annotations

import dataclasses
import heapq
import sys
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from tell.model.engine import EngineTraits

# Tokens that an adapter is given before it gives way to one that waits outside: a few seconds on a GPU, so that the slots do not change all the time.
STAY = 8192


@dataclasses.dataclass(frozen=True, slots=True)
class BatchWindow:
    """`size` in segments. `batches`: the engine runs one batch of one adapter from start to end. `adapters` may be in it at once."""

    size: int
    batches: bool = False
    adapters: int = sys.maxsize


def batch_window(traits: EngineTraits, batch: int) -> BatchWindow:
    """The window of an engine that runs `batch` segments at once."""
    if traits.whole_batches:
        # It begins nothing while a batch runs, so the next is put together when the last one has ended: of one adapter, and of like length.
        return BatchWindow(batch, batches=True, adapters=traits.adapters_per_batch)
    # It fills places as they become free; a quarter more waits inside, so that no place stays free until our event loop runs.
    return BatchWindow(batch + batch // 4, adapters=traits.adapters_per_batch)


def adapters_to_pause(window: BatchWindow, given_tokens: Mapping[str, int], waiting_outside: int) -> set[str]:
    """The adapters in the engine that get no more for now, so that as many as wait outside come in. `given_tokens`: the tokens that each was given."""
    if not waiting_outside or len(given_tokens) < window.adapters:
        return set()
    longest = sorted((a for a in given_tokens if given_tokens[a] >= STAY), key=lambda a: -given_tokens[a])
    return set(longest[:waiting_outside])


class WaitingSegment(Protocol):
    """What waits for the engine: its cost in tokens, and what segments of one batch must have in common."""

    @property
    def cost(self) -> int: ...
    @property
    def kind(self) -> Hashable: ...


SegmentT = TypeVar("SegmentT", bound=WaitingSegment)
PathT = TypeVar("PathT", bound="tuple[Any, ...]")


def nearest(waiting: Iterable[tuple[PathT, SegmentT]], head: SegmentT, most: int) -> list[tuple[PathT, SegmentT]]:
    """Up to `most` of the segments that can run in one batch with `head`, nearest to it in length first, each with the first path it waits on."""
    # As near as serve.engines.ct2.batching wants the prompts of a batch.
    spread = max(16, head.cost // 2)
    paths: dict[SegmentT, PathT] = {}
    for path, segment in waiting:
        if segment.kind == head.kind and abs(segment.cost - head.cost) <= spread:
            paths.setdefault(segment, path)
    chosen = heapq.nsmallest(most, paths, key=lambda segment: abs(segment.cost - head.cost))
    return [(paths[segment], segment) for segment in chosen]
