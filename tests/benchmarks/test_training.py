"""benchmarks/training/bench_train.py without training anything: what it prints, when a comparison is void, and that everybody must have seen the same ids."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load("bench_train")


def load(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.training.{name}")


def result(bench: ModuleType, name: str, speed: float, loss: float, memory: int, steps: int = 10, **more: Any) -> Any:
    """Ten steps of 100 tokens; the first two take a minute each, as compiling does."""
    rows = [(n, 100 * n, 60.0 * min(n, 2) + 100 / speed * max(0, n - 2)) for n in range(1, steps + 1)]
    return bench.Result(name, rows, 120 + 1000 / speed, {"resident": memory, **more}, loss)


def test_ratio_lines(bench: ModuleType) -> None:
    ours = result(bench, "ours", 340, 2.010, 1800)
    others = [result(bench, "trl-default", 100, 2.0, 4000), result(bench, "trl-best", 200, 2.04, 3600)]
    lines, good = bench.ratio_lines(ours, others)
    assert good
    assert lines == [
        "held-out loss against TRL default: +0.0100 nats per token (at most 0.064 either way)",
        "tokens/s against TRL default: 3.40x",
        "peak memory against TRL default: 0.45x",
        "whole time, start-up and compiling included, against TRL default: 0.95x",
        "held-out loss against TRL best: -0.0300 nats per token (at most 0.064 either way)",
        "tokens/s against TRL best: 1.70x",
        "peak memory against TRL best: 0.50x",
        "whole time, start-up and compiling included, against TRL best: 0.98x",
    ]


@pytest.mark.parametrize("loss", [2.065, 1.935, float("nan")])
def test_another_loss_voids_the_comparison(bench: ModuleType, loss: float) -> None:
    """Worse, better or no number: only that comparison is void, and none of its ratios is printed."""
    others = [result(bench, "trl-default", 100, 2.0, 4000), result(bench, "trl-best", 200, loss, 3600)]
    lines, good = bench.ratio_lines(result(bench, "ours", 340, 2.0, 1800), others)
    assert not good
    assert "tokens/s against TRL default: 3.40x" in lines
    assert lines[-1] == "VOID against TRL best: the adapters do not end at the same loss"
    assert not any("x" in line.split()[-1] and "TRL best" in line for line in lines)


def test_memory_is_the_gpus_where_there_is_one(bench: ModuleType) -> None:
    ours, other = (result(bench, n, 100, 2.0, m, allocated=a, reserved=2 * a) for n, m, a in (("ours", 9000, 1000), ("trl-default", 3000, 4000)))
    assert "peak memory against TRL default: 0.25x" in bench.ratio_lines(ours, [other])[0]
    table_lines = bench.table([ours, other], 5.0)
    assert "reserved, MiB" in table_lines[0] and "2,000" in table_lines[2] and len({line.count("|") for line in table_lines[:4]}) == 1


def test_too_few_steps_to_time(bench: ModuleType) -> None:
    with pytest.raises(bench.BenchFailed, match="found 3, valid: at least 4"):
        result(bench, "ours", 100, 2.0, 1000, steps=3).speed  # noqa: B018


OURS = [([2, 5, 6, 7, 1], 3), ([2, 9, 8, 1], 2)]


def test_the_same_examples_in_any_order(bench: ModuleType) -> None:
    bench.same_examples(OURS, [([2, 9, 8, 1], [-100, -100, 8, 1]), ([2, 5, 6, 7, 1], [-100, -100, -100, 7, 1])])


@pytest.mark.parametrize(
    "theirs",
    [
        [([2, 9, 8, 1], [-100, -100, 8, 1])],
        [([2, 9, 8, 1], [-100, -100, 8, 1]), ([5, 6, 7, 1], [-100, -100, 7, 1])],
        [([2, 9, 8, 1], [-100, -100, 8, 1]), ([2, 5, 6, 7, 1], [-100, 5, 6, 7, 1])],
        [([2, 9, 8, 1], [-100, -100, 8, 1]), ([2, 5, 6, 7], [-100, -100, -100, 7])],
        [([2, 9, 8, 1], [-100, -100, 8, 1]), ([2, 5, 6, 7, 1], [-100, -100, -100, 7, -100])],
    ],
    ids=["one is missing", "no BOS", "loss on the prompt", "cut off", "no loss on EOS"],
)
def test_other_examples_are_found(bench: ModuleType, theirs: list[tuple[list[int], list[int]]]) -> None:
    with pytest.raises(bench.BenchFailed, match="train on different data"):
        bench.same_examples(OURS, theirs)


def test_packed_rows_are_taken_apart(bench: ModuleType) -> None:
    trl = load("trl_contestant")
    rows = [{"input_ids": [2, 5, 1, 2, 9, 8, 1], "labels": [-100, 5, 1, -100, -100, 8, 1], "seq_lengths": [3, 4]}, {"input_ids": [2, 1], "labels": [-100, 1]}]
    assert list(trl.trained_on(rows)) == [([2, 5, 1], [-100, 5, 1]), ([2, 9, 8, 1], [-100, -100, 8, 1]), ([2, 1], [-100, 1])]


def test_steps_are_as_many_as_theirs(bench: ModuleType) -> None:
    from train.config import TrainOptions
    from train.plan import Tokenised, make_plan

    data = [Tokenised(list(range(20 + 7 * n % 61)), 5, True) for n in range(203)]
    tokens = bench.equal_steps(data, 8)
    assert len(make_plan(data, TrainOptions(batch_tokens=tokens), bench.SEED)) == 26


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.training.bench_train", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_help_and_bad_arguments() -> None:
    assert "--tokens" in run("--help").stdout
    bad = run("--only", "ours,unsloth")
    assert bad.returncode == 2 and "found unsloth; valid: ours, trl-default, trl-best, trl-float32, try" in bad.stderr
    assert run("--try", json.dumps([1])).returncode == 2


def test_make_knows_it() -> None:
    commands = subprocess.run(["make", "-n", "-s", "bench-train"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert commands[:2] == ["python3 scripts/setup_env.py bench", ".venv/bin/python -m benchmarks.training.bench_train "]


class Event:
    """What torch's profiler knows of an operation, as far as it is asked."""

    def __init__(self, name: str, microseconds: float, shapes: tuple[list[int], ...] = (), parent: Event | None = None):
        self.name, self.self_cpu_time_total, self.input_shapes, self.cpu_parent = name, microseconds, list(shapes), parent


def test_where_a_steps_time_goes(bench: ModuleType) -> None:
    profile = load("profile_steps")
    output = Event(profile.OUTPUT, 1e6)
    events = [
        output,
        Event("aten::mm", 2e6, ([300, 640], [640, 9000]), Event("aten::linear", 0, (), output)),
        Event("aten::mm", 5e6, ([300, 640], [640, 2048])),
        Event("aten::addmm", 1.5e6, ([300, 640], [640, 16])),
        Event("aten::bmm", 1e6, ([4, 70, 256], [4, 256, 70])),
        Event("CompiledFunctionBackward", 3e6),
        Event("aten::rsqrt", 0.25e6),
        Event("aten::embedding", 0.25e6),
    ]
    assert profile.shares(events, 16, 15.0, cuda=False) == [
        (profile.LINEAR, 5.0),
        (profile.FUSED, 3.25),
        (profile.OUTPUT, 3.0),
        (profile.LORA, 1.5),
        (profile.ATTENTION, 1.0),
        (profile.BETWEEN, 1.0),
        (profile.OTHER, 0.25),
    ]
