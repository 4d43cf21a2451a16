"""What no driver loads or starts on: adapters that would not act or do not belong here, and bases that are broken."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import WEIGHTS, Adapter
from tell.errors import AdapterError, EngineError
from tell.model.base import Base
from tests.support.engine_fixtures import DRIVERS, RANK, Running, altered, prompts, unstarted_engine
from tests.support.tiny import make_tiny_adapter

pytest_plugins = ["tests.support.engine_fixtures"]
pytestmark = pytest.mark.usefixtures("in_cache")


def _renamed(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n.replace(".self_attn.", ".attention."): t for n, t in tensors.items()}


def _narrow(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n: t[:, :-1].contiguous() if "layers.0.mlp.up_proj.lora_A" in n else t for n, t in tensors.items()}


def _embedding(tensors: dict[str, Any]) -> dict[str, Any]:
    extra = {n.replace("model.layers.0.mlp.up_proj", "lm_head"): t.clone() for n, t in tensors.items() if "layers.0.mlp.up_proj" in n}
    return {**tensors, **extra}


def _silent(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n: t * 0 if ".lora_B." in n else t for n, t in tensors.items()}


def _nan(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n: t / 0 if "layers.1.mlp.down_proj.lora_B" in n else t for n, t in tensors.items()}


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({}, _renamed, "the base has no such module.*self_attn|attention"),
        ({}, _embedding, "the base has no such module.*lm_head"),
        ({}, _narrow, "shape does not fit"),
        ({"r": 4}, None, "shape does not fit"),
        ({"r": 0}, None, "rank cannot be served"),
        ({"use_dora": True}, None, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, None, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, None, "changes the base"),
        ({"peft_type": "LOHA"}, None, "not a LoRA"),
        ({}, _silent, "changes nothing"),
        ({}, _nan, "not numbers"),
    ],
)
def test_an_adapter_that_would_not_act_is_refused(
    running: Running, adapters: tuple[Adapter, Adapter], tmp_path: Path, config: dict[str, Any], tensors: Any, message: str
) -> None:
    wrong = altered(adapters[0], tmp_path / "wrong", config, tensors)
    with pytest.raises(AdapterError, match=message):
        running.do(running.engine.load(wrong.id, wrong.path))
    assert running.engine.loaded() == []
    assert running.do(running.engine.healthy()) and running.texts(prompts(1), None)


def test_a_half_written_altered_or_foreign_adapter_is_refused(running: Running, base: Base, adapters: tuple[Adapter, Adapter], tmp_path: Path) -> None:
    a, b = adapters
    load = running.engine.load
    with pytest.raises(AdapterError, match="no such adapter"):
        running.do(load(a.id, tmp_path / "none"))
    half = shutil.copytree(a.path, tmp_path / "half")
    (half / "card.json").unlink()
    with pytest.raises(AdapterError, match=r"no card\.json"):
        running.do(load(a.id, half))
    cut = shutil.copytree(a.path, tmp_path / "cut")
    os.truncate(cut / WEIGHTS, 5000)
    with pytest.raises(AdapterError, match="cut short"):
        running.do(load(a.id, cut))
    with pytest.raises(AdapterError, match="another adapter"):
        running.do(load(b.id, a.path))
    other = make_tiny_adapter(tmp_path / "other", base.model_copy(update={"revision": "f" * 64}), rank=RANK)
    with pytest.raises(AdapterError, match="do not match"):
        running.do(load(other.id, other.path))
    large = make_tiny_adapter(tmp_path / "large", base, rank=2 * RANK)
    with pytest.raises(AdapterError, match=f"found {2 * RANK}; valid: 1 to {RANK}"):
        running.do(load(large.id, large.path))
    assert running.engine.loaded() == []


def test_no_more_adapters_than_asked_for(running: Running, loaded: tuple[str, str], base: Base, tmp_path: Path) -> None:
    third = make_tiny_adapter(tmp_path / "third", base, seed=3, rank=RANK)
    with pytest.raises(AdapterError, match="too many"):
        running.do(running.engine.load(third.id, third.path))
    assert running.engine.loaded() == sorted(loaded)


@pytest.mark.parametrize("name", DRIVERS)
def test_a_broken_base_does_not_start(name: str, base: Base, tmp_path: Path) -> None:
    if name == "vllm":
        pytest.importorskip("vllm")

    def start(path: Path) -> None:
        async def go() -> None:
            engine = unstarted_engine(name, base.model_copy(update={"path": path}))
            try:
                await engine.start()
            finally:
                await engine.close()

        asyncio.run(asyncio.wait_for(go(), 200))

    with pytest.raises(EngineError, match="configuration"):
        start(tmp_path / "nowhere")
    cut = shutil.copytree(base.path, tmp_path / "cut")
    os.truncate(cut / "model.safetensors", 100_000)
    with pytest.raises(EngineError, match="weights cannot be read"):
        start(cut)
    mute = shutil.copytree(base.path, tmp_path / "mute")
    (mute / "tokenizer.json").write_text("{}")
    with pytest.raises(EngineError, match="tokenizer"):
        start(mute)
