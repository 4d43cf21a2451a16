"""Documents that replicas share: two services of this process over one Redis and one registry. test_replicas.py has them as processes."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import serve.documents.shared
from serve.auth.keys import add_key
from serve.auth.quota import Quota
from serve.documents.jobs import JobLimits, Jobs
from serve.documents.ledger import Ledger
from serve.documents.shared import SharedJobs
from serve.documents.shelf import FOLDER, Shelf
from serve.translation.service import Service
from tell.errors import EngineError, Overloaded
from tests.serve.auth.test_quota import left
from tests.support.redis_server import Redis
from tests.support.serving import Published, Running, error, running, until

pytest_plugins = ["tests.support.serving_fixtures"]
JOBS = "/api/v1/jobs"


def long(number: int = 0) -> str:
    """About 40 parts, unlike those of another number."""
    return "\n\n".join(f"Lína {number} {i}\n" * 20 for i in range(40))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def key() -> str:
    return add_key("a", ["translate"], characters_per_day=100_000)[1]


@pytest.fixture
def other() -> str:
    return add_key("b", ["translate"])[1]


@contextlib.contextmanager
def replica(published: Published, redis: Redis, limits: JobLimits | None = None) -> Iterator[Running]:
    quota = Quota(redis.uri)

    def documents(service: Service) -> Jobs:
        return SharedJobs(service, quota, Ledger(redis.uri, published.registry.place), Shelf(published.registry.store), limits)

    with running(published.base, published.registry, quota=quota, documents=documents) as service:
        yield service


@pytest.fixture
def two(published: Published, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Running, Running]]:
    monkeypatch.setattr(serve.documents.shared, "LEASE", 1.0)
    monkeypatch.setattr(serve.documents.shared, "TICK", 0.1)
    with replica(published, redis) as first, replica(published, redis) as second:
        yield first, second


def jobs_of(service: Running) -> SharedJobs:
    jobs = service.jobs
    assert isinstance(jobs, SharedJobs)
    return jobs


def post(service: Running, text: str, key: str | None = None, name: str = "bréf.txt", **fields: str) -> httpx.Response:
    headers = {"X-API-Key": key} if key else {}
    return service.http.post(JOBS, files={"file": (name, text.encode())}, data={"source": "is", "target": "en", **fields}, headers=headers)


def get(service: Running, id: str, key: str | None = None, path: str = "") -> httpx.Response:
    return service.http.get(f"{JOBS}/{id}{path}", headers={"X-API-Key": key} if key else {})


def ended(service: Running, id: str, key: str | None = None) -> dict[str, Any]:
    def status() -> Any:
        answer = get(service, id, key)
        assert answer.status_code == 200, answer.text
        return answer.json()["state"] in ("done", "failed") and answer.json()

    return dict(until(status, 20))


def test_any_replica_takes_shows_and_hands_out_documents(key: str, other: str, two: tuple[Running, Running], mark: str) -> None:
    turn = itertools.cycle(two)
    texts = {f"Skjal {n}\n\nLína\n" * (n + 1): n for n in range(20)}
    ids = {}
    for text in texts:
        answer = post(next(turn), text, key)
        assert answer.status_code == 202, answer.text
        ids[text] = answer.json()["id"]
    next(turn)
    for text, id in ids.items():
        for service in two:
            assert ended(service, id, key)["progress"] == {"done": len(text), "total": len(text), "seconds": None}
            assert get(service, id, key, "/result").text.replace(mark, "") == text
            assert get(service, id, other).status_code == get(service, id, other, "/result").status_code == 404
    # Both translated some, and any replica deletes any.
    assert all(service.engine.calls for service in two)
    for id in ids.values():
        assert next(turn).http.delete(f"{JOBS}/{id}", headers={"X-API-Key": key}).status_code == 204
        assert [get(service, id, key).status_code for service in two] == [404, 404]


def test_other_protocols(two: tuple[Running, Running], mark: str, published: Published) -> None:
    first, second = two
    form = {"source_lang": "IS", "target_lang": "EN-US"}
    handle = first.http.post("/v2/document", files={"file": ("a.txt", "Halló\n")}, data=form).json()
    key, path = {"document_key": handle["document_key"]}, f"/v2/document/{handle['document_id']}"
    assert second.http.post(path, data={"document_key": "0" * 64}).status_code == 404
    until(lambda: second.http.post(path, data=key).json()["status"] == "done")
    # Once, whichever replica is asked.
    assert second.http.post(f"{path}/result", data=key).text == f"{mark}Halló\n"
    assert [service.http.post(f"{path}/result", data=key).status_code for service in two] == [404, 404]
    link = first.http.post("/translate_file", files={"file": ("b.txt", "Bless\n")}, data={"source": "is", "target": "en"}).json()["translatedFileUrl"]
    path = link.removeprefix(first.url)
    assert second.http.get(path).text == first.http.get(path).text == f"{mark}Bless\n"
    assert second.http.get(path.replace("/download_file/", "/download_file/0")).status_code == 404


def test_events_of_a_document_that_another_replica_translates(two: tuple[Running, Running], mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.documents.shared, "PARTS", 0.1)
    first, second = two
    first.engine.delay = 0.05
    id = post(first, long()).json()["id"]
    events = second.http.get(f"{JOBS}/{id}/events").text
    blocks = [block.split("\n") for block in events.strip().split("\n\n")]
    parts = [json.loads(block[-1].removeprefix("data: ")) for block in blocks if "event: part" in block]
    assert "event: done" in blocks[-1] and [part["index"] for part in parts] == list(range(parts[0]["parts"])) and len(parts) > 10
    assert "".join(part["text"] for part in parts).replace(mark, "") == long()
    assert parts[0]["progress"]["done"] < len(long())
    assert get(second, id, path="/result").text.replace(mark, "") == long()


def test_a_replica_that_does_not_answer_loses_its_documents_and_cannot_bring_them_back(
    two: tuple[Running, Running], mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    first.engine.delay = 1.8
    paused = Overloaded("paused")

    async def silent(*args: Any) -> None:
        raise paused

    id = post(first, "Halló\n").json()["id"]
    jobs = jobs_of(first)
    monkeypatch.setattr(jobs.ledger, "tick", silent)
    [held] = [held for held in jobs._held.values() if held.job.id == id]
    assert ended(second, id)["state"] == "done"
    assert get(first, id, path="/result").text == f"{mark}Halló\n"
    # It goes on all the same, says so, and is not heard; what it wrote is removed.
    until(lambda: id not in jobs._held)
    assert held.epoch == 1 and get(second, id, path="/result").text == f"{mark}Halló\n"
    names = [name for name in jobs.shelf.store.file_names(FOLDER) if name.startswith(id)]
    assert f"{id}.1.result" not in names and f"{id}.2.result" in names


def test_a_replica_that_ends_leaves_its_documents_with_what_is_done(two: tuple[Running, Running], mark: str) -> None:
    first, second = two
    first.engine.delay = 0.2
    ids = [post(first, long(n)).json()["id"] for n in range(4)]
    until(lambda: sum(held.job.done > 0 for held in list(jobs_of(first)._held.values())) == 2)
    calls = len(second.engine.calls)
    first.call(jobs_of(first).close())
    # Accepted still, and translated by the other.
    ids.append(post(first, long(4)).json()["id"])
    for n, id in enumerate(ids):
        status = ended(first, id)
        assert status["state"] == "done" and status["progress"]["done"] == len(long())
        assert get(second, id, path="/result").text.replace(mark, "") == long(n)
    assert len(second.engine.calls) > calls


def test_quotas_are_charged_once_and_what_failed_is_given_back_once(key: str, two: tuple[Running, Running]) -> None:
    first, second = two

    def remaining(service: Running) -> int:
        return left(get(service, "0" * 32, key), "characters")

    assert ended(second, post(first, "a" * 100, key).json()["id"], key)["state"] == "done"
    assert remaining(first) == remaining(second) == 99_900
    first.engine.failure = second.engine.failure = EngineError("the engine is dead")
    id = post(first, "b" * 300, key).json()["id"]
    assert ended(second, id, key)["error"] == "the engine is dead"
    assert until(lambda: remaining(second) == 99_900)
    assert second.http.delete(f"{JOBS}/{id}", headers={"X-API-Key": key}).status_code == 204
    assert remaining(first) == 99_900
    first.engine.failure = second.engine.failure = None
    first.engine.delay = second.engine.delay = 20.0
    id = post(first, "c" * 400, key).json()["id"]
    assert second.http.delete(f"{JOBS}/{id}", headers={"X-API-Key": key}).status_code == 204
    assert remaining(first) == 99_900
    until(lambda: not sum(first.engine.running.values()))


def test_what_ends_one_replica_after_the_other_fails(two: tuple[Running, Running], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes it, and is not heard of again."""
    taken: list[int] = []

    for service in two:
        monkeypatch.setattr(jobs_of(service), "_hold", lambda held, document: taken.append(held.epoch))
    id = post(two[0], "Halló\n").json()["id"]
    assert ended(two[1], id)["error"] == "3 replicas ended while they translated the document"
    assert taken == [1, 2, 3]


