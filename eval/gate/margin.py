"""How far an adapter may lie below what it would replace: the difference in chrF2, its interval, and the margin within which it has to be.

Reads hypotheses and references from memory; writes nothing. "Not surely worse" is no test of a version that is worse: on 64 segments a difference of 2 chrF2
is lost in chance more often than it is found. So an adapter has to be surely no more than a margin worse (a test of non-inferiority). Margins and levels come
from `benchmarks/quality/gate_simulation.py`, whose figures are in docs/results/gate.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from eval.scoring.metrics import metric
from eval.scoring.scores import RESAMPLES, bootstrap_seed, interval, resampled
from eval.scoring.significance import student

# Segments from which on the test lets equal versions through in more than half of the cases. With fewer the margin stays, and the gate says so.
ENOUGH = 64
# Points of chrF2: the margin at ENOUGH segments, and the smallest one, which holds from four times as many on.
WIDEST, NARROWEST = 2.0, 1.0
# The chance that a version which is worse by the whole margin passes, and the segments from which on the smaller one leaves equal versions their chance.
LEVEL, MANY, LEVEL_OF_MANY = 0.08, 512, 0.05


def margin(segments: int) -> float:
    """How many points of chrF2 an adapter may be worse, judged on so many segments: what chance moves shrinks with their square root."""
    return round(min(WIDEST, max(NARROWEST, WIDEST * math.sqrt(ENOUGH / max(1, segments)))), 2)


def level(segments: int) -> float:
    """The one-sided level of the test on so many segments."""
    return LEVEL_OF_MANY if segments >= MANY else LEVEL


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """`delta` in points of chrF2, above 0 where the second is better; `low` and `high` its 95% interval by paired bootstrap, `least` what it surely is at
    `level`, one-sided; `margin` how far below 0 that may be."""

    delta: float
    low: float
    high: float
    least: float
    margin: float
    level: float
    segments: int

    @property
    def within(self) -> bool:
        """Whether the second is surely no more than the margin worse."""
        return self.least > -self.margin

    @property
    def better(self) -> bool:
        """Whether the second is surely better."""
        return self.least > 0

    def row(self) -> dict[str, Any]:
        return {"interval": [self.low, self.high], "least": self.least, "margin": self.margin, "level": self.level}

    def words(self) -> str:
        return f"chrF2 {self.delta:+.2f}, 95% interval {self.low:+.2f} to {self.high:+.2f}, {self.segments:,} segments"


def decided(delta: float, resamples: Any, segments: int) -> Difference:
    """The difference, by its values on resampled segments. The resamples of n segments spread like n - 1 degrees of freedom: too little by as much."""
    import numpy as np

    low, high = interval(np.asarray(resamples).tolist())
    error = float(np.std(resamples, ddof=1)) * math.sqrt(segments / max(1, segments - 1))
    least = delta - student(1 - level(segments), max(1, segments - 1)) * error
    return Difference(round(delta, 4), round(low, 4), round(high, 4), round(least, 4), margin(segments), level(segments), segments)


def difference(first: Sequence[str], second: Sequence[str], references: Sequence[str]) -> Difference:
    """How the second system differs from the first. At least two segments; equally many of all three."""
    import numpy as np

    measure = metric("chrf")
    a, b = (measure.statistics(hypotheses, list(references)) for hypotheses in (first, second))
    sums = resampled([a, b], RESAMPLES, int(bootstrap_seed()))
    values = np.array([measure.of(y) - measure.of(x) for x, y in zip(*sums, strict=True)])
    return decided(measure.of(b.sum(0)) - measure.of(a.sum(0)), values, len(references))
