"""`tellmt vocabulary`: a trained adapter gets the part of its base's vocabulary that its pair needs."""

from __future__ import annotations

from pathlib import Path

import click

from tell.command import Command
from tell.console import emit, table

DIRECTORY = click.Path(path_type=Path)


@click.command(cls=Command)
@click.argument("adapter", type=DIRECTORY)
@click.option("--mixed", type=DIRECTORY, required=True, metavar="DIR", help="Mix directory of the adapter's pair, best of all its corpora.")
@click.option("-o", "--out", type=DIRECTORY, required=True, metavar="DIR", help="Adapter directory to write.")
@click.option("--force", is_flag=True, help="Replace an adapter that OUT has already.")
def vocabulary(adapter: Path, mixed: Path, out: Path, force: bool) -> None:
    """Let a trained ADAPTER be served with the part of the vocabulary that its pair needs.

    `tellmt train` does this by itself ([train] vocabulary = "own"). On a processor such an adapter translates faster, and its model takes two thirds of
    the space. Its weights stay as they are. Score and publish it as a new one: its golden sentences, scores and verdict were those of the whole vocabulary,
    and are not taken along.
    """
    from train.keep_pieces import keep_pieces

    kept, choice = keep_pieces(adapter, mixed, out, force)
    assert choice.pieces is not None
    rows = [
        ["pair", kept.card.pair],
        ["adapter", kept.short],
        ["pieces", f"{len(choice.pieces.kept):,} of {choice.pieces.size:,}"],
        ["left out", f"{choice.left_out:.2%} of the model's probability on pairs that had no part in the choice"],
        ["written to", str(out)],
    ]
    pieces = kept.card.pieces and kept.card.pieces.model_dump()
    emit({"id": kept.id, "path": str(out), "pair": kept.card.pair, "pieces": pieces}, lambda: table("", ["", ""], rows))
