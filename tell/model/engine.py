"""The seam between what asks for translations and what runs a model.

A driver is named by an entry point of the group `tellmt.engines`; the drivers themselves are in `serve`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from tell.errors import BadInput, suggestion
from tell.model.base import Base


class Decoding(BaseModel):
    """How a translation is decoded; an adapter's card carries it. Greedy: what is drawn by chance is asked for by a prompt's `Sampling`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # New tokens allowed per token of the source: translations into a language the tokenizer splits finely need more.
    length_factor: float = Field(default=3.0, gt=0, le=20)
    # New tokens allowed beyond that, for very short sources.
    length_extra: int = Field(default=16, ge=1, le=512)
    # Above 1.0, tokens already produced become less likely.
    repetition_penalty: float = Field(default=1.0, ge=1.0, le=2.0)

    def max_tokens(self, source_tokens: int) -> int:
        return int(source_tokens * self.length_factor) + self.length_extra


# Of the models that the engine ct2 runs on. Raised when what is written changes for the same weights: what was made with others is not taken for theirs.
CT2_FORMAT = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """An output drawn by chance: among the `top_k` likeliest tokens (0: all), and of these the likeliest that have `top_p` of the probability together.

    The same `seed` gives the same output where the driver can (`vllm`, `openai`), as far as its numbers repeat; another one gives another output.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    @property
    def settings(self) -> tuple[float, int, float]:
        return self.temperature, self.top_k, self.top_p


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """What an engine continues: token ids (BOS included where the base wants one), and when to stop.

    `one_line` ends the output at the first line break, for a source that has none. Several candidates are as many prompts, each with a seed of its own;
    without `sampling` the output is the greedy one.
    """

    ids: tuple[int, ...]
    max_tokens: int
    one_line: bool
    repetition_penalty: float = 1.0
    sampling: Sampling | None = None

    @property
    def kind(self) -> tuple[bool, float, tuple[float, int, float] | None]:
        """What prompts of one batch have in common, for engines that decode a batch under one set of options."""
        return self.one_line, self.repetition_penalty, self.sampling.settings if self.sampling else None


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """What came back. `finish` is `length` when the output was cut at max_tokens: a truncated translation."""

    text: str
    tokens: int
    finish: Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, slots=True)
class EngineOptions:
    """What every driver is told at start. `max_rank` is the largest LoRA rank it must hold, `max_adapters` how many at once."""

    base: Base
    max_adapters: int = 8
    max_rank: int = 16
    threads: int = 0
    max_batch: int = 64
    # Tokens of prompt and output together that one request may take.
    max_context: int = 4096
    # The server of the driver `openai`, and `LOCAL=REMOTE`, where a directory of this machine lies for it.
    url: str = ""
    path_map: str = ""


class Engine(Protocol):
    """A driver. All methods are called from one event loop; none blocks it.

    `start` raises MissingExtra or EngineError. `load` raises AdapterError and leaves the loaded ones as they were. Adapters
    are known by the id of their content, so an id never changes its meaning; `generate` with None runs the bare base.
    Cancelling `generate` stops the work for its prompts. When what computes is gone, `healthy` is False within a second or so,
    calls under way raise EngineError, and `close` still ends what is left.
    """

    name: str
    base: Base

    async def start(self) -> None: ...
    async def load(self, adapter_id: str, path: Path) -> None: ...
    async def unload(self, adapter_id: str) -> None: ...
    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]: ...
    def loaded(self) -> list[str]: ...
    async def healthy(self) -> bool: ...
    async def close(self) -> None: ...


def engine_names() -> list[str]:
    return sorted({e.name for e in entry_points(group="tellmt.engines")})


def choose_engine(name: str) -> str:
    """The driver's name; `auto` is vLLM where it and a GPU are present, and ctranslate2 otherwise."""
    names = engine_names()
    if name == "auto":
        from tell.extras import has_gpu, installed

        return "vllm" if installed("vllm") and has_gpu() else "ct2"
    if name not in names:
        raise BadInput("unknown engine", place="--engine", found=name, valid=suggestion(name, [*names, "auto"]))
    return name


def open_engine(name: str, options: EngineOptions) -> Engine:
    """A driver that is not started yet."""
    chosen = choose_engine(name)
    driver = next(e for e in entry_points(group="tellmt.engines") if e.name == chosen).load()
    engine: Engine = driver(options)
    return engine
