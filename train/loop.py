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
from train.checkpoint import latest, save, save_as
from train.config import Recipe, TrainOptions
from train.distributed import Ranks
from train.inputs import Inputs
from train.plan import Step, learning_rate
from train.progress import Watch
from train.run_dir import BEST
from train.validation import DevSplit, keep_best, watch_dev

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
    processes: int
    steps: int
    tokens: int
    seconds: float
    final_loss: float
    # What the looks at the dev split found, and which of them was kept.
    dev: dict[str, Any] | None = None


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


def train(inputs: Inputs, recipe: Recipe, plan: list[Step], run_dir: Path, ranks: Ranks, split: DevSplit | None = None) -> Trained:
    """Every step that the checkpoints in `run_dir` have not done yet, with looks at the dev split if there is one.

    Raises Stopped, KeyboardInterrupt, TellmtError when the loss is no number.
    """
    from train.stepper import Stepper

    options = recipe.train
    stepper = Stepper(inputs, recipe, ranks)
    state: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "recent": [], "micro_tokens": stepper.limit}
    dev = watch_dev(split, recipe, inputs.mix, inputs.base, ranks.device)
    first = 0
    if found := ranks.said_by_first(latest(run_dir) if ranks.first else None):
        first, tensors, saved = found
        state |= saved
        stepper.masters.restore(tensors, first)
        stepper.limit = state["micro_tokens"]
        if dev and "dev" in state:
            dev.restore(state["dev"])
        ranks.say(f"going on from the checkpoint after step {first:,} of {len(plan):,}")
    stepper.ready(compiled(options, sum(s.tokens for s in plan[first:]), ranks))
    began = time.monotonic() - state["seconds"]
    with (
        closing(stepper),
        _signals() as stop,
        Watch(run_dir, recipe, len(plan), first, stepper.dtype, f"{inputs.mix['pair']} on {inputs.base.id}") if ranks.first else nullcontext() as watch,
    ):
        done = first
        # A look that a signal broke off comes first, with the row of its step.
        pending = state.pop("pending", None)
        stopped: list[int] = []
        for number in range(first - (pending is not None), first if dev and dev.stopped else len(plan)):
            step = plan[number]
            if number < first:
                row = pending
            else:
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
            done, enough = number + 1, False
            if dev and dev.due(done, len(plan)):
                paused = time.monotonic()
                # Where the base is spread over the processes all must look, and to the end.
                signals = stopped or ([] if ranks.shared else stop)
                look = ranks.said_by_first(dev.look(stepper.model, done, signals) if ranks.first or ranks.shared else None)
                began += time.monotonic() - paused
                if look.signal:
                    stopped, state["pending"] = [look.signal], row
                else:
                    row["dev_chrf"], state["dev"], enough = look.chrf, dev.state(), look.stop
                    if look.best and ranks.first:
                        save_as(run_dir / BEST, done, stepper.masters.tensors(), state)
            if watch and "pending" not in state:
                watch.step(row, _mean(state["recent"]), step.task_tokens / step.tokens)
            if ranks.first and (stopped or enough or done % options.save_steps == 0):
                save(run_dir, done, stepper.masters.tensors(), state)
            if stopped:
                ranks.say(f"stopped after step {done:,}; the same command goes on from here")
                if stopped[0] == signal.SIGINT:
                    raise KeyboardInterrupt
                raise Stopped("stopped by SIGTERM")
            if enough:
                ranks.say(f"stopped early, after step {done:,} of {len(plan):,}: no look of the last {recipe.dev.patience:,} was a new best")
                break
    kept = keep_best(run_dir / BEST, stepper.masters, dev) if dev and ranks.first else None
    return Trained(stepper.model, stepper.dtype, ranks.device, ranks.count, done, state["tokens"], state["seconds"], _mean(state["recent"]), kept)


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
