"""What the API's own description says of every route alike: which keys it takes, how it answers what is refused before it is reached, and an example
of every body. Examples are those of the models; what a route gives of its own stays."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from serve.api.deepl_errors import DEEPL
from serve.auth.gate import ADMIN, is_open, needed

SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key of tellmt keys add, of the scope that the route needs"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key in Authorization; DeepL-Auth-Key KEY is taken as well"},
}
TAGS = [
    {"name": "native", "description": "Translations with the version that made them, documents, corrections, and what is live"},
    {"name": "LibreTranslate", "description": "As LibreTranslate's clients ask; docs/protocols.md"},
    {"name": "DeepL", "description": "As DeepL's clients ask, version 2; docs/protocols.md"},
    {"name": "operation", "description": "For supervisors, load balancers and Prometheus"},
    {"name": "administration", "description": "Changes to the registry, for keys of the scope admin"},
]
PROBLEM = {"$ref": "#/components/schemas/Problem"}
# Of routes under /v2/.
MESSAGE = {"$ref": "#/components/schemas/Message"}
# Of routes that want a key.
REFUSED = {
    "401": "No API key, or one that is not valid. A service without keys asks for none, but for what is under /api/v1/admin/",
    "403": "The key is not of the scope that this needs",
    "429": "A quota or the share of this key is used up; Retry-After says when to ask again",
}
# As DeepL has it.
REFUSED_DEEPL = {"403": "No API key, one that is not valid, or one of another scope", "429": REFUSED["429"]}
# Of all routes: what is said before a route is looked for, and when something breaks.
ANYWHERE = {
    "400": "The request cannot be used",
    "408": "The request did not come in time",
    "413": "The body is too large",
    "414": "The address is too long",
    "415": "The body has a Content-Encoding",
    "431": "The head of the request is too large",
    "500": "A fault of the service; the log has the line it comes from",
    "503": "Starting, overloaded, or the engine is down; Retry-After says when to ask again",
}
# By status, what an answer may say, unless a route has an example of its own.
SAID = {
    "400": "source: unknown language code; found xx; valid: a BCP 47 language code, such as is or pt-BR",
    "401": "no valid API key; valid: X-API-Key: KEY, or Authorization: Bearer KEY",
    "403": "this needs a key of another scope; valid: translate",
    "404": "no such document, or it is gone",
    "408": "the body did not come in time; valid: within 60 seconds",
    "409": "the document is not translated yet; found translating",
    "413": "too much text in one request; found 120000 characters; valid: at most 100000",
    "414": "the address is too long; found 9000 bytes; valid: at most 8192",
    "415": "compressed bodies are not read; valid: no Content-Encoding",
    "429": "the quota of requests of this key is used up",
    "431": "too many header fields; found 120; valid: at most 100",
    "456": "the quota of characters of this key is used up",
    "500": "something went wrong in the service",
    "503": "the engine is down",
    "504": "the translation was not done in the 10 s that the request has",
    "507": "the file that feedback is kept in is full",
}
QUOTA_HEADERS = {
    "RateLimit-Policy": {"description": "The quotas of the key, where it has some", "schema": {"type": "string"}},
    "RateLimit": {"description": "What is left of them", "schema": {"type": "string"}},
}
# Parts of addresses.
PARTS = {"id": ("The id of the document", 32 * "0"), "name": ("As the link has it", f"{64 * '0'}.txt")}


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema without references, for a body that FastAPI does not describe by itself."""
    schema = model.model_json_schema()
    known = schema.pop("$defs", {})

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return {**plain(known[value["$ref"].rpartition("/")[2]]), **{k: v for k, v in value.items() if k != "$ref"}}
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    out: dict[str, Any] = plain(schema)
    return out


def describe(app: FastAPI) -> None:
    """Let `app.openapi` add to what FastAPI finds out by itself."""
    plain = app.openapi

    def full() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            schema.setdefault("components", {})["securitySchemes"] = SCHEMES
            schema["tags"] = TAGS
            models = schema["components"].setdefault("schemas", {})
            for unused in ("HTTPValidationError", "ValidationError"):
                models.pop(unused, None)
            for path, methods in schema["paths"].items():
                for operation in methods.values():
                    _add(path, operation)
                    for content in _contents(operation):
                        _exemplify(content, models)
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
            own = answer.get("content", {}).get("application/json", {}).get("example")
            said = own or {"message" if deepl else "error": SAID[status]}
            answer["content"] = {"application/json": {"schema": MESSAGE if deepl else PROBLEM, "example": said}}
    for status in ("429", "503"):
        if status in answers:
            answers[status].setdefault("headers", {})["Retry-After"] = {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            parameter["description"], parameter["example"] = PARTS[parameter["name"]]
    if is_open(path):
        operation["security"] = []
        return
    for status, answer in answers.items():
        if status.startswith("2"):
            answer.setdefault("headers", {}).update(QUOTA_HEADERS)
    scopes = sorted(needed(path))
    # A service without keys, which only its own machine reaches, wants none; administration always does.
    operation["security"] = [{"key": []}, {"bearer": []}] + ([] if path.startswith(ADMIN) else [{}])
    operation["description"] = f"{operation.get('description', '')}\n\nScope: {' or '.join(scopes)}.".strip()


def _contents(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """All that has a schema of a body."""
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    return [content for body in bodies for content in body.get("content", {}).values()]


def _exemplify(content: dict[str, Any], models: dict[str, Any]) -> None:
    if "oneOf" in content["schema"]:
        # FastAPI takes every answer that is not JSON for a string.
        content["schema"].pop("type", None)
    if "example" in content or "examples" in content:
        return
    many = content["schema"].get("type") == "array"
    schema = content["schema"]["items"] if many else content["schema"]
    found = (models[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema).get("examples")
    if found:
        content["example"] = [found[0]] if many else found[0]
