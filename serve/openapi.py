"""What the API's own description says of every route alike: which keys it takes, and how it answers what is refused before it is reached."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serve.dialect import DEEPL
from serve.gate import ADMIN, is_open, needed

SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
# Of routes under /v2/.
MESSAGE = {"application/json": {"schema": {"$ref": "#/components/schemas/Message"}}}
# Of routes that want a key.
REFUSED = {
    "401": "No API key, or one that is not valid. A service without keys asks for none, but for what is under /api/v1/admin/",
    "403": "The key is not of the scope that this needs",
    "429": "A quota or the share of this key is used up; Retry-After says when to ask again",
}
# As DeepL has it.
REFUSED_DEEPL = {"403": "No API key, one that is not valid, or one of another scope", "429": REFUSED["429"]}
# Of all routes: what is said before a route is looked for.
ANYWHERE = {
    "400": "The request cannot be used",
    "408": "The request did not come in time",
    "413": "The body is too large",
    "414": "The address is too long",
    "415": "The body has a Content-Encoding",
    "431": "The head of the request is too large",
    "503": "Starting, overloaded, or the engine is down; Retry-After says when to ask again",
}
QUOTA_HEADERS = {
    "RateLimit-Policy": {"description": "The quotas of the key, where it has some", "schema": {"type": "string"}},
    "RateLimit": {"description": "What is left of them", "schema": {"type": "string"}},
}


def describe(app: FastAPI) -> None:
    """Let `app.openapi` add to what FastAPI finds out by itself."""
    plain = app.openapi

    def full() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            schema.setdefault("components", {})["securitySchemes"] = SCHEMES
            for unused in ("HTTPValidationError", "ValidationError"):
                schema["components"].get("schemas", {}).pop(unused, None)
            for path, methods in schema["paths"].items():
                for operation in methods.values():
                    _add(path, operation)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = full  # type: ignore[method-assign]


def _add(path: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    # FastAPI says so of every route with a part of its address that varies; here what is invalid is 400, or there is no such thing.
    answers.pop("422", None)
    deepl = path.startswith(DEEPL)
    known = ANYWHERE if is_open(path) else {**ANYWHERE, **(REFUSED_DEEPL if deepl else REFUSED)}
    for status, description in known.items():
        answers.setdefault(status, {"description": description})
    for status, answer in answers.items():
        if not status.startswith("2"):
            # FastAPI describes errors in the type of the route's own answers, such as NDJSON; all of them are JSON.
            answer["content"] = MESSAGE if deepl else PROBLEM
    for status in ("429", "503"):
        if status in answers:
            answers[status].setdefault("headers", {})["Retry-After"] = {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
    if is_open(path):
        return
    for status, answer in answers.items():
        if status.startswith("2"):
            answer.setdefault("headers", {}).update(QUOTA_HEADERS)
    scopes = sorted(needed(path))
    # A service without keys, which only its own machine reaches, wants none; administration always does.
    operation["security"] = [{"key": []}, {"bearer": []}] + ([] if path.startswith(ADMIN) else [{}])
    operation["description"] = f"{operation.get('description', '')}\n\nScope: {' or '.join(scopes)}.".strip()
