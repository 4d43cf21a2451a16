#!/usr/bin/env python3
"""What a service's resident memory consists of: its parts one after the other in a process of their own, and then the service with no, one and two adapters,
at rest, after short and long requests, and a minute later.

Reads what bench_serve.py reads. ctranslate2 only; Linux.

    python -m benchmarks.serving.memory
    python -m benchmarks.serving.memory --json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.serving.harness.load import BenchFailed, table
from benchmarks.serving.harness.process import ROOT, Served, sample
from benchmarks.serving.harness.workspace import Workspace, common, converted, measured, segments, serve, variant

# Printed after each step: what the process has resident, in MiB. `{...}` are filled in.
STEPS = """
import json, sys
from pathlib import Path
from tell.machine import give_back
def say(name):
    give_back()
    rows = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines() if ":" in row)
    print(json.dumps([name, int(rows["VmRSS"].split()[0]) / 1024]), flush=True)
kept = []
say("Python and the ground of tellmt")
import fastapi, uvicorn, prometheus_client, serve.app, serve.server, serve.api.native, serve.api.documents, serve.api.monitor
say("modules of the service: fastapi, pydantic, uvicorn, Prometheus, own ones")
import ctranslate2
say("ctranslate2's library")
from tell.model.base import find_base
from tell.model.tokenizer import BaseTokenizer
kept.append(BaseTokenizer(find_base(sys.argv[1])))
say("tokenizer of the base")
kept.append(json.loads((Path(sys.argv[2]) / "vocabulary.json").read_text()))
say("names of the pieces, for ctranslate2")
for number, (model, adapter) in enumerate(zip(sys.argv[2::2], sys.argv[3::2]), 1):
    kept.append(ctranslate2.Generator(model, device="cpu", compute_type="int8", inter_threads=1, intra_threads=1))
    say(f"model of adapter {number}: int8")
    from tell.lexicon.lexicon import Lexicon
    kept.append(Lexicon.read(Path(adapter)))
    say(f"lexicon of adapter {number}")
"""


def parts(work: Workspace, base: str, adapters: list[Path]) -> list[tuple[str, float]]:
    """(what was added, MiB that it added), in order."""
    words: list[str] = []
    for adapter in adapters:
        model = converted(work, adapter)
        if model is None:
            raise BenchFailed(f"no converted model for {adapter.name}; valid: ctranslate2 as the engine")
        words += [str(model), str(adapter)]
    env = {**os.environ, "TELLMT_CACHE": str(work.cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", STEPS, base, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"the parts could not be loaded: {done.stderr.strip()[-300:]}")
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    before = [0.0, *(mib for _, mib in steps)]
    return [(name, mib - earlier) for (name, mib), earlier in zip(steps, before, strict=False)]


def ask(service: Served, pair: str, texts: list[str]) -> None:
    source, target = pair.split("-")
    body = json.dumps({"source": source, "target": target, "text": texts}).encode()
    request = urllib.request.Request(f"{service.url}/api/v1/translate", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        answer.read()


def at_rest(service: Served) -> float:
    """The least of some looks: allocations come and go."""
    looks = []
    for _ in range(5):
        time.sleep(0.4)
        looks.append(sample(service.pid).memory)
    return min(looks)


def measure(options: argparse.Namespace, work: Workspace) -> tuple[dict[str, Any], list[str], list[str]]:
    totals: dict[str, float] = {}
    with serve(options, work, work.registry("none"), 0, cache_mb=None) as service:
        totals["no adapter, at rest"] = at_rest(service)
    registry = work.registry("one")
    registry.promote("is-en", variant(work, registry, "is-en"), "bench")
    with serve(options, work, registry, 1, cache_mb=None) as service:
        totals["one adapter, at rest"] = at_rest(service)
    registry.promote("en-is", variant(work, registry, "en-is", of="en-is"), "bench")
    texts = {"is-en": segments("is"), "en-is": segments("en")}
    with serve(options, work, registry, 2, cache_mb=None) as service:
        totals["two adapters, at rest"] = at_rest(service)
        for pair, lines in texts.items():
            for line in lines[: options.short]:
                ask(service, pair, [line])
        totals[f"after {2 * options.short} short requests"] = at_rest(service)
        for pair, lines in texts.items():
            ask(service, pair, lines[options.short : options.short + options.long])
        totals[f"after {options.long} segments at once for each"] = at_rest(service)
        time.sleep(options.wait)
        totals[f"{options.wait:g} s later"] = at_rest(service)
        adapters = [registry.path(id) for id in service.live().values()]
        base = registry.card(service.live()["is-en"]).base.id
    steps = parts(work, base, adapters)
    lines = table(["part, alone in a process", "MiB"], [[name, f"{mib:.0f}"] for name, mib in (*steps, ("together", sum(mib for _, mib in steps)))])
    lines += ["", *table(["the service", "resident, MiB"], [[name, f"{mib:.0f}"] for name, mib in totals.items()])]
    return {"parts": dict(steps), "service": totals}, lines, []


def main() -> int:
    parser = common(__doc__)
    parser.add_argument("--short", type=int, help="requests of one segment to each adapter  [default: 20]")
    parser.add_argument("--long", type=int, help="segments of the long request to each  [default: 32]")
    parser.add_argument("--wait", type=float, help="seconds until the last look  [default: 60]")
    options = parser.parse_args()
    options.engine = "ct2"
    options.short = options.short or (2 if options.quick else 20)
    options.long = options.long or (2 if options.quick else 32)
    options.wait = options.wait or (1.0 if options.quick else 60.0)
    return measured("memory", options, measure)


if __name__ == "__main__":
    sys.exit(main())
