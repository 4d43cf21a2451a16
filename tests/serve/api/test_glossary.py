"""A glossary in a request: its terms are written into prompts, looked for in translations, and part of every key of a translation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.config import Limits
from tell.client import Client
from tell.registry.registry import Registry
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.hint_engine import HintEngine, hinted_adapter
from tests.support.memories import with_memory
from tests.support.serving import Running, error, publish, running, until

HOUND = {"hundurinn": "the hound"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    root = tmp_path_factory.mktemp("glossary")
    base = light_base(root / "cache")
    registry = Registry(root / "registry")
    publish(registry, hinted_adapter(root / "is-en", base))
    for pair in ("fo-en", "en-fo"):
        publish(registry, light_adapter(root / pair, base, pair))
    publish(registry, with_memory(light_adapter(root / "da-en", base, "da-en"), [("Hunden sover.", "The dog sleeps.")]))
    return registry


@pytest.fixture
def service(registry: Registry) -> Iterator[Running]:
    base = light_base(Path(registry.place).parent / "cache")
    with running(base, registry, HintEngine, Limits(context=2048, fallback=("pivot",))) as found:
        found.engine.given.clear()
        yield found


def asked(service: Running, text: Any, glossary: Any = None, **more: Any) -> dict[str, Any]:
    body = {"source": "is", "target": "en", "text": text, **({"glossary": glossary} if glossary else {}), **more}
    answer = httpx.post(f"{service.url}/api/v1/translate", json=body, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def first(answer: dict[str, Any]) -> tuple[str, list[str]]:
    return answer["translations"][0]["text"], answer["translations"][0]["flags"]


def test_a_term_stands_in_place_of_the_lexicons_hint(service: Running) -> None:
    assert first(asked(service, "Hundurinn sefur")) == ("the dog sleeps", [])
    answer = asked(service, "Hundurinn sefur", HOUND)
    assert first(answer) == ("the hound sleeps", []) and answer["glossary"] == {"applied": True}
    assert service.engine.sources() == ["Hundurinn 【 the dog】 sefur 【 sleeps】", "Hundurinn 【 the hound】 sefur 【 sleeps】"]
    # A term of several words has one hint, in place of those of its words; placeholders and inflected words.
    assert first(asked(service, "Hundinum Kötturinn sefur {hundurinn}", {"kötturinn sefur": "a nap"}))[0] == "Hundinum Kötturinn a nap {hundurinn}"
    assert service.engine.sources()[-1] == "Hundinum Kötturinn sefur 【 a nap】 {hundurinn}"


def test_a_glossary_is_part_of_the_key(service: Running) -> None:
    assert first(asked(service, "Hundurinn sefur"))[0] == "the dog sleeps"
    assert first(asked(service, "Hundurinn sefur", HOUND))[0] == "the hound sleeps"
    assert first(asked(service, "Hundurinn sefur", {"hundurinn": "a pup"}))[0] == "a pup sleeps"
    decodes = len(service.engine.sources())
    # Each from the cache, whatever the order of the terms; and what has no terms has no glossary in its key.
    assert first(asked(service, "Hundurinn sefur"))[0] == "the dog sleeps"
    assert first(asked(service, "Hundurinn sefur", HOUND))[0] == "the hound sleeps"
    assert len(service.engine.sources()) == decodes
    two = {"kötturinn": "a tom", **HOUND}
    assert first(asked(service, "Hundurinn sefur", two))[0] == "the hound sleeps"
    assert first(asked(service, "Hundurinn sefur", dict(reversed(two.items()))))[0] == "the hound sleeps"
    assert len(service.engine.sources()) == decodes + 1
    assert first(asked(service, "sefur")) == first(asked(service, "sefur", HOUND)) and len(service.engine.sources()) == decodes + 2


def test_nearest_pairs_stand_before_the_source(service: Running) -> None:
    answer = asked(service, "Hunden sover.\n\nKatten 【1】", {"hunden": "the hound"}, source="da")
    assert answer["glossary"] == {"applied": False} and first(answer)[1] == ["glossary"]
    assert set(service.engine.sources()) == {"【Hunden sover.】 The dog sleeps.\nHunden sover.", "Katten 〖1〗"}
    # An exact match is translated like any other text.
    assert first(answer)[0] != "The dog sleeps.\n\nKatten 【1】" and first(answer)[0].endswith("Katten 【1】")


def test_glossaries_at_once(service: Running) -> None:
    service.engine.delay = 0.3
    glossaries: list[Any] = [None, HOUND, {"hundurinn": "a pup"}, HOUND]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda glossary: first(asked(service, "Hundurinn sefur", glossary))[0], glossaries))
    assert answers == ["the dog sleeps", "the hound sleeps", "a pup sleeps", "the hound sleeps"]
    assert len(service.engine.sources()) == 3


def test_a_term_that_does_not_come_out_is_flagged_and_tried_again(service: Running) -> None:
    assert first(asked(service, "stubborn hundurinn", HOUND)) == ("stubborn hundurinn", ["glossary"])
    # With another penalty first, and then sentence by sentence.
    answer = asked(service, "Hundurinn sefur. It is a stubborn one. So.", HOUND)
    assert first(answer) == ("the hound sleeps. It is a stubborn one. So.", [])
    assert service.metric("tellmt_flagged_segments_total", pair="is-en", version=service.status()["adapter"], flag="glossary") == 1


def test_all_candidates_follow_it(service: Running) -> None:
    answer = asked(service, "Hundurinn sefur", HOUND, quality="best")
    assert first(answer)[0] == "the hound sleeps" and all("hound" in s for s in service.engine.sources())


def test_an_adapter_without_hints_is_only_checked(service: Running) -> None:
    answer = asked(service, "Hundurin", {"hundurin": "the dog"}, source="fo")
    assert answer["glossary"] == {"applied": False} and first(answer) == ("Hundurin", ["glossary"])
    # A retry could not follow it either.
    assert service.engine.sources() == ["Hundurin"]
    body = {"source": "fo", "target": "en", "text": "Hundurin", "glossary": {"hundurin": "hundurin"}}
    response = service.http.post("/api/v1/translate", json=body)
    assert response.headers["X-Tellmt-Glossary"] == "checked" and response.json()["translations"][0]["flags"] == []


def test_a_pivot_is_only_checked(service: Running) -> None:
    answer = asked(service, ["Hundurinn sefur", "Kötturinn"], {"hundurinn": "hundurin"}, target="fo", fallback="pivot")
    assert answer["glossary"] == {"applied": False}
    assert ["glossary" in t["flags"] for t in answer["translations"]] == [True, False]


def test_markup_and_streams(service: Running) -> None:
    answer = asked(service, "<p>Hundurinn <b title='hundurinn'>sefur</b></p>", HOUND, format="html")
    assert first(answer)[0] == '<p>the hound <b title="hundurinn">sleeps</b></p>'
    body = {"source": "is", "target": "en", "text": "Hundurinn\nsefur", "glossary": HOUND}
    response = service.http.post("/api/v1/translate/stream", json=body)
    *parts, end = map(json.loads, response.text.splitlines())
    assert "".join(p["text"] for p in parts) == "the hound\nsleeps" and end["glossary"] == {"applied": True}
    assert response.headers["X-Tellmt-Glossary"] == "applied"


def test_documents(service: Running) -> None:
    form = {"source": "is", "target": "en", "glossary": json.dumps(HOUND)}
    job = service.http.post("/api/v1/jobs", data=form, files={"file": ("a.txt", b"Hundurinn\n\nsefur\n")}).json()
    done = until(lambda: (now := service.http.get(f"/api/v1/jobs/{job['id']}").json())["state"] == "done" and now)
    assert done["glossary"] == {"applied": True}
    assert service.http.get(f"/api/v1/jobs/{job['id']}/result").text == "the hound\n\nsleeps\n"
    form["glossary"] = '{"a": 1}'
    assert "glossary: not usable" in error(service.http.post("/api/v1/jobs", data=form, files={"file": ("a.txt", b"a")}), 400)


@pytest.mark.parametrize(
    ("glossary", "status", "message"),
    [
        ({}, 400, "the glossary has no terms"),
        ({"hundurinn": ""}, 400, "glossary, term 1: the target term: empty"),
        ({"hundurinn": "the hound", "→ %s": "to"}, 400, "glossary, term 2: no letter or digit in a source term; found → %s"),
        ({"hundurinn": 3}, 400, "glossary: not usable"),
        (["hundurinn"], 400, "glossary: not usable"),
        ({f"orð{i}": "x" for i in range(10_001)}, 413, "the glossary is too large"),
        ("unknown", 404, "no glossary has this name"),
    ],
)
def test_what_is_no_glossary(service: Running, glossary: Any, status: int, message: str) -> None:
    body = {"source": "is", "target": "en", "text": "Hundurinn", "glossary": glossary}
    assert message in error(service.http.post("/api/v1/translate", json=body), status)


def test_five_thousand_terms_in_one_request(service: Running) -> None:
    many = {f"orðið{i}": f"word {i}" for i in range(5000)} | HOUND
    assert first(asked(service, ["Hundurinn sefur"] * 50, many))[0] == "the hound sleeps"
    # What cannot be UTF-8 does no harm.
    raw = b'{"source": "is", "target": "en", "text": "Hundurinn", "glossary": {"\\ud800a": "\\ud800", "hundurinn": "the hound"}}'
    assert service.http.post("/api/v1/translate", content=raw).status_code == 200


def hints(answer: dict[str, Any]) -> list[list[tuple[str, list[str], bool]]]:
    """The hints of each segment of all texts, once it is sure that their ranges are those of their words."""
    segments = [(t, s) for t in answer["translations"] for s in t["segments"]]
    return [[(h["text"], h["candidates"], h["glossary"]) for h in s["hints"]] for _, s in segments]


def test_which_hints_a_segment_had(service: Running) -> None:
    text = " 😀 Hundurinn sefur.\n\nhús {sefur} Kötturinn"
    expected = [[("Hundurinn", ["the hound"], True), ("sefur", ["sleeps"], False)], [("Kötturinn", ["the cat"], False)]]
    answer = asked(service, text, HOUND, hints=True)
    assert hints(answer) == expected
    ranges = [h["source"] for s in answer["translations"][0]["segments"] for h in s["hints"]]
    assert [text[slice(*r)] for r in ranges] == ["Hundurinn", "sefur", "Kötturinn"]
    # From the cache as well; and nobody is told who does not ask.
    assert hints(asked(service, text, HOUND, hints=True)) == expected
    assert "hints" not in asked(service, text, HOUND, segments=True)["translations"][0]["segments"][0]
    assert "segments" not in first_text(asked(service, text, HOUND))
    # Adapters without hints, the pivot, and text that nothing was translated of.
    assert hints(asked(service, "Hundurin", {"hundurin": "the dog"}, source="fo", hints=True)) == [[]]
    assert hints(asked(service, "Hundurinn", target="fo", fallback="pivot", hints=True)) == []
    body = {"source": "is", "target": "en", "text": "<p>a</p>", "format": "html", "hints": True}
    assert error(service.http.post("/api/v1/translate", json=body), 400).startswith("hints: HTML texts have no segments")


def first_text(answer: dict[str, Any]) -> dict[str, Any]:
    return dict(answer["translations"][0])


def test_a_stream_tells_hints(service: Running) -> None:
    body = {"source": "is", "target": "en", "text": ["Hundurinn", "a\nsefur Hundurinn"], "glossary": HOUND, "hints": True}
    *parts, end = map(json.loads, service.http.post("/api/v1/translate/stream", json=body).text.splitlines())
    told = [[(h["source"], h["candidates"], h["glossary"]) for h in s["hints"]] for p in parts for s in p["segments"]]
    assert end["done"] and told == [[([0, 9], ["the hound"], True)], [], [([2, 7], ["sleeps"], False), ([8, 17], ["the hound"], True)]]
    with Client(service.url) as client:
        translation = client.translate("sefur Hundurinn", "is", "en", glossary=HOUND, hints=True)
        assert [(h.text, h.candidates, h.glossary) for h in translation.segments[0].hints] == [
            ("sefur", ("sleeps",), False),
            ("Hundurinn", ("the hound",), True),
        ]
        assert client.translate("sefur", "is", "en", segments=True).segments[0].hints == ()
