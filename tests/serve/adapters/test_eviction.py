"""More pairs than fit: loaded when they are asked for, the one not asked for the longest making room, and none with requests under way."""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serve.config import Limits
from tell.adapter.card import WEIGHTS
from tellmt.cli import main
from tests.serve.adapters.test_follower import Bench, Stream, bench, live, serving_one  # noqa: F401
from tests.support.serving import Running, error, running, until

PAIRS = ("de-is", "en-is", "fo-is", "is-en", "is-fo")
SOURCE_TARGET = {pair: pair.split("-") for pair in PAIRS}


def limits(room: int, **options: Any) -> Limits:
    """Room for so many pairs, and one place for a change."""
    return Limits(context=2048, adapters=room + 1, **{"patience": 5.0, "stay": 0.0, **options})


def ask(service: Running, pair: str, text: str = "a") -> Any:
    source, target = SOURCE_TARGET[pair]
    return service.translate(text, source=source, target=target)


def states(service: Running) -> dict[str, str]:
    return {p["pair"]: p["state"] for p in service.http.get("/api/v1/adapters").json()["pairs"]}


def evictions(service: Running) -> float:
    return sum(service.metric("tellmt_adapter_evictions_total", pair=pair) for pair in PAIRS)


def test_all_pairs_are_served_with_room_for_two(bench: Bench) -> None:  # noqa: F811
    ids = {pair: bench.publish(pair, seed=1) for pair in PAIRS}
    with running(bench.base, bench.registry, limits=limits(2)) as service:
        assert states(service) == {"de-is": "live", "en-is": "live", "fo-is": "cold", "is-en": "cold", "is-fo": "cold"}
        assert service.http.get("/ready").json()["pairs"] == list(PAIRS)
        assert len(service.http.get("/languages").json()) == 4
        assert sorted(service.engine.loads) == sorted(ids[pair] for pair in PAIRS[:2])
        for pair in (*PAIRS, *PAIRS):
            answer = ask(service, pair)
            assert answer.status_code == 200 and answer.json()["adapter"] == ids[pair], answer.text
            assert answer.json()["translations"][0]["text"] == f"<{ids[pair][:8]}>a"
        assert states(service)["is-fo"] == "live" and list(states(service).values()).count("live") == 2
        assert service.engine.most_loaded <= 3
        status = service.status("de-is")
        assert status["state"] == "cold" and status["used"] and status["adapter"] is None and status["wanted"] == ids["de-is"]
        assert service.metric("tellmt_adapter_loads_total", pair="fo-is", outcome="loaded") == 2
        assert service.metric("tellmt_adapter_load_seconds_count") == evictions(service) + 2 == 10
        # Who was not asked for the longest made room.
        ask(service, "is-en")
        ask(service, "fo-is")
        assert states(service)["is-en"] == "live"
        # Between the going of one and the coming of another there seems to be room, so it may just be tried.
        until(lambda: states(service)["is-fo"] == "cold")
        # Where there is room again a cold one is loaded without being asked for.
        for pair in ("de-is", "en-is", "is-en", "is-fo"):
            bench.pair_file(pair).unlink()
        until(lambda: states(service) == {"fo-is": "live"})
        new = bench.publish("de-is", seed=2)
        until(lambda: live(service, new, "de-is"))


def test_requests_for_one_cold_pair_share_its_load(bench: Bench) -> None:  # noqa: F811
    for pair in PAIRS[:2]:
        bench.publish(pair, seed=1)
    with running(bench.base, bench.registry, limits=limits(1)) as service:
        service.engine.load_delay = 0.3
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: ask(service, "en-is", f"a {i}"), range(8)))
        assert [a.status_code for a in answers] == [200] * 8
        assert len(service.engine.loads) == 2


def test_a_new_version_of_a_cold_pair_is_what_is_loaded(bench: Bench) -> None:  # noqa: F811
    for pair in PAIRS[:2]:
        bench.publish(pair, seed=1)
    with running(bench.base, bench.registry, limits=limits(1)) as service:
        new = bench.publish("en-is", seed=2)
        until(lambda: service.status("en-is")["wanted"] == new)
        assert service.status("en-is")["state"] == "cold" and ask(service, "en-is").json()["adapter"] == new


