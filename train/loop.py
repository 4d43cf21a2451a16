"""The optimiser steps of a run: from the newest checkpoint to the end of the plan, or to the signal that stops it."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tell.errors import RecipeError, TellmtError
from tell.files import write_json
from tell.paths import cache_dir
from train.checkpoint import latest, save
from train.config import Recipe, TrainOptions
from train.inputs import Inputs
from train.plan import Step, learning_rate
from train.ranks import Ranks
from train.watch import Watch

# Tokens from which compiling pays: it takes about a minute, less once cached, and halves the time.
COMPILE_TOKENS = 50_000


class Stopped(TellmtError):
    """SIGTERM: the state is saved; exit code as the shell gives it."""

    exit_code = 143


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """What a finished run ends with: the model that holds the adapter, and what its card says of the training."""

    model: Any
    dtype: str
    device: str
    steps: int
    tokens: int
    seconds: float
    final_loss: float


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying in the middle of a step."""
    seen: list[int] = []
    old = {s: signal.signal(s, lambda number, frame: seen.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def train(inputs: Inputs, recipe: Recipe, plan: list[Step], run_dir: Path, ranks: Ranks) -> Trained:
    """Every step that the checkpoints in `run_dir` have not done yet. Raises Stopped, KeyboardInterrupt, TellmtError when the loss is no number."""
    from train.stepper import Stepper

    options = recipe.train
    stepper = Stepper(inputs, recipe, ranks)
    state: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "recent": [], "micro_tokens": options.micro_tokens}
    first = 0
    if found := ranks.said_by_first(latest(run_dir) if ranks.first else None):
        first, tensors, saved = found
        state |= saved
        stepper.masters.restore(tensors, first)
        stepper.limit = state["micro_tokens"]
        ranks.say(f"going on from the checkpoint after step {first:,} of {len(plan):,}")
    stepper.ready(compiled(options, sum(s.tokens for s in plan[first:]), ranks))
    began = time.monotonic() - state["seconds"]
    with closing(stepper), _signals() as stop, (
        Watch(run_dir, recipe, len(plan), first, stepper.dtype) if ranks.first else nullcontext()
    ) as watch:
        for number in range(first, len(plan)):
            step = plan[number]
            rate = learning_rate(number, len(plan), options)
            loss, norm, stopped = stepper.step(number, step, rate, plan[number + 1] if number + 1 < len(plan) else None, stop)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise _not_a_number(run_dir, number + 1, loss, norm, [inputs.names[i] for i in sorted(step.members)])
            state["tokens"] += step.tokens
            state["recent"] = (state["recent"] + [loss])[-20:]
            state["seconds"] = time.monotonic() - began
            state["micro_tokens"] = stepper.limit
            row = {
                "step": number + 1,
                "loss": round(loss, 6),
                "learning_rate": rate,
                "gradient_norm": round(norm, 6),
                "tokens": state["tokens"],
                "seconds": round(state["seconds"], 2),
            }
            if watch:
                watch.step(row, _mean(state["recent"]), step.task_tokens / step.tokens)
            if ranks.first and (stopped or (number + 1) % options.save_steps == 0):
                save(run_dir, number + 1, stepper.masters.tensors(), state)
            if stopped:
                ranks.say(f"stopped after step {number + 1:,}; the same command goes on from here")
                if stopped[0] == signal.SIGINT:
                    raise KeyboardInterrupt
                raise Stopped("stopped by SIGTERM")
    return Trained(stepper.model, stepper.dtype, ranks.device, len(plan), state["tokens"], state["seconds"], _mean(state["recent"]))


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _not_a_number(run_dir: Path, step: int, loss: float, norm: float, examples: list[str]) -> TellmtError:
    """The error to raise, after the step's examples were written where it says."""
    file = run_dir / "non-finite.json"
    write_json(file, {"step": step, "loss": str(loss), "gradient_norm": str(norm), "examples": examples})
    return TellmtError(
        "the loss or its gradient is no longer a number",
        place=f"step {step}",
        found=f"loss {loss}, gradient norm {norm}",
        valid=f"a lower learning rate; the examples are listed in {file}",
    )


def compiled(options: TrainOptions, tokens: int, ranks: Ranks) -> bool:
    """Whether to compile a run of this many tokens. Raises RecipeError where the recipe insists and nothing can be compiled."""
    from train.model import compiles

    if options.compile == "off" or (options.compile == "auto" and tokens < COMPILE_TOKENS):
        return False
    # Compiled code is a cache like the others; torch's own default is the directory for temporary files.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))
    if compiles():
        return True
    if options.compile == "on":
        raise RecipeError("torch.compile does not work here", place="[train] compile", found="on", valid="a C++ compiler and Python's headers, or auto")
    ranks.say("not compiled: that would take a C++ compiler and Python's headers")
    return False
