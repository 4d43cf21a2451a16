"""The places of segments: which part of a text was translated to which part of its translation. Reads split texts and hypotheses, writes nothing.

A place is a start and an end in Unicode code points, as Python counts them; the end is not included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tell.lexicon.hints import Hint
from tell.lexicon.terms import TermHint
from tell.text.flags import Checked, Flag
from tell.text.segments import Span

# Start and end, in code points.
Place = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class LocatedHint:
    """A word of the text with a hint in the prompt, its place in the text, and the translations that it offered. `glossary`: it is a term of a glossary."""

    source: Place
    text: str
    candidates: tuple[str, ...]
    glossary: bool


@dataclasses.dataclass(frozen=True, slots=True)
class LocatedSegment:
    """A segment's place in the text, its translation's place in the whole translation, its translation's flags, and its hints where they were asked for."""

    source: Place
    target: Place
    truncated: bool
    flags: tuple[Flag, ...]
    hints: tuple[LocatedHint, ...] = ()


class Locator:
    """Walks through a split text and its translation together."""

    def __init__(self) -> None:
        self._source = self._target = 0

    def skip(self, layout: str) -> None:
        """Step over layout, which is the same in both."""
        self._source += len(layout)
        self._target += len(layout)

    def segment(self, source: str, translated: Checked, hints: Sequence[Hint] = ()) -> LocatedSegment:
        """Step over a segment; returns its places, and those of its hints."""
        start = self._source, self._target
        self._source, self._target = start[0] + len(source), start[1] + len(translated.text)
        placed = tuple(
            LocatedHint((start[0] + h.start, start[0] + h.end), source[h.start : h.end], tuple(h.candidates), isinstance(h, TermHint)) for h in hints
        )
        return LocatedSegment((start[0], self._source), (start[1], self._target), translated.truncated, translated.flags, placed)


def located(spans: Sequence[Span], translated: Sequence[Checked], hints: Mapping[str, Sequence[Hint]]) -> tuple[LocatedSegment, ...]:
    """The segments of a split text, in order; `translated` has one translation for each, `hints` those of each source segment."""
    translations, locator, segments = iter(translated), Locator(), []
    for span in spans:
        if span.translate:
            segments.append(locator.segment(span.text, next(translations), hints.get(span.text, ())))
        else:
            locator.skip(span.text)
    return tuple(segments)
