"""A registry in an object store when two write at once, an answer is lost, or the store is away."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tell.errors import RegistryError
from tell.registry.registry import PairState, Registry
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.object_stores import Make, add, objects, old
from tests.support.serving import publish, running, until

pytest.importorskip("fsspec", reason="the extra object-store is not installed")


@pytest.fixture
def make(tmp_path: Path, isolated: Path) -> Make:
    base = light_base(isolated / "cache")
    return lambda seed=0, pair="is-en": light_adapter(tmp_path / f"a{seed}-{pair}", base, pair=pair, seed=seed)


def test_of_two_who_promote_at_once_one_is_told(url: str, make: Make) -> None:
    registry = Registry(url)
    ids = [add(registry, make(i)) for i in range(8)]
    start = threading.Barrier(8)

    def promote(id: str) -> str:
        mine = Registry(url)
        mine.writable()
        start.wait()
        try:
            mine.promote("is-en", id, f"by {id}")
        except RegistryError as e:
            assert "another version went live meanwhile; run the same command again; found live" in str(e)
            return "told"
        return "done"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(promote, ids))
    changes = [e for e in registry.log() if e["event"] == "promote"]
    # Nobody's change was lost: as many are in the log as were said to be done, each built on the one before.
    assert results.count("done") == len(changes) == registry.state("is-en").generation >= 1
    assert [e["generation"] for e in changes] == list(range(1, len(changes) + 1))
    assert all(after["from"] == before["id"] for before, after in itertools.pairwise(changes))
    assert {e["id"] for e in changes} == {id for id, r in zip(ids, results, strict=True) if r == "done"}


def test_a_generation_that_was_read_is_taken_once(url: str, make: Make) -> None:
    """The race itself, step by step: both have read generation 1 when the first of them writes."""
    registry = Registry(url)
    a, b, c = (add(registry, make(i)) for i in range(3))
    registry.promote("is-en", a, "first")
    late = Registry(url)
    read = late.store.read

    def read_then_lose(slug: str) -> PairState | None:
        stale_state = read(slug)
        late.store.__dict__.pop("read")
        Registry(url).promote("is-en", b, "faster")
        return stale_state

    late.store.__dict__["read"] = read_then_lose
    with pytest.raises(RegistryError, match=f"another version went live meanwhile.*found live {b}"):
        late.promote("is-en", c, "slower")
    assert registry.state("is-en") == PairState(pair="is-en", live=b, previous=a, generation=2)
    assert late.promote("is-en", c, "again").previous == b
    with pytest.raises(RegistryError, match="another version went live meanwhile"):
        late.promote("is-en", a, "judged against generation 2", generation=2)


def test_an_answer_that_was_lost_is_not_taken_for_another_writer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, a = Registry(f"memory://{time.time_ns()}"), make(1)
    add(registry, a)
    fs = objects(registry)._open()[0]
    create = type(fs).pipe_file

    def lost(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        create(self, path, value, mode=mode, **more)
        if "/pairs/" in path:
            raise TimeoutError("the connection was closed")

    monkeypatch.setattr(type(fs), "pipe_file", lost)
    assert registry.promote("is-en", a.id, "w").generation == 1 and registry.state("is-en").live == a.id

    def failed(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        raise TimeoutError("the connection was closed")

    monkeypatch.setattr(type(fs), "pipe_file", failed)
    with pytest.raises(RegistryError, match="the object store cannot be reached; found TimeoutError"):
        registry.rollback("is-en", "w", to_none=True)
    assert registry.state("is-en").generation == 1


def test_a_store_that_takes_the_condition_and_ignores_it_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, a = Registry(f"memory://{time.time_ns()}"), make(1)
    fs = objects(registry)._open()[0]
    create = type(fs).pipe_file
    monkeypatch.setattr(type(fs), "pipe_file", lambda self, path, value, mode="overwrite": create(self, path, value))
    with pytest.raises(RegistryError, match="lets an object be created twice"):
        add(registry, a)
    assert registry.ids() == []


def test_what_is_promoted_while_it_is_pruned_stays_or_is_not_live(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{time.time_ns()}"
    registry = Registry(url)
    a, b = (add(registry, make(i)) for i in range(2))
    registry.promote("is-en", b, "w")
    old(registry, monkeypatch)
    kept = objects(registry).remove
    # Promoted between the choice and the removal: it is put back.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects(registry), "remove", lambda *path: (Registry(url).promote("is-en", a, "just then"), kept(*path)))
        assert registry.prune(0, 0) == []
    assert registry.ids() == sorted([a, b]) and registry.state("is-en").live == a
    # Removed between the promoter's look and the change: the change is taken back.
    registry.rollback("is-en", "w")
    registry.promote("is-en", add(registry, make(5)), "w")
    promoter, verified = Registry(url), registry.adapter(a)
    assert [one.id for one in registry.prune(0, 0)] == [a]
    before = registry.state("is-en")
    monkeypatch.setattr(promoter, "adapter", lambda id: verified)
    with pytest.raises(RegistryError, match="no such adapter"):
        promoter.promote("is-en", a, "too late")
    assert registry.state("is-en") == before.model_copy(update={"generation": before.generation + 2})
    assert registry.log()[-1]["why"] == "it was pruned while it was promoted"


# The service


def test_a_store_that_is_away_for_a_while(make: Make, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{time.time_ns()}"
    registry, base = Registry(url), light_base(isolated / "cache")
    first = publish(registry, make(1))
    with running(base, Registry(url)) as service:
        fs = objects(service.follower.registry)._open()[0]

        def away(*_: Any, **__: Any) -> Any:
            raise OSError("no route to host")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fs, "find", away, raising=False)
            reason = until(lambda: service.http.get("/api/v1/adapters").json()["reason"])
            assert reason == f"{url}: the object store cannot be reached; found OSError: no route to host"
            assert service.texts("a") == [f"<{first[:8]}>a"]
        until(lambda: service.http.get("/api/v1/adapters").json()["reason"] is None)
        second = publish(registry, make(2))
        until(lambda: service.status()["adapter"] == second)
        # A bucket that is suddenly empty is a fault too.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fs, "find", lambda *_, **__: {}, raising=False)
            assert "no pairs in memory://" in until(lambda: service.http.get("/api/v1/adapters").json()["reason"])
            assert service.texts("a") == [f"<{second[:8]}>a"]


def test_a_store_that_does_not_answer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(f"memory://{time.time_ns()}")
    add(registry, make(1))
    hang = threading.Event()
    monkeypatch.setattr("tell.registry.fsspec_client.PATIENCE", 0.1)
    monkeypatch.setattr(objects(registry)._open()[0], "find", lambda *_, **__: hang.wait(), raising=False)
    try:
        with pytest.raises(RegistryError, match="the object store does not answer"):
            registry.stamps()
    finally:
        hang.set()


# The command line
