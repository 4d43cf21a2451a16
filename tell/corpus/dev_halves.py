"""The halves of a dev split: what training and `tellmt decoding` choose is chosen on one, and `tellmt publish` judges it on the other.

Reads and writes nothing: the texts and documents of the pairs decide, so a half is the same in every process and stays when rows are added to the corpus.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

from tell.corpus.frozen import source_key
from tell.corpus.segment_table import hashed
from tell.records import Pair

# Dev segments from which on there are halves: fewer than a hundred in a half tell neither a good choice nor a good adapter from chance.
HALVED = 200
# Dev segments below which nothing is chosen on them.
CHOOSES = 100
# A half with a smaller share of the segments is none: a few long documents are then halved segment by segment.
LEAST_SHARE = 0.25
# Names that `corpus build` gives to what the files do not name. They follow from places, and change when rows are added.
_FROM_PLACES = re.compile(r"(part|block|line)-\d+")

By = Literal["documents", "segments"]


@dataclasses.dataclass(frozen=True, slots=True)
class DevPart:
    """The pairs of a dev split, of `of` segments, that choose or that judge. `by`: whether documents were halved or segments; None where it is the whole."""

    part: Literal["choosing", "judging", "whole"]
    pairs: list[Pair]
    of: int
    by: By | None = None

    def record(self) -> dict[str, Any]:
        """What cards, results and verdicts say of it."""
        return {"part": self.part, "segments": len(self.pairs), "of": self.of, **({"by": self.by} if self.by else {})}


def can_choose(segments: int) -> bool:
    """Whether a dev split of so many segments is enough to choose anything by."""
    return segments >= CHOOSES


def choosing_part(dev: Sequence[Pair]) -> DevPart:
    """The half of a dev split that chooses, or the whole where it is too small for halves. No source text in it is in the other half too."""
    if (halved := _halved(dev)) is None:
        return DevPart("whole", list(dev), len(dev))
    judges, by = halved
    judging = {source_key(p.source) for p, other in zip(dev, judges, strict=True) if other}
    return DevPart("choosing", [p for p, other in zip(dev, judges, strict=True) if not other and source_key(p.source) not in judging], len(dev), by)


def judging_part(dev: Sequence[Pair]) -> DevPart:
    """The half of a dev split that judges, or the whole where it is too small for halves."""
    if (halved := _halved(dev)) is None:
        return DevPart("whole", list(dev), len(dev))
    judges, by = halved
    return DevPart("judging", [p for p, judge in zip(dev, judges, strict=True) if judge], len(dev), by)


def expected_sizes(segments: int) -> tuple[int, int]:
    """About how many of so many dev segments choose, and how many judge."""
    if segments >= HALVED:
        return segments // 2, segments - segments // 2
    return (segments if can_choose(segments) else 0), segments


def _halved(dev: Sequence[Pair]) -> tuple[list[bool], By] | None:
    """Whether each pair judges, and what was halved; None where there are no halves."""
    if len(dev) < HALVED:
        return None
    names = [p.doc.removeprefix(f"{p.origin}/") for p in dev]
    named = [not _FROM_PLACES.fullmatch(name) for name in names]
    by_segment = [source_key(p.source) & 1 == 1 for p in dev]
    by_document = [hashed("half", name) & 1 == 1 if known else judges for name, known, judges in zip(names, named, by_segment, strict=True)]
    ways: list[tuple[list[bool], By]] = [(by_document, "documents")] if any(named) else []
    for judges, by in [*ways, (by_segment, "segments")]:
        if LEAST_SHARE <= sum(judges) / len(dev) <= 1 - LEAST_SHARE:
            return judges, by
    return None
