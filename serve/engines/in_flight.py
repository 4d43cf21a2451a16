"""Calls in flight, by adapter: an adapter that is unloaded stays until the last call on it has ended. Every driver uses it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tell.model.engine import Generation


class CallsInFlight:
    """Counts calls and holds their tasks. All of it in one event loop."""

    def __init__(self) -> None:
        self._counts: Counter[str | None] = Counter()
        self._idle: dict[str | None, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[Generation]] = set()

    @contextmanager
    def using(self, adapter_id: str | None) -> Iterator[None]:
        """While the block runs, `adapter_id` is in use."""
        self._counts[adapter_id] += 1
        try:
            yield
        finally:
            self._counts[adapter_id] -= 1
            if not self._counts[adapter_id]:
                del self._counts[adapter_id]
                if idle := self._idle.pop(adapter_id, None):
                    idle.set()

    def in_use(self, adapter_id: str | None) -> bool:
        return bool(self._counts[adapter_id])

    async def drained(self, adapter_id: str | None) -> None:
        """Return once no call uses the adapter."""
        while self._counts[adapter_id]:
            await self._idle.setdefault(adapter_id, asyncio.Event()).wait()

    async def gather(self, adapter_id: str | None, work: list[Coroutine[Any, Any, Generation]]) -> list[Generation]:
        """What each of `work` returns, run side by side.

        When one fails or the caller leaves, the others are ended first, and until they are the adapter is in use.
        """
        with self.using(adapter_id):
            tasks = [asyncio.create_task(w) for w in work]
            self._tasks.update(tasks)
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                try:
                    await asyncio.gather(*tasks, return_exceptions=True)
                finally:
                    self._tasks.difference_update(tasks)

    def cancel(self) -> None:
        """Cancel what runs now. The driver that calls this raises the error that says why."""
        for task in list(self._tasks):
            task.cancel()

    async def ended(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
