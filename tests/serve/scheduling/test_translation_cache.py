"""Equal segments: decoded once while in flight, answered from the cache after, and never by another version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.config import Limits
from serve.scheduling.translation_cache import ENTRY, TranslationCache
from tell.errors import EngineError
from tell.registry.registry import Registry
from tell.text.hypothesis import Hypothesis
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Published, Running, error, publish, running, until
from tests.support.slow_engine import SlowEngine

pytest_plugins = ["tests.support.serving_fixtures"]


@pytest.fixture
def fresh(published: Published) -> Iterator[Running]:
    """A service with an empty cache, over an engine that notes what it is asked."""
    with running(published.base, published.registry, SlowEngine) as service:
        service.engine.given.clear()
        yield service


def translate(service: Running, text: Any, seconds: float = 10, **more: Any) -> httpx.Response:
    body = {"source": "is", "target": "en", "text": text, **more}
    return httpx.post(service.url + "/api/v1/translate", json=body, timeout=seconds, trust_env=False)


def at_once(*work: Callable[[], Any]) -> list[Future[Any]]:
    """The calls, begun in this order in threads of their own."""
    pool = ThreadPoolExecutor(len(work))
    answers = [pool.submit(w) for w in work]
    pool.shutdown(wait=False)
    return answers


def waiting(service: Running, segments: int) -> None:
    until(lambda: service.metric("tellmt_segments_waiting") == segments)


def test_a_segment_is_decoded_once_and_then_answered_from_the_cache(fresh: Running, mark: str) -> None:
    assert fresh.texts(["a", "b\na\n  a"]) == [f"{mark}a", f"{mark}b\n{mark}a\n  {mark}a"]
    assert fresh.engine.sources() == ["a", "b"]
    assert fresh.texts("b\nc") == [f"{mark}b\n{mark}c"]
    assert fresh.engine.sources() == ["a", "b", "c"]
    assert fresh.metric("tellmt_cache_hits_total") == 1
    assert fresh.metric("tellmt_shared_segments_total") == 2
    assert fresh.metric("tellmt_cache_bytes") > 0


def test_a_cut_translation_is_kept_with_its_mark(fresh: Running) -> None:
    for _ in range(2):
        assert [t["truncated"] for t in fresh.translate(["endless", "fine"]).json()["translations"]] == [True, False]
    # Tried again with other settings, once.
    assert fresh.engine.sources() == ["endless", "fine", "endless"]


def test_equal_segments_in_flight_share_a_decode(fresh: Running, mark: str) -> None:
    fresh.engine.delay = 0.5
    answers = at_once(*[lambda: translate(fresh, "the same")] * 8)
    assert [a.result().json()["translations"][0]["text"] for a in answers] == [f"{mark}the same"] * 8
    assert fresh.engine.sources() == ["the same"]
    assert fresh.metric("tellmt_shared_segments_total") == 7


def test_the_engines_failure_reaches_all_that_wait_and_is_not_kept(fresh: Running, mark: str) -> None:
    fresh.engine.delay, fresh.engine.failure = 0.3, EngineError("the engine is starting again")
    for answer in at_once(*[lambda: translate(fresh, "the same")] * 3):
        assert error(answer.result(), 503) == "the engine is starting again"
    assert fresh.engine.sources() == ["the same"]
    fresh.engine.failure = None
    assert fresh.texts("the same") == [f"{mark}the same"]


def test_a_shared_decode_is_stopped_when_the_last_one_has_left(fresh: Running, mark: str) -> None:
    fresh.engine.delay = 1.0
    first, second = at_once(lambda: translate(fresh, "the same", 0.3), lambda: translate(fresh, "the same"))
    with pytest.raises(httpx.ReadTimeout):
        first.result()
    assert second.result().json()["translations"][0]["text"] == f"{mark}the same"
    assert fresh.engine.cancelled == 0
    fresh.engine.delay = 30
    for answer in at_once(*[lambda: translate(fresh, "other", 0.3)] * 2):
        with pytest.raises(httpx.ReadTimeout):
            answer.result()
    until(lambda: fresh.engine.cancelled == 1)
    assert fresh.engine.sources() == ["the same", "other"]
    waiting(fresh, 0)


def test_a_sentence_that_a_long_document_holds_too_does_not_wait_for_its_turn(published: Published) -> None:
    with running(published.base, published.registry, lambda options: SlowEngine(options, places=2), Limits(context=2048, batch=2)) as service:
        service.engine.delay = 0.05
        (document,) = at_once(lambda: translate(service, [f"line {i}" for i in range(60)], 30))
        waiting(service, 60)
        assert translate(service, "line 59").status_code == 200
        assert not document.done() and service.metric("tellmt_segments_waiting") > 20
        document.result()
        assert sorted(service.engine.sources().count(f"line {i}") for i in range(60)) == [1] * 60


@pytest.mark.parametrize("wish", [{"json": {"cache": False}}, {"headers": {"Cache-Control": "max-age=0, no-store"}}])
def test_a_request_can_leave_the_cache_out(fresh: Running, wish: dict[str, Any]) -> None:
    def plain(text: str, **more: Any) -> None:
        body = {"source": "is", "target": "en", "text": text, **more.get("json", {})}
        assert fresh.http.post("/api/v1/translate", json=body, headers=more.get("headers", {})).status_code == 200

    plain("kept")
    plain("kept", **wish)
    plain("not kept", **wish)
    plain("not kept")
    assert fresh.engine.sources() == ["kept", "kept", "not kept", "not kept"]
    assert fresh.metric("tellmt_cache_hits_total") == 0


def test_without_a_cache_every_request_is_decoded(published: Published) -> None:
    with running(published.base, published.registry, SlowEngine, Limits(context=2048, cache=0)) as service:
        for _ in range(2):
            assert service.texts("a")
        assert service.engine.sources()[-2:] == ["a", "a"]


def test_the_cache_is_bounded_and_counts_what_it_gives_up(published: Published) -> None:
    limit = 20 * (ENTRY + 200)
    with running(published.base, published.registry, SlowEngine, Limits(context=2048, cache=limit)) as service:
        service.texts([f"text {i}" for i in range(100)])
        assert 0 < service.metric("tellmt_cache_bytes") <= limit
        assert service.metric("tellmt_cache_evictions_total") == 100 - len(service.service.queue.cache) > 50
        service.engine.given.clear()
        service.texts(["text 99", "text 0"])
        assert service.engine.sources() == ["text 0"]


def test_another_version_never_answers_from_the_cache_and_an_unloaded_one_leaves_nothing(tmp_path: Path) -> None:
    base, registry = light_base(tmp_path / "cache"), Registry(tmp_path / "registry")
    ids = [publish(registry, light_adapter(tmp_path / "0", base, "is-en", seed=100))]
    with running(base, registry) as service:
        for n in range(1, 4):
            assert service.texts(["a", f"b{n}"]) == [f"<{ids[-1][:8]}>a", f"<{ids[-1][:8]}>b{n}"]
            ids.append(publish(registry, light_adapter(tmp_path / str(n), base, "is-en", seed=100 + n)))
            until(lambda: service.status()["adapter"] == ids[-1])
        until(lambda: ids[0] in service.engine.unloads)
        assert service.texts("a") == [f"<{ids[-1][:8]}>a"]
        cache = service.service.queue.cache
        until(lambda: not any(cache.has(id, "a") for id in service.engine.unloads))
        assert cache.has(ids[-1], "a")


# The cache by itself.

OPERATIONS = st.lists(st.tuples(st.sampled_from(["get", "put", "forget"]), st.sampled_from(["v", "w"]), st.integers(0, 6)), max_size=80)


@given(OPERATIONS, st.integers(0, 12))
def test_the_least_recently_used_goes_first_over_all_versions(operations: list[tuple[str, str, int]], room: int) -> None:
    """Compared with a plain list of entries of one size."""

    def entry(version: str, n: int) -> Hypothesis:
        return Hypothesis(f"{version}{n}", n, False)

    size = TranslationCache(1 << 20)
    size.put("v", "0", entry("v", 0))
    cache = TranslationCache(room * size.size)
    keys: list[tuple[str, str]] = []
    for what, version, n in operations:
        key = (version, str(n))
        if what == "forget":
            cache.forget(version)
            keys = [k for k in keys if k[0] != version]
            continue
        translation = cache.get(*key)
        assert (translation == entry(version, n)) if key in keys else translation is None
        if key in keys:
            keys.remove(key)
            keys.append(key)
        if what == "put" and room >= 8:
            cache.put(*key, entry(version, n))
            keys = [k for k in keys if k != key] + [key]
            keys = keys[-room:]
    assert cache.size == len(keys) * size.size and len(cache) == len(keys)


def test_an_entry_that_would_put_out_the_others_is_not_kept() -> None:
    cache = TranslationCache(10_000)
    cache.put("v", "a", Hypothesis("x" * 5000, 1, False))
    assert len(cache) == 0


def test_the_bound_holds_in_memory() -> None:
    """What Python really takes for the entries stays below what is counted."""
    import tracemalloc

    cache = TranslationCache(4 << 20)
    tracemalloc.start()
    try:
        for i in range(20_000):
            cache.put("v", f"segment {i}", Hypothesis(f"translation {i}", 300 + i, False))
        assert cache.evictions > 1000
        assert tracemalloc.get_traced_memory()[0] <= 1.1 * cache.limit
    finally:
        tracemalloc.stop()
