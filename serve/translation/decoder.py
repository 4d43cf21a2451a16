"""The one decoder of the service and of batch runs: a text's segments, their candidates, the chosen candidate, and its retries.

A text is split into segments that the engine can hold. Each is decoded greedily and, for `quality: best` or alternatives, by sampling as well; every candidate
is checked for flags; minimum Bayes risk chooses among them (tell.text.mbr); and a chosen candidate with flags is retried in other ways
(serve.translation.retry). A batch run gives whole lists of segments to the engine (`Decoder.decode`). The service puts each candidate into its queue and hands
over the futures (`choose_and_retry`). So a request pays for each candidate, and a request that leaves stops them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from serve.threads import TEXTS
from serve.translation.retry import Decode, Retry
from tell.languages import LanguagePair
from tell.lexicon.hints import Hint
from tell.model.engine import Generation, Prompt, Sampling
from tell.model.translator import Translator
from tell.text.flags import Checked, Flag, checked
from tell.text.mbr import best_first
from tell.text.segments import Span, split

if TYPE_CHECKING:
    from tell.lexicon.terms import SegmentTerms

P = ParamSpec("P")
T = TypeVar("T")

# `fast`: a segment is decoded once, greedily. `best`: more candidates are sampled, and the one that agrees most with all of them is chosen.
Quality = Literal["fast", "best"]
# Candidates of `best`, the greedy one among them; the number was chosen on training-side data (docs/results/quality.md).
CANDIDATES = 8
SAMPLED = Sampling(temperature=0.5)
# Alternatives that a request may ask for.
MOST_ALTERNATIVES = 10
# A candidate of a segment, or the future of it.
Candidate = Checked | asyncio.Future[Checked]
# The outcome of retrying a flagged translation: one without flags, a better one, none that is better; or no retry since the service was busy.
RetryOutcome = Literal["clean", "better", "same", "busy"]

# Characters that are handled where they are, in a millisecond; more go to a thread, whose start takes a part of one.
IN_PLACE = 1000


def candidates_per_segment(quality: Quality, alternatives: int) -> int:
    """Decodes of each segment. Some sampled candidates come out alike, so there are a few more decodes than alternatives."""
    return max(CANDIDATES if quality == "best" else 1, alternatives + 2 if alternatives else 1)


def samplings(candidates: int) -> list[Sampling]:
    """How the candidates beside the greedy one are sampled. Seeds are always the same, and so are translations, as far as the engine keeps to seeds."""
    return [Sampling(SAMPLED.temperature, SAMPLED.top_k, SAMPLED.top_p, seed) for seed in range(1, candidates)]


@dataclasses.dataclass(frozen=True, slots=True)
class Decoded(Checked):
    """A segment's translation, and the candidates that were not chosen, the best first. `sampled`: it was chosen among several and is not the greedy one;
    None where nothing was chosen. `retried` is None where it needed no retry."""

    others: tuple[Checked, ...] = ()
    sampled: bool | None = None
    retried: RetryOutcome | None = None


def never() -> bool:
    return False


@dataclasses.dataclass(frozen=True, slots=True)
class Effort:
    """How much work a segment may take: the quality, the most retries, when the work must end in the loop's time (None: never), and whether the service is too
    busy for retries. `terms`: those of a glossary; where the adapter cannot follow them, a retry could not either."""

    quality: Quality = "fast"
    tries: int = 4
    until: float | None = None
    busy: Callable[[], bool] = never
    terms: SegmentTerms | None = None
    follows_terms: bool = False

    def mendable(self, flags: Sequence[Flag]) -> bool:
        """Whether a retry may come out without one of the flags."""
        return any(flag != "glossary" or self.follows_terms for flag in flags)


async def threaded(aside: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work` in a thread where it takes long enough to be worth one."""
    return await TEXTS.run(work, *args, **kwargs) if aside else work(*args, **kwargs)


async def choose_and_retry(pair: LanguagePair, segment: str, greedy: Candidate, sampled: Sequence[Candidate], effort: Effort, decode: Decode) -> Decoded:
    """The translation of a segment from its candidates; sampled ones that are not there in time are left out. Raises what a candidate raises."""
    greedy_translation = await finished(greedy)
    ranked: list[Checked] = []
    chosen = greedy_translation
    if sampled:
        pool = [greedy_translation, *await _in_time(sampled, effort.until)]
        ranked = await threaded(sum(len(candidate.text) for candidate in pool) > IN_PLACE, best_first, pool)
        if effort.quality == "best":
            chosen = ranked[0]
    was_sampled = chosen.text != greedy_translation.text if ranked and effort.quality == "best" else None
    best, outcome = await _retried(pair, segment, chosen, effort, decode) if effort.mendable(chosen.flags) else (chosen, None)
    others = tuple(candidate for candidate in ranked if candidate.text != best.text)
    return Decoded(best.text, best.tokens, best.truncated, best.flags, others, was_sampled, outcome)


