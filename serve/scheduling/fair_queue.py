"""Whose turn it is: segments that wait, in a tree of adapters, the callers of each, and the requests of each caller.

Every level is served in turn, by the tokens that each branch was given (surplus round robin, Adiseshu et al. 1996): a busy pair does not
keep a quiet one waiting, nor one key another, nor a document a sentence.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar

# Tokens a branch gets in each round: about one long segment, so that turns are short.
QUANTUM = 256

# Adapter, caller, request.
Path = tuple[str, str, int]


class Segment(Protocol):
    """What waits: its cost in tokens, and what segments of one engine batch must have in common."""

    @property
    def cost(self) -> int: ...
    @property
    def kind(self) -> Hashable: ...


T = TypeVar("T", bound=Segment)


class _Branch:
    """`below` in the order of turns; `credit` is what the branch may still take in this round, `cost` what waits below it, both in tokens."""

    __slots__ = ("below", "cost", "credit")

    def __init__(self) -> None:
        # Not a dict, which is slow to find its first key once many before it are gone.
        self.below: OrderedDict[Any, Any] = OrderedDict()
        self.credit = 0
        self.cost = 0


def _turn(branch: _Branch, keys: list[Any]) -> Any:
    """The key, of those given, that is served now. One that has used up its credit goes to the end with new credit."""
    while True:
        for key in keys:
            child = branch.below[key]
            if child.credit > 0:
                return key
            child.credit += QUANTUM
            branch.below.move_to_end(key)


def _first(branch: _Branch) -> Any:
    while True:
        key, child = next(iter(branch.below.items()))
        if child.credit > 0:
            return key
        child.credit += QUANTUM
        branch.below.move_to_end(key)


class Turns(Generic[T]):
    def __init__(self) -> None:
        self._root = _Branch()
        # Where each segment waits; one that several requests wait for is in several places.
        self._places: dict[T, set[Path]] = {}

    def __len__(self) -> int:
        """Different segments that wait."""
        return len(self._places)

    def adapters(self) -> list[str]:
        return list(self._root.below)

    def add(self, path: Path, item: T) -> None:
        places = self._places.setdefault(item, set())
        if path in places:
            return
        places.add(path)
        branch = self._root
        branch.cost += item.cost
        for key in path:
            branch = branch.below.setdefault(key, _Branch())
            branch.cost += item.cost
        branch.below[item] = None

    def discard(self, path: Path, item: T) -> None:
        """Take the segment out of one request's line; nothing if it is not there."""
        if (places := self._places.get(item)) is None or path not in places:
            return
        places.remove(path)
        if not places:
            del self._places[item]
        branches = self._branches(path)
        del branches[-1].below[item]
        for branch in branches:
            branch.cost -= item.cost
        for parent, key, branch in reversed(list(zip(branches, path, branches[1:], strict=False))):
            if not branch.below:
                del parent.below[key]

    def _branches(self, path: Path) -> list[_Branch]:
        out = [self._root]
        for key in path:
            out.append(out[-1].below[key])
        return out

    def _take(self, path: Path, item: T) -> T:
        """Remove a segment that is served now, on this request's account, wherever it waits."""
        for branch in self._branches(path)[1:]:
            branch.credit -= item.cost
        for place in list(self._places[item]):
            self.discard(place, item)
        return item

    def take(self, allowed: Callable[[str], bool]) -> tuple[str, T] | None:
        """The segment whose turn it is among the adapters that are allowed, and its adapter; None when nothing waits there."""
        keys = [a for a in self._root.below if allowed(a)]
        if not keys:
            return None
        adapter = _turn(self._root, keys)
        callers = self._root.below[adapter]
        caller = _first(callers)
        requests = callers.below[caller]
        request = _first(requests)
        item: T = next(iter(requests.below[request].below))
        return adapter, self._take((adapter, caller, request), item)

    def take_alike(self, adapter: str, head: T, most: int) -> list[T]:
        """Up to `most` more of the adapter that can run in one batch with `head`, nearest to it in length first; each on its own request's account."""
        if most <= 0 or (callers := self._root.below.get(adapter)) is None:
            return []
        # As near as serve.engines.ct2.batching wants the prompts of a batch.
        spread = max(16, head.cost // 2)
        found: dict[T, Path] = {}
        for caller, requests in callers.below.items():
            for request, line in requests.below.items():
                for item in line.below:
                    if item.kind == head.kind and abs(item.cost - head.cost) <= spread:
                        found.setdefault(item, (adapter, caller, request))
        nearest = heapq.nsmallest(most, found, key=lambda i: abs(i.cost - head.cost))
        return [self._take(found[item], item) for item in nearest]

    def ahead(self, adapter: str, caller: str, cost: int) -> int:
        """Tokens that are served before a request of this cost, made now, is done, if nobody else comes: of every other branch what its turns amount to."""
        own: int = cost
        callers = self._root.below.get(adapter)
        if callers is not None:
            if (requests := callers.below.get(caller)) is not None:
                own += sum(min(line.cost, cost) for line in requests.below.values())
            own += sum(min(other.cost, own) for key, other in list(callers.below.items()) if key != caller)
        own += sum(min(other.cost, own) for key, other in self._root.below.items() if key != adapter)
        return own - cost

    def oldest(self) -> T | None:
        """The segment that has waited longest."""
        return next(iter(self._places), None)
