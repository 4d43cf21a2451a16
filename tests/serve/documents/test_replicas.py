"""Documents of several replicas as processes, behind HAProxy, over Redis and an S3 server: killed, paused, replaced, with wrong clocks, without stores."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.auth.keys import add_key
from tell.paths import cache_dir
from tell.registry.registry import Registry
from tests.serve.auth.test_quota import left
from tests.serve.test_cli import Process
from tests.serve.test_cli import start as start
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.redis_server import Redis
from tests.support.replicas import Store, balancer, free_port, s3
from tests.support.serving import publish, until

JOBS = "/api/v1/jobs"
QUOTA = 500_000
# What a client may be told while a replica dies, or Redis is away: it asks again.
AGAIN = (502, 503)


def text(number: int, parts: int = 2) -> str:
    return "\n\n".join(f"Skjal {number}, hluti {i}\n" * 20 for i in range(parts))


class Replicas:
    """`url` is the balancer's; a key of a client, and one of another client."""

    def __init__(self, run: Callable[..., Process], folder: Path, registry: str, redis: Redis, id: str, key: str, other: str):
        self.run, self.redis, self.mark = run, redis, f"<{id[:8]}>"
        self.arguments = ("--registry", registry, "--quota-storage", redis.uri, "--grace", "1.5", "--drain", "12")
        self.folder, self.key, self.other = folder, key, other
        self.ports = [free_port(), free_port()]
        self.processes: list[Process] = []
        self.url = ""
        self.http = httpx.Client(timeout=60, trust_env=False)

    def begin(self, number: int, **env: str) -> Process:
        process = self.run("--port", str(self.ports[number]), *self.arguments, **{"FAKE_DELAY": "0.15", **env})
        self.processes.append(process)
        return process

    def ask(self, method: str, path: str, url: str = "", key: str = "", **more: Any) -> httpx.Response:
        headers = {"X-API-Key": key or self.key}
        return self.http.request(method, f"{url or self.url}{path}", headers=headers, **more)

    def post(self, content: str, url: str = "") -> httpx.Response:
        return self.ask("POST", JOBS, url, files={"file": ("a.txt", content.encode())}, data={"source": "is", "target": "en"})

    def posted(self, content: str, url: str = "") -> str:
        answer = until(lambda: (a := self.post(content, url)).status_code not in AGAIN and a, 20)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def status(self, id: str) -> dict[str, Any]:
        def answered() -> httpx.Response | None:
            try:
                answer = self.ask("GET", f"{JOBS}/{id}")
            except httpx.TransportError:
                # HAProxy closes a connection whose replica has just died.
                return None
            assert answer.status_code in (200, *AGAIN), (answer.status_code, answer.text)
            return answer if answer.status_code == 200 else None

        return dict(until(answered, 20).json())

    def ended(self, ids: list[str], seconds: float = 40) -> list[dict[str, Any]]:
        """All of them, polled in turn."""
        end, left_over, done = time.monotonic() + seconds, list(ids), {}
        while left_over:
            for id in list(left_over):
                if (status := self.status(id))["state"] in ("done", "failed"):
                    done[id] = status
                    left_over.remove(id)
            assert time.monotonic() < end, [self.status(id) for id in left_over]
            time.sleep(0.05)
        return [done[id] for id in ids]

    def check(self, ids: list[str], texts: list[str], seconds: float = 40) -> None:
        """They are done, and any replica hands them out; what was charged for them is their characters."""
        for id, status, content in zip(ids, self.ended(ids, seconds), texts, strict=True):
            assert status["state"] == "done", status
            answer = self.ask("GET", f"{JOBS}/{id}/result")
            assert answer.status_code == 200 and answer.text.replace(self.mark, "") == content, answer.text[:200]

    def left(self) -> int:
        return left(self.ask("GET", "/api/v1/adapters"), "characters")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, str]]:
    with s3(monkeypatch) as made:
        yield made


@pytest.fixture
def replicas(store: tuple[Store, str], tmp_path: Path, start: Callable[..., Process]) -> Iterator[Replicas]:
    redis = Redis(tmp_path)
    try:
        registry = Registry(store[1])
        id = publish(registry, light_adapter(tmp_path / "is-en", light_base(cache_dir()), "is-en"))
        key, other = add_key("a", ["translate"], characters_per_day=QUOTA)[1], add_key("b", ["translate"])[1]
        made = Replicas(start, tmp_path, store[1], redis, id, key, other)
        with balancer(tmp_path, made.ports) as made.url:
            yield made
            for process in made.processes:
                if process.process.poll() is None:
                    assert process.end(signal.SIGTERM) == 0, process.err
            made.http.close()
    finally:
        redis.stop()


@pytest.fixture
def two(replicas: Replicas) -> tuple[Process, Process]:
    first, second = replicas.begin(0), replicas.begin(1)
    assert first.url and second.url
    # The balancer has seen both.
    time.sleep(0.6)
    return first, second


