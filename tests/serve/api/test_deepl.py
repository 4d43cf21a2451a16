"""DeepL's official Python client against the running service, and the requests that its other clients send."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import deepl
import httpx
import pytest

from serve.auth.keys import add_key
from serve.documents.jobs import JobLimits
from tell.errors import EngineError
from tests.support.serving import Published, Running, running

pytest_plugins = ["tests.support.serving_fixtures"]

OURS = {"source_lang": "IS", "target_lang": "EN-US"}


@pytest.fixture
def client(service: Running, monkeypatch: pytest.MonkeyPatch) -> deepl.DeepLClient:
    # It tries again five times, and looks at documents every five seconds.
    monkeypatch.setattr("deepl.http_client.max_network_retries", 0)
    monkeypatch.setattr("deepl.translator.time.sleep", lambda seconds: None)
    return deepl.DeepLClient("any", server_url=service.url)


@pytest.fixture
def keyed(published: Published, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Clients by the name of their key, of a service that has keys."""
    monkeypatch.setattr("deepl.http_client.max_network_retries", 0)
    keys = {
        "plain": add_key("plain", ["translate"])[1],
        "small": add_key("small", ["translate"], characters_per_day=100)[1],
        "slow": add_key("slow", ["translate"], requests_per_minute=2)[1],
        "admin": add_key("admin", ["admin"])[1],
        "wrong": "wrong",
    }
    with running(published.base, published.registry, jobs=JobLimits(jobs_per_key=2)) as server:
        yield lambda name: deepl.DeepLClient(keys[name], server_url=server.url)


def post(service: Running, path: str = "/v2/translate", **fields: Any) -> httpx.Response:
    return service.http.post(path, **fields)


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["message"]
    return str(answer.json()["message"])


def test_texts(client: deepl.DeepLClient, mark: str) -> None:
    single = client.translate_text("Halló\n heimur", **OURS)
    assert isinstance(single, deepl.TextResult)
    assert (single.text, single.detected_source_lang, single.billed_characters) == (f"{mark}Halló\n {mark}heimur", "IS", 13)
    many = client.translate_text(["a", "", "þú"], **OURS)
    assert [(t.text, t.billed_characters) for t in many] == [(f"{mark}a", 1), ("", 0), (f"{mark}þú", 2)]
    assert client.translate_text("a", target_lang="IS", source_lang="fo").detected_source_lang == "FO"
    # English is one language here: both of its names that DeepL's clients accept mean it.
    for target in ("EN-US", "EN-GB", "en-us", deepl.Language.ENGLISH_BRITISH):
        assert client.translate_text("a", source_lang="is", target_lang=target).text == f"{mark}a"
    assert client.translate_text("a", source_lang="PT", target_lang="EN-US").detected_source_lang == "PT"


def test_without_a_source_language(client: deepl.DeepLClient, mark: str) -> None:
    with pytest.raises(deepl.DeepLException, match="the source language cannot be told"):
        client.translate_text("a", target_lang="IS")


def test_languages(client: deepl.DeepLClient) -> None:
    assert [(x.code, x.name) for x in client.get_source_languages()] == [("EN", "English"), ("FO", "Faroese"), ("IS", "Icelandic"), ("PT", "Portuguese")]
    targets = client.get_target_languages()
    assert [x.code for x in targets] == ["EN-GB", "EN-US", "IS"]
    assert targets[1].name == "English (United States)" and not any(x.supports_formality for x in targets)
    # What is listed is taken.
    for target in targets:
        assert client.translate_text("a", source_lang="FO" if target.code == "IS" else "IS", target_lang=target).text


def test_languages_by_address_and_by_form(service: Running) -> None:
    def codes(**request: Any) -> list[str]:
        return [x["language"] for x in service.http.request("GET", "/v2/languages", **request).json()]

    assert codes() == codes(params={"type": "source"}) == codes(data={"type": "source"}) == ["EN", "FO", "IS", "PT"]
    assert codes(params={"type": "target"}) == codes(data={"type": "target"}) == ["EN-GB", "EN-US", "IS"]
    assert "type: not usable; valid: source or target" in refused(service.http.get("/v2/languages?type=both"), 400)


