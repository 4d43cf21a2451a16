"""Too much at once: what is refused and with what advice, whose turn it is, whose time is over, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from serve.auth.keys import add_key
from serve.config import Limits
from serve.scheduling.admission import Admission, Throughput
from serve.scheduling.batch_window import STAY, BatchWindow, adapters_to_pause, batch_window
from tell.errors import EngineError, Overloaded, OverShare, TooLarge
from tell.model.engine import engine_traits
from tests.support.serving import Published, Running, error, running, until
from tests.support.slow_engine import BatchEngine, SlowEngine

pytest_plugins = ["tests.support.serving_fixtures"]


def begin(*work: Callable[[], Any]) -> list[Any]:
    pool = ThreadPoolExecutor(len(work))
    answers = [pool.submit(w) for w in work]
    pool.shutdown(wait=False)
    return answers


def ask(service: Running, text: Any, pair: str = "is-en", key: str = "", **headers: str) -> httpx.Response:
    source, target = pair.split("-")
    all_headers = {**headers, **({"X-API-Key": key} if key else {})}
    body = {"source": source, "target": target, "text": text}
    return httpx.post(service.url + "/api/v1/translate", json=body, headers=all_headers, timeout=30, trust_env=False)


def waiting(service: Running) -> float:
    return service.metric("tellmt_segments_waiting")


def at_rest(service: Running) -> bool:
    queue = service.service.queue
    return (
        (queue.admission.waiting, len(queue._waiting), len(queue._requests), len(queue._decodes)) == (0,) * 4
        and (queue._running.total(), queue._given_tokens.total()) == (0, 0)
        and not queue.admission._waiting_by_caller
        and not any(queue._waiting_by_pair.values())
        and all(v.in_flight == 0 for v in service.service.versions.live.values())
        and service.engine.running.total() == 0
    )


# Too much


@pytest.fixture
def keys(published: Published) -> Iterator[list[str]]:
    """Two keys in the keys file, which a service started in the test reads."""
    yield [add_key(name, ["translate"])[1] for name in ("first", "second")]


def test_a_key_over_its_share_gets_429_while_others_are_let_in(published: Published, keys: list[str]) -> None:
    with running(published.base, published.registry, SlowEngine, Limits(context=2048, waiting=40, batch=4)) as service:
        service.engine.delay = 5
        first, second = keys
        assert "too many lines in one request; found 21; valid: at most 20" in error(ask(service, ["a"] * 21, key=first), 413)
        begin(lambda: ask(service, [f"a{i}" for i in range(20)], key=first, **{"X-Request-Timeout": "4"}))
        until(lambda: waiting(service) == 20)
        refused = ask(service, "more", key=first)
        assert "too much of this API key is waiting" in error(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        begin(lambda: ask(service, [f"b{i}" for i in range(10)], key=second, **{"X-Request-Timeout": "4"}))
        until(lambda: waiting(service) == 30)
        assert service.metric("tellmt_requests_refused_total", reason="share") == 1
        # A third holds nothing, and the queue has no room for so many.
        third = add_key("third", ["translate"])[1]
        until(lambda: ask(service, "", key=third).status_code == 400)
        refused = ask(service, ["c"] * 12, key=third)
        assert "too many segments are waiting" in error(refused, 503)
        assert service.metric("tellmt_requests_refused_total", reason="full") == 1
        assert service.metric("tellmt_pair_segments_waiting", pair="is-en") == 30
        until(lambda: at_rest(service))


@pytest.mark.parametrize(
    ("caller", "waits", "segments", "outcome"),
    [
        ("", {}, 100, None),
        ("", {}, 101, TooLarge),
        ("", {"": 100}, 1, Overloaded),
        ("", {"": 99}, 1, None),
        ("k", {}, 50, None),
        ("k", {}, 51, TooLarge),
        ("k", {"k": 50}, 1, OverShare),
        ("k", {"k": 49}, 1, None),
        ("k", {"j": 50}, 25, None),
        ("k", {"j": 50}, 26, Overloaded),
        ("k", {"j": 50, "k": 20}, 6, OverShare),
        # However many keys there are, one more finds a place.
        ("k", {"a": 50, "b": 25, "c": 12, "d": 6, "e": 3, "f": 2, "g": 1}, 1, None),
        ("k", {"a": 100}, 1, Overloaded),
    ],
)
def test_shares(caller: str, waits: dict[str, int], segments: int, outcome: type[Exception] | None) -> None:
    admission = Admission(100, Throughput())
    for name, n in waits.items():
        admission.take(name, n)
    if outcome is None:
        admission.check(caller, segments)
        return
    with pytest.raises(outcome) as raised:
        admission.check(caller, segments)
    assert type(raised.value) is outcome


def test_when_to_ask_again_follows_from_the_measured_rate() -> None:
    rate = Throughput()
    admission = Admission(1000, rate)

    def advised(waits: int) -> int:
        admission.take("", waits - admission.waiting)
        with pytest.raises(Overloaded) as raised:
            admission.check("", 100)
        return raised.value.retry_after

    assert advised(1000) == 2
    for _ in range(40):
        rate.observe(10, 1000, 1.0)
    assert [advised(n) for n in (901, 950, 1000)] == [1, 5, 10]
    # The engine became much slower: what was seen long ago fades.
    for _ in range(100):
        rate.observe(1, 100, 10.0)
    assert advised(1000) == 60


def test_a_request_is_refused_when_its_turn_would_come_too_late() -> None:
    rate = Throughput()
    admission = Admission(1000, rate)
    admission.check_time(1.0, 10**9, 1)
    for _ in range(40):
        rate.observe(10, 1000, 1.0)
    admission.check_time(10.0, 7000, 10)
    with pytest.raises(Overloaded, match=r"would not be done in the 10 s that the request has.* found about 21 s"):
        admission.check_time(10.0, 20_000, 600)
    # Its own length alone: told only when it is far off.
    admission.check_time(10.0, 0, 14_000)
    with pytest.raises(Overloaded):
        admission.check_time(10.0, 0, 16_000)


@pytest.mark.clock
def test_refusals_touch_neither_the_tokeniser_nor_the_engine_and_are_quick(published: Published) -> None:
    with running(published.base, published.registry, SlowEngine, Limits(context=2048, waiting=50, batch=4)) as service:
        service.engine.delay = 20
        (first,) = begin(lambda: ask(service, [f"a{i}" for i in range(50)], **{"X-Request-Timeout": "4"}))
        until(lambda: waiting(service) == 50 and service.metric("tellmt_segments_in_engine") == service.engine.running.total() == 5)
        given_before = len(service.engine.given)
        service.service.tokens.encode_batch = service.service.tokens.prompt_ids = None  # type: ignore[assignment, method-assign]
        times = []
        text = ["Setning sem er of mikið."] * 45
        for _ in range(200):
            began = time.perf_counter()
            error(service.translate(text), 503)
            times.append(time.perf_counter() - began)
        # A tenth of this was seen; the promise is 0.05 on a machine that does nothing else.
        assert sorted(times)[197] < 0.2
        assert len(service.engine.given) == given_before
        assert first.result().status_code == 504


# Turns


def order(service: Running, long: Callable[[], Any], short: Callable[[], Any], waiting_first: int) -> int:
    """How many segments the engine was given between the asking and the giving of the short request's only one, `!`."""
    (document,) = begin(long)
    until(lambda: waiting(service) >= waiting_first)
    given_before = len(service.engine.sources())
    assert short().status_code == 200
    position = service.engine.sources().index("a!")
    assert not document.done(), "the document was done before the sentence"
    assert document.result().status_code == 200
    return int(position) - given_before


