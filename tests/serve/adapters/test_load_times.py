"""A request for a pair that is not loaded waits within its time, and is told how long the load still takes, as this process measured it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from serve.adapters.load_times import LoadTimes
from tests.serve.adapters.test_eviction import ask, limits
from tests.serve.adapters.test_follower import Bench, bench  # noqa: F401
from tests.support.serving import error, running

LOAD = 2.0


@pytest.mark.parametrize("path", ["/api/v1/translate", "/api/v1/translate/stream"])
def test_who_cannot_wait_for_a_load_is_told_when_to_come_again_and_then_is_answered(bench: Bench, path: str) -> None:  # noqa: F811
    for pair in ("de-is", "en-is", "fo-is"):
        bench.publish(pair, seed=1)
    with running(bench.base, bench.registry, limits=limits(1, patience=20.0)) as service:
        service.engine.load_delay = LOAD
        began = time.monotonic()
        assert ask(service, "en-is").status_code == 200
        took = time.monotonic() - began
        assert took >= LOAD
        # The next one has half of what the last took.
        began = time.monotonic()
        body = {"source": "fo", "target": "is", "text": "a"}
        answer = service.http.post(path, json=body, headers={"X-Request-Timeout": str(LOAD / 2)})
        waited = time.monotonic() - began
        assert "still being loaded" in error(answer, 503) and LOAD / 2 - 0.2 <= waited < LOAD
        retry_after = int(answer.headers["retry-after"])
        # What is left of the measured time, in whole seconds: enough, and not a second too many.
        assert took - waited - 0.1 <= retry_after <= took - waited + 1.1
        time.sleep(retry_after)
        # The load went on without it.
        assert ask(service, "fo-is").status_code == 200 and len(service.engine.loads) == 3


def test_a_request_that_can_wait_waits(bench: Bench) -> None:  # noqa: F811
    for pair in ("de-is", "en-is"):
        bench.publish(pair, seed=1)
    with running(bench.base, bench.registry, limits=limits(1, patience=20.0)) as service:
        service.engine.load_delay = 0.5
        body = {"source": "en", "target": "is", "text": "a"}
        assert service.http.post("/api/v1/translate", json=body, headers={"X-Request-Timeout": "5"}).status_code == 200


def test_an_estimate_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("serve.adapters.load_times.time", SimpleNamespace(monotonic=lambda: now))
    times = LoadTimes()
    # Nothing is known: a load that has lasted five seconds is taken to be half done.
    assert times.retry_after("a", None) == 1 and times.retry_after("a", 95.0) == 5
    for adapter, seconds in (("a", 60.0), ("b", 20.0)):
        times.note(adapter, seconds)
    # A new adapter takes as long as the longest first load did, one that was here before as long as its last load.
    assert times.retry_after("new", None) == 60 and times.retry_after("new", 70.0) == 30
    times.note("a", 1.5)
    assert times.retry_after("a", None) == 2 and times.retry_after("b", 99.0) == 19
    assert times.retry_after("new", None) == 60
    # Longer than any before.
    assert times.retry_after("new", 0.0) == 100
    for n in range(16):
        times.note(f"quick {n}", 2.0)
    assert times.retry_after("new", None) == 2
