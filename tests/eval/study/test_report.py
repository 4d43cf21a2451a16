"""The report of a study, on studies whose outcome is known (tests/support/study_fixture.py)."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from eval.study.power import VERDICTS, primary_power, smallest_multiple, verdict
from eval.study.report import write_study_report
from eval.study.stats import Point, nats_per_token, size_needed
from tell.errors import BadInput
from tests.support.study_fixture import Fixture, jumping

RESULTS = Path(__file__).parents[3] / "docs" / "results"


def written(fixture: Fixture) -> tuple[str, dict[str, Any]]:
    report_dir = fixture.directory / "out"
    summary = write_study_report(fixture.directory, report_dir)
    assert summary == json.loads((report_dir / "summary.json").read_text())
    return (report_dir / "study.md").read_text(), summary


def rows(text: str, title: str) -> list[list[str]]:
    """The table under a heading, without its head."""
    section = text.split(f"{title}\n")[1].split("\n#")[0]
    return [[c.strip() for c in line.strip("|").split("|")] for line in section.split("\n") if line.startswith("| ")][1:]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small study, finished but for one arm and the large sizes."""
    fixture = Fixture(tmp_path_factory.mktemp("study"), segments=60)
    fixture.changes = {150: jumping}
    fixture.bare()
    fixture.grid(("sft", "tell", "no-anchor"), sizes=[150, 500])
    fixture.tuned(("sft", "tell"))
    fixture.ratios([150])
    return fixture, *written(fixture)


def result_rows(fixture: Fixture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (fixture.directory / "results.jsonl").read_text().split("\n") if line]


def hypotheses(fixture: Fixture, **columns: Any) -> list[list[str]]:
    rows_of_runs = [r for r in result_rows(fixture) if r["role"] == "run" and all(r[k] == v for k, v in columns.items())]
    return [(fixture.directory / "runs" / r["id"] / "hypotheses.txt").read_text().split("\n")[:-1] for r in sorted(rows_of_runs, key=lambda r: r["seed"])]


def test_the_scores_are_sacrebleus(full: Any) -> None:
    fixture, text, _ = full
    references = fixture.references["is-en"]
    table = {(r[0], r[3]): r for r in rows(text, "### is-en, 150 task pairs")}
    for arm, general in (("sft", "0"), ("tell", "9,000"), ("tell", "36,000"), ("no-anchor", "9,000")):
        outputs = hypotheses(fixture, arm=arm, size=150, ratio=int(general.replace(",", "")) / 9_000)
        assert len(outputs) == 3
        for column, metric in ((9, CHRF()), (12, BLEU())):
            scores = [metric.corpus_score(o, [references]).score for o in outputs]
            mean = sum(scores) / 3
            sd = math.sqrt(sum((s - mean) ** 2 for s in scores) / 2)
            assert table[arm, general][column] == f"{mean:.2f} ({min(scores):.2f}–{max(scores):.2f}, sd {sd:.2f})"
    metric = CHRF()
    metric.corpus_score(references, [references])
    assert f"is-en chrF2: {metric.get_signature()}" in text


def test_differences_are_paired_by_seed_and_say_what_they_would_have_seen(full: Any) -> None:
    fixture, _, summary = full
    table = next(t for t in summary["tables"] if t["size"] == 150)
    row = next(r for r in table["rows"] if (r["arm"], r["ratio"]) == ("tell", 0.25))
    sft, tell = (hypotheses(fixture, arm=a, size=150, ratio=r) for a, r in (("sft", 0.0), ("tell", 0.25)))
    first, second = ([CHRF().corpus_score(h, [fixture.references["is-en"]]).score for h in arm] for arm in (sft, tell))
    for difference, each in (
        (row["against"]["chrf2"], [b - a for a, b in zip(first, second, strict=True)]),
        (row["against"]["nats"], [b - a for a, b in zip(*(nats(fixture, a, r) for a, r in (("sft", 0.0), ("tell", 0.25))), strict=True)]),
    ):
        # Student's t for three differences, 4.3027 times their standard error; seen in four of five studies from 3.26 standard deviations on (power of t).
        mean = sum(each) / 3
        sd = math.sqrt(sum((d - mean) ** 2 for d in each) / 2)
        half = 4.30265 * sd / math.sqrt(3)
        assert difference["mean"] == pytest.approx(mean) and difference["interval"] == pytest.approx([mean - half, mean + half], abs=1e-3)
        assert difference["seen_from"] == pytest.approx(3.26 * sd, rel=0.03) and difference["seeds"] == [1, 2, 3]


