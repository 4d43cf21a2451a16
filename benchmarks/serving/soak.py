#!/usr/bin/env python3
"""Half an hour of mixed traffic: does memory grow, do descriptors, threads or tasks pile up, and is every request answered as it should be?

Reads what bench_serve.py reads. Clients ask at random for short and long texts of two pairs, by every route the service has, some leave before their
answer, some send what cannot be used; --swap seconds after a version of one pair went live, the other one is promoted. The processes are looked at every
two seconds (conversions, which end with their memory, are left out). Memory counts from the end of the warm-up, the first sixth, as the least-squares line
through all samples and as the median of the last tenth less that of the first. Descriptors, threads and tasks are compared between two quiet moments, after the
warm-up and after the end.

    python -m benchmarks.serving.soak --plot soak.png
    python -m benchmarks.serving.soak --minutes 2 --json

Broken promises, which make the exit code 1: memory that grew over 100 MB, more descriptors or tasks than at the baseline, an answer of another kind than
the request should have got.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.harness.client import LoadClient, LoadRequest, LoadResponse, translation_request
from benchmarks.serving.harness.load import BenchFailed, counted, milliseconds, slope, statuses, table, unexplained
from benchmarks.serving.harness.process import Sample, Served, sample
from benchmarks.serving.harness.workspace import SEED, Workspace, common, measured, segments, serve, variant

AIM_GROWTH = 100.0
WARM_UP = 1 / 6
# Quiet, a service may hold this many more descriptors than before: a connection that the kernel has not closed yet, a log that was reopened.
SLACK = 3


def kinds(service: Served) -> dict[str, tuple[float, Any]]:
    """By name: how often, and a function that makes such a request (and the statuses it may get)."""
    texts = {"is-en": segments("is"), "en-is": segments("en")}

    def lines(draw: random.Random, low: int, high: int) -> tuple[str, list[str]]:
        pair = draw.choice(sorted(texts))
        return pair, draw.sample(texts[pair], draw.randint(low, high))

    def short(draw: random.Random) -> tuple[LoadRequest, set[int]]:
        pair, picked = lines(draw, 1, 2)
        return translation_request(pair, *picked), {200}

    def long(draw: random.Random) -> tuple[LoadRequest, set[int]]:
        pair, picked = lines(draw, 8, 24)
        return translation_request(pair, "\n".join(picked)), {200}

    def libre(draw: random.Random) -> tuple[LoadRequest, set[int]]:
        pair, picked = lines(draw, 1, 6)
        source, target = pair.split("-")
        return LoadRequest("/translate", json.dumps({"q": picked, "source": source, "target": target}).encode(), pair), {200}

    def stream(draw: random.Random) -> tuple[LoadRequest, set[int]]:
        pair, picked = lines(draw, 2, 8)
        return translation_request(pair, *picked, path="/api/v1/translate/stream"), {200}

    def bad(draw: random.Random) -> tuple[LoadRequest, set[int]]:
        bodies: list[tuple[bytes, set[int]]] = [
            (b"{", {400}), (b'"text"', {400}), (b"\xff\xfe{}", {400}), (b'{"source":"is","target":"en"}', {400}), (b"[" * 5000, {400}),
            (json.dumps({"source": "is", "target": "xx-yy-zz", "text": "a"}).encode(), {400, 404}),
            (json.dumps({"source": "is", "target": "en", "text": ""}).encode(), {400}),
            (json.dumps({"source": "is", "target": "en", "text": "a" * (1 << 20)}).encode(), {413}),
        ]  # fmt: skip
        body, allowed = draw.choice(bodies)
        return LoadRequest("/api/v1/translate", body), allowed

    def other(draw: random.Random) -> tuple[LoadRequest, set[int]]:
        path, allowed = draw.choice([("/metrics", {200}), ("/ready", {200}), ("/api/v1/adapters", {200}), ("/languages", {200}), ("/nothing/../here", {404})])
        return LoadRequest(path, b"", method="GET"), allowed

    weighted: dict[str, tuple[float, Any]] = {"short": (6, short), "long": (2, long), "bad": (1, bad), "other": (1, other)}
    if service.has("/translate"):
        weighted["LibreTranslate"] = (2, libre)
    if service.has("/api/v1/translate/stream"):
        weighted["stream"] = (2, stream)
    return weighted


def tasks_of(service: Served) -> float | None:
    """How many asyncio tasks there are, if the metrics tell."""
    gauges = [value for key, value in service.metrics().items() if "asyncio" in key.lower() and "task" in key.lower()]
    return sum(gauges) if gauges else None


def growth(samples: Sequence[Sample], warm_up: float) -> tuple[float, float]:
    """MiB that memory grew after `warm_up` seconds: along the least-squares line, and from the first tenth of the rest to the last."""
    start = samples[0].at + warm_up
    rest = [(s.at - start, s.memory) for s in samples if s.at >= start]
    if len(rest) < 10:
        raise BenchFailed(f"too few samples after the warm-up: found {len(rest)}, valid: at least 10; more --minutes")
    tenth = max(1, len(rest) // 10)
    ends = statistics.median(m for _, m in rest[-tenth:]) - statistics.median(m for _, m in rest[:tenth])
    return slope(rest) * (rest[-1][0] - rest[0][0]), ends


async def at_rest(service: Served, look: float) -> dict[str, float]:
    """Descriptors, threads and tasks when nothing is asked: the least of some looks, since connections take a moment to close."""
    looks = []
    for _ in range(10):
        await asyncio.sleep(max(0.2, look))
        tasks = await asyncio.to_thread(tasks_of, service)
        now = sample(service.pid)
        looks.append((now.descriptors, now.threads, -1.0 if tasks is None else tasks))
    lowest = [min(column) for column in zip(*looks, strict=True)]
    return dict(zip(("descriptors", "threads", "tasks"), lowest, strict=True))


class Soak:
    def __init__(self, service: Served, registry: Any, versions: Sequence[str], options: argparse.Namespace):
        self.service, self.registry, self.versions, self.options = service, registry, versions, options
        self.answers: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.problems: list[str] = []
        self.latencies: dict[str, list[float]] = {}
        self.samples: list[Sample] = []
        # Seconds from each promotion to its being live.
        self.swaps: list[float] = []

    def note(self, kind: str, answer: LoadResponse, allowed: set[int]) -> None:
        self.answers[kind] += 1
        self.statuses.update(statuses([answer]))
        self.problems += unexplained([answer])
        if answer.status == 200:
            self.latencies.setdefault(kind, []).append(answer.seconds)
        if answer.status and answer.status not in allowed | {429, 503}:
            self.problems.append(f"a request of the kind {kind} got {answer.status}; valid: {', '.join(map(str, sorted(allowed)))}")

    async def client(self, number: int, end: float) -> None:
        draw = random.Random(SEED * 1000 + number)
        kinds_of_request = kinds(self.service)
        names, weights = list(kinds_of_request), [w for w, _ in kinds_of_request.values()]
        async with LoadClient(self.service.url) as client:
            while time.monotonic() < end:
                kind = draw.choices(names, weights)[0]
                ask, allowed = kinds_of_request[kind][1](draw)
                leaves = kind not in ("bad", "other") and draw.random() < 0.08
                answer = await client.send(ask, leave_after=draw.uniform(0.0, 1.0) if leaves else None, fresh=draw.random() < 0.1)
                self.note(kind, answer, allowed)
                if answer.status in (429, 503):
                    await asyncio.sleep(1.0)

    async def watch(self, end: float) -> None:
        while time.monotonic() < end:
            self.samples.append(sample(self.service.pid))
            await asyncio.sleep(self.options.look)

    async def swap(self, end: float) -> None:
        """Promote one version after the other, each once the one before is live: under load a first proof takes its turn."""
        # The warm-up has some too, however short: what a change starts on first use belongs to the baseline.
        pause = min(self.options.swap, (end - time.monotonic()) / 3)
        while time.monotonic() + pause < end:
            await asyncio.sleep(pause)
            live = self.registry.state("is-en").live
            next_version = next(v for v in self.versions if v != live)
            began = time.monotonic()
            await asyncio.to_thread(self.registry.promote, "is-en", next_version, "soak")
            while (await asyncio.to_thread(self.service.live)).get("is-en") != next_version:
                if time.monotonic() > end:
                    return
                await asyncio.sleep(0.2)
            self.swaps.append(time.monotonic() - began)

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        clients = [self.client(n, end) for n in range(self.options.clients)]
        working = [asyncio.create_task(c) for c in (*clients, self.watch(end), self.swap(end))]
        try:
            while not all(t.done() for t in working):
                done, _ = await asyncio.wait(working, timeout=2.0, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                if self.service.process.poll() is not None:
                    raise BenchFailed(f"the service ended with exit code {self.service.process.returncode} after {self.answers.total()} requests")
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def everything(self) -> tuple[dict[str, float], dict[str, float]]:
        """What is there at rest, after the warm-up and at the end. The load runs in between, and before."""
        seconds = 60 * self.options.minutes
        await self.run(seconds * WARM_UP)
        before = await at_rest(self.service, self.options.look)
        await self.run(seconds * (1 - WARM_UP))
        return before, await at_rest(self.service, self.options.look)


def plot(samples: Sequence[Sample], warm_up: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [(s.at - samples[0].at) / 60 for s in samples]
    figure, (upper, lower) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6))
    upper.plot(minutes, [s.memory for s in samples], linewidth=0.8)
    upper.axvline(warm_up / 60, color="grey", linestyle=":")
    upper.set_ylabel("resident memory, MiB")
    upper.set_ylim(bottom=0)
    lower.plot(minutes, [s.descriptors for s in samples], linewidth=0.8, label="descriptors")
    lower.plot(minutes, [s.threads for s in samples], linewidth=0.8, label="threads")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("minutes")
    lower.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def outcome(soak: Soak, before: Mapping[str, float], after: Mapping[str, float], warm_up: float) -> tuple[dict[str, Any], list[str], list[str]]:
    line, ends = growth(soak.samples, warm_up)
    # MiB against the promise's MB: the larger unit is the stricter one.
    grown = max(line, ends) * 2**20 / 1e6
    failures = counted(soak.problems)
    failures += [f"memory grew by {grown:.0f} MB"] if grown > AIM_GROWTH else []
    for name, slack in (("descriptors", SLACK), ("tasks", 0)):
        if after[name] > before[name] + slack:
            failures.append(f"{name} at rest: {after[name]:g}, and {before[name]:g} after the warm-up")
    first, last, took = soak.samples[0], soak.samples[-1], soak.swaps or [math.nan]
    lines = [
        f"{(last.at - first.at) / 60:.1f} minutes, {soak.answers.total()} requests of {soak.options.clients} clients; seed {SEED}",
        f"{len(soak.swaps)} promotions went live, in {statistics.median(took):.1f} s (median; the longest {max(took):.1f})",
        f"memory after the warm-up: {line:+.1f} MiB along the least-squares line, {ends:+.1f} MiB from first tenth to last; aim: at most {AIM_GROWTH:g} MB",
        f"memory: {first.memory:.0f} MiB at first, {last.memory:.0f} at the end, {max(s.memory for s in soak.samples):.0f} at most",
        "answers by status: " + ", ".join(f"{s} {n}" for s, n in sorted(soak.statuses.items())),
        "",
    ]
    words = {"tasks": "asyncio tasks"}
    rows = [[words.get(n, n), f"{before[n]:g}" if before[n] >= 0 else "not told", f"{after[n]:g}" if after[n] >= 0 else "not told"] for n in before]
    lines += [*table(["at rest", "after the warm-up", "at the end"], rows), ""]
    quick = {k: milliseconds(v) for k, v in soak.latencies.items()}
    lines += table(["requests", "sent", "p50, ms", "p99, ms"], [[k, soak.answers[k], q["p50"], q["p99"]] for k, q in sorted(quick.items())])
    figures = {
        "growth_mib": {"line": line, "ends": ends}, "before": dict(before), "after": dict(after), "statuses": dict(soak.statuses),
        "seconds_to_live": [round(x, 2) for x in soak.swaps],
        "requests": dict(soak.answers), "latency_ms": quick,
        "samples": [[round(s.at - first.at, 1), round(s.memory, 1), s.descriptors, s.threads, s.processes] for s in soak.samples],
    }  # fmt: skip
    return figures, lines, failures


def measure(options: argparse.Namespace, work: Workspace) -> tuple[dict[str, Any], list[str], list[str]]:
    registry = work.registry("soak")
    versions = [variant(work, registry, "is-en", 0, scale) for scale in (1.0, 0.9)]
    for id in versions:
        registry.promote("is-en", id, "soak")
    registry.promote("en-is", variant(work, registry, "en-is", of="en-is"), "soak")
    with serve(options, work, registry, 2, max_adapters=3, cache_mb=options.cache_mb, tries=4) as service:
        soak = Soak(service, registry, versions, options)
        before, after = asyncio.run(soak.everything())
    warm_up = 60 * options.minutes * WARM_UP
    figures, lines, failures = outcome(soak, before, after, warm_up)
    if options.plot:
        plot(soak.samples, warm_up, options.plot)
    return figures, lines, failures


def main() -> int:
    parser = common(__doc__)
    parser.add_argument("--minutes", type=float, help="[default: 30]")
    parser.add_argument("--clients", type=int, default=6, help="[default: 6]")
    parser.add_argument("--swap", type=float, help="seconds from a version's being live to the next promotion  [default: 20]")
    parser.add_argument("--look", type=float, help="seconds between looks at the processes  [default: 2]")
    parser.add_argument("--cache-mb", type=int, help="of the service's cache of results  [default: the service's own]")
    parser.add_argument("--plot", type=Path, help="where to draw memory, descriptors and threads, as PNG")
    options = parser.parse_args()
    options.minutes = options.minutes or (0.06 if options.quick else 30.0)
    options.swap = options.swap or (1.0 if options.quick else 20.0)
    options.look = options.look or (0.05 if options.quick else 2.0)
    return measured("soak", options, measure)


if __name__ == "__main__":
    sys.exit(main())
