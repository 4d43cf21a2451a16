"""Many lines through a translator, local or over HTTP, in batches of lines of like length, with a progress bar."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tell.console import progress


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A line's translation, or in `failed` the reason why there is none."""

    text: str
    truncated: bool = False
    failed: str | None = None


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


def batches(texts: Sequence[str], lines: int, characters: int) -> Iterator[list[str]]:
    """Every different text once, longest first: what is too much shows at once, and the time left is never too hopeful."""
    batch: list[str] = []
    size = 0
    for text in sorted(set(texts), key=lambda t: (-len(t), t)):
        if batch and (len(batch) == lines or size + len(text) > characters):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _bar() -> Any:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return progress(
        TextColumn("translate"), BarColumn(), TextColumn("{task.fields[done]:,}/{task.fields[all]:,} segments"),
        TextColumn("{task.fields[rate]:.1f}/s"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip


async def run(texts: Sequence[str], backend: Backend) -> list[Done]:
    """One Done per text, in order. Texts that are equal are translated once."""
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    found: dict[str, Done] = {}
    waiting = batches(texts, backend.lines, backend.characters)
    began = time.monotonic()
    done = 0
    with _bar() as bar:
        # The bar's length is in characters, since batches of long lines take longer.
        task = bar.add_task("", total=sum(map(len, counts)), done=0, all=len(texts), rate=0.0)

        async def work() -> None:
            nonlocal done
            for batch in waiting:
                for text, one in zip(batch, await backend.translate(batch), strict=True):
                    found[text] = one
                done += sum(counts[t] for t in batch)
                bar.update(task, advance=sum(map(len, batch)), done=done, rate=done / max(time.monotonic() - began, 1e-3))

        workers = [asyncio.create_task(work()) for _ in range(backend.parallel)]
        try:
            await asyncio.gather(*workers)
        finally:
            for w in workers:
                w.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return [found[t] for t in texts]
