#!/usr/bin/env python3
"""Where a training step's time goes, and how resident memory grows over a run: Markdown tables.

Runs `tellmt train` in this process on what bench_train.py trains on, with torch's profiler over some of its steps. Writes to standard output,
and to a file with -o.

    python -m benchmarks.training.profile_steps
    python -m benchmarks.training.profile_steps --tokens 60000 --first 60 --compile off -o profile.md
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.training.bench_train import BenchFailed, prepare

ATTENTION, LINEAR, LORA = "attention: products (and softmax, where it is not compiled)", "linear layers of the base", "LoRA products"
FUSED, OUTPUT, OPTIMISER = "norms, rotation, activations, residuals", "output layer and loss", "optimiser and gradients' sums"
DATA, OTHER, BETWEEN = "data", "everything else", "Python between operations"
MATMULS = ("aten::mm", "aten::addmm", "aten::addmm_", "mkldnn::_linear_pointwise", "aten::mkldnn_linear", "mkl::_mkl_linear", "aten::_addmm_activation")
ATTENDING = ("aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::_softmax_backward_data", "_scaled_dot_product", "flash_attention", "efficient_attention")
# What norms, rotations and activations are made of where nothing is compiled, and what compiled code is called where it is.
POINTWISE = (
    "mul",
    "add",
    "pow",
    "rsqrt",
    "mean",
    "neg",
    "cat",
    "gelu",
    "silu",
    "sum",
    "copy_",
    "div",
    "sub",
    "tanh",
    "slice_backward",
    "cos",
    "sin",
    "fill_",
    "where",
)
COMPILED = ("compiled", "graph_", "cpp_fused", "triton_", "inductor")
STEPS_SHOWN = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1000)


def part_of(event: Any, rank: int) -> str:
    """Which row of the table an event's own time belongs to: the scope it was measured in, or else what the operation is."""
    above = event
    while above is not None:
        if above.name in (OUTPUT, OPTIMISER, DATA):
            return str(above.name)
        above = above.cpu_parent
    name = event.name
    if name in MATMULS:
        return LORA if any(rank in shape for shape in event.input_shapes if isinstance(shape, list | tuple)) else LINEAR
    if any(word in name for word in ATTENDING):
        return ATTENTION
    if any(word in name.lower() for word in COMPILED) or name.removeprefix("aten::").rstrip("_") in {p.rstrip("_") for p in POINTWISE}:
        return FUSED
    return OTHER


