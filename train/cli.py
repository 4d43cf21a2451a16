"""`tellmt train` and `tellmt losses`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from tell.adapter.card import open_adapter
from tell.command import Command
from tell.console import clock, emit, say, table


@click.command(cls=Command)
@click.option("--mixed", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Mix directory of `tellmt mix`.")
@click.option(
    "--recipe", "recipe_path", type=click.Path(path_type=Path), metavar="FILE", help="Recipe (TOML); its [train], [lora], [dev] and [decoding] tables are read."
)
@click.option("--dev", type=click.Path(path_type=Path), metavar="DIR", help="Corpus directory of the pair: [dev] validates on its dev split, or a half of it.")
@click.option("--from", "start", type=click.Path(path_type=Path), metavar="DIR", help="Adapter whose weights training goes on from; of the same base and rank.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="DIR", help="Adapter directory to write.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed that replaces the recipe's.")
@click.option("--engine", metavar="NAME", help="Engine that is to serve the adapter. Default: one that this machine has; a base that none serves is refused.")
@click.option("--force", is_flag=True, help="Train again although the adapter exists already.")
@click.option("--restart", is_flag=True, help="Discard the checkpoints of an unfinished run.")
@click.option("--dry-run", is_flag=True, help="Only report the cost: tokens, steps, time and memory, measured on a few micro-batches.")
def train(
    mixed: Path,
    recipe_path: Path | None,
    dev: Path | None,
    start: Path | None,
    out: Path | None,
    seed: int | None,
    engine: str | None,
    force: bool,
    restart: bool,
    dry_run: bool,
) -> None:
    """Train a LoRA adapter on mixed data.

    For several GPUs, or several processes on CPUs: torchrun --nproc-per-node 2 -m tellmt train ..., or accelerate launch.
    """
    from train.config import read_recipe
    from train.distributed import world
    from train.plot import PLOT
    from train.run import run
    from train.trackers import require_installed

    recipe = read_recipe(recipe_path)
    if seed is not None:
        recipe = recipe.model_copy(update={"seed": seed})
    require_installed(recipe.train.report_to)
    if dry_run:
        from train.estimate import estimate

        estimated = estimate(mixed, recipe, engine)
        emit(estimated, lambda: _estimated(estimated, recipe.dev.every > 0))
        return
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    card, reused = run(mixed, recipe, out, force, restart, dev, start, engine)
    if world()[0]:
        return
    adapter = open_adapter(out)
    if reused:
        say(f"unchanged, reused: {out}")
    training = card.training
    speed = training["tokens"] / max(1e-9, training["seconds"])
    rows = [
        ["pair", card.pair],
        ["adapter", adapter.short],
        ["base", card.base.id],
        ["steps", f"{training['steps']:,}"],
        ["tokens", f"{training['tokens']:,}"],
        ["final loss", f"{training['final_loss']:.3f}"],
        ["seconds", f"{training['seconds']:,.0f} ({speed:,.0f} tokens/s, {training['dtype']}, {training['device']})"],
        ["written to", str(out)],
    ]
    if validation := training.get("dev"):
        outcome = "which was kept" if validation["kept_step"] else "which was lost"
        name, best = ("dev loss", f"{validation['best_nats']:.4f}") if "best_nats" in validation else ("dev chrF2", f"{validation['best_chrf']:.2f}")
        signature = f" ({validation['signature']})" if validation["signature"] else ""
        rows.insert(-1, [name, f"{best} after step {validation['best_step']:,}, {outcome}{signature}"])
    picture = out.with_name(out.name + ".run") / PLOT
    plot = str(picture) if picture.exists() else None
    if plot:
        rows.append(["picture", plot])
    result = {"reused": reused, "id": adapter.id, "path": str(out), "plot": plot, "card": card.model_dump(mode="json")}
    emit(result, lambda: table("", ["", ""], rows))


def _estimated(figures: dict[str, Any], validates: bool) -> Any:
    extra = "; validation on the dev split comes on top" if validates else ""
    rows = [
        ["examples", f"{figures['examples']:,} x {figures['epochs']:,} epoch(s)"],
        ["tokens", f"{figures['tokens']:,}, {figures['task_tokens'] / figures['tokens']:.0%} of them task data"],
        ["steps", f"{figures['steps']:,}, in about {figures['micro_batches']:,} micro-batches with {figures['padding']:.0%} padding"],
        ["speed", f"{figures['tokens_per_second']:,.0f} tokens/s in {figures['dtype']} on {figures['device']}{', compiled' if figures['compiled'] else ''}"],
        ["time", f"{clock(figures['seconds'])}, and {clock(figures['seconds_to_start'])} before the first step{extra}"],
        ["memory", f"{figures['memory'] / 2**30:.1f} GiB"],
        ["disk", f"{figures['disk'] / 2**20:,.0f} MiB while it runs"],
    ]
    return table("would take", ["", ""], rows)


@click.command(cls=Command)
@click.argument("adapter", type=click.Path(path_type=Path))
@click.option("--corpus", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Corpus directory of the adapter's pair.")
@click.option("--split", type=click.Choice(["test", "dev"]), default="dev", show_default=True, help="Split of the corpus.")
@click.option("--each", is_flag=True, help="Also write the loss of each token of a segment.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="JSONL to write: one {line, tokens, nats} per segment.")
def losses(adapter: Path, corpus: Path, split: Literal["test", "dev"], each: bool, out: Path) -> None:
    """Compute the loss of each held-out reference under ADAPTER."""
    from tell.corpus.directory import open_corpus
    from tell.errors import CorpusError
    from tell.files import write_jsonl
    from tell.languages import parse_pair, same_pair
    from train.losses import segment_losses

    pair = open_adapter(adapter).card.pair
    opened = open_corpus(corpus)
    if not same_pair(opened.pair, parse_pair(pair)):
        raise CorpusError("this corpus is of another pair", place=str(corpus), found=str(opened.pair), valid=pair)
    rows = segment_losses(adapter, list(opened.pairs(split)), each)
    write_jsonl(out, rows)
    tokens, nats = sum(r["tokens"] for r in rows), sum(r["nats"] for r in rows)
    table_rows = [["segments", f"{len(rows):,}"], ["tokens", f"{tokens:,}"], ["nats per token", f"{nats / tokens:.4f}"], ["written to", str(out)]]
    result = {"segments": len(rows), "tokens": tokens, "nats_per_token": nats / tokens, "path": str(out)}
    emit(result, lambda: table(f"{corpus}, split {split}", ["", ""], table_rows))
