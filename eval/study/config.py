"""Studies: ways of training (arms), compared over budgets of task data, amounts of general data and seeds.

Reads a study file (TOML): the arms, and the corpora they are compared on. Writes a study directory: `study.json` (the study with all defaults),
`results.jsonl` (one line for each finished run, with everything that is needed to repeat it), `runs/<id>/` (hypotheses, losses, the adapter) and
`dev/<pair>/` (the segments that runs are compared on). This module lists the runs; `eval.study.run` runs them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from tell.errors import RecipeError
from tell.files import key_of
from tell.languages import parse_pair
from tell.recipe import read_toml, validated

FORMAT = 1
Budget = int | Literal["all"]
# Methods by which an arm may select data; `ltd` is arXiv 2305.09246.
METHODS = ("ltd", "centres", "random")


def _unset_left_out(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the keys for hints and nearest pairs where there are none: a study of before is written, and its runs are named, as they were."""
    return {key: value for key, value in fields.items() if key not in ("hints", "dictionaries", "retrieval") or value not in (None, False, [])}


class Slice(BaseModel):
    """Held-out segments: a split of a corpus directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str
    split: Literal["dev", "test"]


class Corpora(BaseModel):
    """The corpora of one pair; paths are relative to the study file. Learning rates are chosen on `tune`, arms are compared on `dev`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: list[str] = Field(min_length=1)
    tune: Slice
    dev: Slice
    # Dictionaries, for arms that take them into their lexicon.
    dictionaries: list[str] = []

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _unset_left_out(dump(self))


class Tuning(BaseModel):
    """The learning rates every tuned arm tries, at each of `budgets`; a run takes the one chosen at the nearest budget (in log tokens)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rates: list[float] = Field(min_length=1)
    budgets: list[int] = Field(min_length=1)
    seed: int = Field(default=1, ge=0)


class Arm(BaseModel):
    """One way of training, or of prompting the bare base. The study has the values that an arm leaves out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["train", "base"] = "train"
    # Examples put before the source in the prompt of a bare base, drawn from the training pairs by seed.
    shots: int = Field(default=0, ge=0, le=64)
    # General tokens per task token, instead of the study's ratios.
    ratios: list[float] | None = None
    budgets: list[Budget] | None = None
    seeds: list[int] | None = None
    # Tables of the recipe; their keys replace the study's.
    anchor: dict[str, Any] = {}
    mix: dict[str, Any] = {}
    train: dict[str, Any] = {}
    lora: dict[str, Any] = {}
    # Method that selects the general or the task examples; None draws them at random by seed.
    general: Literal["ltd", "centres", "random"] | None = None
    task: Literal["ltd", "centres", "random"] | None = None
    # Keys of the recipe's table [hints]: the arm trains with hints of a lexicon that is learned from its training corpora. None: without hints.
    hints: dict[str, Any] | None = None
    # Take the pair's dictionaries into that lexicon.
    dictionaries: bool = False
    # Keys of the recipe's table [retrieval], which may be none: the arm trains with the nearest pairs of its corpora. None: without.
    retrieval: dict[str, Any] | None = None
    # Use the learning rate that is chosen for this arm, instead of tuning one.
    tuned_as: str | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _unset_left_out(dump(self))


