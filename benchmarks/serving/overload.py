#!/usr/bin/env python3
"""Four times as many requests as the service can answer: what is still answered, how fast the rest is refused, and whether every answer is right.

Reads what bench_serve.py reads. First the peak: answers a second in a closed loop, the best of several concurrencies. Then an open loop sends --times as
many, evenly spaced, whatever comes back. Every request has a text of its own, so that nothing can be shared; afterwards the texts that were
answered are asked for again at low load, and must come out as they did.

    python -m benchmarks.serving.overload
    python -m benchmarks.serving.overload --seconds 60 --times 4 --json

Broken promises, which make the exit code 1: an answer that belongs to another text, a 5xx that is not a 503, a 503 or 429 without Retry-After, a
connection closed without an answer, /health not answered. Goodput and the time of refusals are printed beside their aims.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.serving.harness.client import LoadClient, LoadRequest, LoadResponse, translation_request
from benchmarks.serving.harness.load import BenchFailed, alike, all_answered, closed_loop, counted, milliseconds, open_loop, statuses, unexplained, until_set
from benchmarks.serving.harness.ratios import TIES, voided
from benchmarks.serving.harness.workspace import Workspace, common, measured, segments, serve, variant

AIM_GOODPUT, AIM_REFUSAL = 0.9, 50.0
# Of each window, the first fifth is left out: the queue fills.
FILLING = 0.2
# Seconds in which the answers of one batch come.
BATCH = 0.25
# Two ways in which one text came out have more in common than this, but for a few that part at the first word.
ALIKE = 0.4


def numbered(pair: str) -> Iterator[LoadRequest]:
    """Requests without end, each with a text that no other has."""
    texts = segments()
    return (translation_request(pair, f"{n}. {texts[n % len(texts)]}") for n in itertools.count(1))


def rate(answers: Sequence[LoadResponse], began: float, seconds: float) -> float:
    """Answers with status 200 a second, of those that came within the window after it had filled, from the end of its first batch to its last answer.

    ctranslate2 answers up to 64 requests in one moment, some seconds after the last ones: a window that is cut anywhere holds one batch more or less, which
    makes a fifth of what it counts.
    """
    done = sorted(a.done for a in answers if a.status == 200 and began + FILLING * seconds <= a.done < began + seconds)
    if not done or done[-1] - done[0] <= BATCH:
        return len(done) / ((1 - FILLING) * seconds)
    return sum(t > done[0] + BATCH for t in done) / (done[-1] - done[0])


def wrong(answers: Sequence[LoadResponse], again: Sequence[LoadResponse]) -> tuple[int, int, int]:
    """Of answers, compared with those to the same texts later: how many belong to another text, have little in common, are merely not the same."""
    owners: dict[str, set[str]] = {}
    for a in again:
        owners.setdefault(a.texts[0], set()).add(a.ask.lines[0])
    crossed = strange = other = 0
    for answer, later in zip(answers, again, strict=True):
        if answer.texts == later.texts:
            continue
        if alike(answer.texts[0], later.texts[0]) >= ALIKE:
            other += 1
        elif owners.get(answer.texts[0], set()) - {answer.ask.lines[0]}:
            crossed += 1
        else:
            strange += 1
    return crossed, strange, other


async def peak(url: str, asks: Iterator[LoadRequest], levels: Sequence[int], seconds: float) -> dict[int, float]:
    """Answers a second by concurrency."""
    rates: dict[int, float] = {}
    async with LoadClient(url) as client:
        all_answered(await closed_loop(client, itertools.islice(asks, 8), 4), "before the load")
        for n in levels:
            stop, answers, began = asyncio.Event(), list[LoadResponse](), time.perf_counter()
            load = asyncio.create_task(until_set(client, asks, n, stop, answers.append))
            await asyncio.sleep(seconds)
            stop.set()
            await load
            rates[n] = rate(answers, began, seconds)
            refused = sum(a.status in (429, 503) for a in answers)
            if problems := unexplained(answers):
                raise BenchFailed(f"at concurrency {n}: {problems[0]}")
            if refused:
                # A loop that is refused spins: its rate is none.
                rates.pop(n)
                break
    if not any(rates.values()):
        raise BenchFailed("nothing was answered before the load; valid: a lower --concurrency, or more --seconds")
    return rates


async def overload(
    url: str, asks: Iterator[LoadRequest], per_second: float, options: argparse.Namespace
) -> tuple[list[LoadResponse], list[LoadResponse], float]:
    """(answers, answers of /health meanwhile, when it began)."""
    health: list[LoadResponse] = []

    async def watch() -> None:
        async with LoadClient(url) as client:
            while True:
                health.append(await client.get("/health"))
                await asyncio.sleep(0.5)

    async with LoadClient(url) as client:
        watching = asyncio.create_task(watch())
        began = time.perf_counter()
        answers = await open_loop(client, asks, per_second, options.seconds, options.patience)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return answers, health, began


async def repeat_requests(url: str, answers: Sequence[LoadResponse]) -> list[LoadResponse]:
    async with LoadClient(url) as client:
        again = await closed_loop(client, [a.ask for a in answers], 8)
    all_answered(again, "after the load")
    return again


def measure(options: argparse.Namespace, work: Workspace) -> tuple[dict[str, Any], list[str], list[str]]:
    registry = work.registry("one")
    registry.promote("is-en", variant(work, registry, "is-en"), "bench")
    asks = numbered("is-en")
    with serve(options, work, registry, 1, max_adapters=1, max_waiting=options.waiting) as service:
        levels = asyncio.run(peak(service.url, asks, options.concurrency, options.seconds))
        best = max(levels.values())
        answers, health, began = asyncio.run(overload(service.url, asks, options.times * best, options))
        time.sleep(1)
        good = [a for a in answers if a.status == 200]
        crossed, strange, other = wrong(good, asyncio.run(repeat_requests(service.url, good)))
    refused = [a for a in answers if a.status in (429, 503)]
    goodput, quick = rate(answers, began, options.seconds) / best, milliseconds([a.seconds for a in refused])
    late = max((a.sent - began - n / (options.times * best) for n, a in enumerate(answers)), default=0.0)
    lines = [
        f"peak: {best:.1f} answers/s at concurrency {max(levels, key=lambda n: levels[n])} (" + ", ".join(f"{n}: {v:.1f}" for n, v in levels.items()) + ")",
        f"sent: {len(answers)} requests in {options.seconds:g} s, {options.times * best:.1f} a second, with room for {options.waiting} to wait; "
        f"the client was at most {1000 * late:.0f} ms behind",
        f"goodput against the peak at {options.times:g} times the load: {goodput:.2f}x; aim: at least {AIM_GOODPUT}x",
        f"refusals: p50 {quick['p50']} ms, p99 {quick['p99']} ms, longest {quick['max']} ms, of {len(refused)}; aim: p99 under {AIM_REFUSAL:g} ms",
        "answers by status: " + ", ".join(f"{s} {n}" for s, n in statuses(answers).items()),
        f"/health meanwhile: {statuses(health)}, longest {milliseconds([h.seconds for h in health])['max']} ms",
        f"answers checked against the same text at low load: {len(good)}; of another text {crossed}, "
        f"unlike it {strange} (at most {TIES:g}%), near ties {other}",
    ]
    failures = counted(unexplained(answers))
    failures += [f"{crossed} answers belong to another text"] if crossed else []
    failures += [f"{strange} of {len(good)} answers are unlike what their text gives at low load"] if voided(strange, len(good)) else []
    failures += ["/health was not answered all the time"] if any(h.status != 200 for h in health) else []
    if not refused:
        failures.append(f"nothing was refused: the service took on all of {len(answers)} requests; valid: more --seconds, or a smaller queue by --serve-option")
    figures = {
        "peak": levels, "goodput": goodput, "refusals_ms": quick, "statuses": statuses(answers), "checked": len(good),
        "crossed": crossed, "unlike": strange, "near_ties": other,
        "health_ms": milliseconds([h.seconds for h in health]), "client_late_ms": round(1000 * late, 1),
    }  # fmt: skip
    return figures, lines, failures


def main() -> int:
    parser = common(__doc__)
    parser.add_argument("--seconds", type=float, help="of the load, and of finding the peak at each concurrency  [default: 60]")
    parser.add_argument("--times", type=float, default=4.0, help="load, in peaks  [default: 4]")
    parser.add_argument("--concurrency", type=lambda text: [int(n) for n in text.split(",")], help="where the peak is looked for  [default: 16,32,64]")
    parser.add_argument("--waiting", type=int, help="segments that the service lets wait  [default: twice the highest concurrency]")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds after the load that answers are waited for  [default: 60]")
    options = parser.parse_args()
    options.seconds = options.seconds or (2.0 if options.quick else 60.0)
    options.concurrency = options.concurrency or ([4] if options.quick else [16, 32, 64])
    # By default it takes on minutes of work for a CPU, and a load of seconds would all be let in.
    options.waiting = options.waiting or 2 * max(options.concurrency)
    return measured("overload", options, measure)


if __name__ == "__main__":
    sys.exit(main())
