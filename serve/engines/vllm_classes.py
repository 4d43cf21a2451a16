"""Which classes of bases vLLM 0.32 serves with LoRA adapters: read off its own list of models, so that asking needs no vLLM.

A class that is in neither table may be one that vLLM has under another name, or one that it runs with transformers' own code, adapters included.
docs/bases.md has those of either kind that were compared with transformers (tests/test_bases_vllm.py).
"""

from __future__ import annotations

# Classes of its own that load no LoRA.
WITHOUT_LORA = (
    "BloomForCausalLM",
    "FalconForCausalLM",
    "FalconMambaForCausalLM",
    "GPT2LMHeadModel",
    "Gemma3nForCausalLM",
    "Gemma3nForConditionalGeneration",
    "Mamba2ForCausalLM",
    "MambaForCausalLM",
)
# Classes of its own that load one.
WITH_LORA = (
    "ApertusForCausalLM",
    "Cohere2ForCausalLM",
    "CohereForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Gemma3ForConditionalGeneration",
    "Gemma4ForCausalLM",
    "Gemma4ForConditionalGeneration",
    "GraniteForCausalLM",
    "GraniteMoeHybridForCausalLM",
    "Lfm2ForCausalLM",
    "LlamaForCausalLM",
    "Ministral3ForCausalLM",
    "Mistral3ForConditionalGeneration",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Qwen3_5ForCausalLM",
    "Qwen3_5ForConditionalGeneration",
)

# Those whose code in vLLM loads torchvision, though no image is sent. It comes with vLLM's build for GPUs; beside torch for processors it has to be a build for
# processors too, which the public index has not.
WITH_TORCHVISION = (
    "Gemma3ForConditionalGeneration",
    "Gemma4ForConditionalGeneration",
    "Mistral3ForConditionalGeneration",
    "Qwen3_5ForCausalLM",
    "Qwen3_5ForConditionalGeneration",
)

# Those of which vLLM's build for processors keeps no states in the middle of a prompt, and ends when it looks for one to use again (0.32).
NO_PREFIXES_ON_CPU = ("GraniteMoeHybridForCausalLM",)

# Those whose queries are rotated wrongly by the operator of vLLM's build for processors (0.32): it takes them as tokens by width, and gets tokens by heads by
# width, of which it turns the first rows alone. vLLM has the same in torch.
ROTATED_IN_TORCH_ON_CPU = ("Lfm2ForCausalLM",)


def refusal(architecture: str) -> str | None:
    """Why vLLM cannot serve adapters of this class of bases, in a clause; None where it can, or may."""
    return f"vLLM 0.32 loads no LoRA on {architecture}" if architecture in WITHOUT_LORA else None
