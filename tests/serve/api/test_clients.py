"""The requests of programs that cannot be installed as libraries, as their source makes them, and their answers as that source reads them.

Read in November 2026: Weblate (machinery/deepl.py, libretranslate.py, base.py), Mastodon (lib/translation_service), Discourse's translator plugin,
SubtitleEdit (libse/AutoTranslate), Nextcloud (integration_libretranslate on PHP's LibreTranslate client, integration_deepl on deepl-php), OmegaT's plugin for
LibreTranslate.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from html import escape
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from serve.auth.keys import add_key
from tests.support.serving import Published, Running, running

pytest_plugins = ["tests.support.serving_fixtures"]

FORM = "application/x-www-form-urlencoded"
WEBLATE = {"User-Agent": "Weblate/5.11.4", "Accept": "application/json; charset=utf-8", "Referer": "https://weblate.example/"}
TEXT = "Halló & bless\n100 % já"
POST, UNIT = "<p>Halló <b>þú</b> &amp; ég</p>", 'Vista &lt;b&gt; <x id="7"></x> &quot;skrá&quot; &#x27;a&#x27; og %s'
# libcurl's form without fields, which PHP makes of an empty array.
NO_FIELDS: dict[str, Any] = {"headers": {"Content-Type": "multipart/form-data; boundary=----x"}, "content": b"------x--\r\n"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A request, given the key that the program is set up with ("" for none), and what the program reads of the answer."""

    who: str
    method: str
    path: str
    arguments: Callable[[str], dict[str, Any]]
    read: Callable[[Any], Any]
    # The answer's value, given how the adapter's mark is written in that format.
    expected: Callable[[str], Any]
    # Whether the request has a key at all.
    keyed: bool = True


def deepl_key(key: str) -> dict[str, str]:
    return {"Authorization": f"DeepL-Auth-Key {key}"}


def form(fields: Any, **headers: str) -> dict[str, Any]:
    return {"content": urlencode(fields, doseq=True), "headers": {"Content-Type": FORM, **headers}}


def multipart(fields: dict[str, str]) -> dict[str, Any]:
    return {"files": {name: (None, value) for name, value in fields.items()}}


def sed_json(text: str, key: str) -> dict[str, Any]:
    # SubtitleEdit puts its JSON together by hand, and forgets a comma before the key: with one, LibreTranslate cannot read it either.
    body = f'{{"q": {json.dumps(text)}, "source": "is", "target": "en"}}'
    return {"content": body, "headers": {"Content-Type": "application/json", "Accept": "application/json"}}


def languages_of(kind: str, key: str) -> dict[str, Any]:
    return {"params": {"type": kind}, "headers": {**WEBLATE, **deepl_key(key)}}


def weblate_unit(key: str) -> dict[str, Any]:
    fields = {"text": [UNIT], "source_lang": "IS", "target_lang": "EN", "formality": "default", "tag_handling": "xml", "ignore_tags": ["x"]}
    return {"json": {**fields, "model_type": "prefer_quality_optimized"}, "headers": {**WEBLATE, **deepl_key(key)}}


