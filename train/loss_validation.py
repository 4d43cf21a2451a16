"""Validation during training by the loss of the dev split's references: cheaper than translating them, and it moves less by chance.

Reads the segments of `[dev]`. Writes looks.jsonl into the run's directory: for each validation its step and the nats of every token, in the order of the
segments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.console import say
from tell.lexicon.hints import Hinter
from tell.model.anchor import Anchor
from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.records import Pair
from tell.retrieval.retriever import Retriever
from train.config import DevOptions, Recipe
from train.inputs import Inputs
from train.losses import held_out_examples, token_losses
from train.validation import DevSplit, ValidationResult, Validator, evaluation_mode

LOOKS = "looks.jsonl"


class LossValidator(Validator):
    """The validations of one run by loss: nats per token over all references, lower is better."""

    figure = "nats"

    def __init__(
        self,
        options: DevOptions,
        pairs: Sequence[Pair],
        anchor: Anchor,
        tokens: BaseTokenizer,
        base: Base,
        device: str,
        hinter: Hinter | None,
        retriever: Retriever | None,
        run_dir: Path,
    ):
        self.options, self.device, self.signature = options, device, ""
        self._pairs = list(pairs)
        examples = held_out_examples(self._pairs, anchor, tokens, hinter, retriever)
        self._data = [e for e in examples if len(e.ids) <= base.context]
        self._too_long = len(examples) - len(self._data)
        self._pad, self._looks = base.eos_ids[0], run_dir / LOOKS
        self.history: list[tuple[int, float]] = []

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, nats per token) of the first validation with the lowest loss."""
        return min(self.history, key=lambda x: x[1], default=None)

    def validate(self, model: Any, step: int, signals: Sequence[int] = ()) -> ValidationResult:
        each: dict[int, list[float]] = {}
        with evaluation_mode(model, self.device):
            for i, losses in token_losses(model, self._data, self._pad, self.device):
                if signals:
                    return ValidationResult(0.0, False, False, signals[0])
                each[i] = losses.tolist()
        nats = [x for i in range(len(self._data)) for x in each[i]]
        before, mode = self.best, "a" if self.history else "w"
        self.history.append((step, round(sum(nats) / max(1, len(nats)), 6)))
        # A validation that is repeated after a kill is written twice, and the later line counts; a run that begins anew begins the file anew.
        with self._looks.open(mode, encoding="utf-8") as f:
            f.write(json.dumps({"step": step, "nats": [round(x, 3) for x in nats]}) + "\n")
        return ValidationResult(self.history[-1][1], before is None or self.history[-1][1] < before[1], self.stopped)

    def restore(self, state: dict[str, Any]) -> None:
        if "best_nats" not in state:
            say("the validations so far were not by loss: the best is looked for anew")
            return
        self.history = [(int(step), float(nats)) for step, nats in state["history"]]


def validator_of(split: DevSplit | None, recipe: Recipe, inputs: Inputs, device: str, run_dir: Path) -> Validator | None:
    """The validator of a run with these inputs; None without a split."""
    if split is None:
        return None
    anchor = Anchor.model_validate(inputs.mix["anchor"])
    tokens = BaseTokenizer(inputs.base, anchor.chat)
    if recipe.dev.metric == "loss":
        return LossValidator(recipe.dev, split.pairs, anchor, tokens, inputs.base, device, inputs.hinter(), inputs.retriever(), run_dir)
    return Validator(recipe.dev, split.pairs, anchor, tokens, recipe.decoding, inputs.base, device, inputs.hinter(), inputs.retriever())
