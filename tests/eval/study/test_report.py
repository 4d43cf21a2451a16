"""The report of a study, on studies whose outcome is known (tests/support/study_fixture.py)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics import BLEU, CHRF

from eval.scoring.significance import paired_test
from eval.study.report import write_study_report
from tell.errors import BadInput
from tests.support.study_fixture import Fixture, jumping


def written(fixture: Fixture) -> tuple[str, dict[str, Any]]:
    report_dir = fixture.directory / "out"
    text = write_study_report(fixture.directory, report_dir)
    assert text == (report_dir / "study.md").read_text()
    return text, json.loads((report_dir / "summary.json").read_text())


def rows(text: str, title: str) -> list[list[str]]:
    """The table under a heading, without its head."""
    section = text.split(f"{title}\n")[1].split("\n#")[0]
    return [[c.strip() for c in line.strip("|").split("|")] for line in section.split("\n") if line.startswith("| ")][1:]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small study, finished but for one arm and the large budgets."""
    fixture = Fixture(tmp_path_factory.mktemp("study"), segments=60)
    fixture.changes = {10_000: jumping}
    fixture.bare()
    fixture.grid(("sft", "tell", "no-anchor"), budgets=[10_000, 30_000])
    fixture.tuned(("sft", "tell"))
    fixture.ratios([10_000])
    return fixture, *written(fixture)


def result_rows(fixture: Fixture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (fixture.directory / "results.jsonl").read_text().split("\n") if line]


def hypotheses(fixture: Fixture, **columns: Any) -> list[list[str]]:
    rows_of_runs = [r for r in result_rows(fixture) if r["role"] == "run" and all(r[k] == v for k, v in columns.items())]
    return [(fixture.directory / "runs" / r["id"] / "hypotheses.txt").read_text().split("\n")[:-1] for r in sorted(rows_of_runs, key=lambda r: r["seed"])]


def test_the_scores_are_sacrebleus(full: Any) -> None:
    fixture, text, _ = full
    references = fixture.references["is-en"]
    table = {(r[0], r[2]): r for r in rows(text, "### is-en, 10,000 task tokens")}
    for arm, general in (("sft", "0"), ("tell", "10,000"), ("tell", "40,000"), ("no-anchor", "10,000")):
        outputs = hypotheses(fixture, arm=arm, budget=10_000, ratio=int(general.replace(",", "")) / 10_000)
        assert len(outputs) == 3
        for column, metric in ((5, CHRF()), (6, BLEU())):
            scores = [metric.corpus_score(o, [references]).score for o in outputs]
            mean = sum(scores) / 3
            sd = math.sqrt(sum((s - mean) ** 2 for s in scores) / 2)
            assert table[arm, general][column] == f"{mean:.2f} ({min(scores):.2f}–{max(scores):.2f}, sd {sd:.2f})"
    metric = CHRF()
    metric.corpus_score(references, [references])
    assert f"is-en chrF2: {metric.get_signature()}" in text


def test_the_tests_are_those_of_the_gate(full: Any) -> None:
    fixture, _, summary = full
    table = next(t for t in summary["tables"] if t["budget"] == 10_000)
    sft, tell = (hypotheses(fixture, arm=a, budget=10_000, ratio=r) for a, r in (("sft", 0.0), ("tell", 0.25)))
    expected = paired_test([*chain(*sft)], [*chain(*tell)], fixture.references["is-en"] * 3)
    difference = next(r["against"] for r in table["rows"] if (r["arm"], r["ratio"]) == ("tell", 0.25))
    assert difference["p"] == expected.p and 0.001 < expected.p < 0.999
    assert difference["pooled"] == pytest.approx(expected.delta, abs=1e-3) and difference["pooled_segments"] == 180
    # Seed-level: Student's t for three differences, 4.3027 times their standard error.
    first, second = ([CHRF().corpus_score(h, [fixture.references["is-en"]]).score for h in arm] for arm in (sft, tell))
    each = [b - a for a, b in zip(first, second, strict=True)]
    mean = sum(each) / 3
    half = 4.30265 * math.sqrt(sum((d - mean) ** 2 for d in each) / 2 / 3)
    assert difference["chrf2"] == pytest.approx(mean) and difference["interval"] == pytest.approx([mean - half, mean + half], abs=1e-3)
    ps = sorted((r["against"]["p"], r["against"]["p_holm"]) for r in table["rows"] if r["against"])
    assert table["comparisons"] == len(ps) == 7
    worst = 0.0
    for i, (p, corrected) in enumerate(ps):
        worst = max(worst, min(1.0, (7 - i) * p))
        assert corrected == pytest.approx(worst)


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
    summary_figures += [r["ratio"] * r["tokens"] for n in summary["needed"] for r in n["readings"]]
    table_lines = [line for line in text.split("\n") if line.startswith("| ")]
    tables = re.sub(r"[a-z]+(-[a-z0-9]+)+", "", " ".join(table_lines))
    page_figures = re.findall(r"\d[\d,]*(?:\.\d+)?", re.sub(r"10%, 50%, 90%|\[95%\]", "", tables))
    assert len(page_figures) > 300
    for written_so in set(page_figures):
        digits = len(written_so.partition(".")[2])
        value = float(written_so.rstrip(",").replace(",", ""))
        assert any(abs(abs(k) - value) <= 0.5001 * 10**-digits for k in summary_figures), written_so


def test_what_is_missing_is_said(full: Any) -> None:
    _, text, summary = full
    assert "is-en, tell-ltd: no run" in summary["missing"] and "is-en, sft, 100,000 task tokens: no run" in summary["missing"]
    assert "is-en, tell, all task data: no run" in summary["missing"] and not any("base" in m for m in summary["missing"])
    for line in summary["missing"]:
        assert f"- {line}" in text


