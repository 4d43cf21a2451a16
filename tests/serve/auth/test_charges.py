"""A caller with a quota pays for what was translated: not for requests that are wrong, run out of time or are left, nor for the rest of a document."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.auth.gate import Keys
from serve.auth.keys import add_key
from tell.model.engine import Generation, Prompt
from tell.registry.registry import Registry
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Published, Running, publish, running, until
from tests.support.slow_engine import SlowEngine

DAY = 9000
QUICK, STUCK = "quick", "this one is stuck"
# Two parts of a document: the first is long enough to be one.
LONG = 300 * "quick. "


class StuckEngine(SlowEngine):
    """Does not end texts that say they are stuck."""

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        if any(STUCK in self._source(prompt) for prompt in prompts):
            await asyncio.sleep(30)
        return await super().generate(prompts, adapter_id)


@pytest.fixture(scope="module")
def keys_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("charges") / "keys.json"
    add_key("first", ["translate"], path=path)
    return path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, keys_path: Path) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("stuck")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    published = Published(base, registry, {"is-en": publish(registry, light_adapter(root / "a", base, "is-en"))})
    with running(published.base, published.registry, StuckEngine, keys=Keys(keys_path)) as server:
        yield server


@pytest.fixture
def key(service: Running, keys_path: Path) -> str:
    """A key of the test's own, whose quota nothing was taken from."""
    return add_key(secrets.token_hex(8), ["translate"], requests_per_minute=100, characters_per_day=DAY, path=keys_path)[1]


def post(service: Running, key: str, path: str, body: dict[str, Any]) -> httpx.Response:
    return service.http.post(path, json={"source": "is", "target": "en", **body}, headers={"X-API-Key": key})


def left(service: Running, key: str) -> tuple[int, int]:
    """The requests and characters that are left, as an answer that charges nothing says it, but for that request."""
    header = service.http.get("/api/v1/adapters", headers={"X-API-Key": key}).headers["ratelimit"]
    requests, characters = re.findall(r";r=(\d+);", header)
    return int(requests), int(characters)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v1/translate", {"text": "Halló.", "target": "de"}, 400),
        ("/translate", {"q": "Halló.", "target": "de"}, 400),
        ("/v2/translate", {"text": ["Halló."], "target_lang": "DE", "source_lang": "IS"}, 400),
        ("/v2/translate", {"text": ["Halló <b>allir."], "target_lang": "EN", "tag_handling": "xml"}, 400),
        ("/api/v1/translate", {"text": "Halló.", "source": "a b"}, 400),
        ("/api/v1/translate/stream", {"text": "Halló.", "target": "de"}, 400),
    ],
)
def test_a_request_that_is_wrong_costs_no_characters(service: Running, key: str, path: str, body: dict[str, Any], status: int) -> None:
    answer = post(service, key, path, body)
    assert answer.status_code == status, answer.text
    # It counts as a request, and the answer itself says what is left.
    assert f'"characters";r={DAY};' in answer.headers["ratelimit"]
    assert left(service, key) == (98, DAY)


def test_what_is_translated_is_charged(service: Running, key: str) -> None:
    assert post(service, key, "/api/v1/translate", {"text": [QUICK, QUICK]}).status_code == 200
    assert left(service, key) == (98, DAY - 2 * len(QUICK))


def test_out_of_time_costs_what_was_translated(service: Running, key: str) -> None:
    answer = post(service, key, "/api/v1/translate", {"text": [QUICK, STUCK], "timeout": 0.6})
    assert answer.status_code == 504, answer.text
    assert left(service, key) == (98, DAY - len(QUICK))


def test_a_stream_out_of_time_costs_what_was_translated(service: Running, key: str) -> None:
    answer = post(service, key, "/api/v1/translate/stream", {"text": [QUICK, STUCK], "timeout": 0.6})
    assert answer.status_code == 200 and '"status": 504' in answer.text
    assert left(service, key) == (98, DAY - len(QUICK))


@pytest.mark.parametrize("path", ["/api/v1/translate", "/api/v1/translate/stream"])
def test_a_client_that_leaves_pays_what_was_translated(service: Running, key: str, path: str) -> None:
    # Not in the cache yet.
    quick = f"{QUICK} {secrets.token_hex(4)}"
    body = f'{{"source": "is", "target": "en", "text": ["{quick}", "{STUCK}"]}}'.encode()
    host, port = service.url.removeprefix("http://").split(":")
    done = service.engine.answered
    with socket.create_connection((host, int(port)), timeout=20) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        until(lambda: service.engine.answered > done)
        assert left(service, key)[1] == DAY - len(quick + STUCK)
    until(lambda: left(service, key)[1] == DAY - len(quick))


def test_a_document_that_is_deleted_costs_what_was_translated(service: Running, key: str) -> None:
    headers = {"X-API-Key": key}
    files = {"file": ("a.txt", f"{LONG}\n\n{STUCK} 1\n")}
    job = service.http.post("/api/v1/jobs", files=files, data={"source": "is", "target": "en"}, headers=headers).json()
    until(lambda: service.http.get(f"/api/v1/jobs/{job['id']}", headers=headers).json()["progress"]["done"] >= len(LONG))
    assert DAY - left(service, key)[1] >= len(LONG + STUCK)
    assert service.http.delete(f"/api/v1/jobs/{job['id']}", headers=headers).status_code == 204
    until(lambda: len(LONG) <= DAY - left(service, key)[1] <= len(LONG) + 2)


def test_a_file_link_that_runs_out_of_time_costs_what_was_translated(service: Running, key: str) -> None:
    headers = {"X-API-Key": key, "X-Request-Timeout": "2"}
    files = {"file": ("a.txt", f"{LONG}\n\n{STUCK} 2\n")}
    answer = service.http.post("/translate_file", files=files, data={"source": "is", "target": "en"}, headers=headers)
    assert answer.status_code == 504, answer.text
    until(lambda: len(LONG) <= DAY - left(service, key)[1] <= len(LONG) + 2)
