"""Is one system better than another on the same segments? Paired approximate randomisation over sacreBLEU's chrF2 statistics.

The trials are drawn as sacreBLEU's own `--paired-ar` draws them (Riezler and Maxwell 2005; its default number and seed), with one
difference: sacreBLEU counts the trials whose difference is larger than the observed one, this counts those at least as large.
Without the ties, two outputs that differ in a single segment would come out as p = 1/(trials + 1): no swap can make the
difference larger. A gate must not pass on that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tell.errors import BadInput

TRIALS = 10_000
SEED = 12345
METHOD = "paired approximate randomisation, two-sided, ties counted as at least as extreme"


@dataclasses.dataclass(frozen=True, slots=True)
class Paired:
    """`delta` is the second system's chrF2 minus the first's; `differing` the number of segments whose statistics differ."""

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


def paired_test(first: Sequence[str], second: Sequence[str], references: Sequence[str], trials: int = TRIALS, seed: int = SEED) -> Paired:
    """Raises BadInput when the three are not equally many, or none."""
    import numpy as np
    from sacrebleu.metrics import CHRF

    if not references or {len(first), len(second)} != {len(references)}:
        raise BadInput("the systems do not match the references", found=f"{len(first):,}, {len(second):,} and {len(references):,} segments")
    metric = CHRF()
    # sufficient statistics: per segment, whole counts of n-grams
    a = np.array(metric._extract_corpus_statistics(list(first), [list(references)]), dtype=np.int64)
    b = np.array(metric._extract_corpus_statistics(list(second), [list(references)]), dtype=np.int64)

    def score(stats: Any) -> float:
        return float(metric._compute_score_from_stats(stats).score)

    whole_a, whole_b = score(a.sum(0)), score(b.sum(0))
    observed = abs(whole_b - whole_a)
    swap = np.random.default_rng(seed).integers(2, size=(trials, len(references)), dtype=bool)
    # counts are whole numbers below 2**53, so float64 sums are exact and BLAS may be used
    left = (swap.astype(np.float64) @ (a - b).astype(np.float64)).astype(np.int64) + b.sum(0)
    right = a.sum(0) + b.sum(0) - left
    extreme = sum(abs(score(x) - score(y)) >= observed - 1e-9 for x, y in zip(left, right, strict=True))
    signature = metric.get_signature()
    signature.update("seed", str(seed))
    signature.update("ar", trials)
    return Paired(
        metric="chrF2",
        delta=round(whole_b - whole_a, 4),
        p=(extreme + 1) / (trials + 1),
        first=round(whole_a, 4),
        second=round(whole_b, 4),
        segments=len(references),
        differing=int((a != b).any(axis=1).sum()),
        signature=str(signature),
    )
