"""Scores by the metrics of eval.scoring.metrics, each with its signature and its 95% confidence interval.

Reads hypotheses and references from memory; writes nothing. A score never leaves here without its signature.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from eval.scoring.metrics import Metric, metric
from eval.scoring.metrics import bleu_tokenizer as bleu_tokenizer
from tell.errors import BadInput
from tell.languages import LanguagePair

# sacreBLEU's own default for bootstrap resampling (Koehn 2004): the half-width is stable to about 0.1 at this number.
RESAMPLES = 1000
# Rows that are drawn and summed at once: what is held does not grow with the number of resamples.
_AT_ONCE = 64


def metrics(pair: LanguagePair) -> dict[str, Any]:
    """sacreBLEU's BLEU and chrF2 at their defaults, by the names scores.json uses."""
    from sacrebleu.metrics import BLEU, CHRF

    return {"bleu": BLEU(tokenize=bleu_tokenizer(pair)), "chrf": CHRF()}


def scoring_part(signature: str) -> str:
    """A signature without the settings of intervals and tests: scores with the same part may be compared."""
    return "|".join(part for part in signature.split("|") if part.partition(":")[0] not in ("bs", "ar", "seed"))


def scored_alike(scores: Mapping[str, Any], pair: LanguagePair) -> bool:
    """Whether recorded scores, {"bleu": {"signature", ...}, "chrf": ...}, were made as the metrics here would make them for the pair."""
    recorded = {key: str(s["signature"]) for key, s in scores.items() if key in ("bleu", "chrf") and isinstance(s, dict) and "signature" in s}
    return all(scoring_part(signature) == scoring_part(metric(key, pair).signature()) for key, signature in recorded.items())


def bootstrap_seed() -> str:
    """The seed sacreBLEU's resampling will use. Raises BadInput when the variable that sets it holds no number."""
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    if not seed.isdecimal():
        raise BadInput("not a seed", place="SACREBLEU_SEED", found=seed, valid="a whole number, so that the intervals can be repeated")
    return seed


def one_line(text: str) -> str:
    """The hypothesis as a line of a hypothesis file, so that the scored text is the kept text."""
    return " ".join(text.replace("\r", "\n").split("\n")) if "\n" in text or "\r" in text else text


def resampled(statistics: Sequence[Any], resamples: int, seed: int) -> list[Any]:
    """Sums of the rows that are drawn with replacement, as sacreBLEU draws them: one (resamples, k) array for each of several systems of as many segments,
    all by the same draws."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = len(statistics[0])
    sums_of = [np.empty((resamples, s.shape[1])) for s in statistics]
    for start in range(0, resamples, _AT_ONCE):
        drawn = rng.choice(rows, size=(min(_AT_ONCE, resamples - start), rows), replace=True)
        counts = np.stack([np.bincount(d, minlength=rows) for d in drawn]).astype(np.float64)
        for sums, s in zip(sums_of, statistics, strict=True):
            sums[start : start + len(drawn)] = counts @ s
    return sums_of


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95% of resampled values, cut off as sacreBLEU does."""
    ordered = sorted(values)
    outside = len(ordered) // 40
    return ordered[outside], ordered[len(ordered) - outside - 1]


def score(measure: Metric, statistics: Any, resamples: int = RESAMPLES) -> dict[str, Any]:
    """{"name", "score", "signature", "mean", "ci"} of a metric's statistics; `ci` is the half-width of the 95% interval round `mean`."""
    seed = bootstrap_seed()
    # Step by step what sacreBLEU's `corpus_score(..., n_bootstrap=)` does: its own averaging raises TypeError when some resamples score exactly 0,
    # as those of a weak system on few segments do.
    values = [measure.of(sums) for sums in resampled([statistics], resamples, int(seed))[0]]
    low, high = interval(values)
    return {
        "name": measure.name,
        "score": round(measure.of(statistics.sum(0)), 4),
        "signature": measure.signature(bs=resamples, seed=seed),
        "mean": round(sum(values) / len(values), 4),
        "ci": round((high - low) / 2, 4),
    }


def same_number(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raises BadInput when there are not as many references as hypotheses, or none."""
    if not hypotheses or len(hypotheses) != len(references):
        raise BadInput("hypotheses and references do not match", found=f"{len(hypotheses):,} and {len(references):,}", valid="equally many, at least 1")


def score_system(
    hypotheses: Sequence[str],
    references: Sequence[str],
    pair: LanguagePair | None,
    measures: Sequence[Metric] | None = None,
    sources: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, Any]]:
    """{"bleu": {"name", "score", "signature", "mean", "ci"}, "chrf": {...}}, or of other metrics by their keys.

    Raises BadInput when there are not as many references as hypotheses, or none, and when a metric wants sources that are not given.
    """
    same_number(hypotheses, references)
    if measures is None:
        measures = [metric("bleu", pair), metric("chrf", pair)]
    return {m.key: score(m, m.statistics(hypotheses, references, sources), resamples) for m in measures}
