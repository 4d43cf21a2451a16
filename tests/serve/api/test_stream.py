"""Translations as they come: the lines of a stream, what goes wrong before and after its head, and what every answer says of its version."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serve.config import Limits
from tell.errors import EngineError
from tell.model.engine import EngineOptions, Generation, Prompt
from tests.support.serving import Published, Running, error, running, until
from tests.support.slow_engine import SlowEngine

pytest_plugins = ["tests.support.serving_fixtures"]

PATH = "/api/v1/translate/stream"
NAMES = ("x-tellmt-pair", "x-tellmt-adapter", "x-tellmt-base")


def streamed(service: Running, text: Any, **fields: Any) -> tuple[httpx.Response, list[dict[str, Any]]]:
    answer = service.http.post(PATH, json={"source": "is", "target": "en", "text": text, **fields})
    return answer, [json.loads(line) for line in answer.text.split("\n") if line] if answer.status_code == 200 else []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Halló.", [(0, "{m}Halló.")]),
        ("  a\r\n\r\n\tb \n", [(0, "  {m}a"), (0, "\r\n\r\n\t{m}b \n")]),
        (["a", "", " \n", "b\nc\u2028d"], [(0, "{m}a"), (1, ""), (2, " \n"), (3, "{m}b"), (3, "\n{m}c\u2028d")]),
        (["", "\n"], [(0, ""), (1, "\n")]),
    ],
)
def test_a_stream_has_its_parts_in_order_and_ends_with_who_translated(
    service: Running, published: Published, mark: str, text: Any, parts: list[tuple[int, str]]
) -> None:
    answer, events = streamed(service, text)
    assert answer.headers["content-type"] == "application/x-ndjson" and answer.headers["cache-control"] == "no-store"
    assert events[:-1] == [{"index": i, "text": t.replace("{m}", mark), "truncated": False, "flags": []} for i, t in parts]
    assert events[-1] == {"done": True, "pair": "is-en", "adapter": published.ids["is-en"], "base": "light", "quality": "fast"}
    whole = service.texts(text)
    assert ["".join(e["text"] for e in events[:-1] if e["index"] == i) for i in range(len(whole))] == whole


def test_a_cut_part_is_marked(service: Running) -> None:
    events = streamed(service, "fine\nendless")[1]
    assert [(e.get("truncated"), e.get("flags")) for e in events] == [(False, []), (True, ["truncated"]), (None, None)]


class Steps(SlowEngine):
    """Answers one prompt after the other, as often as a test lets it."""

    def __init__(self, options: EngineOptions):
        super().__init__(options, places=1)
        self.stop_at = 10**6

    async def generate(self, prompts: Any, adapter_id: str | None) -> list[Generation]:
        generations = await super().generate(prompts, adapter_id)
        if adapter_id and self.answered > self.stop_at:
            raise EngineError("the engine died", found="Skilaboð sem enginn má sjá")
        return generations

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        return super()._answer(prompt, adapter_id)


def test_parts_are_sent_when_they_are_done(published: Published) -> None:
    with running(published.base, published.registry, Steps) as server:
        server.engine.delay = 0.2
        body = {"source": "is", "target": "en", "text": [f"text {i}" for i in range(5)]}
        with server.http.stream("POST", PATH, json=body) as answer:
            for n, line in enumerate(answer.iter_lines()):
                event = json.loads(line)
                if "done" not in event:
                    assert event["index"] == n
                    assert server.metric("tellmt_segments_waiting") <= 4 - n
                if n == 0:
                    assert server.metric("tellmt_segments_waiting") >= 3


def test_what_goes_wrong_before_the_head_is_an_ordinary_answer(service: Running) -> None:
    for body, status in (({"text": ""}, 400), ({"text": "a", "source": "de"}, 400), ({"text": "a\n" * 5000}, 413), ({"text": "a", "timeout": 0}, 400)):
        answer = service.http.post(PATH, json={"source": "is", "target": "en", **body})
        error(answer, status)
    with service.http.stream("GET", PATH) as answer:
        assert answer.status_code == 405


@pytest.mark.clock
def test_what_goes_wrong_after_the_head_is_the_last_line(published: Published) -> None:
    with running(published.base, published.registry, Steps) as server:
        server.engine.stop_at = server.engine.answered + 2
        answer, events = streamed(server, [f"text {i}" for i in range(4)])
        assert answer.status_code == 200
        assert [e.get("index") for e in events] == [0, 1, None]
        assert events[-1] == {"error": "the engine died", "status": 503}
        server.engine.stop_at, server.engine.delay = 10**6, 0.15
        _, events = streamed(server, [f"slow {i}" for i in range(9)], timeout=0.5)
        assert events[-1] == {"error": "the translation was not done in the 0.5 s that the request has", "status": 504}
        assert 1 <= len(events) < 9
        until(lambda: server.metric("tellmt_segments_waiting") == 0 and server.status()["in_flight"] == 0)


def test_an_unexpected_failure_in_a_stream_tells_nothing(published: Published, capfd: pytest.CaptureFixture[str]) -> None:
    with running(published.base, published.registry, SlowEngine) as server:
        server.engine.failure = ValueError("Leyndarmál")
        _, events = streamed(server, "a")
        assert events == [{"error": "something went wrong in the service", "status": 500}]
    assert "Leyndarmál" not in capfd.readouterr().err


def test_too_much_waiting_refuses_a_stream_as_it_does_others(published: Published) -> None:
    with running(published.base, published.registry, SlowEngine, Limits(context=2048, waiting=3)) as server:
        server.engine.delay = 0.5
        with server.http.stream("POST", PATH, json={"source": "is", "target": "en", "text": ["a", "b", "c"]}) as first:
            assert first.status_code == 200
            refused = httpx.post(server.url + PATH, json={"source": "is", "target": "en", "text": "d"}, trust_env=False)
            assert "too many segments are waiting" in error(refused, 503) and int(refused.headers["retry-after"]) >= 1
            assert first.read().count(b"\n") == 4


def test_every_api_names_pair_adapter_and_base(service: Running, published: Published) -> None:
    expected = ["is-en", published.ids["is-en"], "light"]
    body = {"source": "is", "target": "en"}
    for path, key in (("/api/v1/translate", "text"), (PATH, "text"), ("/translate", "q")):
        answer = service.http.post(path, json={**body, key: "a"})
        assert [answer.headers.get(n) for n in NAMES] == expected, path
        described = service.http.get("/openapi.json").json()["paths"][path]["post"]
        assert set(NAMES) <= {n.lower() for n in described["responses"]["200"]["headers"]}
        assert {"429", "503", "504"} <= set(described["responses"])
        assert {"X-Request-Timeout", "Cache-Control"} <= {p["name"] for p in described["parameters"]}
        assert "200" in described["responses"] and described["responses"]["200"]["content"]


def test_the_stream_is_described_line_by_line(service: Running) -> None:
    api = service.http.get("/openapi.json").json()
    described = api["paths"][PATH]["post"]["responses"]["200"]["content"]
    assert list(described) == ["application/x-ndjson"]
    references = [s["$ref"] for s in described["application/x-ndjson"]["schema"]["oneOf"]]
    assert references == [f"#/components/schemas/{name}" for name in ("TranslationPart", "StreamEnd", "StreamError")]
    assert [set(api["components"]["schemas"][reference.rpartition("/")[2]]["properties"]) for reference in references] == [
        {"index", "text", "truncated", "flags", "segments", "pair", "detected"},
        {"done", "pair", "adapter", "base", "quality", "fallback", "via", "glossary"},
        {"error", "status"},
    ]  # fmt: skip
