"""Draws the split: which whole documents are dev and test, which pairs repeat others, and which training pairs would repeat dev or test."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Iterable

from tell.corpus.rules import CleaningRules
from tell.corpus.segment_table import FirstSeen, SegmentTable
from tell.records import Split

# The default size of dev and of test: a tenth of the pairs, and no more than this many.
PART, CAP = 10, 200
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """Pairs asked for, in whole documents; None is the default size. The seed decides which documents."""

    dev: int | None = None
    test: int | None = None
    seed: int = 0


def drawn(seed: int, name: str) -> str:
    """What decides the order in which documents are drawn."""
    return hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest()


def _distinct(table: SegmentTable, enough: int) -> int:
    """The number of different pairs, counted up to `enough`."""
    seen: set[int] = set()
    for i in table.good():
        seen.add(table.exact[i])
        if len(seen) >= enough:
            break
    return len(seen)


class Repeats:
    """Drops pairs that repeat earlier ones, and counts the others."""

    def __init__(self, table: SegmentTable, rules: CleaningRules):
        self._table = table
        self._exact, self._near = rules.on("duplicate"), rules.on("near-duplicate")
        self._seen = FirstSeen()

    def take(self, segments: Iterable[int]) -> int:
        table, kept_pairs = self._table, 0
        key = table.near if self._near else table.exact
        for i in segments:
            before = self._seen.first(key[i], i)
            same = before is not None and table.exact[before] == table.exact[i]
            if before is not None and (self._exact if same else self._near):
                table.drop(i, "duplicate pair" if same else "near-duplicate")
            else:
                kept_pairs += 1
        return kept_pairs


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """`sides`: the split of every segment, as a place in SPLITS. `documents`: the documents that are dev and test."""

    sides: bytearray
    documents: dict[str, Split]


def assign_splits(table: SegmentTable, rules: CleaningRules, sizes: Sizes) -> Assignment:
    """Draws dev and test, in whole documents. They come first, so that of two equal pairs the one outside training stays."""
    docs = sorted({table.doc[i] for i in table.good()}) if sizes.dev != 0 or sizes.test != 0 else []
    default = min(CAP, max(1, _distinct(table, PART * CAP) // PART))
    repeats = Repeats(table, rules)
    of = Members(table)
    sides, documents = bytearray(len(table)), dict[str, Split]()
    shared: set[int] = set()
    walk = iter(sorted(docs, key=lambda d: drawn(sizes.seed, table.documents[d])))
    parts: tuple[tuple[Split, int | None], ...] = (("dev", sizes.dev), ("test", sizes.test))
    for part, requested in parts:
        have = 0
        while have < (default if requested is None else requested) and (d := next(walk, 0)):
            documents[table.documents[d]] = part
            members = of(d)
            for i in members:
                sides[i] = SPLITS.index(part)
            have += repeats.take(members)
            if part == "test":
                have -= drop_shared(table, members, shared)
        shared = {table.letters[0][i] for i in table.good() if sides[i] and table.letters[0][i]}
    repeats.take(array("I", (i for i in table.good() if not sides[i])))
    return Assignment(sides, documents)


def drop_shared(table: SegmentTable, members: Iterable[int], sources: set[int]) -> int:
    """Drops those of `members` whose source text is one of dev's: dev and test share none. Returns how many."""
    dropped = 0
    for i in members:
        if not table.reason[i] and table.letters[0][i] in sources:
            table.drop(i, "in dev")
            dropped += 1
    return dropped


class Members:
    """The good segments of a document. They are mostly, but not always, neighbours."""

    def __init__(self, table: SegmentTable):
        self._table = table
        self._order: array[int] | None = None
        self._starts: array[int] | None = None

    def __call__(self, doc: int) -> list[int]:
        if self._order is None or self._starts is None:
            starts = array("I", bytes(4 * (len(self._table.documents) + 1)))
            good = array("I", self._table.good())
            for i in good:
                starts[self._table.doc[i] + 1] += 1
            for d in range(1, len(starts)):
                starts[d] += starts[d - 1]
            next_place, order = array("I", starts), array("I", bytes(4 * len(good)))
            for i in good:
                d = self._table.doc[i]
                order[next_place[d]] = i
                next_place[d] += 1
            self._order, self._starts = order, starts
        return list(self._order[self._starts[doc] : self._starts[doc + 1]])


def mark_leaks(table: SegmentTable, sides: bytearray) -> None:
    """Drops training pairs one side of which is in dev or test, apart from case and punctuation."""
    held: dict[tuple[int, int], str] = {}
    for i in table.good():
        if sides[i]:
            for side, column in enumerate(table.letters):
                if column[i]:
                    held.setdefault((side, column[i]), f"in {SPLITS[sides[i]]}")
    if not held:
        return
    for i in table.good():
        if not sides[i]:
            for side, column in enumerate(table.letters):
                if reason := held.get((side, column[i])):
                    table.drop(i, reason)
                    break
