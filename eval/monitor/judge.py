"""Decides whether a canary run is as good as its baseline. Reads the outputs of both; writes nothing.

It makes three tests on the same texts, none a mere threshold: are the segments translated worse than in the baseline (paired approximate
randomisation on chrF2, and a loss that is worth an alarm); do more hard texts have a flag (the sign test); and, without a baseline, are the outputs
worse than the untranslated source. The first run of a version is compared with the baseline of the version before it, so a broken version is
detected before it has a baseline.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from eval.monitor.canary_sets import ENOUGH, KINDS, CanarySet
from eval.monitor.history import BestBaseline, CanaryRun, Outputs
from eval.scoring.scores import metrics, one_line, scored_alike
from eval.scoring.significance import paired_test

QUALITY, WORTHLESS, HARD, UNREACHABLE = "quality", "worthless", "hard", "unreachable"
# The kinds of alarms: those on translations are about the version, `unreachable` is about the service.
ON_TRANSLATIONS = (QUALITY, WORTHLESS, HARD)
ALARM_KINDS = (*ON_TRANSLATIONS, UNREACHABLE)


@dataclasses.dataclass(frozen=True, slots=True)
class AlarmThresholds:
    """`alpha`: the largest share of runs of an unchanged system that may raise an alarm. `drop`: losses of fewer points of chrF2 do not count."""

    alpha: float = 0.001
    drop: float = 1.0

    def least_drop(self, segments: int) -> float:
        """`drop` for a set of so many segments: on a small one chance moves the score further, as the square root of their number has it."""
        return self.drop * math.sqrt(max(1.0, ENOUGH / segments))


@dataclasses.dataclass(frozen=True, slots=True)
class CanaryTranslations:
    """The live system's translations of a canary set: `texts` of the segments and `flags` of the hard texts, in order; `seconds` for all of them."""

    version: str
    base: str
    texts: list[str]
    flags: list[tuple[str, ...]]
    seconds: float

    def outputs(self) -> Outputs:
        return Outputs([one_line(t) for t in self.texts], [bool(f) for f in self.flags])


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    kind: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """`delta` in points of chrF2 against the baseline; `p` two-sided, None where the loss was too small to ask."""

    scores: dict[str, dict[str, Any]]
    hard: dict[str, list[int]]
    delta: float | None
    p: float | None
    findings: tuple[Finding, ...]


def scores_of(texts: Sequence[str], canary: CanarySet) -> dict[str, dict[str, Any]]:
    """{"bleu": {"score", "signature"}, "chrf": ...}"""
    scores = {}
    for key, metric in metrics(canary.parsed).items():
        score = metric.corpus_score(list(texts), [canary.references]).score
        scores[key] = {"score": round(float(score), 4), "signature": str(metric.get_signature())}
    return scores


def sign_test(worse: int, better: int) -> float:
    """The probability of at least `worse` of `worse + better` on one side, if both sides are equally likely."""
    n = worse + better
    return float(sum(math.comb(n, k) for k in range(worse, n + 1)) / 2**n)


def hard_counts(canary: CanarySet, flagged: Sequence[bool]) -> dict[str, list[int]]:
    """{kind: [hard texts with a flag, hard texts]}"""
    counts_of: dict[str, list[int]] = {kind: [0, 0] for kind in KINDS}
    for hard, has_flag in zip(canary.hard, flagged, strict=True):
        counts_of[hard.kind][0] += has_flag
        counts_of[hard.kind][1] += 1
    return {kind: counts for kind, counts in counts_of.items() if counts[1]}


def judge_translations(
    canary: CanarySet,
    translations: CanaryTranslations,
    baseline: tuple[CanaryRun, Outputs] | None,
    thresholds: AlarmThresholds,
    best: BestBaseline | None = None,
) -> Judgement:
    """Judges a run by the baseline and, for the quality, by the best baseline of the series too: versions that are each a little worse than the one before, or
    a version with a weak baseline of its own, would else take the measure down with them."""
    outputs = translations.outputs()
    scores, hard = scores_of(outputs.texts, canary), hard_counts(canary, outputs.flagged)
    if baseline is None:
        sources = [one_line(s.source) for s in canary.segments]
        delta, p = _worse(sources, outputs.texts, canary, thresholds, scores)
        text = f"worse than the source left as it is: chrF2 {scores['chrf']['score']:.1f} ({delta:+.1f}, p = {_p(p)})"
        findings = [Finding(WORTHLESS, text)] if p is not None and p < thresholds.alpha else []
        return Judgement(scores, hard, None, None, tuple(findings))
    run, baseline_outputs = baseline
    findings = []
    # With two tests of the quality each gets half of alpha, and the best of several shares its half among them.
    alpha = thresholds.alpha / 2 if best else thresholds.alpha
    delta, p = _worse(baseline_outputs.texts, outputs.texts, canary, thresholds, scores, run.scores)
    if p is not None and p < alpha:
        findings.append(Finding(QUALITY, _lost(canary, scores, run, delta, p)))
    elif best is not None:
        best_delta, best_p = _worse(best.outputs.texts, outputs.texts, canary, thresholds, scores, best.run.scores)
        if best_p is not None and best_p < alpha / best.of:
            text = f"{_lost(canary, scores, best.run, best_delta, best_p)}: the best baseline, of {(best.run.version or '')[:12]}"
            findings.append(Finding(QUALITY, text))
    worse = [h.kind for h, now, was in zip(canary.hard, outputs.flagged, baseline_outputs.flagged, strict=True) if now and not was]
    better = sum(was and not now for now, was in zip(outputs.flagged, baseline_outputs.flagged, strict=True))
    # This test is one-sided, and so, in effect, is the other: each gets half of alpha.
    if worse and (chance := sign_test(len(worse), better)) < thresholds.alpha / 2:
        kinds = ", ".join(f"{worse.count(kind)} {kind}" for kind in KINDS if kind in worse)
        counts = f"{sum(outputs.flagged)} of {len(outputs.flagged)} hard texts have a flag, {sum(baseline_outputs.flagged)} had"
        findings.append(Finding(HARD, f"{counts} (new: {kinds}; p = {_p(chance)})"))
    return Judgement(scores, hard, round(delta, 4), p, tuple(findings))


def _lost(canary: CanarySet, scores: dict[str, Any], run: CanaryRun, delta: float, p: float) -> str:
    was = run.scores["chrf"]["score"]
    return f"chrF2 {scores['chrf']['score']:.1f} against {was:.1f} ({delta:+.1f}, p = {_p(p)}, {len(canary.segments)} segments)"


def _p(p: float | None) -> str:
    return "-" if p is None else f"{p:.4f}" if p >= 0.0001 else f"{p:.0e}"


def _worse(
    before: Sequence[str],
    now: Sequence[str],
    canary: CanarySet,
    thresholds: AlarmThresholds,
    scores: dict[str, Any],
    before_scores: dict[str, Any] | None = None,
) -> tuple[float, float | None]:
    """(difference in chrF2, p); p is None where the loss is too small to count."""
    # What was scored in another way is scored again: the outputs are there.
    earlier_scores = before_scores if before_scores and scored_alike(before_scores, canary.parsed) else scores_of(before, canary)
    delta = scores["chrf"]["score"] - earlier_scores["chrf"]["score"]
    if delta > -thresholds.least_drop(len(canary.segments)):
        return delta, None
    test = paired_test(before, now, canary.references)
    return test.delta, test.p
