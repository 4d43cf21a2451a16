"""Diagnoses a system's outputs beside their scores: flags by segment, and lengths.

Reads sources, hypotheses and references from memory; writes nothing.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tell.languages import LanguagePair
from tell.text.flags import TEXT_FLAGS, Flag, flags_of


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """`flags` has the flags of each segment, the worst first; `length_ratio` is the characters of all hypotheses divided by those of all references."""

    flags: list[tuple[Flag, ...]]
    length_ratio: float

    @property
    def counts(self) -> dict[Flag, int]:
        """Segments with each flag that the texts can raise; every one is there."""
        counts = Counter(f for segment_flags in self.flags for f in segment_flags)
        return {f: counts[f] for f in TEXT_FLAGS}

    def row(self) -> dict[str, Any]:
        return {"segments": len(self.flags), "flagged": sum(map(bool, self.flags)), "flags": self.counts, "length_ratio": self.length_ratio}


def length_ratio(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    there = sum(map(len, references))
    return round(sum(map(len, hypotheses)) / there, 4) if there else 0.0


def diagnose(
    pair: LanguagePair, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], truncated: Sequence[bool] | None = None
) -> Diagnosis:
    """The diagnosis of the hypotheses. `truncated` says which of them were cut at the token limit, where that is known."""
    cut = truncated or [False] * len(hypotheses)
    flags = [flags_of(pair, s, h, t) for s, h, t in zip(sources, hypotheses, cut, strict=True)]
    return Diagnosis(flags, length_ratio(hypotheses, references))