CODES = {"en", "fo", "is", "pt-BR"}
SHAPES = [
    Shape(
        "Weblate, DeepL", "GET", "/v2/languages", lambda k: languages_of("source", k), lambda a: {x["language"] for x in a},
        lambda m: {"EN", "FO", "IS", "PT"},
    ),
    Shape(
        "Weblate, DeepL", "GET", "/v2/languages", lambda k: languages_of("target", k),
        lambda a: {x["language"].upper() for x in a if not x.get("supports_formality")}, lambda m: {"EN-GB", "EN-US", "IS"},
    ),
    Shape(
        "Weblate, DeepL", "GET", "/v2/glossary-language-pairs", lambda k: {"headers": {**WEBLATE, **deepl_key(k)}},
        lambda a: ("IS", "EN") in {(x["source_lang"].upper(), x["target_lang"].upper()) for x in a["supported_languages"]}, lambda m: True,
    ),
    Shape("Weblate, DeepL", "POST", "/v2/translate", weblate_unit, lambda a: a["translations"][0]["text"], lambda m: f"{escape(m)}{UNIT}"),
    Shape("Weblate, LibreTranslate", "GET", "/languages", lambda k: {"headers": WEBLATE}, lambda a: {x["code"] for x in a}, lambda m: CODES, keyed=False),
    Shape(
        "Weblate, LibreTranslate", "POST", "/translate",
        lambda k: {"json": {"api_key": k, "q": [TEXT, "b"], "source": "is", "target": "en"}, "headers": WEBLATE},
        lambda a: a["translatedText"][1], lambda m: f"{m}b",
    ),
    Shape(
        "Mastodon, LibreTranslate", "GET", "/languages", lambda k: {"headers": {"Content-Type": "application/json"}},
        lambda a: {x["code"]: [t for t in x["targets"] if t != x["code"]] for x in a}["fo"], lambda m: ["is"], keyed=False,
    ),
    Shape(
        "Mastodon, LibreTranslate", "POST", "/translate",
        lambda k: {"json": {"q": [POST], "source": "auto", "target": "en", "format": "html", "api_key": k or None}},
        lambda a: (a["translatedText"][0], a["detectedLanguage"][0]["language"]), lambda m: (POST.replace("Halló", f"{escape(m)}Halló", 1), "is"),
    ),
    Shape(
        "Mastodon, DeepL", "POST", "/v2/translate",
        lambda k: form([("text", POST), ("text", "b"), ("source_lang", "IS"), ("target_lang", "en"), ("tag_handling", "html")], **deepl_key(k)),
        lambda a: [(t["text"], t["detected_source_language"].lower()) for t in a["translations"]],
        lambda m: [(POST.replace("Halló", f"{escape(m)}Halló", 1), "is"), (f"{escape(m)}b", "is")],
    ),
    # Of a post without a language the name of the field is there, and nothing else.
    Shape(
        "Mastodon, DeepL", "POST", "/v2/translate",
        lambda k: {**form({}, **deepl_key(k)), "content": "text=Hva%C3%B0+segir+%C3%BE%C3%BA+gott&source_lang&target_lang=en"},
        lambda a: a["translations"][0]["detected_source_language"], lambda m: "IS",
    ),
    Shape("Mastodon, DeepL", "GET", "/v2/languages?type=target", lambda k: {"headers": deepl_key(k)}, lambda a: len(a), lambda m: 3),
    Shape("Discourse", "GET", "/languages", lambda k: {}, lambda a: {x["code"] for x in a} >= {"is", "en"}, lambda m: True, keyed=False),
    Shape("Discourse", "POST", "/detect", lambda k: form({"q": "Hvað segir þú gott í dag?", "api_key": k}), lambda a: a[0]["language"], lambda m: "is"),
    Shape(
        "Discourse", "POST", "/translate", lambda k: form({"q": POST, "source": "is", "target": "en", "format": "html", "api_key": k}),
        lambda a: a["translatedText"], lambda m: POST.replace("Halló", f"{escape(m)}Halló", 1),
    ),
    # A post in the reader's language.
    Shape(
        "Discourse", "POST", "/translate", lambda k: form({"q": POST, "source": "en", "target": "en", "format": "html", "api_key": k}),
        lambda a: a["translatedText"], lambda m: POST,
    ),
    Shape(
        "SubtitleEdit, LibreTranslate", "POST", "/translate", lambda k: sed_json("Halló.\r\nBless.", k),
        lambda a: a["translatedText"].strip(), lambda m: f"{m}Halló.\r\n{m}Bless.", keyed=False,
    ),
    Shape(
        "SubtitleEdit, DeepL", "POST", "/v2/translate",
        lambda k: form({"text": "Halló.\r\nBless.", "target_lang": "en-us", "source_lang": "is", "formality": "default"}, **deepl_key(k)),
        lambda a: "\n".join(t["text"] for t in a["translations"]), lambda m: f"{m}Halló.\r\n{m}Bless.",
    ),
    Shape("Nextcloud, LibreTranslate", "GET", "/frontend/settings", lambda k: NO_FIELDS, lambda a: a["charLimit"], lambda m: 100_000, keyed=False),
    Shape("Nextcloud, LibreTranslate", "GET", "/languages", lambda k: NO_FIELDS, lambda a: {x["code"] for x in a}, lambda m: CODES, keyed=False),
    Shape(
        "Nextcloud, LibreTranslate", "POST", "/translate", lambda k: multipart({"q": POST, "format": "html", "source": "is", "target": "en", "api_key": k}),
        lambda a: a["translatedText"], lambda m: POST.replace("Halló", f"{escape(m)}Halló", 1),
    ),
    *(
        Shape(
            "Nextcloud, DeepL", "POST", "/v2/languages", lambda k, kind=kind: form({"type": kind}, **deepl_key(k)),  # type: ignore[misc]
            lambda a: (a[0]["name"], a[0]["supports_formality"]), lambda m, name=name: (name, False),  # type: ignore[misc]
        )
        for kind, name in (("source", "English"), ("target", "English (United Kingdom)"))
    ),
    Shape(
        "Nextcloud, DeepL", "POST", "/v2/translate",
        lambda k: form([("target_lang", "EN-US"), ("source_lang", "is"), ("formality", "prefer_more"), ("text", TEXT)], **deepl_key(k)),
        lambda a: (a["translations"][0]["text"], a["translations"][0]["detected_source_language"]), lambda m: (f"{m}Halló & bless\n{m}100 % já", "IS"),
    ),
    Shape(
        "OmegaT", "POST", "/translate", lambda k: form({"q": "Halló <g1>þú</g1>", "source": "is", "target": "en"}),
        lambda a: a["translatedText"], lambda m: f"{m}Halló <g1>þú</g1>", keyed=False,
    ),
]  # fmt: skip
NAMES = [f"{i} {shape.who} {shape.path}" for i, shape in enumerate(SHAPES)]