def shares(events: Iterable[Any], rank: int, wall: float, cuda: bool) -> list[tuple[str, float]]:
    """(part, seconds), the largest first, of the operations' own times; what is missing from `wall` seconds was spent between them."""
    seconds_of: dict[str, float] = {}
    for event in events:
        self_seconds = (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
        part = part_of(event, rank)
        seconds_of[part] = seconds_of.get(part, 0.0) + self_seconds
    seconds_of[BETWEEN] = max(0.0, wall - sum(seconds_of.values()))
    return sorted(seconds_of.items(), key=lambda item: -item[1])


def resident() -> tuple[int, int, int]:
    """MiB in memory now, of these not backed by a file, and the most there ever were. Linux only; zeros elsewhere."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().split("\n") if ":" in line)
    except OSError:
        return 0, 0, 0
    now, anonymous, peak = (int(rows[key].split()[0]) // 1024 for key in ("VmRSS", "RssAnon", "VmHWM"))
    return now, anonymous, peak


class StepProfile:
    """Wraps the trainer's own parts while it runs: the profiler goes on after `first` steps and off after `count` more."""

    def __init__(self, first: int, count: int):
        # torch is left for the trainer to load, which may set what torch reads on loading.
        self.first, self.count = first, count
        self.profiler: Any = None
        self.memory: list[tuple[str, int, int, int]] = []
        self.wall = 0.0
        self.tokens = self.done = 0

    def wrap(self) -> None:
        import train.model
        import train.optimiser
        import train.stepper

        scoped(train.model, "output_loss", OUTPUT)
        for name in ("add_gradients", "step"):
            scoped(train.optimiser.MasterWeights, name, OPTIMISER)
        scoped(train.stepper.Stepper, "_batches", DATA)
        scoped(train.model.Batch, "to", DATA)
        inner_init, inner_step = train.stepper.Stepper.__init__, train.stepper.Stepper.step
        measured = self

        def init(stepper: Any, *positional: Any, **keys: Any) -> None:
            measured.memory.append(("libraries and data loaded", *resident()))
            inner_init(stepper, *positional, **keys)
            measured.memory.append(("base and adapter loaded", *resident()))

        def step(stepper: Any, number: int, planned: Any, *positional: Any, **keys: Any) -> Any:
            return measured.one(number, planned, lambda: inner_step(stepper, number, planned, *positional, **keys))

        train.stepper.Stepper.__init__ = init  # type: ignore[method-assign,assignment]
        train.stepper.Stepper.step = step  # type: ignore[method-assign,assignment]

    def one(self, number: int, planned: Any, work: Callable[[], Any]) -> Any:
        import time

        import torch

        profiled = self.first <= number < self.first + self.count
        if number == self.first:
            activities = [torch.profiler.ProfilerActivity.CPU] + ([torch.profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
            self.profiler = torch.profiler.profile(activities=activities, record_shapes=True)
            self.profiler.start()
        began = time.perf_counter()
        result = work()
        if profiled:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.wall += time.perf_counter() - began
            self.tokens += planned.tokens
            self.done += 1
            if self.done == self.count:
                self.profiler.stop()
        if number + 1 in STEPS_SHOWN:
            self.memory.append((f"after step {number + 1:,}", *resident()))
        return result


def scoped(owner: Any, name: str, scope: str) -> None:
    """Let the profiler see `owner.name` under the name `scope`."""
    import torch

    inner = getattr(owner, name)

    def wrapped(*positional: Any, **keys: Any) -> Any:
        with torch.profiler.record_function(scope):
            return inner(*positional, **keys)

    setattr(owner, name, wrapped)


def report(measured: StepProfile, rank: int, lines: list[str]) -> str:
    import torch

    rows = shares(measured.profiler.events(), rank, measured.wall, torch.cuda.is_available())
    total = sum(seconds for _, seconds in rows)
    lines += ["", "| part | share | ms a step |", "|---|---:|---:|"]
    lines += [f"| {part} | {seconds / total:.1%} | {1000 * seconds / measured.done:,.1f} |" for part, seconds in rows]
    lines += ["", f"{measured.done} steps, {measured.tokens:,} tokens, {measured.wall:.1f} s with the profiler on.", ""]
    lines += ["| | resident, MiB | of these not from files | peak so far |", "|---|---:|---:|---:|"]
    lines += [f"| {when} | {now:,} | {anonymous:,} | {peak:,} |" for when, now, anonymous, peak in measured.memory]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=12_000, help="tokens to train on, once  [default: 12000]")
    parser.add_argument("--corpus", type=Path, help="a directory made by corpus build  [default: the sample in examples/]")
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--compile", choices=("on", "off"), default="on")
    parser.add_argument("--first", type=int, default=10, help="steps before the profiler is switched on  [default: 10]")
    parser.add_argument("--steps", type=int, default=10, help="steps it looks at  [default: 10]")
    parser.add_argument("-o", "--out", type=Path, help="write the tables there too")
    options = parser.parse_args()
    from tell.machine import cores, give_back
    from tellmt.cli import main as tellmt

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        try:
            _, inputs = prepare(work, options)
        except BenchFailed as e:
            print(f"profile: {e}", file=sys.stderr)
            return 1
        examples, tokens = len(inputs.data), sum(len(d.ids) for d in inputs.data)
        # What preparing took is not the trainer's.
        del inputs
        give_back()
        measured = StepProfile(options.first, options.steps)
        measured.wrap()
        if code := tellmt(["train", "--recipe", str(work / "recipe.toml"), "--mixed", str(work / "mixed"), "-o", str(work / "adapter")]):
            return code
    if measured.done < options.steps:
        print(
            f"profile: the run ended before the profiler did: found {measured.done} profiled steps, valid: {options.steps}; ask for more --tokens",
            file=sys.stderr,
        )
        return 1
    where = f"{platform.system()} {platform.machine()}, {cores()} core(s), load {os.getloadavg()[0]:.1f}"
    text = report(measured, 16, [f"{options.base}, {where}; {examples:,} examples, {tokens:,} tokens; compile {options.compile}"])
    print(text, end="")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
