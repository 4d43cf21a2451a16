"""A fake behind the engine's protocol, for the service: it answers with the source, marked with the adapter that was asked.

It reads prompts as a model would, from their token ids, so prompts, cards, hashes, registry and HTTP on this side of the protocol are what
runs in earnest. Delay and failures are switched by a test.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tell.adapter.card import open_adapter
from tell.errors import AdapterError, EngineError
from tell.model.engine import EngineOptions, Generation, Prompt
from tell.model.tokenizer import BaseTokenizer


class FakeEngine:
    """Implements `tell.model.engine.Engine`. An adapter whose card has `seed` 13 loads and does not act.

    A text that begins with "golden" is marked with the card's seed rather than the adapter's id, which golden sentences are part of.
    "kill the engine" is the last text it reads, and after "hang the engine" neither that call nor `close` ever returns.
    """

    name = "fake"
    # As of an engine that repeats its outputs exactly.
    identity: str | None = "fake 1"

    def __init__(self, options: EngineOptions):
        self.base, self.options = options.base, options
        self.tokens = BaseTokenizer(options.base)
        # Seconds each call of `generate` takes.
        self.delay = 0.0
        self.failure: Exception | None = None
        self.load_failure: Exception | None = None
        # Seconds each call of `load` takes.
        self.load_delay = 0.0
        self.loads: list[str] = []
        self.start_failure: Exception | None = None
        self.start_delay = 0.0
        self.alive = True
        self.calls: list[tuple[str | None, int]] = []
        self.running: Counter[str | None] = Counter()
        self.cancelled = 0
        self.unloads: list[str] = []
        self.most_loaded = 0
        self.closed = False
        self._loaded: dict[str, int] = {}
        self._ended = asyncio.Event()
        self._hangs = False

    async def start(self) -> None:
        await asyncio.sleep(self.start_delay)
        if self.start_failure:
            raise self.start_failure

    async def load(self, adapter_id: str, path: Path) -> None:
        self.loads.append(adapter_id)
        await asyncio.sleep(self.load_delay)
        if self.load_failure:
            raise self.load_failure
        if len(self._loaded) >= self.options.max_adapters:
            raise AdapterError("too many adapters")
        self._loaded[adapter_id] = open_adapter(path).card.seed
        self.most_loaded = max(self.most_loaded, len(self._loaded))

    async def unload(self, adapter_id: str) -> None:
        if self.running[adapter_id]:
            raise EngineError("an adapter was unloaded under a request")
        del self._loaded[adapter_id]
        self.unloads.append(adapter_id)

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        self.calls.append((adapter_id, len(prompts)))
        self.running[adapter_id] += 1
        try:
            await self._work(prompts)
            if self.failure:
                raise self.failure
            if adapter_id is not None and adapter_id not in self._loaded:
                raise EngineError("no such adapter is loaded")
            return [self._answer(p, adapter_id) for p in prompts]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running[adapter_id] -= 1

    async def _work(self, prompts: Sequence[Prompt]) -> None:
        if any("kill the engine" in self.tokens.decode(list(p.ids)) for p in prompts):
            self.alive = False
        if any("hang the engine" in self.tokens.decode(list(p.ids)) for p in prompts):
            self._hangs = True
            await asyncio.Event().wait()
        if not self.delay:
            await asyncio.sleep(0)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self.delay)
        if self.closed or not self.alive:
            raise EngineError("the engine was closed" if self.closed else "the engine is dead")

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        if len(prompt.ids) + prompt.max_tokens > self.options.max_context:
            raise EngineError("prompt and output exceed the context")
        text = self.tokens.decode(list(prompt.ids))
        source = text.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
        mark = adapter_id[:8] if adapter_id and self._loaded[adapter_id] != 13 else "base"
        if mark != "base" and source.startswith("golden"):
            mark = str(self._loaded[str(adapter_id)])
        out = f"<{mark}>{source}"
        # A text that says so is cut, as one is that runs into max_tokens.
        return Generation(out, len(out), "length" if "endless" in source else "stop")

    def loaded(self) -> list[str]:
        return list(self._loaded)

    async def healthy(self) -> bool:
        return self.alive

    async def close(self) -> None:
        self.closed = True
        self._ended.set()
        if self._hangs:
            await asyncio.Event().wait()
