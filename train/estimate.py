"""`tellmt train --dry-run`: the time and memory of a run, measured on a few of its own micro-batches. Reads what training reads, writes nothing."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tell.console import progress
from tell.errors import RecipeError
from train.config import Recipe
from train.distributed import ProcessGroup
from train.inputs import read_inputs
from train.loop import should_compile
from train.plan import make_plan
from train.servable import check_servable

# Micro-batches that are timed, and the seconds after which no further one is begun.
TIMED, SECONDS = 24, 30.0
# A micro-batch that took this many times longer than the quickest, relative to its cost, is taken to have compiled code first, and is timed again.
COMPILED = 3.0
# Steps whose micro-batches are sampled; the others are assumed to be like them.
LOOKED_AT = 400


def peak_memory(cuda: bool) -> int:
    """The most memory (bytes) that this process held so far: of the GPU if it has one, else of the machine."""
    if cuda:
        import torch

        return int(torch.cuda.max_memory_reserved())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _retime_compiled(seconds_of: dict[int, float], cost: Callable[[int], float], timed: Callable[[int], float]) -> float:
    """Time the micro-batches again that compiled code first: one example in a micro-batch needs other code than several. Returns the seconds that
    compiling took, which a run spends once."""
    quickest = min(seconds / cost(n) for n, seconds in seconds_of.items())
    once = 0.0
    for n, seconds in list(seconds_of.items()):
        if seconds > COMPILED * quickest * cost(n):
            seconds_of[n] = min(seconds, timed(n))
            once += seconds - seconds_of[n]
    return once


def estimate(mixed: Path, recipe: Recipe, engine: str | None = None) -> dict[str, Any]:
    """Tokens and steps are exact; seconds and bytes are measured on this machine now. Raises RecipeError under torchrun, and what training raises."""
    began = time.monotonic()
    processes = ProcessGroup()
    if processes.count > 1:
        raise RecipeError(
            "an estimate is made by one process", place="--dry-run", found=f"{processes.count} processes", valid="the same command without torchrun"
        )
    inputs = read_inputs(mixed)
    check_servable(inputs.base, engine)
    plan = make_plan(inputs.data, recipe.train, recipe.seed, reshuffle=inputs.mix.get("order", "shuffled") == "shuffled")
    processes.threads(recipe.train.threads)
    from train.model import backward
    from train.stepper import Stepper

    stepper = Stepper(inputs, recipe, processes)
    stepper.include_likely()
    tokens = sum(s.tokens for s in plan)
    with_compiler = should_compile(recipe.train, tokens, stepper.dtype, processes)
    stepper.prepare(with_compiler)
    stepper.words.draw(0)
    loaded = time.monotonic() - began

    generator = random.Random("estimate")
    steps = plan if len(plan) <= LOOKED_AT else generator.sample(plan, LOOKED_AT)
    micro_batches = [m for s in steps for m in stepper.micro_batches_of(s, stepper.limit)]
    costs = [stepper.cost(m) for m in micro_batches]
    order = sorted(range(len(micro_batches)), key=lambda i: (costs[i], i))

    def timed(i: int) -> float:
        start = time.monotonic()
        backward(stepper.model, stepper.batch(micro_batches[i]).to(processes.device), 1.0, stepper.words)
        stepper.masters.add_gradients()
        if processes.cuda:
            import torch

            torch.cuda.synchronize()
        return time.monotonic() - start

    with progress() as bar:
        task = bar.add_task("measuring", total=TIMED + 4)
        # The largest shows the peak of memory; together they have the shapes that code is compiled for.
        start = time.monotonic()
        for i in (order[-1], order[0], order[len(order) // 2], order[-1]):
            timed(i)
            bar.advance(task)
        warm = time.monotonic() - start
        # Sampled evenly over the total cost, so that each kind of micro-batch counts for its share of the run.
        cost_so_far = 0.0
        sampled: list[int] = []
        total, every = sum(costs), sum(costs) / TIMED
        for i in order:
            while len(sampled) < TIMED and (len(sampled) + 0.5) * every < cost_so_far + costs[i]:
                sampled.append(i)
            cost_so_far += costs[i]
        generator.shuffle(sampled)
        seconds_of: dict[int, float] = {}
        for n, i in enumerate(sampled):
            if n >= 6 and sum(seconds_of.values()) > SECONDS:
                break
            seconds_of[n] = timed(i)
            bar.advance(task)
        if with_compiler:
            warm += _retime_compiled(seconds_of, lambda n: costs[sampled[n]], lambda n: timed(sampled[n]))
        timed_seconds, timed_cost = sum(seconds_of.values()), sum(costs[sampled[n]] for n in seconds_of)
        start = time.monotonic()
        stepper.masters.step(0.0, recipe.train.max_grad_norm)
        update = time.monotonic() - start
    stepper.close()
    scale = tokens / sum(s.tokens for s in steps)
    training = timed_seconds / timed_cost * total * scale + update * len(plan)
    saved = 3 * 4 * sum(m.numel() for m in stepper.masters.masters.values())
    return {
        "examples": len(inputs.data),
        "epochs": recipe.train.epochs,
        "tokens": tokens,
        "task_tokens": sum(s.task_tokens for s in plan),
        "steps": len(plan),
        "micro_batches": round(len(micro_batches) * scale),
        "padding": 1 - sum(s.tokens for s in steps) / max(1, total - len(micro_batches) * stepper.cost_of_pass),
        "dtype": stepper.dtype,
        "device": processes.device,
        "compiled": with_compiler,
        "seconds_to_start": loaded + (warm if with_compiler else 0.0),
        "seconds": training,
        "tokens_per_second": tokens / training,
        "memory": peak_memory(processes.cuda),
        # Two checkpoints are kept while a third is written.
        "disk": 3 * saved,
    }
