"""Cleans batches of segments, in this process or in several; the result does not depend on how many.

Reads and writes nothing but memory.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from json.encoder import encode_basestring as _string
from typing import Any, Generic, TypeVar

from tell.corpus.misalignment import Stretch, shifted
from tell.corpus.rules import CleaningRules, clean_pair
from tell.corpus.segment_table import hashed
from tell.errors import TellmtError
from tell.machine import cores
from tell.text.normalise import spelled

# Segments in a batch: some hundreds of milliseconds of work.
BATCH = 4096
# Batches that are done here before other processes are started, which takes each of them a second.
FIRST = 4
# Samples of what was mended that a batch brings back for each rule.
SAMPLES = 4

T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class CleanedBatch:
    """A cleaned batch: for each segment its reason, its hashes (of the pair, of its letters, of each side's letters) and its line of the spool."""

    reasons: list[str | None]
    hashes: tuple[array[int], array[int], array[int], array[int]]
    texts: list[bytes]
    mended: Counter[str]
    samples: list[tuple[str, int, str, str]]
    right: int
    swapped: int
    stretches: list[Stretch]


def row(source: str, target: str) -> bytes:
    """Two texts as they stand in a row of pairs.jsonl, with a line end: what json.dumps writes, without the braces."""
    return f'"source": {_string(spelled(source))}, "target": {_string(spelled(target))}\n'.encode()


def clean_batch(segments: list[tuple[str, str, str | None]], rules: CleaningRules) -> CleanedBatch:
    """(source, target, reason) of each segment; those that have a reason are kept as they are."""
    batch = CleanedBatch([], (array("Q"), array("Q"), array("Q"), array("Q")), [], Counter(), [], 0, 0, [])
    sides: tuple[list[str], list[str]] = ([], [])
    exact, near, *letters = batch.hashes
    for i, (source, target, reason) in enumerate(segments):
        if reason is not None:
            batch.reasons.append(reason)
            batch.texts.append(row(source, target))
            for column in batch.hashes:
                column.append(0)
            for side in sides:
                side.append("")
            continue
        cleaned = clean_pair(source, target, rules)
        batch.reasons.append(cleaned.reason)
        batch.texts.append(row(cleaned.source, cleaned.target))
        batch.right += cleaned.language > 0
        batch.swapped += cleaned.language < 0
        for name in cleaned.mended:
            batch.mended[name] += 1
            if batch.mended[name] <= SAMPLES:
                batch.samples += [(name, i, a, b) for a, b in ((source, cleaned.source), (target, cleaned.target)) if a.strip() != b][:1]
        side_hashes = [hashed(text) if text else 0 for text in cleaned.letters]
        pair = hashed(cleaned.source, cleaned.target)
        exact.append(pair)
        near.append(hashed(*cleaned.letters) if all(side_hashes) else pair)
        for column, value in zip(letters, side_hashes, strict=True):
            column.append(value)
        sides[0].append(cleaned.source)
        sides[1].append(cleaned.target)
    if rules.on("misaligned"):
        batch.stretches = shifted(*sides)
        for s in batch.stretches:
            for i in range(s.first, s.last + 1):
                batch.reasons[i] = batch.reasons[i] or "misaligned"
    return batch


class Workers(Generic[T]):
    """Processes that return results in the order of the tasks: `put` adds a task, `ready` yields results. With one process, this process does the work."""

    def __init__(self, work: Callable[..., T], processes: int | None = None):
        self._work = work
        self._processes = cores() if processes is None else processes
        self._pool: ProcessPoolExecutor | None = None
        self._given = 0
        self._waiting: deque[tuple[Any, Future[T] | T]] = deque()

    def __enter__(self) -> Workers[T]:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, about: Any, *args: Any) -> None:
        """`about` comes back with the result."""
        self._given += 1
        if self._processes < 2 or self._given <= FIRST:
            self._waiting.append((about, self._work(*args)))
            return
        if self._pool is None:
            import multiprocessing

            # Not forked: a fork copies the locks of threads that it does not copy.
            self._pool = ProcessPoolExecutor(self._processes, multiprocessing.get_context("spawn"))
        self._waiting.append((about, self._pool.submit(self._work, *args)))

    def ready(self, all_of_it: bool = False) -> Iterator[tuple[Any, T]]:
        """Yields the results that can be taken now without leaving a process idle; with `all_of_it`, waits for all of them."""
        while self._waiting and (all_of_it or not isinstance(self._waiting[0][1], Future) or len(self._waiting) > self._processes + 2):
            about, result = self._waiting.popleft()
            yield about, _result(result) if isinstance(result, Future) else result


def _result(result: Future[T]) -> T:
    try:
        return result.result()
    except BrokenProcessPool:
        # As a machine does that has run out of memory.
        raise TellmtError("a process that cleans was ended from outside", valid="more memory, or --jobs 1") from None
