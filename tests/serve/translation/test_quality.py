"""`quality: best`: several candidates, the one that agrees most with the others, unflagged ones first; and alternatives. Over HTTP, on scripted outputs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from serve.config import Limits
from serve.translation.decoder import CANDIDATES, MOST_ALTERNATIVES, candidates_per_segment, samplings
from tell.model.engine import EngineOptions, Generation, Prompt
from tell.text.flags import Checked
from tell.text.mbr import agreement, best_first, chrf
from tests.support.serving import Published, Running, error, running
from tests.support.slow_engine import SlowEngine

pytest_plugins = ["tests.support.serving_fixtures"]

LOOP = "It is so it is so " + "it is so " * 9
# What comes of each source, the greedy output first.
OUT = {
    "Húsið er gult.": ["The dog is gold.", *["The house is yellow."] * 2, "That house is yellow.", "A house was yellow.", "The house is yellow."],
    "Það er svo.": [LOOP, LOOP, LOOP, "It is so.", LOOP, "So it is."],
    "Já": ["Yes"],
    "Hann fór heim.": ["He went home.", "He left for home.", "He left.", "He left for home.", "He left to go home."],
}


class Drawing(SlowEngine):
    """Of a source's outputs, that of the seed; the last where it has fewer."""

    def __init__(self, options: EngineOptions):
        super().__init__(options)
        # Source, seed (0: greedy) and settings of what live adapters were asked.
        self.requests: list[tuple[str, int, Any]] = []

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        source, seed = self._source(prompt), prompt.sampling.seed if prompt.sampling else 0
        if adapter_id is None or source not in OUT:
            return super()._answer(prompt, adapter_id)
        self.requests.append((source, seed, prompt.sampling and prompt.sampling.settings))
        outs = OUT[source]
        return Generation(outs[min(seed, len(outs) - 1)], 4, "stop")


@pytest.fixture(scope="module")
def drawing(published: Published) -> Iterator[Running]:
    with running(published.base, published.registry, Drawing, Limits(context=2048, waiting=200)) as service:
        yield service


def translate(service: Running, text: Any, path: str = "/api/v1/translate", **more: Any) -> dict[str, Any]:
    response = service.http.post(path, json={"source": "is", "target": "en", "text": text, **more})
    assert response.status_code == 200, response.text
    assert response.headers["X-Tellmt-Quality"] == response.json()["quality"]
    return dict(response.json())


def test_best_takes_the_candidate_that_agrees_most(drawing: Running) -> None:
    source = "Húsið er gult."
    fast = translate(drawing, source)
    assert (fast["quality"], fast["translations"][0]["text"]) == ("fast", "The dog is gold.")
    best = translate(drawing, [source, "Já", "17"], quality="best")
    assert best["quality"] == "best" and "alternatives" not in best["translations"][0]
    assert [t["text"] for t in best["translations"]] == ["The house is yellow.", "Yes", "17"]
    # The cache keeps the two apart, and each draw under its seed: nothing is decoded again, and fast stays what it was.
    engine = drawing.engine
    assert [seed for s, seed, _ in engine.requests if s == source] == list(range(CANDIDATES))
    assert {settings for _, seed, settings in engine.requests if seed} == {samplings(2)[0].settings}
    before = len(engine.requests)
    assert translate(drawing, source, quality="best")["translations"] == best["translations"][:1]
    assert translate(drawing, source)["translations"] == fast["translations"]
    assert len(engine.requests) == before
    assert drawing.metric("tellmt_best_segments_total", pair="is-en", chosen="drawn") == 2
    assert drawing.metric("tellmt_segments_waiting") == 0


def test_a_candidate_without_flags_is_preferred_to_what_most_agree_on(drawing: Running) -> None:
    best = translate(drawing, "Það er svo.", quality="best")["translations"][0]
    assert (best["text"], best["flags"]) == ("It is so.", []) or best["text"] == "So it is."
    assert best["flags"] == [] and [p for s, _, p in drawing.engine.requests if s == "Það er svo."].count(None) == 1, "retried though a candidate had no flags"


