"""What replicas agree on, step by step: two services in this process, over one registry and with a short lease."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve.adapters.agreement import Agreement
from tell.registry.registry import Registry
from tell.registry.replicas import Standing, read_replicas, write_replica
from tests.serve.adapters.test_eviction import ask, limits
from tests.serve.adapters.test_follower import Bench, bench, live  # noqa: F401
from tests.support.serving import Running, running, until

LEASE = 0.8


@contextmanager
def replica(bench: Bench, deadline: float = 30, **options: Any) -> Iterator[Running]:  # noqa: F811
    with running(bench.base, bench.registry, agreement=Agreement(Registry(bench.registry.root), deadline, LEASE), **options) as service:
        yield service


@contextmanager
def unable_to_look(service: Running) -> Iterator[None]:
    """A replica that does not come to announce itself and to read the others, as one that was stopped."""
    agreement = service.follower.agreement
    assert agreement is not None
    service.call(agreement._lock.acquire())
    try:
        yield
    finally:
        service.loop.call_soon_threadsafe(agreement._lock.release)


def replicas_of(registry: Registry) -> dict[str, Standing]:
    return {id: pairs["is-en"] for id, (_, pairs) in read_replicas(registry, "").items() if "is-en" in pairs}


def test_a_version_goes_live_when_all_have_loaded_it(bench: Bench) -> None:  # noqa: F811
    old = bench.publish(seed=1)
    with replica(bench) as first, replica(bench) as second:
        second.engine.load_delay = 1.0
        began = time.monotonic()
        new = bench.publish(seed=2)
        until(lambda: new in first.engine.loaded())
        # Loaded here, and not live, since the other has not loaded it.
        assert first.status()["state"] == "loading" and live(first, old) and first.translate("a").json()["adapter"] == old
        until(lambda: live(first, new))
        assert time.monotonic() - began >= 1.0
        until(lambda: live(second, new), 5)
        # A roll back is agreed on as well, though both have the version loaded.
        bench.registry.rollback("is-en", "test")
        until(lambda: live(first, old) and live(second, old), 20)
        until(lambda: set(replicas_of(bench.registry).values()) == {Standing(3, 3, 3)}, 5)
    # Who ends takes its file along.
    assert replicas_of(bench.registry) == {}


def test_who_cannot_load_a_version_is_waited_for_until_the_deadline(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    old = bench.publish(seed=1)
    with replica(bench, deadline=2.0) as first, replica(bench, deadline=2.0) as second:
        second.engine.load_failure = RuntimeError("no room")
        began = time.monotonic()
        new = bench.publish(seed=2)
        until(lambda: live(first, new), 10)
        assert time.monotonic() - began >= 2.0
        assert live(second, old) and second.status()["state"] == "refused"
        assert "is-en: 1 of 2 replicas have not loaded generation 2 in 2 s" in capfd.readouterr().err
        # It follows as soon as it can, and waits for nobody.
        second.engine.load_failure = None
        until(lambda: live(second, new), 10)


def test_one_that_was_stopped_looks_before_it_answers(bench: Bench) -> None:  # noqa: F811
    old = bench.publish(seed=1)
    with replica(bench) as first, replica(bench) as second:
        with unable_to_look(second):
            began = time.monotonic()
            new = bench.publish(seed=2)
            until(lambda: new in second.engine.loaded())
            until(lambda: live(first, new), 10)
            # Not before the other counts as gone.
            assert time.monotonic() - began > LEASE / 2
            # What it says of itself is the version before, and a request is not answered by that any more.
            assert live(second, old)
            answers: list[str] = []
            asking = threading.Thread(target=lambda: answers.append(second.translate("a").json()["adapter"]))
            asking.start()
            time.sleep(0.3)
            assert answers == []
        asking.join()
        assert answers == [new]


def test_requests_wait_where_a_replica_is_held_and_go_on_with_the_new_version(bench: Bench) -> None:  # noqa: F811
    bench.publish(seed=1)
    with replica(bench) as first:
        # Another one, written by hand: it has loaded what comes, and has not said yet that it holds its requests.
        beat = 0

        def other(ready: int, held: int, live: int) -> None:
            nonlocal beat
            beat += 1
            write_replica(bench.registry, "0123456789abcdef", beat, {"is-en": Standing(ready, held, live)})

        other(2, 1, 1)
        new = bench.publish(seed=2)
        own = until(lambda: next((s for id, s in replicas_of(bench.registry).items() if id != "0123456789abcdef" and s.held == 2), None), 10)
        assert own == Standing(2, 2, 1)
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(first.translate("a").json()["adapter"]))
        asking.start()
        time.sleep(0.2)
        assert answers == []
        other(2, 2, 1)
        asking.join()
        assert answers == [new]
        # A newer generation elsewhere: what is older does not go live here beside it.
        other(9, 9, 9)
        bench.publish(seed=3)
        time.sleep(0.4)
        assert live(first, new)


def test_a_pair_that_is_loaded_for_a_request_waits_for_a_change_under_way(bench: Bench) -> None:  # noqa: F811
    for pair in ("de-is", "fo-is"):
        bench.publish(pair, seed=1)
    with replica(bench) as first, replica(bench, limits=limits(1)) as second:
        assert ask(second, "de-is").status_code == 200 and second.status("fo-is")["state"] == "cold"
        first.engine.load_delay = 1.0
        new = bench.publish("fo-is", seed=2)
        until(lambda: second.status("fo-is")["wanted"] == new)
        # Cold: the first to load the new version is this one, and it would answer before the other.
        began = time.monotonic()
        answer = ask(second, "fo-is")
        assert answer.json()["adapter"] == new and time.monotonic() - began > 0.5
        assert ask(first, "fo-is").json()["adapter"] == new
        # Where nothing changes it waits for nobody.
        assert ask(second, "de-is").status_code == 200
        began = time.monotonic()
        assert ask(second, "fo-is").json()["adapter"] == new and time.monotonic() - began < 10


def test_pins_and_files_of_the_dead_stand_in_nobodys_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("serve.adapters.agreement.LEFTOVER", 4)
    bench.publish(seed=1)
    write_replica(bench.registry, "f" * 16, 3, {"is-en": Standing(1, 1, 1)})
    (bench.registry.root / "replicas" / "e.json").write_text("{")
    (bench.registry.root / "replicas" / f"{'e' * 16}.json").write_text('{"beat": 1, "pairs": []}')
    with replica(bench) as first, replica(bench) as second:
        second.engine.load_delay = 0.5
        new = bench.publish(seed=2)
        until(lambda: new in first.engine.loaded())
        bench.registry.pin("is-en", True, "test")
        until(lambda: live(first, new) and live(second, new), 20)
        until(lambda: set(replicas_of(bench.registry).values()) == {Standing(3, 3, 3), Standing(1, 1, 1)}, 5)
        # The file of the one that is gone is removed in time.
        until(lambda: "f" * 16 not in replicas_of(bench.registry), 30)


def test_over_a_registry_that_cannot_be_written_each_goes_alone(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    bench.publish(seed=1)
    # A file where the folder would be: root may write anywhere, so modes would not do.
    (bench.registry.root / "replicas").write_text("")
    with replica(bench) as service:
        new = bench.publish(seed=2)
        until(lambda: live(service, new), 5)
        assert service.texts("a") == [f"<{new[:8]}>a"]
    assert capfd.readouterr().err.count("replicas cannot agree") == 1


def test_a_registry_that_fails_for_a_moment_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    old = bench.publish(seed=1)
    with replica(bench) as first, replica(bench) as second:
        second.engine.load_delay = 0.6
        agreement = first.follower.agreement
        assert agreement is not None
        write, failures = agreement.registry.store.write_file, []

        def failing(*name: str, data: bytes) -> None:
            if len(failures) < 3:
                failures.append(name)
                raise OSError(5, "Input/output error")
            write(*name, data=data)

        monkeypatch.setattr(agreement.registry.store, "write_file", failing)
        new = bench.publish(seed=2)
        until(lambda: len(failures) == 3)
        assert live(first, old)
        until(lambda: live(first, new) and live(second, new), 5)
        assert new in second.engine.loaded()


def test_replicas_agree_in_an_object_store_as_well(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    registry = Registry("memory://agreement/registry")

    async def main() -> None:
        first, second = (Agreement(registry, 30, LEASE) for _ in range(2))
        await asyncio.gather(first.start(), second.start())
        first.note_live("is-en", 1), second.note_live("is-en", 1)
        went: list[str] = []
        changing = asyncio.create_task(first.agree("is-en", 2, lambda: went.append("first")))
        await asyncio.sleep(0.5)
        assert went == []
        await second.agree("is-en", 2, lambda: went.append("second"))
        await changing
        assert sorted(went) == ["first", "second"]
        await first.close(), await second.close()
        assert read_replicas(registry, "") == {}

    asyncio.run(main())


def test_a_change_that_is_taken_back_leaves_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")

    async def main() -> None:
        agreement = Agreement(registry, 30, LEASE)
        await agreement.start()
        write_replica(registry, "f" * 16, 1, {"is-en": Standing(2, 2, 2)})
        agreement.note_live("is-en", 2)
        changing = asyncio.create_task(agreement.agree("is-en", 3, lambda: pytest.fail("it went live")))
        await asyncio.sleep(0.2)
        assert agreement.own["is-en"] == Standing(3, 2, 2) and agreement.hold("is-en") is None
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        assert agreement.own["is-en"] == Standing(2, 2, 2)
        # What answers loses its place to another pair while a change is under way: the change goes on.
        went: list[str] = []
        changing = asyncio.create_task(agreement.agree("is-en", 3, lambda: went.append("live")))
        await asyncio.sleep(0.1)
        agreement.leave("is-en")
        write_replica(registry, "f" * 16, 2, {"is-en": Standing(3, 2, 2)})
        await asyncio.sleep(0.1)
        assert went == [] and agreement.own["is-en"] == Standing(3, 3, -1)
        write_replica(registry, "f" * 16, 3, {"is-en": Standing(3, 3, 2)})
        await changing
        assert went == ["live"] and agreement.own["is-en"] == Standing(3, 3, 3)
        await agreement.close()

    asyncio.run(main())
