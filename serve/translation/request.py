"""What a request asks for besides its texts, and what comes of these: translations put together from those of their segments. Asks no engine."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator, Sequence

from serve.adapters.versions import Version
from serve.config import Way
from serve.scheduling.queue import Pending
from serve.translation.quality import Quality, candidates
from serve.translation.spans import Locator, Segment, located
from tell.text.flags import Checked, Flag, union
from tell.text.language_id import Detected
from tell.text.segments import Span, fill, join, pieces


@dataclasses.dataclass(frozen=True, slots=True)
class Translation:
    """`flags` are those of its segments, the worst first. `detected` and `pair` where the source's language was to be found; without a pair
    the text was in the target language. `segments` say which part of the text each part of the translation is of. `alternatives` are other
    translations, the best first; `middle` is what a pivot went through; `by` the versions that translated, in order, where no adapter of the pair
    did, and `way` how."""

    text: str
    truncated: bool
    flags: tuple[Flag, ...] = ()
    segments: tuple[Segment, ...] = ()
    detected: Detected | None = None
    pair: str | None = None
    alternatives: tuple[Translation, ...] = ()
    middle: Translation | None = None
    way: Way | None = None
    by: tuple[Version, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """How a request wants to be served: by whom it is counted, in how many seconds, when in the loop's time these are over, and whether the cache
    may serve and keep it; how hard it is tried for, and how many other translations of each text are wanted. `measured`: its length has been checked.
    `low` gives way to everybody else, and is not counted among the signals: nobody waits for it."""

    caller: str = ""
    seconds: float = math.inf
    deadline: float | None = None
    cache: bool = True
    quality: Quality = "fast"
    alternatives: int = 0
    measured: bool = False
    low: bool = False

    @property
    def candidates(self) -> int:
        """Decodes of each segment."""
        return candidates(self.quality, self.alternatives)

    def left(self) -> float:
        return math.inf if self.deadline is None else self.deadline - asyncio.get_running_loop().time()


ASK = Ask()


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen(Checked):
    """A segment's translation, and the candidates that were not taken, the best first."""

    others: tuple[Checked, ...] = ()


# A segment's translation with which the service is done, or the task that ends with it.
Final = Checked | asyncio.Task[Chosen]


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """A request's texts as pieces and layout, and what comes of the pieces, in order."""

    plans: list[list[Span]]
    slots: list[Final]
    alternatives: int = 0

    async def parts(self) -> AsyncIterator[tuple[int, Translation]]:
        """The translations in parts, as they come, in order: the number of the text, and a part of its translation. Every text has one or more."""
        slots = iter(self.slots)
        for number, plan in enumerate(self.plans):
            layout, locator = "", Locator()
            last = max(pieces(plan), default=-1)
            for i, span in enumerate(plan[: last + 1]):
                if not span.translate:
                    layout += span.text
                    locator.skip(span.text)
                    continue
                made = await final(next(slots))
                # What follows the last piece goes out with it.
                rest = join(plan[last + 1 :]) if i == last else ""
                yield number, Translation(layout + made.text + rest, made.truncated, made.flags, (locator.segment(span.text, made),))
                layout = ""
            if last < 0:
                yield number, Translation(join(plan), False)

    async def translations(self) -> list[Translation]:
        done = iter([await final(slot) for slot in self.slots])
        out = []
        for plan in self.plans:
            own = [next(done) for _ in pieces(plan)]
            made = _filled(plan, own)
            out.append(dataclasses.replace(made, alternatives=self._others(plan, own, made)) if self.alternatives else made)
        return out

    def _others(self, plan: list[Span], own: Sequence[Checked], made: Translation) -> tuple[Translation, ...]:
        """Other translations of a text: of each segment the next best, and the last there is where it has fewer."""
        ways = [[h, *(h.others if isinstance(h, Chosen) else ())] for h in own]
        found: dict[str, Translation] = {}
        for n in range(1, max(map(len, ways), default=0)):
            other = _filled(plan, [way[min(n, len(way) - 1)] for way in ways])
            if other.text != made.text:
                found.setdefault(other.text, other)
        return tuple(found.values())[: self.alternatives]


def _filled(plan: list[Span], own: Sequence[Checked]) -> Translation:
    return Translation(fill(plan, [h.text for h in own]), any(h.truncated for h in own), union(h.flags for h in own), located(plan, own))


async def final(slot: Pending | asyncio.Task[Chosen]) -> Checked:
    """A segment's translation, once it is there."""
    # Shielded: several may wait for it, and one that gives up must not take it from the others.
    return slot if isinstance(slot, Checked) else await asyncio.shield(slot)


def pivoted(first: Translation, second: Translation) -> Translation:
    """A translation of a translation, with what is wrong with either."""
    flags = union([first.flags, second.flags])
    # Their places are those of the text in between.
    return dataclasses.replace(second, truncated=first.truncated or second.truncated, flags=flags, segments=(), middle=first)
