"""One training run: reads a mix directory and a base, writes an adapter directory, `card.json` last.

Beside it, `<adapter>.run/` (train.run_dir) holds checkpoints while the run lasts, and metrics.jsonl and status.json for good. A run that was
stopped, however it was, goes on from its newest checkpoint when the same command is given again.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from tell.adapter.card import CARD, Card, read_card
from tell.errors import AdapterError
from tell.extras import need
from tell.files import key_of
from train.adapter import write_adapter
from train.checkpoint import room
from train.config import Recipe
from train.distributed import Ranks
from train.inputs import identity, read_inputs
from train.loop import train
from train.plan import make_plan
from train.run_dir import Status, now, session, tidy
from train.validation import open_split


def run(mixed: Path, recipe: Recipe, out: Path, force: bool = False, restart: bool = False, dev: Path | None = None) -> tuple[Card, bool]:
    """Train, or find that `out` already is what this would make; `dev` is the corpus that `[dev]` looks at. Returns (card, whether it was reused)."""
    ranks = Ranks()
    if recipe.train.quantisation == "nf4":
        need("bitsandbytes", "quantised")
    for module in ("transformers", "peft", "safetensors"):
        need(module, "train")
    inputs = read_inputs(mixed)
    split = open_split(dev, recipe, inputs.mix["pair"])
    who = identity(recipe, inputs, split.sha256 if split else None)
    if out.exists() and not (out / CARD).exists() and any(out.iterdir()):
        raise AdapterError("this directory exists and is not an adapter", place=str(out), valid="a new directory with -o")
    run_dir = out.with_name(out.name + ".run")
    about = Status(state="running", total=0, pair=inputs.mix["pair"], base=inputs.base.id, started=now())
    known = (out / CARD).exists() and not force and read_card(out).training.get("key") == key_of(who)
    if ranks.said_by_first(known):
        card = read_card(out)
        if ranks.first:
            tidy(out, run_dir, who, about.model_copy(update={"total": card.training["steps"]}))
        return card, True

    ranks.threads(recipe.train.threads)
    plan = make_plan(inputs.data, recipe.train, recipe.seed, reshuffle=inputs.mix.get("order", "shuffled") == "shuffled")
    about = about.model_copy(update={"total": len(plan)})
    with session(out, run_dir, who, about, restart, force) if ranks.first else nullcontext():
        ranks.say(
            f"{len(inputs.data):,} examples, {sum(s.tokens for s in plan):,} tokens in {len(plan):,} steps over {recipe.train.epochs} epoch(s), "
            f"{sum(s.task_tokens for s in plan) / max(1, sum(s.tokens for s in plan)):.0%} of them task data"
        )
        trained = train(inputs, recipe, plan, run_dir, ranks, split)
        if ranks.first:
            with room(out):
                write_adapter(out, inputs, recipe, trained, key_of(who))
    card = ranks.said_by_first(read_card(out) if ranks.first else None)
    ranks.close()
    return card, False
