"""Quotas of keys: requests a minute and characters a day, what is told of them, and that what is refused costs nothing."""

from __future__ import annotations

import functools
import re
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import limits.aio.storage.memory
import limits.aio.strategies
import limits.storage.base
import pytest

from serve.auth.keys import add_key
from serve.auth.quota import Quota, wait, with_port
from serve.config import Limits
from tell.errors import EngineError
from tell.registry.registry import Registry
from tests.conftest import Ran
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Published, Running, error, publish, running, until

# Noon, and the beginning of a minute, of some day: windows begin at whole minutes and days.
NOON = 1_800_014_400.0 // 86400 * 86400 + 43_200


class Clock:
    """What `limits` takes for the time."""

    def __init__(self) -> None:
        self.now = NOON

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    module = types.SimpleNamespace(time=fake.time)
    for user in (limits.aio.storage.memory, limits.aio.strategies):
        monkeypatch.setattr(user, "time", module)
    return fake


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("quota")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    return Published(base, registry, {"is-en": publish(registry, light_adapter(root / "a", base, "is-en"))})


@pytest.fixture
def service(published: Published, clock: Clock) -> Iterator[Running]:
    add_key("first", ["translate"])
    with running(published.base, published.registry) as server:
        yield server


def ask(service: Running, key: str, text: Any = "a", path: str = "/api/v1/translate") -> httpx.Response:
    body = {"source": "is", "target": "en", "text": text, "q": text, "api_key": key}
    if path != "/translate":
        return service.http.post(path, json={k: body[k] for k in ("source", "target", "text")}, headers={"X-API-Key": key})
    return service.http.post(path, json=body)


def left(answer: httpx.Response, kind: str) -> int:
    match = re.search(rf'"{kind}";r=(\d+);t=\d+', answer.headers["ratelimit"])
    assert match, answer.headers
    return int(match[1])


def test_requests_a_minute(service: Running, clock: Clock) -> None:
    key, other = (add_key(name, ["translate"], requests_per_minute=3)[1] for name in ("a", "b"))
    free = add_key("free", ["translate"])[1]
    assert [left(ask(service, key), "requests") for _ in range(3)] == [2, 1, 0]
    for path in ("/api/v1/translate", "/translate", "/api/v1/translate/stream", "/made-up"):
        refused = ask(service, key, path=path)
        assert error(refused, 429) == "the quota of requests is used up; valid: 3 a minute"
        assert refused.headers["ratelimit-policy"] == '"requests";q=3;w=60'
        assert left(refused, "requests") == 0
        assert 1 <= int(refused.headers["retry-after"]) <= 120
    # A key's quota is its own, and one without quotas hears nothing of them.
    assert ask(service, other).status_code == 200
    assert "ratelimit" not in ask(service, free).headers
    clock.now += int(ask(service, key).headers["retry-after"]) - 2
    assert ask(service, key).status_code == 429
    clock.now += 2
    assert ask(service, key).status_code == 200
    # Not twice the quota around a minute's end.
    assert ask(service, key).status_code == 429


def test_characters_a_day(service: Running, clock: Clock) -> None:
    key = add_key("a", ["translate"], characters_per_day=100)[1]
    calls = len(service.engine.calls)
    assert left(ask(service, key, "þ" * 40), "characters") == 60
    assert left(ask(service, key, ["🙂" * 10, "", "a" * 20], "/translate"), "characters") == 30
    calls = len(service.engine.calls)
    refused = ask(service, key, "a" * 31)
    assert error(refused, 429) == "the quota of characters is used up; valid: 100 a day"
    # Nothing was done for it, and it cost nothing: what is left can still be had.
    assert len(service.engine.calls) == calls and left(refused, "characters") == 30
    again = int(refused.headers["retry-after"])
    assert 43_200 < again <= 2 * 86_400
    assert left(ask(service, key, "a" * 30), "characters") == 0
    assert ask(service, key).status_code == 429
    # A file is not even read: this one is none.
    file = {"file": ("a.docx", b"no zip archive")}
    post = functools.partial(service.http.post, "/api/v1/jobs", data={"source": "is", "target": "en"}, files=file, headers={"X-API-Key": key})
    assert error(post(), 429) == "the quota of characters is used up; valid: 100 a day"
    # More than it ever holds is no matter of waiting.
    assert "more characters than the quota of this key; found 101; valid: at most 100 a day" in error(ask(service, key, "a" * 101), 413)
    clock.now += 2 * 86_400
    assert ask(service, key, "a" * 100).status_code == 200


