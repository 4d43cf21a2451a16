"""Limits on the flags (`tell.text.flags`) of an adapter's outputs, whatever its scores.

A flag alone is no reason to refuse an adapter: a small model loses numbers, and the version it replaces may lose more. An adapter is refused when a flag is
surely on more than its share of the segments, and on more segments than in the outputs of the version that it would replace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from eval.scoring.diagnose import Diagnosis
from tell.errors import BadInput, suggestion
from tell.text.flags import TEXT_FLAGS

# Shares of the segments. References of newstest2021 have any flag at all on under 1%, published systems on up to 3%. Twelve adapters of a 270M base (is-en,
# chrF2 22 to 26, 223 segments) had at most: number 5%, length and language 4%, loop, truncated and placeholder 1%, empty and copied under 1%.
LIMITS: dict[str, float] = {
    "empty": 0.02,
    "loop": 0.05,
    "truncated": 0.05,
    "language": 0.08,
    "copied": 0.05,
    "placeholder": 0.02,
    "number": 0.10,
    "length": 0.08,
    "sentences": 0.10,
}
# Characters of all outputs to those of all references.
SHORTEST, LONGEST = 0.7, 1.4
# One or two segments may be flagged by accident, however short the dev split is.
FEWEST = 3


def limits(settings: Iterable[str]) -> dict[str, float]:
    """LIMITS changed by settings `FLAG=SHARE`. Raises BadInput for a setting that cannot be read."""
    by_flag = dict(LIMITS)
    for text in settings:
        name, _, share = text.partition("=")
        if name not in TEXT_FLAGS:
            raise BadInput("unknown flag", place=f"--allow {text}", found=name, valid=suggestion(name, TEXT_FLAGS))
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise BadInput("not a share of the segments", place=f"--allow {text}", found=share or "nothing", valid=f"{name}=0.1 for a tenth; 1 is no limit")
        by_flag[name] = value
    return by_flag


def _surely_above(n: int, segments: int, share: float) -> bool:
    """Whether this count would be rare (under 5%) if `share` were the true share: six of 40 segments are no sign of more than a tenth."""
    if n <= share * segments:
        return False
    if share == 0:
        return True

    def chance(k: int) -> float:
        # By logarithms: the numbers of ways are beyond floats from a thousand segments on.
        ways = math.lgamma(segments + 1) - math.lgamma(k + 1) - math.lgamma(segments - k + 1)
        return math.exp(ways + k * math.log(share) + (segments - k) * math.log1p(-share))

    return 1 - math.fsum(map(chance, range(n))) < 0.05


def wrong_length(ratio: float, before: float) -> bool:
    """Whether outputs are too short or too long, and more so than those they would replace. Both are ratios of characters to those of the references."""
    return not SHORTEST <= ratio <= LONGEST and abs(ratio - 1) > abs(before - 1)


def over(diagnosis: Diagnosis, before: Mapping[str, Any], name: str, allowed: Mapping[str, float]) -> list[str]:
    """The reasons to refuse outputs. `before` is the diagnosis row of the version that would be replaced; messages call that version `name`."""
    segments, reasons = len(diagnosis.flags), []
    for flag, n in diagnosis.counts.items():
        if n >= FEWEST and n > before["flags"][flag] and _surely_above(n, segments, allowed[flag]):
            share = f"{allowed[flag]:.0%} of {segments:,} allowed, {name} has {before['flags'][flag]:,}"
            reasons.append(f"{n:,} segments have the flag {flag} ({share}); --allow {flag}=SHARE sets another limit")
    ratio, was = diagnosis.length_ratio, float(before["length_ratio"])
    if wrong_length(ratio, was):
        reasons.append(f"its outputs have {ratio:.2f} times the characters of the references ({name}: {was:.2f}); needed: {SHORTEST:g} to {LONGEST:g}")
    return reasons
