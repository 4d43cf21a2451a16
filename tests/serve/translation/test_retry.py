"""Flagged segments are tried again: by other settings, with stand-ins, in parts; the best is answered with the flags it has left. Over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from serve.config import Limits
from tests.support.scripted_engine import Script, ScriptedEngine
from tests.support.serving import Published, Running, running

pytest_plugins = ["tests.support.serving_fixtures"]

LOOP = "It is so it is so " + "it is so " * 9


@pytest.fixture
def scripted(published: Published) -> Callable[..., Any]:
    @contextmanager
    def start(script: Script | dict[Any, str], **limits: Any) -> Iterator[Running]:
        def answer(source: str, penalty: float) -> str | None:
            return script.get((source, penalty), script.get(source)) if isinstance(script, dict) else script(source, penalty)

        with running(published.base, published.registry, lambda options: ScriptedEngine(options, answer), Limits(context=2048, **limits)) as service:
            yield service

    return start


def answered(service: Running, text: Any, **more: Any) -> list[tuple[str, list[str]]]:
    body = {"source": "is", "target": "en", "text": text, **more}
    answer = service.http.post("/api/v1/translate", json=body)
    assert answer.status_code == 200, answer.text
    return [(t["text"], t["flags"]) for t in answer.json()["translations"]]


CASES: dict[str, tuple[dict[Any, str], str, tuple[str, list[str]], list[tuple[str, float]]]] = {
    # Script, source, answer, and the (source, penalty) of each decode.
    "good": ({"Góðan dag": "Good day"}, "Góðan dag", ("Good day", []), [("Góðan dag", 1.0)]),
    "loop": (
        {("Það er svo.", 1.0): LOOP, ("Það er svo.", 1.2): "It is so."},
        "Það er svo.", ("It is so.", []), [("Það er svo.", 1.0), ("Það er svo.", 1.2)],
    ),
    "sentences": (
        {"Það er svo. Hún kom heim.": LOOP, "Það er svo.": "It is so.", "Hún kom heim.": "She came home."},
        "Það er svo. Hún kom heim.", ("It is so. She came home.", []),
        [("Það er svo. Hún kom heim.", 1.0), ("Það er svo. Hún kom heim.", 1.2), ("Það er svo.", 1.0), ("Hún kom heim.", 1.0)],
    ),
    "the best": (
        {("Árið 1944 kom hún.", 1.0): "", ("Árið 1944 kom hún.", 1.2): "She came in 1994."},
        "Árið 1944 kom hún.", ("She came in 1994.", ["number"]), [("Árið 1944 kom hún.", 1.0), ("Árið 1944 kom hún.", 1.2)],
    ),
    "hopeless": ({"Hæ þú": ""}, " - Hæ þú \r\n", (" -  \r\n", ["empty"]), [("Hæ þú", 1.0), ("Hæ þú", 1.2)]),
    "kept": ({"Halló {name}": "Hello {name}"}, "Halló {name}", ("Hello {name}", []), [("Halló {name}", 1.0)]),
    "stand-in": (
        {"Halló {name}, %d stig": "Hello name, 5 points", "Halló X1, X2 stig": "X2 points, hello X1"},
        "Halló {name}, %d stig", ("%d points, hello {name}", []), [("Halló {name}, %d stig", 1.0), ("Halló X1, X2 stig", 1.0)],
    ),
    "around": (
        {"Halló {name}, velkomin": "Hello name, welcome", "Halló X1, velkomin": "Hello, welcome", "Halló": "Hello", ", velkomin": ", welcome"},
        "Halló {name}, velkomin", ("Hello {name}, welcome", []),
        [("Halló {name}, velkomin", 1.0), ("Halló X1, velkomin", 1.0), ("Halló", 1.0), (", velkomin", 1.0)],
    ),
    "lost": (
        {"Halló {name}": "Hello nafn", "Halló X1": "Hello", "Halló": LOOP},
        "Halló {name}", ("Hello nafn", ["placeholder"]), [("Halló {name}", 1.0), ("Halló X1", 1.0), ("Halló", 1.0)],
    ),
    "cut": ({("Hún fór", 1.0): "She we…", ("Hún fór", 1.2): "She went"}, "Hún fór", ("She went", []), [("Hún fór", 1.0), ("Hún fór", 1.2)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_tried_and_what_is_answered(scripted: Any, case: str) -> None:
    script, source, expected, decodes = CASES[case]
    with scripted(script) as service:
        assert answered(service, source) == [expected]
        assert service.engine.requests == decodes
        outcome = "clean" if not expected[1] else "better" if case == "the best" else "same"
        assert service.metric("tellmt_mended_segments_total", pair="is-en", outcome=outcome) == (len(decodes) > 1)
        version = service.service.versions.live["is-en"].adapter.id
        for flag in expected[1]:
            assert service.metric("tellmt_flagged_segments_total", pair="is-en", version=version, flag=flag) == 1
        # All of it from the cache, each try under its own settings; and not of another pair.
        assert answered(service, source) == [expected]
        assert service.engine.requests == decodes
        assert f"{service.metric('tellmt_segments_waiting'):g}" == "0"


def test_the_cache_keeps_tries_apart_from_texts_that_look_like_them(scripted: Any) -> None:
    with scripted(CASES["loop"][0]) as service:
        assert answered(service, ["Það er svo.", "('Það er svo.', 1.2)", "1.2\0Það er svo."])[0] == ("It is so.", [])
        assert [s for s, penalty in service.engine.requests if penalty > 1] == ["Það er svo."]


def test_only_the_placeholder_is_left_alone(scripted: Any) -> None:
    with scripted({}) as service:
        texts = ["{name}", " %s\n", "https://tellmt.example/a?b=c", "<br/>", "🙂", "{{ a }} - %(n)d"]
        assert answered(service, texts) == [(t, []) for t in texts]
        assert service.engine.requests == []


def test_flags_are_those_of_a_texts_segments_and_of_a_streams_parts(scripted: Any) -> None:
    script = {"Hæ þú": "", "Árið 1944": "1994", "Gott": "Good"}
    text = "Árið 1944\nGott\nHæ þú"
    with scripted(script) as service:
        assert answered(service, [text, "Gott"]) == [("1994\nGood\n", ["empty", "number"]), ("Good", [])]
        lines = service.http.post("/api/v1/translate/stream", json={"source": "is", "target": "en", "text": text}).text
        parts = [json.loads(line) for line in lines.split("\n") if line][:-1]
        assert [(p["text"], p["flags"]) for p in parts] == [("1994", ["number"]), ("\nGood", []), ("\n", ["empty"])]


@pytest.mark.clock
def test_a_request_without_time_is_answered_with_its_flags(scripted: Any) -> None:
    with scripted(CASES["loop"][0]) as service:
        service.engine.delay = 0.5
        assert answered(service, "Það er svo.", timeout=1.2) == [(LOOP.strip(), ["loop", "length"])]
        assert service.metric("tellmt_segments_waiting") == 0


@pytest.mark.parametrize("tries", [0, 1, 2, 4])
def test_no_more_ways_than_the_operator_allows(scripted: Any, tries: int) -> None:
    """With a stand-in, sentence by sentence, between placeholders; the penalty is not for what has only lost a placeholder."""
    expected_sources = [{"Halló X1. Velkomin heim"}, {"Halló {name}.", "Velkomin heim"}, {"Halló", ". Velkomin heim"}]
    with scripted(lambda source, penalty: "Nineteen", tries=tries) as service:
        [(_, flags)] = answered(service, "Halló {name}. Velkomin heim")
        assert flags == (["placeholder"] if tries < 3 else [])
        sources = {source for source, _ in service.engine.requests}
        assert [texts <= sources for texts in expected_sources] == [tries > n for n in range(3)]


def test_nothing_is_tried_again_while_much_waits(scripted: Any) -> None:
    """Of forty lines, all there may be, the first ends while most wait, and the last when none does."""
    lines = ["Það er svo.", *(f"lína {i}" for i in range(38)), "Hæ þú."]
    script = {(lines[0], 1.0): LOOP, (lines[0], 1.2): "It is so.", (lines[-1], 1.0): LOOP, (lines[-1], 1.2): "Hi."}
    with scripted(script, waiting=40, batch=1) as service:
        service.engine.delay = 0.02
        [(text, flags)] = answered(service, "\n".join(lines))
        assert text.startswith(LOOP.strip() + "\n") and text.endswith("\nHi.") and flags == ["loop", "length"]
        assert [penalty for source, penalty in service.engine.requests if source == lines[0]] == [1.0]
        assert service.metric("tellmt_mended_segments_total", pair="is-en", outcome="busy") == 1
        assert service.metric("tellmt_mended_segments_total", pair="is-en", outcome="clean") == 1


def test_equal_segments_are_tried_again_once(scripted: Any) -> None:
    with scripted(CASES["loop"][0]) as service:
        assert answered(service, ["Það er svo.\nÞað er svo."] * 3) == [("It is so.\nIt is so.", [])] * 3
        assert len(service.engine.requests) == 2


def test_a_failure_while_trying_again_is_told(scripted: Any) -> None:
    def script(source: str, penalty: float) -> str:
        if penalty > 1:
            raise ValueError("Leyndarmál")
        return LOOP

    with scripted(script) as service:
        answer = service.translate("Það er svo.")
        assert answer.status_code == 500 and "Leyndarmál" not in answer.text
        assert service.metric("tellmt_segments_waiting") == 0
