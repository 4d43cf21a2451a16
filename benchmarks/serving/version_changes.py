"""Parts of `bench_serve.py` about changes of version: how soon a promotion is live, and what it costs requests under way."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from collections.abc import Callable

from benchmarks.serving.harness.client import LoadClient, LoadResponse, translation_request
from benchmarks.serving.harness.load import BenchFailed, all_answered, milliseconds, table, until_set
from benchmarks.serving.harness.process import Served
from benchmarks.serving.harness.ratios import seconds_line
from benchmarks.serving.harness.sides import Outcome, cycle, say
from benchmarks.serving.harness.workspace import Workspace, converted, segments, serve, variant


async def first_answer(client: LoadClient, pair: str, id: str, change: Callable[[], object]) -> float:
    """Seconds from before `change` until an answer names the version `id`. Raises BenchFailed after ten minutes."""
    began = time.perf_counter()
    await asyncio.to_thread(change)
    while time.perf_counter() - began < 600:
        answer = await client.send(translation_request(pair, "Já."))
        if answer.adapter == id:
            return answer.done - began
        if answer.status != 200:
            raise BenchFailed(f"while {pair} changed, a request was answered with {answer.status or answer.problem}")
    raise BenchFailed(f"{id[:12]} was promoted and did not answer within ten minutes")


def unique() -> int:
    """A number of a copy that no cache has."""
    return time.time_ns() % 1_000_000_007


def live(options: argparse.Namespace, work: Workspace) -> Outcome:
    """From a promotion in the registry to the first answer that names the new version."""
    registry = work.registry("live")
    versions = [variant(work, registry, "is-en", 0, scale) for scale in (1.0, 0.9)]
    registry.promote("is-en", versions[0], "bench")
    times: dict[str, list[float]] = {"cached": [], "rollback": [], "fresh": []}

    async def go(service: Served) -> None:
        async with LoadClient(service.url) as client:
            await first_answer(client, "is-en", versions[1], lambda: registry.promote("is-en", versions[1], "bench"))
            for _ in range(options.changes):
                await asyncio.sleep(4 * options.settle)
                times["cached"].append(await first_answer(client, "is-en", versions[0], lambda: registry.promote("is-en", versions[0], "bench")))
                await asyncio.sleep(4 * options.settle)
                times["rollback"].append(await first_answer(client, "is-en", versions[1], lambda: registry.rollback("is-en", "bench")))
            for _ in range(options.fresh):
                new = variant(work, registry, "is-en", unique(), 0.9)
                times["fresh"].append(await first_answer(client, "is-en", new, lambda new=new: registry.promote("is-en", new, "bench")))  # type: ignore[misc]
                if path := converted(work, registry.path(new)):
                    shutil.rmtree(path)

    say("starting the service to change versions")
    with serve(options, work, registry, 1, max_adapters=2) as service:
        asyncio.run(go(service))
    lines = [
        seconds_line("from promote to live, converted before", times["cached"]),
        seconds_line("from roll back to live", times["rollback"], "under 1 s"),
        seconds_line("from promote to live, new to this machine", times["fresh"]),
    ]
    return times, lines, []


def hotload(options: argparse.Namespace, work: Workspace) -> Outcome:
    """What requests under way take while another pair's versions change."""
    registry = work.registry("hot")
    registry.promote("is-en", variant(work, registry, "is-en"), "bench")
    versions = [variant(work, registry, "is-de", 2, scale) for scale in (1.0, 0.9)]
    for id in versions:
        registry.promote("is-de", id, "bench")
    took: dict[str, list[float]] = {"none": [], "cached": [], "new": []}
    loads = {"cached": 0, "new": 0}
    texts = segments()

    async def window(service: Served, kind: str) -> None:
        async with LoadClient(service.url) as client, LoadClient(service.url) as other:
            stop = asyncio.Event()
            answers: list[LoadResponse] = []
            load = asyncio.create_task(until_set(client, cycle(texts), 4, stop, answers.append))
            end = time.perf_counter() + options.window
            while kind == "cached" and time.perf_counter() < end:
                next_version = next(v for v in versions if v != registry.state("is-de").live)
                await first_answer(other, "is-de", next_version, lambda next_version=next_version: registry.promote("is-de", next_version, "bench"))  # type: ignore[misc]
                loads["cached"] += 1
                await asyncio.sleep(2 * options.settle)
            if kind == "new":
                new = variant(work, registry, "is-de", unique(), 0.9)
                await first_answer(other, "is-de", new, lambda: registry.promote("is-de", new, "bench"))
                loads["new"] += 1
                if path := converted(work, registry.path(new)):
                    shutil.rmtree(path)
            if kind == "none":
                await asyncio.sleep(max(0.0, end - time.perf_counter()))
            stop.set()
            await load
            all_answered(answers, "during a hot-load")
            took[kind] += [a.seconds for a in answers]

    say("starting the service to change versions under load")
    with serve(options, work, registry, 2, max_adapters=3) as service:
        # Both versions are converted before anything is timed.
        async def warm() -> None:
            async with LoadClient(service.url) as client:
                await first_answer(client, "is-de", versions[0], lambda: registry.promote("is-de", versions[0], "bench"))

        asyncio.run(warm())
        for r in range(options.rounds):
            for kind in ("none", "cached", "new") if r % 2 == 0 else ("new", "cached", "none"):
                asyncio.run(window(service, kind))
    figures = {kind: {**milliseconds(values), "requests": len(values)} for kind, values in took.items()}
    names = {"none": "no hot-load", "cached": "hot-loads, converted before", "new": "hot-loads, new to this machine"}
    rows = [[names[k], f["requests"], loads.get(k, 0), f["p50"], f["p99"], f["max"]] for k, f in figures.items()]
    lines = table(["requests under way, 4 at once", "requests", "hot-loads", "p50, ms", "p99, ms", "longest, ms"], rows)
    for kind in ("cached", "new"):
        p50, p99 = (figures[kind][q] / figures["none"][q] for q in ("p50", "p99"))
        lines += ["", f"latency in flight during {names[kind]}: p50 {p50:.2f}x, p99 {p99:.2f}x of that without"]
    return {"latency_ms": figures, "loads": loads}, lines, []
