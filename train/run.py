"""One training run: reads a mix directory and a base, writes an adapter directory, `card.json` last.

`<adapter>.run/` beside it (train.run_dir) holds checkpoints while the run lasts; metrics.jsonl and status.json stay. A run that was stopped in
any way resumes from its newest checkpoint when the same command is given again.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tell.adapter.card import CARD, Card, read_card
from tell.errors import AdapterError
from tell.extras import need
from tell.files import key_of
from train.adapter import write_adapter
from train.checkpoint import report_full_disk
from train.config import Recipe
from train.distributed import ProcessGroup
from train.inputs import LIKELY, Inputs, identity, identity_before, read_inputs, with_length_factor
from train.loop import train
from train.pieces import Choice, choose_pieces
from train.plan import make_plan
from train.run_dir import Status, begun_before, finish_killed_run, now, run_session
from train.servable import check_servable
from train.validation import open_dev_split


def _pieces(model: Any, inputs: Inputs, recipe: Recipe, processes: ProcessGroup) -> Choice | None:
    # A sharded base computes only where all processes take part.
    if recipe.train.vocabulary == "whole" or processes.sharded:
        return None
    choice = choose_pieces(model, inputs, recipe.seed)
    if choice.pieces is not None:
        kept = f"of the base's {choice.pieces.size:,} pieces the adapter keeps {len(choice.pieces.kept):,}"
        processes.say(f"{kept}; the others have {choice.left_out:.2%} of the probability")
    elif choice.left_out:
        processes.say(f"the adapter keeps the base's whole vocabulary: {choice.reason}")
    return choice


def run(
    mixed: Path,
    recipe: Recipe,
    out: Path,
    force: bool = False,
    restart: bool = False,
    dev: Path | None = None,
    start: Path | None = None,
    engine: str | None = None,
) -> tuple[Card, bool]:
    """Train an adapter, or reuse `out` if it is what this run would make. Returns (card, whether reused).

    `dev` is the corpus that `[dev]` validates on, `start` an adapter whose weights training goes on from, `engine` the one that is to serve the adapter.
    Raises BaseModelError where that, or any engine here when none is named, cannot serve the base.
    """
    processes = ProcessGroup()
    if recipe.train.quantisation == "nf4":
        need("bitsandbytes", "quantised")
    for module in ("transformers", "peft", "safetensors"):
        need(module, "train")
    inputs = read_inputs(mixed, start)
    recipe = with_length_factor(recipe, inputs)
    split = open_dev_split(dev, recipe, inputs.mix["pair"])
    run_identity = identity(recipe, inputs, split.sha256 if split else None)
    before = identity_before(recipe, inputs, split.before.sha256 if split and split.before else None)
    if out.exists() and not (out / CARD).exists() and any(out.iterdir()):
        raise AdapterError("this directory exists and is not an adapter", place=str(out), valid="a new directory with -o")
    run_dir = out.with_name(out.name + ".run")
    status = Status(state="running", total=0, pair=inputs.mix["pair"], base=inputs.base.id, started=now())
    made = read_card(out).training.get("key") if (out / CARD).exists() and not force else None
    # What an earlier version made or began is the same adapter, and goes on as it began.
    going_on = made != key_of(run_identity) and not (restart or force) and begun_before(run_dir, run_identity, before)
    if processes.broadcast(made == key_of(before) or going_on):
        run_identity, split = before, split.before if split else None
    reusable = made is not None and made == key_of(run_identity)
    if processes.broadcast(reusable):
        card = read_card(out)
        if processes.first:
            finish_killed_run(out, run_dir, run_identity, status.model_copy(update={"total": card.training["steps"]}))
        return card, True

    check_servable(inputs.base, engine)
    processes.threads(recipe.train.threads)
    if split and split.noise:
        processes.say(split.noise)
    plan = make_plan(inputs.data, recipe.train, recipe.seed, reshuffle=inputs.mix.get("order", "shuffled") == "shuffled")
    status = status.model_copy(update={"total": len(plan)})
    with run_session(out, run_dir, run_identity, status, restart, force) if processes.first else nullcontext():
        processes.say(
            f"{len(inputs.data):,} examples, {sum(s.tokens for s in plan):,} tokens in {len(plan):,} steps over {recipe.train.epochs} epoch(s), "
            f"{sum(s.task_tokens for s in plan) / max(1, sum(s.tokens for s in plan)):.0%} of them task data"
        )
        trained = train(inputs, recipe, plan, run_dir, processes, split, likely=LIKELY in run_identity)
        if processes.first:
            with report_full_disk(out):
                write_adapter(out, inputs, recipe, trained, key_of(run_identity), _pieces(trained.model, inputs, recipe, processes))
    card = processes.broadcast(read_card(out) if processes.first else None)
    processes.close()
    return card, False
