"""Pairs without an adapter: an error, a pivot through English, or the bare base, as the operator allows and the request asks; and the answer says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from serve.config import Fallback, Limits
from serve.translation.routing import parse_fallbacks, reachable
from tell.client import Client
from tell.errors import BadInput, NotServed
from tell.model.engine import Generation, Prompt
from tests.support.serving import Published, Running, error, running
from tests.support.slow_engine import SlowEngine

pytest_plugins = ["tests.support.serving_fixtures"]

# Live are is-en, en-is, fo-is and pt-BR:en. So pt-BR to is is a pivot away, fo to en is not: nothing leads from fo to en but the base.
BOTH: tuple[Fallback, ...] = ("pivot", "base")


class Marking(SlowEngine):
    """The base's own answers are marked too, and "{nome}" is lost on the way to English; "endless" is cut."""

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        generation = super()._answer(prompt, adapter_id)
        return Generation(generation.text.replace(" {nome}", ""), generation.tokens, generation.finish)


@contextmanager
def serving(published: Published, *fallbacks: Fallback) -> Iterator[Running]:
    with running(published.base, published.registry, Marking, Limits(context=2048, tries=0, fallback=fallbacks)) as service:
        yield service


@pytest.fixture(scope="module")
def both(published: Published) -> Iterator[Running]:
    with serving(published, *BOTH) as service:
        yield service


def post(service: Running, source: str, target: str, text: Any = "Halló", path: str = "/api/v1/translate", **more: Any) -> Any:
    return service.http.post(path, json={"source": source, "target": target, "text": text, **more})


def test_by_default_a_pair_without_an_adapter_is_an_error(both: Running, shared: Running) -> None:
    message = error(post(shared, "pt-BR", "is"), 400)
    assert "no adapter for this pair; found pt-BR:is" in message and "fallback" not in message
    # The error names the allowed fallbacks that lead there; none is used unless the request asks for it.
    assert "or fallback: pivot or base" in error(post(both, "pt-BR", "is"), 400)
    assert error(post(both, "fo", "en"), 400).endswith("or fallback: base")
    refused = post(both, "fo", "en", fallback="pivot")
    assert "no adapter for this pair; found fo-en" in error(refused, 400) and refused.json()["pairs"] == both.service.pairs()
    assert both.metric("tellmt_segments_waiting") == 0


def test_a_pivot_says_so_with_both_versions_and_the_flags_of_both(both: Running, published: Published) -> None:
    first, second = published.ids["pt-BR:en"], published.ids["en-is"]
    response = post(both, "pt-br", "is", ["Olá {nome}\n\nendless", "17"], fallback="pivot")
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["pair"], answer["adapter"], answer["fallback"]) == ("pt-BR:is", second, "pivot")
    assert answer["via"] == [{"pair": "pt-BR:en", "adapter": first}, {"pair": "en-is", "adapter": second}]
    assert response.headers["X-Tellmt-Via"] == f"pivot pt-BR:en={first}, en-is={second}" and response.headers["X-Tellmt-Pair"] == "pt-BR:is"
    text, number = answer["translations"]
    assert text["text"] == f"<{second[:8]}><{first[:8]}>Olá\n\n<{second[:8]}><{first[:8]}>endless"
    assert text["truncated"] and {"placeholder", "truncated"} <= set(text["flags"]) and "placeholder" in text["pivot"]["flags"]
    assert text["pivot"]["text"] == f"<{first[:8]}>Olá\n\n<{first[:8]}>endless"
    assert (number["text"], number["flags"], number["pivot"]) == ("17", [], {"text": "17", "flags": []})
    # An adapter of the pair itself wins over every fallback.
    direct = post(both, "is", "en", fallback=["base", "pivot"]).json()
    assert direct["adapter"] == published.ids["is-en"] and not {"fallback", "via"} & set(direct) and "pivot" not in direct["translations"][0]


