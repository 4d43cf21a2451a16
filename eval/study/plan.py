"""The runs of a study: which there are, in their order, with which recipe, and what they cost. Reads and writes nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from eval.study.config import Size, Stage, Study
from tell.files import key_of

# A forward pass alone costs a third of a training step.
FORWARD = 1 / 3


class StudyRun(BaseModel):
    """One run, with everything that decides it. `size` is in pairs, None for all of them and for a bare base."""

    model_config = ConfigDict(frozen=True)

    role: Literal["tune", "run"]
    arm: str
    pair: str
    size: int | None
    ratio: float
    seed: int
    learning_rate: float | None

    @property
    def cell(self) -> str:
        """How `--cell` names it."""
        return f"{self.pair}/{self.arm}/{'all' if self.size is None else self.size}/{self.ratio:g}/{self.seed}"

    @property
    def label(self) -> str:
        size = "all" if self.size is None else f"{self.size:,}"
        rate = "" if self.learning_rate is None else f", lr {self.learning_rate:g}"
        return f"{self.role} {self.pair} {self.arm}, {size} pairs, ratio {self.ratio:g}, seed {self.seed}{rate}"


# (arm, pair, tuned size, tuned ratio): where a learning rate is chosen.
Place = tuple[str, str, int, float]


def nearest(value: float, places: list[Any]) -> Any:
    """The place that is nearest by the logarithm; of two as near the smaller. Nothing is a place of its own, nearest to the smallest amount beside it."""
    at = sorted(places)
    if value == 0 or math.isinf(value):
        return at[0] if value == 0 else at[-1]
    above = [p for p in at if p > 0]
    return min(above, key=lambda p: (abs(math.log(p / value)), p)) if above else at[0]


def place_of(study: Study, arm: str, pair: str, size: int | None, ratio: float) -> Place:
    """Where the rate of a run is chosen."""
    sizes = study.tune.general_sizes if ratio and study.tune.general_sizes else study.tune.sizes
    return study.arms[arm].tuned_as or arm, pair, nearest(math.inf if size is None else size, sizes), nearest(ratio, study.tune.ratios)


def _as_size(size: Size) -> int | None:
    return None if size == "all" else int(size)


def _stages(study: Study) -> list[list[Stage]]:
    return [list(stages) for _, stages in itertools.groupby(study.stages, key=lambda s: s.name)]


def _cells(study: Study, stages: list[Stage], seed: int) -> Iterator[tuple[str, str, int | None, float]]:
    """(pair, arm, size, ratio) of a stage and seed, in the order of its arms, small sizes first."""
    for stage in stages:
        if seed not in stage.seeds:
            continue
        for pair in stage.pairs or study.pairs:
            for arm in stage.arms:
                if study.arms[arm].kind == "base":
                    # Without examples in the prompt nothing depends on the seed.
                    if study.arms[arm].shots or seed == min(stage.seeds):
                        yield pair, arm, None, 0.0
                    continue
                for size in sorted(stage.sizes, key=lambda s: math.inf if s == "all" else s):
                    for ratio in stage.ratios:
                        yield pair, arm, _as_size(size), ratio


def _seeds(stages: list[Stage]) -> list[int]:
    return list(dict.fromkeys(seed for stage in stages for seed in stage.seeds))


def tuning_runs(study: Study, stages: list[Stage]) -> Iterator[StudyRun]:
    """The runs that choose the learning rates of a stage, cheap ones first. Every place gets the same rates."""
    cells = [c for seed in _seeds(stages) for c in _cells(study, stages, seed)]
    places = {place_of(study, a, p, s, r): None for p, a, s, r in cells if study.arms[a].kind == "train"}
    for arm, pair, size, ratio in sorted(places, key=lambda x: (x[2] * (1 + x[3]), list(study.arms).index(x[0]))):
        for seed in study.tune.seeds:
            for rate in study.tune.learning_rates:
                yield StudyRun(role="tune", arm=arm, pair=pair, size=size, ratio=ratio, seed=seed, learning_rate=rate)


def chosen_rate(study: Study, place: Place, tuned: Mapping[tuple[Place, float], Mapping[int, float]]) -> float | None:
    """The learning rate with the lowest mean loss on the tuning segments; None while some of those runs are missing. Of equal losses the smaller rate is taken.

    `tuned` has the loss of each seed by place and rate.
    """
    means: dict[float, float] = {}
    for rate in study.tune.learning_rates:
        losses = tuned.get((place, rate), {})
        if not set(study.tune.seeds) <= set(losses):
            return None
        means[rate] = math.fsum(losses[s] for s in study.tune.seeds) / len(study.tune.seeds)
    return min(means, key=lambda r: (means[r], r))


def study_runs(study: Study, tuned: Mapping[tuple[Place, float], Mapping[int, float]]) -> Iterator[StudyRun]:
    """Every run in the order of the design: of each stage what chooses its rates, then seed after seed. Runs whose rate is not chosen yet are left out,
    and so is every stage after one that has such runs."""
    seen: set[str] = set()
    for stages in _stages(study):
        runs, waiting = [*tuning_runs(study, stages)], False
        for seed in _seeds(stages):
            for pair, arm, size, ratio in _cells(study, stages, seed):
                rate = None
                if study.arms[arm].kind == "train" and (rate := chosen_rate(study, place_of(study, arm, pair, size, ratio), tuned)) is None:
                    waiting = True
                    continue
                runs.append(StudyRun(role="run", arm=arm, pair=pair, size=size, ratio=ratio, seed=seed, learning_rate=rate))
        for run in runs:
            if (key := run.model_dump_json()) not in seen:
                seen.add(key)
                yield run
        if waiting:
            return


def wants(study: Study, run: StudyRun, what: Literal["scores", "tokens"]) -> bool:
    """Whether a stage wants chrF2 and BLEU, or the loss of every token, of this run."""
    return run.role == "run" and any(
        getattr(stage, what) and run.seed in stage.seeds and (run.pair, run.arm, run.size, run.ratio) in set(_cells(study, [stage], run.seed))
        for stage in study.stages
    )


def recipe(study: Study, run: StudyRun, every: int = 0) -> dict[str, Any]:
    """The recipe of a run: the tables of the study, the arm's tables over them, and the values of the run. `every`: steps between looks, 0 before it is
    known."""
    arm = study.arms[run.arm]
    tables: dict[str, Any] = {"pair": run.pair, "base": study.base, "seed": run.seed}
    for name in ("anchor", "mix", "train", "lora", "decoding"):
        table = {**getattr(study, name), **getattr(arm, name, {})}
        if table:
            tables[name] = table
    if arm.kind == "train":
        tables["mix"] = {**tables.get("mix", {}), "ratio": run.ratio, "task_passes": arm.passes or study.passes}
        tables["train"] = {**tables.get("train", {}), "epochs": 1, "learning_rate": run.learning_rate}
        for name in ("hints", "retrieval"):
            if (table := getattr(arm, name)) is not None:
                tables[name] = table
        if every:
            patience = study.looks.patience if arm.patience is None else arm.patience
            tables["dev"] = {"every": every, "patience": patience, "segments": study.looks.segments, "metric": "loss"}
    return tables


def data_key(study: Study, run: StudyRun) -> str:
    """What decides the data of a run beside its files, for its id."""
    arm = study.arms[run.arm]
    return key_of([arm.shots, arm.general, arm.task, arm.answers, arm.patience, study.looks.model_dump(), study.general, study.ltd_pool])


def cost(study: Study, run: StudyRun, held_out: int = 1150) -> int:
    """The tokens that a run computes at most, a forward pass counted as a third: training without early stop, its looks, and the outcome. 0 for a bare base."""
    arm = study.arms[run.arm]
    if arm.kind == "base":
        return 0
    pairs = 12_500 if run.size is None else run.size
    trained = pairs * study.pair_tokens * ((arm.passes or study.passes) + run.ratio)
    looked = study.looks.count * study.looks.segments * study.segment_tokens * FORWARD
    return round(trained + looked + (held_out * study.segment_tokens * FORWARD if run.role == "run" else 0))


def planned_cost(study: Study) -> list[tuple[str, int, int]]:
    """(stage, runs, tokens) of the whole study, with runs whose rates are not chosen yet. A run counts in the first stage that has it."""
    rate = study.tune.learning_rates[0]
    seen: set[str] = set()
    rows = []
    for stages in _stages(study):
        runs = [*tuning_runs(study, stages)]
        for seed in _seeds(stages):
            cells = _cells(study, stages, seed)
            runs += [StudyRun(role="run", arm=a, pair=p, size=s, ratio=r, seed=seed, learning_rate=rate) for p, a, s, r in cells]
        new = [*{r.model_dump_json(): r for r in runs if r.model_dump_json() not in seen}.values()]
        seen |= {r.model_dump_json() for r in new}
        rows.append((stages[0].name, len(new), sum(cost(study, r) for r in new)))
    return rows
