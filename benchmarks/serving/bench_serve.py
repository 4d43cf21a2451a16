#!/usr/bin/env python3
"""`tellmt serve` against the engine it runs on, and what adapters, promotions, hot-loads and the cache do to it: ratios, on this machine.

Reads examples/en-is, the adapters that came with tellmt and the prepared base. Works in a temporary directory or in --work DIR. The service is the real
one, a process that is talked to over HTTP; the raw engine is a process of its own that gets the same token ids and the same ids to stop at, on
the same converted model. Warm-up is left out, the two sides take turns, and a ratio is void when the texts are not the same.

    make bench-serve
    python -m benchmarks.serving.bench_serve --only throughput,live --json
    python -m benchmarks.serving.bench_serve --engine vllm
    python -m benchmarks.serving.bench_serve --all -o DIR      this, and overload, churn, soak and stop: one JSON file each, and DIR/serve-speed.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.serving.all import run_all
from benchmarks.serving.harness.load import BenchFailed
from benchmarks.serving.harness.sides import Outcome
from benchmarks.serving.harness.workspace import Workspace, common, machine, report, workplace
from benchmarks.serving.speed import cache, engines, mixed, throughput
from benchmarks.serving.version_changes import hotload, live

SECTIONS: dict[str, Callable[[argparse.Namespace, Workspace], Outcome]] = {
    "throughput": throughput,
    "mixed": mixed,
    "live": live,
    "hotload": hotload,
    "cache": cache,
    "engines": engines,
}


def numbers(text: str) -> list[int]:
    try:
        parsed = sorted({int(n) for n in text.split(",")})
    except ValueError:
        parsed = []
    if not parsed or parsed[0] < 1:
        raise argparse.ArgumentTypeError(f"found {text}; valid: numbers from 1, such as 1,8,32")
    return parsed


def parsed() -> argparse.Namespace:
    parser = common(__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"parts, of {', '.join(SECTIONS)}  [default: all]")
    parser.add_argument("--concurrency", type=numbers, help="requests under way, against the raw engine  [default: 1,8,32]")
    parser.add_argument("--mixed-concurrency", type=numbers, help="requests under way, eight adapters against one  [default: 32,256]")
    parser.add_argument("--segments", type=int, help="segments a round at the highest concurrency  [default: 320]")
    parser.add_argument("--rounds", type=int, help="[default: 3]")
    parser.add_argument("--changes", type=int, help="promotions and roll backs that are timed  [default: 5]")
    parser.add_argument("--fresh", type=int, help="promotions of an adapter new to this machine that are timed  [default: 2]")
    parser.add_argument("--window", type=float, help="seconds of load with and without hot-loads, each round  [default: 20]")
    parser.add_argument("--all", action="store_true", help="this and every other serving measurement, into -o DIR: about two hours on two cores")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="with --all: where the figures go")
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [n for n in names if n not in SECTIONS]:
        parser.error(f"--only: found {', '.join(unknown)}; valid: {', '.join(SECTIONS)}")
    if options.all != (options.output is not None):
        parser.error("--all and -o DIR go together")
    options.only = [n for n in SECTIONS if n in names]
    quick = {"concurrency": [1, 4], "mixed_concurrency": [8], "segments": 16, "rounds": 2, "changes": 1, "fresh": 1, "window": 1.0}
    full = {"concurrency": [1, 8, 32], "mixed_concurrency": [32, 256], "segments": 320, "rounds": 3, "changes": 5, "fresh": 2, "window": 20.0}
    for name, value in (quick if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    # Seconds for the threads of one side to fall asleep before the other is timed: Intel's OpenMP spins for 0.2 after each product.
    options.settle = 0.05 if options.quick else 0.5
    if options.segments < 1 or options.rounds < 1:
        parser.error("--segments and --rounds: valid: at least 1")
    return options


def main() -> int:
    options = parsed()
    if options.all:
        return run_all(options)
    lines: list[str] = []
    failures: list[str] = []
    results: dict[str, Any] = {"machine": machine(options), "settings": {k: v for k, v in vars(options).items() if k not in ("work", "output", "raw")}}
    with workplace(options) as work:
        for name in options.only:
            began = time.monotonic()
            try:
                results[name], section_lines, failed = SECTIONS[name](options, work)
            except BenchFailed as e:
                results[name], section_lines, failed = {}, [], [f"{name}: {e}"]
                print(f"bench: {name}: {e}", file=sys.stderr)
            results[name] = {**results[name], "took_s": round(time.monotonic() - began, 1)}
            lines += [f"## {name}", "", *section_lines, ""]
            failures += failed
    return report(options, results, lines, failures)


if __name__ == "__main__":
    sys.exit(main())
