"""The real application on a real port, over a fake engine, in a thread of the test's own process."""

from __future__ import annotations

import asyncio
import dataclasses
import http.server
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from serve.adapters.follower import Follower
from serve.app import create_app
from serve.config import Limits
from serve.translation.service import Service
from tell.model.engine import EngineOptions, Generation, Prompt
from tell.model.tokenizer import BaseTokenizer
from tell.registry.registry import Registry
from tests.support.fake_eval_engine import light_adapter, light_base


class Upper:
    """An engine whose adapters write in capitals; its bare base repeats the source."""

    name = "upper"

    def __init__(self, options: EngineOptions):
        self.base, self.options, self.tokens = options.base, options, BaseTokenizer(options.base)
        self.batches: list[list[str]] = []
        self.closed = False
        # Raised, one a call, before anything is translated.
        self.problems: list[Exception] = []
        # Called once, in the first batch that has a line beginning with "lína".
        self.after_first: Callable[[], object] | None = None
        # Seconds that a batch takes.
        self.delay = 0.0
        self._loaded: list[str] = []
        self._turn = asyncio.Lock()

    async def start(self) -> None: ...

    async def load(self, adapter_id: str, path: Path) -> None:
        self._loaded.append(adapter_id)

    async def unload(self, adapter_id: str) -> None:
        self._loaded.remove(adapter_id)

    def loaded(self) -> list[str]:
        return list(self._loaded)

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None:
        self.closed = True

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        sources = [self.tokens.decode(list(p.ids)).split("\n\n")[1] for p in prompts]
        if adapter_id is None:
            return [self.answer(s, None) for s in sources]
        if self.problems:
            raise self.problems.pop()
        self.batches.append(sources)
        await asyncio.sleep(self.delay)
        if any(s.startswith("lína") for s in sources):
            # The others wait meanwhile, but for the probes of a new version, which are other texts.
            async with self._turn:
                call, self.after_first = self.after_first, None
                if call is not None:
                    await asyncio.to_thread(call)
        return [self.answer(s, adapter_id) for s in sources]

    def answer(self, source: str, adapter_id: str | None) -> Generation:
        if "BREAK" in source:
            return Generation("one\u2028two\rthree", 3, "stop")
        if "SILENT" in source:
            return Generation("", 0, "stop")
        return Generation(source.upper() if adapter_id else source, len(source), "length" if "ENDLESS" in source else "stop")


def publish(home: Path, pair: str = "is-en", seed: int = 0) -> str:
    """Put an adapter live in the registry of this test; returns its id."""
    adapter = light_adapter(home / f"{pair}-{seed}", light_base(home / "cache"), pair, seed)
    registry = Registry()
    id = registry.add(adapter.path, adapter.card)
    registry.promote(pair, id, "for this test")
    return id


@dataclasses.dataclass
class Running:
    url: str
    engine: Upper
    service: Service


@contextmanager
def serving(home: Path, limits: Limits | None = None, start: bool = True) -> Iterator[Running]:
    """The application following this test's registry; with `start` False its engine goes on starting."""
    engine = Upper(EngineOptions(base=light_base(home / "cache"), max_context=2048))
    service = Service(engine, limits or Limits(context=2048))
    follower = Follower(service.versions, Registry(), interval=0.02)
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service, follower), lifespan="off", log_config=None, log_level="warning", access_log=False, ws="none"))
    failed: list[BaseException] = []
    up = threading.Event()

    async def run() -> None:
        following: asyncio.Task[Any] | None = None
        if start:
            await service.start()
            await follower.look()
            following = asyncio.create_task(follower.run())
        up.set()
        await server.serve(sockets=[sock])
        if following is not None:
            following.cancel()
        await service.close()

    def thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as e:
            failed.append(e)
        finally:
            up.set()

    running = threading.Thread(target=thread)
    running.start()
    up.wait(30)
    try:
        yield Running(f"http://127.0.0.1:{sock.getsockname()[1]}", engine, service)
    finally:
        server.should_exit = True
        running.join(30)
        sock.close()
    assert not failed, failed


@contextmanager
def other_server() -> Iterator[str]:
    """A server that is not ours: an empty directory over HTTP."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *args: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
