"""The optimiser steps of a run: from the newest checkpoint to the end of the plan, or to the signal that stops it."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tell.console import say
from tell.errors import RecipeError, TellmtError
from tell.files import write_json
from tell.paths import cache_dir
from train.checkpoint import latest, save
from train.config import Recipe, TrainOptions
from train.inputs import Inputs
from train.plan import Step, learning_rate
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
def _sigterm() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying in the middle of a step."""
    seen: list[int] = []
    old = {s: signal.signal(s, lambda number, frame: seen.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def train(inputs: Inputs, recipe: Recipe, plan: list[Step], run_dir: Path, device: str) -> Trained:
    """Every step that the checkpoints in `run_dir` have not done yet. Raises Stopped, KeyboardInterrupt, TellmtError when the loss is no number."""
    import torch

    from train.model import backward, compile_layers, load_model, lora_parameters, pick_dtype
    from train.optimiser import Masters
    from train.output import Words

    options = recipe.train
    dtype = pick_dtype(options, device == "cuda")
    model = load_model(inputs.base, recipe.lora, dtype, device, recipe.seed)
    masters = Masters(lora_parameters(model), options)
    used = {token for example in inputs.data for token in example.ids[example.start :]}
    words = Words(model.get_base_model().get_output_embeddings().weight, used, options.negatives, recipe.seed)
    state: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "recent": []}
    first = 0
    if found := latest(run_dir):
        first, tensors, state = found
        masters.restore(tensors, first)
        say(f"going on from the checkpoint after step {first:,} of {len(plan):,}")
    if compiled(options, sum(s.tokens for s in plan[first:])):
        compile_layers(model)
    pad = inputs.base.eos_ids[0]
    began = time.monotonic() - state["seconds"]
    with _sigterm() as stop, Watch(run_dir, recipe, len(plan), first, dtype) as watch:
        for number in range(first, len(plan)):
            step = plan[number]
            # Per step, so that dropout after a resume is what it would have been.
            torch.manual_seed(recipe.seed * 1_000_003 + number)
            words.draw(number)
            loss = 0.0
            for micro in step.micro:
                loss += backward(model, [inputs.data[i] for i in micro], 1 / step.targets, pad, device, words)
                masters.collect()
            loss /= step.targets
            rate = learning_rate(number, len(plan), options)
            norm = masters.step(rate, options.max_grad_norm)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise _not_a_number(run_dir, number + 1, loss, norm, [inputs.names[i] for i in sorted(i for micro in step.micro for i in micro)])
            state["tokens"] += step.tokens
            state["recent"] = (state["recent"] + [loss])[-20:]
            state["seconds"] = time.monotonic() - began
            row = {
                "step": number + 1,
                "loss": round(loss, 6),
                "learning_rate": rate,
                "gradient_norm": round(norm, 6),
                "tokens": state["tokens"],
                "seconds": round(state["seconds"], 2),
            }
            watch.step(row, _mean(state["recent"]), step.task_tokens / step.tokens)
            if stop or (number + 1) % options.save_steps == 0:
                save(run_dir, number + 1, masters.tensors(), state)
            if stop:
                say(f"stopped after step {number + 1:,}; the same command goes on from here")
                if stop[0] == signal.SIGINT:
                    raise KeyboardInterrupt
                raise Stopped("stopped by SIGTERM")
    return Trained(model, dtype, device, len(plan), state["tokens"], state["seconds"], _mean(state["recent"]))


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


def compiled(options: TrainOptions, tokens: int) -> bool:
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
    say("not compiled: that would take a C++ compiler and Python's headers")
    return False