def test_usage(client: deepl.DeepLClient, keyed: Any) -> None:
    # A service without keys counts its callers together.
    before = client.get_usage().character
    client.translate_text("a" * 7, **OURS)
    after = client.get_usage().character
    assert after.count - before.count == 7 and after.limit == 10**12 and not after.limit_reached
    small = keyed("small")
    assert (small.get_usage().character.count, small.get_usage().character.limit) == (0, 100)
    small.translate_text("a" * 60, **OURS)
    assert small.get_usage().character.count == 60 and not small.get_usage().any_limit_reached
    with pytest.raises(deepl.QuotaExceededException, match="the quota of characters is used up"):
        small.translate_text("b" * 60, **OURS)
    with pytest.raises(deepl.QuotaExceededException):
        small.translate_document_upload(b"c" * 60, filename="a.txt", **OURS)
    small.translate_text("b" * 40, **OURS)
    assert small.get_usage().any_limit_reached
    plain = keyed("plain")
    plain.translate_text("a" * 9, **OURS)
    assert (plain.get_usage().character.count, plain.get_usage().character.limit) == (9, 10**12)


def test_what_is_not_offered_says_so_in_deepls_form(client: deepl.DeepLClient, service: Running) -> None:
    with pytest.raises(deepl.DeepLException, match="the service translates, and does not rephrase"):
        client.rephrase_text("a", target_lang="EN-GB")
    for path in ("/v2/made-up", "/v2/", "/v2", "/v3", "/v1"):
        assert refused(service.http.get(path), 404).startswith(("no such path", "of DeepL's API"))
    assert "message" not in service.http.get("/v20").json()
    for method, path in (("GET", "/v3/glossaries"), ("DELETE", "/v3/style_rules/1"), ("POST", "/v1/translate"), ("GET", "/v1/translate?auth_key=k&text=a")):
        assert refused(service.http.request(method, path), 404) == "of DeepL's API the service offers version 2 alone; valid: /v2/"
    with pytest.raises(deepl.DeepLException, match="version 2 alone"):
        client.list_multilingual_glossaries()


def test_an_unexpected_error_in_deepls_form(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("leyndarmál")

    monkeypatch.setattr(service.service, "pairs", broken)
    answer = service.http.get("/v2/languages")
    assert refused(answer, 500) == "something went wrong in the service" and answer.headers["content-security-policy"]


def test_keys(keyed: Any) -> None:
    assert keyed("plain").translate_text("a", **OURS).text.endswith(">a")
    for name in ("wrong", "admin"):
        for ask in (lambda c: c.translate_text("a", **OURS), lambda c: c.get_usage(), lambda c: c.get_source_languages()):
            with pytest.raises(deepl.AuthorizationException) as error:
                ask(keyed(name))
            assert error.value.http_status_code == 403
    slow = keyed("slow")
    slow.get_usage()
    slow.get_usage()
    with pytest.raises(deepl.TooManyRequestsException, match="the quota of requests is used up"):
        slow.get_usage()


def test_what_has_no_effect_is_taken(client: deepl.DeepLClient, mark: str) -> None:
    for options in (
        {"formality": "prefer_more"}, {"formality": deepl.Formality.DEFAULT}, {"split_sentences": deepl.SplitSentences.NO_NEWLINES}, {"context": "a letter"},
        {"preserve_formatting": True}, {"model_type": "quality_optimized"}, {"ignore_tags": "x"}, {"outline_detection": False},
    ):  # fmt: skip
        assert client.translate_text("a", **OURS, **options).text == f"{mark}a", options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formality": "more"}, "formality: the formality of the translation cannot be chosen; found more; valid: default, prefer_more or prefer_less"),
        ({"formality": "rude"}, "formality: not usable"),
        ({"style_rule": "0f3c"}, "style_id: this option is not supported"),
        ({"translation_memory": "0f3c"}, "translation_memory_id: this option is not supported"),
        ({"custom_instructions": ["Be brief"]}, "custom_instructions: this option is not supported"),
        ({"tag_handling": "tex"}, "tag_handling: not usable"),
        ({"split_sentences": "2"}, "split_sentences: not usable; valid: 0, 1 or nonewlines"),
        ({"target_lang": "XX"}, "target: unknown language code"),
        ({"target_lang": "DE"}, "no adapter for this pair; found is-de"),
        ({"target_lang": "IS"}, "source and target are the same language"),
    ],
)
def test_what_is_refused(client: deepl.DeepLClient, options: dict[str, Any], message: str) -> None:
    with pytest.raises(deepl.DeepLException, match="Bad request") as error:
        client.translate_text("a", **{**OURS, **options})
    assert message in str(error.value) and error.value.http_status_code == 400


