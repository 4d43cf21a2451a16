"""The output layer: cross-entropy of response tokens and its gradient, over the whole vocabulary or a sample of it.

It is the costliest part of a small base with a large vocabulary (262,144 words for Gemma 3). Two things make it cheap. It is frozen, so
the gradient has a closed form, (softmax - onehot) @ weight, and autograd need not keep copies of the logits. And most of its words are
in no response of the data: the normaliser is summed over the data's own words and those that the base finds likeliest in their places
(train.likely_words), and the rest is estimated from a fresh sample each step (importance sampling as in Jean et al. 2015, arXiv 1412.2007).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

# Logits held at once, in float32: 128 MiB on a processor, 1 GiB on a GPU, where small products are slow.
CHUNK, CHUNK_CUDA = 1 << 25, 1 << 28


class SampledVocabulary:
    """The words of the output layer that a step's softmax is computed over.

    `weight` is the whole layer (words, d). Words in `used` are always included; `draw` samples `negatives` of the others, and each represents
    an equal part of all of them. All words are included when `negatives` is 0, or at least as many as there are others.
    """

    def __init__(self, weight: Any, used: Iterable[int], negatives: int, seed: int):
        import torch

        self._weight = weight.detach()
        self._seed = seed
        keep = torch.tensor(sorted(set(used)), dtype=torch.long)
        # The words that are always included.
        self.included = keep
        rest = torch.ones(len(weight), dtype=torch.bool)
        rest[keep] = False
        self._rest = rest.nonzero()[:, 0]
        self._negatives = negatives
        self.all = negatives == 0 or negatives >= len(self._rest)
        if self.all:
            self.weight, self.bias, self._place = self._weight, None, None
            return
        self._kept = self._weight[keep.to(weight.device)]
        self._place = torch.full((len(weight),), -1, dtype=torch.long)
        self._place[keep] = torch.arange(len(keep))
        self._place = self._place.to(weight.device)
        self.bias = torch.zeros(len(keep) + negatives, dtype=torch.float32, device=weight.device)
        self.bias[len(keep) :] = math.log(len(self._rest) / negatives)

    def draw(self, step: int) -> None:
        """Draw the sample of one optimiser step. It depends on the seed and the step alone, so that a resumed run draws the same."""
        if self.all:
            return
        import torch

        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        # With replacement: the estimate of the normaliser is unbiased, and drawing is cheap.
        drawn = self._rest[torch.randint(len(self._rest), (self._negatives,), generator=generator)]
        self.weight = torch.cat([self._kept, self._weight[drawn.to(self._weight.device)]])

    def places(self, labels: Any) -> Any:
        """Rows of `weight` for token ids, all of which must be in `used`."""
        return labels if self._place is None else self._place[labels]


def word_logits(hidden: Any, weight: Any, softcap: float | None) -> Any:
    """The logits (n, words) of hidden states (n, d), in float32 at least."""
    import torch
    from torch.nn import functional as F

    logits = F.linear(hidden, weight)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.tanh(logits / softcap) * softcap if softcap else logits


def word_chunks(hidden: Any, weight: Any) -> list[slice]:
    """The rows of hidden states in parts whose logits may be held at once."""
    rows = max(1, (CHUNK_CUDA if hidden.is_cuda else CHUNK) // len(weight))
    return [slice(start, start + rows) for start in range(0, len(hidden), rows)]


def output_losses(hidden: Any, weight: Any, labels: Any, softcap: float | None = None) -> Any:
    """The cross-entropy (nats) of each of `labels` (n,) under softmax(hidden @ weight.T): (n,)."""
    import torch
    from torch.nn import functional as F

    return torch.cat([F.cross_entropy(word_logits(hidden[part], weight, softcap), labels[part], reduction="none") for part in word_chunks(hidden, weight)])


def output_loss(hidden: Any, weight: Any, labels: Any, softcap: float | None = None, bias: Any = None) -> tuple[Any, Any]:
    """Summed cross-entropy (nats) of `labels` (n,) under softmax(hidden @ weight.T + bias), and its gradient with respect to `hidden` (n, d).

    The sum stays a float64 tensor (): reading its value would make the host wait for the GPU.
    """
    import torch

    gradient = torch.empty_like(hidden)
    total = torch.zeros((), dtype=torch.float64, device=hidden.device)
    with torch.no_grad():
        for part in word_chunks(hidden, weight):
            labels_of_part = labels[part]
            row = torch.arange(len(labels_of_part), device=hidden.device)
            logits = word_logits(hidden[part], weight, softcap)
            slope = 1 - (logits / softcap) ** 2 if softcap else None
            if bias is not None:
                logits += bias
            total += (torch.logsumexp(logits, -1) - logits[row, labels_of_part]).sum()
            probabilities = torch.softmax(logits, -1)
            probabilities[row, labels_of_part] -= 1
            if slope is not None:
                probabilities *= slope
            gradient[part] = probabilities.to(hidden.dtype) @ weight
    return total, gradient