def nats(fixture: Fixture, arm: str, ratio: float) -> list[float]:
    found = [r for r in result_rows(fixture) if (r["role"], r["arm"], r["size"], r["ratio"]) == ("run", arm, 150, ratio)]
    return [r["dev"]["nats_per_token"] for r in sorted(found, key=lambda r: r["seed"])]


def figures(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        yield from (x for v in value.values() for x in figures(v))
    elif isinstance(value, list):
        yield from (x for v in value for x in figures(v))
    elif isinstance(value, (int, float)):
        yield float(value)


def test_every_figure_of_the_tables_is_in_the_summary(full: Any) -> None:
    _, text, summary = full
    summary_figures = list(figures(summary))
    summary_figures += [r["ratio"] * r["at"] for r in summary["needed"]]
    table_lines = [line for line in text.split("\n") if line.startswith("| ")]
    tables = re.sub(r"[a-z]+(-[a-z0-9]+)+", "", " ".join(table_lines))
    page_figures = re.findall(r"\d[\d,]*(?:\.\d+)?", re.sub(r"10%, 50%, 90%|\[95%\]", "", tables))
    assert len(page_figures) > 250
    for written_so in set(page_figures):
        digits = len(written_so.partition(".")[2])
        value = float(written_so.rstrip(",").replace(",", ""))
        assert any(abs(abs(k) - value) <= 0.5001 * 10**-digits for k in summary_figures), written_so


def test_what_is_missing_is_said(full: Any) -> None:
    _, text, summary = full
    there = summary["missing"]
    assert "mixed: is-en, tell-ltd, 150 task pairs, general to task 1: no run" in there and "plain: is-en, sft, 1,500 task pairs: no run" in there
    assert "mixed: is-en, tell, all task data, general to task 1: no run" in there and "bare: is-en, base-3: no run with seed 2, 3" not in there
    assert not any("is-en, base:" in m for m in there)
    for line in summary["missing"]:
        assert f"- {line}" in text


def test_tuning_shows_the_rates_and_the_chosen_one(full: Any) -> None:
    _, text, summary = full
    table = rows(text, "## Tuning")
    assert [r[2] for r in table] == ["sft", "tell"]
    for row, t in zip(table, summary["tuning"], strict=True):
        assert row[5].startswith("0.0003: ") and re.findall(r"\*\*(\S+):", row[5]) == ["0.001"]
        assert [e["learning_rate"] for e in t["tried"]] == [0.0003, 0.001, 0.003] and {*t["tried"][0]["seeds"]} == {101}
    assert "The tables above are scored on other segments." in text


def test_pictures(full: Any) -> None:
    fixture, text, _ = full
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert names == ["study-task-data.png", "study-general-tokens.png", "study-losses-is-en-150-tell.png"]
    for name in names:
        data = (fixture.directory / "out" / name).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(data[16:20]) == 1200


def test_jumps_are_found_where_they_are(full: Any, tmp_path: Path) -> None:
    _, _, summary = full
    jumps = summary["losses"][0]
    assert jumps["segments"] == 60 and jumps["seeds"] == [1, 2, 3] and jumps["amounts"] == [0, 2250, 9_000, 36_000]
    assert jumps["changes"][-1]["p_one_mode"] < 0.05
    calm = Fixture(tmp_path, segments=60)
    calm.grid(("tell",), sizes=[150])
    calm.ratios([150])
    still = written(calm)[1]["losses"][0]
    assert still["changes"][-1]["p_one_mode"] > 0.05 and still["steps"]["p"] > 0.01


def test_a_known_ratio_is_recovered(tmp_path: Path) -> None:
    """By pairs on losses; the primary cell has its answer."""
    fixture = Fixture(tmp_path, segments=150)
    fixture.changes = dict.fromkeys(fixture.sizes, lambda segment, general, draw: draw.gauss(0, 0.02))
    fixture.grid(("sft", "tell", "no-shuffle"))
    text, summary = written(fixture)
    readings = {(r["arm"], r["size"]): r for r in summary["needed"]}
    for size in (150, 500):
        reading = readings["tell", size]
        assert reading["side"] == "" and reading["ratio"] == pytest.approx(3, rel=0.1) and reading["low"] < 3 < reading["high"] < 3.5
    beyond = readings["tell", None]
    assert (beyond["side"], beyond["ratio"]) == (">", 1.0) and (beyond["low_side"], beyond["high_side"]) == ("", ">")
    assert readings["no-shuffle", 500]["ratio"] == pytest.approx(0.7, rel=0.1)
    assert (readings["no-shuffle", 150]["side"], readings["no-shuffle", 150]["ratio"]) == ("<", 1.0)
    line = next(r for r in rows(text, "## How much task data plain fine-tuning needs") if r[1] == "tell" and r[3] == "7,000")
    assert line[6] == "> 7,000" and line[7].startswith("> 1.00 [")
    primary = readings["tell", 500]["primary"]
    assert primary["answer"] == "helps" and primary["claim_ruled_out"] and "**helps**" in text and "ruled out here" in text
    truths = {x["truth"]: x for x in primary["power"]}
    assert truths[3.0]["helps"] == 1 and truths[1.0]["does not help by the margin"] > 0.9
    assert [r["primary"] for r in summary["needed"] if r is not readings["tell", 500]] == [None] * (len(summary["needed"]) - 1)


def test_identical_arms_differ_by_nothing(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, segments=40, seeds=[1, 2])
    for arm in ("sft", "tell"):
        for seed in (1, 2):
            fixture.add(arm, "is-en", 150, seed, 0.5, noise=str(seed))
    text, summary = written(fixture)
    row = next(r for r in rows(text, "### is-en, 150 task pairs") if r[0] == "tell")
    assert row[10:12] == ["+0.00 [+0.00, +0.00]", "0.00"]
    assert summary["needed"] == [] and any("of the 2 sizes" in n for n in summary["notes"]) and "The primary figure is not there yet" in text


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(1.6, 3, 0), (1.5, math.inf, 0), (1.1, 1.4, 1), (0.5, 1.4, 2), (0, 0.3, 2), (0.8, 1.6, 3), (0, math.inf, 3), (1.2, 4, 3)],
)
def test_the_answers_of_the_design(low: float, high: float, answer: int) -> None:
    assert verdict(low, high, 1.5) == VERDICTS[answer]


