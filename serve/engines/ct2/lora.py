"""A LoRA into the weights of its base, one layer after the other: W + scaling * (B @ A) in float32, as peft merges it, without a second model around the first.

Reads adapter_config.json and adapter_model.safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from serve.engines.checkpoint import LORA_WEIGHT
from tell.adapter.card import CONFIG, WEIGHTS
from tell.errors import AdapterError


def scaling(config: dict[str, Any], rank: int) -> float:
    """What the product of a module's matrices is multiplied by: alpha by rank, or by its root with rsLoRA (Kalajdzievski 2023, arXiv 2312.03732). Patterns of
    several alphas are refused before (serve.engines.checkpoint)."""
    alpha: float = config["lora_alpha"]
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def merge_lora(model: Any, adapter: Path) -> None:
    """Add an adapter to the weights of `model`, in place. Raises AdapterError for a weight that belongs to no linear layer of it."""
    import torch
    from safetensors import safe_open

    config = json.loads((adapter / CONFIG).read_text())
    place = adapter / WEIGHTS
    with safe_open(place, framework="pt") as f, torch.no_grad():
        names = set(f.keys())
        for module_name in sorted(_modules(names, place)):
            a, b = (f.get_tensor(f"base_model.model.{module_name}.lora_{half}.weight").float() for half in "AB")
            try:
                weight = model.get_submodule(module_name).weight
            except AttributeError:
                raise AdapterError("the base has no such module", place=str(place), found=module_name) from None
            delta = b @ a
            if config.get("fan_in_fan_out"):
                delta = delta.T
            weight += delta * scaling(config, len(a))


def _modules(names: Iterable[str], place: Path) -> set[str]:
    modules = set()
    for name in names:
        if (match := LORA_WEIGHT.fullmatch(name)) is None:
            raise AdapterError("not a LoRA weight of a linear layer", place=f"{place}, {name}")
        modules.add(match[1])
    return modules
