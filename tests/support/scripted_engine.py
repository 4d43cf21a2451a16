"""The fake engine with outputs a test writes: by source, and by the penalty on repetition where that is to make a difference."""

from __future__ import annotations

from collections.abc import Callable

from tell.model.engine import EngineOptions, Generation, Prompt
from tests.support.slow_engine import SlowEngine

# What comes of a source and a penalty; None for what the fake engine says. "…" at its end: cut at the token limit.
Script = Callable[[str, float], str | None]


class ScriptedEngine(SlowEngine):
    def __init__(self, options: EngineOptions, script: Script):
        super().__init__(options)
        self.script = script
        # Source and penalty of what live adapters were asked.
        self.requests: list[tuple[str, float]] = []

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        source = self._source(prompt)
        out = self.script(source, prompt.repetition_penalty) if adapter_id else None
        if out is None:
            return super()._answer(prompt, adapter_id)
        self.requests.append((source, prompt.repetition_penalty))
        return Generation(out.removesuffix("…"), len(out), "length" if out.endswith("…") else "stop")
