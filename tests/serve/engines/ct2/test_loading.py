"""A conversion reads, merges and writes what transformers, peft and ctranslate2's own converter do, without a second copy of a model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ctranslate2", reason="the engine ct2 is not installed")
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from serve.engines.ct2.loading import load_model, rows_of
from serve.engines.ct2.lora import merge_lora
from serve.engines.ct2.merged import merged
from serve.engines.ct2.writing import write_model
from tell.adapter.card import CONFIG, WEIGHTS
from tell.errors import AdapterError
from tell.model.base import Base
from tests.support.tiny import make_tiny_adapter

IDS = [[2, *(int(i) for i in torch.randint(4, 1000, (30,), generator=torch.Generator().manual_seed(3)))]]
# With gaps that are read over, and some that are not.
KEPT = [0, 1, 2, 3, *range(40, 300, 2), 500, 501, 999, 1023]


def whole(base: Base) -> Any:
    return AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32, local_files_only=True).eval()


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model(torch.tensor(IDS)).logits[0]


@pytest.fixture
def untied(tiny: Base, tmp_path: Path) -> Base:
    """The tiny base with an output layer of its own."""
    path = tmp_path / "untied"
    shutil.copytree(tiny.path, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    weights = load_file(path / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    return tiny.model_copy(update={"path": path})


@pytest.mark.parametrize("kind", ["tiny", "untied"])
def test_a_model_whose_largest_matrices_stay_in_the_file_computes_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    base = request.getfixturevalue(kind)
    model, expected = load_model(base), logits(whole(base))
    assert rows_of(model.get_input_embeddings()) is not None and rows_of(model.get_output_embeddings()) is not None
    assert [name for name, p in model.named_parameters() if p.is_meta] == ["model.embed_tokens.weight", *(["lm_head.weight"] if kind == "untied" else [])]
    assert torch.allclose(logits(model), expected, atol=1e-4)
    assert torch.allclose(logits(load_model(base, KEPT)), expected[:, KEPT], atol=1e-4)


def test_files_with_other_names_are_read_by_transformers(untied: Base) -> None:
    """What transformers renames, joins or leaves out as it reads."""
    weights = load_file(untied.path / "model.safetensors")
    save_file({name.removeprefix("model."): w for name, w in weights.items() if name != "lm_head.weight"}, untied.path / "model.safetensors", {"format": "pt"})
    config = json.loads((untied.path / "config.json").read_text())
    (untied.path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    model = load_model(untied)
    assert rows_of(model.get_input_embeddings()) is None
    assert torch.allclose(logits(model), logits(whole(untied)), atol=1e-4)


@pytest.mark.parametrize("rslora", [False, True])
def test_a_merged_adapter_is_what_peft_makes_of_it(tiny: Base, tmp_path: Path, rslora: bool) -> None:
    from peft import PeftModel

    adapter = make_tiny_adapter(tmp_path / "adapter", tiny).path
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, "use_rslora": rslora}))
    model = load_model(tiny)
    before = {name: p.clone() for name, p in model.named_parameters() if not p.is_meta}
    merge_lora(model, adapter)
    expected = dict(PeftModel.from_pretrained(whole(tiny), str(adapter)).merge_and_unload().named_parameters())
    changed = [name for name, p in before.items() if not torch.equal(p, model.get_parameter(name))]
    assert len(changed) == len(load_file(adapter / WEIGHTS)) / 2 > 0
    for name in before:
        assert torch.allclose(model.get_parameter(name), expected[name], atol=1e-6), name


def test_a_weight_that_belongs_to_no_module(tiny: Base, tmp_path: Path) -> None:
    adapter = make_tiny_adapter(tmp_path / "adapter", tiny).path
    weights = load_file(adapter / WEIGHTS)
    save_file({name.replace("layers.0", "layers.7"): w for name, w in weights.items()}, adapter / WEIGHTS)
    with pytest.raises(AdapterError, match=r"the base has no such module; found .*layers\.7"):
        merge_lora(load_model(tiny), adapter)


def _scaled(adapter: Path, factor: float) -> str:
    weights = load_file(adapter / WEIGHTS)
    save_file({name: w * factor if "lora_B" in name else w for name, w in weights.items()}, adapter / WEIGHTS)
    return str(adapter)


def test_an_adapter_that_does_nothing_or_too_much_is_refused(tiny: Base, tmp_path: Path) -> None:
    none, much = (make_tiny_adapter(tmp_path / name, tiny).path for name in ("none", "much"))
    with pytest.raises(AdapterError, match="the adapter changes nothing; found log-probabilities moved by"):
        merged(tiny, _scaled(none, 1e-9), IDS[0])
    with pytest.raises(AdapterError, match="with this adapter the model computes values that are not numbers"):
        merged(tiny, _scaled(much, 1e38), IDS[0])


@pytest.mark.parametrize("kind", ["tiny", "untied"])
def test_what_is_written_are_the_bytes_of_ctranslate2s_own_converter(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    base = request.getfixturevalue(kind)

    class Own(TransformersConverter):  # type: ignore[misc]
        def load_model(self, *args: Any, **options: Any) -> Any:
            return whole(base)

    Own(str(base.path)).convert(str(tmp_path / "own"), quantization="int8")
    names = json.loads((tmp_path / "own" / "vocabulary.json").read_text())
    for folder, given in (("read", None), ("given", names)):
        write_model(base.path, load_model(base), tmp_path / folder, "int8", None, given)
        for name in ("model.bin", "vocabulary.json", "config.json"):
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "own" / name).read_bytes(), name


def test_a_tied_matrix_of_a_cut_model_is_written_once(tiny: Base, untied: Base, tmp_path: Path) -> None:
    sizes = []
    for base in (tiny, untied):
        write_model(base.path, load_model(base, KEPT), tmp_path / base.path.name, "int8", KEPT)
        sizes.append((tmp_path / base.path.name / "model.bin").stat().st_size)
    # A byte for each weight, and four for the scale of each row.
    assert abs(sizes[1] - sizes[0] - len(KEPT) * (64 + 4)) < 200


def test_a_conversion_loads_nothing_that_it_has_no_use_for() -> None:
    code = "import sys; from serve.engines.ct2.convert import load_libraries; load_libraries(); print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert "torch" in loaded and "transformers" in loaded
    assert not loaded & {"peft", "sklearn", "scipy", "pandas", "accelerate", "bitsandbytes", "fastapi"}


def test_a_service_needs_neither_torch_nor_transformers(tiny: Base) -> None:
    """Its models are converted in a process of its own: what that one loads takes 350 MiB, and the service has it never."""
    code = (
        "import asyncio, sys, serve.app, serve.server, serve.cli\n"
        "from tell.model.engine import EngineOptions, Prompt, open_engine\n"
        "from tell.model.base import Base\n"
        "async def go():\n"
        "    engine = open_engine('ct2', EngineOptions(base=Base.model_validate_json(sys.argv[1]), threads=1))\n"
        "    await engine.start()\n"
        "    await engine.generate([Prompt((2, 300), 4, False)], None)\n"
        "    await engine.close()\n"
        "asyncio.run(go())\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, tiny.model_dump_json()], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ctranslate2" in loaded and "tokenizers" in loaded
    assert not loaded & {"torch", "transformers", "peft", "sklearn", "scipy", "pandas", "accelerate"}
