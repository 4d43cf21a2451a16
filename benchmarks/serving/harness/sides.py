"""The two sides of a comparison: the service as a process, and the engine it runs on without it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.serving.harness.client import LoadClient, LoadRequest, LoadResponse, translation_request
from benchmarks.serving.harness.load import all_answered, closed_loop, wall
from benchmarks.serving.harness.process import Served
from benchmarks.serving.harness.ratios import TimedRun
from benchmarks.serving.harness.raw_engine import Raw
from benchmarks.serving.harness.workspace import Workspace, converted

CONTEXT = 4096

# Figures, lines, and what was promised and did not hold.
Outcome = tuple[dict[str, Any], list[str], list[str]]


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def engine_of(options: argparse.Namespace) -> str:
    from tell.model.engine import choose_engine

    return choose_engine(options.engine)


def open_raw(options: argparse.Namespace, work: Workspace, registry: Any, id: str, sources: Sequence[str], most: int, engine: str | None = None) -> Raw:
    """The raw engine on an adapter that the service has loaded before."""
    engine = engine or engine_of(options)
    job = {"engine": engine, "adapter": str(registry.path(id)), "sources": list(sources), "most": most, "context": CONTEXT, "threads": options.threads}
    if engine == "ct2":
        job["model"] = str(converted(work, registry.path(id)) or "")
    return Raw(job, {"TELLMT_CACHE": str(work.cache)}, options.raw)


class Rivals:
    """The service and the raw engine. Both at once where they fit, so that they can take turns; on a GPU, which vLLM fills, one at a time."""

    def __init__(self, options: argparse.Namespace, start: Callable[[], Served], raw: Callable[[], Raw]):
        from tell.extras import has_gpu

        self.together, self.settle = not has_gpu(), options.settle
        self._start, self._raw = start, raw
        self._open: dict[str, Any] = {}

    def __call__(self, side: str) -> Any:
        if side not in self._open:
            if not self.together:
                self.close()
            say(f"starting the {side}")
            self._open[side] = self._start() if side == "service" else self._raw()
        time.sleep(self.settle)
        return self._open[side]

    def turns(self, rounds: int, parts: Sequence[int]) -> Iterator[tuple[int, str]]:
        """(part, side) in an order that treats both sides alike: they take turns in going first."""
        for r in range(rounds):
            sides = ("raw engine", "service") if r % 2 == 0 else ("service", "raw engine")
            if self.together:
                yield from ((part, side) for part in parts for side in sides)
            else:
                yield from ((part, side) for side in sides for part in parts)

    def close(self) -> None:
        for rival in self._open.values():
            rival.__exit__(None, None, None)
        self._open.clear()


def through(service: Served, asks: Sequence[LoadRequest], concurrency: int) -> list[LoadResponse]:
    """Every request through the service; all must be answered."""

    async def go() -> list[LoadResponse]:
        async with LoadClient(service.url) as client:
            return await closed_loop(client, asks, concurrency)

    answers = asyncio.run(go())
    all_answered(answers, f"at concurrency {concurrency}")
    return answers


def as_run(answers: Sequence[LoadResponse]) -> TimedRun:
    return TimedRun(wall(answers), [a.seconds for a in answers], [a.texts[0] for a in answers])


def chunks(count: int, size: int) -> list[list[int]]:
    return [list(range(i, min(i + size, count))) for i in range(0, count, size)]


def cycle(texts: Sequence[str], pair: str = "is-en") -> Iterator[LoadRequest]:
    while True:
        yield from (translation_request(pair, t) for t in texts)
