"""Studies: ways of training (arms), compared over sizes of the task data, amounts of general data and seeds.

Reads a study file (TOML): the arms, the stages in which they are run, and the corpora they are compared on. Writes a study directory: `study.json` (the study
with all defaults), `results.jsonl` (one line for each finished run, with everything that is needed to repeat it), `runs/<id>/` (losses, hypotheses, the
adapter) and `dev/<pair>/` (the segments that runs are compared on). `eval.study.plan` lists the runs; `eval.study.run` runs them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from tell.errors import RecipeError
from tell.files import key_of
from tell.languages import parse_pair
from tell.recipe import read_toml, validated

FORMAT = 2
# Task pairs; "all" is the corpora's end.
Size = int | Literal["all"]
# Keys of study files of before, whose budgets counted the tokens of the anchor too.
BEFORE = ("budgets", "ratios", "seeds")


class Slice(BaseModel):
    """Held-out segments: a split of a corpus directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str
    split: Literal["dev", "test"]


class Corpora(BaseModel):
    """The corpora of one pair; paths are relative to the study file. Learning rates and the step to stop at are chosen on `tune`, arms are compared on
    `dev`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: list[str] = Field(min_length=1)
    tune: Slice
    dev: Slice
    # Dictionaries, for arms that take them into their lexicon.
    dictionaries: list[str] = []

    @model_validator(mode="after")
    def _looked_at(self) -> Corpora:
        if self.tune.split != "dev":
            raise ValueError("tune: training looks at a dev split; valid: split = 'dev'")
        return self


class Tuning(BaseModel):
    """The learning rates that every tuned arm tries, at each of `sizes` and `ratios` that one of its cells is nearest to (by logarithm)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rates: list[float] = Field(min_length=1)
    sizes: list[int] = Field(min_length=1)
    # The sizes at which arms with general data are tuned, instead of `sizes`: each try costs its general data too.
    general_sizes: list[int] | None = Field(default=None, min_length=1)
    # Amounts of general data, in tokens to a task token.
    ratios: list[float] = [0.0]
    # Seeds that are compared nowhere.
    seeds: list[int] = Field(min_length=1)


class Looks(BaseModel):
    """Early stop: how often a run looks at its loss on the tuning segments, and after how many looks without a new best it ends. It keeps its best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=8, ge=1, le=1000)
    patience: int = Field(default=3, ge=1)
    segments: int = Field(default=100, ge=1)


class Arm(BaseModel):
    """One way of training, or of prompting the bare base. The study has the values that an arm leaves out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["train", "base"] = "train"
    # Examples put before the source in the prompt of a bare base, drawn from the training pairs by seed.
    shots: int = Field(default=0, ge=0, le=64)
    # How often training goes through the task data; general data is seen once.
    passes: int | None = Field(default=None, ge=1, le=1000)
    # Looks without a new best after which a run ends, instead of the study's; 0 never ends it, for an arm whose task data comes last.
    patience: int | None = Field(default=None, ge=0)
    # Tables of the recipe; their keys replace the study's.
    anchor: dict[str, Any] = {}
    mix: dict[str, Any] = {}
    train: dict[str, Any] = {}
    lora: dict[str, Any] = {}
    # Method that selects the general or the task examples (`ltd` is arXiv 2305.09246); None draws them at random by seed.
    general: Literal["ltd", "centres", "random"] | None = None
    task: Literal["ltd", "centres", "random"] | None = None
    # shuffled: the answers of the general data are dealt out anew among its prompts, so that nothing can be learned from what they say.
    answers: Literal["own", "shuffled"] = "own"
    # Keys of the recipe's table [hints]: the arm trains with hints of a lexicon that is learned from its own pairs. None: without hints.
    hints: dict[str, Any] | None = None
    # Take the pair's dictionaries into that lexicon.
    dictionaries: bool = False
    # Keys of the recipe's table [retrieval], which may be none: the arm trains with the nearest pairs of its own. None: without.
    retrieval: dict[str, Any] | None = None
    # Use the learning rate that is chosen for this arm, instead of tuning one.
    tuned_as: str | None = None


