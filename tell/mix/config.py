"""The `[mix]` table of a recipe, and the plan that is made from it and the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tell.errors import suggestion
from tell.mix.hinting import HintPlan
from tell.mix.retrieving import RetrievalConfig
from tell.model.anchor import Anchor
from tell.model.base import Base

Order = Literal["shuffled", "task-last", "task-first", "interleave", "none"]
ORDERS: tuple[Order, ...] = get_args(Order)
Kind = Literal["sentence", "paragraph", "document"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class SourceConfig(BaseModel):
    """One `[[mix.sources]]` table: a file or a dataset of general examples, with its share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A JSONL file, may be .gz, relative to the recipe.
    path: str | None = None
    # A dataset of the hub (owner/name), or a directory of data files relative to the recipe. Needs the extra `hub`.
    dataset: str | None = None
    split: str = "train"
    # At most this many rows from the dataset's beginning; None is all of it.
    rows: int | None = Field(default=None, ge=1)
    # The names of the two columns, or keys of the JSON objects.
    prompt: str = Field(default="prompt", min_length=1)
    completion: str = Field(default="completion", min_length=1)
    # Weight: this source's part of the general tokens is its share over the sum of all shares.
    share: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, table: Any) -> Any:
        if isinstance(table, dict):
            for key in table:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {key!r}; valid: {suggestion(str(key), cls.model_fields)}")
        return table

    @model_validator(mode="after")
    def _one(self) -> SourceConfig:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either path or dataset")
        only = [k for k in ("split", "rows") if k in self.model_fields_set and self.path is not None]
        if only:
            raise ValueError(f"{only[0]} goes with dataset, not with path")
        return self


class MixConfig(BaseModel):
    """The `[mix]` table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # General tokens per task token, prompts and responses together.
    ratio: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    # An absolute number of general tokens, in place of a ratio.
    general_tokens: int | None = Field(default=None, ge=0)
    # JSONL files of {prompt, completion}, relative to the recipe. Together they are one pool.
    general: list[str] = []
    # The same with a share for each, and with datasets; in place of `general`.
    sources: list[SourceConfig] = []
    # At most this many tokens of task examples, in whole documents; a larger budget with the same seed holds the smaller one.
    task_tokens: int | None = Field(default=None, ge=1)
    # How many times each task example is in the mix; general examples are there once, spread evenly over these passes.
    task_passes: int = Field(default=1, ge=1, le=1000)
    # Tokens. Longer examples are left out and counted, never cut; paragraphs and documents are split between segments.
    max_tokens: int = Field(default=512, ge=16, le=131072)
    # Shares of the task tokens, as weights.
    granularity: dict[Kind, float] = {"sentence": 1.0}
    # Segments in a paragraph, at most.
    paragraph_segments: int = Field(default=4, ge=2, le=1000)
    # shuffled is TELL's (section 3.2); the others are there to be compared with it.
    order: Order = "shuffled"

    @field_validator("granularity", mode="before")
    @classmethod
    def _kinds(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for kind in value:
                if kind not in KINDS:
                    raise ValueError(f"unknown granularity {kind!r}; valid: {suggestion(str(kind), KINDS)}")
            shares = list(value.values())
            if any(isinstance(s, bool) or not isinstance(s, (int, float)) or not 0 <= s < float("inf") for s in shares):
                raise ValueError("shares are numbers, 0 or more")
            if not sum(shares):
                raise ValueError("no share is more than 0")
        return value

    @model_validator(mode="after")
    def _either(self) -> MixConfig:
        for key, rival in (("ratio", "general_tokens"), ("general", "sources")):
            if {key, rival} <= self.model_fields_set:
                raise ValueError(f"{key} and {rival} are both given; give one of them")
        return self

    def shares(self) -> dict[Kind, float]:
        """The shares of the task tokens that are more than zero; they sum to one."""
        whole = sum(self.granularity.values())
        return {k: self.granularity[k] / whole for k in KINDS if self.granularity.get(k)}


@dataclasses.dataclass(frozen=True, slots=True)
class GeneralSource:
    """A file of general examples. `share` is its part of the general tokens; None where all files are one pool."""

    path: Path
    label: str
    share: float | None = None
    prompt: str = "prompt"
    completion: str = "completion"
    dataset: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MixPlan:
    """Everything that decides a mix."""

    pair: str
    corpora: tuple[Path, ...]
    general: tuple[GeneralSource, ...]
    base: Base
    anchor: Anchor
    config: MixConfig
    seed: int
    # None for prompts without hints.
    hints: HintPlan | None = None
    # None for prompts without nearest pairs.
    retrieval: RetrievalConfig | None = None
