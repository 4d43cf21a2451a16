"""Reads and verifies the inputs of a training run, the mix directory and its base, and computes the identity of the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tell.adapter.card import LEXICON, MEMORY, PROMPT_FILES, Adapter, open_adapter, weights_of
from tell.errors import AdapterError, CorpusError
from tell.files import sha256_file
from tell.lexicon.hints import Hinter, HintOptions
from tell.lexicon.lexicon import Lexicon
from tell.machine import give_back
from tell.model.anchor import Anchor
from tell.model.base import Base, find_base
from tell.model.tokenizer import BaseTokenizer
from tell.records import read_examples
from tell.retrieval.memory import Memory
from tell.retrieval.retriever import RetrievalOptions, Retriever
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
    # The directory of the mix, with the lexicon of its hints and the memory of its nearest pairs, where it has any.
    directory: Path = Path()
    # The adapter whose weights training goes on from; None for fresh ones.
    start: Adapter | None = None

    def hinter(self) -> Hinter | None:
        """What writes the hints into the prompts of validation; None for a mix without."""
        options = hint_options(self.mix)
        return None if options is None else Hinter(Lexicon.read(self.directory / LEXICON), options)

    def retriever(self) -> Retriever | None:
        """What writes the nearest pairs into the prompts of validation; None for a mix without."""
        options = retrieval_options(self.mix)
        return None if options is None else Retriever(Memory.read(self.directory / MEMORY), options)


def hint_options(mix: dict[str, Any]) -> HintOptions | None:
    """The options of the hints that the prompts of a mix have; None where they have none."""
    hints = mix.get("hints")
    return None if hints is None else HintOptions(**{name: hints[name] for name in HintOptions.model_fields})


def retrieval_options(mix: dict[str, Any]) -> RetrievalOptions | None:
    """The options of the nearest pairs that the prompts of a mix have; None where they have none."""
    retrieval = mix.get("retrieval")
    return None if retrieval is None else RetrievalOptions(**{name: retrieval[name] for name in RetrievalOptions.model_fields})


def prompt_files(mix: dict[str, Any]) -> dict[str, str]:
    """The files beside mixed.jsonl that an adapter takes along, with their hashes: what its prompts were written with."""
    return {file: mix[name][f"{file.partition('.')[0]}_sha256"] for name, file in PROMPT_FILES.items() if name in mix}


def read_inputs(mixed: Path, start: Path | None = None) -> Inputs:
    """Raises CorpusError for a mix that is not whole, AdapterError for an adapter to start from that is not, or is of another base."""
    report = mixed / "mix.json"
    if not report.exists():
        raise CorpusError("not a mix directory, or a half-written one", place=str(mixed), found="no mix.json", valid="what `tellmt mix -o` wrote")
    try:
        mix = json.loads(report.read_text())
    except ValueError as e:
        raise CorpusError("the mix report cannot be read", place=str(report), found=str(e)) from None
    if sha256_file(mixed / "mixed.jsonl") != mix["sha256"]:
        raise CorpusError("the mixed data is not what its report says", place=str(mixed / "mixed.jsonl"), valid="run `tellmt mix` again")
    for name, digest in prompt_files(mix).items():
        if not ((mixed / name).is_file() and sha256_file(mixed / name) == digest):
            thing = f"the {name.partition('.')[0]} is not the one that the mix was made with"
            raise CorpusError(thing, place=str(mixed / name), valid="run `tellmt mix` again")
    base = find_base(mix["base"]["id"])
    if base.revision != mix["base"]["revision"]:
        raise CorpusError("the mix was made for another revision of the base", place=str(report), found=mix["base"]["revision"][:12], valid=base.revision[:12])
    earlier = None if start is None else open_adapter(start)
    if earlier is not None and (ref := earlier.card.base) and (ref.id, ref.revision) != (base.id, base.revision):
        found, valid = (f"{id} at {revision[:12]}" for id, revision in ((ref.id, ref.revision), (base.id, base.revision)))
        raise AdapterError("the adapter to start from is of another base than the mix", place=f"--from {start}", found=found, valid=valid)
    examples = read_examples(mixed / "mixed.jsonl")
    if not examples:
        raise CorpusError("there is nothing to train on", place=str(mixed / "mixed.jsonl"), found="no examples")
    tokenised = BaseTokenizer(base, Anchor.model_validate(mix["anchor"]).chat).example_ids(examples)
    give_back()
    data = [Tokenised(i, s, e.kind == "task") for e, (i, s) in zip(examples, tokenised, strict=True)]
    return Inputs(mix, base, data, [e.id for e in examples], mixed, earlier)


def with_length_factor(recipe: Recipe, inputs: Inputs) -> Recipe:
    """The recipe with the length factor that the mix found its translations to need, where the recipe says nothing of it."""
    needed = inputs.mix.get("length_factor")
    if needed is None or "length_factor" in recipe.decoding.model_fields_set:
        return recipe
    return recipe.model_copy(update={"decoding": recipe.decoding.model_copy(update={"length_factor": float(needed)})})


# Options that decide how a run goes and not what adapter it makes.
_NOT_IN_IDENTITY = ("save_steps", "threads", "compile", "report_to")
# Keys of later versions are part of the identity only where they are used, so that runs of earlier versions keep theirs.
_LATER_KEYS = ("packing", "gradient_checkpointing", "quantisation", "target_modules", "use_rslora", "vocabulary")


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
        **({"hints": [hints.model_dump(), inputs.mix["hints"]["lexicon_sha256"]]} if (hints := hint_options(inputs.mix)) else {}),
        **({"retrieval": [pairs.model_dump(), inputs.mix["retrieval"]["memory_sha256"]]} if (pairs := retrieval_options(inputs.mix)) else {}),
        "base": inputs.base.revision,
        **({"from": weights_of(inputs.start.card)} if inputs.start else {}),
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
