"""Prompts waiting for the ctranslate2 engine, and which of them run together next.

ctranslate2 runs one batch from start to end, so what goes into it decides speed and fairness. Adapters take turns, and so do the
callers of one adapter: a file of a thousand lines does not hold up a sentence.

`Call` is one `generate`, `QueuedPrompt` one of its prompts, `PromptQueue` the queue.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from serve.engines.ct2.batch_cost import OUTPUT, split_batch
from serve.engines.ct2.vocabulary import Vocabulary
from serve.engines.fair_queue import FairQueue
from tell.model.engine import Generation, Prompt


@dataclasses.dataclass(slots=True, eq=False)
class StopFlag:
    """Set when the work is to stop; read at every step by ctranslate2's own thread.

    That thread may be the last to let go of what a callback refers to, and a generator that is thrown away in its own thread ends the process. So
    callbacks hold these, and never a call.
    """

    is_set: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class GenerateCall:
    """One `generate`: its prompts' results, and the future its caller waits on."""

    adapter_id: str | None
    # The ctranslate2 generator that answers it.
    model: Any
    vocabulary: Vocabulary
    results: list[Generation | None]
    future: asyncio.Future[list[Generation]]
    # Set when the caller has gone.
    stop: StopFlag = dataclasses.field(default_factory=StopFlag)

    @property
    def path(self) -> tuple[str | None, GenerateCall]:
        """Where its prompts wait in the queue."""
        return self.adapter_id, self

    @property
    def gone(self) -> bool:
        return self.stop.is_set

    def done(self, index: int, generation: Generation) -> None:
        self.results[index] = generation
        if not self.future.done() and all(r is not None for r in self.results):
            self.future.set_result([r for r in self.results if r is not None])

    def fail(self, error: Exception) -> None:
        self.stop.is_set = True
        if not self.future.done():
            self.future.set_exception(error)


@dataclasses.dataclass(slots=True, eq=False)
class QueuedPrompt:
    call: GenerateCall
    index: int
    prompt: Prompt

    @property
    def cost(self) -> int:
        """In turns of the queue."""
        return 1

    @property
    def tokens_at_most(self) -> int:
        return len(self.prompt.ids) + self.prompt.max_tokens


class PromptQueue:
    """The prompts that wait, by adapter and call. A turn is a batch: the prompts that run with the one whose turn it is take no turn of their calls."""

    def __init__(self, max_batch: int):
        self.max_batch = max_batch
        # Key and value caches are padded to the longest of a batch; this bounds their memory (1.2 GB for Gemma 3 270M at 64 prompts).
        self.max_tokens = max_batch * 512
        self._queue: FairQueue[tuple[str | None, GenerateCall], QueuedPrompt] = FairQueue(1)

    def __len__(self) -> int:
        return len(self._queue)

    def count(self, adapter_id: str | None) -> int:
        """How many prompts of one adapter wait."""
        return self._queue.cost((adapter_id,))

    def add(self, call: GenerateCall, prompts: list[Prompt]) -> None:
        for i, prompt in enumerate(prompts):
            self._queue.add(call.path, QueuedPrompt(call, i, prompt))

    def remove(self, call: GenerateCall) -> None:
        for path, item in list(self._queue.items(call.path)):
            self._queue.discard(path, item)

    def clear(self) -> list[GenerateCall]:
        return list(dict.fromkeys(item.call for item in self._queue.clear()))

    def take(self) -> list[QueuedPrompt]:
        """The next batch, all of one adapter, removed from the queue; empty when nothing waits.

        In it is the oldest prompt of the call whose turn it is, with those that it is best run with (see `serve.engines.ct2.batch_cost`).
        """
        turn = self._queue.take()
        if turn is None:
            return []
        (adapter_id, call), head = turn
        size = len(head.prompt.ids)
        alike = [item for _, item in self._queue.items((adapter_id,)) if item.prompt.kind == head.prompt.kind]
        # Among equals, those of the same call come first. Twice a batch is enough to choose what the head runs with.
        alike.sort(key=lambda item: (abs(len(item.prompt.ids) - size), item.call is not call))
        batch = best_with(head, [head, *alike[: 2 * self.max_batch - 1]], self.max_batch, self.max_tokens)
        for item in batch:
            self._queue.discard(item.call.path, item)
        return batch

    def put_back(self, batch: list[QueuedPrompt]) -> None:
        """Return a batch that was broken off to the front of the queue, without those whose callers have gone."""
        self._queue.put_back((item.call.path, item) for item in batch if not item.call.gone)


def best_with(head: QueuedPrompt, near: list[QueuedPrompt], most: int, tokens: int) -> list[QueuedPrompt]:
    """The batch that holds `head` when all of `near`, `head` among them, are split so that they run in the least time."""
    ordered = sorted(near, key=lambda i: len(i.prompt.ids))
    sizes = [(len(i.prompt.ids), int(i.prompt.max_tokens * OUTPUT), i.tokens_at_most) for i in ordered]
    start = 0
    for end in split_batch(sizes, most, tokens):
        batch = ordered[start:end]
        if any(i is head for i in batch):
            return batch
        start = end
    return [head]
