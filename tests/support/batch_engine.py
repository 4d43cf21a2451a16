"""`tellmt translate` in a process of its own, with an engine that writes in capitals and keeps placeholders; for tests that kill it.

    python -m tests.support.batch_engine LOG DELAY ARGS...

Every text that was answered is a line in LOG, after the answer's DELAY seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tell.model.engine import EngineOptions, Generation, Prompt
from tests.support.formats_fixture import capitals
from tests.support.running import Upper


class Capitals(Upper):
    """`asked` are the texts that came with an adapter."""

    log: Path | None = None

    def __init__(self, options: EngineOptions):
        super().__init__(options)
        self.sources: list[str] = []
        self.proved = False

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        generations = await super().generate(prompts, adapter_id)
        # The first prompts check that the adapter acts.
        if adapter_id is not None and self.proved:
            texts = [self.tokens.decode(list(p.ids)).split("\n\n")[1] for p in prompts]
            self.sources += texts
            if self.log:
                with self.log.open("a") as f:
                    f.write("".join(json.dumps(text) + "\n" for text in texts))
        self.proved = self.proved or adapter_id is not None
        return generations

    def answer(self, source: str, adapter_id: str | None) -> Generation:
        return Generation(capitals(source) if adapter_id else source, len(source), "stop")


def main() -> int:
    import serve.files.local
    from tellmt.cli import main as command

    Capitals.log = Path(sys.argv[1])
    delay = float(sys.argv[2])

    def open_engine(name: str, options: EngineOptions) -> Capitals:
        engine = Capitals(options)
        engine.delay = delay
        return engine

    serve.files.local.open_engine = open_engine  # type: ignore[assignment]
    return command(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
