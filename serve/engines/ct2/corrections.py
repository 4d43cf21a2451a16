"""What ctranslate2's converter leaves out of models that its engine can compute: written into the specification beside what the converter wrote.

As of ctranslate2 4.8.5: Llama 3's scaling of the rotation without its factor, Gemma 3's linear factor on the layers that attend to everything, and Gemma
3's scale of the queries where it is not that of the head's width. Without them the written model computes something else than the base, more so the longer
the text.
"""

from __future__ import annotations

import math
from typing import Any

from tell.model.base import Base, read_config

GLOBAL = "full_attention"


def _text(config: dict[str, Any]) -> dict[str, Any]:
    return config.get("text_config") or config


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The scaling of positions as the base's config.json has it: `rope_scaling` by its older name."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return rope if isinstance(rope, dict) else {}


def corrections(config: dict[str, Any]) -> list[str]:
    """The names of the corrections that a base of this config.json gets: part of the key of what is written for it. Empty for most."""
    family, text = str(config.get("model_type")), _text(config)
    rope, names = _rope(text), []
    if family == "llama" and (rope.get("rope_type") or rope.get("type")) == "llama3":
        names.append("llama3 factor")
    if family in ("gemma3", "gemma3_text"):
        by_layer = rope.get(GLOBAL, rope)
        if (by_layer.get("rope_type") or by_layer.get("type")) == "linear":
            names.append("linear factor")
        # 256 is what the class takes for both where the file names neither.
        if text.get("query_pre_attn_scalar", 256) != text.get("head_dim", 256):
            names.append("scale of queries")
    return names


def corrections_of(base: Base) -> list[str]:
    """The same of a base; empty where its config.json cannot be read, which the engine says when it starts."""
    try:
        return corrections(read_config(base))
    except (OSError, ValueError, AttributeError):
        return []


def correct_model(model: Any) -> None:
    """Change what the converter reads, before it does: Gemma 3's queries are normalised, so their scale goes into the norm's weight."""
    import torch

    config = model.config.get_text_config()
    if config.model_type != "gemma3_text" or config.query_pre_attn_scalar == config.head_dim:
        return
    scale = math.sqrt(config.head_dim / config.query_pre_attn_scalar)
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            weight = layer.self_attn.q_norm.weight
            # The norm multiplies by one more than its weight.
            weight.copy_((1 + weight) * scale - 1)


def correct_spec(spec: Any, model: Any) -> None:
    """Add to the specification of the written model what the converter left out."""
    import numpy as np
    from ctranslate2.specs.attention_spec import RotaryScalingType

    def put(attention: Any, name: str, value: Any, kind: str) -> None:
        # The specification refuses names that it did not begin with, and writes all that it has.
        object.__setattr__(attention, name, np.array(value, dtype=kind)[()])

    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type == "llama" and rope.get("rope_type") == "llama3":
        for layer in spec.decoder.layer:
            put(layer.self_attention, "rotary_scaling_factor", rope["factor"], "float32")
            put(layer.self_attention, "original_max_position_embeddings", rope["original_max_position_embeddings"], "int32")
    if config.model_type == "gemma3_text" and (part := rope.get(GLOBAL, {})).get("rope_type") == "linear":
        for layer, kind in zip(spec.decoder.layer, config.layer_types, strict=True):
            if kind == GLOBAL:
                put(layer.self_attention, "rotary_scaling_type", int(RotaryScalingType.Linear), "int8")
                put(layer.self_attention, "rotary_scaling_factor", part["factor"], "float32")
