"""Nearest pairs in prompts: a line for each before the source. Training, scoring and serving all write them here.

In texts that repeat themselves, as those of programs and manuals do, most sentences were translated before in other words or with another number; a model that
sees how needs to change little (Bulte and Tezcan 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from tell.lexicon.hints import escaped
from tell.retrieval.memory import Memory, single_spaced
from tell.retrieval.nearest import Nearest

# A line that begins so is a pair, the source between these and the target behind: a text's own brackets of the kind are its twins in the prompt
# (tell.lexicon.hints), and a hint stands behind a word.
OPEN, CLOSE, END = "【", "】 ", "\n"


class RetrievalOptions(BaseModel):
    """Which pairs a prompt gets: what an adapter was trained with, and what its card keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Pairs in a prompt, at most.
    pairs: int = Field(default=1, ge=1, le=8)
    # A pair is near when its source has at least this score (tell.retrieval.nearest); 1 is the same text, case aside.
    min_score: float = Field(default=0.5, ge=0.1, le=1)


class Retriever:
    """A memory with the options by which its pairs are chosen. Making one indexes the memory, in some 60 microseconds a sentence."""

    def __init__(self, memory: Memory, options: RetrievalOptions):
        self.memory, self.options = memory, options
        self._nearest = Nearest(source for source, _ in memory.pairs)
        self._numbers = {source: number for number, (source, _) in enumerate(memory.pairs)}

    def pairs(self, source: str, without: str | None = None) -> list[tuple[str, str]]:
        """The nearest pairs, the nearest first; none for a text of several lines, which no training example with pairs has.

        `without`: the target of the source's own pair, which is left out with all that are the same: in training it would give the answer away.
        """
        if END in source:
            return []
        own = None
        if without is not None and (number := self._numbers.get(single_spaced(source))) is not None and self.memory.pairs[number][1] == single_spaced(without):
            own = number
        return [self.memory.pairs[number] for number, _ in self._nearest.find(source, self.options.pairs, self.options.min_score, own)]

    def lines(self, source: str) -> str:
        """What stands before the source in its prompt; empty where no pair is near."""
        return write_pairs(self.pairs(source))


def write_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """The lines of pairs; the nearest comes last, beside the source."""
    return "".join(f"{OPEN}{escaped(source)}{CLOSE}{escaped(target)}{END}" for source, target in reversed(pairs))


def without_pairs(written: str) -> str:
    """What a prompt has for its source, without the pairs before it."""
    while written.startswith(OPEN):
        written = written.partition(END)[2]
    return written
