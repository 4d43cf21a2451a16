"""The base with LoRA layers, and one micro-batch through it.

The output layer is the costliest part of a small base with a large vocabulary (262,144 words for Gemma 3): it is computed for
response positions only, in chunks whose logits are freed before the next chunk is begun.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.bases import Base
from tell.errors import BaseModelError
from train.config import LoraOptions, TrainOptions
from train.plan import Tokenised

# Response positions per chunk of the output layer: 256 rows of 262,144 bfloat16 logits are 128 MiB.
CHUNK = 256


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; in software it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def pick_dtype(options: TrainOptions, cuda: bool) -> str:
    if options.dtype != "auto":
        return options.dtype
    if cuda:
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if cpu_has_bf16() else "float32"


def load_model(base: Base, lora: LoraOptions, dtype: str, device: str, seed: int) -> Any:
    """The frozen base in the compute dtype with fresh LoRA layers, whose initial weights depend on `seed` alone."""
    import peft
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base.path, dtype=getattr(torch, dtype), attn_implementation="sdpa", trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as e:
        raise BaseModelError("the base cannot be loaded", place=str(base.path), found=str(e).strip().split("\n")[0]) from None
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear", task_type="CAUSAL_LM", bias="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Kept in the compute dtype: the float32 masters live with the optimiser (train.optimiser).
        model = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    model.to(device)
    model.train()
    return model


def lora_parameters(model: Any) -> dict[str, Any]:
    """The trainable tensors by their peft name, in a fixed order."""
    return dict(sorted((n, p) for n, p in model.named_parameters() if p.requires_grad))


def backward(model: Any, batch: Sequence[Tokenised], scale: float, pad: int, device: str) -> float:
    """Forward and backward for one micro-batch; gradients are left on the LoRA parameters.

    Returns the summed cross-entropy over the response tokens (nats); `scale` multiplies it in the gradient, so passing
    1 / (response tokens in the step) makes the step's gradient that of the mean.
    """
    import torch

    length = max(len(e.ids) for e in batch)
    ids = torch.tensor([e.ids + [pad] * (length - len(e.ids)) for e in batch], device=device)
    mask = torch.tensor([[1] * len(e.ids) + [0] * (length - len(e.ids)) for e in batch], device=device)
    # The hidden state at position t predicts token t+1: positions start-1 .. end-2 see the response's tokens.
    rows = torch.tensor([i for i, e in enumerate(batch) for _ in range(len(e.ids) - e.start)], device=device)
    columns = torch.tensor([t for e in batch for t in range(e.start - 1, len(e.ids) - 1)], device=device)
    labels = ids[rows, columns + 1]

    causal = model.get_base_model()
    hidden = causal.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    picked = hidden[rows, columns]
    weight = causal.get_output_embeddings().weight
    loss, gradient = output_loss(picked.detach(), weight, labels, getattr(causal.config, "final_logit_softcapping", None))
    picked.backward(gradient * scale)
    return loss


def output_loss(hidden: Any, weight: Any, labels: Any, softcap: float | None = None) -> tuple[float, Any]:
    """Summed cross-entropy of `labels` (n,) under softmax(hidden @ weight.T), and its gradient with respect to `hidden` (n, d).

    The output layer is frozen, so the gradient has a closed form, (softmax - onehot) @ weight, and autograd need not keep float32
    copies of the logits. The softmax sums in float32 and rounds to the dtype of `hidden`; in bfloat16 the reported loss (not the
    gradient) therefore carries up to 0.4% of rounding on each token's largest probability.
    """
    import torch
    from torch.nn import functional as F

    gradient = torch.empty_like(hidden)
    total = torch.zeros((), dtype=torch.float64, device=hidden.device)
    with torch.no_grad():
        for at in range(0, len(labels), CHUNK):
            wanted = labels[at : at + CHUNK]
            row = torch.arange(len(wanted), device=hidden.device)
            logits = F.linear(hidden[at : at + CHUNK], weight)
            if softcap:
                logits = torch.tanh(logits / softcap) * softcap
            top, where = logits.max(-1)
            p = torch.softmax(logits, -1)
            normaliser = top.double() - p[row, where].double().log()
            total += (normaliser - logits[row, wanted].double()).sum()
            p[row, wanted] -= 1
            if softcap:
                p *= 1 - (logits / softcap) ** 2
            gradient[at : at + CHUNK] = p @ weight
    return float(total), gradient
