"""Where LoRA layers go in each class of bases, and classes whose decoders are built otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tell.errors import RecipeError
from tests.support.bases import CLASSES, make_checkpoint, make_model
from train.vllm_limits import lora_target_modules


def base_of(name: str, place: Path, cache: Path) -> Any:
    from train.fetch_base import fetch_base

    return fetch_base(str(make_checkpoint(name, place / "base", cache)))


@pytest.mark.parametrize("name", CLASSES)
def test_every_target_lies_in_a_layer_of_the_text_decoder(name: str) -> None:
    model = make_model(name)
    chosen = lora_target_modules(model, "all-linear")
    if isinstance(chosen, str):
        return
    place = next(n for n, m in model.named_modules() if m is model.get_decoder())
    assert chosen and all(t.startswith((f"{place}.layers.", f"{place}.h.")) for t in chosen)


@pytest.mark.parametrize("name", ["Gemma 3", "Llama 3", "Qwen 3", "Phi 3"])
def test_plain_classes_have_the_targets_they_had(name: str) -> None:
    model = make_model(name)
    assert lora_target_modules(model, "all-linear") == "all-linear"
    assert lora_target_modules(model, ["down_proj"]) == ["down_proj"]


def test_a_class_with_vision_has_lora_below_its_text_decoder_alone() -> None:
    model = make_model("Gemma 3 with vision")
    q = lora_target_modules(model, ["q_proj"])
    assert q == [f"model.language_model.layers.{i}.self_attn.q_proj" for i in range(2)]
    with pytest.raises(RecipeError, match=r"no linear layer of this name; found fc1; valid: down_proj, .*v_proj"):
        lora_target_modules(model, ["fc1"])


def test_a_tower_whose_linear_layers_lie_within_modules_of_these_names_gets_none() -> None:
    chosen = lora_target_modules(make_model("Gemma 4 with vision"), ["q_proj"])
    assert chosen == [f"model.language_model.layers.{i}.self_attn.q_proj" for i in range(2)]


@pytest.mark.parametrize("name", ["Qwen 3.5 with vision", "Ministral 3 with vision", "Gemma 4 with vision"])
def test_a_wrapper_is_loaded_as_the_class_that_its_checkpoint_names(name: str, tiny_cache: Path, tmp_path: Path) -> None:
    from train.config import LoraOptions
    from train.model import load_model, lora_parameters

    model = load_model(base_of(name, tmp_path, tiny_cache), LoraOptions(rank=8), "float32", "cpu", 0)
    assert type(model.get_base_model()).__name__ == CLASSES[name][0]
    # The engines ignore an adapter's layers of other names.
    assert all(n.startswith("base_model.model.model.language_model.layers.") for n in lora_parameters(model))


@pytest.mark.parametrize(("name", "attention"), [("Gemma 2", "eager"), ("BLOOM", "eager"), ("Gemma 3", "sdpa")])
def test_attention_is_plain_where_the_fused_one_is_missing_or_something_else(name: str, attention: str, tiny_cache: Path, tmp_path: Path) -> None:
    from tell.model.embeddings import load

    model = load(base_of(name, tmp_path, tiny_cache), "float32", "cpu")
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("name", ["GPT-2", "BLOOM", "Falcon", "Gemma 3 with vision"])
def test_layers_are_found_to_be_compiled(name: str, tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from train.config import LoraOptions
    from train.model import compile_layers, load_model

    model = load_model(base_of(name, tmp_path, tiny_cache), LoraOptions(rank=8), "float32", "cpu", 0)
    compiled: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compiled.append(self))
    compile_layers(model)
    assert len(compiled) == 2


@pytest.mark.parametrize("name", ["LFM 2", "Granite 4", "Qwen 3.5", "Falcon", "BLOOM", "Gemma 3 with vision"])
def test_validation_writes_for_each_prompt_what_it_writes_alone(name: str, tiny: Any) -> None:
    """Padding on the left, rows that end before others, and layers that keep what they have read."""
    import asyncio

    import torch

    from tell.model.engine import Prompt
    from tell.model.tokenizer import BaseTokenizer
    from train.validation import _GreedyEngine

    class Wrapped:
        def get_base_model(self) -> Any:
            return model

    model = make_model(name)
    engine = _GreedyEngine(BaseTokenizer(tiny), "cpu")
    engine.model = Wrapped()
    draw = torch.Generator().manual_seed(4)
    sizes = ((5, 9), (17, 4), (11, 12))
    prompts = [Prompt(tuple(torch.randint(5, 900, (n,), generator=draw).tolist()), most, False) for n, most in sizes]
    with torch.no_grad():
        together = asyncio.run(engine.generate(prompts, None))
        assert together == [asyncio.run(engine.generate([p], None))[0] for p in prompts]