@pytest.fixture(scope="module")
def keyed(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLMT_KEYS", str(tmp_path_factory.mktemp("keys") / "keys.json"))
        key = add_key("program", ["translate"])[1]
        with running(published.base, published.registry) as server:
            yield server, key


def ask(service: Running, shape: Shape, key: str) -> httpx.Response:
    return service.http.request(shape.method, shape.path, **shape.arguments(key))


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_the_program_reads_its_answer(service: Running, keyed: tuple[Running, str], mark: str, shape: Shape) -> None:
    closed, key = keyed
    # DeepL's clients do without a key nowhere.
    for server, held in ((service, "any" if shape.path.startswith("/v2/") else ""), *(((closed, key),) if shape.keyed else ())):
        answer = ask(server, shape, held)
        assert answer.status_code == 200, answer.text
        assert shape.read(answer.json()) == shape.expected(mark)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.keyed], ids=[n for n, s in zip(NAMES, SHAPES, strict=True) if s.keyed])
def test_a_wrong_key_is_known_to_the_program(keyed: tuple[Running, str], shape: Shape) -> None:
    """All of them take 403 for a key that is not valid, and show the message."""
    answer = ask(keyed[0], shape, "wrong")
    assert answer.status_code == 403 and "no valid API key" in answer.json()["message" if shape.path.startswith("/v2/") else "error"]


def test_nextcloud_detects_by_the_address(service: Running, keyed: tuple[Running, str]) -> None:
    """PHP's client has the text and its key, or an empty one, in the address of /detect. It begins with a POST to /, whose answer it drops."""
    assert service.http.post("/", **NO_FIELDS).json()["error"]
    fields = {"q": "Hvað segir þú gott í dag?", "api_key": ""}
    assert service.http.post("/detect", params=fields, **NO_FIELDS).json()[0]["language"] == "is"
    refused = keyed[0].http.post("/detect", params={**fields, "api_key": keyed[1]}, **NO_FIELDS)
    assert refused.status_code == 400 and "a key in the address is not read" in refused.json()["error"]


def test_weblate_keeps_a_glossary(keyed: tuple[Running, str]) -> None:
    """Its glossary under a name of its own, found in the list by that name, used by its id, replaced by deleting it."""
    service, key = keyed
    headers = {**WEBLATE, **deepl_key(key)}

    def listed() -> dict[str, str]:
        return {g["name"]: g["glossary_id"] for g in service.http.get("/v2/glossaries", headers=headers).json()["glossaries"]}

    assert listed() == {}
    body = {"name": "weblate:1:IS:EN:5", "source_lang": "IS", "target_lang": "EN", "entries": "skrá\tfile\nvista\tsave", "entries_format": "tsv"}
    assert service.http.post("/v2/glossaries", json=body, headers=headers).is_success
    id = listed()[str(body["name"])]
    texts = {"text": ["Vista skrá"], "source_lang": "IS", "target_lang": "EN", "tag_handling": "xml", "ignore_tags": ["x"], "glossary_id": id}
    assert service.http.post("/v2/translate", json=texts, headers=headers).json()["translations"][0]["text"].endswith("Vista skrá")
    assert service.http.delete(f"/v2/glossaries/{id}", headers=headers).is_success and listed() == {}
    assert service.http.delete(f"/v2/glossaries/{id}", headers=headers).status_code == 404


def test_omegats_own_deepl_is_told_that_there_is_no_version_1(service: Running) -> None:
    """It asks api.deepl.com alone, with the key in the address."""
    fields = {"text": "a", "source_lang": "IS", "target_lang": "EN", "tag_handling": "xml", "split_sentences": "1", "preserve_formatting": "1", "auth_key": "k"}
    answer = service.http.get("/v1/translate", params=fields)
    assert answer.status_code == 404 and "version 2 alone" in answer.json()["message"]
