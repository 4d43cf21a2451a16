"""LibreTranslate's API over the fake engine: JSON and forms, source auto, refusals, languages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from eval.monitor.feedback import Correction, read_feedback
from serve.auth.keys import add_key
from serve.corrections import Feedback
from tell.errors import EngineError
from tell.registry.registry import Registry
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Published, Running, error, publish, running

pytest_plugins = ["tests.support.serving_fixtures"]


@pytest.fixture
def keyed(published: Published) -> Iterator[tuple[Running, str]]:
    key = add_key("website", ["translate"])[1]
    with running(published.base, published.registry) as server:
        yield server, key


def libre(service: Running, **body: Any) -> httpx.Response:
    return service.http.post("/translate", json={"source": "is", "target": "en", **body})


def test_libretranslate_json_and_forms(service: Running, mark: str) -> None:
    assert libre(service, q="a").json() == {"translatedText": f"{mark}a"}
    assert [libre(service, q=q).json()["translatedText"] for q in ([""], [" "], ["", ""])] == [[""], [" "], ["", ""]]
    assert libre(service, q=["a", "", "b"]).json() == {"translatedText": [f"{mark}a", "", f"{mark}b"]}
    assert libre(service, q=["a"], format="text", api_key="k", secret="s").json() == {"translatedText": [f"{mark}a"]}
    fields = {"q": "Þú & ég+þið", "source": "is", "target": "en"}
    assert service.http.post("/translate", data=fields).json() == {"translatedText": f"{mark}Þú & ég+þið"}
    assert service.http.post("/translate", data={**fields, "q": ["a", "b"]}).json() == {"translatedText": [f"{mark}a", f"{mark}b"]}
    assert service.http.post("/translate", files={k: (None, v) for k, v in fields.items()}).json() == {"translatedText": f"{mark}Þú & ég+þið"}


def test_libretranslate_auto_takes_the_only_pair_into_the_target(service: Running, published: Published) -> None:
    message = error(libre(service, q="a", source="auto", target="en"), 400)
    assert "the source language cannot be told" in message and "is-en, pt-BR:en" in message
    assert "no adapter translates into this language; found de" in error(libre(service, q="a", source="auto", target="de"), 400)


def test_libretranslate_auto_when_it_is_unique(tmp_path: Path) -> None:
    base, registry = light_base(tmp_path / "cache"), Registry(tmp_path / "registry")
    id = publish(registry, light_adapter(tmp_path / "a", base, "fo-is"))
    with running(base, registry) as server:
        # One letter tells nothing, so of the two languages of the pair neither is the likelier.
        answer = libre(server, q=["a", "Hvussu gongur, og hvat eitur tú?"], source="auto", target="is").json()
        assert answer["translatedText"] == [f"<{id[:8]}>a", f"<{id[:8]}>Hvussu gongur, og hvat eitur tú?"]
        assert answer["detectedLanguage"][0] == {"confidence": 50.0, "language": "fo"}
        assert answer["detectedLanguage"][1]["language"] == "fo" and answer["detectedLanguage"][1]["confidence"] > 80
        assert server.http.get("/languages").json() == [
            {"code": "fo", "name": "Faroese", "targets": ["is"]},
            {"code": "is", "name": "Icelandic", "targets": []},
        ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"q": "a", "format": "pdf"}, "format: not usable; valid: text or html"),
        ({}, "q: missing; valid: a string, or a list of strings"),
        ({"q": ""}, "the text is empty"),
        ({"q": "a", "source": "xx"}, "unknown language code"),
    ],
)
def test_libretranslate_refusals(service: Running, body: dict[str, Any], message: str) -> None:
    assert message in error(libre(service, **body), 400)


def test_a_form_as_curl_sends_it(service: Running) -> None:
    """Plain UTF-8 and percent-encoded UTF-8 are the same text."""
    kind = {"content-type": "application/x-www-form-urlencoded"}
    bodies = ("q=þú&source=is&target=en".encode(), b"q=%C3%BE%C3%BA&source=is&target=en")
    plain, encoded = (service.http.post("/translate", content=body, headers=kind) for body in bodies)
    assert plain.status_code == 200 and plain.json() == encoded.json()


def test_json_that_is_called_a_form(service: Running) -> None:
    """What `curl -d` sends without a header."""
    kind = {"content-type": "application/x-www-form-urlencoded"}
    for path, body in (("/translate", b' {"q": "a", "source": "is", "target": "en"}'), ("/v2/translate", b'{"text": ["a"], "target_lang": "EN"}')):
        assert "looks like JSON" in (answer := service.http.post(path, content=body, headers=kind)).text and answer.status_code == 400
        assert "application/json" in answer.text


def test_forms_that_cannot_be_read(service: Running) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert "not UTF-8" in error(service.http.post("/translate", content=b"q=\xff", headers=kind), 400)
    assert "too many fields" in error(service.http.post("/translate", content=b"&".join([b"q=a"] * 3000), headers=kind), 400)
    files = {"q": ("a.txt", b"text"), "source": (None, "is"), "target": (None, "en")}
    error(service.http.post("/translate", files=files), 400)
    for content in (b"", b"--x", b"--x\r\n\r\n\r\n--x--", b"garbage"):
        for kind in ({"content-type": "multipart/form-data; boundary=x"}, {"content-type": "multipart/form-data"}):
            error(service.http.post("/translate", content=content, headers=kind), 400)


EMPTY = {"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}}


@pytest.mark.parametrize("body", [{}, EMPTY, {**EMPTY, "content": b"--x--\r\n"}, {"data": {"format": "text"}}, {"data": {"q": "of the form"}}])
def test_fields_in_the_address(service: Running, mark: str, body: dict[str, Any]) -> None:
    """As PHP's LibreTranslate client asks /detect, and everything that LibreTranslate takes there; the address counts before the form."""

    def ask(path: str, **fields: Any) -> httpx.Response:
        return service.http.post(path, params={"source": "is", "target": "en", "api_key": "", **fields}, **body)

    assert ask("/translate", q="þú & ég").json() == {"translatedText": f"{mark}þú & ég"}
    assert ask("/translate", q=["a", "b"], alternatives=1).json() == {"translatedText": [f"{mark}a", f"{mark}b"], "alternatives": [[], []]}
    assert ask("/translate", q="<p>a</p>", format="html").json() == {"translatedText": f"<p>{mark.replace('<', '&lt;').replace('>', '&gt;')}a</p>"}
    assert ask("/detect", q="Góðan daginn, hvað segir þú gott í dag?").json()[0]["language"] == "is"
    assert "format: not usable" in error(ask("/translate", q="a", format="pdf"), 400)