def test_intervals_hold_the_truth_and_power_is_what_it_says() -> None:
    shares = primary_power(2.0, 0.1, 0.045, 8, [150, 250, 500, 1000, 2000], 500, 1.5, trials=300)
    assert 0.92 < shares["holds"] <= 1 and 0.6 < shares["helps"] < 0.85
    assert primary_power(1.0, 0.1, 0.045, 3, [150, 500, 2000], 500, 1.5, trials=300)["holds"] > 0.92
    # Tabulated: a paired t-test of 8 at 5% needs an effect of 1.16 standard deviations for a power of 80%.
    assert smallest_multiple(8) == pytest.approx(1.16, abs=0.02)


def test_other_segments_widen_the_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)

    def at(size: float, level: float, spread: float) -> Point:
        runs = {s: np.column_stack([np.full(200, 10.0), 10 * (level + 0.001 * s + spread * rng.standard_normal(200))]) for s in (1, 2, 3, 4)}
        return Point(size, {s: -nats_per_token(x)[0] for s, x in runs.items()}, {s: -nats_per_token(x)[1] for s, x in runs.items()})

    needed = [size_needed(at(500, 2.0, sd), [at(250, 2.1, 0.0), at(1000, 1.9, 0.0)]) for sd in (0.01, 0.5)]
    assert needed[0] and needed[1] and needed[0].ratio == pytest.approx(1, rel=0.05)
    assert needed[1].high / needed[1].low > 1.5 * needed[0].high / needed[0].low


def test_jumps_of_tokens_are_told_from_drift(tmp_path: Path) -> None:
    """Half of the tokens fall at once, at an amount of their own; or all drift, at paces of their own."""
    found = {}
    for name in ("jump", "drift"):
        fixture = Fixture(tmp_path / name, segments=60, seeds=[1, 2, 3])

        def losses(segment: int, tokens: int, general: float, draw: random.Random, name: str = name) -> list[float]:
            at = [(segment * 7 + i * 5) % 5 for i in range(tokens)]
            amount = math.log2(1 + general / 2000)
            falls = [(1.0 if amount > a and i % 2 else 0.0) if name == "jump" else 0.1 * amount * (1 + a) for i, a in enumerate(at)]
            return [3 - f + draw.gauss(0, 0.02) for f in falls]

        fixture.tokens = losses
        fixture.grid(("tell",), sizes=[150])
        fixture.ratios([150], (0.0, 0.25, 0.5, 2.0, 4.0))
        text, summary = written(fixture)
        found[name] = summary["jumps"][0]
        assert len(found[name]["amounts"]) == 6 and "## Loss per target token" in text
    assert found["jump"]["sign"] and found["jump"]["steps"]["p"] < 0.01 and found["jump"]["monogenic"] > 1.2 * found["jump"]["monogenic_by_chance"] > 0
    assert not found["drift"]["sign"] and found["drift"]["monogenic"] < 0.1 * found["drift"]["tokens"]
    assert (tmp_path / "jump" / "out" / "study-tokens-is-en-150-tell-general.png").exists()


