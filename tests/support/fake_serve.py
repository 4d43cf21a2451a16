"""`tellmt` with the fake engine behind its protocol, as a process: `python -m tests.support.fake_serve serve ...`.

A process of its own is what signals, exit codes and ports are about.
"""

from __future__ import annotations

import os
import sys
import time

import tell.model.engine
from tell.console import say
from tell.errors import EngineError
from tell.model.engine import Engine, EngineOptions
from tellmt.cli import main
from tests.support.fake_engine import FakeEngine


def open_fake(name: str, options: EngineOptions) -> Engine:
    engine = FakeEngine(options)
    engine.delay = float(os.environ.get("FAKE_DELAY", "0"))
    engine.load_delay = float(os.environ.get("FAKE_LOAD_DELAY", "0"))
    engine.start_delay = float(os.environ.get("FAKE_START_DELAY", "0"))
    if message := os.environ.get("FAKE_START_FAILURE"):
        engine.start_failure = EngineError(message)
    close = engine.close

    async def told_close() -> None:
        await close()
        say("fake engine closed")

    engine.close = told_close  # type: ignore[method-assign]
    return engine


if __name__ == "__main__":
    if seconds := float(os.environ.get("FAKE_CLOCK", "0")):
        # A machine whose clock is wrong by so many seconds.
        right = time.time
        time.time = lambda: right() + seconds
    tell.model.engine.open_engine = open_fake
    sys.exit(main())