def test_tuning_shows_the_rates_and_the_chosen_one(full: Any) -> None:
    _, text, summary = full
    table = rows(text, "## Tuning")
    assert [r[2] for r in table] == ["sft", "tell"]
    for row, t in zip(table, summary["tuning"], strict=True):
        assert row[5].startswith("0.0003: ") and re.findall(r"\*\*(\S+):", row[5]) == ["0.001"]
        assert [e["learning_rate"] for e in t["tried"]] == [0.0003, 0.001, 0.003]
    assert "The tables above are scored on other segments." in text


def test_pictures(full: Any) -> None:
    fixture, text, _ = full
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert names == ["study-task-tokens.png", "study-general-tokens.png", "study-losses-is-en-10000-tell.png"]
    for name in names:
        data = (fixture.directory / "out" / name).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(data[16:20]) == 1200


def test_jumps_are_found_where_they_are(full: Any, tmp_path: Path) -> None:
    _, _, summary = full
    jumps = summary["losses"][0]
    assert jumps["segments"] == 60 and jumps["seeds"] == [1, 2, 3] and jumps["amounts"] == [0, 2500, 10_000, 40_000]
    assert jumps["changes"][-1]["p_one_mode"] < 0.05
    calm = Fixture(tmp_path, segments=60)
    calm.grid(("tell",), budgets=[10_000])
    calm.ratios([10_000])
    still = written(calm)[1]["losses"][0]
    assert still["changes"][-1]["p_one_mode"] > 0.05 and still["steps"]["p"] > 0.01


def test_a_known_ratio_is_recovered(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, segments=150)
    fixture.grid(("sft", "tell", "no-shuffle"), shared_noise=True)
    text, summary = written(fixture)
    readings = {(n["arm"], r["budget"]): r for n in summary["needed"] for r in n["readings"]}
    for budget in (10_000, 30_000, 100_000):
        reading = readings["tell", budget]
        assert reading["side"] == "" and reading["ratio"] == pytest.approx(3, rel=0.2) and reading["low"] < 3 < reading["high"]
    beyond = readings["tell", None]
    assert (beyond["side"], beyond["ratio"]) == (">", 1.0)
    assert readings["no-shuffle", 30_000]["ratio"] == pytest.approx(0.7, rel=0.2)
    assert (readings["no-shuffle", 10_000]["side"], readings["no-shuffle", 10_000]["ratio"]) == ("<", 1.0)
    line = next(r for r in rows(text, "## Task tokens") if r[1:3] == ["tell", "all task data"])
    assert line[6] == "> 420,000" and line[7].startswith("> 1.00 [")


def test_identical_arms_differ_by_nothing(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, segments=40, seeds=[1, 2])
    for arm in ("sft", "tell"):
        for seed in (1, 2):
            fixture.add(arm, "is-en", 10_000, seed, 0.5, noise=str(seed))
    text, summary = written(fixture)
    row = next(r for r in rows(text, "### is-en, 10,000 task tokens") if r[0] == "tell")
    assert row[9:] == ["+0.00 [+0.00, +0.00]", "1.0000", "1.0000"]
    assert summary["tables"][0]["rows"][1]["against"]["differing"] == 0
    assert summary["needed"] == [] and any("of the 2 budgets" in n for n in summary["notes"])


@pytest.mark.parametrize("what", ["bare", "tuning", "one run"])
def test_a_study_that_has_just_begun(tmp_path: Path, what: str) -> None:
    fixture = Fixture(tmp_path, segments=20)
    if what == "bare":
        fixture.bare()
    elif what == "tuning":
        fixture.tuned(("sft",))
    else:
        fixture.add("tell", "is-en", 10_000, 1, 0.4)
    text, summary = written(fixture)
    assert summary["missing"] and not summary["needed"]
    if what == "tuning":
        assert "not run yet: the best by chrF2" in text
    if what == "one run":
        assert "`sft` has no run here" in text and rows(text, "### is-en, 10,000 task tokens")[0][5].count("(") == 0


def test_a_cut_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, segments=20)
    fixture.add("sft", "is-en", 10_000, 1, 0.4)
    fixture.add("tell", "is-en", 10_000, 1, 0.5)
    results = fixture.directory / "results.jsonl"
    whole = results.read_bytes()
    results.write_bytes(whole[:-200])
    text, summary = written(fixture)
    assert summary["runs"] == 1 and "results.jsonl, line 2: cut short" in text and "is-en, tell: no run" in summary["missing"]
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
    odd = fixture.add("sft", "is-en", 10_000, 1, 0.4)
    without_hypotheses = fixture.add("tell", "is-en", 10_000, 1, 0.5)
    results = fixture.directory / "results.jsonl"
    results.write_text(re.sub(r'"chrf2": [\d.]+', '"chrf2": 99.5', results.read_text(), count=1))
    (tmp_path / "runs" / without_hypotheses / "hypotheses.txt").unlink()
    text, summary = written(fixture)
    assert f"run {odd} (sft, is-en): chrF2 99.50 is recorded" in text and f"run {without_hypotheses} (tell, is-en): no hypotheses.txt" in text
    assert summary["tables"][0]["rows"][0]["chrf2"]["mean"] < 90
    assert rows(text, "### is-en, 10,000 task tokens")[1][10:] == ["–", "–"]
    (tmp_path / "runs" / odd / "hypotheses.txt").write_text("one line\n")
    with pytest.raises(BadInput, match="do not match the references; found 1 lines; valid: 20 lines"):
        write_study_report(tmp_path, tmp_path / "out")