def test_the_base_says_so_and_names_no_adapter(both: Running) -> None:
    for fallback in ("base", ["pivot", "base"]):
        response = post(both, "fo", "en", fallback=fallback)
        answer = response.json()
        assert (answer["pair"], answer["adapter"], answer["fallback"], answer["via"]) == ("fo-en", "base", "base", [{"pair": "fo-en"}])
        assert answer["translations"][0]["text"] == "<base>Halló" and response.headers["X-Tellmt-Via"] == "base"
    # In order: pt-BR to is has both ways.
    ways = [post(both, "pt-BR", "is", fallback=fallback).json()["fallback"] for fallback in (["pivot", "base"], ["base", "pivot"])]
    assert ways == ["pivot", "base"]
    # Pairs of the base share nothing, in the cache or in metrics: those name no language that a client made up.
    assert post(both, "fo", "pt-BR", fallback="base").json()["pair"] == "fo:pt-BR"
    labels = {s.labels["pair"] for m in both.service.metrics.registry.collect() for s in m.samples if "pair" in s.labels}
    assert "base" in labels and not {"fo-en", "fo:pt-BR", "pt-BR:is"} & labels


def test_streams_auto_html_and_quality(both: Running, published: Published) -> None:
    first, second = (published.ids[p][:8] for p in ("pt-BR:en", "en-is"))
    lines = [json.loads(x) for x in post(both, "pt-BR", "is", "um {nome}\ndois", "/api/v1/translate/stream", fallback="pivot").text.split("\n") if x]
    assert [x["text"] for x in lines[:-1]] == [f"<{second}><{first}>um", f"\n<{second}><{first}>dois"]
    assert all("placeholder" in x["flags"] for x in lines[:-1])
    assert lines[-1]["fallback"] == "pivot" and [s["pair"] for s in lines[-1]["via"]] == ["pt-BR:en", "en-is"] and lines[-1]["pair"] == "pt-BR:is"

    portuguese = "A casa é amarela e fica perto do mar, onde as crianças brincam."
    auto = post(both, "auto", "is", [portuguese, "The house is yellow, and it is near the sea."], fallback="pivot").json()
    assert [(t["pair"], t.get("fallback")) for t in auto["translations"]] == [("pt-BR:is", "pivot"), ("en-is", None)]
    assert [s["pair"] for s in auto["translations"][0]["via"]] == ["pt-BR:en", "en-is"] and auto["fallback"] == "pivot"

    html = post(both, "pt-BR", "is", "<p>um <b>dois</b> três</p>", fallback="pivot", format="html", quality="best", alternatives=2).json()
    assert html["translations"][0]["text"] == f"<p>&lt;{second}&gt;&lt;{first}&gt;um <b>dois</b> três</p>" and html["quality"] == "best"
    assert html["translations"][0]["pivot"]["text"] == f"<p>&lt;{first}&gt;um <b>dois</b> três</p>"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"fallback": "base"}, "fallback: the service does not offer this fallback (serve --fallback); found base; valid: pivot"),
        ({"fallback": ["pivot", "base"]}, "found base; valid: pivot"),
        ({"fallback": "english"}, "fallback: not usable; valid: how to translate a pair without an adapter: none, or pivot, base"),
        ({"fallback": ["none"]}, "fallback: not usable"),
        ({"fallback": ["pivot", "pivot", "pivot"]}, "fallback: not usable"),
        ({"fallback": "pivot", "source": "is", "target": "is"}, "source and target are the same language"),
        ({"fallback": "pivot", "target": "klingonska"}, "unknown language code"),
        # English is no way to itself.
        ({"fallback": "pivot", "source": "en", "target": "fo"}, "no adapter for this pair; found en-fo"),
    ],
)
def test_what_is_refused(pivot: Running, more: dict[str, Any], says: str) -> None:
    for path in ("/api/v1/translate", "/api/v1/translate/stream"):
        assert says in error(pivot.http.post(path, json={"source": "pt-BR", "target": "is", "text": "a", **more}), 400)


@pytest.fixture(scope="module")
def pivot(published: Published) -> Iterator[Running]:
    with serving(published, "pivot") as service:
        yield service