async def _retried(pair: LanguagePair, segment: str, flagged: Checked, effort: Effort, decode: Decode) -> tuple[Checked, RetryOutcome]:
    if effort.busy():
        return flagged, "busy"
    retry = Retry(pair, segment, flagged, decode, effort.tries, effort.terms)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(effort.until):
            await retry.run()
    return retry.best, "same" if retry.best is flagged else "better" if retry.best.flags else "clean"


async def finished(candidate: Candidate | asyncio.Task[Decoded]) -> Checked:
    """A candidate, or the translation of a segment, once it is there."""
    # Shielded: several may wait for it, and one that gives up must not take it from the others.
    return candidate if isinstance(candidate, Checked) else await asyncio.shield(candidate)


async def _in_time(sampled: Sequence[Candidate], until: float | None) -> list[Checked]:
    """The candidates that are there by `until`, in order. Raises what one of them raises."""
    futures = [candidate for candidate in sampled if not isinstance(candidate, Checked)]
    if futures:
        await asyncio.wait(futures, timeout=None if until is None else max(0.0, until - asyncio.get_running_loop().time()))
    return [candidate if isinstance(candidate, Checked) else candidate.result() for candidate in sampled if isinstance(candidate, Checked) or candidate.done()]


@dataclasses.dataclass(frozen=True, slots=True)
class Decoder:
    """An adapter of an engine, for texts of one pair; no segment has more than `segment_tokens` tokens. `terms`: those of a glossary to follow."""

    translator: Translator
    pair: LanguagePair
    segment_tokens: int
    terms: SegmentTerms | None = None

    def split(self, texts: Sequence[str]) -> list[list[Span]]:
        """Each text as the segments to translate and the layout between them."""
        return [split(text, self._token_counts, self.segment_tokens, self.pair.source.tag) for text in texts]

    def _token_counts(self, parts: list[str]) -> list[int]:
        return [len(ids) for ids in self.translator.tokens.encode_batch(parts)]

    def prompts(self, segments: Sequence[str]) -> dict[str, Prompt]:
        """The greedy prompt of each segment. Raises RequestError where one does not fit in the context."""
        return {segment: self.translator.prompt(segment, terms=self.terms) for segment in segments}

    def hints(self, segments: Sequence[str]) -> dict[str, Sequence[Hint]]:
        """The hints that stand in the greedy prompt of each segment. Raises RequestError as `prompts` does."""
        return {segment: self.translator.hints(segment, self.terms) for segment in segments}

    async def decode(self, segments: Sequence[str], effort: Effort) -> list[Decoded]:
        """Each segment through the engine, without a queue; all candidates of one kind in one call. Raises RequestError, EngineError."""
        effort = dataclasses.replace(effort, terms=self.terms, follows_terms=self.translator.follows_terms)
        greedy = await self.generate(segments)
        by_sampling = [await self.generate(segments, 1.0, sampling) for sampling in samplings(candidates_per_segment(effort.quality, 0))]
        return await asyncio.gather(
            *(choose_and_retry(self.pair, segment, greedy[i], [row[i] for row in by_sampling], effort, self.generate) for i, segment in enumerate(segments))
        )

    async def generate(self, segments: Sequence[str], penalty_factor: float = 1.0, sampling: Sampling | None = None) -> list[Checked]:
        """One candidate of each segment, with its flags. `penalty_factor` multiplies the adapter's own repetition penalty."""
        if not segments:
            return []
        prompts = [self.translator.prompt(s, sampling, penalty_factor, self.terms) for s in segments]
        generations = await self.translator.engine.generate(prompts, self.translator.adapter_id)
        return await threaded(sum(map(len, segments)) > IN_PLACE, self._checked, segments, generations)

    def _checked(self, segments: Sequence[str], generations: Sequence[Generation]) -> list[Checked]:
        return [checked(self.pair, s, self.translator.hypothesis(s, g), self.terms) for s, g in zip(segments, generations, strict=True)]
