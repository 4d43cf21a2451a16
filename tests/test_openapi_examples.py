"""The API's description: every body and every answer has an example that its own schema accepts, and every route says how it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import Running

pytest_plugins = ["tests.serving_fixtures"]

# What each route answers beside 2xx and what all routes do (serve.openapi.ANYWHERE).
REFUSALS = {
    ("post", "/api/v1/translate"): {401, 403, 429, 504},
    ("post", "/translate"): {401, 403, 429, 504},
    ("post", "/translate_file"): {401, 403, 429, 504},
    ("post", "/detect"): {401, 403, 429},
    ("get", "/languages"): set(),
    ("get", "/frontend/settings"): set(),
    ("get", "/download_file/{name}"): {404},
    ("post", "/api/v1/jobs"): {401, 403, 429},
    ("get", "/api/v1/jobs/{id}"): {401, 403, 404, 429},
    ("get", "/api/v1/jobs/{id}/result"): {401, 403, 404, 409, 429},
    ("delete", "/api/v1/jobs/{id}"): {401, 403, 404, 429},
    ("post", "/api/v1/feedback"): {401, 403, 404, 429, 507},
    ("post", "/v2/translate"): {403, 429, 456, 504},
    ("get", "/v2/languages"): {403, 429},
    ("get", "/v2/usage"): {403, 429},
    ("post", "/v2/document"): {403, 429, 456},
    ("post", "/v2/document/{id}"): {403, 404, 429},
    ("post", "/v2/document/{id}/result"): {403, 404, 429},
}


@pytest.fixture(scope="module")
def described(shared: Running) -> dict[str, Any]:
    return dict(shared.http.get("/openapi.json").json())


def schemas(described: dict[str, Any], content: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of bodies, references followed, lists looked into."""
    out = []
    for body in content.values():
        schema = body["schema"]
        schema = schema["items"] if schema.get("type") == "array" else schema
        out.append(described["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema)
    return out


@pytest.mark.parametrize(("method", "path"), REFUSALS)
def test_examples_and_refusals(described: dict[str, Any], method: str, path: str) -> None:
    import jsonschema_rs

    operation = described["paths"][path][method]
    bodies = schemas(described, operation.get("requestBody", {}).get("content", {}))
    for status, answer in operation["responses"].items():
        assert answer["description"]
        if status.startswith("2"):
            bodies += schemas(described, answer.get("content", {}))
        else:
            [told] = schemas(described, answer["content"])
            assert told["required"] == ["message" if path.startswith("/v2/") else "error"]
    assert method == "delete" or path == "/api/v1/feedback" or len(bodies) >= 1
    for body in bodies:
        assert body.get("examples"), body
        for example in body["examples"]:
            jsonschema_rs.validate({**body, "components": described["components"]}, example)
    anywhere = {400, 408, 413, 414, 415, 431, 503}
    found = {int(status) for status in operation["responses"] if not status.startswith("2")} - anywhere
    assert found == REFUSALS[method, path]
