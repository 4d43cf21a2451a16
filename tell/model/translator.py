"""Segments to translations through an engine: what scoring, the looks at the dev split, batch files and the service have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tell.errors import RequestError
from tell.languages import LanguagePair
from tell.lexicon.hints import Hint, Hinter, escaped, restored, write_hints
from tell.model.anchor import Anchor
from tell.model.engine import Decoding, Engine, Generation, Prompt, Sampling, max_prompt, traits_of
from tell.model.tokenizer import BaseTokenizer
from tell.retrieval.retriever import Retriever
from tell.text.hypothesis import Hypothesis

if TYPE_CHECKING:
    from tell.lexicon.glossary import Glossary
    from tell.lexicon.terms import SegmentTerms

# A penalty above this makes an engine avoid words that every sentence needs.
MAX_PENALTY = 2.0


def prompt_texts(source: str, hinter: Hinter | None, retriever: Retriever | None, terms: SegmentTerms | None = None) -> Iterator[tuple[Sequence[Hint], str]]:
    """What may stand in a prompt for the source, the best first, each with the hints in it. `terms`: those of a glossary, in place of the lexicon's hints."""
    hinted = _hinted_texts(source, hinter, terms) if hinter else iter([((), escaped(source) if retriever else source)])
    if retriever is not None and (lines := retriever.lines(source)):
        hints, text = next(hinted)
        yield hints, lines + text
        yield hints, text
    yield from hinted


def _hinted_texts(source: str, hinter: Hinter, terms: SegmentTerms | None) -> Iterator[tuple[Sequence[Hint], str]]:
    term_hints = terms.find(source) if terms else []
    hints = hinter.hints(source, terms=term_hints)
    yield hints, write_hints(source, hints)
    if term_hints:
        yield term_hints, write_hints(source, term_hints)
    yield (), escaped(source)


