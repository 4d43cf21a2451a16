"""Whether a written model still computes what the merged one did after a long prompt: its layers in int8 as they are served, at the length of the longest
prompt. serve.engines.ct2.trial compares the arithmetic in float32, on a copy; this is about what rounding adds up to over many positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve.engines.ct2.smoothquant import TEXTS
from serve.engines.ct2.trial import prompt_limit
from serve.engines.ct2.vocabulary import Vocabulary
from tell.model.base import Base

# Tokens that both models go on with.
STEPS = 8
# Tokens of the prompt at most for a base with an adapter, which is converted anew for each version: the layers at full length are compared when the base
# alone is written, as it is for the gate.
ADAPTED = 256


def long_prompt(base: Base, tokens: Any, adapted: bool) -> list[int]:
    """Token ids of everyday sentences, one after another and again, as many as the longest prompt that is served has."""
    length = min(prompt_limit(base), base.context - STEPS, ADAPTED if adapted else base.context)
    ids = [*tokens.bos, *(i for text in TEXTS for i in tokens.encode(f"{text}\n"))]
    return (ids * (length // len(ids) + 1))[:length]


def continued(model: Any, ids: Sequence[int], kept: Sequence[int] | None = None) -> tuple[list[int], Any]:
    """What `model` of transformers goes on with, greedily, in the words that are `kept`: STEPS tokens, and the log-probabilities (STEPS, words) that they were
    the likeliest of."""
    import torch

    from serve.engines.ct2.loading import log_probs

    output: list[int] = []
    rows: list[Any] = []
    with torch.inference_mode():
        step = model(torch.tensor([list(ids)]), use_cache=True, logits_to_keep=1)
        while True:
            rows.append(log_probs(step.logits[0, -1], kept))
            row = int(rows[-1].argmax())
            output.append(row if kept is None else kept[row])
            if len(output) == STEPS:
                return output, torch.stack(rows).numpy()
            step = model(torch.tensor([output[-1:]]), past_key_values=step.past_key_values, use_cache=True)


def divergence_after(generator: Any, vocabulary: Vocabulary, ids: Sequence[int], expected: tuple[list[int], Any]) -> float:
    """Mean Kullback-Leibler divergence, in nats, of the written model, opened in float32, from what `continued` gave, over the tokens on which they are one."""
    import numpy as np

    options = {"max_length": STEPS, "sampling_topk": 1, "include_prompt_in_result": False, "end_token": [], "return_logits_vocab": True}
    result = generator.generate_batch([vocabulary.names(ids)], **options)[0]
    output, rows = expected
    written_ids = vocabulary.base_ids(result.sequences_ids[0])
    found = []
    for i, logits in enumerate(result.logits[0]):
        if output[:i] != written_ids[:i]:
            break
        written = np.asarray(logits, dtype=np.float64).reshape(-1)
        size = min(len(written), rows.shape[-1])
        written = written - (written.max() + np.log(np.exp(written - written.max()).sum()))
        found.append(float((np.exp(rows[i][:size]) * (rows[i][:size] - written[:size])).sum()))
    return float(np.mean(found))
