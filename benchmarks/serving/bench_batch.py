#!/usr/bin/env python3
"""`tellmt translate` against the engine it runs on, and its own memory over a million lines: ratios, on this machine.

Reads examples/en-is, the adapter that came with tellmt and the prepared base. Works in a temporary directory or in --work DIR. The command is the real one, on
a file of those segments that end by themselves; its time is that from the first batch to the last one recorded. The raw engine gets the same token ids in one
call, and puts its batches together itself. The sides take turns in going first.

    make bench-batch
    python -m benchmarks.serving.bench_batch --segments 128 --rounds 2 --json
    python -m benchmarks.serving.bench_batch --only memory
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.harness.load import BenchFailed, table
from benchmarks.serving.harness.process import ROOT
from benchmarks.serving.harness.ratios import unlike
from benchmarks.serving.harness.sides import Outcome, open_raw, say
from benchmarks.serving.harness.workspace import Workspace, common, machine, report, segments, variant, workplace

PAIR = ("--from", "is", "--to", "en")
# Segments that the engine runs at once, as `tellmt translate` starts it.
MOST = 64
# What is promised.
RATIO, MEMORY_MB, LINES = 0.95, 1024, 1_000_000


def _translated(options: argparse.Namespace, work: Workspace, registry: Path, texts: Sequence[str], tries: int) -> tuple[dict[str, Any], list[str], float]:
    """The command on a file of these texts: its result, what came out, and seconds from start to end."""
    source, target = work.root / "in.txt", work.root / "out.txt"
    source.write_text("".join(t + "\n" for t in texts), encoding="utf-8")
    command = [sys.executable, "-m", "tellmt", "translate", str(source), *PAIR, "-o", str(target), "--no-shipped", "--registry", str(registry)]
    command += ["--engine", options.engine, "--tries", str(tries), "--fresh", "--json"]
    env = {**os.environ, "TELLMT_CACHE": str(work.cache), "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise BenchFailed(f"tellmt translate ended with {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout), target.read_text(encoding="utf-8").split("\n")[:-1], time.monotonic() - began


def speed(options: argparse.Namespace, work: Workspace) -> Outcome:
    """Segments per second of both sides, and what second tries cost."""
    registry = work.registry("one")
    id = variant(work, registry, "is-en")
    registry.promote("is-en", id, "bench")
    candidates = segments()[: options.segments * 9 // 8 + 2]
    say("converting the adapter")
    _translated(options, work, registry.root, candidates[:2], 0)
    with open_raw(options, work, registry, id, candidates, MOST) as raw:
        say("the raw engine, once to see which segments end by themselves")
        first = raw.run([range(len(candidates))], MOST)
        complete = [i for i in range(len(candidates)) if first.ended[i]][: options.segments]
        if len(complete) < options.segments:
            raise BenchFailed(f"too few segments end by themselves: found {len(complete)}, valid: at least {options.segments}")
        texts, expected = [candidates[i] for i in complete], [first.texts[i] for i in complete]
        tokens = sum(first.tokens[i] for i in complete)
        raws: list[float] = []
        ours: list[float] = []
        whole: list[float] = []
        different: list[int] = []
        for r in range(options.rounds):
            for side in ("raw", "ours") if r % 2 == 0 else ("ours", "raw"):
                say(f"round {r + 1}: {side}")
                time.sleep(options.settle)
                if side == "raw":
                    raws.append(raw.run([complete], MOST).total)
                    say(f"{raws[-1]:.2f} s")
                else:
                    result, outputs, took = _translated(options, work, registry.root, texts, 0)
                    ours.append(result["seconds"])
                    whole.append(took)
                    different.append(unlike(expected, outputs))
                    say(f"{ours[-1]:.2f} s")
    say("with second tries")
    tried, _, _ = _translated(options, work, registry.root, texts, 4)
    ratios = [a / b for a, b in zip(raws, ours, strict=True)]
    rows = [
        [name, f"{len(texts) / statistics.median(s):.2f}", f"{tokens / statistics.median(s):.1f}", f"{min(s):.1f} to {max(s):.1f}"]
        for name, s in (("raw engine", raws), ("tellmt translate", ours), ("tellmt translate, with second tries", [tried["seconds"]]))
    ]
    middle = statistics.median(ratios)
    lines = [
        *table(["", "segments/s", "output tokens/s", "seconds"], rows),
        "",
        f"throughput against the raw engine: {middle:.3f} ({', '.join(f'{x:.3f}' for x in ratios)}), {len(texts)} segments, {tokens} output tokens",
        f"texts unlike the raw engine's: {', '.join(map(str, different))}; {tried['flagged']} segments with a flag after second tries",
        f"from the command's start to its end: {min(whole):.1f} to {max(whole):.1f} s",
    ]
    failures = [] if middle >= RATIO or options.quick else [f"throughput is {middle:.3f} of the raw engine's, below {RATIO}"]
    figures = {"raw_s": raws, "ours_s": ours, "whole_s": whole, "ratios": ratios, "segments": len(texts), "tokens": tokens, "unlike": different}
    return {**figures, "with_tries_s": tried["seconds"], "flagged": tried["flagged"]}, lines, failures


def memory(options: argparse.Namespace, work: Workspace) -> Outcome:
    """The program without an engine over a million different lines, in a process of its own."""
    lines = 20_000 if options.quick else LINES
    child = [sys.executable, "-m", "benchmarks.serving.bench_batch", "--child", str(work.root), str(lines)]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"the process ended with {done.returncode}: {done.stderr[-500:]}")
    figures = json.loads(done.stdout)
    phases = ", ".join(f"{name} {figures[name]:.0f} s" for name in ("collecting", "translating", "writing"))
    line = f"{lines:,} different lines: {figures['mb']:.0f} MB of memory at most; {phases}, by a translator that takes no time"
    return figures, [line], [] if figures["mb"] < MEMORY_MB else [f"{figures['mb']:.0f} MB of memory, above {MEMORY_MB}"]


def child(root: Path, lines: int) -> int:
    import asyncio

    from serve.files import outputs, runner
    from serve.files.collect_and_fill import SegmentCollector, TranslationFiller
    from serve.files.segment_store import SegmentResult, SegmentStore
    from serve.formats.units import Options

    class Instant:
        lines, characters, parallel = 64, 1 << 20, 2
        adapters = ("none",)

        async def translate(self, texts: Sequence[str]) -> list[SegmentResult]:
            return [SegmentResult(t.upper()) for t in texts]

    source, target = root / "million.txt", root / "million.out.txt"
    with source.open("w", encoding="utf-8") as lines_out:
        for i in range(lines):
            lines_out.write(f"Lína númer {i} í löngu skjali um {'allt og ' * (i % 12)}ekkert.\n")
    (root / "million.sqlite").unlink(missing_ok=True)
    store = SegmentStore(root / "million.sqlite")
    times = [time.monotonic()]
    (task,) = outputs.plan([str(source)], str(target), None)
    collector = SegmentCollector(store, False)
    with task.opened() as f:
        task.format.convert(f, outputs.NullWriter(), collector, Options())  # type: ignore[arg-type]
    collector.flush()
    times.append(time.monotonic())
    asyncio.run(runner.translate_open_segments(store, Instant()))  # type: ignore[arg-type]
    times.append(time.monotonic())
    filler = TranslationFiller(store, False, "million.txt")
    with outputs.open_output(str(target)) as output, task.opened() as f:
        task.format.convert(f, output, filler, Options())
    filler.flush()
    times.append(time.monotonic())
    spent = {n: b - a for n, a, b in zip(("collecting", "translating", "writing"), times[:-1], times[1:], strict=True)}
    mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"mb": mb, "lines": filler.counts.translated, "ledger_mb": (root / "million.sqlite").stat().st_size / 1e6, **spent}))
    return 0 if filler.counts.translated == lines else 1


SECTIONS = {"speed": speed, "memory": memory}


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        return child(Path(sys.argv[2]), int(sys.argv[3]))
    parser = common(__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help="speed, memory  [default: both]")
    parser.add_argument("--segments", type=int, help="[default: 320]")
    parser.add_argument("--rounds", type=int, help="[default: 3]")
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.segments = options.segments or (16 if options.quick else 320)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.settle = 0.05 if options.quick else 0.5
    lines: list[str] = []
    failures: list[str] = []
    results: dict[str, Any] = {"machine": machine(options)}
    with workplace(options) as work:
        for name in options.only.split(","):
            if name not in SECTIONS:
                parser.error(f"--only: found {name}; valid: {', '.join(SECTIONS)}")
            try:
                results[name], section_lines, failed = SECTIONS[name](options, work)
            except BenchFailed as e:
                results[name], section_lines, failed = {}, [], [f"{name}: {e}"]
            lines += [f"## {name}", "", *section_lines, ""]
            failures += failed
    return report(options, results, lines, failures)


if __name__ == "__main__":
    sys.exit(main())