@dataclasses.dataclass(frozen=True, slots=True)
class Translator:
    """An engine's adapter (or its bare base, `adapter_id` None) with the anchor and decoding it was trained for."""

    engine: Engine
    tokens: BaseTokenizer
    anchor: Anchor
    decoding: Decoding
    adapter_id: str | None
    max_context: int
    # None where the adapter was trained without hints, and for the bare base.
    hinter: Hinter | None = None
    # None where the adapter was trained without nearest pairs, and for the bare base.
    retriever: Retriever | None = None

    @property
    def follows_terms(self) -> bool:
        """Whether a glossary's terms can be written into prompts: where the adapter was trained with hints."""
        return self.hinter is not None

    @property
    def _writes(self) -> bool:
        """Whether anything but the source is written into prompts, in brackets that the source's own must not be taken for."""
        return self.hinter is not None or self.retriever is not None

    def terms(self, glossary: Glossary, pair: LanguagePair) -> SegmentTerms:
        """A glossary's terms as they are looked for in segments of the pair: in those forms that the adapter's lexicon takes for one word."""
        return glossary.segment_terms(pair, self.hinter.lexicon.keying if self.hinter else None)

    def prompt(self, source: str, sampling: Sampling | None = None, penalty_factor: float = 1.0, terms: SegmentTerms | None = None) -> Prompt:
        """The prompt of one segment; `penalty_factor` multiplies the adapter's own repetition penalty. `terms`: a glossary's, in place of the lexicon's hints.

        Nearest pairs are left out where they do not fit, then hints. Raises RequestError when the prompt without both and its translation cannot fit in the
        context.
        """
        source_tokens = len(self.tokens.encode(source))
        _, ids = self._fitting(source, source_tokens, terms)
        penalty = self.decoding.repetition_penalty
        if penalty_factor != 1.0:
            penalty = min(MAX_PENALTY, penalty * penalty_factor)
        if self._writes and traits_of(self.engine).penalises_prompt:
            # It would make the words of hints and nearest pairs unlikely, which are there to be used.
            penalty = 1.0
        most_tokens = min(self.decoding.max_tokens(source_tokens), self.max_context - len(ids))
        return Prompt(tuple(ids), most_tokens, "\n" not in source, penalty, sampling)

    def hints(self, source: str, terms: SegmentTerms | None = None) -> Sequence[Hint]:
        """The hints that stand in the prompt of a segment; those of a glossary are TermHints. Raises RequestError as `prompt` does."""
        return () if self.hinter is None else self._fitting(source, len(self.tokens.encode(source)), terms)[0]

    def _fitting(self, source: str, source_tokens: int, terms: SegmentTerms | None) -> tuple[Sequence[Hint], list[int]]:
        """The best hints and nearest pairs for a segment with which its prompt fits in the context: the hints, and the ids of that prompt.

        Raises RequestError where it fits with none.
        """
        # A translation about as long as its source must fit, or the segment is refused rather than cut.
        needed_tokens = min(self.decoding.max_tokens(source_tokens), source_tokens + self.decoding.length_extra)
        longest = max_prompt(self.engine)
        for hints, text in prompt_texts(source, self.hinter, self.retriever, terms):
            ids = self.tokens.prompt_ids(self.anchor, text)
            if self.max_context - len(ids) >= needed_tokens and len(ids) <= longest:
                return hints, ids
        valid = f"segments of at most about {min(self.max_context // 2, longest) - 64} tokens"
        raise RequestError("a segment is too long", found=f"{source_tokens} tokens", valid=valid)

    def refusal(self, segment: str) -> RequestError | None:
        """Why the segment cannot be translated; None where its prompt fits in the context."""
        try:
            self.prompt(segment)
        except RequestError as e:
            return e
        return None

    async def translate(self, segments: Sequence[str], sampling: Sampling | None = None) -> list[Hypothesis]:
        """One hypothesis per segment, in order; blank segments come back as they are, without touching the engine."""
        filled = [i for i, s in enumerate(segments) if s.strip()]
        hypotheses = [Hypothesis(s, 0, False) for s in segments]
        if not filled:
            return hypotheses
        prompts = [self.prompt(segments[i].strip(), sampling) for i in filled]
        for i, generation in zip(filled, await self.engine.generate(prompts, self.adapter_id), strict=True):
            hypotheses[i] = self.hypothesis(segments[i], generation)
        return hypotheses

    async def translate_fitting(self, segments: Sequence[str]) -> list[Hypothesis | RequestError]:
        """`translate`, with the refusal in the place of each segment that does not fit in the context."""
        refusals = [self.refusal(s.strip()) for s in segments]
        hypotheses = iter(await self.translate([s for s, refusal in zip(segments, refusals, strict=True) if refusal is None]))
        return [next(hypotheses) if refusal is None else refusal for refusal in refusals]

    def hypothesis(self, segment: str, generation: Generation) -> Hypothesis:
        """The engine's output for the segment's prompt, as its translation."""
        text = self.anchor.strip(generation.text).strip()
        if "\n" not in segment.strip():
            text = text.split("\n", 1)[0].strip()
        if self._writes:
            text = restored(text, segment)
        return Hypothesis(text, generation.tokens, generation.finish == "length")


# Adapters are trained on sentences and short passages; a longer line is cut at its sentences even where the context would hold it.
SEGMENT_TOKENS = 256


def segment_limit(translator: Translator) -> int:
    """The tokens of a source segment for which prompt and whole translation fit in the context."""
    decoding = translator.decoding
    around = len(translator.tokens.prompt_ids(translator.anchor, ""))
    free_tokens = translator.max_context - around - decoding.length_extra
    alone = 0.95 * (max_prompt(translator.engine) - around)
    # A text may take a few more tokens inside the prompt than alone, at its ends; 0.95 allows for them.
    return max(1, min(SEGMENT_TOKENS, int(alone), int(0.95 * free_tokens / (1 + decoding.length_factor))))