def test_a_json_body_is_all_there_is(service: Running, mark: str) -> None:
    """As at LibreTranslate, which reads one or the other."""
    assert service.http.post("/translate?q=b&target=is&format=pdf", json={"q": "a", "source": "is", "target": "en"}).json() == {"translatedText": f"{mark}a"}
    assert "q: missing" in error(service.http.post("/translate?q=b", json={"source": "is", "target": "en"}), 400)


def test_no_address_is_logged(service: Running, capfd: pytest.CaptureFixture[str]) -> None:
    def ask(**fields: str) -> int:
        return service.http.post("/translate", params={"q": "leyndarmál", "source": "is", "target": "en", **fields}).status_code

    assert (ask(), ask(source="leyndarmál"), ask(api_key="leyndarmál"), service.http.get("/nothing?q=leyndarmál").status_code) == (200, 400, 400, 404)
    service.engine.failure = EngineError("the engine is dead", found="leyndarmál")
    assert ask(q="annað leyndarmál") == 503
    out, err = capfd.readouterr()
    assert "the engine is dead" in err and "leynd" not in out + err and "translate?" not in out + err and "%C3" not in out + err


def test_a_text_that_is_in_the_target_language_already(service: Running, keyed: tuple[Running, str]) -> None:
    for same in ({"target": "is"}, {"source": "IS", "target": "is"}, {"source": "fo", "target": "fo", "format": "html"}, {"source": "pt", "target": "pt"}):
        answer = libre(service, q=["a <b>c", "þú"], alternatives=1, **same)
        assert answer.json() == {"translatedText": ["a <b>c", "þú"], "alternatives": [[], []]} and "x-tellmt-adapter" not in answer.headers
    assert libre(service, q="a", target="is").json() == {"translatedText": "a"}
    # What is no language here is none, and the limits hold.
    assert "source and target are the same language" in error(libre(service, q="a", source="de", target="de"), 400)
    assert "too many texts" in error(libre(service, q=["a"] * 1001, target="is"), 400)
    assert "exceeds the text limit" in error(libre(service, q="a" * 100_001, target="is"), 400)
    closed, key = keyed
    error(libre(closed, q="a", target="is"), 403)
    assert libre(closed, q="a", target="is", api_key=key).json() == {"translatedText": "a"}


