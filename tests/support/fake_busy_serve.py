"""`tellmt` over a fake engine that works as a real one does: one batch at a time, on the processor, so long for each prompt.

`python -m tests.support.fake_busy_serve serve ...`; FAKE_BURN is the seconds that a prompt takes, and with FAKE_LETTERS each adapter writes in an alphabet
of its own, as if it had a language of its own. Measuring scripts are tried out on it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import random
import sys
import time
from collections.abc import Sequence
from string import ascii_lowercase

import tell.model.engine
from tell.model.engine import Engine, EngineOptions, Generation, Prompt
from tellmt.cli import main
from tests.support.fake_engine import FakeEngine

BATCH = 8


def burn(seconds: float) -> None:
    """Work that lets other threads run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1000)


class BusyEngine(FakeEngine):
    def __init__(self, options: EngineOptions):
        super().__init__(options)
        self._turn = asyncio.Lock()

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        each = float(os.environ.get("FAKE_BURN", "0.004"))
        for i in range(0, len(prompts), BATCH):
            async with self._turn:
                await asyncio.to_thread(burn, each * len(prompts[i : i + BATCH]))
        return await super().generate(prompts, adapter_id)

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        generation = super()._answer(prompt, adapter_id)
        if adapter_id is None or not os.environ.get("FAKE_LETTERS"):
            return generation
        letters = list(ascii_lowercase)
        random.Random(adapter_id).shuffle(letters)
        return dataclasses.replace(generation, text=generation.text.lower().translate(str.maketrans(ascii_lowercase, "".join(letters))))


def open_busy(name: str, options: EngineOptions) -> Engine:
    return BusyEngine(options)


if __name__ == "__main__":
    tell.model.engine.open_engine = open_busy
    sys.exit(main())
