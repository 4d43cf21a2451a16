"""Tests whether one system is better than another on the same segments: paired approximate randomisation and paired bootstrap, over any metric.

Trials and resamples are drawn as sacreBLEU's own `--paired-ar` and `--paired-bs` draw them (Riezler and Maxwell 2005, Koehn 2004; its default numbers and
seed), with one difference: sacreBLEU counts the trials whose difference is larger than the observed one, this counts those at least as large.
Without the ties, two outputs that differ in a single segment would come out as p = 1/(trials + 1): no swap can make the
difference larger. A gate must not pass on that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from eval.scoring.metrics import Metric, metric
from eval.scoring.scores import RESAMPLES, bootstrap_seed, interval, resampled
from tell.errors import BadInput
from tell.languages import LanguagePair

TRIALS = 10_000
SEED = 12345
METHOD = "paired approximate randomisation, two-sided, ties counted as at least as extreme"
# Trials whose swaps are drawn at once, so that long test sets do not fill the memory. A multiple of 32: a draw uses up whole words of 32 bits, and so the
# swaps are those of a single draw, which sacreBLEU makes.
_AT_ONCE = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Paired:
    """`delta` is the second system's score minus the first's; `differing` the number of segments whose statistics differ."""

    metric: str
    delta: float
    p: float
    first: float
    second: float
    segments: int
    differing: int
    signature: str

    def row(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "method": METHOD}


@dataclasses.dataclass(frozen=True, slots=True)
class Bootstrap:
    """The same difference by paired bootstrap: `low` and `high` are its 95% interval."""

    p: float
    low: float
    high: float
    signature: str


def randomisation(measure: Metric, a: Any, b: Any, trials: int = TRIALS, seed: int = SEED) -> Paired:
    """Paired approximate randomisation over the statistics of two systems, (segments, k) each."""
    import numpy as np

    whole = measure.of(a.sum(0)), measure.of(b.sum(0))
    observed = abs(whole[1] - whole[0])
    both, difference = a.sum(0) + b.sum(0), a - b
    rng, extreme = np.random.default_rng(seed), 0
    for start in range(0, trials, _AT_ONCE):
        swap = rng.integers(2, size=(min(_AT_ONCE, trials - start), len(a)), dtype=bool)
        # counts are whole numbers below 2**53, so float64 sums are exact and BLAS may be used
        swapped = swap.astype(np.float64) @ difference + b.sum(0)
        extreme += sum(abs(measure.of(x) - measure.of(y)) >= observed - 1e-9 for x, y in zip(swapped, both - swapped, strict=True))
    return Paired(
        metric=measure.name,
        delta=round(whole[1] - whole[0], 4),
        p=(extreme + 1) / (trials + 1),
        first=round(whole[0], 4),
        second=round(whole[1], 4),
        segments=len(a),
        differing=int((a != b).any(axis=1).sum()),
        signature=measure.signature(seed=str(seed), ar=trials),
    )


def bootstrap(measure: Metric, a: Any, b: Any, resamples: int = RESAMPLES, seed: int | None = None) -> Bootstrap:
    """Paired bootstrap over the statistics of two systems, (segments, k) each."""
    import numpy as np

    seed = int(bootstrap_seed()) if seed is None else seed
    first, second = (np.array([measure.of(s) for s in sums]) for sums in resampled([a, b], resamples, seed))
    observed = abs(measure.of(b.sum(0)) - measure.of(a.sum(0)))
    size = np.abs(second - first)
    # As sacreBLEU has it: the resampled differences, moved to where there is none on average.
    extreme = int((size - size.mean() >= observed - 1e-9).sum())
    low, high = interval((second - first).tolist())
    return Bootstrap((extreme + 1) / (resamples + 1), round(low, 4), round(high, 4), measure.signature(seed=str(seed), bs=resamples))


def paired(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[str],
    by: str | Metric = "chrf",
    *,
    pair: LanguagePair | None = None,
    sources: Sequence[str] | None = None,
    trials: int = TRIALS,
    seed: int = SEED,
) -> Paired:
    """Paired approximate randomisation of two outputs, by a metric or its name. Raises BadInput when the three are not equally many, or none."""
    if not references or {len(first), len(second)} != {len(references)}:
        raise BadInput("the systems do not match the references", found=f"{len(first):,}, {len(second):,} and {len(references):,} segments")
    measure = metric(by, pair) if isinstance(by, str) else by
    a, b = (measure.statistics(hypotheses, references, sources) for hypotheses in (first, second))
    return randomisation(measure, a, b, trials, seed)


def paired_test(first: Sequence[str], second: Sequence[str], references: Sequence[str], trials: int = TRIALS, seed: int = SEED) -> Paired:
    """`paired` by chrF2: what the gate asks."""
    return paired(first, second, references, "chrf", trials=trials, seed=seed)


def student(probability: float, freedom: int) -> float:
    """The quantile of Student's distribution, by three terms of its expansion about the normal one (Fisher and Cornish 1960); good to 0.01 from 9 degrees."""
    z = NormalDist().inv_cdf(probability)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