def test_forms(service: Running, mark: str) -> None:
    """As deepl-php, deepl-rb and curl send texts: the field once for each; numbers for truth values."""
    form = {
        "text": ["a", "þú & ég"],
        "source_lang": "is",
        "target_lang": "EN",
        "show_billed_characters": "1",
        "split_sentences": "0",
        "preserve_formatting": "1",
    }
    answer = post(service, data=form)
    assert [t["text"] for t in answer.json()["translations"]] == [f"{mark}a", f"{mark}þú & ég"]
    assert [t["billed_characters"] for t in answer.json()["translations"]] == [1, 7]
    assert post(service, data={**form, "text": "a"}).json()["translations"][0]["text"] == f"{mark}a"
    # A key in the body, as DeepL once took it, is none.
    assert post(service, json={"text": ["a"], "source_lang": "IS", "target_lang": "EN", "split_sentences": False, "auth_key": "x"}).status_code == 200


def test_errors_have_deepls_shape_wherever_they_are_said(service: Running) -> None:
    assert refused(service.http.get("/v2/nothing"), 404) == "no such path"
    assert "glossary_ids: this option is not supported" in refused(post(service, json={**OURS, "text": "a", "glossary_ids": ["0f3c"]}), 400)
    assert "source_lang: missing" in refused(post(service, json={"target_lang": "EN", "text": "a", "glossary_id": "0f3c"}), 400)
    assert refused(service.http.get("/v2/translate"), 405) == "this path does not take this method"
    assert "the body is not JSON" in refused(post(service, content=b"{"), 400)
    assert "text: missing" in refused(post(service, json={"target_lang": "EN"}), 400)
    assert "there is no text" in refused(post(service, json={**OURS, "text": []}), 400)
    assert "too many texts in one request; found 10000" in refused(post(service, json={**OURS, "text": ["a"] * 10_000}), 413)
    assert "the body is too large" in refused(post(service, content=b"x" * (1 << 21)), 413)
    assert "compressed" in refused(post(service, content=b"x", headers={"Content-Encoding": "gzip"}), 415)
    service.engine.failure = EngineError("the engine is dead", found="x: leynilegur texti")
    assert refused(post(service, json={**OURS, "text": ["Einstakt"]}), 503) == "the engine is dead"


# Documents


def test_a_document(client: deepl.DeepLClient, mark: str) -> None:
    translated = io.BytesIO()
    status = client.translate_document("Halló\n\n heimur\n", translated, filename="bréf.txt", formality="prefer_less", **OURS)
    assert translated.getvalue().decode() == f"{mark}Halló\n\n {mark}heimur\n"
    assert status.done and status.billed_characters == 15