class Study(BaseModel):
    """The study file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    base: str
    pairs: list[str] = Field(min_length=1)
    budgets: list[Budget] = Field(min_length=1)
    # Ratios of general to task tokens, for arms that have none of their own.
    ratios: list[float] = [1.0]
    seeds: list[int] = Field(min_length=1)
    # Pools of general examples, and the pool that LTD chooses from where it is another (embedding a large one takes long).
    general: list[str] = []
    ltd_pool: list[str] = []
    # The arm that others are compared with.
    reference: str
    corpora: dict[str, Corpora]
    tune: Tuning
    anchor: dict[str, Any] = {}
    mix: dict[str, Any] = {}
    train: dict[str, Any] = {}
    lora: dict[str, Any] = {}
    decoding: dict[str, Any] = {}
    arms: dict[str, Arm] = Field(min_length=1)

    @field_validator("budgets", "seeds", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(x, bool | float) for x in value):
            raise ValueError("not all are whole numbers")
        return value

    @field_validator("pairs", "budgets", "ratios", "seeds")
    @classmethod
    def _distinct(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) < len(value):
            raise ValueError("the same value twice")
        return value

    @model_validator(mode="after")
    def _whole_study(self) -> Study:
        for name in (self.reference, *(a.tuned_as for a in self.arms.values() if a.tuned_as)):
            if name not in self.arms:
                raise ValueError(f"no such arm: {name}; valid: {', '.join(self.arms)}")
        for pair in self.pairs:
            if pair not in self.corpora:
                raise ValueError(f"pair {pair} has no [corpora.{pair}]")
        for name, arm in self.arms.items():
            prompts = (arm.hints is not None, arm.retrieval is not None)
            trained = (arm.mix, arm.train, arm.lora, arm.general, arm.task, *prompts, arm.ratios, arm.budgets, arm.tuned_as)
            if arm.kind == "base" and any(trained):
                raise ValueError(f"arm {name} is a bare base and is not trained: only shots, seeds and anchor mean anything")
            if arm.dictionaries and arm.hints is None:
                raise ValueError(f"arm {name} has dictionaries and no hints that would use them")
            whole = arm.task is None and arm.tuned_as is not None and set(arm.budgets or self.budgets) == {"all"}
            if arm.hints is not None and (not whole or "lexicon" in arm.hints):
                # A lexicon of the whole corpus would know words that a part of it does not have.
                needed = 'budgets = ["all"], tuned_as another arm, and neither task nor [hints] lexicon'
                raise ValueError(f"arm {name} has hints, and its lexicon is learned from all of its corpora: it needs {needed}")
            if arm.retrieval is not None and not whole:
                raise ValueError(f'arm {name} has retrieval, from all of its corpora: it needs budgets = ["all"], tuned_as another arm, and no task')
            if arm.kind == "train" and arm.shots:
                raise ValueError(f"arm {name} is trained: shots are for a bare base")
            if arm.tuned_as and (self.arms[arm.tuned_as].kind == "base" or self.arms[arm.tuned_as].tuned_as):
                raise ValueError(f"arm {name} takes the learning rate of {arm.tuned_as}, which tunes none itself")
            if "learning_rate" in arm.train or "learning_rate" in self.train:
                raise ValueError("learning_rate: tuned, by [tune] learning_rates")
            for key in ("ratio", "general_tokens", "task_tokens", "general", "sources"):
                if key in arm.mix or key in self.mix:
                    raise ValueError(f"[mix] {key}: set by budgets, ratios and general")
        places: dict[str, str] = {}
        for name, arm in self.arms.items():
            for ratio in arm.ratios or self.ratios:
                settings = key_of({**arm.model_dump(exclude={"tuned_as", "budgets", "seeds", "ratios"}), "ratio": ratio})
                if other := places.get(settings):
                    raise ValueError(f"arms {other} and {name} are the same at ratio {ratio:g}")
                places[settings] = name
        return self


class StudyRun(BaseModel):
    """One run, with everything that decides it. `budget` is None for all task tokens, and for a bare base."""

    model_config = ConfigDict(frozen=True)

    role: Literal["tune", "run"]
    arm: str
    pair: str
    budget: int | None
    ratio: float
    seed: int
    learning_rate: float | None

    @property
    def label(self) -> str:
        size = "all" if self.budget is None else f"{self.budget:,}"
        rate = "" if self.learning_rate is None else f", lr {self.learning_rate:g}"
        return f"{self.role} {self.pair} {self.arm}, {size} task tokens, ratio {self.ratio:g}, seed {self.seed}{rate}"


def read_study(path: Path) -> Study:
    """The study of a file. Raises RecipeError that names the key, its value and the valid ones."""
    study = validated(Study, read_toml(path), str(path))
    for pair in study.pairs:
        if str(parse_pair(pair, f"{path}, pairs")) != pair:
            raise RecipeError("not the pair's standard name", place=f"{path}, pairs", found=pair, valid=str(parse_pair(pair, str(path))))
    return study


def recipe(study: Study, run: StudyRun) -> dict[str, Any]:
    """The recipe of a run: the tables of the study, the arm's tables over them, and the values of the run."""
    arm = study.arms[run.arm]
    tables: dict[str, Any] = {"pair": run.pair, "base": study.base, "seed": run.seed}
    for name in ("anchor", "mix", "train", "lora", "decoding"):
        table = {**getattr(study, name), **getattr(arm, name, {})}
        if table:
            tables[name] = table
    if arm.kind == "train":
        # A task that was selected to fit the budget is taken whole.
        budget = {} if run.budget is None or arm.task else {"task_tokens": run.budget}
        tables["mix"] = {**tables.get("mix", {}), "ratio": run.ratio, **budget}
        tables["train"] = {**tables.get("train", {}), "learning_rate": run.learning_rate}
        for name in ("hints", "retrieval"):
            if (table := getattr(arm, name)) is not None:
                tables[name] = table
    return tables


