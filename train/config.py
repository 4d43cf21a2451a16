"""The `[train]` and `[lora]` tables of a recipe, and the whole recipe as training sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tell.engine import Decoding
from tell.recipe import load_recipe, validated


class LoraOptions(BaseModel):
    """LoRA (arXiv 2106.09685) on every linear layer of the decoder, never on embeddings or the output layer: vLLM loads neither for Gemma 3."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # vLLM allocates its buffers at one of these ranks; any other would be padded or refused.
    rank: Literal[1, 8, 16, 32, 64, 128, 256] = 16
    # The update is scaled by alpha / rank.
    alpha: int = Field(default=32, ge=1, le=1024)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


class TrainOptions(BaseModel):
    """How the adapter is optimised: AdamW on the response's tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Passes over the mixed data; the order is shuffled anew for each pass after the first.
    epochs: int = Field(default=1, ge=1, le=1000)
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    # Share of the steps over which the learning rate rises from zero.
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    # Tokens (prompt and response) per optimiser step, filled in the mixed order.
    batch_tokens: int = Field(default=2048, ge=64, le=4_000_000)
    # Tokens, padding included, that one forward pass holds: bounds memory, does not change the result's meaning.
    micro_tokens: int = Field(default=2048, ge=64, le=4_000_000)
    max_grad_norm: float = Field(default=1.0, gt=0)
    # Words of the output layer drawn each step beside those in the data's responses, to stand for all others (train.output); 0 takes every word.
    negatives: int = Field(default=4096, ge=0, le=1_000_000)
    # auto: where a compiler is found and the run is long enough to earn back the minute that compiling takes.
    compile: Literal["auto", "on", "off"] = "auto"
    # auto: bfloat16 where the processor computes in it, else float32. LoRA's own weights are kept in float32 either way.
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    # Optimiser steps between checkpoints: the most that a kill can lose.
    save_steps: int = Field(default=50, ge=1)
    # Threads for the CPU; 0 takes every core.
    threads: int = Field(default=0, ge=0, le=1024)

    @field_validator("learning_rate", "max_grad_norm", "weight_decay", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("not a number")
        return value


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    train: TrainOptions = TrainOptions()
    lora: LoraOptions = LoraOptions()
    decoding: Decoding = Decoding()
    # Copied into the adapter's card.
    notes: list[str] = []


def read_recipe(path: Path | None) -> Recipe:
    """The training side of a recipe file; every default when there is none. Raises RecipeError."""
    raw = load_recipe(path) if path else {}
    place = str(path)
    return Recipe(
        seed=raw.get("seed", 0),
        train=validated(TrainOptions, raw.get("train", {}), f"{place}, [train]"),
        lora=validated(LoraOptions, raw.get("lora", {}), f"{place}, [lora]"),
        decoding=validated(Decoding, raw.get("decoding", {}), f"{place}, [decoding]"),
        notes=raw.get("notes", []),
    )
