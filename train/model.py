"""The base with LoRA layers, and one micro-batch through it. The output layer (train.output) is computed for response positions only."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from tell.bases import Base
from tell.errors import BaseModelError
from tell.machine import bf16
from train.config import LoraOptions, TrainOptions
from train.output import Words, output_loss
from train.plan import Tokenised


def pick_dtype(options: TrainOptions, cuda: bool) -> str:
    if options.dtype != "auto":
        return options.dtype
    if cuda:
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if bf16() == "yes" else "float32"


def load_model(base: Base, lora: LoraOptions, dtype: str, device: str, seed: int) -> Any:
    """The frozen base in the compute dtype with fresh LoRA layers, whose initial weights depend on `seed` alone."""
    import peft
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base.path,
            dtype=getattr(torch, dtype),
            # Segments are short: on a processor plain products are faster than its fused attention, whose forward pass is slow in bfloat16.
            attn_implementation="eager" if device == "cpu" else "sdpa",
            trust_remote_code=False,
            local_files_only=True,
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


def compiles() -> bool:
    """Whether torch.compile works here: it needs a C++ compiler and Python's headers (CPU) or Triton (GPU)."""
    import torch

    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(8))
    except Exception:  # whatever a missing or broken tool chain raises
        return False
    return True


def compile_layers(model: Any) -> None:
    """Compile each decoder layer, with lengths left free: norms, rotations and activations are fused, and the layers share their code."""
    import torch

    # A layer that cannot be compiled for some shape runs as it is.
    torch._dynamo.config.suppress_errors = True
    for layer in model.get_base_model().get_decoder().layers:
        layer.compile(dynamic=True)


def backward(model: Any, batch: Sequence[Tokenised], scale: float, pad: int, device: str, words: Words) -> float:
    """Forward and backward for one micro-batch; gradients are left on the LoRA parameters.

    Returns the summed cross-entropy over the response tokens (nats); `scale` multiplies it in the gradient, so passing
    1 / (response tokens in the step) makes the step's gradient that of the mean.
    """
    picked, labels = response_states(model, batch, pad, device)
    softcap = getattr(model.get_base_model().config, "final_logit_softcapping", None)
    loss, gradient = output_loss(picked.detach(), words.weight, words.places(labels), softcap, words.bias)
    picked.backward(gradient * scale)
    return loss


def response_states(model: Any, batch: Sequence[Tokenised], pad: int, device: str) -> tuple[Any, Any]:
    """The last hidden states (n, d) that predict the batch's n response tokens, example by example, and those tokens' ids (n,)."""
    import torch

    length = max(len(e.ids) for e in batch)
    # No attention mask: padding is on the right, and no token attends to what comes after it.
    ids = torch.tensor([e.ids + [pad] * (length - len(e.ids)) for e in batch], device=device)
    # The hidden state at position t predicts token t+1: positions start-1 .. end-2 see the response's tokens.
    rows = torch.tensor([i for i, e in enumerate(batch) for _ in range(len(e.ids) - e.start)], device=device)
    columns = torch.tensor([t for e in batch for t in range(e.start - 1, len(e.ids) - 1)], device=device)
    hidden = model.get_base_model().get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    return hidden[rows, columns], ids[rows, columns + 1]
