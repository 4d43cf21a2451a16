"""Replicas of one registry that change versions together, as processes of their own: one client sees one change for each promotion."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tell.registry.registry import Registry
from tests.serve.test_cli import Process
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import until

# Of `Agreement`, over a registry in a directory.
LEASE = 5.0


class Fleet:
    """Two replicas of one registry. The second takes longer to load, and its clock is ten minutes behind."""

    def __init__(self, root: Path, deadline: float, replicas: list[Process], registry: Registry, versions: list[str]):
        self.root, self.deadline, self.replicas, self.registry, self.versions = root, deadline, replicas, registry, versions
        self.live = 0

    def promote(self) -> str:
        self.live = (self.live + 1) % len(self.versions)
        id = self.versions[self.live]
        self.registry.promote("is-en", id, "test")
        return id

    def everywhere(self, id: str, seconds: float = 30, replicas: list[Process] | None = None) -> None:
        for replica in replicas or self.replicas:
            until(lambda replica=replica: served(replica) == id, seconds)


def served(replica: Process) -> str | None:
    answer = httpx.get(f"{replica.url}/api/v1/adapters", trust_env=False, timeout=10).json()
    return next((p["adapter"] for p in answer["pairs"] if p["pair"] == "is-en"), None)


@contextmanager
def fleet(root: Path, deadline: float, versions: int = 3) -> Iterator[Fleet]:
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    ids = []
    for seed in range(versions):
        adapter = light_adapter(root / f"a{seed}", base, "is-en", seed)
        ids.append(registry.add(adapter.path, adapter.card))
    registry.promote("is-en", ids[0], "test")
    env = {"TELLMT_REGISTRY": str(root / "registry"), "TELLMT_CACHE": str(root / "cache")}
    options = ("--base", "light", "--no-shipped", "--grace", "0", *(("--switch-deadline", str(deadline)) if deadline else ()))
    replicas = [Process(*options, **env), Process(*options, **env, FAKE_LOAD_DELAY="0.3", FAKE_CLOCK="-600")]
    try:
        assert all(r.url for r in replicas)
        yield Fleet(root, deadline, replicas, registry, ids)
    finally:
        for replica in replicas:
            if replica.process.poll() is None:
                os.kill(replica.process.pid, signal.SIGCONT)
            replica.end(signal.SIGTERM if replica.process.poll() is None else None)


class Client:
    """Asks one replica after the other, without a pause, and notes which version answered."""

    def __init__(self, replicas: list[Process]):
        self.urls, self.seen, self.failures, self.longest = [r.url for r in replicas], [], [], 0.0  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        clients = [httpx.Client(base_url=url, trust_env=False, timeout=60) for url in self.urls]
        turn = 0
        while not self._stop.is_set():
            began = time.monotonic()
            answer = clients[turn % len(clients)].post("/api/v1/translate", json={"source": "is", "target": "en", "text": "a", "cache": False})
            self.longest = max(self.longest, time.monotonic() - began)
            if answer.status_code != 200:
                self.failures.append((answer.status_code, answer.text))
            else:
                self.seen.append(answer.headers["X-Tellmt-Adapter"])
            turn += 1

    def __enter__(self) -> Client:
        self._thread.start()
        # Each has answered with what is live before anything changes.
        until(lambda: len(self.seen) >= 2 * len(self.urls), 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def sees(self, id: str) -> None:
        until(lambda: self.seen and self.seen[-1] == id, 30)

    def changes(self) -> list[str]:
        return [b for a, b in pairwise(self.seen) if a != b]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("together"), deadline=60) as replicas:
        yield replicas


def promotions(replicas: Fleet, times: int) -> None:
    with Client(replicas.replicas) as first, Client(replicas.replicas[::-1]) as second:
        promoted = []
        for _ in range(times):
            promoted.append(replicas.promote())
            replicas.everywhere(promoted[-1])
            first.sees(promoted[-1]), second.sees(promoted[-1])
    for client in (first, second):
        assert not client.failures
        assert client.changes() == promoted, f"{len(client.changes())} changes in {times} promotions"
        print(f"{len(client.seen)} answers, the longest took {client.longest:.2f} s")


def test_a_client_of_two_replicas_sees_one_change_for_each_promotion(together: Fleet) -> None:
    promotions(together, 10)


@pytest.mark.long
def test_a_client_of_two_replicas_sees_one_change_in_each_of_a_hundred_promotions(together: Fleet) -> None:
    promotions(together, 100)


@pytest.mark.long
def test_without_an_agreement_it_sees_more(tmp_path: Path) -> None:
    """What the other tests hold against."""
    with fleet(tmp_path, deadline=0) as replicas, Client(replicas.replicas) as client:
        for _ in range(2):
            replicas.everywhere(replicas.promote())
    # Four changes would be luck: in some step one replica has the new version and the other has not.
    assert len(client.changes()) > 4
    assert not (tmp_path / "registry" / "replicas").exists()


def test_a_stopped_replica_holds_the_others_back_for_a_lease_and_agrees_again_when_it_goes_on(together: Fleet) -> None:
    stopped, going = together.replicas
    first = together.promote()
    together.everywhere(first)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with Client([going]) as client:
        id = together.promote()
        together.everywhere(id, replicas=[going])
    took = time.monotonic() - began
    assert LEASE - 1.5 < took < LEASE + 10, took
    # Requests were answered by the version before meanwhile: they wait only for the last step.
    assert not client.failures and client.longest < LEASE - 1.5 and client.seen[0] == first
    os.kill(stopped.process.pid, signal.SIGCONT)
    together.everywhere(id)
    # The two agree again.
    with Client(together.replicas) as client:
        again = together.promote()
        client.sees(again)
    assert client.changes() == [again]
