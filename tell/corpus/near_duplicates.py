"""Near-duplicates across the frozen split: how many segments of dev and test have one in training, or dev in test.

Reads the table of segments and its spool, writes nothing, moves nothing: the split is frozen. Two texts are near-duplicates when their words differ in one
(changed, more or fewer), or when half of the stretches of eight words of one are in the other split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tell.corpus.overlap import LISTED, WORDS, words_of
from tell.corpus.segment_table import SegmentTable
from tell.corpus.split import SPLITS

# Words that a text must have for one of them to be a small difference, and may have, since every one of them is left out in turn.
LEAST, MOST = 5, 40
# Places that a report names.
NAMED = 20


def _one_less(words: list[str]) -> Iterator[int]:
    """The text without each of its words, in turn, and the whole."""
    if LEAST <= len(words) <= MOST:
        yield hash(tuple(words))
        for k in range(len(words)):
            yield hash((*words[:k], *words[k + 1 :]))


class _Held:
    """The segments of dev and test: what they are without one word, and their stretches, each with its side."""

    def __init__(self) -> None:
        self.one_less: dict[tuple[int, int], set[int]] = {}
        self.stretches: dict[tuple[int, int], set[int]] = {}
        self.of: dict[tuple[int, int], int] = {}
        self.words: tuple[set[str], set[str]] = (set(), set())
        # Segment -> a near-duplicate of it.
        self.like: dict[int, int] = {}
        self._seen: dict[tuple[int, int], dict[int, int]] = {}

    def add(self, segment: int, side: int, words: list[str]) -> None:
        self.words[side].update(words)
        for key in _one_less(words):
            self.one_less.setdefault((side, key), set()).add(segment)
        stretches = _stretches(words)
        self.of[segment, side] = len(stretches)
        for key in stretches:
            self.stretches.setdefault((side, key), set()).add(segment)

    def look(self, segment: int, side: int, words: list[str], wanted: Any) -> None:
        """Compares a segment with those that are `wanted`."""
        known = self.words[side]
        if sum(word not in known for word in words) <= 1:
            for key in _one_less(words):
                for held in self.one_less.get((side, key), ()):
                    if wanted(held):
                        self.like.setdefault(held, segment)
        run = 0
        for k, word in enumerate(words):
            run = run + 1 if word in known else 0
            if run >= WORDS:
                key = hash(tuple(words[k - WORDS + 1 : k + 1]))
                for held in self.stretches.get((side, key), ()):
                    if wanted(held):
                        self._seen.setdefault((held, side), {})[key] = segment

    def near(self) -> dict[int, int]:
        for (held, side), seen in self._seen.items():
            if len(seen) >= LISTED * self.of[held, side]:
                self.like.setdefault(held, next(iter(seen.values())))
        return dict(sorted(self.like.items()))


def _stretches(words: list[str]) -> set[int]:
    return {hash(tuple(words[k : k + WORDS])) for k in range(len(words) - WORDS + 1)}


def near_duplicates(table: SegmentTable, sides: bytearray) -> dict[str, Any]:
    """{"dev": {"segments", "near", "places": [[place, place of its near-duplicate], ...]}, "test": ...}: of dev in training or test, of test in training."""
    good = bytearray(len(table))
    for i in table.good():
        good[i] = 1
    held = _Held()
    for i, side, words in _texts(table, (good[i] and sides[i] for i in range(len(table)))):
        held.add(i, side, words)
    if held.of:
        for i, side, words in _texts(table, (good[i] and sides[i] != SPLITS.index("dev") for i in range(len(table)))):
            # Of test only dev is held against it.
            held.look(i, side, words, (lambda h: sides[h] != SPLITS.index("test")) if sides[i] else (lambda h: True))
    found: dict[str, Any] = {
        split: {"segments": sum(1 for i in range(len(table)) if good[i] and SPLITS[sides[i]] == split), "near": 0, "places": []} for split in SPLITS[1:]
    }
    for segment, like in held.near().items():
        row = found[SPLITS[sides[segment]]]
        row["near"] += 1
        if row["near"] <= NAMED:
            row["places"].append([_place(table, segment), _place(table, like)])
    return found


def _texts(table: SegmentTable, wanted: Iterable[object]) -> Iterator[tuple[int, int, list[str]]]:
    """(segment, side, words) of the wanted segments."""
    for i, (raw, want) in enumerate(zip(table.spool.lines(), wanted, strict=True)):
        if want:
            row = json.loads(b"{" + raw + b"}")
            yield i, 0, words_of(row["source"])
            yield i, 1, words_of(row["target"])


def _place(table: SegmentTable, i: int) -> str:
    return f"{table.files.all[table.file[i]]}, line {table.line[i]}"


def near_sentences(found: dict[str, Any]) -> list[str]:
    """A sentence for each split that has any."""
    return [
        f"{row['near']:,} of {row['segments']:,} {split} segments are nearly a training pair{' or one of test' if split == 'dev' else ''}"
        f" ({row['places'][0][0]} and {row['places'][0][1]}): scores on them say little; the split is frozen and they stay"
        for split, row in found.items()
        if row["near"]
    ]
