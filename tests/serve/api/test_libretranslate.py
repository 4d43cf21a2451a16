"""LibreTranslate's API over the fake engine: JSON and forms, source auto, refusals, languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tell.registry.registry import Registry
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Published, Running, error, publish, running

pytest_plugins = ["tests.support.serving_fixtures"]


def libre(service: Running, **body: Any) -> httpx.Response:
    return service.http.post("/translate", json={"source": "is", "target": "en", **body})


def test_libretranslate_json_and_forms(service: Running, mark: str) -> None:
    assert libre(service, q="a").json() == {"translatedText": f"{mark}a"}
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


def test_forms_that_cannot_be_read(service: Running) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert "not UTF-8" in error(service.http.post("/translate", content=b"q=\xff", headers=kind), 400)
    assert "too many fields" in error(service.http.post("/translate", content=b"&".join([b"q=a"] * 3000), headers=kind), 400)
    files = {"q": ("a.txt", b"text"), "source": (None, "is"), "target": (None, "en")}
    error(service.http.post("/translate", files=files), 400)
    for content in (b"", b"--x", b"--x\r\n\r\n\r\n--x--", b"garbage"):
        for kind in ({"content-type": "multipart/form-data; boundary=x"}, {"content-type": "multipart/form-data"}):
            error(service.http.post("/translate", content=content, headers=kind), 400)


def test_languages(service: Running) -> None:
    languages = {x["code"]: x for x in service.http.get("/languages").json()}
    assert {c: x["targets"] for c, x in languages.items()} == {"en": ["is"], "fo": ["is"], "is": ["en"], "pt-BR": ["en"]}
    assert languages["is"]["name"] == "Icelandic"