@pytest.mark.parametrize(
    ("before", "now", "cost"),
    [(0, 100, 1), (0, 60, 60), (100, 0, 1), (100, 0, 100), (50, 50, 30), (80, 30, 90), (0, 100, 100), (100, 100, 50), (4, 98, 1), (100, 99, 2)],
)
def test_what_is_told_to_wait_is_enough_and_not_much_more(before: int, now: int, cost: int, clock: Clock) -> None:
    """In the middle of a minute: `before` were used in the minute before, `now` in this one."""
    import asyncio

    from serve.auth.keys import Caller

    async def fits(seconds: float) -> bool:
        clock.now = NOON
        caller, quota = Caller("a", "a", frozenset(), requests_per_minute=100), Quota()
        if before:
            await quota.take(caller, "requests", before)
        clock.now += 90.0
        # Set rather than taken: together they may be more than the quota lets through at this moment.
        item = quota._items["requests"](100)
        if now:
            await quota._windows.storage.incr(quota._windows.storage.sliding_window_keys(item.key_for("a", "requests"), 60, clock.now)[1], 120, now)
        clock.now += seconds
        return await quota._windows.test(item, "a", "requests", cost=cost)

    seconds = wait(100, 60, cost, before, now, 30.0)
    assert asyncio.run(fits(seconds + 0.01))
    assert seconds <= 1 or not asyncio.run(fits(seconds - 2.5)), seconds


def test_a_request_that_is_refused_for_another_reason_costs_nothing(published: Published, clock: Clock) -> None:
    key = add_key("a", ["translate"], requests_per_minute=10, characters_per_day=100)[1]
    with running(published.base, published.registry, limits=Limits(context=2048, waiting=4)) as service:
        assert left(ask(service, key), "requests") == 9
        service.engine.failure = EngineError("the engine has died")
        for n in range(5):
            refused = ask(service, key, f"b{n}")
            assert refused.status_code == 503
            assert (left(refused, "requests"), left(refused, "characters")) == (9, 99)
        service.engine.failure = None
        # More of this key is waiting than its share of the queue, or the queue is full.
        service.engine.delay = 0.5
        done: list[httpx.Response] = []
        first = threading.Thread(target=lambda: done.append(ask(service, key, "c1")))
        first.start()
        until(lambda: service.metric("tellmt_segments_waiting") >= 1)
        refused = ask(service, key, ["d1", "d2"])
        assert refused.status_code in (429, 503), refused.text
        assert (left(refused, "requests"), left(refused, "characters")) == (8, 97)
        first.join()
        assert done[0].status_code == 200
        # A request that is wrong is a request all the same.
        service.engine.delay = 0.0
        assert left(ask(service, key, ""), "requests") == 7


def test_many_at_once_get_no_more_than_the_quota(service: Running) -> None:
    key = add_key("a", ["translate"], requests_per_minute=7, characters_per_day=1000)[1]
    codes: list[int] = []
    threads = [threading.Thread(target=lambda n=n: codes.append(ask(service, key, f"a{n}").status_code)) for n in range(24)]  # type: ignore[misc]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(codes) == [200] * 7 + [429] * 17


def test_an_address_of_redis_needs_no_port() -> None:
    assert with_port("redis://quotas") == "redis://quotas:6379" and with_port("rediss://a:b@host/1") == "rediss://a:b@host:6379/1"
    for uri in ("memory://", "redis://h:7", "redis://[::1]:7/2", "async+redis://h:7", "redis+unix:///run/redis"):
        assert with_port(uri) == uri
    pytest.importorskip("coredis", reason="limits[async-redis] is not installed")
    Quota("redis://quotas")


def test_a_storage_that_is_none_or_away(published: Published, cli: Callable[..., Ran], capfd: pytest.CaptureFixture[str]) -> None:
    ran = cli("serve", "--port", "0", "--engine", "ct2", "--quota-storage", "tape://operator:geheim@host", ok=False)
    message = "tellmt: --quota-storage: no storage for quotas; found tape://… (ConfigurationError); valid: memory:// or redis://HOST\n"
    assert (ran.code, ran.err) == (1, message)

    class Away(Quota):
        away = False

        async def take(self, *args: Any) -> None:
            if self.away:

                async def hit(*_: Any, **__: Any) -> bool:
                    raise ConnectionError("redis://operator:geheim@host")

                self._windows.hit = hit
            await super().take(*args)

    quota = Away()
    limited, free = add_key("a", ["translate"], requests_per_minute=5)[1], add_key("b", ["translate"])[1]
    with running(published.base, published.registry, quota=quota) as service:
        assert ask(service, limited).status_code == 200
        quota.away = True
        answer = ask(service, limited)
        # A quota that cannot be counted is not waived; who has none goes on.
        assert error(answer, 503) == "quotas cannot be counted at the moment" and answer.headers["retry-after"]
        assert ask(service, free).status_code == 200
    err = capfd.readouterr().err
    assert "the storage of quotas does not answer: ConnectionError" in err and "geheim" not in err


def test_the_cache_is_off_for_a_key_that_says_so(published: Published, cli: Callable[..., Ran], tmp_path: Path) -> None:
    key = cli("keys", "add", "private", "--no-cache").out.strip()
    other = cli("keys", "add", "open").out.strip()
    with running(published.base, published.registry) as service:

        def asked(key: str) -> int:
            before = sum(n for id, n in service.engine.calls if id)
            assert ask(service, key, "a text like no other").status_code == 200
            return sum(n for id, n in service.engine.calls if id) - before

        assert [asked(key), asked(key), asked(other), asked(other), asked(key)] == [1, 1, 1, 0, 1]
