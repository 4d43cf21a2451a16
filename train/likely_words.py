"""The words of the output layer that the bare base finds likeliest where the data's responses are, though no response has them.

Reads no files, and writes none: a run keeps the words in its checkpoints. With little data most of a base's probability is on words that are in no response,
and a uniform sample of a few thousand (train.output_layer) finds few of those that matter. So they are looked for once, before the first step.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from train.model import collate, response_states
from train.output_layer import output_layer, word_chunks
from train.plan import Tokenised, micro_batches

# Response positions that the base is asked about, in whole examples, and the words that are taken, at most.
POSITIONS, MOST = 256, 2048
# Tokens, padding included, in one forward pass.
BATCH_TOKENS = 512


def likely_words(model: Any, data: Sequence[Tokenised], used: Iterable[int], pad: int, seed: int, positions: int = POSITIONS, most: int = MOST) -> list[int]:
    """The `most` words (ids, sorted) with the highest mean probability over a sample of the response positions, of those that are not in `used`.

    The sample depends on the seed alone. `model` has fresh LoRA layers, which do nothing yet. It is left in training mode.
    """
    import torch

    mass = mean_probabilities(model, data, some_examples(data, positions, f"likely words:{seed}"), pad)
    mass[torch.tensor(sorted(set(used)), device=mass.device)] = 0
    top = mass.topk(min(most, len(mass)))
    return sorted(top.indices[top.values > 0].tolist())


def some_examples(data: Sequence[Tokenised], positions: int, seed: str) -> list[int]:
    """Examples in random order, as many as have so many response positions together."""
    order, chosen, found = random.Random(seed).sample(range(len(data)), len(data)), list[int](), 0
    for i in order:
        if found >= positions:
            break
        chosen.append(i)
        found += len(data[i].ids) - data[i].start
    return chosen


def mean_probabilities(model: Any, data: Sequence[Tokenised], chosen: list[int], pad: int) -> Any:
    """The probability (words,) that the model gives each word, summed over the response positions of the chosen examples. It is left in training mode."""
    import torch

    causal = model.get_base_model()
    layer = output_layer(causal)
    weight = layer.weight
    mass = torch.zeros(len(weight), dtype=torch.float32, device=weight.device)
    model.eval()
    try:
        with torch.no_grad():
            for batch in micro_batches(chosen, data, BATCH_TOKENS):
                states = response_states(model, collate([data[i] for i in batch], pad).to(str(weight.device)))
                for part in word_chunks(states, weight):
                    # In place: whole rows of probabilities are large.
                    odds = layer.logits(states[part])
                    odds.sub_(odds.amax(-1, keepdim=True)).exp_()
                    mass += odds.T @ (1 / odds.sum(-1))
    finally:
        model.train()
    return mass
