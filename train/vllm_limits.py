"""Refuses recipes whose adapter vLLM cannot load: each key of peft or transformers that would make one, and the reason.

Checks the raw `[lora]` and `[train]` tables, and the base's modules. The limits are those of vLLM 0.32 (vllm/lora/peft_helper.py and its
LoRA layers): what it would refuse when serving is refused here, before hours of training.
"""

from __future__ import annotations

from typing import Any

from tell.errors import RecipeError

# Linear layers that cannot have a LoRA: vLLM has none for the embeddings of Gemma 3, and the output layer shares their weight.
EMBEDDINGS = ("embed_tokens", "lm_head", "embed_out", "wte", "wpe", "word_embeddings")

_DORA = "vLLM has no DoRA: its layers add a product of two matrices and do not rescale the base's weight"
_BIAS = "vLLM adds no bias with an adapter: a trained one would be lost"
_WHOLE = "vLLM loads the two matrices of a LoRA and no whole modules: what was trained in them would be lost"
_INIT = "vLLM adds an adapter to the base as published, and this start changes the base's own weights"
_PATTERN = "all layers share one rank and one alpha: vLLM holds every adapter in buffers of one rank"
_TOKENS = "vLLM gives an adapter no tokens of its own: it has neither embeddings nor a vocabulary per adapter"
_PLAIN = "vLLM loads plain LoRA only"
_NONE = (None, False)

# Key -> (the harmless values, which are accepted; the reason for refusing others; what is valid).
LORA: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "use_dora": (_NONE, _DORA, "false"),
    "dora": (_NONE, _DORA, "false"),
    "bias": (("none", *_NONE), _BIAS, '"none"'),
    "lora_bias": (_NONE, _BIAS, "false"),
    "modules_to_save": ((None, []), _WHOLE, "[]"),
    "rank_pattern": ((None, {}), _PATTERN, "{}"),
    "alpha_pattern": ((None, {}), _PATTERN, "{}"),
    "trainable_token_indices": ((None, [], {}), _TOKENS, "[]"),
    "add_tokens": (([], *_NONE), _TOKENS, "[]"),
    "added_tokens": (([], *_NONE), _TOKENS, "[]"),
    "new_tokens": (([], *_NONE), _TOKENS, "[]"),
    "alora_invocation_tokens": ((None, []), f"{_PLAIN}, and this is aLoRA", "[]"),
    "layer_replication": ((None, []), f"{_PLAIN}, and no repeated layers", "[]"),
    "use_qalora": (_NONE, f"{_PLAIN}, and this is QA-LoRA", "false"),
    "use_bdlora": ((None, False, {}), f"{_PLAIN}, and this is BD-LoRA", "false"),
    "target_parameters": ((None, []), f"{_PLAIN} on linear layers", "[]"),
}
TRAIN: dict[str, tuple[tuple[Any, ...], str, str]] = {
    **{k: LORA[k] for k in ("add_tokens", "added_tokens", "new_tokens", "trainable_token_indices", "modules_to_save")},
    "additional_special_tokens": (([], *_NONE), _TOKENS, "[]"),
    "resize_token_embeddings": (_NONE, _TOKENS, "false"),
    "train_embeddings": (_NONE, _WHOLE, "false"),
}
# peft's names of keys that have another name here.
RENAMED = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "lora_rank": "rank"}
# Initialisations of peft that vLLM would load, since they only decide the first weights; recipes have one.
_LOADABLE_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")


def _without_harmless(table: dict[str, Any], refused: dict[str, tuple[tuple[Any, ...], str, str]], place: str) -> dict[str, Any]:
    """The table without its keys in `refused` that have a harmless value. Raises RecipeError for one that has another."""
    kept = {}
    for key, value in table.items():
        if key not in refused:
            kept[key] = value
            continue
        harmless, why, valid = refused[key]
        # `is` for the constants: 0 == False in Python, and 0 is not a Boolean.
        if not any(value is h if h is None or isinstance(h, bool) else value == h for h in harmless):
            raise RecipeError(f"{key}: {why}", place=place, found=repr(value), valid=f"{valid}, or leave the key out")
    return kept


