"""Glossaries of DeepL's official Python client, kept for its key and shared by replicas; on texts, documents, and by name in the native API."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import deepl
import pytest

from serve.auth.keys import add_key
from serve.config import Limits
from tell.registry.registry import Registry
from tests.support.fake_eval_engine import light_base
from tests.support.hint_engine import HintEngine, hinted_adapter
from tests.support.serving import Running, error, publish, running, until

OURS = {"source_lang": "IS", "target_lang": "EN-US"}
HOUND = {"hundurinn": "the hound"}


@pytest.fixture(scope="module", params=["directory", "object store"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    root = tmp_path_factory.mktemp("glossaries")
    registry = Registry(root / "registry" if request.param == "directory" else f"memory://{root.name}/registry")
    publish(registry, hinted_adapter(root / "is-en", light_base(root.parent / "cache")))
    return registry


@pytest.fixture(scope="module")
def replicas(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Running], dict[str, str]]]:
    """Two services over one registry, and keys by name."""
    base = light_base(tmp_path_factory.getbasetemp() / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLMT_KEYS", str(tmp_path_factory.mktemp("keys") / "keys.json"))
        keys = {name: add_key(name, ["translate"], characters_per_day=1_000_000)[1] for name in ("one", "other")}
        limits = Limits(context=2048)
        with running(base, registry, HintEngine, limits) as a, running(base, Registry(registry.place), HintEngine, limits) as b:
            yield [a, b], keys


@pytest.fixture
def client(replicas: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., deepl.DeepLClient]:
    monkeypatch.setattr("deepl.http_client.max_network_retries", 0)
    services, keys = replicas
    return lambda name="one", replica=0: deepl.DeepLClient(keys[name], server_url=services[replica].url)


def test_a_glossary_from_its_creation_to_its_end(client: Callable[..., deepl.DeepLClient]) -> None:
    one, replica = client(), client(replica=1)
    made = one.create_glossary("Dýr", "is", "en-US", {**HOUND, "kötturinn": "the tom"})
    assert (made.name, made.ready, made.source_lang, made.target_lang, made.entry_count) == ("Dýr", True, "IS", "EN", 2)
    assert vars(replica.get_glossary(made.glossary_id)) == vars(made) == vars(replica.list_glossaries()[-1])
    assert replica.get_glossary_entries(made) == {**HOUND, "kötturinn": "the tom"}
    for each in (one, replica):
        assert each.translate_text("Hundurinn sefur", glossary=made, **OURS).text == "the hound sleeps"
    assert one.translate_text("Hundurinn sefur", **OURS).text == "the dog sleeps"
    one.delete_glossary(made)
    with pytest.raises(deepl.GlossaryNotFoundException):
        one.get_glossary(made.glossary_id)
    with pytest.raises(deepl.DeepLException, match=r"Not found.*no such glossary"):
        one.translate_text("Hundurinn sefur", glossary=made, **OURS)
    # Another replica may use what it knows for as long as it waits between two looks.
    until(lambda: replica.list_glossaries() == [])
    assert [(p.source_lang, p.target_lang) for p in one.get_glossary_languages()] == [("is", "en")]


def test_a_key_has_its_own(replicas: Any, client: Callable[..., deepl.DeepLClient]) -> None:
    made = client().create_glossary_from_csv("CSV", "IS", "EN", 'hundurinn,"the old hound",IS,EN\n')
    other = client("other")
    assert other.list_glossaries() == [] and client().get_glossary_entries(made) == {"hundurinn": "the old hound"}
    for work in (lambda: other.get_glossary(made.glossary_id), lambda: other.get_glossary_entries(made), lambda: other.delete_glossary(made)):
        with pytest.raises(deepl.GlossaryNotFoundException):
            work()
    with pytest.raises(deepl.DeepLException, match="no such glossary"):
        other.translate_text("Hundurinn", glossary=made, **OURS)
    # Two keys with glossaries of one name and different terms.
    same = other.create_glossary("CSV", "is", "en", {"hundurinn": "a pup"})
    assert client().translate_text("Hundurinn", glossary=made, **OURS).text == "the old hound"
    assert other.translate_text("Hundurinn", glossary=same, **OURS).text == "a pup"
    # One after the other, and both at once for one text.
    replicas[0][0].engine.delay = 0.1
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(each.translate_text, "Hundurinn sefur vel", glossary=kept, **OURS) for each, kept in ((client(), made), (other, same))]
        assert [w.result().text for w in work] == ["the old hound sleeps vel", "a pup sleeps vel"]
    replicas[0][0].engine.delay = 0.0
    client().delete_glossary(made)
    other.delete_glossary(same)


def test_what_is_refused(client: Callable[..., deepl.DeepLClient]) -> None:
    one = client()
    cases: list[tuple[tuple[str, str, str, dict[str, str]], str]] = [
        (("a", "is", "de", HOUND), "the service does not translate between these languages; found is-de; valid: is-en"),
        (("a", "is", "xx", HOUND), "target_lang"),
        (("a" * 201, "is", "en", HOUND), "name: not usable as the name of a glossary"),
    ]
    for arguments, message in cases:
        with pytest.raises(deepl.DeepLException, match="Bad request.*" + message):
            one.create_glossary(*arguments)
    with pytest.raises(deepl.DeepLException, match="entries, line 1: a term of other languages; found DE-EN"):
        one.create_glossary_from_csv("a", "is", "en", "a,b,DE,EN\n")
    with pytest.raises(deepl.DeepLException, match="entries, line 2: not two columns"):
        one.create_glossary_from_csv("a", "is", "en", "a,b\nc\n")


def test_a_document_ends_with_the_terms_it_began_with(replicas: Any, client: Callable[..., deepl.DeepLClient]) -> None:
    one, service = client(), replicas[0][0]
    made = one.create_glossary("Dýr", "is", "en", HOUND)
    service.engine.delay = 0.05
    parts = "\n\n".join(f"Hundurinn sefur {'og ' * 500}" for _ in range(8))
    handle = one.translate_document_upload(parts.encode(), filename="a.txt", glossary=made, **OURS)
    with pytest.raises(deepl.DeepLException, match="glossary_id: the glossary is of other languages; found is-en; valid: en-is"):
        one.translate_text("dog", source_lang="EN", target_lang="IS", glossary=made.glossary_id)
    one.delete_glossary(made)
    until(lambda: one.translate_document_get_status(handle).done)
    out = io.BytesIO()
    one.translate_document_download(handle, out)
    service.engine.delay = 0.0
    assert out.getvalue().decode().count("the hound sleeps") == 8


def test_by_name_in_the_native_api(replicas: Any, client: Callable[..., deepl.DeepLClient]) -> None:
    (service, _), keys = replicas
    http = service.http
    http.headers["X-API-Key"] = keys["one"]
    kept = [client().create_glossary("Dýr", "is", "en", {"hundurinn": target}) for target in ("the hound", "a pup")]
    body = {"source": "is", "target": "en", "text": "Hundurinn", "glossary": "Dýr"}
    for path in ("/api/v1/translate", "/api/v1/translate/stream"):
        # The newest of a name.
        assert "a pup" in http.post(path, json=body).text
        assert "the hound" in http.post(path, json={**body, "glossary": kept[0].glossary_id}).text
    assert "a kept glossary" not in error(http.post("/api/v1/translate", json={**body, "source": "auto"}), 400)
    assert "no glossary has this name" in error(http.post("/api/v1/translate", json={**body, "glossary": "../../pairs/is-en"}), 404)
    used = json.loads(http.get("/v2/usage").text)["character_count"]
    http.post("/api/v1/translate", json=body)
    # Its terms cost no quota.
    assert json.loads(http.get("/v2/usage").text)["character_count"] == used + len("Hundurinn")
    for glossary in kept:
        client().delete_glossary(glossary)


def test_a_registry_that_is_damaged(replicas: Any, registry: Registry, client: Callable[..., deepl.DeepLClient], tmp_path: Path) -> None:
    id = client().create_glossary("Dýr", "is", "en", HOUND).glossary_id
    owner = replicas[1]["one"].split("_")[1]
    registry.store.write_file("glossaries", owner, f"{id}.json", data=b"{")
    with pytest.raises(deepl.DeepLException, match=r"Service unavailable.*a kept glossary cannot be read"):
        client().get_glossary(id)
    registry.store.remove_file("glossaries", owner, f"{id}.json")
