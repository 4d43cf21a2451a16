"""Shards of segments through a translator, local or over HTTP, in batches of like length that are kept in flight, with a progress bar.

Reads the open shards of a ledger and records there what comes of each batch, as soon as it is there. `translate_shard` is all that a cluster needs of this:
a shard in, results out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

from serve.files.segment_store import Done, Ledger, Shard
from tell.console import progress

# Segments that a dry run translates to see how long the rest will take.
SAMPLE = 64


class Backend(Protocol):
    """What translates. `lines` and `characters` bound a batch; `parallel` batches are under way at once.

    `translate` gives one Done per text, in order, and raises TellmtError for what stops the whole run. `adapters` are the ids
    of those that answered so far.
    """

    lines: int
    characters: int
    parallel: int
    adapters: list[str]

    async def translate(self, texts: Sequence[str]) -> list[Done]: ...


def batches(shard: Shard, lines: int, characters: int) -> Iterator[Shard]:
    """The shard in parts that each are one call of the translator."""
    start = size = 0
    for i, text in enumerate(shard.texts):
        if i > start and (i - start == lines or size + len(text) > characters):
            yield Shard(shard.number, shard.ids[start:i], shard.texts[start:i])
            start, size = i, 0
        size += len(text)
    if shard.texts:
        yield Shard(shard.number, shard.ids[start:], shard.texts[start:])


async def translate_shard(shard: Shard, backend: Backend) -> list[Done]:
    """One Done for each of the shard's segments, in order."""
    parts = list(batches(shard, backend.lines, backend.characters))
    limit = asyncio.Semaphore(backend.parallel)

    async def one(part: Shard) -> list[Done]:
        async with limit:
            return await backend.translate(part.texts)

    return [done for made in await asyncio.gather(*map(one, parts)) for done in made]


def _bar() -> Any:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return progress(
        TextColumn("translate"), BarColumn(), TextColumn("{task.fields[done]:,}/{task.fields[all]:,} segments"),
        TextColumn("{task.fields[rate]:.1f}/s"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip


async def run(ledger: Ledger, backend: Backend) -> None:
    """Translate what is open in the ledger. Raises what the backend raises; what was recorded until then stays."""
    ledger.divide()
    totals = ledger.totals()
    began = time.monotonic()
    done, failed = 0, False
    # Batches under way of each shard, and whether more will come; a shard is done when all are back.
    open_: dict[int, int] = {}

    def parts() -> Generator[Shard, None, None]:
        # Across the borders of shards, so that the engine does not wait at one.
        for shard in ledger.shards():
            open_[shard.number] = 1
            for part in batches(shard, backend.lines, backend.characters):
                open_[shard.number] += 1
                yield part
            back(shard.number)

    def back(number: int) -> None:
        open_[number] -= 1
        if not open_[number]:
            del open_[number]
            ledger.close_shard(number)

    with _bar() as bar, contextlib.closing(parts()) as waiting:
        # The bar's length is in characters, since batches of long segments take longer.
        task = bar.add_task("", total=totals.characters, completed=totals.done_characters, done=totals.done_times, all=totals.times, rate=0.0)

        async def work() -> None:
            nonlocal done, failed
            for part in waiting:
                try:
                    made = await backend.translate(part.texts)
                except Exception:
                    failed = True
                    raise
                done += ledger.record(part.ids, made, backend.adapters)
                back(part.number)
                rate = done / max(time.monotonic() - began, 1e-3)
                bar.update(task, advance=sum(map(len, part.texts)), done=totals.done_times + done, rate=rate)
                if failed:
                    return

        workers = [asyncio.create_task(work()) for _ in range(backend.parallel)]
        try:
            # What is under way elsewhere when one fails is waited for: it is paid for, and is recorded.
            ended = await asyncio.gather(*workers, return_exceptions=True)
            if problem := next((e for e in ended if isinstance(e, BaseException)), None):
                raise problem
        finally:
            for w in workers:
                w.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def estimate(ledger: Ledger, backend: Backend) -> float:
    """Seconds that the open segments will take, by translating some of all lengths, which stay translated."""
    sample = ledger.sample(SAMPLE)
    if not sample.texts:
        return 0.0
    began = time.monotonic()
    ledger.record(sample.ids, await translate_shard(sample, backend), backend.adapters)
    seconds = time.monotonic() - began
    totals = ledger.totals()
    return seconds * (totals.characters - totals.done_characters) / max(1, sum(map(len, sample.texts)))
