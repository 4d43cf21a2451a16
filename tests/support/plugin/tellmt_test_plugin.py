"""What a package of somebody else brings: an engine and a metric, written with the public names of tellmt alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tellmt


class ShoutEngine:
    """Adapters write the source in capitals; the bare base repeats it."""

    name = "shout"
    traits = tellmt.EngineTraits()

    def __init__(self, options: tellmt.EngineOptions):
        from tokenizers import Tokenizer

        self.base: tellmt.Base = options.base
        self._tokenizer = Tokenizer.from_file(str(options.base.path / "tokenizer.json"))
        self._loaded: list[str] = []

    async def start(self) -> None: ...

    async def load(self, adapter_id: str, path: Path) -> None:
        if not path.is_dir():
            raise tellmt.AdapterError("no such directory", place=str(path))
        self._loaded.append(adapter_id)

    async def unload(self, adapter_id: str) -> None:
        self._loaded.remove(adapter_id)

    async def generate(self, prompts: Sequence[tellmt.Prompt], adapter_id: str | None) -> list[tellmt.Generation]:
        # A prompt ends with the source and the direction, each after an empty line.
        sources = [str(self._tokenizer.decode(list(prompt.ids))).split("\n\n")[1] for prompt in prompts]
        return [tellmt.Generation(source.upper() if adapter_id else source, len(source), "stop") for source in sources]

    def loaded(self) -> list[str]:
        return list(self._loaded)

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None: ...


class SameLength:
    """100 minus the difference in characters between hypothesis and reference."""

    name = "SameLength"
    signature = "same-length|version:1.0"
    higher_is_better = True
    needs_sources = False

    def segments(self, sources: Sequence[str] | None, hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        return [100.0 - abs(len(hypothesis) - len(reference)) for hypothesis, reference in zip(hypotheses, references, strict=True)]


engine: type[tellmt.Engine] = ShoutEngine
metric: tellmt.Metric = SameLength()
