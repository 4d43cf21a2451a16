"""Replicas of one registry go over to a new version together, so that a client whose requests reach all of them sees one change of version, not several.

Each replica keeps a small file in the registry, `replicas/<id>.json` (tell.registry.replicas), and reads those of the others. For each pair it says which
generation it has loaded (`ready`), for which it lets no request begin (`held`), and which answers (`live`). A change has three steps:

1. A replica that has loaded generation g says `ready`, and waits until all others that serve the pair are ready, or `deadline` seconds have passed.
2. It says `held`. From now on requests for the pair wait here: none begins on the version before.
3. When all that are ready are held, or have changed already, it changes, and the requests go on. None of the others can answer with the version before.

Requests wait for two looks at the registry, not for a load. No clock is compared with another machine's: a replica counts as gone when its file has not changed
for `lease` seconds of the observer's own monotonic clock. One that was stopped for longer (SIGSTOP, a machine without time) may find that the others have
changed without it: it looks at the registry before the next request begins. Where the registry cannot be read or written, every replica goes on alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from serve.threads import Threads
from tell.errors import TellmtError
from tell.registry.registry import Registry
from tell.registry.replicas import Standing, forget, read_replicas, write_replica

logger = logging.getLogger(__name__)

# A lease is so many of the registry's own intervals: 5 s for a directory, 20 s for an object store, where each look is paid for.
INTERVALS = 10
# Parts of the lease: between two announcements where nothing happens, between two looks during a change, and until a replica that has not announced
# itself, whatever held it up, looks again before it answers.
QUIET, BUSY, FENCE = 0.2, 0.01, 0.8
# Leases after which the file of a replica that is gone is removed.
LEFTOVER = 20
# Seconds that a request waits for a look that is late; without an answer of the registry it then goes on with what is live.
LATE_LOOK = 2.0

# Writing and reading a few small files, which must not wait for adapters that are being verified.
REPLICAS = Threads("replicas", 1)


@dataclasses.dataclass(eq=False, slots=True)
class Change:
    """A version that is loaded and waits for the others. `since` is a moment of the monotonic clock; `held_since` that from which on others can know that
    requests are held, None before."""

    generation: int
    apply: Callable[[], None]
    since: float
    done: asyncio.Future[None]
    held: bool = False
    held_since: float | None = None
    # Whether it goes on without replicas that have not loaded it.
    without_lagging: bool = False


class Agreement:
    def __init__(self, registry: Registry, deadline: float, lease: float | None = None):
        """`deadline`: seconds that a loaded version waits for other replicas. `lease`: seconds; by default INTERVALS of the registry's."""
        self.registry, self.id = registry, secrets.token_hex(8)
        self.lease = INTERVALS * registry.interval if lease is None else lease
        # A replica that is gone is known to be so after a lease: before that, going on without it could answer beside it.
        self.deadline = max(deadline, self.lease)
        # Called when another replica has a newer generation than this one knows of.
        self.on_newer: Callable[[], None] = lambda: None
        self.own: dict[str, Standing] = {}
        self._changes: dict[str, Change] = {}
        self._open: dict[str, asyncio.Event] = {}
        # Of each other replica what it said, the number of that, and when this process first saw it.
        self._others: dict[str, tuple[dict[str, Standing], int, float]] = {}
        self._beat = 0
        self._written: tuple[float, dict[str, Standing]] | None = None
        # The moment before the last announcement that succeeded, and that of the last look that came to nothing in time.
        self._confirmed = self._looked = 0.0
        self._problem: str | None = None
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announce this replica, read the others, and go on doing so."""
        if self._task is None:
            await self._look()
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Let the others go on without this replica."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(TellmtError, OSError):
            await REPLICAS.run(forget, self.registry, self.id)

    async def agree(self, pair: str, generation: int, apply: Callable[[], None]) -> None:
        """Call `apply`, which makes a loaded version live, when the other replicas can as well. Cancelled, it takes the version back."""
        loop = asyncio.get_running_loop()
        change = self._changes[pair] = Change(generation, apply, time.monotonic(), loop.create_future())
        self.own[pair] = dataclasses.replace(self.own.get(pair, Standing()), ready=generation)
        self._woken.set()
        try:
            await change.done
        finally:
            if self._changes.get(pair) is change:
                self._drop(pair)
                if (standing := self.own.get(pair)) is not None:
                    self.own[pair] = Standing(standing.live, standing.live, standing.live)
                    self._woken.set()

    def advance(self, pair: str, generation: int) -> None:
        """The version that waits is that of this generation too: something else of the pair has changed."""
        if (change := self._changes.get(pair)) is not None:
            change.generation = generation
            standing = self.own.get(pair, Standing())
            self.own[pair] = dataclasses.replace(standing, ready=generation, held=generation if change.held else standing.held)
            self._woken.set()

    def note_live(self, pair: str, generation: int) -> None:
        """The version that answers is that of this generation too: something else of the pair has changed."""
        self.own[pair] = Standing(generation, generation, generation)
        self._woken.set()

    def leave(self, pair: str) -> None:
        """This replica serves the pair no more, or loads it only for a request."""
        if self.own.pop(pair, None) is not None:
            self._woken.set()
        if (change := self._changes.get(pair)) is not None and not change.done.done():
            # What answered has lost its place, and another version is still on its way.
            self.own[pair] = Standing(change.generation, change.generation if change.held else -1)

    def hold(self, pair: str) -> Awaitable[object] | None:
        """What a request for the pair is to wait for before it takes its version; None where it may take it now."""
        if (opened := self._open.get(pair)) is not None:
            return opened.wait()
        late = time.monotonic() - max(self._confirmed, self._looked) > FENCE * self.lease
        return self._late_look() if late and self._problem is None and self._task is not None and self._others else None

    async def _late_look(self) -> None:
        """After a stop of this process: what the others did meanwhile is done here too before the request goes on."""
        confirmed = self._confirmed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_LOOK):
                await self._look()
        if self._confirmed == confirmed:
            # The registry does not answer in time: the next requests are not held up again.
            self._looked = time.monotonic()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as e:
                # If this ended, no version would ever go live here.
                self._cannot(f"unexpected {type(e).__name__}")
            wait = BUSY if self._changes else QUIET
            # Not wait_for, which loses a cancellation that comes together with the event (Python 3.11).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait * self.lease):
                    await self._woken.wait()
            self._woken.clear()

    async def _look(self) -> None:
        """Announce what is new here, read what the others say, and take the steps that follow from it."""
        async with self._lock:
            # A second round where a step was taken that the others are to know of: what they say after that counts.
            while await self._round():
                pass

    async def _round(self) -> bool:
        now, said = time.monotonic(), dict(self.own)
        holding = [change for change in self._changes.values() if change.held and change.held_since is None]
        try:
            if self._written is None or self._written[1] != said or now - self._written[0] >= QUIET * self.lease:
                self._beat += 1
                await REPLICAS.run(write_replica, self.registry, self.id, self._beat, said)
                self._written = (now, said)
            self._note_others(await REPLICAS.run(read_replicas, self.registry, self.id))
            for id in [id for id, (_, _, seen) in self._others.items() if now - seen > LEFTOVER * self.lease]:
                await REPLICAS.run(forget, self.registry, id)
        except (TellmtError, OSError) as e:
            self._cannot((isinstance(e, OSError) and e.strerror) or str(e))
            return False
        self._confirmed = self._written[0]
        if self._problem is not None:
            logger.info(f"registry {self.registry.place}: replicas agree again")
            self._problem = None
        for change in holding:
            change.held_since = now
        return any([self._step(pair, change) for pair, change in list(self._changes.items())])

    def _note_others(self, found: dict[str, tuple[int, dict[str, Standing]]]) -> None:
        now, others = time.monotonic(), {}
        for id, (beat, standings) in found.items():
            earlier = self._others.get(id)
            others[id] = earlier if earlier is not None and earlier[1] == beat else (standings, beat, now)
        self._others = others

    def _standings(self, pair: str) -> list[Standing]:
        """What the other replicas that are there say of the pair; those that do not serve it say nothing."""
        now = time.monotonic()
        return [s[pair] for s, _, seen in self._others.values() if now - seen <= self.lease and pair in s]

    def _step(self, pair: str, change: Change) -> bool:
        """Whether something was done that the others are to be told at once."""
        if change.done.done():
            # Cancelled, and about to be dropped.
            return False
        now, generation, others = time.monotonic(), change.generation, self._standings(pair)
        overdue = now - change.since > self.deadline
        if any(max(s.held, s.live) > generation for s in others) and not overdue:
            # Another promotion came meanwhile: that one is to go live here.
            self.on_newer()
            return False
        if not change.held:
            lagging = [s for s in others if s.ready < generation]
            begun = any(s.held >= generation or s.live >= generation for s in others)
            if not (begun or overdue or not lagging):
                return False
            if overdue and lagging:
                logger.warning(f"{pair}: {len(lagging)} of {len(others) + 1} replicas have not loaded generation {generation} in {self.deadline:g} s")
            change.held, change.without_lagging = True, bool(lagging)
            self.own[pair] = dataclasses.replace(self.own.get(pair, Standing()), ready=generation, held=generation)
            self._open.setdefault(pair, asyncio.Event())
            return True
        if change.held_since is None:
            return False
        late = now - change.held_since > self.lease
        # One that lags now was not there before: it has just loaded what goes.
        awaited = [s for s in others if s.held < generation and s.live < generation and (s.ready >= generation or not change.without_lagging)]
        if awaited and not late:
            return False
        self._finish(pair, change)
        return True

    def _finish(self, pair: str, change: Change) -> None:
        self.own[pair] = Standing(change.generation, change.generation, change.generation)
        try:
            change.apply()
        except Exception as e:
            change.done.set_exception(e)
        else:
            change.done.set_result(None)
        self._drop(pair)

    def _drop(self, pair: str) -> None:
        del self._changes[pair]
        if (opened := self._open.pop(pair, None)) is not None:
            opened.set()

    def _cannot(self, problem: str) -> None:
        """Without the registry nobody can be told or heard. A version that requests wait for goes live here; others do when this has lasted for a lease,
        after which the other replicas do not count on this one either."""
        alone = time.monotonic() - self._confirmed > self.lease
        if alone and problem != self._problem:
            logger.warning(f"registry {self.registry.place}: replicas cannot agree: {problem}; new versions go live here by themselves")
            self._problem = problem
        for pair, change in list(self._changes.items()):
            if (alone or change.held) and not change.done.done():
                self._finish(pair, change)
