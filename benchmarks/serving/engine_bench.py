#!/usr/bin/env python3
"""The engine ct2, its conversion, the service's memory and start, and training: this build side by side with the one before; and against other engines.

A git worktree of the earlier commit stands beside this checkout, each with its own code, adapters and cache. Both get the same texts and take turns in
going first; a ratio is that of the turns, with its interval. Reads examples/en-is or --source, the adapters that came with each build and the prepared base.
Every value is written to results.jsonl as soon as it is measured, and a run that was broken off goes on from there. Then a table is made of them.

    make bench-engine
    python -m benchmarks.serving.engine_bench --only one,eight,thirty-two
    python -m benchmarks.serving.engine_bench --table -o docs/results/engine-bench.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.serving.engine.bench import Bench
from benchmarks.serving.engine.builds import COMMIT, both, code_version
from benchmarks.serving.engine.figures import FIGURES
from benchmarks.serving.engine.reasons import REASONS
from benchmarks.serving.engine.results import Results, tables
from benchmarks.serving.engine.rivals import PACKAGE, RIVALS
from benchmarks.serving.harness.load import BenchFailed
from benchmarks.serving.harness.process import ROOT
from benchmarks.serving.harness.sides import say
from benchmarks.serving.harness.workspace import machine, machine_line

ALL = {**FIGURES, **RIVALS}


def measure(bench: Bench, results: Results, name: str, turns: int) -> None:
    """What is left to measure of a figure."""
    figure = ALL[name]
    todo = [(turn, side) for turn in range(turns) for side in (figure.sides if turn % 2 == 0 else figure.sides[::-1]) if not results.has(name, side, turn)]
    if not todo:
        return
    say(name)
    with figure.open(bench) as one_side:
        for turn, side in todo:
            # Threads of the other side spin for a moment after their last product.
            time.sleep(bench.options.settle)
            values = one_side(side)
            results.add(name, side, turn, **values)
            say(f"{name}, turn {turn + 1}, {side}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items() if isinstance(v, (int, float))))


def page(results: Results, names: Sequence[str], options: argparse.Namespace) -> Iterator[str]:
    yield from ("# This build's engine against the one before, and against others", "")
    yield from ("    make bench-engine", "")
    yield f"{machine_line(machine(options))}. `before` is {results.settings['before']}; `llama.cpp` is that of {PACKAGE}, its server with 32 slots and Q8_0."
    yield "Base: Gemma 3 270M, with the shipped Icelandic-English adapter. Both sides get the same texts and take turns. tokens/s counts the tokens of the"
    yield "outputs in the base's whole vocabulary, for every side. A ratio is the geometric mean over the turns, with its 95% interval (Student's t on the"
    yield "logarithms; with two turns, both). `by processor time` is the same ratio of tokens per second of processor time, or of processor seconds,"
    yield "which other load on the machine changes less."
    yield ""
    yield from tables(results, [c for name in names for c in ALL[name].comparisons], REASONS)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default=",".join(ALL), help=f"figures, of {', '.join(ALL)}  [default: all]")
    parser.add_argument("--turns", type=int, help="how often each side is measured  [default: 3 or 5, by figure]")
    parser.add_argument("--source", type=Path, help="texts of the source language, a line each  [default: the examples that come with tellmt]")
    parser.add_argument("--few", type=int, default=0, metavar="N", help="only N texts a turn: whether it works, not how well")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "bench-engine", help="work here, and leave everything behind  [default: work/bench-engine]"
    )
    parser.add_argument("--results", type=Path, help="JSON lines to write to and to go on from  [default: results.jsonl in --work]")
    parser.add_argument("--fresh", action="store_true", help="measure everything anew")
    parser.add_argument("--before", type=Path, metavar="DIR", help="compare with the checkout there  [default: a git worktree of the earlier commit]")
    parser.add_argument("--llama", type=Path, help="where llama.cpp's source and build are  [default: llama in --work, fetched and built]")
    parser.add_argument("--table", action="store_true", help="measure nothing: only make the table of what is there")
    parser.add_argument("-o", "--output", type=Path, help="write the table here, too")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0 takes all  [default: 0]")
    parser.add_argument("--module", default="tellmt", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [n for n in names if n not in ALL]:
        parser.error(f"--only: found {', '.join(unknown)}; valid: {', '.join(ALL)}")
    if (options.turns or 1) < 1 or options.few < 0:
        parser.error("--turns: valid: at least 1; --few: at least 0")
    options.only = [n for n in ALL if n in names]
    options.engine, options.settle = "ct2", 0.05 if options.few else 0.5
    return options


def main() -> int:
    options = parsed()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    settings = {
        "before": options.before.name if options.before else COMMIT[:12],
        "source": options.source.name if options.source else "examples",
        "few": options.few,
        "threads": options.threads,
    }
    path: Path = options.results or work / "results.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    results = Results(path, code_version(), settings)
    failures: list[str] = []
    if not options.table:
        try:
            with both(work, options.engine, options.threads, options.module, options.before) as builds:
                bench = Bench(options, work, {b.name: b for b in builds})
                for name in options.only:
                    try:
                        measure(bench, results, name, options.turns or ALL[name].turns)
                    except BenchFailed as e:
                        failures.append(f"{name}: {e}")
                        say(failures[-1])
        except BenchFailed as e:
            say(str(e))
            return 1
    lines = [*page(results, options.only, options), *(f"    NOT MEASURED: {f}" for f in failures)]
    text = "\n".join(lines).rstrip("\n") + "\n"
    print(text, end="")
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
