#!/usr/bin/env python3
"""A thousand promotions and roll backs under load: is every request answered, by one version alone, and does every version go live?

Reads what bench_serve.py reads. Several versions of one pair are promoted and rolled back at random in the registry, one as soon as the one before
answers, while clients go on asking for one to three lines at a time. Versions are copies of both shipped adapters, so that they answer in different
languages. Before, each version translates each line alone and among others, and only lines are used that no two versions translate alike:
so an answer shows which version made which line.

    python -m benchmarks.serving.churn
    python -m benchmarks.serving.churn --changes 200 --versions 2 --json

Broken promises, which make the exit code 1: a request without a 200, an answer with a line of another version than it names, an answer that names a
version which had been replaced when the request was sent, a change that is not live within --within seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.serving.harness.client import LoadClient, LoadRequest, LoadResponse, translation_request
from benchmarks.serving.harness.load import BenchFailed, alike, all_answered, check, closed_loop, counted, milliseconds, statuses, unexplained, until_set
from benchmarks.serving.harness.process import Served
from benchmarks.serving.harness.ratios import TIES, voided
from benchmarks.serving.harness.workspace import SEED, Workspace, common, measured, segments, serve, variant

PAIR = "is-en"
# Of which shipped adapter, and with which strength, the versions are made.
VERSIONS = (("is-en", 1.0), ("en-is", 1.0), ("is-en", 0.5), ("en-is", 0.5))
# Texts less alike than this are not two ways of one version.
APART = 0.7


@dataclasses.dataclass
class Seen:
    """What the load's answers showed, and the version that is wanted live."""

    expected: dict[str, dict[str, set[str]]]
    live: str
    wanted: str
    asked_at: float = 0.0
    # When an answer first named the version that is live now: a request sent later must not be answered by an older one.
    live_since: float = 0.0
    went_live: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    verdicts: Counter[str] = dataclasses.field(default_factory=Counter)
    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    by_version: Counter[str] = dataclasses.field(default_factory=Counter)
    problems: list[str] = dataclasses.field(default_factory=list)
    times: list[float] = dataclasses.field(default_factory=list)
    latencies: list[float] = dataclasses.field(default_factory=list)

    def __call__(self, answer: LoadResponse) -> None:
        self.statuses.update(statuses([answer]))
        if answer.status != 200:
            self.problems += unexplained([answer]) or [f"status {answer.status}"]
            return
        self.latencies.append(answer.seconds)
        verdict = check(answer, self.expected)
        self.verdicts[verdict] += 1
        self.by_version[answer.adapter] += 1
        if verdict == "mixed":
            self.problems.append("an answer has a line of another version than it names")
        if answer.adapter == self.wanted != self.live:
            self.live, self.live_since = self.wanted, answer.done
            self.times.append(answer.done - self.asked_at)
            self.went_live.set()
        elif answer.adapter != self.live and answer.adapter != self.wanted and answer.sent > self.live_since:
            self.problems.append("an answer names a version that had been replaced when the request was sent")

    def change(self, to: str) -> None:
        self.wanted, self.asked_at = to, time.perf_counter()
        self.went_live.clear()


async def until_live(client: LoadClient, id: str, within: float) -> None:
    end = time.monotonic() + within
    while (await client.send(translation_request(PAIR, "Já."))).adapter != id:
        if time.monotonic() > end:
            raise BenchFailed(f"{id[:12]} was promoted and did not answer within {within:.0f} s")


async def learned(client: LoadClient, lines: Sequence[str], clients: int, seconds: float) -> dict[str, set[str]]:
    """Everything that the live version gives for each line: alone, and for so long in a load like the one to come."""
    answers = await closed_loop(client, [translation_request(PAIR, line) for line in lines], 1)
    stop = asyncio.Event()
    load = asyncio.create_task(until_set(client, requests(lines), clients, stop, answers.append))
    await asyncio.sleep(seconds)
    stop.set()
    await load
    all_answered(answers, "before the load")
    by_line: dict[str, set[str]] = {}
    for a in answers:
        for line, text in zip(a.ask.lines, a.texts, strict=True):
            by_line.setdefault(line, set()).add(text)
    return by_line


def telling(expected: dict[str, dict[str, set[str]]]) -> list[str]:
    """Lines that no two versions translate alike, in any of their ways."""
    versions = list(expected.values())

    def apart(line: str) -> bool:
        ways = [v.get(line, set()) for v in versions]
        return all(ways) and all(alike(x, y) < APART for first, second in itertools.combinations(ways, 2) for x in first for y in second)

    return [line for line in versions[0] if apart(line)]


def requests(lines: Sequence[str]) -> Iterator[LoadRequest]:
    """Without end: one to three lines each."""
    draw = random.Random(SEED)
    while True:
        yield translation_request(PAIR, *draw.sample(lines, draw.choice((1, 1, 2, 3))))


