"""The order of a study's runs, and what ends it, with runs that only say that they were made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.study.config import read_study
from eval.study.plan import StudyRun, cost
from eval.study.run import StudyRunner
from tests.conftest import Ran
from tests.eval.study.test_study import data, written

__all__ = ["data"]
CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")


def runner(monkeypatch: pytest.MonkeyPatch, takes: Callable[[StudyRun], float] = lambda run: 0.0, jobs: int = 1) -> tuple[StudyRunner, list[StudyRun]]:
    """A runner whose runs take so many seconds and end at a loss that the rate decides, and the runs that it has begun."""
    made = StudyRunner(read_study(Path(written())), Path("s.toml"), Path("out").absolute(), jobs)
    begun: list[StudyRun] = []

    def run_one(run: StudyRun, id: str) -> dict[str, Any]:
        begun.append(run)
        for _ in range(int(takes(run) / 0.01)):
            if made.commands.stopping.is_set():
                from eval.study.commands import RunFailed

                raise RunFailed("the study was stopped")
            time.sleep(0.01)
        dev = {"segments": 8, "nats_per_token": 2 + (run.learning_rate or 0)}
        return {"id": id, **run.model_dump(), "cell": run.cell, "train": None if run.learning_rate is None else {}, "dev": dev, "seconds": takes(run) or 0.1}

    monkeypatch.setattr(made, "run_one", run_one)
    return made, begun


def test_stages_are_done_in_their_order_and_seeds_one_after_the_other(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, begun = runner(monkeypatch)
    assert len(study.run_all()) == len(begun) == 15 == len(Path("out/results.jsonl").read_text().split("\n")) - 1
    order = [(r.role[0], r.arm, r.size, r.seed) for r in begun]
    assert order[:3] == [("r", "base", None, 1), ("r", "shots", None, 1), ("r", "shots", None, 2)]
    # Both neighbours are called `first` and are one stage: every rate is chosen before, where it is needed, and a seed is done for all arms before the next.
    assert [o[:2] for o in order[3:7]] == [("t", "sft"), ("t", "sft"), ("t", "tell"), ("t", "tell")]
    assert [(o[1], o[2], o[3]) for o in order[7:]] == [
        (arm, size, seed) for seed in (1, 2) for arm, size in (("sft", 8), ("sft", 16), ("tell", 16), ("tell-last", 16))
    ]
    assert all(r.learning_rate == 1e-3 for r in begun[7:])


def test_it_ends_after_so_many_runs_and_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, begun = runner(monkeypatch)
    assert len(study.run_all(most=4)) == 4
    assert len(study.run_all(most=2)) == 6 and len({r.model_dump_json() for r in begun}) == 6


def test_runs_that_would_not_be_finished_in_time_are_not_begun(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, begun = runner(monkeypatch)
    costs = sorted({cost(study.study, r) for r in study.missing_runs({})})
    assert costs[0] == 0 < costs[-1]
    # At a token a second only the bare bases fit.
    assert len(study.run_all(minutes=1, speed=1)) == 3 and {r.arm for r in begun} == {"base", "shots"}


def test_what_runs_when_the_time_is_over_is_stopped_without_a_failure(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, begun = runner(monkeypatch, lambda run: 30.0 if run.arm == "sft" else 0.0)
    began = time.monotonic()
    assert len(study.run_all(minutes=0.02, speed=1e9)) == 3
    assert time.monotonic() - began < 20 and [r.arm for r in begun][-1] == "sft"
    assert [json.loads(line)["arm"] for line in Path("out/results.jsonl").read_text().split("\n")[:-1]] == ["base", "shots", "shots"]