def test_a_study_by_tokens_is_shown_as_it_was_made(tmp_path: Path) -> None:
    """What the version before wrote, from the repository's own results."""
    summary = write_study_report(RESULTS / "study-cpu", tmp_path)
    page = (tmp_path / "study.md").read_text()
    assert summary["unit"] == "tokens" and "Its budgets count the tokens of task examples with their anchors" in page
    assert "### is-en, 10,000 task tokens" in page and "seed 1 chose the learning rates and is compared too" in page
    assert "What is missing is not listed" in page and not re.search(r"Holm|pooled|\bp\b \|", page.split("## Loss per example")[0])
    # The pairs that the budgets of tokens hid.
    table = {(r[0], r[3]): r for r in rows(page, "### is-en, 10,000 task tokens")}
    assert (table["sft", "0"][1], table["tell-paper-wording", "9,525"][1], table["tell-ltd-task", "10,035"][1]) == ("149", "95", "258")


@pytest.mark.parametrize("what", ["bare", "tuning", "one run"])
def test_a_study_that_has_just_begun(tmp_path: Path, what: str) -> None:
    fixture = Fixture(tmp_path, segments=20)
    if what == "bare":
        fixture.bare()
    elif what == "tuning":
        fixture.tuned(("sft",))
    else:
        fixture.add("tell", "is-en", 150, 1, 0.4)
    text, summary = written(fixture)
    assert summary["missing"] and not summary["needed"]
    if what == "tuning":
        assert "not run yet: the best by nats" in text
    if what == "one run":
        assert "`sft` has no run here" in text and rows(text, "### is-en, 150 task pairs")[0][9].count("(") == 0


def test_a_cut_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, segments=20)
    fixture.add("sft", "is-en", 150, 1, 0.4)
    fixture.add("tell", "is-en", 150, 1, 0.5)
    results = fixture.directory / "results.jsonl"
    whole = results.read_bytes()
    results.write_bytes(whole[:-200])
    text, summary = written(fixture)
    assert summary["runs"] == 1 and "results.jsonl, line 2: cut short" in text and any("is-en, tell, 150" in m for m in summary["missing"])
    results.write_bytes(whole[100:])
    with pytest.raises(BadInput, match=r"results\.jsonl, line 1: not JSON"):
        write_study_report(tmp_path, tmp_path / "out")
    results.write_bytes(whole.replace(b'"seed": 1', b'"seed": "one"', 1))
    with pytest.raises(BadInput, match=r"results\.jsonl, line 1: not a result of a study; found seed"):
        write_study_report(tmp_path, tmp_path / "out")


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"not the directory of a study; found no study\.json"):
        write_study_report(tmp_path, tmp_path / "out")
    fixture = Fixture(tmp_path, segments=5)
    with pytest.raises(BadInput, match="no run has finished yet"):
        write_study_report(fixture.directory, tmp_path / "out")
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(BadInput, match="no run has finished yet"):
        write_study_report(fixture.directory, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_at_odds_are_told(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, segments=20)
    odd = fixture.add("sft", "is-en", 150, 1, 0.4)
    without_hypotheses = fixture.add("tell", "is-en", 150, 1, 0.5)
    results = fixture.directory / "results.jsonl"
    results.write_text(re.sub(r'"chrf2": [\d.]+', '"chrf2": 99.5', results.read_text(), count=1))
    (tmp_path / "runs" / without_hypotheses / "hypotheses.txt").unlink()
    text, summary = written(fixture)
    assert f"run {odd} (sft, is-en): chrF2 99.50 is recorded" in text and f"run {without_hypotheses} (tell, is-en): no hypotheses.txt" in text
    assert summary["tables"][0]["rows"][0]["chrf2"]["all"]["mean"] < 90
    (tmp_path / "runs" / odd / "hypotheses.txt").write_text("one line\n")
    with pytest.raises(BadInput, match="do not match the references; found 1 lines; valid: 20 lines"):
        write_study_report(tmp_path, tmp_path / "out")
