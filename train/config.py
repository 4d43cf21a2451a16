"""The `[train]`, `[lora]` and `[dev]` tables of a recipe, and the whole recipe as training sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, StrictBool, field_validator, model_serializer, model_validator

from tell.model.engine import Decoding
from tell.recipe import load_recipe, validated
from train.vllm_limits import check_lora, check_train, linear_targets

# vLLM 0.32, vllm/config/lora.py, MaxLoRARanks.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
TRACKERS = ("tensorboard", "mlflow", "wandb")


class LoraOptions(BaseModel):
    """LoRA (arXiv 2106.09685) on every linear layer of the decoder, never on embeddings or the output layer: vLLM loads neither for Gemma 3."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # vLLM allocates its buffers at one of these ranks; any other would be padded or refused.
    rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    # The update is scaled by alpha / rank.
    alpha: int = Field(default=32, ge=1, le=1024)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    # The decoder's linear layers that get a LoRA, by the end of their names, such as ["q_proj", "v_proj"]; all of them by default.
    target_modules: str | list[str] = "all-linear"
    # Scale by alpha / sqrt(rank) instead (arXiv 2312.03732); vLLM and peft read this key alike.
    use_rslora: StrictBool = False

    @field_validator("rank", mode="before")
    @classmethod
    def _vllm_rank(cls, value: Any) -> Any:
        if isinstance(value, bool) or value not in RANKS:
            raise ValueError(f"vLLM holds adapters in buffers of these ranks only: {', '.join(map(str, RANKS))}")
        return value

    @field_validator("target_modules", mode="before")
    @classmethod
    def _linear_layers(cls, value: Any) -> Any:
        return linear_targets(value)


class TrainOptions(BaseModel):
    """How the adapter is optimised: AdamW on the response's tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # How often training goes through the mixed data; each epoch after the first has a new order.
    epochs: int = Field(default=1, ge=1, le=1000)
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    # Share of the steps over which the learning rate rises from zero.
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    # Tokens (prompt and response) per optimiser step, filled in the mixed order.
    batch_tokens: int = Field(default=2048, ge=64, le=4_000_000)
    # Tokens, padding included, that one forward pass holds: bounds memory, does not change the result's meaning. auto: see train.stepper.
    micro_tokens: int | Literal["auto"] = "auto"
    max_grad_norm: float = Field(default=1.0, gt=0)
    # Words of the output layer that each step draws to represent all but the data's own and the base's likeliest ones (train.output_layer); 0 takes every word.
    negatives: int = Field(default=4096, ge=0, le=1_000_000)
    # auto: where a compiler is found and the run is long enough to earn back the minute or two that compiling takes (train.loop).
    compile: Literal["auto", "on", "off"] = "auto"
    # auto: bfloat16 where the machine multiplies it faster than float32 (tell.machine), else float32. LoRA's own weights are kept in float32 either way.
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    # Several examples share a row, each attending only to itself, where otherwise rows are padded to the longest.
    packing: bool = False
    # The backward pass computes activations again in place of keeping them: about a third more time for much less memory.
    gradient_checkpointing: bool = False
    # nf4: the frozen base in 4 bits (QLoRA, arXiv 2305.14314), for bases that would not fit otherwise. Needs bitsandbytes.
    quantisation: Literal["none", "nf4"] = "none"
    # own: the adapter is served with the part of the base's vocabulary that its languages need, where that is worth it (train.pieces). Training has all of it.
    vocabulary: Literal["own", "whole"] = "own"
    # Experiment trackers beside metrics.jsonl, one or a list: tensorboard, mlflow, wandb. They have no influence on the adapter.
    report_to: list[Literal["tensorboard", "mlflow", "wandb"]] = []
    # Optimiser steps between checkpoints: a killed run loses at most these.
    save_steps: int = Field(default=50, ge=1)
    # Threads for the CPU; 0 takes every core.
    threads: int = Field(default=0, ge=0, le=1024)

    @field_validator("report_to", mode="before")
    @classmethod
    def _tracker_list(cls, value: Any) -> Any:
        if not isinstance(value, list | str) or any(v not in TRACKERS for v in ([value] if isinstance(value, str) else value)):
            raise ValueError(f"valid: one of {', '.join(TRACKERS)}, or a list of them")
        return [value] if isinstance(value, str) else sorted(set(value))

    @field_validator("micro_tokens", mode="before")
    @classmethod
    def _micro_token_limit(cls, value: Any) -> Any:
        if value != "auto" and not (type(value) is int and 64 <= value <= 4_000_000):
            raise ValueError("valid: auto, or a whole number from 64 to 4,000,000")
        return value

    @field_validator("learning_rate", "max_grad_norm", "weight_decay", mode="before")
    @classmethod
    def _not_boolean(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("not a number")
        return value


class DevOptions(BaseModel):
    """Validation on the dev split during training: chrF2 of greedy translations or the loss of the references, and the best weights are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Optimiser steps between validations; the last step is always followed by one. 0: no validation.
    every: int = Field(default=0, ge=0, le=1_000_000)
    # Training stops after this many validations in a row without a new best; 0 never stops it, and only keeps the best.
    patience: int = Field(default=0, ge=0, le=10_000)
    # At most this many segments, evenly spaced over the dev split: chrF of 100 tells a rise from noise, and a validation stays short.
    segments: int = Field(default=100, ge=1, le=100_000)

    # What decides: chrF2 of greedy translations, or the loss of the references, which is cheaper and moves less by chance.
    metric: Literal["chrf", "loss"] = "chrf"

    @model_serializer(mode="wrap")
    def _without_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Cards and identities of runs that say nothing of the metric are what they were before there was one."""
        return {k: v for k, v in dump(self).items() if k != "metric" or v != "chrf"}

    @model_validator(mode="after")
    def _patience_needs_validation(self) -> Self:
        if self.patience and not self.every:
            raise ValueError("patience counts validations, and every = 0 makes none; valid: every = 1 or more")
        return self


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    train: TrainOptions = TrainOptions()
    lora: LoraOptions = LoraOptions()
    dev: DevOptions = DevOptions()
    decoding: Decoding = Decoding()
    # Copied into the adapter's card.
    notes: list[str] = []


def read_recipe(path: Path | None) -> Recipe:
    """The training side of a recipe file; every default when there is none. Raises RecipeError."""
    raw = load_recipe(path) if path else {}
    place = str(path)
    return Recipe(
        seed=raw.get("seed", 0),
        train=validated(TrainOptions, check_train(raw.get("train", {}), f"{place}, [train]"), f"{place}, [train]"),
        lora=validated(LoraOptions, check_lora(raw.get("lora", {}), f"{place}, [lora]"), f"{place}, [lora]"),
        dev=validated(DevOptions, raw.get("dev", {}), f"{place}, [dev]"),
        decoding=validated(Decoding, raw.get("decoding", {}), f"{place}, [decoding]"),
        notes=raw.get("notes", []),
    )
