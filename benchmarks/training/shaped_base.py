#!/usr/bin/env python3
"""A base of a larger model's shape with random weights, for measuring speed and memory alone: what it says is noise.

Reads a prepared base, for its tokenizer and class. Writes DIR as a checkpoint, which
`tellmt base fetch DIR` prepares for `--base DIR`.

    python -m benchmarks.training.shaped_base DIR
    python -m benchmarks.training.shaped_base DIR --hidden 64 --layers 2 --heads 2 --kv-heads 1 --head 32 --wide 128
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="DIR")
    parser.add_argument("--base", default="gemma-3-270m", help="whose tokenizer and vocabulary it has  [default: gemma-3-270m]")
    # Gemma 3 4B's text decoder.
    parser.add_argument("--hidden", type=int, default=2560)
    parser.add_argument("--layers", type=int, default=34)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--head", type=int, default=256)
    parser.add_argument("--wide", type=int, default=10_240)
    a = parser.parse_args()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from benchmarks.serving.many_adapters import base_directory
    from tell.model.base import MANIFEST

    source = base_directory(a.base)
    config = AutoConfig.from_pretrained(source)
    shape = {
        "hidden_size": a.hidden, "num_hidden_layers": a.layers, "num_attention_heads": a.heads, "num_key_value_heads": a.kv_heads, "head_dim": a.head,
        "intermediate_size": a.wide, "query_pre_attn_scalar": a.head,
    }  # fmt: skip
    for key, value in shape.items():
        if hasattr(config, key):
            setattr(config, key, value)
    if getattr(config, "layer_types", None):
        # As the base alternates them.
        config.layer_types = [config.layer_types[i % len(config.layer_types)] for i in range(a.layers)]
    torch.manual_seed(1)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    a.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(a.out)
    for path in source.iterdir():
        if path.is_file() and path.suffix not in (".safetensors", ".gguf") and path.name not in ("config.json", "model.safetensors.index.json", MANIFEST):
            shutil.copyfile(path, a.out / path.name)
    print(f"{a.out}: {sum(p.numel() for p in model.parameters()) / 1e9:.2f} billion weights")


if __name__ == "__main__":
    main()
