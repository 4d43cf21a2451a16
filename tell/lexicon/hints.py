"""Word hints: translations of a source segment's words, from the pair's lexicon, written into the prompt behind each word.

A small model that learns a language from a small corpus learns to join words before it knows them. With hints it needs not know them: it learns to use
what stands behind the word (Zhong and Chiang 2020; Dinu et al. 2019; docs/lexicon.md). Training, scoring and serving all write hints here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from tell.lexicon.words import Keying

# One token each in most vocabularies, the first with the space before it; rare in text. The space behind it gives the hint's first word the token that it
# has in a translation.
OPEN, CLOSE, BETWEEN = " 【 ", "】", ", "
# A text's own brackets of the kind stand in the prompt as their twins, so that nothing a user writes is read as a hint, and become themselves again in
# the translation.
_TWINS = {"【": "〖", "】": "〗"}
_TO_TWIN, _FROM_TWIN = str.maketrans(_TWINS), str.maketrans({twin: own for own, twin in _TWINS.items()})


class HintOptions(BaseModel):
    """Which hints a prompt gets: what an adapter was trained with, and what its card keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Translations offered for a word, at most.
    candidates: int = Field(default=1, ge=1, le=8)
    # The commonest source words, so many, get no hint: the model has seen them often enough to know them.
    skip_common: int = Field(default=100, ge=0, le=1_000_000)
    # A translation is offered when at least this share of the word's occurrences was aligned with it.
    min_share: float = Field(default=0.1, ge=0, le=1)


class Hint(Protocol):
    """Where a word stands in the source (code points; the end is not included), and its translations, the likeliest first."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def candidates(self) -> Sequence[str]: ...


# What one training pair added to the lexicon's counts: key -> translation -> times.
Contribution = Mapping[str, Mapping[str, float]]


class HintSource(Protocol):
    @property
    def keying(self) -> Keying: ...
    def hints(self, text: str, *, candidates: int, skip_common: int, without: Contribution | None = None, min_share: float = 0.0) -> Sequence[Hint]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Hinter:
    """A lexicon with the options by which its hints are chosen."""

    lexicon: HintSource
    options: HintOptions

    def hints(self, source: str, without: Contribution | None = None, terms: Sequence[Hint] = ()) -> Sequence[Hint]:
        """The hints of a source segment, in the order of its words. `without`: what the segment's own pair added to the lexicon, left out in training.
        `terms`: hints of a glossary, which stand in place of the lexicon's."""
        chosen = self.options
        hints = self.lexicon.hints(source, candidates=chosen.candidates, skip_common=chosen.skip_common, without=without, min_share=chosen.min_share)
        return replaced(hints, terms) if terms else hints

    def hinted(self, source: str, without: Contribution | None = None, terms: Sequence[Hint] = ()) -> str:
        """The source with its `hints` in it, as a prompt has it."""
        return write_hints(source, self.hints(source, without, terms))


def replaced(hints: Sequence[Hint], terms: Sequence[Hint]) -> list[Hint]:
    """The hints of a segment with those of a glossary: of words that a term holds, the term's hint alone. All are in the order of the segment."""
    kept: list[Hint] = list(terms)
    number = 0
    for hint in hints:
        while number < len(terms) and terms[number].end <= hint.start:
            number += 1
        if number == len(terms) or hint.end <= terms[number].start:
            kept.append(hint)
    return sorted(kept, key=lambda hint: hint.start)


def write_hints(source: str, hints: Sequence[Hint]) -> str:
    parts, at = [], 0
    for hint in hints:
        parts += [escaped(source[at : hint.end]), OPEN, BETWEEN.join(map(escaped, hint.candidates)), CLOSE]
        at = hint.end
    return "".join([*parts, escaped(source[at:])])


def escaped(source: str) -> str:
    """The source as a prompt with hints has it, where it gets none."""
    return source.translate(_TO_TWIN)


def restored(translation: str, source: str) -> str:
    """The translation with the source's own brackets. Where the source has the twins itself, they stay."""
    if not any(own in source for own in _TWINS) or any(twin in source for twin in _TWINS.values()):
        return translation
    return translation.translate(_FROM_TWIN)