class Stage(BaseModel):
    """Cells of the study: every arm at every size, amount and seed of these lists. Stages are run in their order, and in each the seeds one after the other;
    neighbours of one name are one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arms: list[str] = Field(min_length=1)
    # Bare bases have neither size nor general data.
    sizes: list[Size] = []
    ratios: list[float] = [0.0]
    seeds: list[int] = Field(min_length=1)
    # None: all pairs of the study.
    pairs: list[str] | None = None
    # Translate the held-out segments too, for chrF2 and BLEU.
    scores: bool = False
    # Keep the loss of every target token, at the end and along training.
    tokens: bool = False

    @field_validator("sizes", "seeds", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(x, bool | float) for x in value):
            raise ValueError("not all are whole numbers")
        return value

    @field_validator("arms", "sizes", "ratios", "seeds")
    @classmethod
    def _distinct(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) < len(value):
            raise ValueError("the same value twice")
        return value


class Study(BaseModel):
    """The study file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    base: str
    pairs: list[str] = Field(min_length=1)
    # Pools of general examples, and the pool that LTD chooses from where it is another (embedding a large one takes long).
    general: list[str] = []
    ltd_pool: list[str] = []
    # The arm that others are compared with, and the arm and size of the primary figure with its margin.
    reference: str
    primary: dict[str, Any] = {}
    # How often training goes through the task data of an arm that says nothing of it.
    passes: int = Field(default=3, ge=1, le=1000)
    # Tokens of a task pair, a general example's not counted, and of a held-out segment: what the dry run estimates the cost from.
    pair_tokens: int = Field(default=58, ge=1)
    segment_tokens: int = Field(default=75, ge=1)
    corpora: dict[str, Corpora]
    tune: Tuning
    looks: Looks = Looks()
    anchor: dict[str, Any] = {}
    mix: dict[str, Any] = {}
    train: dict[str, Any] = {}
    lora: dict[str, Any] = {}
    decoding: dict[str, Any] = {}
    arms: dict[str, Arm] = Field(min_length=1)
    stages: list[Stage] = Field(min_length=1)

    @model_serializer(mode="wrap")
    def _with_unit(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Studies of before counted tokens and say nothing.
        return {**dump(self), "unit": "pairs"}

    @field_validator("pairs")
    @classmethod
    def _distinct(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) < len(value):
            raise ValueError("the same value twice")
        return value

    @model_validator(mode="after")
    def _whole_study(self) -> Study:
        named = [self.reference, *(a.tuned_as for a in self.arms.values() if a.tuned_as), *(n for s in self.stages for n in s.arms)]
        if unknown := next((name for name in named if name not in self.arms), None):
            raise ValueError(f"no such arm: {unknown}; valid: {', '.join(self.arms)}")
        for pair in [*self.pairs, *(p for s in self.stages for p in s.pairs or [])]:
            if pair not in self.corpora:
                raise ValueError(f"pair {pair} has no [corpora.{pair}]")
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        compared = {seed for s in self.stages for seed in s.seeds}
        if both := sorted(compared & set(self.tune.seeds)):
            raise ValueError(f"[tune] seeds: seed {both[0]} is compared too, and its rate would be chosen on it; valid: seeds of no stage")
        for s in self.stages:
            if any(self.arms[a].kind == "train" for a in s.arms) and not s.sizes:
                raise ValueError(f"stage {s.name} has arms that are trained, and no sizes")
            if any(self.arms[a].task and "all" in s.sizes for a in s.arms):
                raise ValueError(f"stage {s.name}: there is nothing to choose from all task pairs; valid: sizes in pairs")
        places: dict[str, str] = {}
        for name, arm in self.arms.items():
            settings = key_of({**arm.model_dump(exclude={"tuned_as"}), "passes": arm.passes or self.passes})
            if other := places.get(settings):
                raise ValueError(f"arms {other} and {name} are the same")
            places[settings] = name
        return self

    def _check_arm(self, name: str, arm: Arm) -> None:
        prompts = (arm.hints is not None, arm.retrieval is not None)
        if arm.kind == "base" and any(
            (arm.mix, arm.train, arm.lora, arm.general, arm.task, arm.passes, arm.patience, arm.answers != "own", *prompts, arm.tuned_as)
        ):
            raise ValueError(f"arm {name} is a bare base and is not trained: only shots and anchor mean anything")
        if arm.kind == "train" and arm.shots:
            raise ValueError(f"arm {name} is trained: shots are for a bare base")
        if arm.dictionaries and arm.hints is None:
            raise ValueError(f"arm {name} has dictionaries and no hints that would use them")
        if arm.hints is not None and "lexicon" in arm.hints:
            raise ValueError(f"arm {name}: its lexicon is learned from its own pairs; [hints] lexicon would know others")
        if arm.answers == "shuffled" and arm.general == "ltd":
            raise ValueError(f"arm {name}: general data is either chosen or has its answers shuffled")
        if arm.tuned_as and (self.arms[arm.tuned_as].kind == "base" or self.arms[arm.tuned_as].tuned_as):
            raise ValueError(f"arm {name} takes the learning rate of {arm.tuned_as}, which tunes none itself")
        for key in ("learning_rate", "epochs"):
            if key in arm.train or key in self.train:
                raise ValueError(f"{key}: {'tuned, by [tune] learning_rates' if key == 'learning_rate' else 'set by passes'}")
        for key in ("ratio", "general_tokens", "task_tokens", "task_passes", "general", "sources"):
            if key in arm.mix or key in self.mix:
                raise ValueError(f"[mix] {key}: set by sizes, ratios, passes and general")


def read_study(path: Path, base: str | None = None) -> Study:
    """The study of a file, on another base where one is named. Raises RecipeError that names the key, its value and the valid ones."""
    table = read_toml(path)
    if before := next((k for k in BEFORE if k in table), None):
        found = f"{before}: a study file of before, whose budgets count the anchor's tokens"
        valid = "[[stages]] with arms, sizes in pairs, ratios and seeds (train/recipes/study-cpu.toml); --report-only opens what such a study left"
        raise RecipeError("studies go by pairs", place=str(path), found=found, valid=valid)
    study = validated(
        Study, {**table, **({"base": base, "name": re.sub("[^a-z0-9]+", "-", f"{table.get('name')}-{Path(base).name}".lower())} if base else {})}, str(path)
    )
    for pair in study.corpora:
        if str(parse_pair(pair, f"{path}, pairs")) != pair:
            raise RecipeError("not the pair's standard name", place=f"{path}, pairs", found=pair, valid=str(parse_pair(pair, str(path))))
    return study
