"""What training computes is what the base computes: checked on one small batch at every start, before the first step.

Reads no files, and writes none. Training does not run the base as transformers does: it calls the decoder alone, and computes the output layer itself
(train.output_layer). Classes of bases differ in what stands between the two, and a base of another class than those that are known here would be trained on
a wrong loss, silently.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

from tell.errors import BaseModelError, RecipeError
from train.model import collate, response_states
from train.output_layer import output_layer, output_losses
from train.plan import Tokenised, micro_batches

# Nats a token by which two losses of the same batch may differ.
MOST = 1e-2
# Tokens of the batch, and of one example in it, at most.
TOKENS, LONGEST = 96, 64
# Tokens of it, padding included, whose logits over all words are held at once.
AT_ONCE = 32
# Tokens at the start of a packed example that are compared: what is carried over from the one before shows there. The first example of a row has none
# before it, so it differs by rounding alone; the others may by so many times as much.
FIRST, ROUNDING = 8, 3.0


def _small_batch(data: Sequence[Tokenised], least: int = 1) -> list[Tokenised]:
    """The shortest examples, at least so many, and cut where even they are long; every token but the first counts."""
    chosen: list[Tokenised] = []
    for i in heapq.nsmallest(TOKENS, range(len(data)), key=lambda i: (len(data[i].ids), i)):
        ids = data[i].ids[:LONGEST]
        if len(chosen) >= least and sum(len(e.ids) for e in chosen) + len(ids) > TOKENS:
            break
        if len(ids) > 1:
            chosen.append(Tokenised(ids, 1, True))
    return chosen


def check_loss(model: Any, data: Sequence[Tokenised], pad: int, place: str) -> float:
    """The mean difference (nats a token) of the loss of training, over every row of the output layer, from that of the model's own logits.

    Raises BaseModelError where it is over MOST. `place` names the base. The model is left in training mode.
    """
    import torch
    from torch.nn import functional as F

    causal = model.get_base_model()
    head = causal.get_output_embeddings()
    if head is None:
        raise BaseModelError("this base has no output layer that can be read", place=place, found=type(causal).__name__)
    layer = output_layer(causal)
    if not (examples := _small_batch(data)):
        return 0.0
    device = str(layer.weight.device)
    batches = [collate([examples[i] for i in few], pad).to(device) for few in micro_batches(list(range(len(examples))), examples, AT_ONCE)]
    # The caps and scales that follow the product are computed in float32 here as in training: in bfloat16 their rounding alone would be a difference.
    widened = head.register_forward_hook(lambda module, inputs, output: output.float())
    model.eval()
    try:
        with torch.no_grad():
            own = torch.cat(
                [F.cross_entropy(causal(input_ids=b.ids, use_cache=False).logits[b.rows, b.columns].float(), b.labels, reduction="none") for b in batches]
            )
            losses = torch.cat([output_losses(response_states(model, b), layer, b.labels) for b in batches])
    finally:
        widened.remove()
        model.train()
    difference = float((losses - own).abs().mean())
    # What is no number on both sides is for the run to report, with the examples.
    if difference > MOST or (math.isnan(difference) and not math.isnan(float(own.mean()))):
        found = f"{float(losses.mean()):.3f} nats a token, and {float(own.mean()):.3f} by its own logits ({type(causal).__name__})"
        raise BaseModelError("the loss that training computes is not this base's own", place=place, found=found, valid="a base of a class in docs/bases.md")
    return difference


def check_packing(model: Any, data: Sequence[Tokenised], pad: int, place: str) -> float:
    """The mean difference (nats a token) of the loss of packed examples, where they begin, from that of the same ones in rows of their own.

    Raises RecipeError where it is over MOST, and more than rounding: recurrent layers carry what they read from one example into the next. The model is left
    in training mode.
    """
    import torch

    layer = output_layer(model.get_base_model())
    examples = _small_batch(data, least=3)
    if len(examples) < 2:
        return 0.0
    model.eval()
    try:
        with torch.no_grad():
            losses = []
            for packed in (False, True):
                batch = collate(examples, pad, packed).to(str(layer.weight.device))
                losses.append(output_losses(response_states(model, batch), layer, batch.labels))
    finally:
        model.train()
    apart = (losses[0] - losses[1]).abs().split([len(e.ids) - 1 for e in examples])
    difference, rounding = float(torch.cat([d[:FIRST] for d in apart[1:]]).mean()), float(apart[0].mean())
    if difference > max(MOST, ROUNDING * rounding):
        found = f"packing = true, and {difference:.3f} nats a token between one batch packed and the same unpacked"
        raise RecipeError(f"this base ({place}) cannot be packed: its layers read past an example's end", place="[train]", found=found, valid="packing = false")
    return difference
