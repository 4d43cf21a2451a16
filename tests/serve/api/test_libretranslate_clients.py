"""LibreTranslate's clients against the running service: the library libretranslatepy, and the requests that Weblate and Mastodon send, shape by shape."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from libretranslatepy import LibreTranslateAPI

from serve.auth.keys import add_key
from serve.documents.parts import FORMATS
from tests.support.serving import Published, Running, error, running, until

pytest_plugins = ["tests.support.serving_fixtures"]


@pytest.fixture
def keyed(published: Published) -> Iterator[tuple[Running, str]]:
    key = add_key("website", ["translate"])[1]
    with running(published.base, published.registry) as server:
        yield server, key


# libretranslatepy: URL-encoded forms, also with GET.


def test_libretranslatepy(service: Running, mark: str) -> None:
    api = LibreTranslateAPI(service.url)
    assert api.translate("Þú & ég\n100 % já", "is", "en") == f"{mark}Þú & ég\n{mark}100 % já"
    assert {x["code"] for x in api.languages()} == {"en", "fo", "is", "pt-BR"}
    detections = api.detect("Góðan daginn, hvað segir þú gott í dag?")
    assert detections[0]["language"] == "is" and 90 < detections[0]["confidence"] <= 100
    assert api.detect("12 + 12") == []


def test_libretranslatepy_with_a_key(keyed: tuple[Running, str]) -> None:
    service, key = keyed
    assert LibreTranslateAPI(service.url, key).translate("a", "is", "en").endswith(">a")
    assert LibreTranslateAPI(service.url, key).languages() == LibreTranslateAPI(service.url).languages()
    for wrong in (None, "wrong"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            LibreTranslateAPI(service.url, wrong).translate("a", "is", "en")
        assert refused.value.code == 403
    with pytest.raises(urllib.error.HTTPError) as refused:
        LibreTranslateAPI(service.url, "wrong").detect("a")
    assert refused.value.code == 403


# Weblate 5 (weblate/machinery/libretranslate.py and base.py). It reads `code` of /languages; posts JSON with api_key ("" where none is set), a list
# of at most 20 texts, source and target, "_" in codes made "-"; waits 20 s; wants a list of as many strings. Before it saves its settings it asks for
# "test" from en to de. After 401, 403, 429, 456 or 503 it asks nothing for half an hour.

WEBLATE = {"User-Agent": "Weblate/5.11.4", "Accept": "application/json; charset=utf-8", "Referer": "https://weblate.example/"}


def weblate(service: Running, q: list[str], source: str, target: str, key: str = "") -> httpx.Response:
    body = {"api_key": key, "q": q, "source": source, "target": target}
    return service.http.post("/translate", json=body, headers=WEBLATE, timeout=20)


def test_weblate_translates_lists(service: Running, mark: str) -> None:
    texts = [f"Strengur {i} með [X{i}X] og %s" for i in range(20)]
    answer = weblate(service, texts, "is", "en")
    assert answer.json() == {"translatedText": [mark + t for t in texts]}
    assert weblate(service, ["a"], "is", "en").json() == {"translatedText": [f"{mark}a"]}
    codes = [x["code"] for x in service.http.get("/languages", headers=WEBLATE).json()]
    assert "pt-BR" in codes
    assert weblate(service, ["a"], "pt-BR", "en").status_code == 200
    # Both languages are listed, the pair is not served: it says what is.
    assert weblate(service, ["a"], "fo", "en").json()["pairs"] == service.service.pairs()


def test_weblate_can_save_its_settings(service: Running, keyed: tuple[Running, str]) -> None:
    answer = weblate(service, ["test"], "en", "de")
    assert answer.status_code == 200 and answer.json() == {"translatedText": ["test"]}
    assert answer.headers["x-tellmt-probe"] == "not translated" and "x-tellmt-adapter" not in answer.headers
    # Nothing else in that pair is answered, nor is anybody else.
    assert "no adapter for this pair" in error(weblate(service, ["tests"], "en", "de"), 400)
    assert "no adapter for this pair" in error(weblate(service, ["test", "test"], "en", "de"), 400)
    assert "no adapter for this pair" in error(weblate(service, ["test"], "is", "de"), 400)
    assert "no adapter for this pair" in error(service.http.post("/translate", json={"q": ["test"], "source": "en", "target": "de"}), 400)
    # And a wrong key is found out when the settings are saved.
    closed, key = keyed
    assert weblate(closed, ["test"], "en", "de", key).status_code == 200
    assert weblate(closed, ["test"], "en", "de", "wrong").status_code == 403


# Mastodon 4.2 (app/lib/translation_service/libre_translate.rb): JSON with a list, "auto" where a post has no language, format html, and api_key null
# where none is set. It reads `targets` of /languages, and of an answer translatedText by number and detectedLanguage by number; 429 and 403 are known to
# it, all else is one error.


def mastodon(service: Running, q: list[str], source: str | None, target: str, key: str | None = None) -> httpx.Response:
    body = {"q": q, "source": source or "auto", "target": target, "format": "html", "api_key": key}
    return service.http.post("/translate", json=body, headers={"Content-Type": "application/json"})


def test_mastodon(service: Running, mark: str) -> None:
    targets = {x["code"]: [t for t in x["targets"] if t != x["code"]] for x in service.http.get("/languages").json()}
    assert targets == {"en": ["is"], "fo": ["is"], "is": ["en"], "pt-BR": ["en"]}
    post, name = "<p>Halló, <a href='https://a.is'>heimur</a> minn &amp; þinn</p><p>Hvað segir þú gott?</p>", mark.replace("<", "&lt;").replace(">", "&gt;")
    answer = mastodon(service, [post, "<b>x</b>"], "is", "en").json()
    assert answer["translatedText"][0] == f'<p>{name}Halló, <a href="https://a.is">heimur</a> minn &amp; þinn</p><p>{name}Hvað segir þú gott?</p>'
    assert len(answer["translatedText"]) == 2 and "detectedLanguage" not in answer
    unknown = mastodon(service, [post], None, "en").json()
    assert unknown["translatedText"][0] == answer["translatedText"][0] and unknown["detectedLanguage"][0]["language"] == "is"


def test_mastodon_and_texts(service: Running, mark: str) -> None:
    """Its shapes but for the format: null as key, a list, auto."""
    body = {"q": ["a", "b"], "source": "is", "target": "en", "format": "text", "api_key": None}
    assert service.http.post("/translate", json=body).json() == {"translatedText": [f"{mark}a", f"{mark}b"]}
    assert "the source language cannot be told" in error(service.http.post("/translate", json={**body, "source": "auto"}), 400)


# LibreTranslate's own page and what else its API promises.


def test_settings(service: Running, keyed: tuple[Running, str]) -> None:
    assert service.http.get("/frontend/settings").json() == {
        "apiKeys": False, "charLimit": 100_000, "filesTranslation": True, "frontendTimeout": 500, "keyRequired": False,
        "language": {"source": {"code": "en", "name": "English"}, "target": {"code": "is", "name": "Icelandic"}},
        "suggestions": False, "supportedFilesFormat": list(FORMATS),
    }  # fmt: skip
    closed = keyed[0].http.get("/frontend/settings").json()
    assert closed["apiKeys"] is closed["keyRequired"] is True
    assert service.http.get("/health").json() == {"status": "ok"}


def test_alternatives_are_as_many_as_there_are(service: Running, mark: str) -> None:
    body = {"source": "is", "target": "en"}
    answer = service.http.post("/translate", json={**body, "q": "a", "alternatives": 3})
    assert answer.json() == {"translatedText": f"{mark}a", "alternatives": []}
    many = service.http.post("/translate", json={**body, "q": ["a", "b"], "alternatives": 3}).json()
    assert many == {"translatedText": [f"{mark}a", f"{mark}b"], "alternatives": [[], []]}
    assert service.http.post("/translate", data={**body, "q": "a", "alternatives": "2"}).json() == answer.json()
    for none in (0, None, ""):
        assert "alternatives" not in service.http.post("/translate", json={**body, "q": "a", "alternatives": none}).json()
    assert "alternatives: not usable; valid: a number" in error(service.http.post("/translate", json={**body, "q": "a", "alternatives": -1}), 400)


@pytest.mark.parametrize(
    ("source", "target", "status", "message"),
    [
        ("IS", "EN", 200, "is-en"),
        ("is_IS", "en-US", 200, "is-en"),
        ("is-IS", "EN_gb", 200, "is-en"),
        ("isl", "eng", 200, "is-en"),
        ("pt", "en", 200, "pt-BR:en"),
        ("pt-PT", "en", 400, "no adapter for this pair; found pt-PT:en"),
        ("is-Cyrl", "en", 400, "no adapter for this pair; found is-Cyrl:en"),
        ("en-US", "en-GB", 400, "no adapter for this pair; found en-US:en-GB"),
        ("islenska", "en", 400, "source: unknown language code"),
        ("is", "", 400, "target: unknown language code"),
        ("auto", "EN-us", 400, "the source language cannot be told"),
        ("auto", "is_IS", 400, "the source language cannot be told"),
    ],
)
def test_codes_of_any_case_and_region(service: Running, source: str, target: str, status: int, message: str) -> None:
    for path, text in (("/translate", "q"), ("/api/v1/translate", "text")):
        answer = service.http.post(path, json={text: "a", "source": source, "target": target})
        assert answer.status_code == status, answer.text
        assert (answer.headers["x-tellmt-pair"] == message) if status == 200 else message in answer.json()["error"]


def test_a_list_of_ten_thousand_strings(service: Running) -> None:
    body = {"source": "is", "target": "en"}
    message = "too many texts in one request; found 10000; valid: at most 1000"
    assert message in error(service.http.post("/translate", json={**body, "q": ["a"] * 10_000}), 400)
    assert message in error(service.http.post("/api/v1/translate", json={**body, "text": ["a"] * 10_000}), 413)
    assert "too many fields in the form; valid: at most 2000" in error(service.http.post("/translate", data={**body, "q": ["a"] * 10_000}), 400)


# Files


def libre_file(service: Running, raw: bytes = b"a\n", name: str = "a.txt", **fields: str) -> httpx.Response:
    return service.http.post("/translate_file", files={"file": (name, raw)}, data={"source": "is", "target": "en", **fields})


def test_a_file_is_translated_and_linked_to(service: Running, mark: str) -> None:
    answer = libre_file(service, "Halló\n\n  heimur\n".encode(), "bréf.txt")
    assert answer.status_code == 200, answer.text
    link = answer.json()["translatedFileUrl"]
    assert link.startswith(f"{service.url}/download_file/") and link.endswith(".txt")
    file = httpx.get(link, trust_env=False)
    assert file.text == f"{mark}Halló\n\n  {mark}heimur\n" and file.headers["content-type"] == "text/plain; charset=utf-8"
    assert "filename*=UTF-8''br%C3%A9f.txt" in file.headers["content-disposition"]
    name = urlsplit(link).path.rpartition("/")[2]
    for wrong in (name[:-5] + "g.txt", name[:-4], name + "x", "x", "..%2f" + name, name.upper(), "%ff.txt"):
        error(service.http.get(f"/download_file/{wrong}"), 404)


def test_a_file_with_keys(keyed: tuple[Running, str]) -> None:
    service, key = keyed
    error(libre_file(service), 403)
    error(libre_file(service, api_key="wrong"), 403)
    link = libre_file(service, api_key=key).json()["translatedFileUrl"]
    assert httpx.get(link, trust_env=False).text.endswith(">a\n")
    assert "files of this format are not translated; found .odt; valid: .txt" in error(libre_file(service, name="a.odt", api_key=key), 400)
    assert "source: missing" in error(service.http.post("/translate_file", files={"file": ("a.txt", b"a")}, data={"api_key": key}), 400)


@pytest.mark.clock
def test_a_client_that_leaves_ends_its_file(service: Running) -> None:
    service.engine.delay, before = 20.0, service.engine.cancelled
    with pytest.raises(httpx.ReadTimeout):
        service.http.post("/translate_file", files={"file": ("a.txt", b"Einstakt\n")}, data={"source": "is", "target": "en"}, timeout=0.5)
    until(lambda: service.engine.cancelled > before and not sum(service.engine.running.values()))


def test_a_file_that_takes_too_long(service: Running) -> None:
    service.engine.delay = 20.0
    headers = {"X-Request-Timeout": "0.3"}
    answer = service.http.post("/translate_file", files={"file": ("a.txt", b"Einstakt\n")}, data={"source": "is", "target": "en"}, headers=headers)
    assert "not done in the 0.3 s" in error(answer, 504)
    until(lambda: not sum(service.engine.running.values()))
