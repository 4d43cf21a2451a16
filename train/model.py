"""The base with LoRA layers, and one micro-batch through it. The output layer (train.output_layer) is computed for response positions only."""

from __future__ import annotations

import dataclasses
import itertools
import json
import warnings
from collections.abc import Sequence
from typing import Any

from tell.adapter.card import CONFIG, WEIGHTS, Adapter
from tell.errors import AdapterError, BaseModelError
from tell.extras import hide_unused_libraries, need
from tell.machine import bf16
from tell.model.base import Base
from tell.model.embeddings import from_pretrained, loader_of
from train.config import LoraOptions, TrainOptions
from train.output_layer import SampledVocabulary, output_loss
from train.plan import Tokenised
from train.vllm_limits import lora_target_modules
from train.word_table import load_beside_tables


def pick_dtype(options: TrainOptions, cuda: bool) -> str:
    if options.dtype != "auto":
        return options.dtype
    if cuda:
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if bf16() == "yes" else "float32"


def load_model(base: Base, lora: LoraOptions, dtype: str, device: str, seed: int, quantisation: str = "none") -> Any:
    """The frozen base in the compute dtype, or in 4 bits, with fresh LoRA layers, whose initial weights depend on `seed` alone."""
    import torch

    if quantisation == "nf4":
        need("bitsandbytes", "quantised")
    with hide_unused_libraries():
        import peft
        import transformers
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    quantisation_options: dict[str, Any] = {}
    if quantisation == "nf4":
        quantisation_config = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=getattr(torch, dtype)
        )
        quantisation_options = {"quantization_config": quantisation_config, "device_map": {"": device}}
    try:
        # Segments are short: on a processor plain matrix products are faster than fused attention, whose forward pass is slow in bfloat16.
        attention = "eager" if device == "cpu" else "sdpa"
        model = load_beside_tables(loader_of(base), base, attention, getattr(torch, dtype)) if device == "cpu" and quantisation == "none" else None
        if model is None:
            model = from_pretrained(base, attention, dtype=getattr(torch, dtype), **quantisation_options)
    except (OSError, ValueError, RuntimeError, ImportError) as e:
        raise BaseModelError("the base cannot be loaded", place=str(base.path), found=str(e).strip().split("\n")[0]) from None
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora_target_modules(model, lora.target_modules),
        use_rslora=lora.use_rslora,
        task_type="CAUSAL_LM",
        bias="none",
    )
    with warnings.catch_warnings(), hide_unused_libraries():
        warnings.simplefilter("ignore")
        # LoRA stays in the compute dtype: the optimiser holds the float32 master weights (train.optimiser).
        model = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    if quantisation == "none":
        model.to(device)
    for parameter in lora_parameters(model).values():
        parameter.data = parameter.data.to(device, getattr(torch, dtype))
    model.train()
    return model


def checkpoint_activations(model: Any) -> None:
    """Let the forward pass keep only each layer's input."""
    model.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def decoder_of(model: Any) -> Any:
    """The text decoder below the output layer, without the towers for images and sound that some classes have beside it."""
    return model.get_base_model().get_decoder()


def decoder_layers(model: Any) -> list[Any]:
    """The decoder's layers: `layers` in most classes, `h` in GPT-2, BLOOM and Falcon. Empty in a class that calls them something else."""
    decoder = decoder_of(model)
    return list(next((layers for name in ("layers", "h") if (layers := getattr(decoder, name, None)) is not None), ()))


def shard_base(model: Any) -> None:
    """Shard the frozen weights of each layer over the processes (FSDP); they are gathered while the layer is computed. Every process has the whole LoRA."""
    from torch.distributed.fsdp import fully_shard

    lora_weights = set(lora_parameters(model).values())
    for layer in decoder_layers(model):
        fully_shard(layer, ignored_params=lora_weights)


def lora_parameters(model: Any) -> dict[str, Any]:
    """The trainable tensors by their peft name, in a fixed order."""
    return dict(sorted((n, p) for n, p in model.named_parameters() if p.requires_grad))


def can_compile() -> bool:
    """Whether torch.compile works here: it needs a C++ compiler and Python's headers (CPU) or Triton (GPU)."""
    import torch

    try:
        # Triton is looked for when the first function is compiled.
        with hide_unused_libraries():
            torch.compile(lambda x: x * 2 + 1)(torch.ones(8))
    except Exception:  # whatever a missing or broken tool chain raises
        return False
    return True


