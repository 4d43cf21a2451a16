"""The client reaches every route of the service's own API, every field of a request and of an answer: held against /openapi.json, so that a new one is seen."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

from serve.adapters.follower import Follower
from serve.app import create_app
from serve.translation.service import Service
from tell.client import AsyncClient, Client, models, service_models
from tell.client.calls import TranslateOptions
from tell.client.transport import ApiCall, StreamCall
from tell.model.engine import EngineOptions
from tell.registry.registry import Registry
from tests.support.fake_engine import FakeEngine
from tests.support.fake_eval_engine import light_base

ID = 32 * "0"
TRANSLATION = models.Translation(text="b", truncated=False, pair="is-en", adapter=ID, base="light")
WHOLE: TranslateOptions = {
    "timeout": 5, "cache": False, "segments": True, "hints": True, "base": True, "glossary": {"a": "b"}, "quality": "best", "fallback": ["pivot"], "low": True,
    "alternatives": 2, "format": "html",
}  # fmt: skip
# What HTML and alternatives are not sent as: parts.
IN_PARTS: Any = {name: value for name, value in WHOLE.items() if name not in ("alternatives", "format")}
NOT_IN_PARTS = {"alternatives", "format"}
# Each route with the call that says all that can be said there.
CALLS: dict[tuple[str, str], Callable[[Client], Any]] = {
    ("post", "/api/v1/translate"): lambda c: c.translate("a", "is", "en", **WHOLE),
    ("post", "/api/v1/translate/stream"): lambda c: c.stream("a", "is", "en", **IN_PARTS),
    ("post", "/api/v1/jobs"): lambda c: c.submit(b"a", "is", "en", name="a.txt", cache=False, glossary="g", quality="best"),
    ("get", "/api/v1/jobs/{id}"): lambda c: c.job(ID),
    ("delete", "/api/v1/jobs/{id}"): lambda c: c.delete(ID),
    ("get", "/api/v1/jobs/{id}/result"): lambda c: c.result(ID),
    ("get", "/api/v1/jobs/{id}/events"): lambda c: c.events(ID, after=3),
    ("post", "/api/v1/feedback"): lambda c: c.feedback("a", "c", TRANSLATION),
    ("get", "/api/v1/service"): lambda c: c.service(),
    ("get", "/api/v1/load"): lambda c: c.load(),
    ("get", "/api/v1/adapters"): lambda c: c.status(),
    ("get", "/api/v1/monitor"): lambda c: c.monitor(),
    ("get", "/ready"): lambda c: c.ready(),
    ("get", "/metrics"): lambda c: c.metrics(),
    ("post", "/api/v1/admin/promote"): lambda c: c.promote("is-en", ID, "why"),
    ("post", "/api/v1/admin/rollback"): lambda c: c.rollback("is-en", "why"),
    ("post", "/api/v1/admin/pin"): lambda c: c.pin("is-en", "why"),
    ("post", "/api/v1/admin/unpin"): lambda c: c.unpin("is-en", "why"),
    ("get", "/api/v1/admin/log"): lambda c: c.registry_log(),
    ("get", "/languages"): lambda c: c.languages(),
}
# `ready` tells more than that the process answers. LibreTranslate's and DeepL's requests are for their own clients.
ELSEWHERE = {("get", "/health")}
# Headers that say what a field of the body says too.
AS_FIELDS = {"X-Request-Timeout", "Cache-Control"}
# The answers: what each model of the API is here. `done` tells a stream's last line from its parts.
RECORDS: dict[str, tuple[Any, set[str]]] = {
    "TranslateResponse": (models.Translation, {"translations"}),
    "TranslatedText": (models.Translation, set()),
    "StreamEnd": (models.StreamEnd, {"done"}),
    "AdaptersResponse": (service_models.ServiceStatus, set()),
    "LoadResponse": (service_models.ServiceLoad, set()),
    "MonitorResponse": (service_models.MonitorReport, set()),
    "ReadyResponse": (service_models.Readiness, set()),
    "LibreTranslateLanguage": (service_models.ServedLanguage, set()),
}
# Raised as exceptions, or plain values.
NO_RECORDS = {"Error", "StreamError", "RegistryLog", "HealthResponse"}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What /openapi.json of a service has, which need not run for that."""
    home = tmp_path_factory.mktemp("described")
    base = light_base(home / "cache")
    service = Service(FakeEngine(EngineOptions(base=base)))
    return create_app(service, Follower(service.versions, Registry(home / "registry"))).openapi()


def operations(described: dict[str, Any]) -> dict[tuple[str, str], Any]:
    own = {"native", "operation", "administration"}
    routes = {(method, path): o for path, methods in described["paths"].items() for method, o in methods.items()}
    return {key: o for key, o in routes.items() if own & set(o["tags"]) or key in CALLS}


@functools.cache
def client_of(kind: type[Any]) -> Any:
    return kind("http://127.0.0.1:1")


def made(client: Any, ask: Callable[[Client], Any]) -> ApiCall[Any] | StreamCall[Any]:
    """What a call would send."""
    calls: list[Any] = []

    class Recorded(Exception):
        pass

    class Recorder:
        def send(self, call: Any) -> Any:
            calls.append(call)
            raise Recorded

        stream = send

    client._transport = Recorder()
    with pytest.raises(Recorded):
        result = ask(client)
        # A coroutine of the other client.
        result.send(None)
    [call] = calls
    return call  # type: ignore[no-any-return]


def test_every_route_has_a_call(described: dict[str, Any]) -> None:
    assert operations(described).keys() == CALLS.keys() | ELSEWHERE


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_field_of_a_request(described: dict[str, Any], kind: type[Any], method: str, path: str) -> None:
    operation = operations(described)[method, path]
    call = made(client_of(kind), CALLS[method, path])
    assert (call.method.lower(), f"/{call.path}") == (method, path.replace("{id}", ID))
    options = call.options
    sent = {*(options.get("json") or {}), *(options.get("data") or {}), *(options.get("files") or {})}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        fields = set(described["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["properties"])
        assert sent == fields - (NOT_IN_PARTS if path.endswith("/stream") else set())
    headers = {p["name"] for p in operation.get("parameters", []) if p["in"] == "header"} - AS_FIELDS
    assert headers <= (options.get("headers") or {}).keys()
    assert not [p for p in operation.get("parameters", []) if p["in"] == "query"]


def test_every_field_of_an_answer(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    seen: set[str] = set()

    def look(value: Any) -> None:
        for name in re.findall(r"#/components/schemas/(\w+)", str(value)):
            if name in seen or name in NO_RECORDS:
                continue
            seen.add(name)
            record, other = RECORDS.get(name) or (getattr(models, name, None) or getattr(service_models, name, None), set())
            assert record, f"the client has no record {name}"
            assert set(schemas[name].get("properties", {})) - other <= set(record.model_fields), name
            look(schemas[name])

    for operation in operations(described).values():
        look([content for status, answer in operation["responses"].items() if status < "3" for content in answer.get("content", {}).values()])
    assert {"TranslateResponse", "TranslationPart", "StreamEnd", "DocumentJob", "DocumentPart", "PairMonitor", "AdapterStatus"} <= seen
