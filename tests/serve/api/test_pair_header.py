"""Tellmt-Pair, by which a balancer finds the replica that has a pair loaded: checked against the body, and sent by our own clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tell.client.client import Client
from tell.languages import pair_header, parse_pair_header
from tell.registry.registry import Registry
from tests.conftest import Tellmt
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Running, error, publish, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One pair into each language, so that `auto` has one answer."""
    root = tmp_path_factory.mktemp("service")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    for pair in ("is-en", "en-is", "pt-BR:fo"):
        publish(registry, light_adapter(root / pair, base, pair))
    with running(base, registry) as service:
        yield service


# Requests of every API: path, and the body for a source (None where the service is to find it) and a target.
APIS: dict[str, Any] = {
    "/api/v1/translate": lambda source, target: {"source": source or "auto", "target": target, "text": "a"},
    "/api/v1/translate/stream": lambda source, target: {"source": source or "auto", "target": target, "text": "a"},
    "/translate": lambda source, target: {"source": source or "auto", "target": target, "q": "a"},
    "/v2/translate": lambda source, target: {"text": ["a"], "target_lang": target} | ({"source_lang": source} if source else {}),
}


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize(
    ("source", "target", "value", "status"),
    [
        ("is", "en", None, 200),
        ("is", "en", "is-en", 200),
        ("IS", "en", "is:en", 200),
        ("pt-br", "fo", "pt-BR:fo", 200),
        (None, "en", "auto-en", 200),
        (None, "en", "auto:en", 200),
        ("is", "en", "en-is", 400),
        ("is", "en", "auto-en", 400),
        (None, "en", "is-en", 400),
        ("is", "en", "", 400),
        ("is", "en", "is", 400),
        ("is", "en", "secret text", 400),
    ],
)
def test_the_header_is_checked_against_the_body(service: Running, path: str, source: str | None, target: str, value: str | None, status: int) -> None:
    headers = {} if value is None else {"Tellmt-Pair": value}
    answer = service.http.post(path, json=APIS[path](source, target), headers=headers)
    assert answer.status_code == status, answer.text
    assert status == 200 or ("Tellmt-Pair: " in answer.text and "secret" not in answer.text)


def test_a_wrong_pair_is_named_with_the_right_one_and_costs_no_load(service: Running) -> None:
    loads = len(service.engine.loads)
    answer = service.http.post("/api/v1/translate", json=APIS["/api/v1/translate"]("is", "en"), headers={"Tellmt-Pair": "en-is"})
    assert error(answer, 400) == "Tellmt-Pair: the header names another pair than the request; found en-is; valid: is-en, or no such header"
    assert len(service.engine.loads) == loads


@pytest.mark.parametrize(
    ("source", "target", "value"),
    [("is", "en", "is-en"), ("IS", "eng", "is-en"), ("pt-br", "en", "pt-BR:en"), ("auto", "en", "auto-en"), ("auto", "pt-BR", "auto:pt-BR")],
)
def test_one_pair_has_one_value_however_it_is_spelled(source: str, target: str, value: str) -> None:
    assert pair_header(source, target) == value == parse_pair_header(value)


def test_our_clients_send_it(service: Running, tellmt: Tellmt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str | None]] = []

    def note(request: httpx.Request) -> None:
        sent.append((request.url.path, request.headers.get("Tellmt-Pair")))

    for kind in (httpx.Client, httpx.AsyncClient):
        prepare = kind.build_request

        def build(self: Any, *args: Any, prepare: Any = prepare, **more: Any) -> httpx.Request:
            request: httpx.Request = prepare(self, *args, **more)
            note(request)
            return request

        monkeypatch.setattr(kind, "build_request", build)
    with Client(service.url) as client:
        client.translate("a", "is", "en")
        list(client.stream("a", "auto", "en"))
    (tmp_path / "a.txt").write_text("a\n")
    code, _, err = tellmt("translate", tmp_path / "a.txt", "--from", "is", "--to", "en", "--server", service.url, "-o", tmp_path / "b.txt")
    assert code == 0, err
    translations = [value for path, value in sent if "translate" in path]
    assert translations == ["is-en", "auto-en", "is-en"]
    assert (tmp_path / "b.txt").read_text().endswith(">a\n")