def take_weights(model: Any, adapter: Adapter) -> None:
    """Give the model's LoRA layers the weights of a trained adapter. Raises AdapterError where its layers, rank or scaling are others than the recipe's."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    place = str(adapter.path)
    own = {name: tuple(t.shape) for name, t in get_peft_model_state_dict(model).items()}
    weights = load_file(adapter.path / WEIGHTS)
    shapes = {name: tuple(t.shape) for name, t in weights.items()}
    if shapes != own:
        name = min(name for name in own.keys() | shapes.keys() if own.get(name) != shapes.get(name))
        found, valid = shapes.get(name, "no such layer"), own.get(name, "no such layer")
        raise AdapterError("the adapter to start from has other layers than [lora] asks for", place=f"{place}, {name}", found=found, valid=str(valid))
    config, recipe = json.loads((adapter.path / CONFIG).read_bytes()), model.peft_config["default"]
    for key in ("lora_alpha", "use_rslora"):
        if config.get(key) != getattr(recipe, key):
            raise AdapterError(f"the adapter to start from has another {key}", place=place, found=config.get(key), valid=str(getattr(recipe, key)))
    set_peft_model_state_dict(model, weights)


def compile_layers(model: Any) -> None:
    """Compile each decoder layer for any length: norms, rotations and activations are fused, and the layers share the code."""
    import torch

    # A layer that cannot be compiled for some shape runs as it is.
    torch._dynamo.config.suppress_errors = True
    for layer in decoder_layers(model):
        layer.compile(dynamic=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch as tensors: `ids` (rows, length); `positions` of the same shape when rows are packed, else None; and the n response tokens:
    `labels` (n,), which the hidden states at (`rows`, `columns`), (n,) each, predict.
    """

    ids: Any
    positions: Any
    rows: Any
    columns: Any
    labels: Any

    def to(self, device: str) -> Batch:
        """On the device, without waiting for the copies."""
        return Batch(*(None if t is None else t.to(device, non_blocking=True) for t in (self.ids, self.positions, self.rows, self.columns, self.labels)))


def collate(examples: Sequence[Tokenised], pad: int, packed: bool = False, pin: bool = False) -> Batch:
    """Padded rows, one for each example; or with `packed` one row of all examples, in which positions restart with each example.

    Padding is on the right and no token attends to later ones, so there is no attention mask. In a packed row transformers reads from the
    positions where an example begins, and lets no example attend to another.
    """
    import torch

    positions_of_labels = [(r, t) for r, e in enumerate(examples) for t in range(e.start - 1, len(e.ids) - 1)]
    positions = None
    if packed:
        starts = [0, *itertools.accumulate(len(e.ids) for e in examples)]
        ids = torch.tensor([[i for e in examples for i in e.ids]])
        positions = torch.tensor([[t for e in examples for t in range(len(e.ids))]])
        rows, columns = torch.zeros(len(positions_of_labels), dtype=torch.long), torch.tensor([starts[r] + t for r, t in positions_of_labels], dtype=torch.long)
    else:
        length = max(len(e.ids) for e in examples)
        ids = torch.tensor([e.ids + [pad] * (length - len(e.ids)) for e in examples])
        rows, columns = torch.tensor([r for r, _ in positions_of_labels], dtype=torch.long), torch.tensor([t for _, t in positions_of_labels], dtype=torch.long)
    labels = torch.tensor([i for e in examples for i in e.ids[e.start :]], dtype=torch.long)
    parts = (ids, positions, rows, columns, labels)
    return Batch(*(None if t is None else t.pin_memory() for t in parts)) if pin else Batch(*parts)


def response_states(model: Any, batch: Batch) -> Any:
    """The last hidden states (n, d) that predict the batch's n response tokens, example by example."""
    # BLOOM and Mamba take no positions.
    positions = {} if batch.positions is None else {"position_ids": batch.positions}
    hidden = decoder_of(model)(input_ids=batch.ids, use_cache=False, **positions).last_hidden_state
    return hidden[batch.rows, batch.columns]


def backward(model: Any, batch: Batch, scale: float, words: SampledVocabulary) -> Any:
    """Forward and backward pass of one micro-batch; gradients accumulate on the LoRA parameters.

    Returns the summed cross-entropy over the response tokens (nats) as a tensor (). `scale` multiplies the gradient: with
    1 / (response tokens in the step), the step's gradient is that of the mean.
    """
    states = response_states(model, batch)
    loss, gradient = output_loss(states.detach(), words.layer, words.places(batch.labels), words.correction)
    states.backward(gradient * scale)
    return loss
