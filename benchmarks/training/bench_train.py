#!/usr/bin/env python3
"""Tokens per second and peak memory of `tellmt train` against TRL's SFTTrainer, as ratios, on this machine.

Reads the sample in examples/ or a corpus directory, and a prepared base. Writes mix, adapters and figures into a temporary directory, or into
--keep. Everybody gets the same base, the same examples as the same ids with the loss on the same of them, a LoRA of rank 16 on all linear
layers, AdamW at one constant learning rate, and as many optimiser steps of as many examples on average; each runs in a process of its own, one
after the other. A ratio counts only if both adapters end at the same loss on segments that none has seen.

    make bench-train
    python -m benchmarks.training.bench_train --corpus DIR --tokens 12000 --json
    python -m benchmarks.training.bench_train --only trl-default,try --try '{"packing": true, "gradient_checkpointing": false}'
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.training.trl_contestant import BATCH, settings_for

ROOT = Path(__file__).resolve().parents[2]
TELLMT = [sys.executable, "-m", "tellmt"]
NAMES = {"ours": "this trainer", "trl-default": "TRL default", "trl-best": "TRL best", "trl-float32": "TRL default in float32", "try": "TRL with --try"}
SEED = 1
LEARNING_RATE = 5e-4
# Nats per held-out token: equal trainings that differ in order and first weights end less than this apart in 19 of 20 cases (noise.py).
TOLERANCE = 0.064


class BenchFailed(Exception):
    """What went wrong, in words."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One contestant: `rows` are (step, tokens so far, seconds since the first step began), one a step."""

    name: str
    rows: list[tuple[int, int, float]]
    wall: float
    peak: dict[str, int]
    # Nats per token on the held-out segments.
    loss: float
    told: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Tokens per second without the first fifth of the steps, in which everybody warms up and compiles."""
        after = self.rows[warm_up(len(self.rows)) - 1]
        last = self.rows[-1]
        return (last[1] - after[1]) / max(1e-9, last[2] - after[2])

    @property
    def memory(self) -> int:
        """MiB of the GPU where there is one, else of the process."""
        return self.peak.get("allocated", self.peak["resident"])


def warm_up(steps: int) -> int:
    """Steps that are left out of the timing. Raises BenchFailed when none would be left to time."""
    if steps < 4:
        raise BenchFailed(f"too few steps to time: found {steps}, valid: at least 4; ask for more --tokens")
    return max(2, steps // 5)


def same_examples(ours: Iterable[tuple[Sequence[int], int]], theirs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> None:
    """Whether (ids, where the loss begins) and (ids, labels with -100 where there is no loss) are the same examples. Raises BenchFailed."""
    our_examples = sorted((list(ids), [-100] * start + list(ids[start:])) for ids, start in ours)
    their_examples = sorted((list(ids), list(labels)) for ids, labels in theirs)
    if len(our_examples) != len(their_examples):
        raise BenchFailed(f"the contestants train on different data: {len(our_examples)} examples here, {len(their_examples)} there")
    for n, (a, b) in enumerate(zip(our_examples, their_examples, strict=True)):
        if a != b:
            raise BenchFailed(f"the contestants train on different data: of the sorted examples, number {n + 1} is {a} here and {b} there")


def ratio_lines(ours: Result, others: Sequence[Result], tolerance: float = TOLERANCE) -> tuple[list[str], bool]:
    """The lines that compare, and whether every comparison counts."""
    lines, good = [], True
    for other in others:
        name, apart = NAMES[other.name], ours.loss - other.loss
        lines.append(f"held-out loss against {name}: {apart:+.4f} nats per token (at most {tolerance:g} either way)")
        if not abs(apart) <= tolerance:
            lines.append(f"VOID against {name}: the adapters do not end at the same loss")
            good = False
            continue
        lines.append(f"tokens/s against {name}: {ours.speed / other.speed:.2f}x")
        lines.append(f"peak memory against {name}: {ours.memory / other.memory:.2f}x")
        lines.append(f"whole time, start-up and compiling included, against {name}: {ours.wall / other.wall:.2f}x")
    return lines, good


def table(results: Sequence[Result], before: float) -> list[str]:
    """A Markdown table of everybody's own figures."""
    gpu = any("allocated" in r.peak for r in results)
    head = [
        "",
        "tokens/s",
        "peak memory, MiB",
        *(["reserved, MiB"] if gpu else []),
        "helper processes, MiB",
        "whole time, s",
        "steps",
        "tokens",
        "held-out loss",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for r in results:
        reserved = [f"{r.peak.get('reserved', 0):,}"] if gpu else []
        cells = [NAMES[r.name], f"{r.speed:,.1f}", f"{r.memory:,}", *reserved, f"{r.peak.get('helpers', 0):,}", f"{r.wall:,.1f}", f"{len(r.rows):,}"]
        lines.append("| " + " | ".join([*cells, f"{r.rows[-1][1]:,}", f"{r.loss:.4f}"]) + " |")
    return [*lines, "", f"Held-out loss before training: {before:.4f} nats per token."]


def tellmt(*arguments: object) -> Any:
    done = subprocess.run([*TELLMT, "--json", *map(str, arguments)], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise BenchFailed(f"tellmt {arguments[0]} ended with exit code {done.returncode}")
    return json.loads(done.stdout)


def recipe(work: Path, pair: str, settings: argparse.Namespace, batch_tokens: int = 2048) -> Path:
    """The recipe of the run; only `batch_tokens` is known after the mix alone."""
    path = work / "recipe.toml"
    # auto compiles from 50,000 tokens on; a benchmark is shorter than the runs it stands for, so it asks. The whole time shows what that costs.
    path.write_text(
        f'pair = "{pair}"\nbase = "{settings.base}"\nseed = {SEED}\n\n[mix]\nratio = 0.0\ntask_tokens = {settings.tokens}\n\n[lora]\nrank = 16\nalpha = 32\n\n'
        f'[train]\nbatch_tokens = {batch_tokens}\nlearning_rate = {LEARNING_RATE}\nschedule = "constant"\nwarmup = 0.0\ncompile = "{settings.compile}"\n'
    )
    return path


def equal_steps(data: Sequence[Any], per_step: int) -> int:
    """Tokens a step with which our steps are as many as those of `per_step` examples each."""
    from train.config import TrainOptions
    from train.plan import make_plan

    target_steps = math.ceil(len(data) / per_step)
    mean = sum(len(d.ids) for d in data) / target_steps

    def steps(tokens: int) -> int:
        return len(make_plan(data, TrainOptions(batch_tokens=tokens), SEED))

    candidates = sorted(range(max(64, int(mean * 0.7)), int(mean * 1.5) + 65), key=lambda t: abs(t - mean))
    return min(candidates[::5], key=lambda t: (abs(steps(t) - target_steps), abs(t - mean)))


def prepare(work: Path, settings: argparse.Namespace) -> tuple[Path, Any]:
    """Corpus and mix. Returns the corpus directory and the examples as ids."""
    from tell.extras import has_gpu
    from train.config import TrainOptions
    from train.inputs import read_inputs
    from train.model import pick_dtype

    corpus = settings.corpus
    if corpus is None:
        corpus = work / "corpus"
        tellmt("corpus", "build", *sorted((ROOT / "examples" / "en-is").glob("*.tsv")), "--pair", "is-en", "--dev", 100, "--test", 0, "-o", corpus)
    pair = json.loads((corpus / "corpus.json").read_text())["pair"]
    tellmt("mix", "--recipe", recipe(work, pair, settings), "--corpus", corpus, "-o", work / "mixed")
    inputs = read_inputs(work / "mixed")
    tokens = equal_steps(inputs.data, BATCH)
    recipe(work, pair, settings, tokens)
    dtype = pick_dtype(TrainOptions(), has_gpu())
    data_settings = {"base": str(inputs.base.path), "batch_tokens": tokens, "seed": SEED, "learning_rate": LEARNING_RATE, "dtype": dtype}
    (work / "data.json").write_text(json.dumps({**data_settings, "examples": [[d.ids, d.start] for d in inputs.data]}))
    return corpus, inputs


class Helpers(threading.Thread):
    """Watches the resident memory of a process's children, such as compilers: the peak of their sum, in MiB."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(1.0):
            self.peak = max(self.peak, sum(map(self._resident, self._below(self.pid))) // 1024)

    def _below(self, pid: int) -> list[int]:
        pids = []
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                children = [int(p) for p in file.read_text().split()]
            except OSError:
                continue
            pids += children + [p for child in children for p in self._below(child)]
        return pids

    def _resident(self, pid: int) -> int:
        try:
            rows = Path(f"/proc/{pid}/status").read_text().split("\n")
        except OSError:
            return 0
        return sum(int(row.split()[1]) for row in rows if row.startswith("VmRSS:"))


def compete(name: str, work: Path, settings: dict[str, Any]) -> tuple[float, dict[str, int], dict[str, Any]]:
    """Run one contestant. Returns its whole time, its peak memory in MiB, and what it told."""
    print(f"bench: {NAMES[name]}", file=sys.stderr, flush=True)
    folder = work / name
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.training.trl_contestant", name, str(work), json.dumps(settings)]
    child = subprocess.Popen(command, stdout=sys.stderr, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    helpers = Helpers(child.pid)
    helpers.start()
    try:
        # wait4 gives the peak memory of this one child.
        _, status, used = os.wait4(child.pid, 0)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    seconds = time.monotonic() - start
    helpers.over.set()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise BenchFailed(f"{NAMES[name]} ended with exit code {child.returncode}")
    report = json.loads((folder / "told.json").read_text())
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, {"resident": used.ru_maxrss * unit // 2**20, "helpers": helpers.peak, **report.pop("cuda")}, report


def losses(work: Path, names: Sequence[str], corpus: Path) -> dict[str, float]:
    """Nats per held-out token before training and after each contestant: every adapter under one card, so that `tellmt losses` measures all of them."""
    import torch
    from safetensors.torch import load_file, save_file

    from tell.adapter.card import CONFIG, WEIGHTS, read_card, write_card
    from tell.files import sha256_file

    card = read_card(work / "ours" / "adapter")
    by_name = {}
    for name in ("before", *names):
        adapter = work / name / "adapter"
        adapter.mkdir(parents=True, exist_ok=True)
        if name != "ours":
            tensors_of = load_file(work / ("ours" if name == "before" else name) / "adapter" / WEIGHTS)
            # A LoRA whose second matrix is zero, as it is before training, changes nothing.
            tensors = {n: torch.zeros_like(t) if name == "before" and "lora_B" in n else t for n, t in tensors_of.items()}
            save_file(tensors, adapter / WEIGHTS, metadata={"format": "pt"})
            (adapter / CONFIG).write_bytes((work / "ours" / "adapter" / CONFIG).read_bytes())
            write_card(adapter, card.model_copy(update={"files": {n: sha256_file(adapter / n) for n in (WEIGHTS, CONFIG)}}))
        by_name[name] = tellmt("losses", adapter, "--corpus", corpus, "--split", "dev", "-o", work / name / "losses.jsonl")["nats_per_token"]
    return by_name


def run(work: Path, options: argparse.Namespace) -> tuple[dict[str, Result], float, list[str]]:
    from tell.machine import cores

    corpus, inputs = prepare(work, options)
    total = sum(len(d.ids) for d in inputs.data)
    ran = {name: compete(name, work, options.tried if name == "try" else settings_for(name)) for name in options.only}
    for name, (_, _, report) in ran.items():
        if name != "ours":
            same_examples([(d.ids, d.start) for d in inputs.data], report.pop("examples"))
        if (trained_tokens := report["rows"][-1][1]) != total:
            raise BenchFailed(f"{NAMES[name]} did not train on every token once: found {trained_tokens:,}, valid: {total:,}")
    nats = losses(work, list(ran), corpus)
    results = {n: Result(n, [(s, t, x) for s, t, x in report.pop("rows")], wall, peak, nats[n], report) for n, (wall, peak, report) in ran.items()}
    where = f"{platform.system()} {platform.machine()}, {cores()} core(s), load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    lines = [
        f"Machine: {where}",
        f"Data: {len(inputs.data):,} examples, {total:,} tokens, seed {SEED}, learning rate {LEARNING_RATE} constant; {BATCH} examples a step on average",
        *(f"{NAMES[r.name]}: {json.dumps(r.told, sort_keys=True)}" for r in results.values()),
    ]
    return results, nats["before"], lines


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=12_000, help="tokens of prompts and responses to train on, once  [default: 12000]")
    parser.add_argument("--corpus", type=Path, help="a directory made by corpus build; its dev split is held out  [default: the sample in examples/]")
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--compile", choices=("on", "off"), default="on", help="whether this trainer compiles, as it does by itself from 50,000 tokens on")
    parser.add_argument("--only", default="ours,trl-default,trl-best", help=f"contestants, of {', '.join(NAMES)}; ours always runs  [default: all but try]")
    parser.add_argument("--try", dest="tried", default="{}", help="keys of SFTConfig for the contestant try, as JSON")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything behind")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [n for n in names if n not in NAMES]:
        parser.error(f"--only: found {', '.join(unknown)}; valid: {', '.join(NAMES)}")
    options.only = ["ours", *(n for n in dict.fromkeys(names) if n != "ours")]
    try:
        options.tried = json.loads(options.tried)
    except ValueError as e:
        parser.error(f"--try: {e}")
    if not isinstance(options.tried, dict):
        parser.error("--try: not a JSON object")
    return options


def main() -> int:
    options = parsed()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            work = options.keep or Path(scratch)
            work.mkdir(parents=True, exist_ok=True)
            results, before, lines = run(work, options)
    except BenchFailed as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
    ratios, good = ratio_lines(results["ours"], [r for n, r in results.items() if n != "ours"])
    if options.json:
        shown = [{**dataclasses.asdict(r), "tokens_per_second": round(r.speed, 2)} for r in results.values()]
        print(json.dumps({"before": before, "contestants": shown, "ratios": ratios, "counts": good}))
    else:
        print("\n".join([*lines, "", *table(list(results.values()), before), "", *ratios]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
