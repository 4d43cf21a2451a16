"""Hostile strings, broken bodies, and too much of anything: no crash, no 5xx, one output per input, nobody's text repeated."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.auth.keys import add_key
from serve.config import Limits
from tell.errors import EngineError
from tests.conftest import SHARED
from tests.support.serving import Published, Running, error, running, until

pytest_plugins = ["tests.support.serving_fixtures"]

SECRET = "Leyndarmál-7731"


def hostile() -> list[str]:
    path = SHARED / "hostile" / "blns.json"
    if not path.exists():
        pytest.skip("the shared data is not here")
    strings: list[str] = json.loads(path.read_text(encoding="utf-8"))
    assert len(strings) == 515
    return strings


def test_every_hostile_string_gets_one_answer(service: Running, mark: str) -> None:
    texts = hostile()
    translations = service.texts(texts)
    assert len(translations) == len(texts)
    assert [o.replace(mark, "") for o in translations] == texts


def test_every_hostile_string_alone_on_both_apis_and_as_a_language(service: Running) -> None:
    for text in hostile():
        status = 200 if text.strip() else 400
        assert service.translate(text).status_code == status, text
        assert service.http.post("/translate", data={"q": text, "source": "is", "target": "en"}).status_code == status, text
        assert service.http.post("/translate", json={"q": [text, "b"], "source": "is", "target": "en"}).status_code == 200, text
        error(service.translate("a", source=text), 400)


@pytest.mark.parametrize(
    ("spelled", "expected"), [(r"\ud800", "\ufffd"), (r"a\udfffb", "a\ufffdb"), (r"\ud83d\ude42", "🙂"), (r"\u0000x", "\0x"), (r"\ude42\ud83d", "\ufffd\ufffd")]
)
def test_surrogates_and_nuls(service: Running, mark: str, spelled: str, expected: str) -> None:
    # What has no letter is not translated.
    translation = (mark if any(map(str.isalpha, expected)) else "") + expected
    for path, key in (("/api/v1/translate", "text"), ("/translate", "q")):
        raw = f'{{"source": "is", "target": "en", "{key}": ["{spelled}"]}}'.encode()
        answer = service.http.post(path, content=raw)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["translatedText"] if path == "/translate" else [t["text"] for t in body["translations"]]) == [translation]
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


def spelled(value: str) -> bytes:
    """A request whose text is spelled as `value`, which need not be JSON."""
    return f'{{"source": "is", "target": "en", "text": {value}, "q": {value}, "pair": "is-en", "why": {value}}}'.encode()


MALFORMED = {
    "nothing": b"",
    "white space": b" \n\t\r ",
    "nested lists": b"[" * 500_000,
    "nested lists, closed": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 150_000,
    "nested text": spelled("[" * 50_000 + "]" * 50_000),
    "nested 900 deep": spelled("[" * 900 + '"a"' + "]" * 900),
    "a key twice": spelled('"a", "text": "b", "q": "c", "text": ["d"], "q": 5, "source": "is"'),
    "the same key 100,000 times": b"{" + b",".join([b'"text":"a"'] * 90_000) + b"}",
    "as many keys": b"{" + b",".join(b'"k%d":1' % i for i in range(80_000)) + b"}",
    "a key of 900 kB": b'{"' + b"x" * 900_000 + b'": 1}',
    "a key of NULs": b'{"' + rb"\u0000" * 1000 + b'": 1}',
    "NaN": spelled("NaN"),
    "Infinity": spelled("-Infinity"),
    "a number too large": spelled("1e999999"),
    "a number too long": spelled("9" * 100_000),
    "a number 4300 long": spelled("9" * 4300),
    "many small numbers": spelled("[" + "1," * 100_000 + "1]"),
    "minus": spelled("-"),
    "leading zero": spelled("01"),
    "hex": spelled("0x10"),
    "a comment": b"/* */ {}",
    "single quotes": spelled("'a'"),
    "trailing comma": spelled('["a",]'),
    "a BOM": b"\xef\xbb\xbf" + spelled('"a"'),
    "two BOMs": b"\xef\xbb\xbf" * 2 + spelled('"a"'),
    "UTF-16": spelled('"a"').decode().encode("utf-16"),
    "UTF-16 cut short": spelled('"a"').decode().encode("utf-16")[:-1],
    "UTF-16 without BOM": spelled('"a"').decode().encode("utf-16-be"),
    "UTF-32": spelled('"a"').decode().encode("utf-32"),
    "UTF-32 cut short": spelled('"a"').decode().encode("utf-32")[:-3],
    "a surrogate in UTF-16": b"\xff\xfe" + spelled('"a"').decode().encode("utf-16-le") + b"\x00\xd8",
    "surrogates as UTF-8": spelled('"a"').replace(b'"a"', b'"\xed\xa0\x80"'),
    "overlong NUL": spelled('"a"').replace(b'"a"', b'"\xc0\x80"'),
    "beyond Unicode": spelled('"a"').replace(b'"a"', b'"\xf4\x90\x80\x80"'),
    "half a surrogate escape": spelled(r'"\ud83d"'),
    "half an escape": spelled(r'"\u12"'),
    "an escape that is none": spelled(r'"\x41"'),
    "NUL in a string": spelled('"a\0b"'),
    "a line feed in a string": spelled('"a\nb"'),
    "NUL after the end": spelled('"a"') + b"\0",
    "another after the end": spelled('"a"') * 2,
    "a line of JSONL more": spelled('"a"') + b"\n" + spelled('"b"'),
    "concatenated garbage": spelled('"a"') + b"}}}}",
    "an unterminated string": spelled('"a')[:-2],
    "__proto__": spelled('"a", "__proto__": {"admin": true}, "constructor": {}'),
    "a form": b"source=is&target=en&text=a",
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "gzip": b"\x1f\x8b\x08\x00" + b"\0" * 50,
    "a pickle": b"cos\nsystem\n(S'true'\ntR.",
    "every byte": bytes(range(256)),
    "true": b"true",
    "an empty list": b"[]",
}
assert {"UTF-16", "NaN", "a BOM"} <= set(MALFORMED)
CUT = [spelled('["a", "\\u00e9"]')[:n] for n in range(0, 130, 3)]


@pytest.fixture
def operator(published: Published) -> Iterator[Running]:
    """A service with keys, its client holding one of every scope."""
    key = add_key("operator", ["translate", "admin", "metrics"])[1]
    with running(published.base, published.registry) as server:
        server.http.headers["X-API-Key"] = key
        yield server


@pytest.mark.parametrize("kind", ["application/json; charset=utf-16", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_every_malformed_body_on_every_route(operator: Running, kind: str) -> None:
    api = operator.http.get("/openapi.json").json()["paths"]
    paths = [p for p, methods in api.items() if "post" in methods]
    assert len(paths) >= 6
    # Whole bodies on the routes that differ in how they read them; what is cut short on one.
    for path in paths:
        for name, raw in MALFORMED.items():
            if name in ("the same key 100,000 times", "a key of 900 kB", "as many keys") and path.startswith("/api/v1/admin/p"):
                continue
            answer = operator.http.post(path, content=raw, headers={"content-type": kind})
            assert answer.status_code < 500, (path, name, answer.text)
            assert answer.status_code < 400 or answer.json()["message" if path.startswith("/v2/") else "error"], (path, name)
    for raw in CUT:
        answer = operator.http.post("/api/v1/translate", content=raw, headers={"content-type": kind})
        assert answer.status_code == 400 and answer.json()["error"]
    assert operator.texts("still here")


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "identity, gzip", "x"])
def test_compressed_bodies_are_not_read(service: Running, encoding: str) -> None:
    answer = service.http.post("/api/v1/translate", json={"source": "is", "target": "en", "text": "a"}, headers={"Content-Encoding": encoding})
    assert "compressed bodies are not read" in error(answer, 415) and answer.headers["accept-encoding"] == "identity"
    plain = service.http.post("/api/v1/translate", json={"source": "is", "target": "en", "text": "a"}, headers={"Content-Encoding": "identity"})
    assert plain.status_code == 200


class Failing(Exception):
    """What a library raises that quotes its input."""

    def __init__(self) -> None:
        super().__init__(f"cannot work on {SECRET}")


FAILURES: list[Callable[[], Exception]] = [
    lambda: EngineError("the engine has died", found=SECRET),
    lambda: EngineError("the engine failed", found=f"RuntimeError: token {SECRET}"),
    lambda: RuntimeError(f"cannot work on {SECRET}"),
    lambda: ValueError(SECRET, SECRET.encode()),
    lambda: OSError(28, SECRET, SECRET),
    lambda: UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    lambda: KeyError(SECRET),
    lambda: MemoryError(SECRET),
    Failing,
]


def test_the_text_and_the_key_are_nowhere_but_in_answers(operator: Running, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """A marker through every route and every failure: not in a log, a metric, a header or the body of an error."""
    caplog.set_level("DEBUG")
    # The client, which knows what it sends, logs in this process too.
    for client in ("httpx", "httpcore"):
        caplog.set_level("WARNING", client)
    key = operator.http.headers["X-API-Key"]
    api = operator.http.get("/openapi.json").json()["paths"]
    paths = {p: next(iter(methods)) for p, methods in api.items()}
    refused = 0

    def see(answer: httpx.Response, *, translated: bool = False) -> None:
        nonlocal refused
        visible = str(answer.headers) + ("" if translated and answer.status_code == 200 else answer.text)
        for hidden in (SECRET, SECRET.encode().hex(), key, key.split("_", 2)[2], json.dumps(SECRET)[1:-1]):
            assert hidden not in visible, (answer.request.method, answer.request.url, visible)
        refused += answer.status_code >= 400

    texts = {"source": "is", "target": "en", "text": SECRET, "q": SECRET}
    whole = {"/translate": {k: texts[k] for k in ("source", "target", "q")}}
    native = {k: texts[k] for k in ("source", "target", "text")}
    for path, method in paths.items():
        body = whole.get(path, native)
        see(operator.http.request(method, path, json=body), translated=True)
        # The text where it does not belong.
        for bad in (
            {**body, "source": SECRET}, {**body, "target": SECRET}, {**body, "text": {SECRET: SECRET}}, {**body, "q": [SECRET, 1]}, {**body, SECRET: SECRET},
            {"pair": SECRET, "why": SECRET}, {"pair": "is-en", "why": SECRET, "adapter": SECRET}, {"pair": "is-en", SECRET: 1}, [SECRET], SECRET,
            {**body, "format": SECRET}, {**body, "timeout": SECRET}, {**body, "cache": SECRET},
        ):  # fmt: skip
            if path != "/api/v1/admin/log":
                see(operator.http.request(method, path, json=bad), translated=True)
        see(operator.http.request(method, path, content=json.dumps(body).encode()[:-1]))
        see(operator.http.request(method, path, content=SECRET.encode("utf-16")))
        see(operator.http.request(method, path, data={SECRET: SECRET}), translated=path == "/api/v1/admin/log")
        see(operator.http.request(method, path, files={SECRET: (SECRET, SECRET.encode(), SECRET.encode().hex())}), translated=path == "/api/v1/admin/log")
        see(operator.http.request(method, path, params={"q": SECRET, "api_key": key}, json=body), translated=True)
        see(operator.http.request(method, f"{path}/{SECRET}", json=body))
        see(operator.http.request("PATCH", path, json=body))
        see(operator.http.request(method, path, json=body, headers={"X-API-Key": f"{key}x"}), translated=True)
    for failure in FAILURES:
        for path in ("/api/v1/translate", "/api/v1/translate/stream", "/translate"):
            operator.engine.failure = failure()
            # A text of its own each time, which no cache knows.
            body = {k: f"{v} {refused}" if v == SECRET else v for k, v in whole.get(path, native).items()}
            answer = operator.http.post(path, json=body)
            see(answer)
            operator.engine.failure = None
    assert refused > 60
    see(operator.http.get("/metrics"))
    see(operator.http.get("/api/v1/adapters"))
    captured = capfd.readouterr()
    logged = captured.err + captured.out + "".join(f"{r.getMessage()} {r.exc_text}" for r in caplog.records)
    for hidden in (SECRET, SECRET.encode().hex(), repr(SECRET.encode()), json.dumps(SECRET)[1:-1], key, key.split("_", 2)[2]):
        assert hidden not in logged
    assert "the engine has died" in logged and "RuntimeError" in logged


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
        raw.sendall(f"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode())
        assert raw.recv(4096).split(b"\r\n")[0].split()[1] in statuses
    assert service.texts("still here")


def test_a_megabyte_of_text_is_refused_with_the_limit(service: Running) -> None:
    assert "found 1000000 characters; valid: at most 100000" in error(service.translate("a" * 1_000_000), 413)
    assert "found 1001; valid: at most 1000" in error(service.translate(["a"] * 1001), 413)
    assert "too many lines in one request; found 5000; valid: at most 4096" in error(service.translate("a\n" * 5000), 413)


def test_too_much_waiting_is_answered_503_and_the_rest_goes_on(published: Published) -> None:
    with running(published.base, published.registry, limits=Limits(context=2048, waiting=10, batch=4)) as server:
        server.engine.delay = 0.6
        answers: list[httpx.Response] = []
        first = threading.Thread(target=lambda: answers.append(server.translate(["a"] * 8)))
        first.start()
        until(lambda: server.metric("tellmt_segments_waiting") == 8)
        refused = server.translate(["a"] * 3)
        assert "too many segments are waiting" in error(refused, 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert server.translate(["a"] * 2).status_code == 200
        first.join()
        assert answers[0].status_code == 200
        assert server.metric("tellmt_segments_waiting") == 0
        assert server.metric("tellmt_segments_refused_total") == 3
        server.engine.delay = 0
        assert server.translate(["a"] * 10).status_code == 200
        # No call to the engine takes more than a batch, so that long requests let short ones between.
        assert max(n for id, n in server.engine.calls if id) <= 5


@pytest.mark.clock
def test_a_client_that_leaves_stops_the_engine(service: Running) -> None:
    service.engine.delay = 30
    before = service.engine.cancelled
    for path, body in (("/api/v1/translate", {"text": "asked by nobody before"}), ("/translate", {"q": "nor this"})):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(service.url + path, json={"source": "is", "target": "en", **body}, timeout=0.3, trust_env=False)
    until(lambda: service.engine.cancelled == before + 2)
    until(lambda: service.metric("tellmt_segments_waiting") == 0)
    until(lambda: service.status()["in_flight"] == 0)
    version = service.status()["adapter"]
    until(lambda: service.metric("tellmt_requests_total", route="/translate", status="499", pair="is-en", version=version) == 1)
