"""What /openapi.json says of every route alike: the keys that it accepts, the errors before a route is reached, and an example of every body. Examples
come from the models; what a route describes itself stays. Every model is a component under its own name, request bodies included."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from serve.api.deepl_errors import DEEPL
from serve.auth.gate import ADMIN, KEY_IN_BODY, is_open, scopes_for

SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key from tellmt keys add, with the scope that the route needs"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key in Authorization; the service accepts DeepL-Auth-Key KEY as well"},
}
TAGS = [
    {"name": "native", "description": "Translations with the version that made them, documents, corrections, and the live versions"},
    {"name": "LibreTranslate", "description": "The requests of LibreTranslate's clients; see docs/protocols.md"},
    {"name": "DeepL", "description": "The requests of DeepL's clients, version 2; see docs/protocols.md"},
    {"name": "operation", "description": "For supervisors, load balancers and Prometheus"},
    {"name": "administration", "description": "Changes to the registry, for keys of the scope admin"},
]
COMPONENTS = "#/components/schemas/"
ERROR = {"$ref": f"{COMPONENTS}Error"}
# For routes under /v2/.
DEEPL_ERROR = {"$ref": f"{COMPONENTS}DeepLError"}
# For routes that need a key.
REFUSED = {
    "401": "The request has no API key, or a key that is not valid. A service without keys needs one only under /api/v1/admin/",
    "403": "The key does not have the scope that this route needs",
    "429": "The key has used up a quota, or its share of the queue; Retry-After says when to try again",
}
# The same, with the statuses of DeepL and of LibreTranslate.
REFUSED_ELSEWHERE = {"403": "The request has no API key, or a key that is not valid or has another scope", "429": REFUSED["429"]}
# For all routes: errors before a route is found, and failures of the service.
ANYWHERE = {
    "400": "The request is not valid",
    "408": "The request did not arrive in time",
    "413": "The body is too large",
    "414": "The address is too long",
    "415": "The body has a Content-Encoding",
    "431": "The head of the request is too large",
    "500": "The service failed; its log names the line of code",
    "503": "The service is starting or overloaded, or its engine is down; Retry-After says when to try again",
}
# By status, an example of the message, unless a route has its own.
ERROR_EXAMPLES = {
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
    "RateLimit-Policy": {"description": "The quotas of the key, where it has any", "schema": {"type": "string"}},
    "RateLimit": {"description": "What is left of these quotas", "schema": {"type": "string"}},
}
# Descriptions and examples of the parameters in paths.
PATH_PARAMETERS = {"id": ("The id of the document", 32 * "0"), "name": ("The last part of the link", f"{64 * '0'}.txt")}


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema without references, for a body that FastAPI does not describe by itself."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return {**resolve(definitions[value["$ref"].rpartition("/")[2]]), **{k: v for k, v in value.items() if k != "$ref"}}
            return {k: resolve(v) for k, v in value.items()}
        return [resolve(v) for v in value] if isinstance(value, list) else value

    resolved: dict[str, Any] = resolve(schema)
    return resolved


def describe(app: FastAPI) -> None:
    """Make `app.openapi` complete FastAPI's own description."""
    fastapi_schema = app.openapi

    def full_schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = fastapi_schema()
            schema.setdefault("components", {})["securitySchemes"] = SCHEMES
            schema["tags"] = TAGS
            models = schema["components"].setdefault("schemas", {})
            for unused in ("HTTPValidationError", "ValidationError"):
                models.pop(unused, None)
            for path, methods in schema["paths"].items():
                for operation in methods.values():
                    _complete(path, operation)
                    for content in _contents(operation):
                        _name_models(content, models)
                        _add_example(content, models)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = full_schema  # type: ignore[method-assign]


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Errors, scopes and quotas of a route, and its parameters in the path."""
    responses = operation["responses"]
    # FastAPI adds 422 to every route with a parameter in its path; this service answers 400 or 404 instead.
    responses.pop("422", None)
    deepl = path.startswith(DEEPL)
    refused = REFUSED_ELSEWHERE if deepl or path in KEY_IN_BODY else REFUSED
    errors = ANYWHERE if is_open(path) else {**ANYWHERE, **refused}
    for status, description in errors.items():
        responses.setdefault(status, {"description": description})
    for status, response in responses.items():
        if not status.startswith("2"):
            # FastAPI describes errors in the media type of the route's own responses, such as NDJSON; all errors are JSON.
            example = response.get("content", {}).get("application/json", {}).get("example")
            example = example or {"message" if deepl else "error": ERROR_EXAMPLES[status]}
            response["content"] = {"application/json": {"schema": DEEPL_ERROR if deepl else ERROR, "example": example}}
    for status in ("429", "503"):
        if status in responses:
            responses[status].setdefault("headers", {})["Retry-After"] = {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            parameter["description"], parameter["example"] = PATH_PARAMETERS[parameter["name"]]
    if is_open(path):
        operation["security"] = []
        return
    for status, response in responses.items():
        if status.startswith("2"):
            response.setdefault("headers", {}).update(QUOTA_HEADERS)
    scopes = sorted(scopes_for(path))
    # A service without keys, which only its own machine reaches, needs none; administration always needs one.
    operation["security"] = [{"key": []}, {"bearer": []}] + ([] if path.startswith(ADMIN) else [{}])
    operation["description"] = f"{operation.get('description', '')}\n\nScope: {' or '.join(scopes)}.".strip()


def _contents(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """All contents with the schema of a body."""
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    return [content for body in bodies for content in body.get("content", {}).values()]


def _name_models(content: dict[str, Any], models: dict[str, Any]) -> None:
    """Make components of the models that a route describes in place, as it does for bodies that it reads or writes itself."""
    content["schema"] = _component(content["schema"], models)
    if "oneOf" in content["schema"]:
        content["schema"]["oneOf"] = [_component(schema, models) for schema in content["schema"]["oneOf"]]
    if "x-events" in content:
        content["x-events"] = {kind: _component(schema, models) for kind, schema in content["x-events"].items()}


def _component(schema: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    """A reference to the component of this schema, where it is a model's: pydantic gives it the name of its class as the title."""
    if schema.get("type") != "object" or "title" not in schema:
        return schema
    assert models.setdefault(schema["title"], schema) == schema, f"two models are called {schema['title']}"
    return {"$ref": f"{COMPONENTS}{schema['title']}"}


def _add_example(content: dict[str, Any], models: dict[str, Any]) -> None:
    if "oneOf" in content["schema"]:
        # FastAPI takes every response that is not JSON for a string.
        content["schema"].pop("type", None)
    if "example" in content or "examples" in content:
        return
    many = content["schema"].get("type") == "array"
    schema = content["schema"]["items"] if many else content["schema"]
    examples = (models[schema["$ref"].removeprefix(COMPONENTS)] if "$ref" in schema else schema).get("examples")
    if examples:
        content["example"] = [examples[0]] if many else examples[0]
