"""The fake engine with a capacity: so many prompts at once, each for so long; and what it was given, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tell.model.engine import EngineOptions, EngineTraits, Generation, Prompt
from tests.support.fake_engine import FakeEngine


class SlowEngine(FakeEngine):
    """`places` prompts run at once, `delay` seconds each, the rest waits inside in order of arrival, as in vLLM."""

    def __init__(self, options: EngineOptions, places: int = 64):
        super().__init__(options)
        self._places = asyncio.Semaphore(places)
        # Adapter and source of every prompt, as it came; and of those that were answered.
        self.given: list[tuple[str | None, str]] = []
        self.answered = 0
        self.most = 0

    def _source(self, prompt: Prompt) -> str:
        return self.tokens.decode(list(prompt.ids)).split("\n\n", 1)[1].rsplit("\n\n", 1)[0]

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        self.given += [(adapter_id, self._source(p)) for p in prompts]
        async with self._places:
            out = await super().generate(prompts, adapter_id)
        self.answered += len(prompts)
        return out

    def sources(self) -> list[str]:
        """What live adapters were asked, without the canaries' probes of the base."""
        return [source for adapter, source in self.given if adapter]


class BatchEngine(SlowEngine):
    """Runs one batch from start to end, as ctranslate2 does."""

    traits = EngineTraits(whole_batches=True)
