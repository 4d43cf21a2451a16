"""`tellmt train`."""

from __future__ import annotations

from pathlib import Path

import click

from tell.card import open_adapter
from tell.cli import Command
from tell.console import emit, say, table


@click.command(cls=Command)
@click.option("--mixed", type=click.Path(path_type=Path), required=True, metavar="DIR", help="What `tellmt mix -o` wrote.")
@click.option(
    "--recipe", "recipe_path", type=click.Path(path_type=Path), metavar="FILE", help="Recipe (TOML); its [train], [lora] and [decoding] tables are read."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The adapter directory to write.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's seed.")
@click.option("--force", is_flag=True, help="Train again even if the adapter is already there.")
@click.option("--restart", is_flag=True, help="Discard the checkpoints of an unfinished run.")
def train(mixed: Path, recipe_path: Path | None, out: Path, seed: int | None, force: bool, restart: bool) -> None:
    """Train a LoRA adapter on mixed data."""
    from train.config import read_recipe
    from train.run import run

    recipe = read_recipe(recipe_path)
    if seed is not None:
        recipe = recipe.model_copy(update={"seed": seed})
    card, reused = run(mixed, recipe, out, force, restart)
    adapter = open_adapter(out)
    if reused:
        say(f"unchanged, reused: {out}")
    t = card.training
    rows = [
        ["pair", card.pair],
        ["adapter", adapter.short],
        ["base", card.base.id],
        ["steps", f"{t['steps']:,}"],
        ["tokens", f"{t['tokens']:,}"],
        ["final loss", f"{t['final_loss']:.3f}"],
        ["seconds", f"{t['seconds']:,.0f} ({t['tokens'] / max(1e-9, t['seconds']):,.0f} tokens/s, {t['dtype']}, {t['device']})"],
        ["written to", str(out)],
    ]
    emit({"reused": reused, "id": adapter.id, "path": str(out), "card": card.model_dump(mode="json")}, lambda: table("", ["", ""], rows))
