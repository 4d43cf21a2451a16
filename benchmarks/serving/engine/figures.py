"""The figures that compare this build with the one before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving.engine.bench import Bench, Figure, Measure
from benchmarks.serving.engine.builds import Build
from benchmarks.serving.engine.results import Aim, Comparison
from benchmarks.serving.harness.load import BenchFailed
from benchmarks.serving.harness.sides import say
from benchmarks.serving.harness.workspace import PAIRS

ONE = [["is-en", 0, "is-en"]]
TWO = [["is-en", 0, "is-en"], ["en-is", 0, "en-is"]]
EIGHT = [[pair, number, "is-en"] for number, pair in enumerate(PAIRS)]
# Texts a turn, by how many requests are under way.
TEXTS = {1: 16, 8: 64, 32: 160}
# Seconds after which the service unloads the bare base, and some more.
IDLE = 70.0
# Tokens that training sees (with --few: a step or two), and segments of its look at the dev split.
TRAINED, FEW, DEV = 6_000, 1_500, 20


@contextmanager
def services(bench: Bench, adapters: list[list[Any]], cache: bool = False) -> Iterator[dict[str, Build]]:
    """Both builds' services, beside each other."""
    try:
        for build in bench.builds.values():
            say(f"starting the service: {build.name}")
            build.ask("serve", adapters=adapters, cache=cache)
        yield bench.builds
    finally:
        for build in bench.builds.values():
            build.ask("stop")


def speed(n: int) -> Any:
    @contextmanager
    def open_both(bench: Bench) -> Iterator[Measure]:
        texts = bench.texts(bench.options.few or TEXTS[n])
        with services(bench, ONE) as builds:
            for build in builds.values():
                build.ask("through", pairs=["is-en"], texts=texts[: max(4, n)], n=n)
            yield lambda side: bench.rate(builds[side].ask("through", pairs=["is-en"], texts=texts, n=n))

    return open_both


@contextmanager
def mixed(bench: Bench) -> Iterator[Measure]:
    texts = bench.texts(bench.options.few or TEXTS[32])
    with services(bench, EIGHT) as builds:
        for build in builds.values():
            build.ask("through", pairs=list(PAIRS), texts=texts[:32], n=32)

        def measure(side: str) -> dict[str, Any]:
            one, many = (bench.rate(builds[side].ask("through", pairs=list(pairs), texts=texts, n=32)) for pairs in (PAIRS[:1], PAIRS))
            by_cpu = {"by_cpu": many["by_cpu"] / one["by_cpu"]} if "by_cpu" in one and "by_cpu" in many else {}
            return {"value": many["value"] / one["value"], **by_cpu, "one": one["value"], "mixed": many["value"]}

        yield measure


@contextmanager
def memory(bench: Bench) -> Iterator[Measure]:
    """A fresh service each time: at rest before its first request, a minute later, when what is no longer used has been unloaded, and after 40 requests."""

    def measure(side: str) -> dict[str, Any]:
        build = bench.builds[side]
        try:
            build.ask("serve", adapters=TWO, cache=True)
            at_rest = build.ask("rest")["mib"]
            time.sleep(0.0 if bench.options.few else IDLE)
            later = build.ask("rest")["mib"]
            for pair in ("is-en", "en-is"):
                build.ask("through", pairs=[pair], texts=bench.texts(20), n=4)
            return {"value": at_rest, "later": later, "after_40_requests": build.ask("rest")["mib"]}
        finally:
            build.ask("stop")

    yield measure


@contextmanager
def start(bench: Bench) -> Iterator[Measure]:
    for build in bench.builds.values():
        build.ask("start", adapters=TWO)  # converts, and reads all files into the system's cache

    def measure(side: str) -> dict[str, Any]:
        told = bench.builds[side].ask("start", adapters=TWO)
        return {"value": told["seconds"], "by_cpu": told["cpu"]}

    yield measure


@contextmanager
def live(bench: Bench) -> Iterator[Measure]:
    with services(bench, ONE, cache=True) as builds:
        yield lambda side: {"value": builds[side].ask("live")["seconds"]}


@contextmanager
def conversion(bench: Bench) -> Iterator[Measure]:
    def measure(side: str) -> dict[str, Any]:
        told = bench.builds[side].ask("convert", again=True)
        shutil.rmtree(told["model"])
        return {"value": told["mib"], "seconds": told["seconds"], "cpu": told["cpu"]}

    yield measure


@contextmanager
def size(bench: Bench) -> Iterator[Measure]:
    yield lambda side: {"value": bench.builds[side].ask("convert")["bytes"] / 1e6}