def test_alternatives_are_others_the_best_first(drawing: Running) -> None:
    answer = translate(drawing, ["- Húsið er gult.\n\n- Hann fór heim.\r\n", "17"], alternatives=3)
    text, number = answer["translations"]
    assert answer["quality"] == "fast" and text["text"] == "- The dog is gold.\n\n- He went home.\r\n"
    others = [a["text"] for a in text["alternatives"]]
    assert others[0] == "- The house is yellow.\n\n- He left for home.\r\n" and len(others) == len(set(others)) == 3
    assert all(a["flags"] == [] for a in text["alternatives"]) and number == {"text": "17", "truncated": False, "flags": [], "alternatives": []}
    best = translate(drawing, "Húsið er gult.", alternatives=2, quality="best")["translations"][0]
    assert best["text"] == "The house is yellow." and [a["text"] for a in best["alternatives"]] == ["That house is yellow.", "A house was yellow."]
    # The model has nothing else to say.
    assert translate(drawing, "Já", alternatives=5)["translations"][0]["alternatives"] == []
    marked = translate(drawing, "<p>Húsið er gult.</p>", alternatives=2, format="html")["translations"][0]
    assert [a["text"] for a in marked["alternatives"]] == ["<p>The house is yellow.</p>", "<p>That house is yellow.</p>"]


def test_the_other_protocols(drawing: Running) -> None:
    def libre(q: Any, n: Any) -> Any:
        return drawing.http.post("/translate", json={"q": q, "source": "is", "target": "en", "alternatives": n}).json()

    assert libre("Húsið er gult.", 2) == {"translatedText": "The dog is gold.", "alternatives": ["The house is yellow.", "That house is yellow."]}
    assert libre(["Já", "Húsið er gult."], 1) == {"translatedText": ["Yes", "The dog is gold."], "alternatives": [[], ["The house is yellow."]]}
    assert libre("Já", 0) == {"translatedText": "Yes"}

    def deepl(**more: str) -> Any:
        return drawing.http.post("/v2/translate", json={"text": ["Húsið er gult."], "source_lang": "IS", "target_lang": "EN-GB", **more})

    rows = [deepl(**more).json()["translations"][0] for more in ({}, {"model_type": "latency_optimized"}, {"model_type": "prefer_quality_optimized"})]
    assert [(r["text"], r.get("model_type_used")) for r in rows] == [
        ("The dog is gold.", None), ("The dog is gold.", "latency_optimized"), ("The house is yellow.", "quality_optimized"),
    ]  # fmt: skip
    assert deepl(model_type="fast").status_code == 400

    body = {"source": "is", "target": "en", "text": "Húsið er gult.\nJá", "quality": "best"}
    lines = [json.loads(line) for line in drawing.http.post("/api/v1/translate/stream", json=body).text.split("\n") if line]
    assert [x.get("text", x.get("quality")) for x in lines] == ["The house is yellow.", "\nYes", "best"]

    form = {"source": "is", "target": "en", "quality": "best"}
    job = drawing.http.post("/api/v1/jobs", data=form, files={"file": ("a.txt", "Húsið er gult.\n".encode())}).json()
    assert job["quality"] == "best"
    while job["state"] not in ("done", "failed"):
        job = drawing.http.get(f"/api/v1/jobs/{job['id']}").json()
    assert drawing.http.get(f"/api/v1/jobs/{job['id']}/result").text == "The house is yellow.\n" and job["quality"] == "best"


REFUSED = [
    ("/api/v1/translate", {"quality": "better"}, 400, "quality: not usable; valid: fast, or best"),
    ("/api/v1/translate", {"quality": None}, 400, "quality: not usable"),
    ("/api/v1/translate", {"alternatives": -1}, 400, f"alternatives: not usable; valid: a number of other translations of each text, 0 to {MOST_ALTERNATIVES}"),
    ("/api/v1/translate", {"alternatives": MOST_ALTERNATIVES + 1}, 400, "alternatives: not usable"),
    ("/api/v1/translate", {"alternatives": "Leyndarmál"}, 400, "alternatives: not usable"),
    ("/api/v1/translate/stream", {"alternatives": 1}, 400, "alternatives are not sent in parts"),
    ("/translate", {"q": "a", "alternatives": 999}, 400, "alternatives: not usable"),
    # A request for best waits as often as it has candidates.
    ("/api/v1/translate", {"text": ["a"] * 30, "quality": "best"}, 413, "found 30; valid: at most 25, each with 8 candidates; fewer lines, or quality fast"),
]


@pytest.mark.parametrize(("path", "more", "status", "says"), REFUSED)
def test_what_is_refused(drawing: Running, path: str, more: dict[str, Any], status: int, says: str) -> None:
    text = {} if path == "/translate" else {"text": "Já"}
    message = error(drawing.http.post(path, json={"source": "is", "target": "en", **text, **more}), status)
    assert says in message and "Leyndar" not in message


