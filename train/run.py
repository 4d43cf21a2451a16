"""One training run: reads a mix directory and a base, writes an adapter directory, `card.json` last.

Beside it, `<adapter>.run/` holds checkpoints while the run lasts, and metrics.jsonl for good. A run that was stopped goes on from its
newest checkpoint when the same command is given again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tell.card import CARD, Card, read_card
from tell.console import say
from tell.errors import AdapterError
from tell.extras import need
from tell.files import key_of
from tell.machine import cores
from train.adapter import write_adapter
from train.checkpoint import claim
from train.config import Recipe
from train.inputs import identity, read_inputs
from train.loop import train
from train.plan import make_plan


def run(mixed: Path, recipe: Recipe, out: Path, force: bool = False, restart: bool = False) -> tuple[Card, bool]:
    """Train, or find that `out` already is what this would make. Returns (card, whether it was reused)."""
    torch = need("torch", "train")
    for module in ("transformers", "peft", "safetensors"):
        need(module, "train")
    inputs = read_inputs(mixed)
    who = identity(recipe, inputs)
    if out.exists() and not (out / CARD).exists() and any(out.iterdir()):
        raise AdapterError("this directory exists and is not an adapter", place=str(out), valid="a new directory with -o")
    if (out / CARD).exists() and not force and read_card(out).training.get("key") == key_of(who):
        return read_card(out), True

    run_dir = out.with_name(out.name + ".run")
    claim(run_dir, who, restart or force)
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    if not cuda:
        torch.set_num_threads(recipe.train.threads or cores())
    plan = make_plan(inputs.data, recipe.train, recipe.seed, reshuffle=inputs.mix.get("order", "shuffled") == "shuffled")
    say(
        f"{len(inputs.data):,} examples, {sum(s.tokens for s in plan):,} tokens in {len(plan):,} steps over {recipe.train.epochs} epoch(s), "
        f"{sum(s.task_tokens for s in plan) / max(1, sum(s.tokens for s in plan)):.0%} of them task data"
    )
    trained = train(inputs, recipe, plan, run_dir, device)
    card = write_adapter(out, inputs, recipe, trained, key_of(who))
    for old in run_dir.glob("step-*"):
        shutil.rmtree(old, ignore_errors=True)
    (run_dir / "run.json").unlink(missing_ok=True)
    return card, False
