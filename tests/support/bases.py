"""Tiny random models of the classes that people train adapters on: name -> what a checkpoint of that class needs beside the tiny tokenizer.

Widths are the least that each class allows, with heads as wide as vLLM's kernels for processors want them; everything that changes what a class computes
(scaling of positions, windows, caps, scales of the logits, layers of another kind) is set to a value that shows when it is left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.support.tiny import VOCABULARY, make_tiny_base

CONTEXT = 512
TOKENS: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    **TOKENS,
}
GQA = SMALL | {"head_dim": 32}
_LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
_GEMMA = GQA | {"query_pre_attn_scalar": 48, "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": True}
_GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
_GEMMA3 = _GEMMA | {"rope_parameters": _GEMMA3_ROPE}
_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "num_channels": 3}
_GEMMA3N = _GEMMA3 | {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "laurel_rank": 4,
    "altup_num_inputs": 2,
    "num_kv_shared_layers": 2,
    "activation_sparsity_pattern": [0.0] * 4,
    "intermediate_size": [64] * 4,
    "final_logit_softcapping": 8.0,
}

_GEMMA4 = (
    {k: v for k, v in _GEMMA.items() if k != "query_pre_attn_scalar"}
    | {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8, "global_head_dim": 64, "num_kv_shared_layers": 0}
    | {"final_logit_softcapping": 8.0}
)
_QWEN35 = (
    GQA
    | {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 2}
    | {"linear_key_head_dim": 128, "linear_value_head_dim": 128, "head_dim": 32}
)

# Name of the family, the class of transformers, its config class, and the config's values.
CLASSES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Llama 3": ("LlamaForCausalLM", "LlamaConfig", GQA | {"rope_parameters": _LLAMA3}),
    "EuroLLM": ("LlamaForCausalLM", "LlamaConfig", GQA),
    "Qwen 2": ("Qwen2ForCausalLM", "Qwen2Config", SMALL),
    "Qwen 3": ("Qwen3ForCausalLM", "Qwen3Config", GQA),
    "Gemma 2": ("Gemma2ForCausalLM", "Gemma2Config", _GEMMA | {"final_logit_softcapping": 8.0, "attn_logit_softcapping": 10.0}),
    "Gemma 3": ("Gemma3ForCausalLM", "Gemma3TextConfig", _GEMMA | {"query_pre_attn_scalar": 32}),
    "Mistral": ("MistralForCausalLM", "MistralConfig", GQA | {"sliding_window": 64}),
    "Ministral 3": ("Ministral3ForCausalLM", "Ministral3Config", GQA),
    "Phi 3": ("Phi3ForCausalLM", "Phi3Config", SMALL | {"sliding_window": None}),
    "Phi": ("PhiForCausalLM", "PhiConfig", SMALL),
    "GPT-NeoX": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
    "GPT-2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT, "initializer_range": 0.2, **TOKENS},
    ),
    "BLOOM": ("BloomForCausalLM", "BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 2, "initializer_range": 0.2, **TOKENS}),
    "Granite": (
        "GraniteForCausalLM",
        "GraniteConfig",
        SMALL | {"logits_scaling": 8.0, "embedding_multiplier": 4.0, "residual_multiplier": 0.5, "attention_multiplier": 0.1},
    ),
    "Cohere": ("CohereForCausalLM", "CohereConfig", SMALL | {"logit_scale": 0.125, "tie_word_embeddings": True}),
    "Cohere 2": ("Cohere2ForCausalLM", "Cohere2Config", SMALL | {"logit_scale": 0.125, "sliding_window": 64, "tie_word_embeddings": True}),
    "SmolLM 3": ("SmolLM3ForCausalLM", "SmolLM3Config", SMALL | {"no_rope_layer_interval": 2}),
    "OLMo 2": ("Olmo2ForCausalLM", "Olmo2Config", SMALL),
    "OLMo 3": ("Olmo3ForCausalLM", "Olmo3Config", SMALL | {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}),
    "Apertus": ("ApertusForCausalLM", "ApertusConfig", SMALL),
    "Falcon": ("FalconForCausalLM", "FalconConfig", {k: v for k, v in SMALL.items() if k != "num_key_value_heads"} | {"new_decoder_architecture": False}),
    # Recurrent layers, alone or among others.
    "LFM 2": (
        "Lfm2ForCausalLM",
        "Lfm2Config",
        # The widths of a block and its convolution are those of the model in all checkpoints; transformers does without them, and vLLM reads them.
        SMALL
        | {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8, "block_dim": 64, "conv_dim": 64}
        # As in all of them, and always in vLLM.
        | {"tie_word_embeddings": True},
    ),
    "Granite 4": (
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeHybridConfig",
        SMALL
        | {"layer_types": ["linear_attention", "full_attention"], "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 8, "mamba_n_groups": 1}
        | {"mamba_expand": 2, "num_local_experts": 0, "shared_intermediate_size": 64, "logits_scaling": 8.0, "position_embedding_type": "rope"},
    ),
    "Qwen 3.5": (
        "Qwen3_5ForCausalLM",
        "Qwen3_5TextConfig",
        _QWEN35,
    ),
    "Falcon Mamba": (
        "FalconMambaForCausalLM",
        "FalconMambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.2, **TOKENS},
    ),
    # A text model within one of text and images (and sound).
    "Gemma 3 with vision": (
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {
            "text_config": _GEMMA3,
            "vision_config": _VISION,
            "mm_tokens_per_image": 4,
            "image_token_index": 5,
            "boi_token_index": 6,
            "eoi_token_index": 7,
            **TOKENS,
        },
    ),
    "Gemma 3n": ("Gemma3nForCausalLM", "Gemma3nTextConfig", _GEMMA3N),
    "Gemma 4": ("Gemma4ForCausalLM", "Gemma4TextConfig", _GEMMA4),
    "Gemma 4 with vision": (
        "Gemma4ForConditionalGeneration",
        "Gemma4Config",
        {
            "text_config": _GEMMA4,
            "vision_config": {k: v for k, v in _VISION.items() if k not in ("image_size", "num_channels")} | {"head_dim": 8, "num_key_value_heads": 2},
            "audio_config": None,
            "image_token_id": 5,
            "boi_token_id": 6,
            "eoi_token_id": 7,
            "video_token_id": 8,
            "audio_token_id": 9,
            **TOKENS,
        },
    ),
    "Qwen 3.5 with vision": (
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5Config",
        {
            "text_config": _QWEN35,
            "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64, "num_position_embeddings": 16},
            "image_token_id": 5,
            "video_token_id": 6,
            "vision_start_token_id": 7,
            "vision_end_token_id": 8,
            **TOKENS,
        },
    ),
    "Ministral 3 with vision": (
        "Mistral3ForConditionalGeneration",
        "Mistral3Config",
        {
            "text_config": GQA | {"model_type": "ministral3"},
            "vision_config": {k: v for k, v in _VISION.items()} | {"model_type": "pixtral", "head_dim": 8},
            "image_token_index": 5,
            "tie_word_embeddings": False,
            **TOKENS,
        },
    ),
}

# Needs timm, a library of image models, to be made, and no engine serves it: what is said of it is read off its files, which are those of its text part.
OF_FILES = {"Gemma 3n with vision": ("Gemma3nForConditionalGeneration", "Gemma3nConfig", "Gemma 3n")}


def make_model(name: str) -> Any:
    """The random model of this name, in float32. The same each time."""
    import torch
    import transformers

    architecture, config_class, values = CLASSES[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = getattr(transformers, architecture)(getattr(transformers, config_class)(**values))
        # What begins as nothing shows nothing when it is left out.
        for parameter_name, p in model.named_parameters():
            if p.dim() == 1 and parameter_name.endswith("bias"):
                torch.nn.init.normal_(p, std=0.5)
    return model.eval()


def _make_files(name: str, path: Path) -> None:
    import transformers
    from safetensors.torch import save_file

    architecture, config_class, text = OF_FILES[name]
    config = getattr(transformers, config_class)(text_config=CLASSES[text][2], **TOKENS)
    config.architectures = [architecture]
    config.save_pretrained(path)
    weights = {n.replace("model.", "model.language_model.", 1): t for n, t in make_model(text).state_dict().items() if n != "lm_head.weight"}
    save_file(weights, path / "model.safetensors", {"format": "pt"})


def make_checkpoint(name: str, path: Path, cache: Path) -> Path:
    """The directory of a checkpoint of this class with the tokenizer of the tiny base, which lies in `cache`."""
    tiny = make_tiny_base(cache)
    if name in OF_FILES:
        _make_files(name, path)
    else:
        make_model(name).save_pretrained(path)
    for file in tiny.path.glob("tokenizer*.json"):
        shutil.copy(file, path)
    return path