LINES = [f"lína {i:03}" for i in range(300)]


@pytest.mark.clock
@pytest.mark.parametrize("case", ["cold pair", "other key", "sentence"])
def test_what_is_short_does_not_wait_for_what_is_long(published: Published, keys: list[str], case: str) -> None:
    with running(published.base, published.registry, lambda options: SlowEngine(options, places=8), Limits(context=2048, batch=8)) as service:
        service.engine.delay = 0.05
        pair, key = {"cold pair": ("fo-is", keys[0]), "other key": ("is-en", keys[1]), "sentence": ("is-en", keys[0])}[case]
        gap = order(service, lambda: ask(service, LINES, key=keys[0]), lambda: ask(service, "a!", pair, key), 200)
        # One round of the others: 256 tokens, which here are bytes, of prompts of some 30.
        assert gap <= 16, gap
        until(lambda: at_rest(service))


@pytest.mark.clock
def test_turns_are_counted_in_tokens(published: Published, keys: list[str]) -> None:
    """Two keys ask for the same number of segments, one for long ones: meanwhile the other gets more of them."""
    with running(published.base, published.registry, lambda options: SlowEngine(options, places=4), Limits(context=2048, batch=4)) as service:
        service.engine.delay = 0.02
        long, short = [f"{i:03} " + "x" * 190 for i in range(60)], [f"{i:03} s" for i in range(60)]
        answers = begin(lambda: ask(service, long, key=keys[0]), lambda: ask(service, short, key=keys[1]))
        assert all(a.result().status_code == 200 for a in answers)
        sources = service.engine.sources()
        last = max(i for i, s in enumerate(sources) if s.endswith(" s"))
        assert sum("x" in s for s in sources[:last]) < 40


