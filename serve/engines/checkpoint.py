"""Whether a checkpoint is whole, and whether an adapter fits it: read from the files' headers, before an engine loads anything.

Reads the base's safetensors headers, and adapter_config.json and the header of adapter_model.safetensors. Both engines need this:
a LoRA whose tensor names match nothing loads "with success" in vLLM and in peft, and then translates with the bare base.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tell.adapter.card import CONFIG, WEIGHTS, Adapter, check_base, open_adapter, read_header
from tell.errors import AdapterError, EngineError
from tell.model.base import Base

# What vLLM's PEFT loader refuses or ignores, and the values that mean "not used".
_UNUSED: dict[str, tuple[Any, ...]] = {
    "use_dora": (None, False),
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "trainable_token_indices": (None, []),
    "fan_in_fan_out": (None, False),
}
_LAYER = re.compile(r"(?:^|\.)((?:layers|h)\.\d+\..+)$")
LORA_WEIGHT = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
# Classes whose linear layers hold their weights the other way round.
_TRANSPOSED = ("GPT2LMHeadModel",)
# Starts that change the base's weights when the adapter is made, so that the adapter alone does not hold what was learned.
_CHANGES_BASE = ("pissa", "olora", "loftq", "corda")


def _layer_name(module: str) -> str | None:
    """The part of a module's name that checkpoint layouts agree on: `layers.3.mlp.up_proj`. None outside the text model's layers."""
    if "vision" in module or "audio" in module:
        return None
    match = _LAYER.search(module)
    return match[1] if match else None


def check_checkpoint(base: Base) -> dict[str, list[int]]:
    """The shapes of the base's linear weights by `_layer_name`. Raises EngineError when the checkpoint cannot be read or is cut short."""
    try:
        config = json.loads((base.path / "config.json").read_text())
    except (OSError, ValueError) as e:
        raise EngineError("the base's configuration cannot be read", place=str(base.path / "config.json"), found=str(e)) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise EngineError("not a model's configuration", place=str(base.path / "config.json"), valid="a model_type")
    shards = sorted(base.path.glob("*.safetensors"))
    if not shards:
        raise EngineError("the base has no weights", place=str(base.path), valid="model.safetensors")
    if not (base.path / "tokenizer.json").is_file():
        raise EngineError("the base has no tokenizer", place=str(base.path), valid="tokenizer.json")
    shapes: dict[str, list[int]] = {}
    for shard in shards:
        for name, shape in _shapes(shard).items():
            layer = _layer_name(name.removesuffix(".weight"))
            if name.endswith(".weight") and layer and len(shape) == 2:
                shapes[layer] = shape
    if not shapes:
        raise EngineError("the base's weights hold no layers", place=str(base.path))
    return shapes


def layers_refusal(base: Base) -> str | None:
    """Why no adapter of this base could be checked against its weights; None where it can."""
    try:
        check_checkpoint(base)
    except EngineError as e:
        return f"{e.thing} ({e.place})"
    return None


def _shapes(path: Path) -> dict[str, list[int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as f:
            return {name: list(f.get_slice(name).get_shape()) for name in f.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as e:
        raise EngineError("the base's weights cannot be read", place=str(path), found=str(e)) from None


def _check_config(path: Path, max_rank: int, transposed: bool) -> int:
    try:
        config = json.loads((path / CONFIG).read_bytes())
        rank = config["r"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        raise AdapterError("the adapter's configuration cannot be read", place=str(path / CONFIG), found=repr(e)) from None
    if config.get("peft_type") != "LORA":
        raise AdapterError("not a LoRA", place=str(path / CONFIG), found=str(config.get("peft_type")), valid="LORA")
    for key, unused in _UNUSED.items():
        if config.get(key) not in unused and not (transposed and key == "fan_in_fan_out"):
            raise AdapterError(f"the adapter uses {key}, which the engines cannot serve", place=str(path / CONFIG), found=repr(config[key]))
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGES_BASE):
        raise AdapterError("the adapter was started in a way that changes the base", place=str(path / CONFIG), found=start, valid="a plain LoRA start")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= max_rank:
        raise AdapterError("the adapter's rank cannot be served", place=str(path / CONFIG), found=repr(rank), valid=f"1 to {max_rank}")
    return rank


def open_fitting(base: Base, shapes: dict[str, list[int]], adapter_id: str, path: Path, max_rank: int) -> Adapter:
    """The adapter at `path`, verified, and known to act on `base`, whose weights have `shapes`.

    Raises AdapterError when it is not whole, has another id, was trained on another base, has a rank above `max_rank`, uses what
    an engine cannot serve, or has a tensor that belongs to no weight of the base.
    """
    adapter = open_adapter(path)
    if adapter.id != adapter_id:
        raise AdapterError("the directory holds another adapter", place=str(path), found=adapter.id, valid=adapter_id)
    check_base(adapter, base.id, base.revision)
    transposed = base.architecture in _TRANSPOSED
    rank = _check_config(path, max_rank, transposed)
    header = read_header(path / WEIGHTS)
    for name in sorted(header):
        place = f"{path / WEIGHTS}, {name}"
        match = LORA_WEIGHT.fullmatch(name)
        if match is None:
            raise AdapterError("not a LoRA weight of a linear layer", place=place, valid="base_model.model.<module>.lora_A.weight and lora_B.weight")
        weight = shapes.get(_layer_name(match[1]) or "")
        if weight is None:
            raise AdapterError("the base has no such module", place=place, found=match[1], valid="the modules of the base's layers")
        if transposed:
            weight = weight[::-1]
        shape = [rank, weight[1]] if match[2] == "A" else [weight[0], rank]
        if header[name]["shape"] != shape:
            raise AdapterError("the shape does not fit the base", place=place, found=str(header[name]["shape"]), valid=str(shape))
        if name.replace(".lora_A.", ".lora_B.") not in header or name.replace(".lora_B.", ".lora_A.") not in header:
            raise AdapterError("half of a LoRA pair is missing", place=place)
    return adapter


def check_acts(adapter: Adapter) -> None:
    """Raises AdapterError when every lora_B is zero: such an adapter changes nothing. Needs neither torch nor numpy."""
    path = adapter.path / WEIGHTS
    header = read_header(path)
    with path.open("rb") as f:
        start = 8 + int.from_bytes(f.read(8), "little")
        for name, tensor in header.items():
            if ".lora_B." not in name:
                continue
            begin, end = tensor["data_offsets"]
            f.seek(start + begin)
            # Zero has no bit set but perhaps its sign.
            if f.read(end - begin).translate(None, b"\x00\x80"):
                return
    raise AdapterError("the adapter changes nothing", place=str(path), found="every lora_B is zero")
