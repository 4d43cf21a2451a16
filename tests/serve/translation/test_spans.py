"""Which part of a text gave which part of its translation, and the bare base beside an adapter, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.serving import Published, Running, error, running

pytest_plugins = ["tests.support.serving_fixtures"]

PATHS = ("/api/v1/translate", "/api/v1/translate/stream")
TEXTS = ["Halló heimur.", "  - a 𝄞 b\r\n\r\n\t1) þú \U0001f600é\n", "", "17.03.\n", ["a", "", "b\nendless\u2028c", " \n"]]


@pytest.fixture(scope="module")
def comparing(published: Published) -> Iterator[Running]:
    with running(published.base, published.registry, compare_base=True) as service:
        yield service


def ask(service: Running, path: str, text: Any, **more: Any) -> tuple[list[str], list[list[dict[str, Any]]], dict[str, Any]]:
    """Translations, their segments, and who translated."""
    answer = service.http.post(path, json={"source": "is", "target": "en", "text": text, "segments": True, **more})
    assert answer.status_code == 200, answer.text
    if not path.endswith("stream"):
        body = answer.json()
        return [t["text"] for t in body["translations"]], [t["segments"] for t in body["translations"]], body
    *parts, last_line = [json.loads(line) for line in answer.text.split("\n") if line]
    numbers = range(len(text) if isinstance(text, list) else 1)
    parts_by_text = [[p for p in parts if p["index"] == i] for i in numbers]
    return (
        ["".join(p["text"] for p in text_parts) for text_parts in parts_by_text],
        [[s for p in text_parts for s in p["segments"]] for text_parts in parts_by_text],
        last_line,
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("text", [t for t in TEXTS if t], ids=str)
def test_the_places_of_segments(comparing: Running, mark: str, path: str, text: Any) -> None:
    translations, segments, _ = ask(comparing, path, text)
    for source, translation, text_segments in zip([text] if isinstance(text, str) else text, translations, segments, strict=True):
        source_end = target_end = 0
        for segment in text_segments:
            (start, end), (target_start, target_stop) = segment["source"], segment["target"]
            # Between segments the two are the same, and a segment's translation is what the engine makes of it alone.
            assert source[source_end:start] == translation[target_end:target_start] and translation[target_start:target_stop] == mark + source[start:end]
            assert segment["truncated"] == ("endless" in source[start:end]) and segment["flags"] == (["truncated"] if segment["truncated"] else [])
            source_end, target_end = end, target_stop
        assert source[source_end:] == translation[target_end:]
        assert len(text_segments) == sum(any(map(str.isalpha, line)) for line in source.split("\n"))


def test_segments_are_told_where_they_are_asked_for(comparing: Running) -> None:
    body = {"source": "is", "target": "en", "text": "a"}
    assert "segments" not in comparing.http.post(PATHS[0], json=body).json()["translations"][0]
    assert '"segments"' not in comparing.http.post(PATHS[1], json=body).text
    message = error(comparing.http.post(PATHS[0], json={**body, "segments": True, "format": "html"}), 400)
    assert message.startswith("segments: HTML texts have no segments")


@pytest.mark.parametrize("path", PATHS)
def test_the_bare_base_beside_the_adapter(comparing: Running, shared: Running, published: Published, mark: str, path: str) -> None:
    id = published.ids["is-en"]
    for _ in range(2):
        # The second time from the cache, where the two are kept apart.
        assert ask(comparing, path, ["Einstakt", "b\nc"], base=True)[0] == ["<base>Einstakt", "<base>b\n<base>c"]
        assert ask(comparing, path, ["Einstakt", "b\nc"])[0] == [f"{mark}Einstakt", f"{mark}b\n{mark}c"]
    last_line = ask(comparing, path, "a", base=True)[2]
    assert (last_line["pair"], last_line["adapter"], last_line["base"]) == ("is-en", f"base-{id}", "light")
    assert comparing.metric("tellmt_segments_total", pair="is-en", version=f"base-{id}") >= 3
    status = comparing.status()
    assert (status["adapter"], status["in_flight"], status["state"]) == (id, 0, "live")
    # Not offered unless the service is started so.
    refused = shared.http.post(path, json={"source": "is", "target": "en", "text": "a", "base": True})
    assert error(refused, 400) == "base: this service does not translate with the bare base; valid: false, or tellmt serve --compare-base"


def test_what_a_service_offers_and_its_load(comparing: Running, shared: Running) -> None:
    comparing.texts("Eitt\nTvö")
    offers = [service.http.get("/api/v1/service").json() for service in (comparing, shared)]
    assert [o["compare_base"] for o in offers] == [True, False]
    assert ".txt" in offers[0]["formats"] and offers[0]["max_characters"] == 100_000 and not offers[0]["feedback"] and not offers[0]["keys"]
    load = comparing.http.get("/api/v1/load").json()
    assert load["requests"] == 0 and load["segments"] == {"waiting": 0, "running": 0, "limit": 4096} and load["uptime"] >= 0
    assert load["adapters"] == {"loaded": 4, "limit": 8} and load["translated"]["segments"] >= 2 and load["translated"]["characters"] >= 7
    assert load["documents"] == {"queued": 0, "translating": 0, "kept": 0}
