"""Is what came out of a canary run as good as it was? Reads a run's outputs and the baseline's; writes nothing.

Three questions, each a test on the same texts, never a bare threshold: are the segments translated worse than by the baseline (paired approximate
randomisation on chrF2, and a loss worth an alarm); have more of the hard texts a flag than had (the sign test); and, while there is no baseline yet, is the
output worse than the source left as it is. The first run of a version is compared with the baseline of the version before it, so a broken one is seen
before it has any.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from eval.monitor.canary_sets import KINDS, CanarySet
from eval.monitor.history import Outputs, Run
from eval.scoring.scores import metrics, one_line
from eval.scoring.significance import paired_test

QUALITY, WORTHLESS, HARD, UNREACHABLE = "quality", "worthless", "hard", "unreachable"
# What an alarm can be about; those on translations say something of the version, `unreachable` of the service.
ON_TRANSLATIONS = (QUALITY, WORTHLESS, HARD)
ALARM_KINDS = (*ON_TRANSLATIONS, UNREACHABLE)


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """`alpha`: of how many runs of an unchanged system one may raise an alarm, at most. `drop`: points of chrF2 below which a loss is none."""

    alpha: float = 0.001
    drop: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What the live system made of a canary set. `flags` are those of the hard texts, in order."""

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
class Judged:
    """`delta` in points of chrF2 against the baseline; `p` two-sided, None where the loss was too small to ask."""

    scores: dict[str, dict[str, Any]]
    hard: dict[str, list[int]]
    delta: float | None
    p: float | None
    findings: tuple[Finding, ...]


def scores_of(texts: Sequence[str], canary: CanarySet) -> dict[str, dict[str, Any]]:
    """{"bleu": {"score", "signature"}, "chrf": ...}"""
    out = {}
    for key, metric in metrics(canary.parsed).items():
        score = metric.corpus_score(list(texts), [canary.references]).score
        out[key] = {"score": round(float(score), 4), "signature": str(metric.get_signature())}
    return out


def sign_test(worse: int, better: int) -> float:
    """The chance of so many or more on the one side, if both were alike likely."""
    n = worse + better
    return float(sum(math.comb(n, k) for k in range(worse, n + 1)) / 2**n)


def hard_counts(canary: CanarySet, bad: Sequence[bool]) -> dict[str, list[int]]:
    """By kind, how many have a flag, and of how many."""
    out: dict[str, list[int]] = {kind: [0, 0] for kind in KINDS}
    for hard, flagged in zip(canary.hard, bad, strict=True):
        out[hard.kind][0] += flagged
        out[hard.kind][1] += 1
    return {kind: counts for kind, counts in out.items() if counts[1]}


def judge(canary: CanarySet, made: Made, baseline: tuple[Run, Outputs] | None, rules: Rules) -> Judged:
    outputs = made.outputs()
    scores, hard = scores_of(outputs.texts, canary), hard_counts(canary, outputs.bad)
    if baseline is None:
        copied = [one_line(s.source) for s in canary.segments]
        delta, p = _worse(copied, outputs.texts, canary, rules, scores)
        text = f"worse than the source left as it is: chrF2 {scores['chrf']['score']:.1f} ({delta:+.1f}, p = {_p(p)})"
        found = [Finding(WORTHLESS, text)] if p is not None and p < rules.alpha else []
        return Judged(scores, hard, None, None, tuple(found))
    run, before = baseline
    found = []
    delta, p = _worse(before.texts, outputs.texts, canary, rules, scores, run.scores)
    if p is not None and p < rules.alpha:
        was = run.scores["chrf"]["score"]
        found.append(Finding(QUALITY, f"chrF2 {scores['chrf']['score']:.1f} against {was:.1f} ({delta:+.1f}, p = {_p(p)}, {len(canary.segments)} segments)"))
    worse = [h.kind for h, now, was in zip(canary.hard, outputs.bad, before.bad, strict=True) if now and not was]
    better = sum(was and not now for now, was in zip(outputs.bad, before.bad, strict=True))
    # One-sided, and so is the other in effect: half of alpha each.
    if worse and (chance := sign_test(len(worse), better)) < rules.alpha / 2:
        kinds = ", ".join(f"{worse.count(kind)} {kind}" for kind in KINDS if kind in worse)
        found.append(Finding(HARD, f"{sum(outputs.bad)} of {len(outputs.bad)} hard texts have a flag, {sum(before.bad)} had (new: {kinds}; p = {_p(chance)})"))
    return Judged(scores, hard, round(delta, 4), p, tuple(found))


def _p(p: float | None) -> str:
    return "-" if p is None else f"{p:.4f}" if p >= 0.0001 else f"{p:.0e}"


def _worse(
    before: Sequence[str], now: Sequence[str], canary: CanarySet, rules: Rules, scores: dict[str, Any], known: dict[str, Any] | None = None
) -> tuple[float, float | None]:
    """The difference in chrF2, and, where it is a loss that counts, its p."""
    was = known or scores_of(before, canary)
    delta = scores["chrf"]["score"] - was["chrf"]["score"]
    if delta > -rules.drop:
        return delta, None
    tested = paired_test(before, now, canary.references)
    return tested.delta, tested.p
