"""How much may wait: a bound over all, a share of it for each API key, and what the engine finishes per second, from which follows when to ask again."""

from __future__ import annotations

import math
from collections import Counter

from tell.errors import Overloaded, OverShare, TooLarge, TooLate

# Seconds of full work after which an observation has a third of its weight.
MEMORY = 60.0
# Until so much full work was observed, no request is refused because of the throughput.
SURE_SECONDS, SURE_SEGMENTS = 2.0, 64
# Seconds in Retry-After: at least, at most, and while the throughput is not known.
SOON, LATE, UNKNOWN = 1, 60, 2
# The share of a request's time that may pass before its turn comes. Under load every admitted request comes near this limit, so what the
# estimate does not include (later requests, uneven batches) must fit in the rest.
MARGIN = 0.75


class Throughput:
    """Segments and tokens that the engine finishes in a second while it has enough to do; older observations fade."""

    def __init__(self) -> None:
        self._segments = self._cost = self._seconds = 0.0
        # Segments and seconds observed so far, without fading.
        self._observed = (0, 0.0)

    def observe(self, segments: int, cost: int, seconds: float) -> None:
        fading = math.exp(-seconds / MEMORY)
        self._segments = self._segments * fading + segments
        self._cost = self._cost * fading + cost
        self._seconds = self._seconds * fading + seconds
        self._observed = (self._observed[0] + segments, self._observed[1] + seconds)

    def _sure(self) -> bool:
        return self._observed[0] >= SURE_SEGMENTS and self._observed[1] >= SURE_SECONDS

    def segments(self) -> float | None:
        return self._segments / self._seconds if self._sure() else None

    def cost(self) -> float | None:
        return self._cost / self._seconds if self._sure() else None


def retry_after_seconds(seconds: float | None) -> int:
    return UNKNOWN if seconds is None else min(LATE, max(SOON, math.ceil(round(seconds, 3))))


class Admission:
    """Counts the segments that wait, over all and by key. `most` is how many may."""

    def __init__(self, most: int, rate: Throughput):
        self.most, self.rate = most, rate
        self.waiting = 0
        self._waiting_by_caller: Counter[str] = Counter()

    def check(self, caller: str, segments: int, candidates: int = 1) -> None:
        """Raises TooLarge when so many can never wait at once, OverShare when the key has its share of the queue, Overloaded when the queue is full.

        A segment of which several candidates are made waits as often.

        A key's request is admitted while at least as many places stay free as the key then holds: alone a key gets half of the queue, and however many
        keys fill it, a new one finds places. Callers without a key count as one caller, and share the whole queue.
        """
        # The most that a key can have.
        most_of_caller = max(1, self.most // 2) if caller else self.most
        if segments * candidates > most_of_caller:
            with_candidates = f", each with {candidates} candidates; fewer lines, or quality fast" if candidates > 1 else ""
            raise TooLarge("too many lines in one request", found=segments, valid=f"at most {most_of_caller // candidates}{with_candidates}")
        segments *= candidates
        free, waiting = self.most - self.waiting, self._waiting_by_caller[caller]
        if caller and waiting and waiting + segments > max(1, free - segments):
            raise OverShare(
                "too much of this API key is waiting; try again in a while", found=f"{waiting} segments",
                valid="about as many as the queue has places free", retry_after=self._until(waiting + 2 * segments - free),
            )  # fmt: skip
        if segments > free or (caller and not waiting and segments > max(1, free - segments)):
            raise Overloaded(
                "too many segments are waiting; try again in a while", found=self.waiting,
                valid=f"at most {self.most}", retry_after=self._until(segments - free),
            )  # fmt: skip

    def _until(self, excess: int) -> int:
        """Seconds until `excess` fewer segments wait."""
        rate = self.rate.segments()
        return retry_after_seconds(None if rate is None else excess / rate)

    def check_time(self, seconds: float, ahead: int, own_tokens: int) -> None:
        """Raises Overloaded when a request's turn will come too late: with `seconds` left, `ahead` tokens before it and `own_tokens` in it.

        Refuses nothing before the throughput is known; nor because of a request's own length, unless it alone would take half as long again.
        """
        rate = self.rate.cost()
        if rate is None or (ahead / rate <= MARGIN * seconds and (ahead + own_tokens) / rate <= 1.5 * seconds):
            return
        seconds_late = ahead / rate - MARGIN * seconds
        raise TooLate(
            f"the translation would not be done in the {seconds:.3g} s that the request has; try again in a while, or allow it more",
            found=f"about {math.ceil((ahead + own_tokens) / rate)} s", retry_after=retry_after_seconds(seconds_late),
        )  # fmt: skip

    def take(self, caller: str, segments: int) -> None:
        """Count so many more, or fewer when negative."""
        self.waiting += segments
        self._waiting_by_caller[caller] += segments
        if not self._waiting_by_caller[caller]:
            del self._waiting_by_caller[caller]
