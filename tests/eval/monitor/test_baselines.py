"""What a run is measured by: a set of few segments has a wider limit, and the baseline does not slide from version to version."""

from __future__ import annotations

import dataclasses
import itertools
import random
from pathlib import Path

import pytest

from eval.monitor.canary_sets import CanarySet, freeze
from eval.monitor.history import ACCEPTED, BASELINES, CanaryRun, History, Outputs
from eval.monitor.judge import AlarmThresholds
from eval.monitor.watch import check_set
from eval.scoring.testset import from_corpus
from tell.corpus.directory import open_corpus
from tests.conftest import Tellmt
from tests.support.fake_eval_engine import corpus_dir
from tests.support.watched import made_by


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_dir(tmp_path_factory.mktemp("corpus"), train=300, dev=160)


def canary_of(corpus: Path, size: int) -> CanarySet:
    return freeze(from_corpus(open_corpus(corpus), "dev"), size, [], "here")[0]


def test_a_small_dev_split_is_enough_for_a_set_with_a_wider_limit(tmp_path: Path, tellmt: Tellmt) -> None:
    code, frozen, err = tellmt("monitor", "freeze", "is-en", "--corpus", corpus_dir(tmp_path / "small", train=300, dev=40))
    assert code == 0 and frozen["segments"] == 40 and "40 segments are few: a loss counts from 1.6 points of chrF2 on, instead of 1.0" in err, err
    code, _, err = tellmt("monitor", "freeze", "is-en", "--corpus", corpus_dir(tmp_path / "smaller", train=300, dev=39), "--replace")
    assert code == 2 and "too few segments for a canary set" in err and "at least 40" in err
    least = AlarmThresholds(drop=1.0).least_drop
    assert [round(least(n), 2) for n in (40, 64, 100, 200, 300)] == [1.58, 1.25, 1.0, 1.0, 1.0]


def test_a_small_set_raises_no_false_alarm_and_finds_a_broken_version(corpus: Path, tmp_path: Path) -> None:
    canary, history, noise = canary_of(corpus, 40), History(tmp_path / "h.db"), random.Random(3)
    outcomes = [check_set(history, canary, lambda: made_by(canary, "a" * 32, 0.1, noise, 0.25), AlarmThresholds()) for _ in range(15)]
    assert [o.alarms for o in outcomes] == [()] * 15
    broken = check_set(history, canary, lambda: made_by(canary, "b" * 32, 0.4, noise, 0.25), AlarmThresholds())
    assert [a.kind for a in broken.alarms][:1] == ["quality"]


def versions(canary: CanarySet, history: History, shares: list[float]) -> list[bool]:
    """Whether each of these versions, one after the other, raises an alarm; each spoils the words that the one before it spoilt, and some more."""
    alarms = []
    for i, share in enumerate(shares):
        made = dataclasses.replace(made_by(canary, "the same words", share), version=f"{i:032x}")
        outcome = check_set(history, canary, lambda m=made: m, AlarmThresholds())  # type: ignore[misc]
        alarms.append(bool(outcome.alarms))
    return alarms


def test_versions_that_are_each_a_little_worse_add_up_to_an_alarm(corpus: Path, tmp_path: Path) -> None:
    canary, history = canary_of(corpus, 160), History(tmp_path / "h.db")
    # Each loses less than the point of chrF2 that counts.
    shares = [0.1 + 0.002 * i for i in (0, 3, 7, 14, 16, 19, 23)]
    alarms = versions(canary, history, shares)
    runs = history.runs(canary.pair)
    steps = [b.scores["chrf"]["score"] - a.scores["chrf"]["score"] for a, b in itertools.pairwise(runs)]
    assert min(steps) > -1 and not any(alarms[:2]) and any(alarms), (alarms, steps)
    assert "the best baseline, of 000000000000" in history.alarms()[-1].text
    # What somebody accepts is the measure from then on.
    history.accept(canary.pair, f"{ACCEPTED}known")
    best = history.best_baseline(canary.pair, canary.sha256, "light")
    assert best is not None and best.run.version == f"{6:032x}" and best.of == 1


def test_the_best_baseline_keeps_its_outputs_however_many_come_after_it(tmp_path: Path) -> None:
    history = History(tmp_path / "h.db")
    for i in range(BASELINES + 5):
        scores = {"chrf": {"score": 40.0 if i == 1 else 30.0 + i / 100, "signature": ""}}
        run = CanaryRun("is-en", f"v{i}", "light", "c" * 64, "scored", segments=1, scores=scores, baseline=True)
        history.add(run, Outputs([f"{i}"], []))
    best = history.best_baseline("is-en", "c" * 64, "light")
    assert best is not None and (best.run.version, best.outputs.texts, best.of) == ("v1", ["1"], BASELINES + 1)
