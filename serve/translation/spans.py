"""Which part of a text gave which part of its translation: the places of segments. Reads plans and hypotheses, writes nothing.

A place is a start and an end in Unicode code points, the end not included, as Python counts them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tell.text.flags import Checked, Flag
from tell.text.segments import Span

# Start and end, in code points.
Place = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """What was translated in one piece: its place in the text, that of its translation in the whole translation, and what looks wrong with it."""

    source: Place
    target: Place
    truncated: bool
    flags: tuple[Flag, ...]


class Locator:
    """Walks through a text's plan and its translation together."""

    def __init__(self) -> None:
        self._source = self._target = 0

    def skip(self, layout: str) -> None:
        """What is the same in both."""
        self._source += len(layout)
        self._target += len(layout)

    def segment(self, source: str, made: Checked) -> Segment:
        start = self._source, self._target
        self._source, self._target = start[0] + len(source), start[1] + len(made.text)
        return Segment((start[0], self._source), (start[1], self._target), made.truncated, made.flags)


def located(plan: Sequence[Span], made: Sequence[Checked]) -> tuple[Segment, ...]:
    """The segments of a text, in order: `made` has one hypothesis for each piece of its plan."""
    given, locator, out = iter(made), Locator(), []
    for span in plan:
        if span.translate:
            out.append(locator.segment(span.text, next(given)))
        else:
            locator.skip(span.text)
    return tuple(out)
