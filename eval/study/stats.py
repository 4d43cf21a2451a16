"""The statistics of a study: spread over seeds, the data that the reference needs for an arm's score, and whether losses jump.

Reads arrays; writes nothing. chrF2 is computed here from sacreBLEU's own counts, for many resamples at once; a test compares it with sacreBLEU's score.
Every draw is seeded, so that a report is the same each time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.scoring.significance import SEED

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


def nats_per_token(stats: Any) -> tuple[float, Any]:
    """Nats per token of a run's segments, (segments, 2) of tokens and nats, and each segment's influence on it: the error of the mean is their standard
    deviation over the root of their number."""
    import numpy as np

    s = np.asarray(stats, dtype=np.float64)
    mean = float(s[:, 1].sum() / s[:, 0].sum())
    return mean, (s[:, 1] - mean * s[:, 0]) / s[:, 0].mean()


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One amount of data: the score of each seed, higher is better, and where it is known each segment's influence on it."""

    size: float
    scores: Mapping[int, float]
    influence: Mapping[int, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Needed:
    """The data that the reference needs for the score of an arm at `size`, as a multiple (`ratio`) of it.

    `side` is ">" or "<" where the reference's curve does not reach the score; `ratio` is then that end of the curve. `low` and `high` are the interval, with
    sides of their own.
    """

    size: float
    seeds: list[int]
    score: float
    ratio: float
    side: str
    low: float
    low_side: str
    high: float
    high_side: str

    def bounds(self) -> tuple[float, float]:
        """The interval with nothing and infinity for ends that are beyond the curve."""
        return 0.0 if self.low_side == "<" else self.low, math.inf if self.high_side == ">" else self.high


GRID = 400


def size_needed(arm: Point, reference: Sequence[Point]) -> Needed | None:
    """The reference's data for the arm's mean score, with a 95% interval; None where no seed is in all points.

    The reference's curve is straight between its sizes over the logarithm, for each seed by itself. The interval has every size at which the mean
    difference over seeds,
    arm minus curve, is not surely other than zero: Student's t on paired seeds, whose runs share their data, with the error that other segments would
    bring added to its
    variance where it is known. Of several crossings the first is read; the interval goes from the first size that is not excluded to the last.
    """
    import numpy as np

    reference = sorted(reference, key=lambda p: p.size)
    seeds = sorted(set(arm.scores).intersection(*(p.scores for p in reference)))
    if not seeds:
        return None
    first, last = reference[0].size, reference[-1].size
    xs = np.log([p.size for p in reference])
    grid = np.linspace(xs[0], xs[-1], GRID) if len(xs) > 1 else xs
    curve = np.stack([np.interp(grid, xs, [p.scores[s] for p in reference]) for s in seeds])
    differences = np.array([arm.scores[s] for s in seeds])[:, None] - curve
    mean = differences.mean(0)
    variance = differences.var(0, ddof=1) / len(seeds) if len(seeds) > 1 else np.full(len(grid), np.inf)
    if arm.influence is not None and all(p.influence is not None for p in reference):
        of_points = np.stack([np.mean([p.influence[s] for s in seeds if p.influence], axis=0) for p in reference])
        weights = np.stack([np.interp(grid, xs, row) for row in np.eye(len(xs))], axis=1)
        segments = np.mean([arm.influence[s] for s in seeds], axis=0)[None, :] - weights @ of_points
        variance = variance + segments.var(1, ddof=1) / segments.shape[1]
    half = t_quantile((1 + LEVEL) / 2, len(seeds) - 1) * np.sqrt(variance) if len(seeds) > 1 else variance
    open_sizes = np.flatnonzero(np.abs(mean) <= half)

    def at(i: Any) -> float:
        return float(np.exp(grid[i])) / arm.size

    below, above = (first / arm.size, "<"), (last / arm.size, ">")
    reached = np.flatnonzero(mean <= 0)
    ratio = above if not len(reached) else below if mean[0] < 0 else (at(reached[0]), "")
    if not len(open_sizes):
        # Every size of the curve is excluded: the arm is surely better than all of it, or surely worse.
        low, high = (above, above) if mean[-1] > 0 else (below, below)
        low, high = (low[0], "" if low is above else "<"), (high[0], ">" if high is above else "")
    else:
        low = below if open_sizes[0] == 0 else (at(open_sizes[0]), "")
        high = above if open_sizes[-1] == len(grid) - 1 else (at(open_sizes[-1]), "")
    return Needed(arm.size, seeds, float(np.mean([arm.scores[s] for s in seeds])), *ratio, *low, *high)


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


def quarters(values: Any) -> Any:
    """0 to 3 for each value: the quarter of all that it lies in."""
    import numpy as np

    x = np.asarray(values)
    return np.searchsorted(np.quantile(x, (0.25, 0.5, 0.75)), x)


def shuffled_within(squared: Any, strata: Any, rng: Any) -> Any:
    """Each column shuffled by itself among the rows of one stratum."""
    import numpy as np

    drawn = np.empty_like(squared)
    for stratum in np.unique(strata):
        of = strata == stratum
        drawn[of] = rng.permuted(squared[of], axis=0)
    return drawn


def step_test(changes: Any, trials: int = 2000, strata: Any = None) -> StepTest | None:
    """Tests whether each example changes in one step. `changes` is (examples, steps); None for fewer than two steps or twenty examples.

    Each column is shuffled by itself: every step keeps its sizes, and only which of them belong to one example is lost. Examples that jump
    once have more of their change in one step than that; examples that drift at their own pace have less. `strata` keeps examples that have different
    room to change apart.
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
    strata = np.zeros(len(squared), dtype=int) if strata is None else strata
    drawn = np.array([share(shuffled_within(squared, strata, rng)) for _ in range(trials)])
    return StepTest(observed, float(drawn.mean()), (int((drawn >= observed - 1e-12).sum()) + 1) / (trials + 1))
