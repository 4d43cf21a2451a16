"""`tellmt train --dry-run`: what a run will take, measured on a few of its own micro-batches. Reads what training reads, writes nothing."""

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
from train.distributed import Ranks
from train.inputs import read_inputs
from train.loop import compiled
from train.plan import make_plan

# Micro-batches that are timed, and the seconds after which no further one is begun.
TIMED, SECONDS = 24, 30.0
# A micro-batch that took so many times what the quickest say of its cost had something compiled first, and is timed again.
COMPILED = 3.0
# Steps whose micro-batches are looked at; the others are taken to be like them.
LOOKED_AT = 400


def peak_memory(cuda: bool) -> int:
    """The most memory (bytes) that this process held so far: of the GPU if it has one, else of the machine."""
    if cuda:
        import torch

        return int(torch.cuda.max_memory_reserved())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _again(took: dict[int, float], cost: Callable[[int], float], timed: Callable[[int], float]) -> float:
    """Time again what had code compiled for it: a micro-batch of one example wants other code than one of several. Returns the seconds that went into
    that, which a run has once."""
    quickest = min(seconds / cost(n) for n, seconds in took.items())
    once = 0.0
    for n, seconds in list(took.items()):
        if seconds > COMPILED * quickest * cost(n):
            took[n] = min(seconds, timed(n))
            once += seconds - took[n]
    return once


def estimate(mixed: Path, recipe: Recipe) -> dict[str, Any]:
    """Tokens and steps, exactly; seconds and bytes as this machine shows them now. Raises RecipeError under torchrun, and what training raises."""
    began = time.monotonic()
    ranks = Ranks()
    if ranks.count > 1:
        raise RecipeError("an estimate is made by one process", place="--dry-run", found=f"{ranks.count} processes", valid="the same command without torchrun")
    inputs = read_inputs(mixed)
    plan = make_plan(inputs.data, recipe.train, recipe.seed, reshuffle=inputs.mix.get("order", "shuffled") == "shuffled")
    ranks.threads(recipe.train.threads)
    from train.model import backward
    from train.stepper import Stepper

    stepper = Stepper(inputs, recipe, ranks)
    tokens = sum(s.tokens for s in plan)
    with_compiler = compiled(recipe.train, tokens, ranks)
    stepper.ready(with_compiler)
    stepper.words.draw(0)
    loaded = time.monotonic() - began

    draw = random.Random("estimate")
    steps = plan if len(plan) <= LOOKED_AT else draw.sample(plan, LOOKED_AT)
    micro = [m for s in steps for m in stepper.cut(s, stepper.limit)]
    costs = [stepper.cost(m) for m in micro]
    order = sorted(range(len(micro)), key=lambda i: (costs[i], i))

    def timed(i: int) -> float:
        start = time.monotonic()
        backward(stepper.model, stepper.batch(micro[i]).to(ranks.device), 1.0, stepper.words)
        stepper.masters.collect()
        if ranks.cuda:
            import torch

            torch.cuda.synchronize()
        return time.monotonic() - start

    with progress() as bar:
        task = bar.add_task("measuring", total=TIMED + 4)
        # The largest says what memory it takes; between them they meet the shapes that compiled code is made for.
        start = time.monotonic()
        for i in (order[-1], order[0], order[len(order) // 2], order[-1]):
            timed(i)
            bar.advance(task)
        warm = time.monotonic() - start
        # Evenly over all micro-batches by their cost, so that each kind counts for as much as it will take.
        upto = 0.0
        marks: list[int] = []
        total, every = sum(costs), sum(costs) / TIMED
        for i in order:
            while len(marks) < TIMED and (len(marks) + 0.5) * every < upto + costs[i]:
                marks.append(i)
            upto += costs[i]
        draw.shuffle(marks)
        took: dict[int, float] = {}
        for n, i in enumerate(marks):
            if n >= 6 and sum(took.values()) > SECONDS:
                break
            took[n] = timed(i)
            bar.advance(task)
        if with_compiler:
            warm += _again(took, lambda n: costs[marks[n]], lambda n: timed(marks[n]))
        spent, done = sum(took.values()), sum(costs[marks[n]] for n in took)
        start = time.monotonic()
        stepper.masters.step(0.0, recipe.train.max_grad_norm)
        update = time.monotonic() - start
    stepper.close()
    scale = tokens / sum(s.tokens for s in steps)
    training = spent / done * total * scale + update * len(plan)
    saved = 3 * 4 * sum(m.numel() for m in stepper.masters.masters.values())
    return {
        "examples": len(inputs.data),
        "epochs": recipe.train.epochs,
        "tokens": tokens,
        "task_tokens": sum(s.task_tokens for s in plan),
        "steps": len(plan),
        "micro_batches": round(len(micro) * scale),
        "padding": 1 - sum(s.tokens for s in steps) / max(1, total - len(micro) * stepper.cost_of_pass),
        "dtype": stepper.dtype,
        "device": ranks.device,
        "compiled": with_compiler,
        "seconds_to_start": loaded + (warm if with_compiler else 0.0),
        "seconds": training,
        "tokens_per_second": tokens / training,
        "memory": peak_memory(ranks.cuda),
        # Two checkpoints are kept while a third is written.
        "disk": 3 * saved,
    }
