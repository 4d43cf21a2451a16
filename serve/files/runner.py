"""Shards of segments through a backend, local or over HTTP, in batches of like length that are kept in flight, with a progress bar.

Reads the open shards of a store and records the results of each batch there, as soon as they are there. `translate_shard` is all that a cluster needs of
this: a shard in, results out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

from serve.files.segment_store import SegmentResult, SegmentStore, Shard
from tell.console import progress

# Segments that a dry run translates to see how long the rest will take.
SAMPLE = 64


class Backend(Protocol):
    """Translates batches of segments. `lines` and `characters` bound a batch; `parallel` batches are under way at once.

    `translate` gives one result per text, in order, and raises TellmtError for what stops the whole run. `adapters` are the ids
    of the adapters that answered so far.
    """

    lines: int
    characters: int
    parallel: int
    adapters: list[str]

    async def translate(self, texts: Sequence[str]) -> list[SegmentResult]: ...


def batches(shard: Shard, lines: int, characters: int) -> Iterator[Shard]:
    """The shard in batches, each of which is one call of the backend."""
    start = size = 0
    for i, text in enumerate(shard.texts):
        if i > start and (i - start == lines or size + len(text) > characters):
            yield Shard(shard.number, shard.ids[start:i], shard.texts[start:i])
            start, size = i, 0
        size += len(text)
    if shard.texts:
        yield Shard(shard.number, shard.ids[start:], shard.texts[start:])


async def translate_shard(shard: Shard, backend: Backend) -> list[SegmentResult]:
    """One result for each of the shard's segments, in order."""
    limit = asyncio.Semaphore(backend.parallel)

    async def translate_batch(batch: Shard) -> list[SegmentResult]:
        async with limit:
            return await backend.translate(batch.texts)

    results = await asyncio.gather(*map(translate_batch, batches(shard, backend.lines, backend.characters)))
    return [result for batch in results for result in batch]


def _bar() -> Any:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return progress(
        TextColumn("translate"), BarColumn(), TextColumn("{task.fields[done]:,}/{task.fields[all]:,} segments"),
        TextColumn("{task.fields[rate]:.1f}/s"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip


async def translate_open_segments(store: SegmentStore, backend: Backend) -> None:
    """Translate the segments of the store that have no translation. Raises what the backend raises; results recorded until then stay."""
    store.divide_into_shards()
    totals = store.totals()
    began = time.monotonic()
    translated, failed = 0, False
    # The batches of each shard that are under way, and one more while others will come; a shard is done when all are back.
    open_batches: dict[int, int] = {}

    def all_batches() -> Generator[Shard, None, None]:
        # Across the borders of shards, so that the engine does not wait at one.
        for shard in store.shards():
            open_batches[shard.number] = 1
            for batch in batches(shard, backend.lines, backend.characters):
                open_batches[shard.number] += 1
                yield batch
            close_batch(shard.number)

    def close_batch(number: int) -> None:
        open_batches[number] -= 1
        if not open_batches[number]:
            del open_batches[number]
            store.close_shard(number)

    with _bar() as bar, contextlib.closing(all_batches()) as waiting:
        # The bar's length is in characters, since batches of long segments take longer.
        task = bar.add_task("", total=totals.characters, completed=totals.done_characters, done=totals.done_times, all=totals.times, rate=0.0)

        async def work() -> None:
            nonlocal translated, failed
            for batch in waiting:
                try:
                    results = await backend.translate(batch.texts)
                except Exception:
                    failed = True
                    raise
                translated += store.record(batch.ids, results, backend.adapters)
                close_batch(batch.number)
                rate = translated / max(time.monotonic() - began, 1e-3)
                bar.update(task, advance=sum(map(len, batch.texts)), done=totals.done_times + translated, rate=rate)
                if failed:
                    return

        workers = [asyncio.create_task(work()) for _ in range(backend.parallel)]
        try:
            # When one batch fails, the others under way are waited for: they are paid for, and are recorded.
            outcomes = await asyncio.gather(*workers, return_exceptions=True)
            if problem := next((o for o in outcomes if isinstance(o, BaseException)), None):
                raise problem
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def estimate_seconds(store: SegmentStore, backend: Backend) -> float:
    """Seconds that the segments without a translation will take, by translating some of all lengths, which stay translated."""
    sample = store.sample(SAMPLE)
    if not sample.texts:
        return 0.0
    began = time.monotonic()
    store.record(sample.ids, await translate_shard(sample, backend), backend.adapters)
    seconds = time.monotonic() - began
    totals = store.totals()
    return seconds * (totals.characters - totals.done_characters) / max(1, sum(map(len, sample.texts)))