@pytest.mark.slow
def test_in_turn_and_after_one_is_killed(replicas: Replicas, two: tuple[Process, Process]) -> None:
    texts = [text(n) for n in range(20)]
    ids = [replicas.posted(t) for t in texts]
    assert {replicas.ask("GET", f"{JOBS}/{id}", key=replicas.other).status_code for id in ids for _ in range(2)} == {404}
    replicas.check(ids, texts)
    assert replicas.left() == QUOTA - sum(map(len, texts))
    for id in ids:
        assert replicas.ask("DELETE", f"{JOBS}/{id}").status_code == 204
    # Long enough that each replica has two of them under way.
    texts = [text(n, 30) for n in range(20, 24)]
    ids = [replicas.posted(t) for t in texts]
    until(lambda: all(replicas.status(id)["progress"]["done"] for id in ids), 20)
    two[0].process.kill()
    began = time.monotonic()
    replicas.check(ids, texts, 30)
    assert "going on with a document that another replica began" in two[1].err
    print(f"done {time.monotonic() - began:.1f} s after a replica was killed")


@pytest.mark.long
def test_an_update_loses_nothing(replicas: Replicas, two: tuple[Process, Process]) -> None:
    """One replica after the other is replaced, while documents come and are translated."""
    before, texts, ids = replicas.left(), list[str](), list[str]()

    def more(count: int) -> None:
        for _ in range(count):
            texts.append(text(len(texts), 20))
            ids.append(replicas.posted(texts[-1]))

    more(6)
    for number, old in enumerate(two):
        old.process.send_signal(signal.SIGTERM)
        more(3)
        assert old.end() == 0
        assert replicas.begin(number).url
        more(2)
    replicas.check(ids, texts)
    assert replicas.left() == before - sum(map(len, texts))


@pytest.mark.long
def test_a_replica_that_is_paused_does_not_overwrite(replicas: Replicas, two: tuple[Process, Process]) -> None:
    texts = [text(n, 40) for n in range(2)]
    ids = [replicas.posted(t, f"http://127.0.0.1:{replicas.ports[0]}") for t in texts]
    until(lambda: all(replicas.status(id)["progress"]["done"] for id in ids), 20)
    two[0].process.send_signal(signal.SIGSTOP)
    try:
        second = f"http://127.0.0.1:{replicas.ports[1]}"
        until(lambda: all(replicas.ask("GET", f"{JOBS}/{id}", second).json()["state"] == "done" for id in ids), 30)
        results = [replicas.ask("GET", f"{JOBS}/{id}/result", second).content for id in ids]
    finally:
        two[0].process.send_signal(signal.SIGCONT)
    time.sleep(8)
    replicas.check(ids, texts)
    assert [replicas.ask("GET", f"{JOBS}/{id}/result").content for id in ids] == results
    assert replicas.left() == QUOTA - sum(map(len, texts))


@pytest.mark.long
def test_redis_that_goes_away_and_comes_back(replicas: Replicas, two: tuple[Process, Process]) -> None:
    texts = [text(n, 40) for n in range(4)]
    ids = [replicas.posted(t) for t in texts]
    until(lambda: any(replicas.status(id)["progress"]["done"] for id in ids), 20)
    replicas.redis.stop()
    until(lambda: replicas.post("a\n").status_code == 503)
    for answer in (replicas.post("a\n"), replicas.ask("GET", f"{JOBS}/{ids[0]}")):
        assert answer.status_code == 503 and answer.headers["retry-after"], answer.text
    time.sleep(12)
    replicas.redis.start()
    replicas.check(ids, texts)
    assert "geheim" not in two[0].err + two[1].err


@pytest.mark.long
def test_clocks_of_which_one_is_ten_minutes_ahead(replicas: Replicas) -> None:
    first, second = replicas.begin(0, FAKE_CLOCK="600"), replicas.begin(1)
    assert first.url and second.url
    time.sleep(0.6)
    texts = [text(n, 40) for n in range(4)]
    ids = [replicas.posted(t) for t in texts]
    created = [abs(time.time() - _seconds(replicas.status(id)["created"])) for id in ids for _ in range(2)]
    assert max(created) < 60
    until(lambda: all(replicas.status(id)["progress"]["done"] for id in ids), 20)
    seconds = [s for id in ids for _ in range(2) if (s := replicas.status(id)["progress"]["seconds"]) is not None]
    assert seconds and max(seconds) < 120, seconds
    assert "going on with" not in first.err + second.err
    first.process.kill()
    replicas.check(ids, texts)


def _seconds(date: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(date).timestamp()


@pytest.mark.long
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (507, "XMinioStorageFull")])
def test_a_store_that_refuses(replicas: Replicas, store: tuple[Store, str], two: tuple[Process, Process], status: int, code: str) -> None:
    id = replicas.posted(text(0, 30))
    store[0].refuse(status, code)
    answer = replicas.post("a\n")
    assert answer.status_code == 503 and answer.headers["retry-after"] and "the store of documents" in answer.json()["error"], answer.text
    [failed] = replicas.ended([id], 60)
    assert failed["state"] == "failed" and failed["error"] == "the store of documents does not answer, or takes nothing"
    store[0].keep()
    assert code in two[0].err + two[1].err and "secretword" not in two[0].err + two[1].err
    content = text(1)
    replicas.check([replicas.posted(content)], [content])


@pytest.mark.long
def test_a_store_that_is_slow(replicas: Replicas, store: tuple[Store, str], two: tuple[Process, Process]) -> None:
    store[0].delay = 4.0
    content = text(0)
    replicas.check([replicas.posted(content)], [content])
    # Too slow.
    store[0].delay = 30.0
    began = time.monotonic()
    assert replicas.post("a\n").status_code == 503 and 10 < time.monotonic() - began < 25
    store[0].keep()
    replicas.check([replicas.posted(content)], [content])