@pytest.mark.clock
def test_a_batch_engine_is_given_one_batch_of_like_length_at_a_time(published: Published) -> None:
    with running(published.base, published.registry, BatchEngine, Limits(context=2048, batch=8)) as service:
        service.engine.delay = 0.1
        service.engine.given.clear()
        service.engine.answered = 0
        texts = [f"{i:02} " + "x" * (150 if i % 2 else 5) for i in range(32)]
        (document,) = begin(lambda: ask(service, texts))
        until(lambda: service.engine.answered >= 8)
        assert ask(service, "a!", "fo-is").status_code == 200
        assert document.result().status_code == 200
        sources = service.engine.sources()
        document_sources = [s for s in sources if s != "a!"]
        batches = [document_sources[i : i + 8] for i in range(0, 32, 8)]
        assert all(len({len(s) for s in batch}) == 1 for batch in batches), batches
        assert sources.index("a!") % 8 == 0 and sources.index("a!") < 32


def test_more_adapters_than_fit_in_a_batch_make_room_for_each_other() -> None:
    window = BatchWindow(8, adapters=2)
    assert adapters_to_pause(window, {"a": 10 * STAY}, 1) == set()
    assert adapters_to_pause(window, {"a": STAY, "b": 10}, 0) == set()
    assert adapters_to_pause(window, {"a": STAY, "b": 10}, 3) == {"a"}
    assert adapters_to_pause(window, {"a": STAY, "b": 2 * STAY}, 1) == {"b"}
    assert batch_window(engine_traits("vllm"), 64) == BatchWindow(80, adapters=8)
    assert batch_window(engine_traits("ct2"), 64) == BatchWindow(64, batches=True)


