"""A running service for tests: the real HTTP server on a free port, in a thread of its own, over an engine a test gives it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from serve.adapters.agreement import Agreement
from serve.adapters.follower import Follower
from serve.api.handler import state_of
from serve.app import create_app
from serve.cli import bind, url_of
from serve.config import Limits, LogConfig
from serve.documents.jobs import Jobs
from serve.logs import set_up
from serve.server import make_server
from serve.translation.service import Service
from tell.adapter.card import Adapter
from tell.adapter.shipped import Shipped
from tell.model.base import Base
from tell.model.engine import Engine, EngineOptions
from tell.registry.registry import Registry
from tests.support.fake_engine import FakeEngine


class Running:
    """`http` talks to the service; `engine` is the fake (or real) engine behind it."""

    def __init__(self, service: Service, follower: Follower, url: str, loop: asyncio.AbstractEventLoop):
        self.service, self.follower, self.url, self.loop = service, follower, url, loop
        self.engine: Any = service.engine
        self.jobs: Any = None
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the service's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def translate(self, text: Any, source: str = "is", target: str = "en") -> httpx.Response:
        return self.http.post("/api/v1/translate", json={"source": source, "target": target, "text": text})

    def texts(self, text: Any, **more: str) -> list[str]:
        answer = self.translate(text, **more)
        assert answer.status_code == 200, answer.text
        return [t["text"] for t in answer.json()["translations"]]

    def status(self, pair: str = "is-en") -> dict[str, Any]:
        pairs = [p for p in self.http.get("/api/v1/adapters").json()["pairs"] if p["pair"] == pair]
        return dict(pairs[0]) if pairs else {}

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


class Published(NamedTuple):
    """A base, a registry with adapters that are live on it, and their ids by pair, or by version where a pair has several."""

    base: Base
    registry: Registry
    ids: dict[str, str]


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of `condition`; fails when there is none in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)
    return value


@contextmanager
def running(
    base: Base,
    registry: Registry,
    engine: Callable[[EngineOptions], Engine] = FakeEngine,
    limits: Limits | None = None,
    shipped: dict[str, Shipped] | None = None,
    protocol: type[Any] | None = None,
    documents: Callable[[Service], Jobs] | None = None,
    agreement: Agreement | None = None,
    **access: Any,
) -> Iterator[Running]:
    """`protocol`: that of `serve.server.make_server`; `documents` makes what has the service's documents; `access`: keys, quotas and so on
    of `serve.app.create_app`."""
    set_up(LogConfig())
    limits = limits or Limits(context=min(4096, base.context))
    service = Service(engine(EngineOptions(base=base, max_adapters=limits.adapters, max_rank=limits.rank, max_context=limits.context)), limits)
    follower = Follower(service.versions, registry, interval=0.02, shipped=shipped, agreement=agreement)
    sock = bind("127.0.0.1", 0)
    if documents is not None:
        access["jobs"] = documents(service)
    server = make_server(create_app(service, follower, **access), service, protocol)
    up = threading.Event()
    problems: list[BaseException] = []
    loop = asyncio.new_event_loop()

    async def main() -> None:
        serving, state = asyncio.create_task(server.serve(sockets=[sock])), state_of(server.config.app)
        following = None
        try:
            await service.start()
            await follower.look()
            following = asyncio.gather(follower.run(), state.monitor.run(), state.jobs.run())
            up.set()
            await serving
        finally:
            if following:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            await follower.close()
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)
            state.jobs.workers.close()
            await service.close()
            if documents is not None:
                # As at the end of `asyncio.run`.
                rest = asyncio.all_tasks() - {asyncio.current_task()}
                for task in rest:
                    task.cancel()
                await asyncio.gather(*rest, return_exceptions=True)

    def thread() -> None:
        try:
            loop.run_until_complete(main())
        except BaseException as e:
            problems.append(e)
        finally:
            up.set()

    url = url_of(sock)
    worker = threading.Thread(target=thread)
    worker.start()
    up.wait()
    try:
        assert not problems, problems
        running_service = Running(service, follower, url, loop)
        running_service.jobs = state_of(server.config.app).jobs
        with running_service.http:
            yield running_service
    finally:
        server.should_exit = True
        worker.join()
        loop.close()
    assert not problems, problems


def publish(registry: Registry, adapter: Adapter, why: str = "test") -> str:
    id = registry.add(adapter.path, adapter.card)
    registry.promote(adapter.card.pair, id, why)
    return id


def error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert isinstance(body["error"], str) and body["error"]
    return str(body["error"])