def check_lora(table: Any, place: str) -> Any:
    """`[lora]` without peft's keys of harmless value. Raises RecipeError for what vLLM cannot load, and for peft's names of keys."""
    if not isinstance(table, dict):
        return table
    for theirs, ours in RENAMED.items():
        if theirs in table:
            raise RecipeError("unknown key", place=place, found=theirs, valid=f"{ours}, as it is called here")
    table = _without_harmless(table, LORA, place)
    start = table.pop("init_lora_weights", True)
    if start is not True:
        known = str(start).lower() in _LOADABLE_STARTS or start is False
        why = "there is one start here, peft's default (B is zero, so training begins at the base)" if known else _INIT
        raise RecipeError(f"init_lora_weights: {why}", place=place, found=repr(start), valid="true, or leave the key out")
    return table


def check_train(table: Any, place: str) -> Any:
    """`[train]` in the same way as `check_lora`."""
    return _without_harmless(table, TRAIN, place) if isinstance(table, dict) else table


def linear_targets(value: Any) -> Any:
    """A recipe's `target_modules`, sorted. Raises ValueError, which pydantic reports, when vLLM could not load a LoRA on them."""
    if value == "all-linear":
        return value
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise ValueError('neither "all-linear" nor a list of linear layers, such as ["q_proj", "v_proj"]')
    if not value:
        raise ValueError('empty: nothing would be trained; valid: "all-linear" or names of linear layers')
    if bad := [v for v in value if v.rsplit(".", 1)[-1] in EMBEDDINGS]:
        raise ValueError(
            f"{bad[0]} is no place for a LoRA: vLLM loads none on the embeddings or the output layer of Gemma 3; "
            'valid: "all-linear" or names of the decoder\'s linear layers'
        )
    if len(set(value)) != len(value):
        raise ValueError("a name is there twice")
    return sorted(value)


# Projections of recurrent layers whose weights fused kernels read by themselves: what a LoRA on them adds would be in some passes and not in others.
_READ_BY_KERNELS = ("mamba.out_proj", "mamba.dt_proj", "mixer.out_proj", "mixer.dt_proj")


def _is_linear(module: Any) -> bool:
    import torch

    # A 4-bit layer is a Linear too; GPT-2's layers are its own, with the weight transposed.
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def lora_target_modules(model: Any, names: str | list[str]) -> str | list[str]:
    """The `target_modules` for peft in this base: as the recipe has them where they lie in the layers of the text decoder alone, else their full names.

    A class that reads images or sound has linear layers outside, and some text decoders have them beside their layers: engines load no LoRA there.
    Raises RecipeError, which names the base's modules, for a name that matches none.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    inside = next((f"{name}." for name in ("layers", "h") if getattr(decoder, name, None) is not None), "")
    linear = {n: m for n, m in model.named_modules() if _is_linear(m) and m is not head}
    start = f"{prefix}.{inside}" if prefix else inside
    trainable = [n for n in linear if n.startswith(start) and not n.endswith(_READ_BY_KERNELS)]
    if isinstance(names, str):
        return names if len(trainable) == len(linear) else trainable
    available = sorted({n.rsplit(".", 1)[-1] for n in trainable} - set(EMBEDDINGS))
    for name in names:
        # peft's own rule: the whole name, or its end after a dot.
        if not any(n == name or n.endswith(f".{name}") for n in trainable):
            raise RecipeError("target_modules: the base has no linear layer of this name", place="[lora]", found=name, valid=", ".join(available))
    # Of all modules: the linear layers of some towers lie within modules of these names, which peft would take for the layers and refuse.
    matching = [n for n, _ in model.named_modules() if any(n == name or n.endswith(f".{name}") for name in names)]
    return names if all(n in trainable for n in matching) else [n for n in matching if n in trainable]