def test_a_document_step_by_step(client: deepl.DeepLClient, service: Running) -> None:
    service.engine.delay = 0.2
    handle = client.translate_document_upload(b"Einstakt skjal\n", filename="a.txt", **OURS)
    first = client.translate_document_get_status(handle)
    assert first.status.value in ("queued", "translating") and first.billed_characters is None
    with pytest.raises(deepl.DocumentNotReadyException):
        client.translate_document_download(handle, io.BytesIO())
    early = post(service, f"/v2/document/{handle.document_id}/result", json={"document_key": handle.document_key})
    assert refused(early, 503).startswith("the document is not translated yet") and early.headers["retry-after"] == "2"
    assert client.translate_document_wait_until_done(handle).done
    stolen = deepl.DocumentHandle(handle.document_id, "0" * 64)
    for ask in (client.translate_document_get_status, lambda h: client.translate_document_download(h, io.BytesIO())):
        with pytest.raises(deepl.DeepLException, match="Not found"):
            ask(stolen)
    client.translate_document_download(handle, io.BytesIO())
    # Once it was fetched, it is gone.
    with pytest.raises(deepl.DeepLException, match="Not found"):
        client.translate_document_get_status(handle)


@pytest.mark.parametrize(
    "empty", ["formality", "tag_handling", "model_type", "split_sentences", "outline_detection", "source_lang", "glossary_id", "ignore_tags"]
)
def test_an_empty_field_is_none(service: Running, empty: str) -> None:
    """As forms have it where nothing was chosen."""
    text = "Góðan daginn, hvað segir þú gott í dag?"
    assert post(service, data={"text": text, "target_lang": "EN", "source_lang": "IS", empty: ""}).status_code == 200


def test_languages_by_odd_forms(service: Running) -> None:
    targets = service.http.get("/v2/languages?type=target").json()
    assert post(service, "/v2/languages", data={"type": "target"}).json() == targets
    assert service.http.get("/v2/languages?type=").json() == service.http.get("/v2/languages").json() != targets
    assert "too many fields" in refused(post(service, "/v2/languages", data={f"a{i}": "b" for i in range(20)}), 400)


def test_the_name_of_a_document_beside_its_part(service: Running) -> None:
    """A library that is given bytes calls the part "file"; the field `filename` then names the document."""
    for part, filename, status in (("file", "a.txt", 200), ("a.txt", "b.odt", 200), ("file", "", 400)):
        answer = post(service, "/v2/document", files={"file": (part, "Halló.")}, data={"source_lang": "IS", "target_lang": "EN", "filename": filename})
        assert answer.status_code == status, answer.text


def test_documents_that_fail_or_are_refused(client: deepl.DeepLClient, service: Running, keyed: Any) -> None:
    for options, message in (
        ({"filename": "a.odt"}, "files of this format are not translated; found .odt; valid: .txt, .md"),
        ({"output_format": "pdf"}, "output_format: documents are not converted to other formats"),
        ({"formality": "less"}, "formality: the formality of the translation cannot be chosen"),
        ({"target_lang": "DE"}, "no adapter for this pair"),
    ):
        with pytest.raises(deepl.DeepLException, match="Bad request") as error:
            client.translate_document_upload(b"a", **{"filename": "a.txt", **OURS, **options})
        assert message in str(error.value)
    assert client.translate_document_upload(b"a", filename="a.TXT", output_format="txt", **OURS).document_id
    service.engine.failure = EngineError("the engine is dead")
    handle = client.translate_document_upload("Annað skjal".encode(), filename="a.txt", **OURS)
    status = client.translate_document_wait_until_done(handle)
    assert not status.ok and status.error_message == "the engine is dead"
    # Another key's document is not there, whatever one knows of it.
    theirs = keyed("plain").translate_document_upload(b"a", filename="a.txt", **OURS)
    with pytest.raises(deepl.DeepLException, match="no such document"):
        keyed("small").translate_document_get_status(theirs)
    keyed("plain").translate_document_upload(b"a", filename="a.txt", **OURS)
    with pytest.raises(deepl.TooManyRequestsException, match="too many documents of this key"):
        keyed("plain").translate_document_upload(b"a", filename="a.txt", **OURS)
