"""Which examples make up which step and micro-batch, and the learning rate of each step."""

from __future__ import annotations

from typing import Any

import pytest

from train.config import TrainOptions
from train.plan import PASS, Tokenised, epoch_order, learning_rate, make_plan, micro_batches, packed_batches


def test_every_example_appears_once_per_epoch_and_steps_stay_within_their_tokens() -> None:
    data = [Tokenised([1] * (5 + i % 40), 3, i % 3 > 0) for i in range(500)]
    options = TrainOptions(epochs=3, batch_tokens=300, micro_tokens=120)
    plan = make_plan(data, options, seed=1)
    members = [i for step in plan for i in step.members]
    assert sorted(members) == sorted(list(range(500)) * 3)
    assert all(step.tokens <= 300 for step in plan)
    assert all(len(m) * max(len(data[i].ids) for i in m) <= 120 for step in plan for m in micro_batches(step.members, data, 120))
    assert sum(step.targets for step in plan) == 3 * sum(len(d.ids) - 3 for d in data)
    # The first epoch keeps the mixed order from step to step.
    first = [step.members for step in plan]
    assert [i for members in first for i in members][: len(first[0]) + len(first[1])] == list(range(len(first[0]) + len(first[1])))


def test_micro_batches_are_those_with_the_least_padding() -> None:
    """Against every way of cutting a few examples, and on lengths as they are in a corpus."""
    import itertools
    import random

    def cost(batches: Any, data: Any) -> int:
        return sum(len(b) * max(len(data[i].ids) for i in b) + PASS for b in batches)

    draw = random.Random(1)
    for _ in range(30):
        data = [Tokenised([1] * draw.randint(5, 200), 3, True) for _ in range(8)]
        order = sorted(range(8), key=lambda i: (len(data[i].ids), i))
        every = []
        for cuts in itertools.chain.from_iterable(itertools.combinations(range(1, 8), k) for k in range(8)):
            batches = [order[a:b] for a, b in itertools.pairwise([0, *cuts, 8])]
            if all(len(b) * len(data[b[-1]].ids) <= 400 for b in batches):
                every.append(cost(batches, data))
        assert cost(micro_batches(list(range(8)), data, 400), data) == min(every)
    data = [Tokenised([1] * min(380, round(draw.lognormvariate(4, 0.6))), 3, True) for _ in range(2000)]
    plan = make_plan(data, TrainOptions(batch_tokens=1024, micro_tokens=2048), 1)
    padded = sum(len(m) * max(len(data[i].ids) for i in m) for s in plan for m in micro_batches(s.members, data, 2048))
    assert sum(s.tokens for s in plan) > 0.85 * padded


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.1), ("linear", 0.0), ("constant", 1.0)])
def test_the_learning_rate_rises_then_follows_its_schedule(schedule: Any, last: float) -> None:
    options = TrainOptions(learning_rate=0.01, warmup=0.1, schedule=schedule)
    rates = [learning_rate(i, 100, options) for i in range(100)]
    assert rates[0] < rates[5] < rates[9] <= rates[10] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.01 * last, abs=2e-4)


def test_an_order_on_purpose_is_kept_in_every_epoch() -> None:
    data = [Tokenised([1] * 10, 3, i < 5) for i in range(10)]
    options = TrainOptions(epochs=3, batch_tokens=100)
    ordered = make_plan(data, options, 1, reshuffle=False)
    assert [step.members for step in ordered] == [list(range(10))] * 3
    assert len({epoch_order(50, e, 1, True)[0] for e in range(20)}) > 3 and epoch_order(50, 3, 1, True) != epoch_order(50, 4, 1, True)
    # A step's members are sorted by length within it, so the order shows in steps of one example.
    small = TrainOptions(epochs=3, batch_tokens=64)
    six = [s.members for s in make_plan(data, small, 1, reshuffle=True)]
    assert six[:2] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]] and [sorted(x) for x in six[2:4]] != [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]


def test_packed_rows_hold_every_example_once_and_no_more_than_they_may() -> None:
    data = [Tokenised([1] * (3 + i * 7 % 60), 2, True) for i in range(200)]
    rows = packed_batches(list(range(200)), data, 128)
    assert sorted(i for r in rows for i in r) == list(range(200))
    sizes = [sum(len(data[i].ids) for i in r) for r in rows]
    assert max(sizes) <= 128 and sum(sizes) > 0.97 * 128 * (len(rows) - 1)
    # One that is longer than a row has a row of its own.
    assert sorted(packed_batches([0, 1, 2], [Tokenised([1] * n, 1, True) for n in (300, 5, 6)], 100)) == [[0], [2, 1]]
