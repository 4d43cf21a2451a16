"""Whose turn it is: items that wait in a tree of branches, such as adapters, the callers of each, and the requests of each caller.

Every level is served in turn, by what each branch was given (surplus round robin, Adiseshu et al. 1996): a busy adapter does not keep a quiet one
waiting, nor one key another, nor a document a sentence. The service's queue counts tokens; a driver that runs whole batches counts batches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar


class Costly(Protocol):
    """What waits. `cost` is in the unit of the queue's quantum, and never changes."""

    @property
    def cost(self) -> int: ...


# The branches that lead to an item, from the outermost; equally many for all items of a queue.
PathT = TypeVar("PathT", bound="tuple[Any, ...]")
ItemT = TypeVar("ItemT", bound=Costly)


class _Branch:
    """`below` in the order of turns: branches by key, or on the last level the items, each with None. `credit` is what the branch may still take in this
    round, `cost` what waits below it."""

    __slots__ = ("below", "cost", "credit")

    def __init__(self, credit: int = 0) -> None:
        # Not a dict, which finds its first key slowly after many before it were removed.
        self.below: OrderedDict[Any, Any] = OrderedDict()
        self.credit = credit
        self.cost = 0


class FairQueue(Generic[PathT, ItemT]):
    """A branch gets `quantum` in each round. Items are hashable, and one may wait in several places; it is served once."""

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._root = _Branch()
        # Where each item waits, the one that has waited longest first.
        self._places: OrderedDict[ItemT, set[PathT]] = OrderedDict()

    def __len__(self) -> int:
        """Different items that wait."""
        return len(self._places)

    def outermost(self) -> list[Any]:
        """The first keys of the paths on which something waits, in the order of turns."""
        return list(self._root.below)

    def oldest(self) -> ItemT | None:
        """The item that has waited longest."""
        return next(iter(self._places), None)

    def cost(self, prefix: tuple[Hashable, ...]) -> int:
        """What waits on the paths that begin so."""
        branch = self._branch(prefix)
        return 0 if branch is None else branch.cost

    def items(self, prefix: tuple[Hashable, ...] = ()) -> Iterator[tuple[PathT, ItemT]]:
        """What waits on the paths that begin so, in the order of turns; as often as it waits there."""
        branch = self._branch(prefix)
        if branch is not None:
            yield from self._items(prefix, branch)

    def _items(self, path: tuple[Any, ...], branch: _Branch) -> Iterator[tuple[Any, ItemT]]:
        for key, child in branch.below.items():
            if child is None:
                yield path, key
            else:
                yield from self._items((*path, key), child)

    def _branch(self, prefix: tuple[Hashable, ...]) -> _Branch | None:
        branch: _Branch | None = self._root
        for key in prefix:
            if branch is None:
                return None
            branch = branch.below.get(key)
        return branch

    def _branches(self, path: PathT) -> list[_Branch]:
        """The root and every branch of the path, which must be there."""
        branches = [self._root]
        for key in path:
            branches.append(branches[-1].below[key])
        return branches

    def add(self, path: PathT, item: ItemT) -> None:
        """Put an item at the end of the line at `path`; nothing if it waits there already."""
        places = self._places.setdefault(item, set())
        if path in places:
            return
        places.add(path)
        branch = self._root
        branch.cost += item.cost
        for key in path:
            # A new branch is behind all others, and is served when they have had what is left of this round.
            if (child := branch.below.get(key)) is None:
                child = branch.below[key] = _Branch(self._quantum)
            branch = child
            branch.cost += item.cost
        branch.below[item] = None

    def put_back(self, waiting: Iterable[tuple[PathT, ItemT]]) -> None:
        """Return items that were taken to the front, in this order: they have the next turn again."""
        for path, item in reversed(list(waiting)):
            self.add(path, item)
            self._places.move_to_end(item, last=False)
            branches = self._branches(path)
            for parent, key, branch in zip(branches, path, branches[1:], strict=False):
                parent.below.move_to_end(key, last=False)
                branch.credit = max(branch.credit, self._quantum)
            branches[-1].below.move_to_end(item, last=False)

    def discard(self, path: PathT, item: ItemT) -> None:
        """Take an item out of one line, at no branch's cost; nothing if it does not wait there."""
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

    def clear(self) -> list[ItemT]:
        """Take everything out. Returns what waited."""
        items = list(self._places)
        self._places.clear()
        self._root = _Branch()
        return items

    def take_item(self, path: PathT, item: ItemT) -> None:
        """Take out, wherever it waits, an item that runs together with the one whose turn it is; the branches of this path pay for it."""
        for branch in self._branches(path)[1:]:
            branch.credit -= item.cost
        for place in list(self._places[item]):
            self.discard(place, item)

    def take(self, allowed: Callable[[Any], bool] | None = None) -> tuple[PathT, ItemT] | None:
        """Take out the item whose turn it is. Returns it with the path whose branches pay for it; `allowed` says which first keys may be served.

        None when nothing waits there.
        """
        if not any(allowed is None or allowed(key) for key in self._root.below):
            return None
        branches, path = [self._root], [self._turn(self._root, allowed)]
        while True:
            branches.append(branches[-1].below[path[-1]])
            key = next(iter(branches[-1].below))
            if branches[-1].below[key] is None:
                return self._served(tuple(path), branches, key)  # type: ignore[arg-type]
            path.append(self._turn(branches[-1], None))

    def _turn(self, branch: _Branch, allowed: Callable[[Any], bool] | None) -> Any:
        """The key that is served now; there must be one. A branch that owes more than it gets in a round is passed over, and owes that much less."""
        while True:
            key = next(key for key in branch.below if allowed is None or allowed(key))
            child = branch.below[key]
            if child.credit > 0:
                return key
            child.credit += self._quantum
            branch.below.move_to_end(key)

    def _served(self, path: PathT, branches: list[_Branch], item: ItemT) -> tuple[PathT, ItemT]:
        for parent, key, branch in zip(branches, path, branches[1:], strict=False):
            branch.credit -= item.cost
            if branch.credit <= 0:
                # Its turn is over.
                branch.credit += self._quantum
                parent.below.move_to_end(key)
        for place in list(self._places[item]):
            self.discard(place, item)
        return path, item

    def ahead(self, prefix: tuple[Hashable, ...], cost: int) -> int:
        """What is served before something of this cost, added now below `prefix` on a branch of its own, is done, if nothing else comes.

        Of every other branch this is what its turns amount to meanwhile.
        """
        total = cost
        for depth in reversed(range(len(prefix) + 1)):
            if (branch := self._branch(prefix[:depth])) is None:
                continue
            own_branch = branch.below.get(prefix[depth]) if depth < len(prefix) else None
            total += sum(min(other.cost, total) for other in branch.below.values() if other is not own_branch)
        return total - cost
