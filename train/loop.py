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
from train.checkpoint import latest_checkpoint, save_checkpoint, write_checkpoint
from train.config import Recipe, TrainOptions
from train.distributed import ProcessGroup
from train.inputs import LIKELY, Inputs
from train.loss_validation import validator_of
from train.plan import Step, learning_rate
from train.progress import RunProgress
from train.run_dir import BEST
from train.validation import DevSplit, restore_best

# Tokens from which compiling pays: it takes a minute or two, less once cached, and halves the time. In float32 on a processor nearly all time goes into
# the products of matrices, which are compiled already: 188 tokens/s against 167 on two AVX2 cores (docs/results/train-speed.md).
COMPILE_TOKENS, COMPILE_TOKENS_FLOAT32 = 50_000, 200_000


class RunStopped(TellmtError):
    """SIGTERM ended the run after its state was saved. The exit code is the shell's."""

    exit_code = 143


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingResult:
    """The model that holds the trained adapter, and the facts about its training that go on the card."""

    model: Any
    dtype: str
    device: str
    processes: int
    steps: int
    tokens: int
    seconds: float
    final_loss: float
    # The history of validation, and the step whose weights were kept (restore_best).
    dev: dict[str, Any] | None = None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying in the middle of a step."""
    received: list[int] = []
    old_handlers = {s: signal.signal(s, lambda number, frame: received.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)


def train(
    inputs: Inputs, recipe: Recipe, plan: list[Step], run_dir: Path, processes: ProcessGroup, split: DevSplit | None = None, likely: bool = True
) -> TrainingResult:
    """Take every step that the checkpoints in `run_dir` have not done yet, and validate on the dev split if there is one. `likely`: whether the sampled
    softmax has the base's likeliest words (train.likely_words).

    Raises RunStopped on SIGTERM, KeyboardInterrupt on SIGINT, and TellmtError when the loss is not a number.
    """
    from train.stepper import Stepper

    options = recipe.train
    stepper = Stepper(inputs, recipe, processes)
    state: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "recent": [], "micro_tokens": stepper.limit}
    validator = validator_of(split, recipe, inputs, processes.device, run_dir)
    first = 0
    checkpoint = processes.broadcast(latest_checkpoint(run_dir) if processes.first else None)
    if likely and (words := stepper.include_likely(checkpoint[2].get(LIKELY) if checkpoint else None)):
        # A resumed run has the same: other threads or another machine would find a few others.
        state[LIKELY] = words
    if checkpoint:
        first, tensors, progress = checkpoint
        state |= progress
        stepper.masters.restore(tensors, first)
        stepper.limit = state["micro_tokens"]
        if validator and "dev" in state:
            validator.restore(state["dev"])
        processes.say(f"going on from the checkpoint after step {first:,} of {len(plan):,}")
    stepper.prepare(should_compile(options, sum(s.tokens for s in plan[first:]), stepper.dtype, processes))
    start = time.monotonic() - state["seconds"]
    with (
        closing(stepper),
        _signals() as signals_received,
        RunProgress(run_dir, recipe, len(plan), first, stepper.dtype, f"{inputs.mix['pair']} on {inputs.base.id}")
        if processes.first
        else nullcontext() as watch,
    ):
        steps_done = first
        # A validation that a signal interrupted is repeated first, and its step's row of metrics is completed.
        pending = state.pop("pending", None)
        stopped: list[int] = []
        for number in range(first - (pending is not None), first if validator and validator.stopped else len(plan)):
            step = plan[number]
            if number < first:
                row = pending
            else:
                rate = learning_rate(number, len(plan), options)
                loss, norm, stopped = stepper.step(number, step, rate, plan[number + 1] if number + 1 < len(plan) else None, signals_received)
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise _non_finite_error(run_dir, number + 1, loss, norm, [inputs.example_ids[i] for i in sorted(step.members)])
                state["tokens"] += step.tokens
                state["recent"] = (state["recent"] + [loss])[-20:]
                state["seconds"] = time.monotonic() - start
                state["micro_tokens"] = stepper.limit
                row = {
                    "step": number + 1,
                    "loss": round(loss, 6),
                    "learning_rate": rate,
                    "gradient_norm": round(norm, 6),
                    "tokens": state["tokens"],
                    "seconds": round(state["seconds"], 2),
                }
            steps_done, stop_early = number + 1, False
            if validator and validator.due(steps_done, len(plan)):
                paused = time.monotonic()
                # Where the base is sharded, every process must take part in the whole validation.
                signals = stopped or ([] if processes.sharded else signals_received)
                validation = processes.broadcast(validator.validate(stepper.model, steps_done, signals) if processes.first or processes.sharded else None)
                start += time.monotonic() - paused
                if validation.signal:
                    stopped, state["pending"] = [validation.signal], row
                else:
                    row[f"dev_{validator.figure}"], state["dev"], stop_early = validation.score, validator.state(), validation.stop
                    if validation.best and processes.first:
                        write_checkpoint(run_dir / BEST, steps_done, stepper.masters.tensors(), state)
            if watch and "pending" not in state:
                watch.step(row, _mean(state["recent"]), step.task_tokens / step.tokens)
            if processes.first and (stopped or stop_early or steps_done % options.save_steps == 0):
                save_checkpoint(run_dir, steps_done, stepper.masters.tensors(), state)
            if stopped:
                processes.say(f"stopped after step {steps_done:,}; the same command goes on from here")
                if stopped[0] == signal.SIGINT:
                    raise KeyboardInterrupt
                raise RunStopped("stopped by SIGTERM")
            if stop_early:
                processes.say(f"stopped early, after step {steps_done:,} of {len(plan):,}: none of the last {recipe.dev.patience:,} validations was a new best")
                break
    dev_record = restore_best(run_dir / BEST, stepper.masters, validator) if validator and processes.first else None
    if dev_record and split and split.part:
        dev_record["part"] = split.part
    return TrainingResult(
        stepper.model, stepper.dtype, processes.device, processes.count, steps_done, state["tokens"], state["seconds"], _mean(state["recent"]), dev_record
    )


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _non_finite_error(run_dir: Path, step: int, loss: float, norm: float, examples: list[str]) -> TellmtError:
    """Write the step's examples to a file, and return the error that names it."""
    file = run_dir / "non-finite.json"
    write_json(file, {"step": step, "loss": str(loss), "gradient_norm": str(norm), "examples": examples})
    return TellmtError(
        "the loss or its gradient is no longer a number",
        place=f"step {step}",
        found=f"loss {loss}, gradient norm {norm}",
        valid=f"a lower learning rate; the examples are listed in {file}",
    )


def should_compile(options: TrainOptions, tokens: int, dtype: str, processes: ProcessGroup) -> bool:
    """Whether to compile a run of this many tokens. Raises RecipeError where the recipe insists and nothing can be compiled."""
    from train.model import can_compile

    least = COMPILE_TOKENS_FLOAT32 if dtype == "float32" and not processes.cuda else COMPILE_TOKENS
    if options.compile == "off" or (options.compile == "auto" and tokens < least):
        return False
    # Compiled code is a cache like the others; torch's own default is the directory for temporary files.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))
    if can_compile():
        return True
    if options.compile == "on":
        raise RecipeError("torch.compile does not work here", place="[train] compile", found="on", valid="a C++ compiler and Python's headers, or auto")
    processes.say("not compiled: that would take a C++ compiler and Python's headers")
    return False
