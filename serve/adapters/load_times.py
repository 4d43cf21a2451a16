"""How long this process takes to load adapters, and so when one that is being loaded will be there. Reads and writes nothing."""

from __future__ import annotations

import math
import time
from collections import deque

# Loads that an estimate rests on, and adapters whose own time is kept.
RECENT, KEPT = 16, 1024


class LoadTimes:
    """Measured from the moment a load is wanted, so that waiting for a place or for another conversion is part of it.

    An adapter that was loaded before takes as long as then: with ct2 the first load converts a model, which the next ones find. For a new one the longest
    of the last first loads counts, since who asks too early asks twice.
    """

    def __init__(self) -> None:
        self._first: deque[float] = deque(maxlen=RECENT)
        self._last: dict[str, float] = {}

    def note(self, adapter_id: str, seconds: float) -> None:
        if adapter_id not in self._last:
            self._first.append(seconds)
        self._last.pop(adapter_id, None)
        self._last[adapter_id] = seconds
        if len(self._last) > KEPT:
            del self._last[next(iter(self._last))]

    def retry_after(self, adapter_id: str, began: float | None) -> int:
        """Whole seconds until a load that began at this moment of the monotonic clock is done; None: one that has not begun.

        One that takes longer than any before, or the first of all, is taken to be half done.
        """
        elapsed = 0.0 if began is None else time.monotonic() - began
        expected = self._last.get(adapter_id) or max(self._first, default=0.0)
        left = expected - elapsed if expected > elapsed else elapsed
        return max(1, math.ceil(left))
