"""The benchmark of two builds: the arithmetic of its ratios, what a broken-off run goes on from, and once from end to end over a fake engine."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.serving.engine.results import Aim, Comparison, Ratio, Results, ratio, tables
from tests.conftest import ROOT


def test_an_interval_is_of_the_turns_ratios_and_narrows_with_turns() -> None:
    assert str(ratio([(2.0, 1.0)])) == "2.00x"
    assert str(ratio([(2.0, 1.0), (8.0, 1.0)])) == "4.00x (2.00 to 8.00)"
    same = ratio([(3.0, 2.0), (30.0, 20.0), (6.0, 4.0)])
    assert str(same) == "1.50x (1.50 to 1.50)"
    # Logarithms -1, 0, 1: the mean is 0, the standard deviation 1, and t for two degrees of freedom 4.303.
    spread = ratio([(math.exp(x), 1.0) for x in (-1, 0, 1)])
    assert spread.middle == pytest.approx(1.0) and math.log(spread.high) == pytest.approx(4.303 / math.sqrt(3)) == pytest.approx(-math.log(spread.low))
    assert ratio([(math.exp(x), 1.0) for x in (-1, 0, 1) * 10]).high < spread.high


def test_an_aim_is_met_as_it_is_printed() -> None:
    assert Aim(2.0).met(1.996) and not Aim(2.0).met(1.99)
    assert Aim(0.5, least=False).met(0.504) and not Aim(0.5, least=False).met(0.51)


def test_a_run_goes_on_where_it_was_killed_and_forgets_other_code_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = Results(path, "a1", {"few": 0})
    first.add("one", "now", 0, value=3.0)
    with path.open("a") as f:
        f.write('{"figure": "one", "side": "be')
    again = Results(path, "a1", {"few": 0})
    assert again.has("one", "now", 0) and not again.has("one", "before", 0)
    again.add("one", "before", 0, value=2.0)
    third = Results(path, "a1", {"few": 0})
    assert third.pairs("one", "now", "before") == [(3.0, 2.0)]
    assert Results(path, "b2", {"few": 0}).rows == [] == Results(path, "a1", {"few": 4}).rows


def test_the_table_says_what_is_missed_and_why(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.jsonl", "a1", {})
    for turn in range(3):
        for side, value in (("before", 10.0), ("now", 15.0)):
            results.add("one", side, turn, value=value, by_cpu=value / 2, slow=30.0 - value)
    fast = Comparison("one", "one request", "tokens/s", "now", "before", Aim(2.0))
    small = Comparison("one", "memory", "MiB", "now", "before", Aim(0.8, least=False), key="slow")
    own = Comparison("one", "mixed", "x", "now", "before", Aim(10.0, absolute=True))
    none = Comparison("two", "not there", "s", "now", "before", None)
    lines = list(tables(results, [fast, small, own, none], {"one request": "the disk is slow"}))
    assert "| one request | at least 2.00x | 10.0 tokens/s | 15.0 tokens/s | 1.50x (1.50 to 1.50) | 1.50x (1.50 to 1.50) | **missed** |" in lines
    assert "| memory | at most 0.80x | 20.0 MiB | 15.0 MiB | 0.75x (0.75 to 0.75) | - | met |" in lines
    assert "one request is missed: the disk is slow." in lines and "    mixed: 15.00x (15.00 to 15.00); aim: at least 10.00x, met" in lines
    assert not any("not there" in line for line in lines)
    assert none.line(results) == "not there: not measured" and fast.reached(results) == Ratio(pytest.approx(1.5), pytest.approx(1.5), pytest.approx(1.5), 3)


def test_two_builds_from_end_to_end(home: Path) -> None:
    """This checkout on both sides: each has its own cache and registry, a second run measures nothing again, and the services are gone afterwards."""
    command = [sys.executable, "-m", "benchmarks.serving.engine_bench", "--only", "one", "--few", "4", "--turns", "2", "--before", str(ROOT)]
    command += ["--work", str(home / "work"), "--module", "tests.support.fake_busy_serve", "-o", str(home / "table.md")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (home / "work" / "results.jsonl").read_text().splitlines()]
    order = [(r["figure"], r["turn"], r["side"]) for r in rows]
    turns = [(0, "before"), (0, "now"), (1, "now"), (1, "before")]
    assert order == [("one", *turn) for turn in turns] and all(r["value"] > 0 for r in rows)
    assert (home / "table.md").read_text() == done.stdout and "| one request | at least 2.00x |" in done.stdout
    for side in ("before", "now"):
        assert (home / "work" / side / "cache" / "bases").is_symlink() and list((home / "work" / side / "registries").iterdir())
        log = (home / "work" / side / "serve.log").read_text()
        assert log.count("ready: ") == 1, log
    assert str(home / "work") not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    again = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=env)
    assert (
        again.returncode == 0
        and "starting the service" not in again.stderr
        and again.stdout[again.stdout.index("Base:") :] == done.stdout[done.stdout.index("Base:") :]
    )


def test_what_it_is_not_asked_is_refused_and_a_build_that_fails_is_named(home: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.serving.engine_bench", "--work", str(home / "work"), "--few", "2", "--turns", "1"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    wrong = subprocess.run([*command, "--only", "one,six"], capture_output=True, text=True, check=False, env=env)
    assert wrong.returncode == 2 and "found six; valid: one, eight, thirty-two, " in wrong.stderr
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    failed = subprocess.run([*command, "--only", "size", "--before", str(elsewhere)], capture_output=True, text=True, check=False, env=env)
    assert failed.returncode == 1 and "NOT MEASURED: size: before: " in failed.stdout and "Traceback" not in failed.stdout
