"""The statistics of a study: spread over seeds, differences between arms, tokens needed for a score, and whether losses jump.

Reads arrays; writes nothing. chrF2 is computed here from sacreBLEU's own counts, for many resamples at once; a test compares it with sacreBLEU's score.
Every draw is seeded, so that a report is the same each time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from eval.scoring.significance import SEED, TRIALS

RESAMPLES = 1000
LEVEL = 0.95


def chrf_of(stats: Any) -> Any:
    """chrF2 of summed counts, for any number of sums: the last axis holds [hypothesis, reference, match] for each of six orders."""
    import numpy as np

    s = np.asarray(stats, dtype=np.float64)
    hyp, ref, match = s[..., 0::3], s[..., 1::3], s[..., 2::3]
    counted = (hyp > 0) & (ref > 0)
    orders = counted.sum(-1)
    precision = np.where(counted, match / np.maximum(hyp, 1), 0).sum(-1) / np.maximum(orders, 1)
    recall = np.where(counted, match / np.maximum(ref, 1), 0).sum(-1) / np.maximum(orders, 1)
    denominator = 4 * precision + recall
    return 100 * np.where(denominator > 0, 5 * precision * recall / np.where(denominator > 0, denominator, 1), 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """Values over seeds. `sd` divides by n - 1 and is None for one seed."""

    n: int
    mean: float
    sd: float | None
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    n = len(values)
    mean = math.fsum(values) / n
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else None
    return Spread(n, mean, sd, min(values), max(values))


def t_cdf(t: float, df: int) -> float:
    """Student's t for whole degrees of freedom, in closed form (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(df))
    cos2 = math.cos(angle) ** 2
    term = total = 1.0
    if df % 2:
        for k in range(1, (df - 1) // 2):
            term *= cos2 * 2 * k / (2 * k + 1)
            total += term
        inside = 2 / math.pi * (angle + (math.sin(angle) * math.cos(angle) * total if df > 1 else 0))
    else:
        for k in range(1, df // 2):
            term *= cos2 * (2 * k - 1) / (2 * k)
            total += term
        inside = math.sin(angle) * total
    return 0.5 + inside / 2


def t_quantile(p: float, df: int) -> float:
    """The inverse of `t_cdf`, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of the mean by Student's t, or None for fewer than two values."""
    s = spread(values)
    if s.sd is None:
        return None
    half = t_quantile((1 + LEVEL) / 2, s.n - 1) * s.sd / math.sqrt(s.n)
    return s.mean - half, s.mean + half


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): each p for a family of all of them."""
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = largest
    return corrected


def randomisation_p(first: Any, second: Any) -> float:
    """Paired approximate randomisation over counts, (segments, 18) each: eval.scoring.significance's test, draw for draw, with all trials scored at once."""
    import numpy as np

    a, b = np.asarray(first), np.asarray(second)
    observed = abs(float(chrf_of(b.sum(0)) - chrf_of(a.sum(0))))
    swap = np.random.default_rng(SEED).integers(2, size=(TRIALS, len(a)), dtype=bool)
    left = swap.astype(np.float64) @ (a - b).astype(np.float64) + b.sum(0)
    right = a.sum(0) + b.sum(0) - left
    extreme = int((np.abs(chrf_of(left) - chrf_of(right)) >= observed - 1e-9).sum())
    return (extreme + 1) / (TRIALS + 1)


# One point of a curve: its tokens, and per seed the counts of its segments, (segments, 18).
Point = tuple[float, list[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class TokensNeeded:
    """The tokens that the reference needs for the score of an arm at `tokens`, as a multiple (`ratio`) of them.

    `side` is ">" or "<" where the reference's curve does not reach the score; `ratio` is then that end of the curve. `low` and `high` are the interval, with
    sides of their own.
    """

    tokens: float
    score: float
    ratio: float
    side: str
    low: float
    low_side: str
    high: float
    high_side: str


def tokens_at(score: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Where the curve first reaches `score`, straight between its points over log x; 0 when it starts above, infinity when it never does."""
    if score < ys[0]:
        return 0.0
    for i in range(len(xs)):
        if ys[i] >= score:
            if i == 0 or ys[i] == score:
                return xs[i]
            share = (score - ys[i - 1]) / (ys[i] - ys[i - 1])
            return math.exp(math.log(xs[i - 1]) + share * (math.log(xs[i]) - math.log(xs[i - 1])))
    return math.inf


def _resampled(points: Sequence[Point], weights: Any, rng: Any) -> Any:
    """(points, resamples): mean chrF2 over resampled seeds, each on the resampled segments."""
    import numpy as np

    means = []
    for _, runs in points:
        scores = np.stack([chrf_of(weights @ np.asarray(r, dtype=np.float64)) for r in runs])
        seeds = rng.integers(len(runs), size=(len(runs), weights.shape[0]))
        means.append(np.take_along_axis(scores, seeds, axis=0).mean(0))
    return np.stack(means)


def tokens_needed(arm: Sequence[Point], reference: Sequence[Point]) -> list[TokensNeeded]:
    """For each point of `arm`: the reference's tokens for its mean score over its own, with a 95% percentile interval.

    The bootstrap draws segments, one draw for all runs (they share the set), and seeds, within each point of both curves.
    """
    import numpy as np

    rng = np.random.default_rng(SEED)
    arm, reference = sorted(arm, key=lambda p: p[0]), sorted(reference, key=lambda p: p[0])
    xs = [x for x, _ in reference]
    segments = len(arm[0][1][0])
    weights = rng.multinomial(segments, [1 / segments] * segments, size=RESAMPLES).astype(np.float64)

    def mean(runs: Sequence[Any]) -> float:
        return float(np.mean([chrf_of(np.sum(r, axis=0)) for r in runs]))

    ys = [mean(runs) for _, runs in reference]
    resampled_reference, resampled_arm = _resampled(reference, weights, rng), _resampled(arm, weights, rng)
    rows = []
    for i, (tokens, runs) in enumerate(arm):

        def ratio_and_side(x: float, tokens: float = tokens) -> tuple[float, str]:
            if x == 0:
                return xs[0] / tokens, "<"
            return (xs[-1] / tokens, ">") if math.isinf(x) else (x / tokens, "")

        score = mean(runs)
        drawn = [tokens_at(float(resampled_arm[i, b]), xs, resampled_reference[:, b]) for b in range(RESAMPLES)]
        tail = (1 - LEVEL) / 2
        # These methods take values that were drawn, since nothing can be interpolated between two draws of which one is off the curve.
        low = float(np.quantile(drawn, tail, method="lower"))
        high = float(np.quantile(drawn, 1 - tail, method="higher"))
        rows.append(TokensNeeded(tokens, score, *ratio_and_side(tokens_at(score, xs, ys)), *ratio_and_side(low), *ratio_and_side(high)))
    return rows


# A peak lower than this share of the highest is a few outlying examples, not a group; without it heavy tails pass for modes.
SMALLEST_MODE = 0.1


def _modes(x: Any, bandwidth: float) -> int:
    import numpy as np

    grid = np.linspace(x.min(), x.max(), 256)
    density = np.exp(-0.5 * ((grid[:, None] - x[None, :]) / bandwidth) ** 2).sum(1)
    middle = density[1:-1]
    return int(((middle > density[:-2]) & (middle >= density[2:]) & (middle >= SMALLEST_MODE * density.max())).sum())


def unimodality_p(values: Sequence[float], resamples: int = 200) -> float | None:
    """Silverman's test (1981) that a density has one mode; None for fewer than 20 values, or values that are all alike.

    The test takes the smallest bandwidth at which the kernel estimate has one mode. p is the share of resamples of that estimate, rescaled to the variance
    of the values, that have more than one mode at this bandwidth. Peaks below `SMALLEST_MODE` of the highest are not counted.
    """
    import numpy as np

    x = np.asarray(values, dtype=np.float64)
    variance = float(x.var())
    if len(x) < 20 or variance < 1e-18:
        return None
    low, high = math.sqrt(variance) / 100, math.sqrt(variance) * 4
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _modes(x, middle) <= 1 else (middle, high)
    rng = np.random.default_rng(SEED)
    shrink = 1 / math.sqrt(1 + high**2 / variance)
    multimodal = 0
    for _ in range(resamples):
        drawn = rng.choice(x, len(x)) + high * rng.standard_normal(len(x))
        multimodal += _modes(x.mean() + (drawn - x.mean()) * shrink, high) > 1
    return (multimodal + 1) / (resamples + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class StepTest:
    """`largest` is the mean share of an example's squared change that falls in its largest step, `shuffled` the same when the steps are shuffled
    between the examples, `p` how often that is at least as large."""

    largest: float
    shuffled: float
    p: float


def step_test(changes: Any, trials: int = 2000) -> StepTest | None:
    """Tests whether each example changes in one step. `changes` is (examples, steps); None for fewer than two steps or twenty examples.

    Each column is shuffled by itself: every step keeps its sizes, and only which of them belong to one example is lost. Examples that jump
    once have more of their change in one step than that; examples that drift at their own pace have less.
    """
    import numpy as np

    squared = np.asarray(changes, dtype=np.float64) ** 2
    if squared.shape[1] < 2 or len(squared) < 20 or not squared.any():
        return None

    def share(s: Any) -> float:
        totals = s.sum(1)
        return float((s.max(1)[totals > 0] / totals[totals > 0]).mean())

    rng = np.random.default_rng(SEED)
    observed = share(squared)
    drawn = np.array([share(rng.permuted(squared, axis=0)) for _ in range(trials)])
    return StepTest(observed, float(drawn.mean()), (int((drawn >= observed - 1e-12).sum()) + 1) / (trials + 1))
