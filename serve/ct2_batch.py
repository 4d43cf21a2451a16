"""Prompts waiting for the ctranslate2 engine, and which of them run together next.

ctranslate2 runs one batch from start to end, so what goes into it decides speed and fairness. Adapters take turns, and so do the
callers of one adapter: a file of a thousand lines does not hold up a sentence.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from typing import Any

from tell.engine import Generation, Prompt


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """One `generate`: its prompts' results, and the future its caller waits on."""

    adapter_id: str | None
    # The ctranslate2 generator that answers it.
    model: Any
    results: list[Generation | None]
    future: asyncio.Future[list[Generation]]
    # Set when the caller has gone; read by the thread that runs the batch.
    gone: bool = False

    def done(self, index: int, generation: Generation) -> None:
        self.results[index] = generation
        if not self.future.done() and all(r is not None for r in self.results):
            self.future.set_result([r for r in self.results if r is not None])

    def fail(self, error: Exception) -> None:
        self.gone = True
        if not self.future.done():
            self.future.set_exception(error)


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    call: Call
    index: int
    prompt: Prompt

    @property
    def group(self) -> tuple[bool, float]:
        """Prompts of one batch share these options."""
        return self.prompt.one_line, self.prompt.repetition_penalty

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

        Its head is the oldest prompt of the call whose turn it is; the rest are those nearest to it in length. ctranslate2 reads
        prompts at once up to the length of the shortest and the rest token by token, six times slower, so lengths must be near.
        """
        if not self._lines:
            return []
        adapter_id, calls = next(iter(self._lines.items()))
        call, items = next(iter(calls.items()))
        head = items[0]
        size = len(head.prompt.ids)
        spread = max(16, size // 2)
        near = [i for line in calls.values() for i in line if i.group == head.group and abs(len(i.prompt.ids) - size) <= spread]
        near.sort(key=lambda i: (i is not head, abs(len(i.prompt.ids) - size)))
        batch: list[Item] = []
        room = 0
        for item in near[: self.max_batch]:
            room = max(room, item.room)
            if batch and room * (len(batch) + 1) > self.max_tokens:
                break
            batch.append(item)
        self._drop(calls, batch)
        # Turns: what was served goes to the end.
        if call in calls:
            calls[call] = calls.pop(call)
        del self._lines[adapter_id]
        if calls:
            self._lines[adapter_id] = calls
        return batch

    def _drop(self, calls: dict[Call, deque[Item]], batch: list[Item]) -> None:
        taken = set(map(id, batch))
        for call in {i.call for i in batch}:
            left = deque(i for i in calls[call] if id(i) not in taken)
            if left:
                calls[call] = left
            else:
                del calls[call]
