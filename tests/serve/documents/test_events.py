"""A document as server-sent events: in order, again after a lost connection, and without hold on the job."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from serve.auth.keys import add_key
from tell.errors import EngineError
from tests.support.serving import Published, Running, error, running, until

pytest_plugins = ["tests.support.serving_fixtures"]

JOBS = "/api/v1/jobs"
PARAGRAPHS = ["".join(f"Lína {i} {k}\n" for k in range(13)) + "\n" for i in range(9)]


def begin(service: Running, text: str, **headers: str) -> str:
    answer = service.http.post(JOBS, files={"file": ("a.txt", text.encode())}, data={"source": "is", "target": "en", "cache": "false"}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def read(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Event, id and data of each event."""
    out = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            out.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return out


def watched(service: Running, id: str, last: str | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    answer = service.http.get(f"{JOBS}/{id}/events", headers={} if last is None else {"Last-Event-ID": last})
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/event-stream; charset=utf-8" and answer.headers["cache-control"] == "no-store"
    return read(answer.text)


def test_a_document_is_told_part_by_part_and_told_again(service: Running, mark: str) -> None:
    service.engine.delay = 0.05
    text = "".join(PARAGRAPHS)
    id = begin(service, text)
    events = watched(service, id)
    assert [kind for kind, _, _ in events if kind != "part"] in (["status", "status", "done"], ["status", "done"])
    parts = [(number, data) for kind, number, data in events if kind == "part"]
    assert [number for number, _ in parts] == [str(i + 1) for i in range(len(parts))] and {d["parts"] for _, d in parts} == {len(parts)} and len(parts) >= 3
    assert [d["index"] for _, d in parts] == list(range(len(parts)))
    joined = "".join(d["text"] for _, d in parts)
    assert joined == service.http.get(f"{JOBS}/{id}/result").text and joined.replace(mark, "") == text
    characters_done = [d["progress"]["done"] for _, d in parts]
    assert characters_done == sorted(characters_done) and events[-1][1] == "end" and events[-1][2]["progress"]["done"] == len(text)
    # Again from the beginning, from where the connection was lost, and from what is no number here.
    assert [e for e in watched(service, id) if e[0] != "status"][-1] == events[-1]
    for last, first in (("2", "3"), (str(len(parts)), "end"), ("999999", "end"), ("x", "1"), ("-1", "1"), ("", "1"), ("9" * 4000, "1")):
        (kind, _, _), (_, number, _), *_ = watched(service, id, last)
        assert (kind, number) == ("status", first), last
    answer = service.http.get(f"{JOBS}/{id}/events", headers={"Last-Event-ID": "end"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert service.http.delete(f"{JOBS}/{id}").status_code == 204
    assert "no such document" in error(service.http.get(f"{JOBS}/{id}/events"), 404)


def test_parts_come_while_the_rest_is_translated_and_who_leaves_stops_nothing(service: Running) -> None:
    service.engine.delay = 0.15
    id = begin(service, "".join(PARAGRAPHS))
    with service.http.stream("GET", f"{JOBS}/{id}/events") as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event: part"))
        assert service.http.get(f"{JOBS}/{id}").json()["state"] == "translating"
    assert watched(service, id, "1")[-1][0] == "done"
    until(lambda: service.metric("tellmt_requests_in_flight") == 0)
    service.http.delete(f"{JOBS}/{id}")


def test_a_document_that_fails_and_one_that_is_deleted(service: Running) -> None:
    service.engine.failure = EngineError("the engine is dead", found="leynilegt")
    id = begin(service, "Einstakt skjal")
    [*_, (kind, number, data)] = watched(service, id)
    assert (kind, number, data["state"], data["error"]) == ("failed", "end", "failed", "the engine is dead")
    service.http.delete(f"{JOBS}/{id}")
    service.engine.failure, service.engine.delay = None, 20.0
    id = begin(service, "Annað skjal")
    events: list[Any] = []
    watching = threading.Thread(target=lambda: events.extend(watched(service, id)))
    watching.start()
    until(lambda: service.metric("tellmt_requests_in_flight") == 1)
    assert service.http.delete(f"{JOBS}/{id}").status_code == 204
    watching.join(10)
    assert [kind for kind, _, _ in events][-1] == "gone"


def test_a_service_that_ends_lets_go_of_who_watches(published: Published) -> None:
    events: list[Any] = []
    with running(published.base, published.registry) as service:
        service.engine.delay = 20.0
        id = begin(service, "Fjórða skjal")
        url = f"{service.url}{JOBS}/{id}/events"
        # Not by the client that is closed with the service.
        watching = threading.Thread(target=lambda: events.extend(read(httpx.get(url, timeout=30, trust_env=False).text)))
        watching.start()
        until(lambda: service.metric("tellmt_requests_in_flight") == 1)
    watching.join(10)
    assert [kind for kind, _, _ in events][-1:] == ["gone"]


def test_nothing_is_sent_for_a_while(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.api.events.QUIET", 0.02)
    service.engine.delay = 0.2
    id = begin(service, "Þriðja skjal")
    text = service.http.get(f"{JOBS}/{id}/events").text
    assert text.count(": still here\n\n") >= 2 and read(text)[-1][0] == "done"
    service.http.delete(f"{JOBS}/{id}")


def test_another_key_sees_nothing(published: Published) -> None:
    owner_key, other_key = (add_key(name, ["translate"])[1] for name in "ab")
    with running(published.base, published.registry) as service:
        id = begin(service, "Halló", **{"X-API-Key": owner_key})
        assert error(service.http.get(f"{JOBS}/{id}/events"), 401)
        assert error(service.http.get(f"{JOBS}/{id}/events", headers={"X-API-Key": other_key}), 404)
        assert read(service.http.get(f"{JOBS}/{id}/events", headers={"X-API-Key": owner_key}).text)[-1][0] == "done"
