"""The output layer: cross-entropy of response tokens and its gradient, over the whole vocabulary or a sample of it.

It is the costliest part of a small base with a large vocabulary (262,144 words for Gemma 3). Two things make it cheap. It is frozen, so
the gradient has a closed form, (softmax - onehot) @ weight, and autograd need not keep copies of the logits. And most of its words are
in no response of the data: the normaliser is summed over the data's own words and those that the base finds likeliest in their places
(train.likely_words), and the rest is estimated from a fresh sample each step (importance sampling as in Jean et al. 2015, arXiv 1412.2007).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from train.word_table import WordTable

# Logits held at once, in float32: 64 MiB on a processor, 1 GiB on a GPU, where small products are slow.
CHUNK, CHUNK_CUDA = 1 << 24, 1 << 28


@dataclasses.dataclass(frozen=True, slots=True)
class OutputLayer:
    """Logits of hidden states, as the base's class computes them: softcap * tanh((hidden @ weight.T + bias) * scale / softcap).

    `weight` (words, d) and `bias` (words,) may hold some of the words only. Bases differ: Phi has a bias, Granite and Cohere scale, Gemma 2 caps. The weight
    of all words may be a table in the base's file.
    """

    weight: Any
    bias: Any = None
    scale: float = 1.0
    softcap: float | None = None

    def rows(self, words: Any) -> OutputLayer:
        """The layer of these words alone, ids (n,)."""
        words = words.to(self.weight.device)
        return dataclasses.replace(self, weight=self.weight[words], bias=None if self.bias is None else self.bias[words])

    def joined(self, other: OutputLayer) -> OutputLayer:
        """The words of this one, then those of `other`, which is of the same base."""
        import torch

        bias = None if self.bias is None else torch.cat([self.bias, other.bias])
        return dataclasses.replace(self, weight=torch.cat([self.weight, other.weight]), bias=bias)

    def logits(self, hidden: Any) -> Any:
        """The logits (n, words) of hidden states (n, d), in float32 at least."""
        import torch
        from torch.nn import functional as F

        hidden = hidden.to(self.weight.dtype)
        logits = self.weight.product(hidden, self.bias) if isinstance(self.weight, WordTable) else F.linear(hidden, self.weight, self.bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.softcap) * self.softcap if self.softcap else logits

    def gradient(self, slopes: Any) -> Any:
        """The gradient (n, d) with respect to hidden states of one (n, words) with respect to the product of `weight`."""
        slopes = slopes.to(self.weight.dtype)
        return self.weight.transposed_product(slopes) if isinstance(self.weight, WordTable) else slopes @ self.weight


def output_layer(causal: Any) -> OutputLayer:
    """The output layer of a causal language model of transformers. What is in no class that this knows shows in `train.output_check`."""
    head, config = causal.get_output_embeddings(), causal.config.get_text_config()
    scale = 1.0
    # Cohere; other configurations have the name too (MPT), and their models no use for it.
    if isinstance(factor := getattr(causal, "logit_scale", None), (int, float)):
        scale = float(factor)
    elif factor := getattr(config, "logits_scaling", None):
        # Granite and MiniCPM 3 divide by it, HyperCLOVA X multiplies.
        scale = float(factor) if str(config.model_type).startswith("hyperclovax") else 1.0 / float(factor)
    elif factor := getattr(config, "lm_head_multiplier", None):
        # Falcon H1.
        scale = float(factor)
    bias = getattr(head, "bias", None)
    softcap = getattr(config, "final_logit_softcapping", None)
    weight = table if (table := getattr(head, "word_table", None)) is not None else head.weight.detach()
    return OutputLayer(weight, None if bias is None else bias.detach(), scale, float(softcap) if softcap else None)


class SampledVocabulary:
    """The words of the output layer that a step's softmax is computed over.

    `layer` is the whole layer. Words in `used` are always included; `draw` samples `negatives` of the others, and each represents
    an equal part of all of them. All words are included when `negatives` is 0, or at least as many as there are others.
    """

    def __init__(self, layer: OutputLayer, used: Iterable[int], negatives: int, seed: int):
        import torch

        weight = layer.weight
        self._whole = layer
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
            self.layer, self.correction, self._place = layer, None, None
            return
        self._kept = layer.rows(keep)
        self._place = torch.full((len(weight),), -1, dtype=torch.long)
        self._place[keep] = torch.arange(len(keep))
        self._place = self._place.to(weight.device)
        # Added to the logits: each word that is drawn stands for several.
        self.correction = torch.zeros(len(keep) + negatives, dtype=torch.float32, device=weight.device)
        self.correction[len(keep) :] = math.log(len(self._rest) / negatives)

    def draw(self, step: int) -> None:
        """Draw the sample of one optimiser step. It depends on the seed and the step alone, so that a resumed run draws the same."""
        if self.all:
            return
        import torch

        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        # With replacement: the estimate of the normaliser is unbiased, and drawing is cheap.
        drawn = self._rest[torch.randint(len(self._rest), (self._negatives,), generator=generator)]
        self.layer = self._kept.joined(self._whole.rows(drawn))

    def places(self, labels: Any) -> Any:
        """Rows of `layer` for token ids, all of which must be in `used`."""
        return labels if self._place is None else self._place[labels]


def word_chunks(hidden: Any, weight: Any) -> list[slice]:
    """The rows of hidden states in parts whose logits may be held at once."""
    rows = max(1, (CHUNK_CUDA if hidden.is_cuda else CHUNK) // len(weight))
    return [slice(start, start + rows) for start in range(0, len(hidden), rows)]


def output_losses(hidden: Any, layer: OutputLayer, labels: Any) -> Any:
    """The cross-entropy (nats) of each of `labels` (n,) under the softmax of the layer's logits: (n,)."""
    import torch
    from torch.nn import functional as F

    return torch.cat([F.cross_entropy(layer.logits(hidden[part]), labels[part], reduction="none") for part in word_chunks(hidden, layer.weight)])


def output_loss(hidden: Any, layer: OutputLayer, labels: Any, correction: Any = None) -> tuple[Any, Any]:
    """Summed cross-entropy (nats) of `labels` (n,) under the softmax of the layer's logits + correction, and its gradient with respect to `hidden` (n, d).

    The sum stays a float64 tensor (): reading its value would make the host wait for the GPU.
    """
    import torch

    gradient = torch.empty_like(hidden)
    total = torch.zeros((), dtype=torch.float64, device=hidden.device)
    with torch.no_grad():
        for part in word_chunks(hidden, layer.weight):
            labels_of_part = labels[part]
            row = torch.arange(len(labels_of_part), device=hidden.device)
            logits = layer.logits(hidden[part])
            slope = 1 - (logits / layer.softcap) ** 2 if layer.softcap else None
            if correction is not None:
                logits += correction
            total += (torch.logsumexp(logits, -1) - logits[row, labels_of_part]).sum()
            probabilities = torch.softmax(logits, -1)
            probabilities[row, labels_of_part] -= 1
            if slope is not None:
                probabilities *= slope
            if layer.scale != 1.0:
                probabilities *= layer.scale
            gradient[part] = layer.gradient(probabilities).to(hidden.dtype)
    return total, gradient
