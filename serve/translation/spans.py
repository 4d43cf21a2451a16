"""The places of segments: which part of a text was translated to which part of its translation. Reads split texts and hypotheses, writes nothing.

A place is a start and an end in Unicode code points, as Python counts them; the end is not included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tell.text.flags import Checked, Flag
from tell.text.segments import Span

# Start and end, in code points.
Place = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class LocatedSegment:
    """A segment's place in the text, its translation's place in the whole translation, and its translation's flags."""

    source: Place
    target: Place
    truncated: bool
    flags: tuple[Flag, ...]


class Locator:
    """Walks through a split text and its translation together."""

    def __init__(self) -> None:
        self._source = self._target = 0

    def skip(self, layout: str) -> None:
        """Step over layout, which is the same in both."""
        self._source += len(layout)
        self._target += len(layout)

    def segment(self, source: str, translated: Checked) -> LocatedSegment:
        """Step over a segment; returns its places."""
        start = self._source, self._target
        self._source, self._target = start[0] + len(source), start[1] + len(translated.text)
        return LocatedSegment((start[0], self._source), (start[1], self._target), translated.truncated, translated.flags)


def located(spans: Sequence[Span], translated: Sequence[Checked]) -> tuple[LocatedSegment, ...]:
    """The segments of a split text, in order; `translated` has one translation for each."""
    translations, locator, segments = iter(translated), Locator(), []
    for span in spans:
        if span.translate:
            segments.append(locator.segment(span.text, next(translations)))
        else:
            locator.skip(span.text)
    return tuple(segments)