def tuning_runs(study: Study) -> Iterator[StudyRun]:
    """The runs that choose learning rates, small budgets first. Every tuned arm gets the same rates, at its first ratio."""
    for budget in sorted(study.tune.budgets):
        for pair in study.pairs:
            for name, arm in study.arms.items():
                if arm.kind == "train" and arm.tuned_as is None:
                    for rate in study.tune.learning_rates:
                        ratio = (arm.ratios or study.ratios)[0]
                        yield StudyRun(role="tune", arm=name, pair=pair, budget=budget, ratio=ratio, seed=study.tune.seed, learning_rate=rate)


def chosen_rate(study: Study, arm: str, pair: str, budget: int | None, tuned: dict[tuple[str, str, int, float], float]) -> float | None:
    """The learning rate for an arm: the best on the tuning slice at the nearest tuned budget; None while some of those runs are missing.

    `tuned` has the score (higher is better) by (arm, pair, budget, learning rate). Of equal scores the smaller rate is taken.
    """
    name = study.arms[arm].tuned_as or arm
    nearest = max(study.tune.budgets) if budget is None else min(study.tune.budgets, key=lambda b: (abs(math.log(b / budget)), b))
    scores = {rate: tuned.get((name, pair, nearest, rate)) for rate in study.tune.learning_rates}
    if None in scores.values():
        return None
    return min(scores, key=lambda r: (-(scores[r] or 0.0), r))


def study_runs(study: Study, tuned: dict[tuple[str, str, int, float], float]) -> Iterator[StudyRun]:
    """The runs that are compared, cheap ones first, so that a study that was stopped has complete rows. Skips runs whose learning rate is not chosen yet."""
    for budget in sorted({b for a in study.arms.values() for b in (a.budgets or study.budgets)}, key=lambda b: math.inf if b == "all" else b):
        tokens = None if budget == "all" else int(budget)
        for seed in sorted({s for a in study.arms.values() for s in (a.seeds or study.seeds)}):
            for pair in study.pairs:
                for name, arm in study.arms.items():
                    if seed not in (arm.seeds or study.seeds):
                        continue
                    if arm.kind == "base":
                        # Without training there is no budget; without examples in the prompt nothing depends on the seed.
                        if budget == min(study.budgets, key=lambda b: math.inf if b == "all" else b) and (arm.shots or seed == min(arm.seeds or study.seeds)):
                            yield StudyRun(role="run", arm=name, pair=pair, budget=None, ratio=0.0, seed=seed, learning_rate=None)
                    elif budget in (arm.budgets or study.budgets) and (rate := chosen_rate(study, name, pair, tokens, tuned)) is not None:
                        for ratio in arm.ratios or study.ratios:
                            yield StudyRun(role="run", arm=name, pair=pair, budget=tokens, ratio=ratio, seed=seed, learning_rate=rate)
