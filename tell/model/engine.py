"""The protocol between what needs translations and what runs a model.

A driver is named by an entry point of the group `tellmt.engines`; the drivers themselves are in `serve`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from tell.errors import BadInput, EngineError, suggestion
from tell.model.base import Base
from tell.paths import cache_dir

# The group of entry points, and the distribution whose own version is no part of an engine's: what it translates does not change with every release.
GROUP, OWN_DISTRIBUTION = "tellmt.engines", "tellmt"


class Decoding(BaseModel):
    """How a translation is decoded; an adapter's card carries it. Greedy; a prompt with a `Sampling` is sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # New tokens allowed per token of the source: translations into a language the tokenizer splits finely need more.
    length_factor: float = Field(default=3.0, gt=0, le=20)
    # New tokens allowed beyond that, for very short sources.
    length_extra: int = Field(default=16, ge=1, le=512)
    # Above 1.0, tokens already produced become less likely.
    repetition_penalty: float = Field(default=1.0, ge=1.0, le=2.0)

    def max_tokens(self, source_tokens: int) -> int:
        return int(source_tokens * self.length_factor) + self.length_extra


@dataclasses.dataclass(frozen=True, slots=True)
class EngineTraits:
    """What callers must know of an engine before it is started: the class attribute `traits` of its driver, which is read without making one.

    A driver without the attribute has the defaults: they suit a server that batches what it is given by itself.
    """

    # Distributions that decide the output beside the driver's own; the version of the first that is installed is part of the engine's version.
    libraries: tuple[str, ...] = ()
    # Number of the format in which the driver writes the models that it makes of bases and adapters. Raised when what is written changes for the same
    # weights, so that outputs of other models are not taken for those of the new ones.
    model_format: int | None = None
    # Folder of the cache where it keeps the models that it makes of adapters, each in a directory `*-<hash of the weights>`.
    model_folder: str | None = None
    # It runs one batch of one adapter from start to end, and begins nothing meanwhile. Others fill places as they fall free, in order of arrival.
    whole_batches: bool = False
    # Distinct adapters that one batch can hold.
    adapters_per_batch: int = sys.maxsize
    # What suits translating a file: segments in one call of `generate`, and calls at once. One or more wait while one runs.
    segments_per_call: int = 64
    calls_at_once: int = 3
    # What suits scoring: segments in a call of `generate` that is made when the one before it has ended, a step of the progress bar.
    segments_per_step: int = 32
    # A repetition penalty counts the tokens of the prompt as well as those of the output.
    penalises_prompt: bool = False
    # The models that it makes of adapters have only the pieces that the adapter keeps of the base's vocabulary (tell.model.pieces).
    own_vocabulary: bool = False
    # It starts in less time than it takes to translate a dev split: asking again later costs less than translating what may not be needed.
    starts_quickly: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """A sampled output: drawn from the `top_k` likeliest tokens (0: all), and of these the likeliest that have `top_p` of the probability together.

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
    """An engine's output. `finish` is `length` when it was cut at max_tokens: a truncated translation."""

    text: str
    tokens: int
    finish: Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, slots=True)
class EngineOptions:
    """What every driver gets. `max_rank` is the largest LoRA rank it must hold, `max_adapters` how many at once."""

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
    Cancelling `generate` stops the work for its prompts. When the process or server that computes is gone, `healthy` is False within a
    second or so, calls in flight raise EngineError, and `close` still ends what is left.

    `traits` is an attribute of the class. Callers read it with `traits_of`: drivers that were written before it was part of the
    protocol need not have it.
    """

    name: str
    base: Base

    @property
    def traits(self) -> EngineTraits: ...
    async def start(self) -> None: ...
    async def load(self, adapter_id: str, path: Path) -> None: ...
    async def unload(self, adapter_id: str) -> None: ...
    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]: ...
    def loaded(self) -> list[str]: ...
    async def healthy(self) -> bool: ...
    async def close(self) -> None: ...


def _entry_point(name: str) -> metadata.EntryPoint | None:
    return next((e for e in metadata.entry_points(group=GROUP) if e.name == name), None)


def _driver(entry: metadata.EntryPoint) -> Any:
    """The driver's class. Raises EngineError when it cannot be imported."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as e:
        raise EngineError("the engine's driver cannot be imported", place=f"{entry.name} = {entry.value}", found=f"{type(e).__name__}: {e}") from None


