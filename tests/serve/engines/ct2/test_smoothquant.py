"""Evening out activations before int8: the model computes what it did, and its int8 copy comes nearer to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ctranslate2", reason="the engine ct2 is not installed")
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from serve.engines.ct2 import smoothquant
from serve.engines.ct2.convert import Conversion
from serve.engines.ct2.merged import log_probs_of, merged, smoothed, write
from serve.engines.ct2.smoothquant import smooth
from tell.model.base import Base

TEXTS = [[int(i) for i in torch.randint(4, 1000, (40,), generator=torch.Generator().manual_seed(n))] for n in range(8)]
SHAPE = {"vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}


def model_with_outliers(kind: str) -> Any:
    """A model of two layers with a few channels far larger than the others, as language models have them."""
    torch.manual_seed(5)
    if kind == "gemma":
        config = Gemma3TextConfig(**SHAPE, num_key_value_heads=1, head_dim=64, layer_types=["sliding_attention", "full_attention"])
        model: Any = Gemma3ForCausalLM(config)
    elif kind == "llama with biases":
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=1, attention_bias=True, mlp_bias=True))
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(p)
    else:
        return GPT2LMHeadModel(GPT2Config(vocab_size=1024, n_embd=64, n_layer=2, n_head=2)).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            second = layer.pre_feedforward_layernorm if kind == "gemma" else layer.post_attention_layernorm
            for norm in (layer.input_layernorm, second):
                norm.weight[[3, 17]] = 60.0
            layer.mlp.up_proj.weight[[5, 40]] *= 40
    return model.eval()


@pytest.mark.parametrize("kind", ["gemma", "llama with biases"])
def test_the_model_computes_what_it_did_and_its_activations_are_even(kind: str) -> None:
    model = model_with_outliers(kind)
    with torch.inference_mode():
        before = log_probs_of(model, TEXTS[0])
        places = [p for layer in model.model.layers for p in smoothquant._places(layer)]
        assert len(places) == 6
        unevenness = [float(h.max() / h.median()) for h in smoothquant._largest(model, [p[2][0] for p in places], TEXTS)]
        assert smooth(model, TEXTS) == 2
        assert (before - log_probs_of(model, TEXTS[0])).abs().max() < 1e-3
        now = [float(h.max() / h.median()) for h in smoothquant._largest(model, [p[2][0] for p in places], TEXTS)]
    assert all(b < a / 2 for a, b in zip(unevenness, now, strict=True)), (unevenness, now)


def test_texts_that_are_computed_together_are_as_large_as_alone() -> None:
    model = model_with_outliers("gemma")
    modules = [p[2][0] for layer in model.model.layers for p in smoothquant._places(layer)]
    texts = [ids[: 5 + 4 * n] for n, ids in enumerate(TEXTS)]
    with torch.inference_mode():
        alone = [smoothquant._largest(model, modules, [ids]) for ids in texts]
        together = smoothquant._largest(model, modules, texts)
    for n, heights in enumerate(together):
        assert torch.allclose(heights, torch.stack([a[n] for a in alone]).amax(0), rtol=1e-4, atol=1e-5)


def test_a_kind_of_model_that_is_not_known_is_left_alone() -> None:
    model = model_with_outliers("gpt2")
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert smooth(model, TEXTS) == 0
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.fixture
def uneven(tiny: Base, tmp_path: Path) -> Base:
    """The tiny base with a few channels that are far larger than the others."""
    import shutil

    path = tmp_path / "uneven"
    shutil.copytree(tiny.path, path)
    model = Gemma3ForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        for layer in model.model.layers:
            for norm in (layer.input_layernorm, layer.pre_feedforward_layernorm):
                norm.weight[[3, 17]] = 60.0
    model.save_pretrained(path)
    return tiny.model_copy(update={"path": path})


def divergence(base: Base, model: Any, expected: Any, probe: list[int], directory: Path) -> float:
    """Nats between what ctranslate2 computes in int8 and what the model does."""
    import ctranslate2
    import numpy as np

    write(base, model, directory)
    names = json.loads((directory / "vocabulary.json").read_text())
    generator = ctranslate2.Generator(str(directory), device="cpu", compute_type="int8", intra_threads=1)
    written_log_probs = np.array(generator.forward_batch([[names[i] for i in probe]], return_log_probs=True))[0]
    expected_log_probs = expected.numpy()
    return float((np.exp(expected_log_probs) * (expected_log_probs - written_log_probs[:, : expected_log_probs.shape[-1]])).sum(-1).mean())


def test_int8_comes_nearer(uneven: Base, tmp_path: Path) -> None:
    ids = Conversion(uneven, None, 1).job()["ids"]
    texts, probe = ids["texts"], ids["probe"]
    plain, expected = merged(uneven, None, probe)
    as_it_is = divergence(uneven, plain, expected, probe, tmp_path / "plain")
    even, same, layers = smoothed(uneven, None, texts, probe)
    assert layers == 2 and torch.equal(same, expected)
    assert 0 <= divergence(uneven, even, expected, probe, tmp_path / "even") < as_it_is / 2


def test_what_would_compute_something_else_is_not_taken(uneven: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = Conversion(uneven, None, 1).job()["ids"]
    texts, probe = ids["texts"], ids["probe"]
    monkeypatch.setattr(smoothquant, "_offset", lambda norm: 0.0)
    model, expected, layers = smoothed(uneven, None, texts, probe)
    with torch.inference_mode():
        assert layers == 0 and (expected - log_probs_of(model, probe)).abs().max() < 1e-5