def test_a_cold_adapter_that_cannot_be_loaded(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    ids = {pair: bench.publish(pair, seed=1) for pair in PAIRS[:3]}
    weights = bench.registry.path(ids["fo-is"]) / WEIGHTS
    whole = weights.read_bytes()
    with running(bench.base, bench.registry, limits=limits(2)) as service:
        weights.write_bytes(whole[:-4])
        answer = ask(service, "fo-is")
        message = error(answer, 503)
        assert "cut short" in message and str(bench.root) not in message and answer.headers["retry-after"]
        status = service.status("fo-is")
        assert status["state"] == "refused" and str(weights) in status["reason"]
        # Nobody had to go for it, and it is not tried with every request.
        assert states(service)["de-is"] == states(service)["en-is"] == "live" and len(service.engine.loads) == 2
        assert error(ask(service, "fo-is"), 503) == message
        assert ask(service, "de-is").status_code == 200
        assert "fo-is" not in service.http.get("/ready").json()["pairs"]
        weights.write_bytes(whole)
        until(lambda: ask(service, "fo-is").status_code == 200)
    assert capfd.readouterr().err.count("fo-is: not changed") == 1


def test_one_that_does_not_act_is_not_served_when_it_is_asked_for(bench: Bench) -> None:  # noqa: F811
    bench.publish("de-is", seed=1)
    bench.publish("en-is", seed=13)
    with running(bench.base, bench.registry, limits=limits(1)) as service:
        assert "does not act" in error(ask(service, "en-is"), 503)
        assert ask(service, "de-is").status_code == 200


def test_pinned_pairs_are_loaded_first_and_stay(bench: Bench) -> None:  # noqa: F811
    for pair in PAIRS:
        bench.publish(pair, seed=1)
    bench.registry.pin("is-fo", True, "test")
    with running(bench.base, bench.registry, limits=limits(2)) as service:
        assert [pair for pair, state in states(service).items() if state == "live"] == ["de-is", "is-fo"]
        assert service.status("is-fo")["pinned"]
        for pair in PAIRS * 2:
            assert ask(service, pair).status_code == 200
        assert states(service)["is-fo"] == "live" and service.metric("tellmt_adapter_evictions_total", pair="is-fo") == 0
        # Pinned while it runs, a cold one is loaded; one more than there is room for is told.
        bench.registry.pin("de-is", True, "test")
        until(lambda: states(service)["de-is"] == "live")
        bench.registry.pin("en-is", True, "test")
        until(lambda: service.status("en-is")["state"] == "refused")
        assert "every place is held by a pinned pair" in service.status("en-is")["reason"]
        answer = ask(service, "fo-is")
        assert "pinned" in error(answer, 503) and answer.headers["retry-after"]
        bench.registry.pin("de-is", False, "test")
        until(lambda: states(service)["en-is"] == "live")
        until(lambda: set(states(service).values()) == {"live", "cold"})


def test_one_with_requests_under_way_is_waited_for(bench: Bench) -> None:  # noqa: F811
    ids = {pair: bench.publish(pair, seed=1) for pair in PAIRS[:2]}
    with running(bench.base, bench.registry, limits=limits(1)) as service, ThreadPoolExecutor(1) as pool:
        service.engine.delay = 1.0
        first = pool.submit(ask, service, "de-is")
        until(lambda: service.engine.running[ids["de-is"]])
        service.engine.delay = 0.0
        # The engine raises if an adapter is unloaded under a request.
        assert ask(service, "en-is").json()["adapter"] == ids["en-is"]
        assert not service.engine.running[ids["de-is"]] and service.engine.unloads == [ids["de-is"]]
        assert first.result().json()["adapter"] == ids["de-is"]


def test_one_that_does_not_end_keeps_its_place(bench: Bench) -> None:  # noqa: F811
    ids = {pair: bench.publish(pair, seed=1) for pair in PAIRS[:2]}
    with running(bench.base, bench.registry, limits=limits(1, patience=0.3)) as service, ThreadPoolExecutor(1) as pool:
        service.engine.delay = 3.0
        first = pool.submit(ask, service, "de-is")
        until(lambda: service.engine.running[ids["de-is"]])
        service.engine.delay = 0.0
        answer = ask(service, "en-is")
        assert "no place" in error(answer, 503) and answer.headers["retry-after"]
        until(lambda: states(service) == {"de-is": "live", "en-is": "cold"})
        assert ask(service, "de-is", "b").status_code == 200
        assert first.result().status_code == 200 and evictions(service) == 0
        assert ask(service, "en-is").status_code == 200


def test_pairs_asked_for_in_turn_are_not_swapped_with_every_request(bench: Bench) -> None:  # noqa: F811
    for pair in PAIRS[:2]:
        bench.publish(pair, seed=1)
    with running(bench.base, bench.registry, limits=limits(1, stay=0.5)) as service:
        service.engine.delay = 0.01
        answers: dict[str, list[int]] = {pair: [] for pair in PAIRS[:2]}
        began = time.monotonic()

        def client(pair: str) -> None:
            # Three seconds; longer where a busy machine has given one of them few turns.
            while (spent := time.monotonic() - began) < 3 or (spent < 30 and min(map(len, answers.values())) <= 10):
                answers[pair].append(ask(service, pair, str(len(answers[pair]))).status_code)

        threads = [threading.Thread(target=client, args=(pair,)) for pair in answers for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        # Both are served; neither keeps the other out.
        assert all(set(a) == {200} and len(a) > 10 for a in answers.values()), answers
        assert 1 <= evictions(service) <= 8


def test_a_load_that_hangs_ends_and_keeps_nobody_else_waiting(bench: Bench) -> None:  # noqa: F811
    old = bench.publish(seed=1)
    with running(bench.base, bench.registry, limits=limits(2, load=3.0)) as service:
        service.engine.load_delay = 60.0
        new = bench.publish(seed=2)
        until(lambda: new in service.engine.loads)
        service.engine.load_delay = 0.0
        other = bench.publish("fo-is", seed=3)
        until(lambda: live(service, other, "fo-is"))
        assert service.status()["state"] == "loading" and service.texts("a") == [f"<{old[:8]}>a"]
        service.engine.load_delay = 60.0
        status = until(lambda: (s := service.status())["state"] == "refused" and s)
        assert "not loaded and checked in time" in status["reason"] and status["adapter"] == old
        assert new not in service.engine.loaded() and service.texts("a") == [f"<{old[:8]}>a"]


def test_what_was_rolled_back_while_it_loads_never_goes_live(bench: Bench) -> None:  # noqa: F811
    with serving_one(bench) as (service, old):
        service.engine.load_delay = 60.0
        new = bench.publish(seed=2)
        until(lambda: new in service.engine.loads)
        bench.registry.rollback("is-en", "test")
        until(lambda: service.status()["state"] == "live")
        assert live(service, old) and service.engine.loaded() == [old]


def test_what_goes_on_answering_for_a_refused_version_is_not_unloaded(bench: Bench) -> None:  # noqa: F811
    old = bench.publish("de-is", seed=1)
    bench.publish("en-is", seed=1)
    with running(bench.base, bench.registry, limits=limits(1)) as service:
        bench.publish("de-is", seed=13)
        until(lambda: service.status("de-is")["state"] == "refused")
        assert ask(service, "en-is").status_code == 503
        assert ask(service, "de-is").json()["adapter"] == old


@pytest.mark.clock
def test_a_roll_back_under_load_is_live_in_a_second_and_loads_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("TELLMT_REGISTRY", str(bench.registry.root))
    old = bench.publish(seed=1)
    with running(bench.base, bench.registry, limits=limits(1)) as service, Stream(service, clients=4) as stream:
        new = bench.publish(seed=2)
        until(lambda: stream.seen(new) > 10)
        loads = len(service.engine.loads)
        for target in (old, new, old):
            answers_before = stream.seen(target)
            assert main(["registry", "rollback", "is-en", "--why", "worse"]) == 0
            began = time.monotonic()
            until(functools.partial(live, service, target))
            assert time.monotonic() - began < 1
            until(lambda enough=answers_before + 6, id=target: stream.seen(id) >= enough)
        assert len(service.engine.loads) == loads
    assert stream.failures == []
    assert {(a, t) for a, t in stream.answers} == {(id, f"<{id[:8]}>Halló heimur.") for id in (old, new)}


def test_an_admin_who_changes_something_need_not_wait_for_the_next_look(bench: Bench) -> None:  # noqa: F811
    bench.publish(seed=1)
    with running(bench.base, bench.registry) as service:
        service.follower.interval = 3600.0
        service.loop.call_soon_threadsafe(service.follower.wake)
        new = bench.publish(seed=2)
        # The look that the first call woke is over; nothing looks by itself now.
        until(lambda: not service.follower._woken.is_set())
        service.loop.call_soon_threadsafe(service.follower.wake)
        until(lambda: live(service, new))
