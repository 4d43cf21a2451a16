"""The model of a conversion: a base with an adapter in its weights, evened out for int8, written, and compared with what the original computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve.engines.ct2.vocabulary import Vocabulary
from tell.errors import AdapterError, EngineError
from tell.model.base import Base

QUANTIZATION = "int8"
# Mean Kullback-Leibler divergence, in nats, of the written model from the merged one on the probe. Gemma 3 270M's weights rounded to int8
# cost 0.01 to 0.04; a model whose layers were put together wrongly is several nats away.
MAX_DIVERGENCE = 0.5
# The same divergence of a smoothed model from the one before smoothing, which should compute the same.
SAME = 1e-4
# An adapter that moves no log-probability of the probe by this much does nothing.
MIN_EFFECT = 1e-4


def log_probs_of(model: Any, probe: Sequence[int], kept: Sequence[int] | None = None, last: bool = False) -> Any:
    """(tokens, words): the model's log-probabilities after each token of the probe, or after its last alone."""
    import torch

    from serve.engines.ct2.loading import log_probs

    options = {"logits_to_keep": 1} if last else {}
    return log_probs(model(torch.tensor([list(probe)]), **options).logits[0], kept)


def merged(base: Base, adapter: str | None, probe: Sequence[int], kept: Sequence[int] | None = None) -> tuple[Any, Any]:
    """The model in float32 with the adapter in its weights, and its log-probabilities on the probe, in the words that are `kept` (None: all).

    Raises AdapterError for an adapter that changes nothing or makes values that are not numbers, EngineError for a base that does.
    """
    import torch

    from serve.engines.ct2.loading import load_model
    from serve.engines.ct2.lora import merge_lora

    with torch.inference_mode():
        model = load_model(base, kept)
        # Where the last token's alone show that the adapter acts, the base's others are not needed; those of the merged model are all looked at.
        before = _finite(base, log_probs_of(model, probe, kept, last=adapter is not None))
        if adapter is None:
            return model, before
        merge_lora(model, Path(adapter))
        after = log_probs_of(model, probe, kept)
        finite = bool(torch.isfinite(after).all())
        if not finite or (after[-1:] - before).abs().max().item() < MIN_EFFECT:
            # Rare, so that a second model may stand beside the first.
            before = _finite(base, log_probs_of(load_model(base, kept), probe, kept))
            if not finite:
                raise AdapterError("with this adapter the model computes values that are not numbers", place=adapter)
            if (difference := (after - before).abs().max().item()) < MIN_EFFECT:
                raise AdapterError("the adapter changes nothing", place=adapter, found=f"log-probabilities moved by {difference:.1e} at most")
    return model, after


def _finite(base: Base, log_probs: Any) -> Any:
    import torch

    if not torch.isfinite(log_probs).all():
        raise EngineError("the base computes values that are not numbers", place=str(base.path))
    return log_probs


def smoothed(base: Base, adapter: str | None, texts: Sequence[Sequence[int]], probe: Sequence[int], kept: Sequence[int] | None = None) -> tuple[Any, Any, int]:
    """`merged`, smoothed for int8 by these texts, and the number of layers that were. A model that would then compute something else is left as it is."""
    import torch

    from serve.engines.ct2.smoothquant import smooth

    model, expected = merged(base, adapter, probe, kept)
    layers = smooth(model, texts)
    if layers:
        with torch.inference_mode():
            divergence = (expected.exp() * (expected - log_probs_of(model, probe, kept))).sum(-1).mean().item()
        if not abs(divergence) < SAME:
            del model
            return *merged(base, adapter, probe, kept), 0
    return model, expected, layers


def write(
    base: Base, model: Any, directory: Path, quantization: str = QUANTIZATION, kept: Sequence[int] | None = None, names: Sequence[str] | None = None
) -> None:
    """Write the model, which is used up. `names`: those of the base's whole vocabulary, where they are known."""
    import gc

    from serve.engines.ct2.writing import write_model
    from tell.machine import give_back

    # ctranslate2 raises ValueError for an architecture that it does not know, and the others for one that transformers has changed since.
    try:
        write_model(base.path, model, directory, quantization, kept, names)
    except (ValueError, NotImplementedError, AttributeError, KeyError) as e:
        raise EngineError("ctranslate2 cannot run this base", place=str(base.path), found=f"{base.architecture}: {e}", valid="--engine vllm") from None
    # What the converter and the model hold of each other, before the written model takes as much.
    gc.collect()
    give_back()


def opened(directory: Path, threads: int) -> tuple[Any, Vocabulary]:
    """The written model in float32: comparing tests the writing, not int8 arithmetic."""
    import ctranslate2

    generator = ctranslate2.Generator(str(directory), device="cpu", compute_type="float32", intra_threads=threads)
    return generator, Vocabulary.read(directory)


def check_divergence(base: Base, generator: Any, vocabulary: Vocabulary, probe: Sequence[int], expected: Any) -> float:
    """The divergence of the written model from the merged one, whose log-probabilities are (tokens, words that are kept)."""
    import numpy as np

    written_log_probs = np.array(generator.forward_batch([vocabulary.names(probe)], return_log_probs=True))[0]
    expected_log_probs = expected.numpy()
    size = min(written_log_probs.shape[-1], expected_log_probs.shape[-1])
    divergence = float((np.exp(expected_log_probs[:, :size]) * (expected_log_probs[:, :size] - written_log_probs[:, :size])).sum(-1).mean())
    check_bound(base, divergence, len(probe))
    return divergence


def check_bound(base: Base, divergence: float, length: int) -> None:
    if not divergence < MAX_DIVERGENCE:
        raise EngineError(
            "ctranslate2 computes something else than the original model",
            place=str(base.path),
            found=f"{divergence:.3f} nats apart on {length} tokens",
            valid=f"under {MAX_DIVERGENCE}; --engine vllm runs this base",
        )