@pytest.mark.clock
def test_a_third_adapter_gets_a_slot_from_two_busy_ones(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.scheduling.batch_window.STAY", 500)
    with running(published.base, published.registry, lambda options: SlowEngine(options, places=8), Limits(context=2048, batch=8)) as service:
        service.service.queue.window = BatchWindow(8, adapters=2)
        service.engine.delay = 0.02
        busy = begin(*[lambda pair=pair: ask(service, LINES, pair) for pair in ("is-en", "fo-is")])  # type: ignore[misc]
        until(lambda: waiting(service) > 500)
        assert ask(service, "a!", "en-is").status_code == 200
        assert not any(b.done() for b in busy)
        assert all(b.result().status_code == 200 for b in busy)


# Time


@pytest.mark.parametrize(("body", "headers"), [({"timeout": 0.3}, {}), ({}, {"X-Request-Timeout": "0.3"}), ({"timeout": 20}, {"X-Request-Timeout": "0.3"})])
def test_a_request_whose_time_is_over_gets_504_and_its_work_stops(service: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    service.engine.delay = 30
    before, counted = service.engine.cancelled, service.metric("tellmt_requests_timed_out_total")
    texts = [f"{body}{headers}{i}" for i in range(3)]
    answer = service.http.post("/api/v1/translate", json={"source": "is", "target": "en", "text": texts, **body}, headers=headers)
    assert error(answer, 504) == "the translation was not done in the 0.3 s that the request has"
    until(lambda: service.engine.cancelled == before + 3)
    until(lambda: waiting(service) == 0 and service.status()["in_flight"] == 0)
    assert service.metric("tellmt_requests_timed_out_total") == counted + 1


def test_the_services_own_limit_holds_for_every_api_and_is_the_most(published: Published) -> None:
    with running(published.base, published.registry, limits=Limits(context=2048, timeout=0.3)) as service:
        service.engine.delay = 30
        body = {"source": "is", "target": "en"}
        assert "in the 0.3 s" in error(service.http.post("/translate", json={**body, "q": "a"}), 504)
        assert "in the 0.3 s" in error(service.http.post("/api/v1/translate", json={**body, "text": "b", "timeout": 1000}), 504)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", ""])
def test_times_that_are_none(service: Running, value: str) -> None:
    assert "X-Request-Timeout: not a time; valid: seconds, above 0" in error(ask(service, "a", **{"X-Request-Timeout": value}), 400)
    number = float(value) if value in ("0", "-1") else value
    answer = service.http.post("/api/v1/translate", json={"source": "is", "target": "en", "text": "a", "timeout": number})
    assert "timeout: not usable; valid: seconds that the client waits for the response, above 0" in error(answer, 400)


@pytest.mark.clock
def test_under_load_a_request_that_cannot_be_done_in_its_time_is_refused_at_once(published: Published) -> None:
    with running(published.base, published.registry, lambda options: SlowEngine(options, places=10), Limits(context=2048, batch=8)) as service:
        service.engine.delay = 0.05
        (document,) = begin(lambda: ask(service, [f"{i:04} " + "x" * 60 for i in range(700)]))
        # 200 segments a second at most; known after two seconds.
        until(lambda: service.service.queue.rate.cost() is not None)
        others = begin(*[lambda n=n: ask(service, [f"{n} {i:04} " + "y" * 60 for i in range(150)]) for n in range(3)])  # type: ignore[misc]
        until(lambda: waiting(service) > 500)
        began = time.monotonic()
        refused = ask(service, [f"{i:04} " + "z" * 60 for i in range(100)], **{"X-Request-Timeout": "1"})
        assert "would not be done in the" in error(refused, 503)
        # What waits before it takes three seconds and more.
        assert time.monotonic() - began < 2.5
        assert service.metric("tellmt_requests_refused_total", reason="late") == 1
        # A sentence's turn comes soon, whatever waits.
        assert ask(service, "a!", **{"X-Request-Timeout": "2"}).status_code == 200
        for done in (document, *others):
            assert done.result().status_code == 200


# Nothing is left behind


@pytest.mark.parametrize("engine", [SlowEngine, pytest.param(BatchEngine, marks=pytest.mark.long)])
def test_after_a_storm_everything_is_back_where_it_was(published: Published, engine: Any) -> None:
    """300 requests of four pairs and both kinds of answer, of which some leave, some run out of time, and some meet a failing engine."""
    random_ = random.Random(7)
    with running(
        published.base, published.registry, lambda options: engine(options, places=8), Limits(context=2048, waiting=300, batch=8, cache=20_000)
    ) as service:
        assert ask(service, "a").status_code == 200
        tasks = len(asyncio.all_tasks(service.loop))
        service.engine.delay = 0.01
        seen: dict[str, int] = {}

        def one(n: int) -> None:
            chance = random.Random(n)
            pair = chance.choice(["is-en", "en-is", "fo-is", "pt-BR:en"])
            source, target = pair.split(":" if ":" in pair else "-")
            text = [f"{chance.randrange(60)} {'x' * chance.randrange(40)}" for _ in range(chance.choice([1, 1, 1, 5, 40]))]
            body = {"source": source, "target": target, "text": text, "cache": chance.random() < 0.8}
            headers = {"X-Request-Timeout": str(chance.choice([0.02, 0.1]))} if chance.random() < 0.3 else {}
            path = "/api/v1/translate" + ("/stream" if chance.random() < 0.4 else "")
            patience = chance.choice([0.05, 0.2]) if chance.random() < 0.3 else 20
            try:
                answer = httpx.post(service.url + path, json=body, headers=headers, timeout=patience, trust_env=False)
                outcome = str(answer.status_code)
            except httpx.TransportError:
                outcome = "left"
            seen[outcome] = seen.get(outcome, 0) + 1

        def trouble() -> None:
            for _ in range(6):
                time.sleep(random_.uniform(0.1, 0.3))
                service.engine.failure = EngineError("a stumble")
                time.sleep(0.05)
                service.engine.failure = None

        with ThreadPoolExecutor(24) as pool:
            stumbles = pool.submit(trouble)
            for done in [pool.submit(one, n) for n in range(300)]:
                done.result()
            stumbles.result()
        assert seen.keys() >= {"200", "503", "504", "left"} and seen["200"] > 50, seen
        assert "500" not in seen
        until(lambda: at_rest(service))
        until(lambda: service.metric("tellmt_requests_in_flight") == 0)
        until(lambda: len(asyncio.all_tasks(service.loop)) <= tasks + 1)
        assert waiting(service) == 0 and service.metric("tellmt_segments_in_engine") == 0
        assert service.metric("tellmt_oldest_wait_seconds") == 0
        assert ask(service, "after").status_code == 200
