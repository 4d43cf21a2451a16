"""The service through its HTTP door, over a fake engine: answers, refusals, hostile input, limits, and who is told what."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.service import Limits
from tell.bases import Base
from tell.errors import EngineError
from tell.registry import Registry
from tests.conftest import SHARED
from tests.fake_eval_engine import light_adapter, light_base
from tests.serving import Running, publish, running, until

SECRET = "Leyndarmál-7731"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Base, Registry, dict[str, str]]:
    root = tmp_path_factory.mktemp("service")
    base = light_base(root / "cache")
    registry = Registry(root / "registry")
    ids = {pair: publish(registry, light_adapter(root / pair, base, pair)) for pair in ("is-en", "en-is", "fo-is", "pt-BR:en")}
    return base, registry, ids


@pytest.fixture(scope="module")
def shared(made: tuple[Base, Registry, dict[str, str]]) -> Iterator[Running]:
    with running(made[0], made[1]) as found:
        yield found


@pytest.fixture
def service(shared: Running) -> Iterator[Running]:
    yield shared
    shared.engine.delay, shared.engine.failure, shared.engine.alive = 0.0, None, True


@pytest.fixture
def mark(made: tuple[Base, Registry, dict[str, str]]) -> str:
    return f"<{made[2]['is-en'][:8]}>"


def error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert isinstance(body["error"], str) and body["error"]
    return str(body["error"])


# Answers


def test_a_text_is_translated_by_the_live_adapter(service: Running, made: Any, mark: str) -> None:
    answer = service.translate("Halló heimur.")
    assert answer.status_code == 200
    assert answer.json() == {
        "pair": "is-en",
        "adapter": made[2]["is-en"],
        "base": "light",
        "translations": [{"text": f"{mark}Halló heimur.", "truncated": False}],
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
    ],
)
def test_layout_is_kept(service: Running, mark: str, text: Any, expected: Any) -> None:
    wanted = [x.replace("{m}", mark) for x in ([expected] if isinstance(expected, str) else expected)]
    assert service.texts(text) == wanted


def test_a_long_line_is_cut_at_its_sentences_and_put_together_again(service: Running, mark: str) -> None:
    # The base has one token per byte, so 256 tokens are seven of these sentences.
    sentence = "Þetta er setning númer eitt hér."
    text = " ".join([sentence] * 40)
    out = service.texts(text)[0]
    assert out.replace(mark, "") == text
    assert 5 <= out.count(mark) <= 8
    assert all(part.strip().endswith(sentence) for part in out.split(mark) if part.strip())


def test_in_a_small_context_a_long_line_is_cut_until_its_parts_fit(made: Any, mark: str) -> None:
    # The fake engine fails when prompt and output exceed the context.
    with running(made[0], made[1], limits=Limits(context=200)) as found:
        text = " ".join(["Þetta er setning."] * 8 + ["x" * 90])
        assert found.texts(text)[0].replace(mark, "") == text


def test_a_cut_translation_is_marked_and_counted(service: Running, made: Any) -> None:
    before = service.metric("tellmt_truncated_segments_total", pair="is-en", version=made[2]["is-en"])
    answer = service.translate(["fine", "one\nendless"]).json()
    assert [t["truncated"] for t in answer["translations"]] == [False, True]
    assert service.metric("tellmt_truncated_segments_total", pair="is-en", version=made[2]["is-en"]) == before + 1


@pytest.mark.parametrize(("source", "target"), [("IS", "EN"), ("ISL", "eng"), ("pt_br", "en"), ("pt-BR", "EN")])
def test_language_codes_in_any_spelling(service: Running, source: str, target: str) -> None:
    assert service.texts("x", source=source, target=target)


# Refusals


@pytest.mark.parametrize(
    ("body", "said"),
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
def test_bad_requests(service: Running, body: Any, said: str) -> None:
    assert said in error(service.http.post("/api/v1/translate", content=json.dumps(body)), 400)


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


# Hostile input


def hostile() -> list[str]:
    path = SHARED / "hostile" / "blns.json"
    if not path.exists():
        pytest.skip("the shared data is not here")
    found: list[str] = json.loads(path.read_text(encoding="utf-8"))
    assert len(found) == 515
    return found


def test_every_hostile_string_gets_one_answer(service: Running, mark: str) -> None:
    texts = hostile()
    out = service.texts(texts)
    assert len(out) == len(texts)
    assert [o.replace(mark, "") for o in out] == texts


def test_every_hostile_string_alone_on_both_apis_and_as_a_language(service: Running) -> None:
    for text in hostile():
        wanted = 200 if text.strip() else 400
        assert service.translate(text).status_code == wanted, text
        assert service.http.post("/translate", data={"q": text, "source": "is", "target": "en"}).status_code == wanted, text
        assert service.http.post("/translate", json={"q": [text, "b"], "source": "is", "target": "en"}).status_code == 200, text
        error(service.translate("a", source=text), 400)


@pytest.mark.parametrize(
    ("spelled", "expected"), [(r"\ud800", "\ufffd"), (r"a\udfffb", "a\ufffdb"), (r"\ud83d\ude42", "🙂"), (r"\u0000x", "\0x"), (r"\ude42\ud83d", "\ufffd\ufffd")]
)
def test_surrogates_and_nuls(service: Running, mark: str, spelled: str, expected: str) -> None:
    for path, key in (("/api/v1/translate", "text"), ("/translate", "q")):
        raw = f'{{"source": "is", "target": "en", "{key}": ["{spelled}"]}}'.encode()
        answer = service.http.post(path, content=raw)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["translatedText"] if path == "/translate" else [t["text"] for t in body["translations"]]) == [mark + expected]
    bad_key = b'{"source": "is", "target": "en", "text": "a", "\\ud800": 1}'
    assert "unknown key" in error(service.http.post("/api/v1/translate", content=bad_key), 400)
    bad_code = b'{"source": "\\ud800", "target": "en", "text": "a"}'
    assert "unknown language code" in error(service.http.post("/api/v1/translate", content=bad_code), 400)


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3), max_leaves=6)  # fmt: skip  # noqa: E501
CODES = st.sampled_from(["is", "en", "auto", "xx", "", "pt-BR"]) | JSON


@given(st.dictionaries(st.sampled_from(["source", "target", "text", "q", "format"]), CODES, max_size=5) | JSON)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_makes_the_service_fail(shared: Running, body: Any) -> None:
    raw = json.dumps(body).encode()
    for path in ("/api/v1/translate", "/translate"):
        answer = shared.http.post(path, content=raw, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 400), answer.text
        assert answer.status_code == 200 or answer.json()["error"]


def test_the_text_is_not_repeated_in_errors_logs_or_metrics(service: Running, capfd: pytest.CaptureFixture[str]) -> None:
    service.engine.failure = EngineError("the engine has died", found=SECRET)
    assert error(service.translate(SECRET), 503) == "the engine has died"
    service.engine.failure = RuntimeError(f"cannot work on {SECRET}")
    answer = service.translate(SECRET)
    assert SECRET not in answer.text and error(answer, 500) == "something went wrong in the service"
    service.engine.failure = None
    for body in ({"text": {"x": SECRET}}, {"text": [SECRET, 1]}, {"source": 3, "text": SECRET}, {"text": SECRET}):
        assert SECRET not in error(service.http.post("/api/v1/translate", json={"target": "en", **body}), 400)
    assert SECRET not in service.http.post("/api/v1/translate", content=b'{"text": "' + SECRET.encode()).text
    service.http.get("/translate", params={"q": SECRET})
    assert SECRET not in service.http.get("/metrics").text
    err = capfd.readouterr().err
    # The engine's own words for an expected failure are the engine's to keep clean; those of an unexpected one are never said.
    assert "unexpected RuntimeError at fake_engine.py:" in err
    assert f"cannot work on {SECRET}" not in err
    assert "/translate?q" not in err


# Limits


def test_bodies_over_a_mebibyte(service: Running) -> None:
    big = json.dumps({"source": "is", "target": "en", "text": "a" * (1 << 20)}).encode()
    assert "at most 1048576 bytes" in error(service.http.post("/api/v1/translate", content=big), 413)

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(big), 60_000):
            yield big[start : start + 60_000]

    for path in ("/api/v1/translate", "/translate"):
        assert "at most 1048576 bytes" in error(service.http.post(path, content=chunks()), 413)
    form = {"q": "a" * (1 << 20), "source": "is", "target": "en"}
    error(service.http.post("/translate", data=form), 413)
    error(service.http.post("/translate", files={k: (None, v) for k, v in form.items()}), 413)
    assert service.texts("still here")


@pytest.mark.parametrize(("length", "statuses"), [("5000000", (b"413",)), ("9" * 30, (b"400", b"413")), ("-1", (b"400",)), ("1e3", (b"400",))])
def test_a_length_that_is_announced_and_never_comes(service: Running, length: str, statuses: tuple[bytes, ...]) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(f"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        assert raw.recv(4096).split(b"\r\n")[0].split()[1] in statuses
    assert service.texts("still here")


def test_a_megabyte_of_text_is_refused_with_the_limit(service: Running) -> None:
    assert "found 1000000 characters; valid: at most 100000" in error(service.translate("a" * 1_000_000), 413)
    assert "found 1001; valid: at most 1000" in error(service.translate(["a"] * 1001), 413)
    assert "too many lines in one request; found 5000; valid: at most 4096" in error(service.translate("a\n" * 5000), 413)


def test_too_much_waiting_is_answered_503_and_the_rest_goes_on(made: Any) -> None:
    with running(made[0], made[1], limits=Limits(context=2048, waiting=10, batch=4)) as found:
        found.engine.delay = 0.6
        answers: list[httpx.Response] = []
        first = threading.Thread(target=lambda: answers.append(found.translate(["a"] * 8)))
        first.start()
        until(lambda: found.metric("tellmt_segments_waiting") == 8)
        refused = found.translate(["a"] * 3)
        assert "too many segments are waiting" in error(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert found.translate(["a"] * 2).status_code == 200
        first.join()
        assert answers[0].status_code == 200
        assert found.metric("tellmt_segments_waiting") == 0
        assert found.metric("tellmt_segments_refused_total") == 3
        found.engine.delay = 0
        assert found.translate(["a"] * 10).status_code == 200
        # No call to the engine takes more than a batch, so that long requests let short ones between.
        assert max(n for id, n in found.engine.calls if id) <= 5


def test_a_client_that_leaves_stops_the_engine(service: Running) -> None:
    service.engine.delay = 30
    before = service.engine.cancelled
    for path, body in (("/api/v1/translate", {"text": "a"}), ("/translate", {"q": "a"})):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(service.url + path, json={"source": "is", "target": "en", **body}, timeout=0.3, trust_env=False)
    until(lambda: service.engine.cancelled == before + 2)
    until(lambda: service.metric("tellmt_segments_waiting") == 0)
    until(lambda: service.status()["in_flight"] == 0)
    version = service.status()["adapter"]
    until(lambda: service.metric("tellmt_requests_total", route="/translate", status="499", pair="is-en", version=version) == 1)


# LibreTranslate


def libre(service: Running, **body: Any) -> httpx.Response:
    return service.http.post("/translate", json={"source": "is", "target": "en", **body})


def test_libretranslate_json_and_forms(service: Running, mark: str) -> None:
    assert libre(service, q="a").json() == {"translatedText": f"{mark}a"}
    assert libre(service, q=["a", "", "b"]).json() == {"translatedText": [f"{mark}a", "", f"{mark}b"]}
    assert libre(service, q=["a"], format="text", api_key="k", alternatives=3).json() == {"translatedText": [f"{mark}a"]}
    fields = {"q": "Þú & ég+þið", "source": "is", "target": "en"}
    assert service.http.post("/translate", data=fields).json() == {"translatedText": f"{mark}Þú & ég+þið"}
    assert service.http.post("/translate", data={**fields, "q": ["a", "b"]}).json() == {"translatedText": [f"{mark}a", f"{mark}b"]}
    assert service.http.post("/translate", files={k: (None, v) for k, v in fields.items()}).json() == {"translatedText": f"{mark}Þú & ég+þið"}


def test_libretranslate_auto_takes_the_only_pair_into_the_target(service: Running, made: Any) -> None:
    said = error(libre(service, q="a", source="auto", target="en"), 400)
    assert "the source language cannot be told" in said and "is-en, pt-BR:en" in said
    assert "no adapter translates into this language; found de" in error(libre(service, q="a", source="auto", target="de"), 400)


def test_libretranslate_auto_when_it_is_unique(tmp_path: Path) -> None:
    base, registry = light_base(tmp_path / "cache"), Registry(tmp_path / "registry")
    id = publish(registry, light_adapter(tmp_path / "a", base, "fo-is"))
    with running(base, registry) as found:
        answer = libre(found, q=["a", "b"], source="auto", target="is").json()
        detected = {"confidence": 0.0, "language": "fo"}
        assert answer == {"translatedText": [f"<{id[:8]}>a", f"<{id[:8]}>b"], "detectedLanguage": [detected, detected]}
        assert found.http.get("/languages").json() == [
            {"code": "fo", "name": "Faroese", "targets": ["is"]},
            {"code": "is", "name": "Icelandic", "targets": []},
        ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"q": "<b>a</b>", "format": "html"}, "format: HTML is not translated yet; found html; valid: text"),
        ({"q": "a", "format": "pdf"}, "format: not usable; valid: text"),
        ({}, "q: missing; valid: a string, or a list of strings"),
        ({"q": ""}, "the text is empty"),
        ({"q": "a", "source": "xx"}, "unknown language code"),
    ],
)
def test_libretranslate_refusals(service: Running, body: dict[str, Any], said: str) -> None:
    assert said in error(libre(service, **body), 400)


def test_forms_that_cannot_be_read(service: Running) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert "not URL-encoded" in error(service.http.post("/translate", content="q=þ".encode(), headers=kind), 400)
    assert "too many fields" in error(service.http.post("/translate", content=b"&".join([b"q=a"] * 3000), headers=kind), 400)
    files = {"q": ("a.txt", b"text"), "source": (None, "is"), "target": (None, "en")}
    error(service.http.post("/translate", files=files), 400)
    for content in (b"", b"--x", b"--x\r\n\r\n\r\n--x--", b"garbage"):
        for kind in ({"content-type": "multipart/form-data; boundary=x"}, {"content-type": "multipart/form-data"}):
            error(service.http.post("/translate", content=content, headers=kind), 400)


def test_languages(service: Running) -> None:
    found = {x["code"]: x for x in service.http.get("/languages").json()}
    assert {c: x["targets"] for c, x in found.items()} == {"en": ["is"], "fo": ["is"], "is": ["en"], "pt-BR": ["en"]}
    assert found["is"]["name"] == "Icelandic"


# Operation


def test_adapters_say_what_is_live(service: Running, made: Any) -> None:
    body = service.http.get("/api/v1/adapters").json()
    assert (body["engine"], body["base"], body["reason"]) == ("fake", "light", None)
    assert [p["pair"] for p in body["pairs"]] == ["en-is", "fo-is", "is-en", "pt-BR:en"]
    pair = service.status()
    assert (pair["adapter"], pair["wanted"], pair["state"], pair["reason"]) == (made[2]["is-en"], made[2]["is-en"], "live", None)
    assert pair["source"] == {"code": "is", "name": "Icelandic", "autonym": "íslenska", "rtl": False}


def test_health_and_ready(service: Running) -> None:
    assert service.http.get("/health").json() == {"status": "ok"}
    assert service.http.get("/ready").json() == {"status": "ready", "pairs": ["en-is", "fo-is", "is-en", "pt-BR:en"]}
    service.engine.alive = False
    assert "down" in error(service.http.get("/ready"), 503)
    assert service.http.get("/health").status_code == 200


def test_metrics_count_requests_segments_characters_and_tokens(service: Running, made: Any) -> None:
    version = {"pair": "is-en", "version": made[2]["is-en"]}
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
        assert "server" not in answer.headers


def test_the_page_is_served(service: Running) -> None:
    page = service.http.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html") and "<html" in page.text
    assert "javascript" in service.http.get("/app.js").headers["content-type"]
    assert service.http.get("/style.css").headers["content-type"].startswith("text/css")
    assert service.http.head("/").status_code == 200


def test_openapi_describes_bodies_answers_and_errors(service: Running) -> None:
    api = service.http.get("/openapi.json").json()
    for path, model in (("/api/v1/translate", "text"), ("/translate", "q")):
        post = api["paths"][path]["post"]
        assert model in post["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert {"200", "400", "413", "503"} <= set(post["responses"]) and "422" not in post["responses"]
        assert post["responses"]["400"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    assert "application/x-www-form-urlencoded" in api["paths"]["/translate"]["post"]["requestBody"]["content"]


def test_requests_share_the_engine(service: Running) -> None:
    service.engine.delay = 0.3
    began = time.monotonic()
    threads = [threading.Thread(target=service.texts, args=(["a"],)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert time.monotonic() - began < 8 * 0.3
