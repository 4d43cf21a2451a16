"""The service through its HTTP door, over a fake engine: answers, refusals, what operators are told, and the page."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from serve.config import Limits
from tests.support.serving import Published, Running, error, running, until

pytest_plugins = ["tests.support.serving_fixtures"]


# Answers


def test_a_text_is_translated_by_the_live_adapter(service: Running, published: Published, mark: str) -> None:
    answer = service.translate("Halló heimur.")
    assert answer.status_code == 200
    assert answer.json() == {
        "pair": "is-en",
        "adapter": published.ids["is-en"],
        "base": "light",
        "quality": "fast",
        "translations": [{"text": f"{mark}Halló heimur.", "truncated": False, "flags": []}],
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a\r\n\r\n\tb \n", "  {m}a\r\n\r\n\t{m}b \n"),
        ("a\n\n\n", "{m}a\n\n\n"),
        (["a", "", " \n", "b"], ["{m}a", "", " \n", "{m}b"]),
        # As many lines as went in, though U+2028 and U+0085 end lines elsewhere.
        ("a\u2028b\x85c", "{m}a\u2028b\x85c"),
        ("a\0b", "{m}a\0b"),
        # List marks are layout; what has no letters, and what is no text, is not translated.
        ("  - a\n\t* [ ] b  \n1. C\n2. D\n> e\r\n", "  - {m}a\n\t* [ ] {m}b  \n1. {m}C\n2. {m}D\n> {m}e\r\n"),
        (["🙂 🎉", "12,5 %"], ["🙂 🎉", "12,5 %"]),
        ("x" * 100_000, "x" * 100_000),
        (f"a {'QUJD' * 1000} b", f"{{m}}a {'QUJD' * 1000} {{m}}b"),
        ("Hann sagði \u2067שלום\u2069 við mig.", "{m}Hann sagði \u2067שלום\u2069 við mig."),
    ],
)
def test_layout_is_kept(service: Running, mark: str, text: Any, expected: Any) -> None:
    expected_texts = [x.replace("{m}", mark) for x in ([expected] if isinstance(expected, str) else expected)]
    assert service.texts(text) == expected_texts


def test_a_long_line_is_cut_at_its_sentences_and_put_together_again(service: Running, mark: str) -> None:
    # The base has one token per byte, so 256 tokens are seven of these sentences.
    sentence = "Þetta er setning númer eitt hér."
    text = " ".join([sentence] * 40)
    translation = service.texts(text)[0]
    assert translation.replace(mark, "") == text
    assert 5 <= translation.count(mark) <= 8
    assert all(part.strip().endswith(sentence) for part in translation.split(mark) if part.strip())


def test_in_a_small_context_a_long_line_is_cut_until_its_parts_fit(published: Published, mark: str) -> None:
    # The fake engine fails when prompt and output exceed the context.
    with running(published.base, published.registry, limits=Limits(context=200)) as server:
        text = " ".join(["Þetta er setning."] * 8 + ["x" * 90])
        assert server.texts(text)[0].replace(mark, "") == text


def test_a_cut_translation_is_marked_and_counted(service: Running, published: Published) -> None:
    before = service.metric("tellmt_truncated_segments_total", pair="is-en", version=published.ids["is-en"])
    answer = service.translate(["fine", "one\nendless"]).json()
    assert [(t["truncated"], t["flags"]) for t in answer["translations"]] == [(False, []), (True, ["truncated"])]
    # Tried once more, with the same end.
    assert service.metric("tellmt_truncated_segments_total", pair="is-en", version=published.ids["is-en"]) == before + 2


@pytest.mark.parametrize(("source", "target"), [("IS", "EN"), ("ISL", "eng"), ("pt_br", "en"), ("pt-BR", "EN")])
def test_language_codes_in_any_spelling(service: Running, source: str, target: str) -> None:
    assert service.texts("x", source=source, target=target)


# Refusals


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"source": "is", "target": "en"}, "text: missing; valid: a string, or a list of strings"),
        ({"source": "is", "target": "en", "text": 5}, "text: not usable"),
        ({"source": "is", "target": "en", "text": ["a", None]}, "text: not usable"),
        ({"source": "is", "target": "en", "text": {"a": 1}}, "text: not usable"),
        ({"source": ["is"], "target": "en", "text": "a"}, "source: not usable"),
        ({"source": "x" * 36, "target": "en", "text": "a"}, "source: not usable"),
        ({"source": "is", "target": "en", "texts": "a"}, "unknown key; found texts; valid: text (did you mean this?)"),
        ({"source": "xx", "target": "en", "text": "a"}, "source: unknown language code; found 'xx'"),
        ({"source": "is", "target": "", "text": "a"}, "target: unknown language code"),
        ({"source": "is", "target": "is", "text": "a"}, "source and target are the same language"),
        ({"source": "is", "target": "en", "text": ""}, "the text is empty"),
        ({"source": "is", "target": "en", "text": " \n\u3000"}, "the text is empty"),
        ({"source": "is", "target": "en", "text": [""]}, "the text is empty"),
        ({"source": "is", "target": "en", "text": []}, "there is no text"),
        ([], "not a JSON object; found list"),
        ("text", "not a JSON object; found str"),
        (None, "not a JSON object; found NoneType"),
    ],
)
def test_bad_requests(service: Running, body: Any, message: str) -> None:
    assert message in error(service.http.post("/api/v1/translate", content=json.dumps(body)), 400)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe\xfa", b'{"source": "is", \xc3\x28}', b"[" * 200_000, b"1" * 10_000, b'{"a":' * 5000, b"\0", b"NaN", "þ".encode("latin-1")],
    ids=lambda raw: repr(raw[:12]),
)
@pytest.mark.parametrize("path", ["/api/v1/translate", "/translate"])
def test_bodies_that_are_not_json(service: Running, path: str, raw: bytes) -> None:
    error(service.http.post(path, content=raw, headers={"content-type": "application/json"}), 400)


def test_a_pair_without_adapter_gets_the_list_of_pairs(service: Running) -> None:
    answer = service.translate("a", source="de", target="en")
    assert "no adapter for this pair; found de-en; valid: en-is, fo-is, is-en, pt-BR:en" in error(answer, 400)
    assert answer.json()["pairs"] == ["en-is", "fo-is", "is-en", "pt-BR:en"]


def test_unknown_paths_and_methods(service: Running) -> None:
    assert error(service.http.get("/nothing"), 404) == "no such path"
    assert "method" in error(service.http.get("/translate"), 405)
    assert "method" in error(service.http.post("/health"), 405)
    for path in ("/%00", "/../../etc/passwd", "/%2e%2e/%2e%2e/pyproject.toml", "/" + "a" * 5000, "/app.js/..%2f", "/\\..\\x"):
        assert service.http.get(path).status_code in (400, 404), path


def test_head_is_get_without_its_body(service: Running) -> None:
    """As monitors ask; under /v2/ too, where errors are rewritten, and without a body from a stream."""
    for path in ("/health", "/ready", "/languages", "/spec", "/metrics", "/v2/languages", "/v2/languages?type=x", "/v3/x", "/nothing", "/translate", "/docs/"):
        get, head = service.http.get(path), service.http.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers.get("content-type") == get.headers.get("content-type"), path
    assert service.metric("tellmt_requests_total", route="/health", status="200", pair="", version="") > 0
    id = service.http.post("/api/v1/jobs", files={"file": ("a.txt", "a")}, data={"source": "is", "target": "en"}).json()["id"]
    assert service.http.head(f"/api/v1/jobs/{id}/events", headers={"Accept": "text/event-stream"}).status_code == 200
    # The connection is good for the next request.
    assert service.texts("a")


# Operation


def test_adapters_say_what_is_live(service: Running, published: Published) -> None:
    body = service.http.get("/api/v1/adapters").json()
    assert (body["engine"], body["base"], body["reason"]) == ("fake", "light", None)
    assert [p["pair"] for p in body["pairs"]] == ["en-is", "fo-is", "is-en", "pt-BR:en"]
    pair = service.status()
    assert (pair["adapter"], pair["wanted"], pair["state"], pair["reason"]) == (published.ids["is-en"], published.ids["is-en"], "live", None)
    assert pair["source"] == {"code": "is", "name": "Icelandic", "autonym": "íslenska", "rtl": False}


def test_health_and_ready(service: Running) -> None:
    assert service.http.get("/health").json() == {"status": "ok"}
    assert service.http.get("/ready").json() == {"status": "ready", "pairs": ["en-is", "fo-is", "is-en", "pt-BR:en"]}
    service.engine.alive = False
    assert "down" in error(service.http.get("/ready"), 503)
    assert service.http.get("/health").status_code == 200


def test_metrics_count_requests_segments_characters_and_tokens(service: Running, published: Published) -> None:
    version = {"pair": "is-en", "version": published.ids["is-en"]}
    names = ("tellmt_segments_total", "tellmt_source_characters_total", "tellmt_output_tokens_total")
    before = [service.metric(n, **version) for n in names]
    requests = service.metric("tellmt_requests_total", route="/api/v1/translate", status="200", **version)
    service.texts("abc\n\nde")
    assert [service.metric(n, **version) - b for n, b in zip(names, before, strict=True)] == [2, 5, 5 + 2 * len("<12345678>")]
    until(lambda: service.metric("tellmt_requests_total", route="/api/v1/translate", status="200", **version) == requests + 1)
    page = service.http.get("/metrics").text
    for line in ("tellmt_request_seconds_bucket", 'tellmt_adapter_live{pair="is-en"', "tellmt_requests_in_flight 1.0"):
        assert line in page


def test_metric_labels_cannot_be_made_up_by_clients(service: Running) -> None:
    for i in range(5):
        service.http.get(f"/made-up-{i}")
        service.http.request("PATCH", f"/made-up-{i}")
        service.translate("a", source=f"q{chr(97 + i)}a", target="en")
    page = service.http.get("/metrics").text
    assert "made-up" not in page and "qaa" not in page
    assert 'route="other",status="404"' in page


def test_every_answer_carries_the_security_headers(service: Running) -> None:
    for answer in (service.http.get("/"), service.http.get("/nothing"), service.translate(""), service.http.get("/health"), service.http.get("/app.js")):
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-opener-policy"] == answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "camera=()" in answer.headers["permissions-policy"]
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        # Of no use over HTTP, and not the service's to promise over a proxy's TLS.
        assert "strict-transport-security" not in answer.headers
        assert "server" not in answer.headers


def test_the_page_is_served(service: Running) -> None:
    page = service.http.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html") and "<html" in page.text
    assert "javascript" in service.http.get("/app.js").headers["content-type"]
    assert service.http.get("/style.css").headers["content-type"].startswith("text/css")
    assert service.http.head("/").status_code == 200


def test_openapi_describes_bodies_answers_and_errors(service: Running) -> None:
    api = service.http.get("/openapi.json").json()
    for path, model, field in (("/api/v1/translate", "TranslateRequest", "text"), ("/translate", "LibreTranslateRequest", "q")):
        post = api["paths"][path]["post"]
        assert post["requestBody"]["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{model}"}
        assert field in api["components"]["schemas"][model]["properties"]
        assert {"200", "400", "413", "503"} <= set(post["responses"]) and "422" not in post["responses"]
        assert post["responses"]["400"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    assert "application/x-www-form-urlencoded" in api["paths"]["/translate"]["post"]["requestBody"]["content"]


@pytest.mark.clock
def test_requests_share_the_engine(service: Running) -> None:
    service.engine.delay = 0.3
    began = time.monotonic()
    threads = [threading.Thread(target=service.texts, args=(["a"],)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert time.monotonic() - began < 8 * 0.3
