"""What a service takes on, and in which ways it may translate a pair without an adapter. Reads and writes nothing."""

from __future__ import annotations

import dataclasses
from typing import Literal

# A pair without an adapter: through English by two adapters, or by the base alone.
Way = Literal["pivot", "base"]


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes on. `adapters` are loaded at once: the live ones and, during a change, the old and the new one."""

    adapters: int = 9
    rank: int = 16
    # Tokens of prompt and output together.
    context: int = 4096
    texts: int = 1000
    # Characters in one request: some minutes of work for a CPU.
    characters: int = 100_000
    # Segments admitted and not translated yet, over all requests.
    waiting: int = 4096
    # Segments that the engine runs at once (EngineOptions.max_batch): what it is given follows from that.
    batch: int = 64
    # Seconds for one request, from its arrival to its answer's end; it may ask for less.
    timeout: float = 300.0
    # Bytes of translations kept.
    cache: int = 32 << 20
    # Ways in which a flagged segment is tried again (serve.translation.retry).
    tries: int = 4
    # What may stand in for an adapter that a pair does not have, in order (serve.translation.routing).
    fallback: tuple[Way, ...] = ()
    # Seconds that a request waits for its pair to be loaded; the load goes on without it.
    patience: float = 20.0
    # Seconds for loading and checking one adapter. A first conversion takes 14 for a base of 270M parameters, and minutes for a large one.
    load: float = 900.0
    # Seconds that a version just loaded keeps its place while it is asked for.
    stay: float = 5.0
