"""Reads and verifies the inputs of a training run, the mix directory and its base, and computes the identity of the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tell.errors import CorpusError
from tell.files import sha256_file
from tell.machine import give_back
from tell.model.anchor import Anchor
from tell.model.base import Base, find_base
from tell.model.tokenizer import BaseTokenizer
from tell.records import read_examples
from train.config import Recipe
from train.likely_words import MOST, POSITIONS
from train.plan import Tokenised

FORMAT = 2
# The part of a run's identity that says how its output layer was sampled; runs begun before there were likely words lack it.
LIKELY = "likely words"


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """The verified inputs of a run: the report of the mix, the base that its tokens were counted with, and its examples as token ids."""

    mix: dict[str, Any]
    base: Base
    data: list[Tokenised]
    example_ids: list[str]


def read_inputs(mixed: Path) -> Inputs:
    report = mixed / "mix.json"
    if not report.exists():
        raise CorpusError("not a mix directory, or a half-written one", place=str(mixed), found="no mix.json", valid="what `tellmt mix -o` wrote")
    try:
        mix = json.loads(report.read_text())
    except ValueError as e:
        raise CorpusError("the mix report cannot be read", place=str(report), found=str(e)) from None
    if sha256_file(mixed / "mixed.jsonl") != mix["sha256"]:
        raise CorpusError("the mixed data is not what its report says", place=str(mixed / "mixed.jsonl"), valid="run `tellmt mix` again")
    base = find_base(mix["base"]["id"])
    if base.revision != mix["base"]["revision"]:
        raise CorpusError("the mix was made for another revision of the base", place=str(report), found=mix["base"]["revision"][:12], valid=base.revision[:12])
    examples = read_examples(mixed / "mixed.jsonl")
    if not examples:
        raise CorpusError("there is nothing to train on", place=str(mixed / "mixed.jsonl"), found="no examples")
    tokenised = BaseTokenizer(base, Anchor.model_validate(mix["anchor"]).chat).example_ids(examples)
    give_back()
    return Inputs(mix, base, [Tokenised(i, s, e.kind == "task") for e, (i, s) in zip(examples, tokenised, strict=True)], [e.id for e in examples])


# Options that decide how a run goes and not what adapter it makes.
_NOT_IN_IDENTITY = ("save_steps", "threads", "compile", "report_to")
# Keys of later versions are part of the identity only where they are used, so that runs of earlier versions keep theirs.
_LATER_KEYS = ("packing", "gradient_checkpointing", "quantisation", "target_modules", "use_rslora")


def _identity_options(options: BaseModel) -> dict[str, Any]:
    fields = type(options).model_fields
    return {k: v for k, v in options.model_dump().items() if k not in _NOT_IN_IDENTITY and (k not in _LATER_KEYS or v != fields[k].default)}


def identity(recipe: Recipe, inputs: Inputs, dev: str | None = None) -> dict[str, Any]:
    """Everything that decides the adapter's weights; `dev` is the hash of the segments for validation."""
    return {
        "format": FORMAT,
        "mixed data": inputs.mix["sha256"],
        # Not part of the data: the chat turns are added to the examples when they are read.
        **{k: v for k, v in inputs.mix["anchor"].items() if k == "chat"},
        "base": inputs.base.revision,
        "seed": recipe.seed,
        **{f"train.{k}": v for k, v in _identity_options(recipe.train).items()},
        **{f"lora.{k}": v for k, v in _identity_options(recipe.lora).items()},
        **({f"dev.{k}": v for k, v in recipe.dev.model_dump().items()} | {"dev split": dev} if recipe.dev.every else {}),
        "decoding": recipe.decoding.model_dump(),
        **({LIKELY: [POSITIONS, MOST]} if recipe.train.negatives else {}),
        **({"notes": recipe.notes} if recipe.notes else {}),
    }


def identity_before(recipe: Recipe, inputs: Inputs, dev: str | None = None) -> dict[str, Any]:
    """The identity that the run had to versions without likely words and halves of the dev split."""
    return {k: v for k, v in identity(recipe, inputs, dev).items() if k != LIKELY}
