"""Threads for what would hold up the event loop, some for each kind of work: asyncio's own pool has a few for all, and where long texts or a slow disk
have them, the registry is not followed and no correction is kept.

What is left to asyncio's pool is the engine's and the monitor's: loading, checking, history.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """At most so many threads for one kind of work, started when there is some."""

    def __init__(self, name: str, most: int):
        self._executor = ThreadPoolExecutor(most, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work` in one of these threads, as `asyncio.to_thread` has it."""
        call = functools.partial(contextvars.copy_context().run, work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


# Long texts: dividing, checking, language, markup. They compute, so more threads would only take turns.
TEXTS = Threads("texts", 4)
# Looking at the registry, and opening what it names.
FOLLOWER = Threads("follower", 2)
# What requests ask of the registry: kept glossaries, promotions, its log.
REGISTRY = Threads("registry", 4)
FEEDBACK = Threads("feedback", 1)
