"""A client that leaves ends its work within two seconds, however it asked: over real sockets, and with the real CPU engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serve.adapters.follower import Follower
from serve.config import Limits
from serve.translation.decoder import Decoder
from serve.translation.service import Service
from tell.model.engine import EngineOptions
from tell.registry.registry import Registry
from tell.text.segments import Span
from tests.support.fake_eval_engine import light_base
from tests.support.running import Upper
from tests.support.running import publish as publish_light
from tests.support.serving import Published, Running, publish, running, until
from tests.support.slow_engine import SlowEngine

pytest_plugins = ["tests.support.serving_fixtures"]

# Seconds within which nothing may be left, as the service promises.
PROMISED = 2.0
MANY = [f"texti {i}" for i in range(300)]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("/api/v1/translate", {"text": "Halló"}),
    "many texts": ("/api/v1/translate", {"text": MANY}),
    "document": ("/api/v1/translate", {"text": "\n".join(MANY)}),
    "libre": ("/translate", {"q": "Halló"}),
    "stream": ("/api/v1/translate/stream", {"text": MANY}),
    "stream of one": ("/api/v1/translate/stream", {"text": "Halló"}),
}


@contextlib.contextmanager
def client(service: Running, kind: str, chunked: bool = False) -> Iterator[socket.socket]:
    """A connection on which the request was sent and nothing was read."""
    path, body = KINDS[kind]
    host, port = service.url.removeprefix("http://").split(":")
    raw = json.dumps({"source": "is", "target": "en", **body}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        if chunked:
            sock.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n{len(raw):x}\r\n".encode() + raw + b"\r\n0\r\n\r\n")
        else:
            sock.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        yield sock


def reset(connection: socket.socket) -> None:
    """End it as a client that was killed does: no orderly close."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


@pytest.fixture(scope="module")
def slow(published: Published) -> Iterator[Running]:
    with running(published.base, published.registry, lambda options: SlowEngine(options, places=16), Limits(context=2048, batch=16, cache=0)) as server:
        yield server


def nothing_left(service: Running, began: float, tasks: int) -> None:
    until(lambda: service.metric("tellmt_segments_waiting") == 0 and service.engine.running.total() == 0 and service.status()["in_flight"] == 0)
    assert time.monotonic() - began < PROMISED
    until(lambda: len(asyncio.all_tasks(service.loop)) <= tasks)
    assert service.metric("tellmt_segments_in_engine") == 0


@pytest.mark.clock
@pytest.mark.parametrize("way", ["close", "reset", "half read"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_leaves_ends_its_work(slow: Running, kind: str, way: str) -> None:
    slow.engine.delay = 0.0
    assert slow.texts("before")
    tasks = len(asyncio.all_tasks(slow.loop)) + 1
    cancelled, started = slow.engine.cancelled, len(slow.engine.given)
    slow.engine.delay = 30
    if way == "half read" and kind == "stream":
        slow.engine.delay = 0.02
    with client(slow, kind, chunked=way == "reset") as connection:
        until(lambda: slow.engine.running.total() > 0)
        if way == "half read" and kind == "stream":
            assert connection.recv(2000)
            slow.engine.delay = 30
            until(lambda: slow.engine.running.total() > 0)
        if way == "reset":
            reset(connection)
        began = time.monotonic()
    nothing_left(slow, began, tasks)
    assert slow.engine.cancelled > cancelled
    # What had not begun never does.
    assert len(slow.engine.given) - started < 300


@pytest.mark.clock
def test_one_that_leaves_does_not_take_others_along(slow: Running) -> None:
    slow.engine.delay = 1.0
    with client(slow, "plain") as staying:
        until(lambda: slow.engine.running.total() == 1)
        with client(slow, "plain"):
            until(lambda: slow.metric("tellmt_segments_waiting") == 2)
        until(lambda: slow.metric("tellmt_segments_waiting") == 1)
        assert b"200 OK" in staying.recv(2000)


@pytest.mark.clock
def test_while_its_text_is_still_being_cut_up_a_client_can_leave(slow: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text is tokenised in a thread, which cannot be stopped; nothing of it reaches the engine."""
    split = Decoder.split

    def slow_split(decoder: Decoder, texts: Sequence[str]) -> list[list[Span]]:
        time.sleep(0.5)
        return split(decoder, texts)

    monkeypatch.setattr(Decoder, "split", slow_split)
    started = len(slow.engine.given)
    with client(slow, "document"):
        until(lambda: slow.metric("tellmt_segments_waiting") == 300)
        began = time.monotonic()
    until(lambda: slow.metric("tellmt_segments_waiting") == 0 and slow.status()["in_flight"] == 0)
    assert time.monotonic() - began < PROMISED and len(slow.engine.given) == started


@pytest.mark.clock
@pytest.mark.slow
@pytest.mark.all_cores
@pytest.mark.timeout(240)
def test_the_cpu_engine_stops_too(tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ctranslate2 engine on the tiny base, whose adapters never stop by themselves: a batch would take it many seconds."""
    from serve.engines.ct2.engine import Ct2Engine
    from tests.support.tiny import make_tiny_adapter, make_tiny_base

    monkeypatch.setenv("TELLMT_CACHE", str(tiny_cache))
    base, registry = make_tiny_base(tiny_cache), Registry(tmp_path / "registry")
    publish(registry, make_tiny_adapter(tmp_path / "a", base, seed=1))
    with running(base, registry, Ct2Engine, Limits(context=2048, cache=0)) as server:
        until(lambda: server.status()["adapter"], 120)
        for kind in ("plain", "many texts", "stream"):
            assert server.translate("before").status_code == 200
            tasks = len(asyncio.all_tasks(server.loop)) + 1
            with client(server, kind):
                until(lambda: server.metric("tellmt_segments_in_engine") > 0)
                began = time.monotonic()
            until(lambda: server.metric("tellmt_segments_in_engine") == 0 and not server.engine._running and server.status()["in_flight"] == 0)
            assert time.monotonic() - began < PROMISED, kind
            assert server.metric("tellmt_segments_waiting") == 0
            until(lambda tasks=tasks: len(asyncio.all_tasks(server.loop)) <= tasks)  # type: ignore[misc]


def test_a_request_cancelled_twice_leaves_no_place_taken(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of time, and then its client gone, while its segments are still being stopped."""
    publish_light(isolated)
    stopping, stopped = asyncio.Event(), asyncio.Event()

    async def decoded(*_: object) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            stopping.set()
            await stopped.wait()

    async def run() -> None:
        engine = Upper(EngineOptions(base=light_base(isolated / "cache"), max_context=2048))
        service = Service(engine, Limits(context=2048))
        await service.start()
        await Follower(service.versions, Registry(), interval=60).look()
        engine.delay = 30.0
        monkeypatch.setattr(service, "_decoded", decoded)
        async with service.lease("is", "en") as version:
            request = asyncio.create_task(service.translate(version, ["Halló", "Góðan dag"]))
            while not service.queue.admission.waiting:
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            request.cancel()
            await stopping.wait()
            request.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await request
            assert service.queue.admission.waiting == 0
            stopped.set()
        await service.close()

    asyncio.run(run())