def test_the_limit_is_that_of_a_text(service: Running, mark: str) -> None:
    assert service.http.get("/frontend/settings").json()["charLimit"] == 100_000
    just = "a" * 100_000
    assert libre(service, q=[just, just, "b"], format="html").status_code == libre(service, q=[just, just, "b"]).status_code == 200
    assert libre(service, q=[just, just, "b"]).json()["translatedText"][2] == f"{mark}b"
    for q in (just + "a", ["b", just + "a"]):
        assert "a text exceeds the text limit; found 100001 characters; valid: at most 100000" in error(libre(service, q=q), 400)
    assert "a line is too long" in error(
        service.http.post("/translate_file", files={"file": ("a.txt", just + "a")}, data={"source": "is", "target": "en"}), 400
    )
    # Other protocols have one limit for all texts; a body that is too large is no matter of texts.
    assert "too much text in one request; found 100001" in error(service.translate([just, "a"]), 413)
    assert "the body is too large" in error(libre(service, q="a" * (1 << 20)), 413)


def test_suggestions_are_corrections(published: Published, service: Running, tmp_path: Path) -> None:
    path, body = tmp_path / "feedback.jsonl", {"q": "Halló", "s": "Hello", "source": "is", "target": "en-GB"}
    with running(published.base, published.registry, feedback=Feedback(path)) as keeping:
        assert keeping.http.get("/frontend/settings").json()["suggestions"] is True
        for asked in ({"json": body}, {"data": body}, {"params": body}):
            assert keeping.http.post("/suggest", **asked).json() == {"success": True}
        for bad, message in (({"s": ""}, "s: not usable"), ({"q": " "}, "q: not usable"), ({"source": "xx"}, "unknown language code")):
            assert message in error(keeping.http.post("/suggest", json={**body, **bad}), 400)
        assert keeping.http.post("/suggest", json={**body, "q": "Góðan daginn, hvað segir þú gott?", "source": "auto"}).json() == {"success": True}
        english = {**body, "q": "The weather was good and the sea was calm.", "source": "auto"}
        assert "in the target language already" in error(keeping.http.post("/suggest", json=english), 400)
        assert "too much text" in error(keeping.http.post("/suggest", json={**body, "s": "a" * 100_000}), 400)
    *corrections, detected = read_feedback(path)[0]
    assert read_feedback(path)[1] == 0 and corrections == [Correction("is-en", "", "Halló", "", "Hello")] * 3
    assert (detected.pair, detected.source) == ("is-en", "Góðan daginn, hvað segir þú gott?")
    assert service.http.get("/frontend/settings").json()["suggestions"] is False
    assert "suggestions are disabled on this server" in error(service.http.post("/suggest", json=body), 403)


def test_the_description_where_libretranslate_has_it(service: Running) -> None:
    assert service.http.get("/spec").json() == service.http.get("/openapi.json").json()


def test_languages(service: Running) -> None:
    languages = {x["code"]: x for x in service.http.get("/languages").json()}
    assert {c: x["targets"] for c, x in languages.items()} == {"en": ["is"], "fo": ["is"], "is": ["en"], "pt-BR": ["en"]}
    assert languages["is"]["name"] == "Icelandic"
