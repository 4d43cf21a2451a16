#!/usr/bin/env python3
"""SIGTERM under load, and clients that leave: is anything that was accepted lost, and does work stop that nobody waits for?

Reads what bench_serve.py reads. SIGTERM: clients ask in closed loops for short and long texts, a signal comes at a random moment, and the clients go on
until nobody takes their connections. A request counts as accepted when it was sent 0.1 s before the signal or earlier. Leaving: a client asks for much,
leaves when the engine is at work, and processor time tells when the engine stops; in every way of asking that the service has.

    python -m benchmarks.serving.shutdown
    python -m benchmarks.serving.shutdown --rounds 20 --drain 30 --json

Broken promises, which make the exit code 1: an accepted request lost, /ready still 200 a second after the signal, an exit code other than 0 or an exit
later than the drain time and five seconds, work that goes on for over two seconds after its client left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.serving.harness.client import LoadClient, LoadRequest, LoadResponse, translation_request
from benchmarks.serving.harness.load import BenchFailed, all_answered, closed_loop, statuses, table
from benchmarks.serving.harness.process import Served, sample
from benchmarks.serving.harness.workspace import SEED, Workspace, common, measured, segments, serve, variant

AIM_READY, AIM_EXIT, AIM_LEAVE = 1.0, 5.0, 2.0
# A request sent so shortly before the signal may still lie unread in the kernel: nobody has accepted it.
MARGIN = 0.1
# Of one core: below it the process is idle.
BUSY = 0.25
LOOK = 0.1


async def terminate_under_load(service: Served, clients: int, delay: float, give_up: float) -> dict[str, Any]:
    """One round. Times in seconds from the signal on."""
    texts, answers = segments(), list[LoadResponse]()
    draw = random.Random(delay)
    over = asyncio.Event()
    ready: list[tuple[float, int]] = []

    async def ask(client: LoadClient) -> None:
        while not over.is_set():
            lines = draw.sample(texts, draw.choice((1, 1, 1, 12)))
            answers.append(await client.send(translation_request("is-en", *lines), again=False))
            if answers[-1].problem.startswith("refused"):
                return
            if answers[-1].status != 200:
                await asyncio.sleep(0.05)

    async def look() -> None:
        async with LoadClient(service.url) as other:
            while not over.is_set():
                answer = await other.get("/ready", fresh=True)
                ready.append((answer.done, answer.status))
                await asyncio.sleep(0.02)

    async with LoadClient(service.url) as client:
        all_answered(await closed_loop(client, [translation_request("is-en", t) for t in texts[:clients]], clients), "before the signal")
        work = [asyncio.create_task(ask(client)) for _ in range(clients)]
        looking = asyncio.create_task(look())
        await asyncio.sleep(delay)
        at = time.perf_counter()
        service.terminate()
        code = await asyncio.to_thread(service.ended, give_up)
        ended = time.perf_counter() - at
        over.set()
        await asyncio.wait([*work, looking], timeout=10)
        for task in (*work, looking):
            task.cancel()
        await asyncio.gather(*work, looking, return_exceptions=True)
    accepted = [a for a in answers if a.sent < at - MARGIN and a.done > at]
    edge = [a for a in answers if at - MARGIN <= a.sent <= at]
    return {
        "accepted": len(accepted), "lost": [a.problem or a.status for a in accepted if a.status != 200], "edge": statuses(edge),
        "later": statuses(a for a in answers if a.sent > at), "off_s": max((when - at for when, status in ready if status == 200), default=0.0),
        "code": code, "ended_s": ended,
    }  # fmt: skip


def sigterm(options: argparse.Namespace, work: Workspace, registry: Any) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    draw = random.Random(SEED)
    rounds: list[dict[str, Any]] = []
    failures: list[str] = []
    for number in range(options.rounds):
        service = serve(options, work, registry, 1, max_adapters=1)
        try:
            round_ = asyncio.run(terminate_under_load(service, options.clients, draw.uniform(*options.delay), options.drain + AIM_EXIT + 30))
        finally:
            service.kill()
        rounds.append(round_)
        failures += [f"round {number + 1}: an accepted request was lost: {p}" for p in round_["lost"]]
        if round_["off_s"] > AIM_READY:
            failures.append(f"round {number + 1}: /ready said yes {round_['off_s']:.2f} s after the signal")
        if round_["code"] != 0 or round_["ended_s"] > options.drain + AIM_EXIT:
            failures.append(f"round {number + 1}: exit code {round_['code']} after {round_['ended_s']:.1f} s")
    accepted, lost = sum(r["accepted"] for r in rounds), sum(len(r["lost"]) for r in rounds)
    if not accepted:
        failures.append("no request was under way at any signal; valid: more --rounds or --clients")
    edge: dict[str, int] = {}
    for r in rounds:
        edge |= {s: edge.get(s, 0) + n for s, n in r["edge"].items()}
    lines = [
        f"SIGTERM under load: {len(rounds)} rounds, {options.clients} clients; accepted requests under way {accepted}, lost {lost}; aim: 0",
        f"/ready last said yes {max(r['off_s'] for r in rounds):.2f} s after the signal at most; aim: within {AIM_READY:g} s",
        f"the process had ended {max(r['ended_s'] for r in rounds):.1f} s after the signal at most; aim: within {options.drain + AIM_EXIT:g} s",
        f"requests sent in the last {MARGIN:g} s before the signal: {edge or 'none'}",
    ]
    return rounds, lines, failures


def ways(service: Served, lines: Sequence[str]) -> dict[str, LoadRequest]:
    """Much to translate, in every way of asking that this service has."""
    asks = {"plain, one long text": translation_request("is-en", "\n".join(lines)), "plain, a list": translation_request("is-en", *lines)}
    if service.has("/translate"):
        body = json.dumps({"q": list(lines), "source": "is", "target": "en"}).encode()
        asks["LibreTranslate"] = LoadRequest("/translate", body, "is-en")
    if service.has("/api/v1/translate/stream"):
        asks["streaming"] = translation_request("is-en", *lines, path="/api/v1/translate/stream")
    if service.has("/v2/translate"):
        body = json.dumps({"text": list(lines), "source_lang": "IS", "target_lang": "EN"}).encode()
        asks["DeepL"] = LoadRequest("/v2/translate", body, "is-en")
    return asks


async def quiet(pid: int, give_up: float) -> float:
    """Seconds until the process has been idle for a second, counted to the beginning of that second; `give_up` when it is not by then."""
    began = last = time.monotonic()
    before = sample(pid)
    while time.monotonic() < last + 1.0:
        if time.monotonic() > began + give_up:
            return give_up
        await asyncio.sleep(LOOK)
        now = sample(pid)
        if now.cpu - before.cpu > BUSY * (now.at - before.at):
            last = now.at
        before = now
    return max(0.0, last - began)


async def leave(service: Served, ask: LoadRequest, after: float) -> dict[str, Any]:
    """One client leaves. `goes_on` is how long the engine works on, `next_s` what a short request takes that comes at once."""
    async with LoadClient(service.url) as client:
        alone = await client.send(translation_request("is-en", "Já."))
        await quiet(service.pid, 15)
        before = sample(service.pid)
        broken_off = await client.send(ask, leave_after=after, fresh=True)
        worked = sample(service.pid).cpu - before.cpu
        going_on = asyncio.create_task(quiet(service.pid, 20))
        if broken_off.problem != "left":
            raise BenchFailed(f"the request was over before its client could leave: status {broken_off.status}; valid: more --lines, or a shorter --after")
        goes_on = await going_on
        answer = await client.send(translation_request("is-en", "Já."))
    return {"worked": worked > BUSY * after / 2, "goes_on_s": goes_on, "next_s": answer.seconds, "alone_s": alone.seconds, "status": answer.status}


def leaving(options: argparse.Namespace, work: Workspace, registry: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    by_way: dict[str, Any] = {}
    failures: list[str] = []
    with serve(options, work, registry, 1, max_adapters=1) as service:
        lines = (segments() * (1 + options.lines // 500))[: options.lines]
        asyncio.run(leave(service, translation_request("is-en", *lines), options.after))  # the first has what starts on use in it
        for name, ask in ways(service, lines).items():
            by_way[name] = asyncio.run(leave(service, ask, options.after))
            if not by_way[name]["worked"]:
                failures.append(f"{name}: the engine was not at work when the client left, so nothing is shown; valid: another --after")
            if by_way[name]["goes_on_s"] > AIM_LEAVE:
                failures.append(f"{name}: the engine worked on for {by_way[name]['goes_on_s']:.1f} s after its client had left")
            if by_way[name]["status"] != 200:
                failures.append(f"{name}: the next request was answered with {by_way[name]['status']}")
    rows = [[n, f"{f['goes_on_s']:.1f}", f"{1000 * f['next_s']:.0f}", f"{1000 * f['alone_s']:.0f}"] for n, f in by_way.items()]
    head = [f"a client leaves after {options.after:g} s", f"the engine works on, s (aim: at most {AIM_LEAVE:g})", "a short request then, ms", "and before, ms"]
    return by_way, table(head, rows), failures


def measure(options: argparse.Namespace, work: Workspace) -> tuple[dict[str, Any], list[str], list[str]]:
    registry = work.registry("one")
    registry.promote("is-en", variant(work, registry, "is-en"), "bench")
    figures: dict[str, Any] = {}
    lines: list[str] = []
    failures: list[str] = []
    for name, part in (("sigterm", sigterm), ("leaving", leaving)):
        if name in options.only.split(","):
            figures[name], part_lines, failed = part(options, work, registry)
            lines += ["", *part_lines] if lines else part_lines
            failures += failed
    return figures, lines, failures


def main() -> int:
    parser = common(__doc__)
    parser.add_argument("--only", default="sigterm,leaving", help="parts  [default: sigterm,leaving]")
    parser.add_argument("--rounds", type=int, help="services that get a SIGTERM  [default: 10]")
    parser.add_argument("--clients", type=int, default=16, help="requests under way at the signal  [default: 16]")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds that requests under way are given, as the service was told  [default: 30]")
    parser.add_argument("--lines", type=int, default=300, help="of the request that a client leaves  [default: 300]")
    parser.add_argument("--after", type=float, help="seconds after which the client leaves  [default: 2]")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 10)
    options.after = options.after or (0.5 if options.quick else 2.0)
    options.delay = (0.3, 0.6) if options.quick else (1.0, 4.0)
    return measured("stop", options, measure)


if __name__ == "__main__":
    sys.exit(main())