def test_a_store_that_takes_nothing(key: str, two: tuple[Running, Running], published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two

    def full(*name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(published.registry.store, "write_file", full)
        answer = post(first, "a" * 100, key)
        assert error(answer, 503) == "the store of documents does not answer, or takes nothing" and answer.headers["retry-after"]
        assert left(answer, "characters") == 100_000
    # Full only when the result is written.
    first.engine.delay = 0.3
    monkeypatch.setattr(serve.documents.shared, "TRIES", 1)
    id = post(first, "a" * 100, key).json()["id"]
    with monkeypatch.context() as m:
        m.setattr(published.registry.store, "write_file", full)
        assert ended(second, id, key)["error"] == "the store of documents does not answer, or takes nothing"


def test_redis_away_and_back(published: Published, tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.documents.shared, "TICK", 0.1)
    redis = Redis(tmp_path)
    try:
        with replica(published, redis) as service:
            service.engine.delay = 0.5
            id = post(service, "Halló\n").json()["id"]
            redis.stop()
            for answer in (get(service, id), post(service, "Halló\n")):
                assert error(answer, 503) == "documents are not at hand at the moment" and answer.headers["retry-after"] == "2"
            until(lambda: sum(service.engine.running.values()) == 0)
            redis.start()
            until(lambda: get(service, id).status_code == 200)
            assert ended(service, id)["state"] == "done" and get(service, id, path="/result").text == f"{mark}Halló\n"
    finally:
        redis.stop()


def test_limits_are_those_of_all_replicas(key: str, other: str, published: Published, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.documents.shared, "TICK", 0.1)
    limits = JobLimits(jobs=4, jobs_per_key=3, bytes=1000, kept=1.0)
    with replica(published, redis, limits) as first, replica(published, redis, limits) as second:
        ids = [post(service, "a\n", key).json()["id"] for service in (first, second, first)]
        answer = post(second, "a\n", key)
        assert error(answer, 429).startswith("too many documents of this key are kept; valid: at most 3") and 1 <= int(answer.headers["retry-after"]) <= 60
        assert error(post(second, "a" * 999, other), 503).startswith("too many documents are kept")
        assert ended(second, ids[0], key)["state"] == "done" and get(second, ids[0], key, "/result").status_code == 200
        # What was fetched gives way.
        assert post(second, "a\n", key).status_code == 202 and get(first, ids[0], key).status_code == 404
        # And what has ended is forgotten in time.
        assert until(lambda: get(first, ids[1], key).status_code == 404, 10)


@pytest.mark.parametrize("version", [None, "another"])
def test_a_file_and_its_terms_go_along(two: tuple[Running, Running], mark: str, monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """Also to a replica of another version, which may divide the file into other segments; and the glossary may be deleted meanwhile."""
    monkeypatch.setattr(serve.documents.shared, "LEASE", 5.0)
    first, second = two
    glossary = {"name": "mál", "source_lang": "IS", "target_lang": "EN", "entries": "skrá\tfile", "entries_format": "tsv"}
    id = first.http.post("/v2/glossaries", json=glossary).json()["glossary_id"]
    catalogue = "".join(f'msgid "Skrá {version} {n}"\nmsgstr ""\n\n' for n in range(150))
    first.engine.delay = 0.3
    job = post(first, catalogue, name="a.po", glossary=id).json()["id"]
    assert first.http.delete(f"/v2/glossaries/{id}").status_code == 204
    until(lambda: (held := jobs_of(first)._held.get(job)) and held.job.done)
    if version:
        monkeypatch.setattr(serve.documents.shared, "__version__", version)
    second.engine.delay = 0.3
    first.call(jobs_of(first).close())
    # On a busy machine it may be taken more than once.
    glossary_there = until(lambda: (held := jobs_of(second)._held.get(job)) and held.job.glossary)
    assert dict(glossary_there.terms) == {"skrá": "file"}
    status = ended(first, job)
    assert status["state"] == "done" and status["glossary"] is not None and status["progress"]["done"] == status["progress"]["total"], status
    result = get(second, job, path="/result").text
    assert all(f'msgid "Skrá {version} {n}"\nmsgstr "{mark}Skrá {version} {n}"' in result for n in range(150))