async def churn(service: Served, registry: Any, versions: Sequence[str], options: argparse.Namespace) -> tuple[Seen, list[str], float]:
    draw = random.Random(SEED)
    lines = sorted(segments(), key=len)[20 : 20 + options.lines]
    expected: dict[str, dict[str, set[str]]] = {}
    async with LoadClient(service.url) as client:
        for id in versions:
            registry.promote(PAIR, id, "churn")
            await until_live(client, id, 1800)
            expected[id] = await learned(client, lines, options.clients, options.learn)
        usable = telling(expected)
        if len(usable) < 6:
            raise BenchFailed(f"too few lines tell the versions apart: found {len(usable)} of {len(lines)}, valid: at least 6; more --lines")
        seen = Seen(expected, versions[-1], versions[-1])
        stop = asyncio.Event()
        load = asyncio.create_task(until_set(client, requests(usable), options.clients, stop, seen))
        began = time.monotonic()
        for number in range(options.changes):
            state = registry.state(PAIR)
            back = draw.random() < 0.5 and state.previous in versions
            to = state.previous if back else draw.choice([v for v in versions if v != state.live])
            seen.change(to)
            await asyncio.to_thread(registry.rollback, PAIR, "churn") if back else await asyncio.to_thread(registry.promote, PAIR, to, "churn")
            try:
                await asyncio.wait_for(seen.went_live.wait(), options.within)
            except TimeoutError:
                seen.problems.append(f"change {number + 1} was not live within {options.within:g} s")
                break
            if service.process.poll() is not None:
                seen.problems.append(f"the service ended with exit code {service.process.returncode}")
                break
            if number % 50 == 49:
                print(f"churn: {number + 1} of {options.changes}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        seconds = time.monotonic() - began
        stop.set()
        await load
    return seen, usable, seconds


def measure(options: argparse.Namespace, work: Workspace) -> tuple[dict[str, Any], list[str], list[str]]:
    registry = work.registry("churn")
    versions = [variant(work, registry, PAIR, 0, scale, of) for of, scale in VERSIONS[: options.versions]]
    registry.promote(PAIR, versions[0], "churn")
    # Room for the live one, the new one, and one that still drains.
    with serve(options, work, registry, 1, max_adapters=2) as service:
        seen, usable, seconds = asyncio.run(churn(service, registry, versions, options))
    done, of = len(seen.times), sum(seen.verdicts.values())
    live = milliseconds(seen.times)
    failures = counted(seen.problems)
    if voided(seen.verdicts["other"], of):
        failures.append(f"{seen.verdicts['other']} of {of} answers are what no version gave before the load")
    failures += [f"only {done} of {options.changes} changes went live"] if done < options.changes else []
    lines = [
        f"{done} of {options.changes} promotions and roll backs of {len(versions)} versions went live, in {seconds:.0f} s; seed {SEED}",
        f"from change to live: mean {1000 * sum(seen.times) / max(1, done):.0f} ms, p50 {live['p50']:.0f}, p99 {live['p99']:.0f}, longest {live['max']:.0f}",
        "requests meanwhile by status: " + ", ".join(f"{s} {n}" for s, n in sorted(seen.statuses.items())),
        f"failed requests: {sum(seen.statuses.values()) - seen.statuses['200']}",
        f"mixed-version answers: {seen.verdicts['mixed']} of {of}; near ties, which no version gave before: {seen.verdicts['other']} (at most {TIES:g}%)",
        f"latency meanwhile: {milliseconds(seen.latencies)} ms, {options.clients} clients, {len(usable)} lines that tell the versions apart",
    ]
    figures = {
        "changes": done, "seconds": round(seconds, 1), "live_ms": live, "statuses": dict(seen.statuses), "verdicts": dict(seen.verdicts),
        "by_version": dict(seen.by_version), "latency_ms": milliseconds(seen.latencies), "lines_used": len(usable),
    }  # fmt: skip
    return figures, lines, failures


def main() -> int:
    parser = common(__doc__)
    parser.add_argument("--changes", type=int, help="promotions and roll backs  [default: 1000]")
    parser.add_argument("--versions", type=int, choices=range(2, 5), default=2, help="[default: 2]")
    parser.add_argument("--learn", type=float, help="seconds in which each version shows what it gives  [default: 40]")
    parser.add_argument("--clients", type=int, default=4, help="requests under way  [default: 4]")
    parser.add_argument("--lines", type=int, help="short segments to choose lines from  [default: 60]")
    parser.add_argument("--within", type=float, default=60.0, help="seconds in which a change must be live  [default: 60]")
    options = parser.parse_args()
    options.changes = options.changes or (6 if options.quick else 1000)
    options.learn = options.learn or (0.5 if options.quick else 40.0)
    options.lines = options.lines or (12 if options.quick else 60)
    return measured("churn", options, measure)


if __name__ == "__main__":
    sys.exit(main())
