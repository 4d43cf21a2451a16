#!/usr/bin/env python3
"""Write docs/bases.md from tests/golden/bases.json, which tests/test_bases.py holds against what the commands do.

python -m scripts.write_bases
"""

from __future__ import annotations

import json
from pathlib import Path

from serve.engines.vllm_classes import WITH_LORA

ROOT = Path(__file__).resolve().parent.parent
ROWS, DOCUMENT = ROOT / "tests" / "golden" / "bases.json", ROOT / "docs" / "bases.md"

# What people know the classes by.
KNOWN = {
    "Llama 3": "Llama 3.1, 3.2, 3.3 (scaled positions)",
    "EuroLLM": "EuroLLM, SmolLM2, Tower, Llama 2 (plain positions)",
    "Qwen 2": "Qwen 2, 2.5",
    "Qwen 3": "Qwen 3, dense",
    "Gemma 2": "Gemma 2",
    "Gemma 3": "Gemma 3 270M and 1B, the embedded base",
    "Gemma 3 with vision": "Gemma 3 4B to 27B, TranslateGemma",
    "Gemma 3n": "the text part of Gemma 3n",
    "Gemma 4": "the text part of Gemma 4",
    "Gemma 3n with vision": "Gemma 3n E2B, E4B",
    "Gemma 4 with vision": "Gemma 4",
    "Qwen 3.5 with vision": "Qwen 3.5",
    "Ministral 3 with vision": "Ministral 3",
    "Mistral": "Mistral 7B with a window",
    "Ministral 3": "the text part of Ministral 3",
    "Phi": "Phi 1.5, 2",
    "Phi 3": "Phi 3, 3.5, 4",
    "GPT-NeoX": "Pythia, GPT-NeoX",
    "GPT-2": "GPT-2, GPT-SW3",
    "BLOOM": "BLOOM, BLOOMZ",
    "Granite": "Granite 3",
    "Granite 4": "Granite 4, hybrid",
    "Cohere": "Aya 23, Command R",
    "Cohere 2": "Command R7B, Tiny Aya",
    "SmolLM 3": "SmolLM 3",
    "OLMo 2": "OLMo 2",
    "OLMo 3": "OLMo 3",
    "Apertus": "Apertus",
    "Falcon": "Falcon 7B",
    "LFM 2": "LFM 2",
    "Qwen 3.5": "the text part of Qwen 3.5",
    "Falcon Mamba": "Falcon Mamba",
}

HEAD = """# Bases

Written by `python -m scripts.write_bases`; do not edit. A test holds each row against what the commands do.

**Real weights were not run for this table.** Each row is a tiny model of that class with random weights, taken through fetching, mixing, training, losses,
and, where `ct2` serves it, scoring and publishing. That shows whether the arithmetic is the base's own, and not how well a base translates.

What the column `vllm` has as served was run in vLLM 0.32's build for processors, through tellmt's own driver, with a LoRA on every layer that training gives
one and without. In float32 each token of prompts of 9 to 200 tokens, and each of twelve tokens of output, has the log-probability that transformers with peft
gives it, within 0.001 nats (`tests/test_bases_vllm.py`). vLLM's kernels for GPUs were not run. "By transformers' code" says that vLLM has none of its own.

`tellmt base fetch BASE` and `tellmt base show BASE` say the same of the base that you name, with its own configuration: a copy of it is cut down to a
layer of each kind and a small vocabulary, converted for ctranslate2, and compared in float32 with the base's own class on a prompt as long as the longest
that is served (4,096 tokens, or the base's context). A difference over 0.001 nats at any position refuses it. `tellmt train` refuses a base that no engine
of this machine serves before anything is trained; `--engine vllm` names the one that will serve it elsewhere.

| known as | class | `ct2` | `vllm` |
|---|---|---|---|
"""

TAIL = """
## What holds for all of them

- At every start of training the loss of one small batch, over every row of the output layer, is compared with that of the base's own logits. A difference over
  0.01 nats a token stops the run with its reason. Scales (Granite, Cohere), caps (Gemma 2) and a bias (Phi) of the output layer are known.
- LoRA goes on the linear layers in the layers of the text decoder. A class that reads images or sound too gets none elsewhere, by full name.
- Where a base has sliding windows (Gemma 3, Mistral), ctranslate2 computes a prompt that is longer than the window wrongly or not at all, and its output
  beyond the window rightly. So on `ct2` prompts are at most as long as the window: 512 tokens for Gemma 3 270M. Longer segments are refused, hints and
  nearest pairs that do not fit are left out.
- `[train] packing` is refused where one batch has another loss packed than unpacked: BLOOM, Falcon, and what has recurrent layers (LFM 2, Granite 4,
  Qwen 3.5).
- ctranslate2's converter leaves out the factor of Llama 3's scaled positions, and of Gemma 3 4B and up the linear factor and the scale of the queries;
  tellmt writes them. What earlier versions converted of these bases is not used again.
- Attention is the plain one on a processor, and everywhere for Gemma 2, whose cap transformers leaves out of the fused one.
- vLLM gives the sliding layers of Cohere 2 a window of one token more than transformers does, and says that it was so in training: their outputs differ beyond
  the window (4,096 tokens for Command R7B). It keeps the parameters of Apertus's activation in bfloat16, which is what its checkpoints have.
- vLLM's build for processors ends with Granite 4 when prefixes are used again, and rotates LFM 2's queries wrongly; tellmt has it do without both there. Of the
  recurrent layers of Qwen 3.5 it has bfloat16 alone, and was held against the rounding of transformers in bfloat16.
- What vLLM has of classes that read images too is started without that part, and needs torchvision all the same, as does the text part of Qwen 3.5. It comes
  with vLLM for GPUs; `make setup` leaves it out beside torch for processors, for which the public index has no build.

A class that reads images or sound too is loaded as the class that its checkpoint names, so that the layers of an adapter have the names that engines look for.
TranslateGemma has no class of its own in transformers 5.19; it is Gemma 3 with vision. Gemma 3n with its towers was not made (that needs timm): it is refused
by what its files say.
"""


def _cell(reason: str | None, served: str) -> str:
    return served if reason is None else f"refused: {reason}".replace("|", "/")


def render() -> str:
    """The document."""
    rows = json.loads(ROWS.read_text(encoding="utf-8"))
    lines = []
    for name, row in rows.items():
        vllm = _cell(row["vllm"], "served" if row["class"] in WITH_LORA else "served, by transformers' code")
        lines.append(f"| {KNOWN[name]} | {row['class']} | {_cell(row['ct2'], 'served')} | {vllm} |")
    return HEAD + "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
