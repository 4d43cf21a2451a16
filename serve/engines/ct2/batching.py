"""Prompts waiting for the ctranslate2 engine, and which of them run together next.

ctranslate2 runs one batch from start to end, so what goes into it decides speed and fairness. Adapters take turns, and so do the
callers of one adapter: a file of a thousand lines does not hold up a sentence.

`Call` is one `generate`, `Item` one of its prompts, `Waiting` the queue.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from typing import Any

from serve.engines.ct2.batch_cost import OUTPUT, split
from tell.model.engine import Generation, Prompt


@dataclasses.dataclass(slots=True, eq=False)
class Stop:
    """Set when work is not wanted any more; read at every step by ctranslate2's own thread.

    That thread may be the last to let go of what a callback refers to, and a generator that is thrown away in its own thread ends the process. So
    callbacks hold these, and never a call.
    """

    wanted: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """One `generate`: its prompts' results, and the future its caller waits on."""

    adapter_id: str | None
    # The ctranslate2 generator that answers it.
    model: Any
    results: list[Generation | None]
    future: asyncio.Future[list[Generation]]
    # When the caller has gone.
    stop: Stop = dataclasses.field(default_factory=Stop)

    @property
    def gone(self) -> bool:
        return self.stop.wanted

    def done(self, index: int, generation: Generation) -> None:
        self.results[index] = generation
        if not self.future.done() and all(r is not None for r in self.results):
            self.future.set_result([r for r in self.results if r is not None])

    def fail(self, error: Exception) -> None:
        self.stop.wanted = True
        if not self.future.done():
            self.future.set_exception(error)


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    call: Call
    index: int
    prompt: Prompt

    @property
    def room(self) -> int:
        return len(self.prompt.ids) + self.prompt.max_tokens


class Waiting:
    """The queue: adapter, then call, then item, each level served in turn."""

    def __init__(self, max_batch: int):
        self.max_batch = max_batch
        # Key and value caches are padded to the longest of a batch; this bounds their memory (1.2 GB for Gemma 3 270M at 64 prompts).
        self.max_tokens = max_batch * 512
        self._lines: dict[str | None, dict[Call, deque[Item]]] = {}

    def __len__(self) -> int:
        return sum(len(items) for calls in self._lines.values() for items in calls.values())

    def count(self, adapter_id: str | None) -> int:
        """How many prompts of one adapter wait."""
        return sum(len(items) for items in self._lines.get(adapter_id, {}).values())

    def add(self, call: Call, prompts: list[Prompt]) -> None:
        self._lines.setdefault(call.adapter_id, {})[call] = deque(Item(call, i, p) for i, p in enumerate(prompts))

    def remove(self, call: Call) -> None:
        if calls := self._lines.get(call.adapter_id):
            calls.pop(call, None)
            if not calls:
                del self._lines[call.adapter_id]

    def clear(self) -> list[Call]:
        calls = [call for line in self._lines.values() for call in line]
        self._lines.clear()
        return calls

    def take(self) -> list[Item]:
        """The next batch, all of one adapter, removed from the queue; empty when nothing waits.

        In it is the oldest prompt of the call whose turn it is, with those that it is best run with (see `serve.engines.ct2.batch_cost`).
        """
        if not self._lines:
            return []
        adapter_id, calls = next(iter(self._lines.items()))
        call, items = next(iter(calls.items()))
        head = items[0]
        size = len(head.prompt.ids)
        alike = [i for line in calls.values() for i in line if i.prompt.kind == head.prompt.kind]
        # The head first among equals; twice a batch is enough to see what it could be run with.
        near = sorted(alike, key=lambda i: (i is not head, abs(len(i.prompt.ids) - size)))[: 2 * self.max_batch]
        batch = best_with(head, near, self.max_batch, self.max_tokens)
        self._drop(calls, batch)
        # Turns: what was served goes to the end.
        if call in calls:
            calls[call] = calls.pop(call)
        del self._lines[adapter_id]
        if calls:
            self._lines[adapter_id] = calls
        return batch

    def put_back(self, batch: list[Item]) -> None:
        """Return a batch that was broken off to the front of the queue, without those whose callers have gone."""
        left = [i for i in batch if not i.call.gone]
        if not left:
            return
        adapter_id = left[0].call.adapter_id
        calls = self._lines.pop(adapter_id, {})
        first = {i.call: deque[Item]() for i in left}
        for item in left:
            first[item.call].append(item)
        for call, items in first.items():
            items.extend(calls.pop(call, ()))
        self._lines = {adapter_id: {**first, **calls}, **self._lines}

    def _drop(self, calls: dict[Call, deque[Item]], batch: list[Item]) -> None:
        taken = set(map(id, batch))
        for call in {i.call for i in batch}:
            left = deque(i for i in calls[call] if id(i) not in taken)
            if left:
                calls[call] = left
            else:
                del calls[call]


def best_with(head: Item, near: list[Item], most: int, tokens: int) -> list[Item]:
    """The batch that `head` is in when all of `near`, itself among them, are run in the least time."""
    ordered = sorted(near, key=lambda i: len(i.prompt.ids))
    sizes = [(len(i.prompt.ids), int(i.prompt.max_tokens * OUTPUT), i.room) for i in ordered]
    start = 0
    for end in split(sizes, most, tokens):
        batch = ordered[start:end]
        if any(i is head for i in batch):
            return batch
        start = end
    return [head]