def test_other_protocols_do_as_the_operator_says_and_lists_are_wider(pivot: Running, shared: Running, published: Published) -> None:
    first, second = (published.ids[p] for p in ("pt-BR:en", "en-is"))
    libre = {"q": "um", "source": "pt", "target": "is"}
    response = pivot.http.post("/translate", json=libre)
    assert response.json() == {"translatedText": f"<{second[:8]}><{first[:8]}>um"} and response.headers["X-Tellmt-Via"].startswith("pivot ")
    assert "no adapter" in error(shared.http.post("/translate", json=libre), 400)
    deepl = {"text": ["um"], "source_lang": "PT", "target_lang": "IS"}
    assert pivot.http.post("/v2/translate", json=deepl).json()["translations"][0]["detected_source_language"] == "PT"
    assert shared.http.post("/v2/translate", json=deepl).status_code == 400

    def listed(service: Running) -> dict[str, list[str]]:
        return {row["code"]: row["targets"] for row in service.http.get("/languages").json()}

    assert listed(shared) == {"is": ["en"], "en": ["is"], "fo": ["is"], "pt-BR": ["en"]}
    assert listed(pivot) == {"is": ["en"], "en": ["is"], "fo": ["is"], "pt-BR": ["en", "is"]}
    # Pairs with an adapter are the same as before.
    assert [p["pair"] for p in pivot.http.get("/api/v1/adapters").json()["pairs"]] == sorted(published.ids)

    job = pivot.http.post("/api/v1/jobs", data={"source": "pt-BR", "target": "is"}, files={"file": ("a.txt", b"um\n")}).json()
    while job["state"] not in ("done", "failed"):
        job = pivot.http.get(f"/api/v1/jobs/{job['id']}").json()
    assert (job["pair"], job["fallback"], job["adapters"]) == ("pt-BR:is", "pivot", [first, second])
    assert pivot.http.get(f"/api/v1/jobs/{job['id']}/result").text == f"<{second[:8]}><{first[:8]}>um\n"
    assert shared.http.post("/api/v1/jobs", data={"source": "pt-BR", "target": "is"}, files={"file": ("a.txt", b"um\n")}).status_code == 400


WIDER: list[tuple[list[str], tuple[Fallback, ...], list[str]]] = [
    (["en-is", "fo-en"], ("pivot",), ["en-is", "fo-en", "fo-is"]),
    (["en-is", "is-en", "fo-en", "en-fo"], ("pivot",), ["en-fo", "en-is", "fo-en", "fo-is", "is-en", "is-fo"]),
    (["is-en"], ("pivot",), ["is-en"]),
    (["is-en"], ("base",), ["en-is", "is-en"]),
    ([], ("pivot", "base"), []),
]


def test_what_lists_add_is_what_is_translated() -> None:
    for served, ways, expected in WIDER:
        assert reachable(served, ways) == expected


def test_the_option(cli: Any) -> None:
    assert [parse_fallbacks(t) for t in ("none", "", "pivot", "base, pivot")] == [(), (), ("pivot",), ("base", "pivot")]
    for bad in ("english", "pivot,pivot", "none,base", "pivot;base"):
        with pytest.raises(BadInput, match="--fallback"):
            parse_fallbacks(bad)
    ran = cli("serve", "--port", "0", "--fallback", "always", ok=False)
    assert ran.code == 2 and "--fallback: not a fallback; found always; valid: none, pivot" in ran.err


def test_the_typed_client(both: Running, published: Published) -> None:
    with Client(both.url) as client:
        translation = client.translate("um", "pt-BR", "is", fallback=["pivot"], quality="best", alternatives=1)
        assert (translation.fallback, translation.quality, translation.adapter, translation.alternatives, translation.flags) == (
            "pivot",
            "best",
            published.ids["en-is"],
            (),
            (),
        )
        assert client.translate(["um"], "fo", "en", fallback=("pivot", "base"))[0].fallback == "base"
        with pytest.raises(NotServed, match="or fallback: base"):
            client.translate("um", "fo", "en")
