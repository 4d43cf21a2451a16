"""Retries of a segment whose translation has flags, in other ways; the best of all tries is kept, with the flags it has left.

In order: with stand-ins for placeholders, where these were lost; with a penalty on repetition, for everything else; sentence by sentence, which a model that
lost its way in a paragraph often can; and what lies between placeholders by itself, which keeps these whatever the model does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tell.errors import RequestError
from tell.languages import LanguagePair
from tell.text.flags import Checked, TermCheck, flags_of
from tell.text.placeholders import around, mask
from tell.text.segments import fill, join, pieces, sentences, spans_of

# Multiplies the adapter's own repetition penalty. Enough to leave a loop, little enough that words which a language repeats are still written.
PENALTY_FACTOR = 1.2
# Sentences, or stretches between placeholders, of one segment: more are not worth their decodes.
MAX_PARTS = 24

# Decodes texts, with the adapter's own repetition penalty multiplied by the number.
Decode = Callable[[Sequence[str], float], Awaitable[list[Checked]]]


class Retry:
    """`best` is the best translation so far: a retry that is stopped half way has still got somewhere. At most `tries` decodes are asked for. `terms`: those
    of a glossary that the translation is to follow."""

    def __init__(self, pair: LanguagePair, segment: str, flagged: Checked, decode: Decode, tries: int = 4, terms: TermCheck | None = None):
        self.pair, self.segment, self.best, self.decode, self.tries_left, self.terms = pair, segment, flagged, decode, tries, terms

    async def run(self) -> None:
        """Raises what the engine raises."""
        first_flags = self.best.flags
        if "placeholder" in first_flags:
            await self._with_stand_ins()
        if self.best.flags and set(first_flags) - {"placeholder"}:
            self._keep_if_better(await self._decoded([self.segment], PENALTY_FACTOR))
        if self.best.flags:
            await self._in_parts([(s, False) for s in sentences(self.segment, self.pair.source.tag)])
        if "placeholder" in self.best.flags:
            await self._in_parts(around(self.segment))

    async def _decoded(self, texts: Sequence[str], penalty_factor: float = 1.0) -> list[Checked]:
        """Nothing where no try is left, or a text is too long for the engine: then this is no way out."""
        if self.tries_left <= 0:
            return []
        self.tries_left -= 1
        try:
            return await self.decode(texts, penalty_factor)
        except RequestError:
            return []

    def _keep_if_better(self, translations: Sequence[Checked], text: str | None = None) -> None:
        """Keep the translations of the segment's parts, put together as `text` (None: there is one part), if they have lighter flags than the best so far."""
        if not translations:
            return
        text = translations[0].text if text is None else text
        truncated = any(t.truncated for t in translations)
        retried = Checked(text, sum(t.tokens for t in translations), truncated, flags_of(self.pair, self.segment, text, truncated, self.terms))
        if retried.cost < self.best.cost:
            self.best = retried

    async def _with_stand_ins(self) -> None:
        masked = mask(self.segment)
        if masked and (translations := await self._decoded([masked.text])):
            self._keep_if_better(translations, masked.restore(translations[0].text))

    async def _in_parts(self, parts: Sequence[tuple[str, bool]]) -> None:
        """Translate each part that is not kept by itself; the white space around it stays."""
        if not 1 < len(parts) <= MAX_PARTS:
            return
        spans = [s for part, keep in parts for s in spans_of(part, keep)]
        texts = [spans[i].text for i in pieces(spans)]
        if not texts or join(spans) != self.segment:
            return
        if translations := await self._decoded(texts):
            self._keep_if_better(translations, fill(spans, [t.text for t in translations]))