def tellmt(build: Build, folder: Path, *arguments: object) -> tuple[Any, float, float]:
    """A command of that build, in `folder`: its result, peak resident MiB, and processor seconds."""
    command = [sys.executable, "-P", "-m", "tellmt", *map(str, arguments), "--json"]
    child = subprocess.Popen(command, cwd=folder, env=build.env, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    result = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise BenchFailed(f"{build.name}: tellmt {arguments[0]} ended with exit code {child.returncode}")
    return json.loads(result or "null"), used.ru_maxrss / 1024, used.ru_utime + used.ru_stime


def _prepared(build: Build, tokens: int) -> Path:
    """A corpus of the examples, a mix of it, and a recipe, made by that build."""
    folder = build.work / f"training-{tokens}"
    if (folder / "mixed").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build.ask("stop")  # its process makes the cache that has the base
    examples = sorted((build.root / "examples" / "en-is").glob("*.tsv"))
    tellmt(build, folder, "corpus", "build", *examples, "--pair", "is-en", "--dev", 100, "--test", 0, "-o", "corpus")
    (folder / "recipe.toml").write_text(
        f'pair = "is-en"\nbase = "gemma-3-270m"\nseed = 1\n\n[mix]\nratio = 0.0\ntask_tokens = {tokens}\n\n[lora]\nrank = 16\nalpha = 32\n\n'
        f'[train]\nbatch_tokens = 512\nlearning_rate = 5e-4\ncompile = "off"\n\n[dev]\nevery = 1000\nsegments = {DEV}\n'
    )
    tellmt(build, folder, "mix", "--recipe", "recipe.toml", "--corpus", "corpus", "-o", "mixed")
    return folder


@contextmanager
def training(bench: Bench) -> Iterator[Measure]:
    tokens = FEW if bench.options.few else TRAINED
    folders = {name: _prepared(build, tokens) for name, build in bench.builds.items()}

    def measure(side: str) -> dict[str, Any]:
        began, folder = time.monotonic(), folders[side]
        arguments = ("train", "--mixed", "mixed", "--recipe", "recipe.toml", "--dev", "corpus", "-o", "adapter", "--force", "--restart")
        _, peak, cpu = tellmt(bench.builds[side], folder, *arguments)
        rows = [json.loads(line) for line in (folder / "adapter.run" / "metrics.jsonl").read_text().strip().split("\n")]
        steps = [(r["tokens"], r["seconds"]) for r in rows if "tokens" in r]
        # The first steps are warm-up.
        (first, first_s), (last, last_s) = steps[max(1, len(steps) // 5)], steps[-1]
        return {"value": peak, "tokens_per_s": (last - first) / (last_s - first_s), "cpu": cpu, "seconds": time.monotonic() - began}

    yield measure


def compared(figure: str, title: str, unit: str, aim: Aim | None) -> Comparison:
    return Comparison(figure, title, unit, "now", "before", aim)


FIGURES: dict[str, Figure] = {
    "one": Figure(speed(1), 5, (compared("one", "one request", "tokens/s", Aim(2.0)),)),
    "eight": Figure(speed(8), 5, (compared("eight", "8 requests", "tokens/s", Aim(1.7)),)),
    "thirty-two": Figure(speed(32), 5, (compared("thirty-two", "32 requests", "tokens/s", Aim(1.5)),)),
    "size": Figure(size, 1, (compared("size", "converted model on disk", "MB", Aim(0.5, least=False)),)),
    "memory": Figure(
        memory, 3,
        (
            compared("memory", "resident memory with two adapters at rest", "MiB", Aim(0.45, least=False)),
            Comparison("memory", "resident memory with two adapters a minute later", "MiB", "now", "before", Aim(0.45, least=False), key="later"),
            Comparison("memory", "resident memory with two adapters after 40 requests", "MiB", "now", "before", None, key="after_40_requests"),
        ),
    ),
    "live": Figure(live, 3, (compared("live", "new adapter to live", "s", Aim(0.33, least=False)),)),
    "conversion": Figure(conversion, 3, (compared("conversion", "peak memory of a conversion", "MiB", Aim(0.5, least=False)),)),
    "mixed": Figure(mixed, 3, (compared("mixed", "8 adapters mixed against 1 at 32 requests", "x", Aim(0.6, absolute=True)),)),
    "start": Figure(start, 5, (compared("start", "time to first answer from a warm cache", "s", Aim(0.5, least=False)),)),
    "training": Figure(
        training, 3,
        (
            compared("training", "peak memory of training", "MiB", Aim(0.75, least=False)),
            Comparison("training", "speed of training", "tokens/s", "now", "before", Aim(1.0), key="tokens_per_s"),
        ),
    ),
}  # fmt: skip
