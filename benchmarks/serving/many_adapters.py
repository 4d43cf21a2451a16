#!/usr/bin/env python3
"""Tokens a second of vLLM by itself with 1, 8 and 64 adapters in one batch, on a base that is here or one of random weights. Prints JSON.

Reads a base by its name or its directory. Writes adapters of random weights into a temporary directory: what they say does not matter here, only how many there
are. Every request has the same number of tokens in and out, and the end of the text is ignored, so each round computes the same.

    python -m benchmarks.serving.many_adapters
    python -m benchmarks.serving.many_adapters --base DIR --adapters 0,1,8 --requests 128
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

RANK = 16


def write_adapter(config: dict[str, Any], path: Path, seed: int) -> None:
    """A LoRA of rank 16 with random weights on all linear layers of a decoder of this configuration (Gemma 3, Llama, Qwen 3 and their like)."""
    import torch
    from safetensors.torch import save_file

    hidden, wide = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    q, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    shapes = {
        "self_attn.q_proj": (hidden, q),
        "self_attn.k_proj": (hidden, kv),
        "self_attn.v_proj": (hidden, kv),
        "self_attn.o_proj": (q, hidden),
        "mlp.gate_proj": (hidden, wide),
        "mlp.up_proj": (hidden, wide),
        "mlp.down_proj": (wide, hidden),
    }
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, (inputs, outputs) in shapes.items():
            key = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{key}.lora_A.weight"] = (torch.randn(RANK, inputs, generator=draw) / inputs**0.5).bfloat16()
            tensors[f"{key}.lora_B.weight"] = (torch.randn(outputs, RANK, generator=draw) * 1e-3).bfloat16()
    path.mkdir(parents=True)
    save_file(tensors, path / "adapter_model.safetensors")
    modules = sorted({name.split(".")[1] for name in shapes})
    peft = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "target_modules": modules, "bias": "none", "lora_dropout": 0.0}
    (path / "adapter_config.json").write_text(json.dumps(peft))


def base_directory(name: str) -> Path:
    from tell.model.base import find_base

    return Path(name) if Path(name).is_dir() else find_base(name).path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--base", default="gemma-3-270m", help="a base of tellmt base list, or a directory  [default: gemma-3-270m]")
    parser.add_argument("--adapters", default="1,8,64", help="adapters in one batch; 0 is the base alone  [default: 1,8,64]")
    parser.add_argument("--requests", type=int, default=256, help="requests of a round, all at once  [default: 256]")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt  [default: 64]")
    parser.add_argument("--output", type=int, default=64, help="tokens of an output  [default: 64]")
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    counts = sorted({int(n) for n in a.adapters.split(",")})
    from tell.extras import has_gpu

    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    for key, value in {**quiet, **({} if has_gpu() else {"VLLM_CPU_KVCACHE_SPACE": "2"})}.items():
        os.environ.setdefault(key, value)
    from vllm import LLM, SamplingParams, TokensPrompt
    from vllm.lora.request import LoRARequest

    directory = base_directory(a.base)
    config = json.loads((directory / "config.json").read_text())
    most = max(1, *counts)
    draw = random.Random(1)
    prompts = [TokensPrompt(prompt_token_ids=[draw.randrange(1000, min(30_000, config["vocab_size"])) for _ in range(a.prompt)]) for _ in range(a.requests)]
    params = SamplingParams(temperature=0.0, max_tokens=a.output, ignore_eos=True, detokenize=False)
    with tempfile.TemporaryDirectory(prefix="tellmt-adapters.") as scratch:
        for n in range(1, most + 1):
            write_adapter(config, Path(scratch) / str(n), n)
        began = time.monotonic()
        # On processors vLLM's last slot must stay empty.
        llm = LLM(
            model=str(directory), skip_tokenizer_init=True, dtype="bfloat16", max_model_len=a.prompt + a.output + 8, max_num_seqs=a.requests, enable_lora=True,
            max_loras=most + (0 if has_gpu() else 1), max_lora_rank=RANK, max_cpu_loras=most + 1, enforce_eager=not has_gpu(), seed=0,
        )  # fmt: skip
        started = time.monotonic() - began
        speeds: dict[int, list[float]] = {n: [] for n in counts}
        for round_number in range(a.rounds + 1):
            # Each round begins with another number, and the first one is warm-up.
            for n in counts[round_number % len(counts) :] + counts[: round_number % len(counts)]:
                loras = [LoRARequest(f"a{i}", i, f"{scratch}/{i}") for i in range(1, n + 1)]
                requests = [loras[i % n] for i in range(a.requests)] if n else None
                began = time.monotonic()
                outputs = llm.generate(prompts, params, lora_request=requests, use_tqdm=False)
                tokens = sum(len(o.outputs[0].token_ids) for o in outputs)
                if round_number:
                    speeds[n].append(tokens / (time.monotonic() - began))
    result = {
        "base": a.base, "requests": a.requests, "prompt": a.prompt, "output": a.output, "start_s": round(started, 1),
        "tokens_per_s": {n: [round(x, 1) for x in speeds[n]] for n in counts},
        "share_of_one": {n: round(statistics.median(speeds[n]) / statistics.median(speeds[counts[0]]), 3) for n in counts},
        "machine": platform.machine(), "gpu": has_gpu(),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