def test_candidates_count_in_the_queue_and_leave_with_their_request(drawing: Running) -> None:
    from tests.serve.scheduling.test_translation_cache import at_once
    from tests.serve.scheduling.test_translation_cache import waiting as wait_for

    drawing.engine.delay = 0.4
    before = drawing.engine.cancelled
    (first,) = at_once(lambda: translate(drawing, ["ein lína", "tvær línur"], quality="best"))
    wait_for(drawing, 2 * CANDIDATES)
    first.result()
    drawing.engine.delay = 30
    with pytest.raises(Exception, match="504"):
        drawing.http.post("/api/v1/translate", json={"source": "is", "target": "en", "text": "farin", "quality": "best", "timeout": 0.3}).raise_for_status()
    wait_for(drawing, 0)
    assert drawing.engine.cancelled == before + CANDIDATES
    drawing.engine.delay = 0.0


@pytest.mark.clock
def test_what_is_not_done_in_time_is_left_out(drawing: Running) -> None:
    """The greedy output is there and the samples are not: the choice is among the candidates that are there before the last 30% of the request's time."""
    real = drawing.engine.generate

    async def slow(prompts: Any, adapter: Any) -> Any:
        if prompts[0].sampling:
            import asyncio

            await asyncio.sleep(20)
        return await real(prompts, adapter)

    drawing.engine.generate = slow
    try:
        answer = translate(drawing, "Hún er hér.", quality="best", timeout=1.0)
    finally:
        drawing.engine.generate = real
    assert answer["translations"][0]["text"].endswith(">Hún er hér.") and answer["quality"] == "best"


def test_while_much_waits_best_is_fast_and_says_so(published: Published) -> None:
    from tests.serve.scheduling.test_translation_cache import at_once, waiting

    with running(published.base, published.registry, Drawing, Limits(context=2048, waiting=40, batch=1)) as service:
        service.engine.delay = 0.03
        (long,) = at_once(lambda: translate(service, [f"lína {i}" for i in range(38)]))
        waiting(service, 38)
        busy = translate(service, "Húsið er gult.", quality="best", alternatives=2)
        assert busy["quality"] == "fast" and busy["translations"][0] == {"text": "The dog is gold.", "truncated": False, "flags": [], "alternatives": []}
        assert service.metric("tellmt_best_requests_total", quality="fast") == 1
        long.result()
        assert translate(service, "Húsið er gult.", quality="best")["quality"] == "best"


# What chooses, by itself.


def test_chrf_is_sacrebleus() -> None:
    from sacrebleu.metrics import CHRF

    metric, draw = CHRF(), random.Random(3)
    texts = [
        "",
        " ",
        "a",
        "ab c",
        "Hún kom heim.",
        "Hún kom ekki heim í gær.",
        "今日は 良い",
        "aaaa aaaa",
        "The house is yellow.",
        "That house was yellow, too.",
    ]
    texts += ["".join(draw.choice("abc dé ") for _ in range(draw.randint(0, 60))) for _ in range(20)]
    for a in texts:
        for b in texts:
            assert chrf(a, b) == pytest.approx(metric.sentence_score(a, [b]).score, abs=1e-9), (a, b)
    agreements = agreement(texts + texts[-1:])
    for i, text in enumerate(texts):
        others = [*texts[:i], *texts[i + 1 :], texts[-1]]
        assert agreements[i] == pytest.approx(sum(metric.sentence_score(text, [o]).score for o in others) / len(others), abs=1e-9)
    assert agreement([]) == [] and agreement(["a"]) == [0.0]


def test_flags_come_before_agreement_and_each_text_once() -> None:
    rows = [("b", ("loop",)), ("b", ("loop",)), ("a b c", ("number",)), ("a b", ()), ("a b c d", ()), ("a b", ())]
    ranked = best_first([Checked(text, 1, False, flags) for text, flags in rows])
    assert [c.text for c in ranked] == ["a b", "a b c d", "a b c", "b"]


def test_how_many_are_made() -> None:
    table = {("fast", 0): 1, ("fast", 1): 3, ("fast", 10): 12, ("best", 0): CANDIDATES, ("best", 3): CANDIDATES, ("best", 10): 12}
    assert {key: candidates_per_segment(*key) for key in table} == table
    assert [s.seed for s in samplings(4)] == [1, 2, 3] and samplings(1) == []
