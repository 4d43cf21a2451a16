"""Quotas that replicas share through a real Redis: counted together, given back, and neither waived nor lost when it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.auth.keys import add_key
from serve.auth.quota import Quota
from tell.errors import EngineError
from tests.serve.auth.test_quota import ask, left
from tests.serve.auth.test_quota import published as published
from tests.support.redis_server import Redis
from tests.support.serving import Published, error, running, until


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.stop()


def test_replicas_count_together(published: Published, redis: Redis) -> None:
    key, other = (add_key(name, ["translate"], requests_per_minute=6, characters_per_day=100)[1] for name in ("a", "b"))
    with (
        running(published.base, published.registry, quota=Quota(redis.uri)) as first,
        running(published.base, published.registry, quota=Quota(redis.uri)) as second,
    ):
        # On a Redis that has just started the library sends its script first, and may then count one request of a burst twice.
        assert ask(first, other, "abc").status_code == ask(second, other, "abc").status_code == 200
        answers: list[httpx.Response] = []
        asking = [threading.Thread(target=lambda n=n: answers.append(ask((first, second)[n % 2], key, f"ab{n}"))) for n in range(16)]  # type: ignore[misc]
        for t in asking:
            t.start()
        for t in asking:
            t.join()
        assert sorted(a.status_code for a in answers) == [200] * 6 + [429] * 10, [(a.status_code, a.text, a.headers["ratelimit"]) for a in answers]
        refused = ask(second, key, "ab")
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 120
        # The six that were answered cost characters, the refused ones none.
        assert 100 - 6 * 4 <= left(refused, "characters") <= 100 - 6 * 3
        assert left(ask(first, other, "abc"), "characters") == 91 and left(ask(second, other, "abc"), "characters") == 88


def test_what_failed_is_given_back_to_all(published: Published, redis: Redis) -> None:
    key = add_key("a", ["translate"], characters_per_day=10)[1]
    with (
        running(published.base, published.registry, quota=Quota(redis.uri)) as first,
        running(published.base, published.registry, quota=Quota(redis.uri)) as second,
    ):
        first.engine.failure = EngineError("the engine has ended")
        assert ask(first, key, "abcdefgh").status_code == 503
        assert left(ask(second, key, "abcdefgh"), "characters") == 2
        assert ask(first, key, "abc").status_code == 429


@pytest.mark.clock
def test_redis_away_and_back(published: Published, redis: Redis, capfd: pytest.CaptureFixture[str]) -> None:
    key, free = add_key("a", ["translate"], requests_per_minute=5)[1], add_key("b", ["translate"])[1]
    with running(published.base, published.registry, quota=Quota(redis.uri)) as service:
        assert left(ask(service, key), "requests") == 4
        redis.stop()
        began = time.monotonic()
        answer = ask(service, key)
        assert error(answer, 503) == "quotas cannot be counted at the moment" and answer.headers["retry-after"]
        assert time.monotonic() - began < 10
        assert ask(service, free).status_code == 200
        redis.start()
        answer = until(lambda: (a := ask(service, key)).status_code == 200 and a)
        assert left(answer, "requests") == 3
    err = capfd.readouterr().err
    assert "the storage of quotas does not answer" in err and "the storage of quotas answers again" in err and "geheim" not in err
