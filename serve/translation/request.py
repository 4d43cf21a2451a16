"""The options of a request, and the translations of its texts, put together from those of their segments. Asks no engine."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from serve.config import Fallback
from serve.translation.decoder import Decoded, Quality, candidates_per_segment, finished
from serve.translation.spans import LocatedSegment, Locator, located
from tell.text.flags import Checked, Flag, union
from tell.text.language_id import Detected
from tell.text.segments import Span, fill, join, pieces

if TYPE_CHECKING:
    from serve.adapters.versions import Version
    from serve.auth.quota import Meter
    from tell.lexicon.glossary import Glossary
    from tell.lexicon.hints import Hint


@dataclasses.dataclass(frozen=True, slots=True)
class Translation:
    """The translation of a text. `flags` are those of its segments, the worst first. `segments`, in a part of a stream and where the request asks for them, say
    which part of the text each part of the translation is of.

    With `source: auto`, `detected` is the text's language and `pair` the pair that translated; without a pair the text was in the target language already.
    `alternatives` are other translations, the best first; `middle` is the text between the steps of a pivot. Where the pair has no adapter, `fallback` tells
    how the text was translated, and `versions` by which versions, in order.
    """

    text: str
    truncated: bool
    flags: tuple[Flag, ...] = ()
    segments: tuple[LocatedSegment, ...] = ()
    detected: Detected | None = None
    pair: str | None = None
    alternatives: tuple[Translation, ...] = ()
    middle: Translation | None = None
    fallback: Fallback | None = None
    versions: tuple[Version, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class RequestOptions:
    """How a request is served.

    `caller` is whom it is counted for; `seconds` is the time it has, and `deadline` when that ends in the loop's time. `cache` lets the cache answer
    it and keep its translations. `quality` and `alternatives` (a number of other translations of each text) decide how many candidates are decoded.
    `segments`: its translations say where their segments are; `hints`: and which hints these had. `measured`: its length has been checked. A `background`
    request gives way to all others and is not counted among the signals, since nobody waits for it. The translations are to follow the `glossary`; where they
    do not, they have a flag. The `meter` is told what was translated."""

    caller: str = ""
    seconds: float = math.inf
    deadline: float | None = None
    cache: bool = True
    quality: Quality = "fast"
    alternatives: int = 0
    segments: bool = False
    hints: bool = False
    measured: bool = False
    background: bool = False
    glossary: Glossary | None = None
    meter: Meter | None = None

    @property
    def candidates(self) -> int:
        """Decodes of each segment."""
        return candidates_per_segment(self.quality, self.alternatives)

    def glossary_applied(self, versions: Sequence[Version]) -> bool | None:
        """Whether the versions of a route's steps were given the terms of the glossary; None without one. Those of a pivot are of no step's pair."""
        return None if self.glossary is None else len(versions) == 1 and versions[0].translator.follows_terms

    def seconds_left(self) -> float:
        return math.inf if self.deadline is None else self.deadline - asyncio.get_running_loop().time()


DEFAULT_OPTIONS = RequestOptions()

# A segment's translation, or the task that ends with it.
PendingSegment = Checked | asyncio.Task[Decoded]


@dataclasses.dataclass(frozen=True, slots=True)
class PendingTranslations:
    """A request's texts, each split into segments and layout, and the translations of all segments, in order, as far as they are there. `hints` are those of
    each source segment, where the request asks for them."""

    splits: list[list[Span]]
    segments: list[PendingSegment]
    options: RequestOptions
    hints: Mapping[str, Sequence[Hint]] = dataclasses.field(default_factory=dict)

    async def parts(self) -> AsyncIterator[tuple[int, Translation]]:
        """The translations in parts, as they come, in order: the number of the text, and a part of its translation. Every text has one or more."""
        pending = iter(self.segments)
        for number, spans in enumerate(self.splits):
            layout, locator = "", Locator()
            last_piece = max(pieces(spans), default=-1)
            for i, span in enumerate(spans[: last_piece + 1]):
                if not span.translate:
                    layout += span.text
                    locator.skip(span.text)
                    continue
                translated = await finished(next(pending))
                # The layout after the last segment goes out with it.
                layout_after = join(spans[last_piece + 1 :]) if i == last_piece else ""
                place = locator.segment(span.text, translated, self.hints.get(span.text, ()))
                yield number, Translation(layout + translated.text + layout_after, translated.truncated, translated.flags, (place,))
                layout = ""
            if last_piece < 0:
                yield number, Translation(join(spans), False)

    async def translations(self) -> list[Translation]:
        """One translation per text, in order, once all segments are translated."""
        translated = iter([await finished(segment) for segment in self.segments])
        translations = []
        for spans in self.splits:
            segments = [next(translated) for _ in pieces(spans)]
            translation = _assembled(spans, segments)
            if self.options.segments:
                translation = dataclasses.replace(translation, segments=located(spans, segments, self.hints))
            if self.options.alternatives:
                translation = dataclasses.replace(translation, alternatives=self._alternatives(spans, segments, translation))
            translations.append(translation)
        return translations

    def _alternatives(self, spans: list[Span], segments: Sequence[Checked], first: Translation) -> tuple[Translation, ...]:
        """Other translations of a text: of each segment the next best candidate, and the last there is where it has fewer."""
        ranked = [[s, *(s.others if isinstance(s, Decoded) else ())] for s in segments]
        by_text: dict[str, Translation] = {}
        for n in range(1, max(map(len, ranked), default=0)):
            alternative = _assembled(spans, [candidates[min(n, len(candidates) - 1)] for candidates in ranked])
            if alternative.text != first.text:
                by_text.setdefault(alternative.text, alternative)
        return tuple(by_text.values())[: self.options.alternatives]


def _assembled(spans: list[Span], segments: Sequence[Checked]) -> Translation:
    text = fill(spans, [s.text for s in segments])
    return Translation(text, any(s.truncated for s in segments), union(s.flags for s in segments))


def pivoted(first: Translation, second: Translation) -> Translation:
    """A translation of a translation, with the flags of both."""
    flags = union([first.flags, second.flags])
    # Their places are those of the text in between.
    return dataclasses.replace(second, truncated=first.truncated or second.truncated, flags=flags, segments=(), middle=first)
