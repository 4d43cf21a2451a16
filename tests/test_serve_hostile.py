"""Hostile strings, broken bodies, and too much of anything: no crash, no 5xx, one output per input, nobody's text repeated."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.versions import Limits
from tell.errors import EngineError
from tests.conftest import SHARED
from tests.serving import Running, error, running, until

pytest_plugins = ["tests.serving_fixtures"]

SECRET = "Leyndarmál-7731"


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
