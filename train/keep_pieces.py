"""Give a trained adapter a vocabulary of its own (train.pieces), as a new training would.

Reads an adapter directory and a mix of its pair; writes another adapter directory with the same weights, `card.json` last. What was measured or proved with the
whole vocabulary is not on the new card: scores, verdict and golden sentences come with the next `tellmt score` and `tellmt publish`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tell.adapter.card import CARD, PIECES, Adapter, KeptPieces, open_adapter, write_card
from tell.errors import AdapterError
from tell.files import atomic_dir, sha256_file
from tell.languages import parse_pair, same_pair
from tell.model.base import find_base
from train.config import LoraOptions
from train.inputs import read_inputs
from train.model import load_model, take_weights
from train.pieces import Choice, choose_pieces


def keep_pieces(path: Path, mixed: Path, out: Path, force: bool = False) -> tuple[Adapter, Choice]:
    """The adapter that was written to `out`, and what was chosen for it.

    Raises CorpusError for a mix that is not whole, AdapterError where the adapter is of another pair or base than the mix, where `out` is there already, and
    where the whole vocabulary is to be kept: then nothing is written.
    """
    if out.exists() and not ((out / CARD).exists() and force):
        raise AdapterError("this directory exists", place=str(out), valid="a new directory, or --force for an adapter that may be replaced")
    inputs = read_inputs(mixed, path)
    adapter = open_adapter(path)
    if not same_pair(parse_pair(adapter.card.pair), parse_pair(inputs.mix["pair"])):
        raise AdapterError("the mix is of another pair than the adapter", place=str(mixed), found=inputs.mix["pair"], valid=adapter.card.pair)
    lora = LoraOptions.model_validate(adapter.card.recipe.get("lora", {}))
    model = load_model(find_base(adapter.card.base.id), lora, "float32", "cpu", adapter.card.seed)
    take_weights(model, adapter)
    choice = choose_pieces(model, inputs, adapter.card.seed)
    if choice.pieces is None:
        raise AdapterError("the adapter is better served with the whole vocabulary", place=str(path), found=choice.reason)
    with atomic_dir(out) as aside:
        for name in adapter.card.contents:
            shutil.copyfile(path / name, aside / name)
        (aside / PIECES).write_bytes(choice.pieces.dump())
        files = {**adapter.card.files, PIECES: sha256_file(aside / PIECES)}
        update = {"pieces": KeptPieces.chosen(choice.pieces, choice.left_out), "files": files, "golden": None, "scores": [], "verdict": None}
        write_card(aside, adapter.card.model_copy(update=update))
    return open_adapter(out), choice