def engine_names() -> list[str]:
    return sorted({e.name for e in metadata.entry_points(group=GROUP)})


def choose_engine(name: str) -> str:
    """The driver's name; `auto` is vLLM where it and a GPU are present, and ctranslate2 otherwise.

    `auto` names its two drivers here, not in their traits: it must be decided without importing whatever other packages have installed.
    """
    names = engine_names()
    if name == "auto":
        from tell.extras import has_gpu, installed

        return "vllm" if installed("vllm") and has_gpu() else "ct2"
    if name not in names:
        raise BadInput("unknown engine", place="--engine", found=name, valid=suggestion(name, [*names, "auto"]))
    return name


def traits_of(driver: object) -> EngineTraits:
    """The traits of a driver's class or of an engine; the defaults for one that has none."""
    traits = getattr(driver, "traits", None)
    return traits if isinstance(traits, EngineTraits) else EngineTraits()


def engine_traits(name: str) -> EngineTraits:
    """The traits of the driver of this name; the defaults when there is none. Raises EngineError when it cannot be imported."""
    entry = _entry_point(name)
    return EngineTraits() if entry is None else traits_of(_driver(entry))


def _installed_version(distributions: Sequence[str]) -> str:
    """The version of the first of these that is installed; empty when none is."""
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return ""


def engine_version(name: str, base: Base | None = None) -> str:
    """What decides an engine's output beside the base and the prompts, as text for keys: an upgraded engine never reuses what the older one translated.

    The version of the driver's library, of the models it makes where it does, and of the driver's distribution where that is not this one. Empty when
    nothing is known: for a server elsewhere, and where the library is not installed (starting the engine says so). With a base, also what the driver makes
    otherwise for bases of this kind than it did: a driver that knows of any has a static method `variant(base)`.
    """
    entry = _entry_point(name)
    if entry is None:
        return ""
    traits = engine_traits(name)
    version = _installed_version(traits.libraries)
    if version and traits.model_format is not None:
        version = f"{version}, models of format {traits.model_format}"
    variant = getattr(_driver(entry), "variant", None) if version and base is not None else None
    if variant and (different := variant(base)):
        version = f"{version}, {different}"
    if entry.dist is not None and entry.dist.name != OWN_DISTRIBUTION:
        version = ", ".join(filter(None, (f"{entry.dist.name} {entry.dist.version}", version)))
    return version


def engine_refusal(name: str, base: Base) -> str | None:
    """Why the driver of this name cannot serve a base, in a clause; None where it can, or does not say. Raises MissingExtra where it cannot be tried here.

    A driver that can say so has a static method `refusal(base)`, which needs seconds at most and starts nothing.
    """
    entry = _entry_point(choose_engine(name))
    refusal = None if entry is None else getattr(_driver(entry), "refusal", None)
    reason: str | None = refusal(base) if refusal else None
    return reason


def max_prompt(engine: object) -> int:
    """Tokens of the longest prompt that a started engine computes as the base does; the context bounds prompt and output together in any case."""
    limit = getattr(engine, "max_prompt", None)
    return limit if isinstance(limit, int) else sys.maxsize


def converted_models(name: str, weights: str) -> list[Path]:
    """The directories in which an engine keeps models that it made of an adapter, known by `tell.adapter.card.weights_of`."""
    folder = engine_traits(name).model_folder
    return sorted((cache_dir() / folder).glob(f"*-{weights}")) if folder else []


def open_engine(name: str, options: EngineOptions) -> Engine:
    """A driver that is not started yet. Raises BadInput when there is none of this name, EngineError when it cannot be imported."""
    entry = _entry_point(choose_engine(name))
    if entry is None:
        raise BadInput("unknown engine", place="--engine", found=name, valid=suggestion(name, [*engine_names(), "auto"]))
    engine: Engine = _driver(entry)(options)
    return engine
