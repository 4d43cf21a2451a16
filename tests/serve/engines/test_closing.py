"""How a driver ends: closed with work under way, or because what computes is gone. Nothing is left behind, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import Adapter
from tell.errors import AdapterError, EngineError
from tell.model.base import Base
from tell.model.engine import Engine, Generation
from tests.support.engine_fixtures import DRIVERS, prompts, server_for, unstarted_engine, with_key

pytest_plugins = ["tests.support.engine_fixtures"]
pytestmark = pytest.mark.usefixtures("in_cache")
NEVER = 400


def _children() -> set[int]:
    pids = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            pids.update(map(int, (task / "children").read_text().split()))
        except FileNotFoundError:
            continue
    return pids


def _commands(pids: set[int]) -> list[str]:
    """What these processes run. multiprocessing's resource tracker belongs to the interpreter, not to the engine."""
    commands = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            commands.append(Path(f"/proc/{pid}/stat").read_text()[:60] + " " + Path(f"/proc/{pid}/cmdline").read_text())
    return [c for c in commands if "resource_tracker" not in c]


def _left(before: set[threading.Thread]) -> list[str]:
    return [t.name for t in set(threading.enumerate()) - before if not t.daemon]


async def _within(seconds: float, healthy: bool, engine: Engine) -> bool:
    end = time.monotonic() + seconds
    while await engine.healthy() is not healthy:
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.02)
    return True


@pytest.mark.parametrize("name", DRIVERS)
def test_when_what_computes_is_gone_calls_fail_and_the_adapter_comes_back_after_a_restart_and_close_ends_everything(
    name: str, base: Base, adapters: tuple[Adapter, Adapter], request: pytest.FixtureRequest
) -> None:
    """Two lives in one test, because vLLM takes half a minute to start. ct2 computes in this process; what can end there is the task that runs its batches."""
    server = server_for(name, request)
    adapter = adapters[0]
    children, threads = _children(), set(threading.enumerate())

    def kill(engine: Any, children: set[int]) -> None:
        if server is not None:
            server.kill()
        elif name == "vllm":
            for pid in [p for p in children if _commands({p})]:
                os.kill(pid, signal.SIGKILL)
        else:
            engine._runner.cancel()

    async def dies() -> list[Generation]:
        before = _children()
        engine = unstarted_engine(name, base, server)
        await engine.start()
        try:
            await engine.load(adapter.id, adapter.path)
            first = await engine.generate(prompts(2), adapter.id)
            call = asyncio.create_task(engine.generate(prompts(16, NEVER), adapter.id))
            await asyncio.sleep(0.1)
            assert not call.done(), "too little work to die in"
            kill(engine, _children() - before)
            assert await _within(2, False, engine), "still healthy"
            with pytest.raises(EngineError):
                await asyncio.wait_for(call, 5)
            with pytest.raises(EngineError):
                await asyncio.wait_for(engine.generate(prompts(1), adapter.id), 5)
            with pytest.raises((EngineError, AdapterError)):
                await asyncio.wait_for(engine.load(adapters[1].id, adapters[1].path), 20)
            if server is not None:
                # The server comes back, and knows no adapter any more. From this thread: it ends with the one that started it.
                server.start()
                assert await _within(5, True, engine), "not healthy again"
                assert await engine.generate(prompts(2), adapter.id) == first
            return first
        finally:
            await asyncio.wait_for(engine.close(), 60)

    async def is_closed(first: list[Generation]) -> BaseException | list[Generation]:
        """With work still under way: its callers are told."""
        engine = unstarted_engine(name, base, server)
        await engine.start()
        try:
            await engine.load(adapter.id, adapter.path)
            assert await engine.generate(prompts(2), adapter.id) == first
            call = asyncio.create_task(engine.generate(prompts(16, NEVER), adapter.id))
            await asyncio.sleep(0.05)
        finally:
            await engine.close()
        await engine.close()
        assert not await engine.healthy()
        with pytest.raises(EngineError):
            await engine.generate(prompts(1), None)
        return (await asyncio.gather(call, return_exceptions=True))[0]

    with with_key():
        first = asyncio.run(asyncio.wait_for(dies(), 250))
        started = {server.process.pid} if server is not None else set()
        outcome = asyncio.run(asyncio.wait_for(is_closed(first), 200))
    assert isinstance(outcome, EngineError), outcome
    # No process or thread is left.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (_commands(_children() - children - started) or _left(threads)):
        time.sleep(0.1)
    assert _commands(_children() - children - started) == [] and _left(threads) == []
