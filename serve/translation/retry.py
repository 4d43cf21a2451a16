"""A segment whose translation has flags, tried again in other ways; the best of all tries is kept, with the flags it has left.

In order: with stand-ins for placeholders, where these were lost; with a penalty on repetition, for everything else; sentence by sentence, which a model that
lost its way in a paragraph often can; and what lies between placeholders by itself, which keeps these whatever the model does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tell.errors import RequestError
from tell.languages import LanguagePair
from tell.text.flags import Checked, flags_of
from tell.text.placeholders import around, mask
from tell.text.segments import fill, join, pieces, sentences, spans_of

# Times the adapter's own penalty on repetition. Enough to leave a loop, little enough that words which a language repeats are still written.
FIRMER = 1.2
# Sentences, or stretches between placeholders, of one segment: more are not worth their decodes.
PARTS = 24

# Decodes texts, with so many times the adapter's own penalty on repetition.
Decode = Callable[[Sequence[str], float], Awaitable[list[Checked]]]


class Mend:
    """`best` is the best translation so far: what is stopped half way has still got somewhere."""

    def __init__(self, pair: LanguagePair, segment: str, first: Checked, decode: Decode, tries: int = 4):
        self.pair, self.segment, self.best, self.decode, self.left = pair, segment, first, decode, tries

    async def run(self) -> None:
        """Raises what the engine raises."""
        first = self.best.flags
        if "placeholder" in first:
            await self._with_stand_ins()
        if self.best.flags and set(first) - {"placeholder"}:
            await self._try(await self._decoded([self.segment], FIRMER))
        if self.best.flags:
            await self._in_parts([(s, False) for s in sentences(self.segment, self.pair.source.tag)])
        if "placeholder" in self.best.flags:
            await self._in_parts(around(self.segment))

    async def _decoded(self, texts: Sequence[str], firmer: float = 1.0) -> list[Checked]:
        """Nothing where no try is left, or a text is too long for the engine: then this is no way out."""
        if self.left <= 0:
            return []
        self.left -= 1
        try:
            return await self.decode(texts, firmer)
        except RequestError:
            return []

    async def _try(self, made: Sequence[Checked], text: str | None = None) -> None:
        """Keep what came of the decodes, as `text` where that was put together from them, if it is better than what there is."""
        if not made:
            return
        text = made[0].text if text is None else text
        truncated = any(m.truncated for m in made)
        found = Checked(text, sum(m.tokens for m in made), truncated, flags_of(self.pair, self.segment, text, truncated))
        if found.cost < self.best.cost:
            self.best = found

    async def _with_stand_ins(self) -> None:
        masked = mask(self.segment)
        if masked and (made := await self._decoded([masked.text])):
            await self._try(made, masked.restore(made[0].text))

    async def _in_parts(self, parts: Sequence[tuple[str, bool]]) -> None:
        """Each part that is not kept translated by itself, with the white space that stands around it."""
        if not 1 < len(parts) <= PARTS:
            return
        spans = [s for part, kept in parts for s in spans_of(part, kept)]
        texts = [spans[i].text for i in pieces(spans)]
        if not texts or join(spans) != self.segment:
            return
        if made := await self._decoded(texts):
            await self._try(made, fill(spans, [m.text for m in made]))
