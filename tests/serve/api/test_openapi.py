"""The API's description: every route has an example of each body, which its own schema accepts and the service takes, and says how it refuses."""

from __future__ import annotations

import importlib
import io
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jsonschema_rs
import pytest

from serve.auth.keys import add_key
from serve.corrections import Feedback
from tests.support.serving import Published, Running, running, until

pytest_plugins = ["tests.support.serving_fixtures"]

# What each route answers beside 2xx and what all routes do (serve.api.openapi.ANYWHERE). A route that is added here has its place in every test below.
KEYED = {401, 403, 429}
REFUSALS = {
    ("get", "/health"): set(),
    ("get", "/ready"): set(),
    ("get", "/metrics"): KEYED,
    ("post", "/api/v1/translate"): KEYED | {404, 504},
    ("post", "/api/v1/translate/stream"): KEYED | {404, 504},
    ("get", "/api/v1/adapters"): KEYED,
    ("get", "/api/v1/service"): set(),
    ("get", "/api/v1/load"): KEYED,
    ("get", "/api/v1/monitor"): KEYED,
    ("post", "/api/v1/jobs"): KEYED | {404},
    ("get", "/api/v1/jobs/{id}"): KEYED | {404},
    ("get", "/api/v1/jobs/{id}/events"): KEYED | {404},
    ("get", "/api/v1/jobs/{id}/result"): KEYED | {404, 409},
    ("delete", "/api/v1/jobs/{id}"): KEYED | {404},
    ("post", "/api/v1/feedback"): KEYED | {404, 507},
    ("post", "/api/v1/admin/promote"): KEYED | {409},
    ("post", "/api/v1/admin/rollback"): KEYED | {409},
    ("post", "/api/v1/admin/pin"): KEYED | {409},
    ("post", "/api/v1/admin/unpin"): KEYED | {409},
    ("get", "/api/v1/admin/log"): KEYED,
    ("post", "/translate"): {403, 429, 504},
    ("post", "/translate_file"): {403, 429, 504},
    ("post", "/detect"): {403, 429},
    ("post", "/suggest"): {403, 429, 507},
    ("get", "/languages"): set(),
    ("get", "/frontend/settings"): set(),
    ("get", "/download_file/{name}"): {404},
    ("post", "/v2/translate"): {403, 404, 429, 456, 504},
    ("get", "/v2/languages"): {403, 429},
    ("get", "/v2/usage"): {403, 429},
    ("post", "/v2/document"): {403, 404, 429, 456},
    ("post", "/v2/document/{id}"): {403, 404, 429},
    ("post", "/v2/document/{id}/result"): {403, 404, 429},
    ("post", "/v2/glossaries"): {403, 429},
    ("get", "/v2/glossaries"): {403, 429},
    ("get", "/v2/glossaries/{id}"): {403, 404, 429},
    ("get", "/v2/glossaries/{id}/entries"): {403, 404, 429},
    ("delete", "/v2/glossaries/{id}"): {403, 404, 429},
    ("get", "/v2/glossary-language-pairs"): {403, 429},
}
ANYWHERE = {400, 408, 413, 414, 415, 431, 500, 503}
# The models of all bodies, by the names that clients see. FastAPI would call two models of one class name by the paths of their modules.
MODELS = """
AdapterLoad AdapterStatus AdaptersResponse Alarm Alternative CanaryRun DetectedLanguage DocumentJob DocumentLoad DocumentPart DocumentProgress DocumentRequest
Error FeedbackRequest FeedbackScores GlossaryUse HealthResponse LanguageInfo LiveSignals LoadResponse MetricScore MonitorResponse PairChangeRequest PairMonitor
PivotText
PromoteRequest ReadyResponse RegistryLog RegistryPair RouteStep Segment SegmentLoad ServiceInfo StreamEnd StreamError TranslateRequest TranslateResponse
TranslatedText TranslationPart TranslationTotals WordHint
DeepLDocumentHandle DeepLDocumentKey DeepLDocumentRequest DeepLDocumentStatus DeepLError DeepLGlossaries DeepLGlossary DeepLGlossaryPair
DeepLGlossaryPairs DeepLGlossaryRequest DeepLLanguage DeepLTranslateRequest DeepLTranslateResponse
DeepLTranslation DeepLUsage
LibreTranslateDefaultPair LibreTranslateDetectRequest LibreTranslateDetection LibreTranslateFileRequest LibreTranslateFileResponse LibreTranslateLanguage
LibreTranslateLanguageName LibreTranslateRequest LibreTranslateResponse LibreTranslateSettings LibreTranslateSuggestRequest LibreTranslateSuggestResponse
DeepLTranslateRequestForm DeepLTranslateRequestMultipart
LibreTranslateDetectRequestForm LibreTranslateDetectRequestMultipart LibreTranslateRequestForm LibreTranslateRequestMultipart
LibreTranslateSuggestRequestForm LibreTranslateSuggestRequestMultipart
"""
# What an example is answered with where that hangs on what was done before: an adapter that is there, an earlier version, a document.
ELSE = {
    "/api/v1/admin/promote": 409, "/api/v1/admin/rollback": 409, "/v2/document/{id}": 404, "/v2/document/{id}/result": 404, "/download_file/{name}": 404,
    "/v2/glossaries/{id}": 404, "/v2/glossaries/{id}/entries": 404,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that does all it can, and a key that may."""
    home = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLMT_KEYS", str(home / "keys.json"))
        key = add_key("all", ["translate", "admin", "metrics"])[1]
        with running(published.base, published.registry, feedback=Feedback(home / "feedback.jsonl"), compare_base=True) as server:
            server.http.headers["X-API-Key"] = key
            yield server


@pytest.fixture(scope="module")
def described(shared: Running) -> dict[str, Any]:
    return dict(shared.http.get("/openapi.json").json())


def test_every_route_is_looked_at(described: dict[str, Any]) -> None:
    assert {(method, path) for path, methods in described["paths"].items() for method in methods} == set(REFUSALS)
    assert set(described["components"]["securitySchemes"]) == {"key", "bearer"}
    tags = {tag["name"]: tag["description"] for tag in described["tags"]}
    assert all(tags.values()) and {tag for methods in described["paths"].values() for o in methods.values() for tag in o["tags"]} == set(tags)
    # No reference leads nowhere.
    for name in set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', httpx.Response(200, json=described).text)):
        assert name in described["components"]["schemas"]
    assert "#/$defs" not in str(described)


def test_every_model_has_a_name_of_the_api(described: dict[str, Any]) -> None:
    names = set(described["components"]["schemas"])
    assert not [name for name in names if "__" in name]
    assert names == set(MODELS.split())
    # Every request body is one of them.
    operations = [operation for methods in described["paths"].values() for operation in methods.values()]
    schemas = [content["schema"] for o in operations for content in o.get("requestBody", {}).get("content", {}).values()]
    assert schemas and {schema["$ref"].rpartition("/")[2] for schema in schemas} <= {
        name for name in names if name.endswith(("Request", "Key", "Form", "Multipart"))
    }


def examples(content: dict[str, Any]) -> list[Any]:
    return [content["example"]] if "example" in content else [e["value"] for e in content["examples"].values()]


@pytest.mark.parametrize(("method", "path"), REFUSALS)
def test_examples_and_refusals(described: dict[str, Any], method: str, path: str) -> None:
    operation = described["paths"][path][method]
    assert operation["summary"] and len(operation["tags"]) == 1 and all(p.get("description") for p in operation.get("parameters", []))
    contents = list(operation.get("requestBody", {}).get("content", {}).values())
    assert (method in ("post", "put")) == bool(contents)
    for status, answer in operation["responses"].items():
        assert answer["description"]
        refusals = list(answer.get("content", {}).values())
        assert bool(refusals) == (status != "204"), (status, answer)
        contents += refusals
        if not status.startswith("2"):
            (error_example,) = examples(refusals[0])
            assert isinstance(error_example["message" if path.startswith("/v2/") else "error"], str)
    for content in contents:
        assert content["schema"] and examples(content)
        for example in examples(content):
            jsonschema_rs.validate({**content["schema"], "components": described["components"]}, example)
    refusals = {int(status) for status in operation["responses"] if not status.startswith("2")}
    assert refusals == REFUSALS[method, path] | ANYWHERE
    # Where a key is wanted it is said, and of which scope.
    keyed = 403 in refusals
    assert bool(operation["security"]) == keyed and ("Scope: " in operation.get("description", "")) == keyed


def sent(kind: str, example: dict[str, Any]) -> dict[str, Any]:
    if kind == "application/json":
        return {"json": example}
    if kind == "application/x-www-form-urlencoded":
        return {"content": urlencode(example, doseq=True), "headers": {"Content-Type": kind}}
    fields = {k: v for k, v in example.items() if k != "file"}
    file = ("letter.txt", example["file"].encode()) if "file" in example else (None, "")
    return {"data": fields, "files": {"file" if "file" in example else "api_key": file}}


@pytest.mark.parametrize(("method", "path"), [key for key in REFUSALS if key[0] != "delete"])
def test_the_service_takes_the_examples_and_answers_as_described(described: dict[str, Any], whole: Running, method: str, path: str) -> None:
    operation = described["paths"][path][method]
    id = ""
    if path.startswith("/api/v1/jobs/{id}"):
        id = whole.http.post("/api/v1/jobs", files={"file": ("a.txt", b"a")}, data={"source": "is", "target": "en"}).json()["id"]
        until(lambda: whole.http.get(f"/api/v1/jobs/{id}").json()["state"] == "done")
    url = path.replace("{id}", id or 32 * "0").replace("{name}", f"{64 * '0'}.txt")
    bodies = operation.get("requestBody", {}).get("content", {})
    for kind, arguments in [(kind, sent(kind, example)) for kind, content in bodies.items() for example in examples(content)] or [("", {})]:
        answer = whole.http.request(method, url, **arguments)
        status = ELSE.get(path)
        assert answer.status_code == status if status else answer.is_success, (kind, answer.text)
        content = operation["responses"][str(answer.status_code)].get("content", {})
        assert bool(answer.content) == bool(content)
        if "application/json" in content:
            jsonschema_rs.validate({**content["application/json"]["schema"], "components": described["components"]}, answer.json())
        elif content:
            assert answer.headers["content-type"].partition(";")[0] in content


@pytest.mark.slow
def test_a_client_that_is_made_of_the_description(
    described: dict[str, Any], whole: Running, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openapi-python-client writes a package, whose functions and types are those of the API."""
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    (tmp_path / "config.yml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--path", "openapi.json", "--config", "config.yml"]
    said = subprocess.run([*command, "--output-path", "made"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
    # What it leaves out is the stream's answer alone, since it knows no NDJSON.
    assert re.findall(r"WARNING parsing (.*)", said) == ["POST /api/v1/translate/stream within native."]
    monkeypatch.syspath_prepend(str(tmp_path))
    made, models, types = (importlib.import_module(name) for name in ("made", "made.models", "made.types"))
    for module in pkgutil.walk_packages(made.__path__, "made."):
        importlib.import_module(module.name)

    def ask(tag: str, path: str, body: Any, client: Any) -> Any:
        name = re.sub(r"[^a-z0-9]+", "_", described["paths"][path]["post"]["operationId"]).strip("_")
        return importlib.import_module(f"made.api.{tag}.{name}").sync_detailed(client=client, body=body)

    client = made.AuthenticatedClient(whole.url, whole.http.headers["X-API-Key"], prefix="", auth_header_name="X-API-Key")
    pair, id = {"source": "is", "target": "en"}, published.ids["is-en"]
    native = ask("native", "/api/v1/translate", models.TranslateRequest(**pair, text=["a", "b"]), client).parsed
    assert native.adapter == id and [t.text for t in native.translations] == [f"<{id[:8]}>a", f"<{id[:8]}>b"]
    for kind in (models.LibreTranslateRequest, models.LibreTranslateRequestForm):
        assert ask("libre_translate", "/translate", kind(**pair, q="a"), client).parsed.translated_text == f"<{id[:8]}>a"
    deepl = ask("deep_l", "/v2/translate", models.DeepLTranslateRequest(text=["a"], source_lang="IS", target_lang="EN-US"), client).parsed
    assert deepl.translations[0].text == f"<{id[:8]}>a"
    document = models.DocumentRequest(**pair, file=types.File(io.BytesIO(b"a"), "a.txt"))
    assert ask("native", "/api/v1/jobs", document, client).parsed.pair == "is-en"
    refused = ask("native", "/api/v1/translate", models.TranslateRequest(**pair, text="a"), made.Client(whole.url))
    assert refused.status_code == 401 and isinstance(refused.parsed, models.Error)
