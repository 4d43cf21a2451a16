"""What the prompts of a mix's task examples have in the place of a source: the source with hints in it, and nearest pairs before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tell.lexicon.hints import escaped
from tell.mix.hinting import ExampleHints
from tell.mix.retrieving import ExamplePairs
from tell.records import Pair
from tell.retrieval.retriever import without_pairs


@dataclasses.dataclass(frozen=True, slots=True)
class ExampleSources:
    """Writes sources, with neither hints nor pairs where the mix has none of the two."""

    hints: ExampleHints | None = None
    retrieval: ExamplePairs | None = None

    def written(self, pair: Pair) -> str:
        if self.retrieval is None:
            return self.hints.source(pair) if self.hints else pair.source
        return self.retrieval.lines(pair) + (self.hints.source(pair) if self.hints else escaped(pair.source))

    def shorter(self, pair: Pair, written: str) -> Iterator[str]:
        """What may stand there where `written` makes an example too long: the same without pairs, then without hints."""
        if self.retrieval and (rest := without_pairs(written)) != written:
            self.retrieval.counts["too_long"] += 1
            yield rest
        if self.hints:
            yield self.hints.without(pair)
