"""`tellmt study`: what is planned, what each bad study file is told, and a real one, killed and resumed, on the tiny base."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.study.config import StudyRun, read_study, recipe
from eval.study.run import StudyRunner, _toml
from tests.conftest import Ran

CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")

STUDY = """
name = "s"
base = "tiny"
pairs = ["is-en"]
budgets = [400]
seeds = [1, 2]
general = ["g.jsonl"]
reference = "sft"

[corpora.is-en]
train = ["c"]
tune = { corpus = "c", split = "dev" }
dev = { corpus = "c", split = "test" }

[train]
batch_tokens = 256

[lora]
rank = 8

[tune]
learning_rates = [1e-3, 3e-3]
budgets = [400]

[arms.base]
kind = "base"

[arms.shots]
kind = "base"
shots = 2

[arms.sft]
ratios = [0.0]
anchor = { parts = "prefix" }

[arms.tell]

[arms.tell-last]
mix = { order = "task-last" }
tuned_as = "tell"
"""


def letters(i: int) -> str:
    return "".join(chr(ord("a") + int(d)) for d in f"{i:04}")


@pytest.fixture
def data(cli: CLI) -> Path:
    rows = [f"d{i // 4:03}\tA sentence called {letters(i)} is here\tSetningin sem heitir {letters(i)} er hér" for i in range(80)]
    Path("c.tsv").write_text("\n".join(["document\ten\tis", *rows]) + "\n", encoding="utf-8")
    cli("corpus", "build", "c.tsv", "--pair", "is-en", "--dev", 8, "--test", 8, "-o", "c")
    pool = [{"prompt": f"Say something about {letters(i)}", "completion": f"It is {letters(i)}."} for i in range(200)]
    Path("g.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pool))
    return Path.cwd()


def written(text: str = STUDY) -> str:
    Path("s.toml").write_text(text)
    return "s.toml"


def test_what_is_planned(cli: CLI, data: Path) -> None:
    runs_left = cli("study", written(), "-o", "out", "--dry-run", "--json").json["left"]
    tuning = [r for r in runs_left if r["role"] == "tune"]
    # Both arms try the same rates at the same budget; an arm that takes another's rate tries none.
    assert [(r["arm"], r["learning_rate"], r["ratio"]) for r in tuning] == [("sft", 1e-3, 0), ("sft", 3e-3, 0), ("tell", 1e-3, 1), ("tell", 3e-3, 1)]
    assert all(r["budget"] == 400 and r["seed"] == 1 for r in tuning)
    # Only what needs no learning rate can be planned before they are chosen; without examples the seed changes nothing.
    assert [(r["arm"], r["seed"]) for r in runs_left if r["role"] == "run"] == [("base", 1), ("shots", 1), ("shots", 2)]
    assert not Path("out").exists()


def test_an_arm_with_hints_learns_a_lexicon_from_its_corpora(cli: CLI, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, up to the mix, are real; what an arm without hints is asked by stays as it was."""
    Path("d.tsv").write_text("setningin\tsentence\nheitir\tcalled\n")
    text = STUDY.replace('dev = { corpus = "c", split = "test" }', 'dev = { corpus = "c", split = "test" }\ndictionaries = ["d.tsv"]')
    text += '\n[arms.hints]\nratios = [0.0]\nbudgets = ["all"]\ntuned_as = "sft"\nanchor = { parts = "prefix" }\n'
    text += "hints = { candidates = 2, skip_common = 0, dropout = 0.0 }\ndictionaries = true\n"
    before = StudyRunner(read_study(Path(written())), Path("s.toml"), Path("a"), 1)
    after = StudyRunner(read_study(Path(written(text))), Path("s.toml"), Path("b").absolute(), 1)
    plain, hinted = (StudyRun(role="run", arm=arm, pair="is-en", budget=None, ratio=0.0, seed=1, learning_rate=1e-3) for arm in ("sft", "hints"))
    assert before.run_id(plain) == after.run_id(plain) != after.run_id(hinted)
    work = Path("b").absolute() / "runs" / "x"
    work.mkdir(parents=True)
    (work / "recipe.toml").write_text(_toml(recipe(after.study, hinted)))
    commands: list[list[str]] = []

    def call(*args: str) -> dict[str, Any]:
        commands.append([*args])
        return dict(cli(*args).json)

    after._mix(hinted, work, call)
    assert [c[0] for c in commands] == ["lexicon", "mix"] and "d.tsv" in commands[0] and "--lexicon" in commands[1]
    mix = json.loads((work / "mixed" / "mix.json").read_text())
    assert mix["hints"]["candidates"] == 2 and mix["hints"]["counts"]["hinted"] == mix["counts"]["task"]["examples"]
    assert "heitir 【 called】" in (work / "mixed" / "mixed.jsonl").read_text()


def test_an_arm_with_nearest_pairs(cli: CLI, data: Path) -> None:
    """By itself, and with hints; an arm without is what it was."""
    ui = '\n[arms.ui]\nratios = [0.0]\nbudgets = ["all"]\ntuned_as = "sft"\nanchor = { parts = "prefix" }\nretrieval = {}\n'
    both = ui.replace("[arms.ui]", "[arms.both]").replace("retrieval = {}", "retrieval = { pairs = 2, dropout = 0.0 }\nhints = { skip_common = 0 }")
    before = StudyRunner(read_study(Path(written())), Path("s.toml"), Path("a"), 1)
    after = StudyRunner(read_study(Path(written(STUDY + ui + both))), Path("s.toml"), Path("b").absolute(), 1)
    runs = [StudyRun(role="run", arm=arm, pair="is-en", budget=None, ratio=0.0, seed=1, learning_rate=1e-3) for arm in ("sft", "ui", "both")]
    assert len({before.run_id(runs[0]), *map(after.run_id, runs)}) == 3
    for run, stages, files in ((runs[1], ["mix"], {"memory.tsv"}), (runs[2], ["lexicon", "mix"], {"memory.tsv", "lexicon.tsv"})):
        work = Path("b").absolute() / "runs" / run.arm
        work.mkdir(parents=True)
        (work / "recipe.toml").write_text(_toml(recipe(after.study, run)))
        commands: list[str] = []

        def call(*args: str, commands: list[str] = commands) -> dict[str, Any]:
            commands.append(args[0])
            return dict(cli(*args).json)

        after._mix(run, work, call)
        mix = json.loads((work / "mixed" / "mix.json").read_text())
        assert commands == stages and {p.name for p in (work / "mixed").glob("*.tsv")} == files and mix["retrieval"]["counts"]["retrieved"] > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [1, 2]", 'seeds = ["one"]', "seeds"),
        ("seeds = [1, 2]", "seeds = [1.5]", "whole numbers"),
        ("seeds = [1, 2]", "seeds = [1, 1]", "the same value twice"),
        ('[arms.tell-last]\nmix = { order = "task-last" }', "[arms.tell-last]", "arms tell and tell-last are the same"),
        ("[arms.tell]", "[arms.tell]\nratios = [1.0, 0.0]\n[arms.sft-anchor]\nratios = [0.0]", "arms tell and sft-anchor are the same at ratio 0"),
        ('tuned_as = "tell"', 'tuned_as = "tall"', "no such arm: tall"),
        ('tuned_as = "tell"', 'tuned_as = "base"', "tunes none itself"),
        ('reference = "sft"', 'reference = "stf"', "no such arm: stf"),
        ('pairs = ["is-en"]', 'pairs = ["is-en", "en-is"]', "no [corpora.en-is]"),
        ("shots = 2", "shots = 2\nratios = [1.0]", "a bare base and is not trained"),
        ("[arms.tell]", "[arms.tell]\nshots = 2", "shots are for a bare base"),
        ("[arms.tell]", "[arms.tell]\ntrain = { learning_rate = 1e-3 }", "learning_rate: tuned"),
        ("[arms.tell]", "[arms.tell]\nmix = { ratio = 1 }", "[mix] ratio: set by"),
        ("budgets = [400]\nseeds", "buckets = [400]\nseeds", "budgets (did you mean this?)"),
        ('general = ["g.jsonl"]', "", "no general data"),
        ('general = ["g.jsonl"]', 'general = ["h.jsonl"]', "no such file"),
        ('split = "test"', 'split = "train"', "'dev' or 'test'"),
        ('train = ["c"]', 'train = ["d"]', "not a corpus"),
        ('base = "tiny"', 'base = "tinny"', "tinny"),
        ("[arms.tell]", "[arms.tell]\ndictionaries = true", "no hints that would use them"),
        ("[arms.tell]", "[arms.tell]\nhints = { candidates = 2 }", 'needs budgets = ["all"], tuned_as another arm'),
        ('tuned_as = "tell"', 'tuned_as = "tell"\nbudgets = ["all"]\nhints = { lexicon = "x" }', "neither task nor [hints] lexicon"),
        ("[arms.tell]", "[arms.tell]\nretrieval = {}", "arm tell has retrieval, from all of its corpora"),
        ("shots = 2", "shots = 2\nretrieval = {}", "a bare base and is not trained"),
        ('dev = { corpus = "c", split = "test" }', 'dev = { corpus = "c", split = "test" }\ndictionaries = ["d.tsv"]', "no such file"),
        ("name =", "name", "not a readable TOML file"),
    ],
)
def test_bad_study_files(cli: CLI, data: Path, old: str, new: str, message: str) -> None:
    assert old in STUDY
    ran = cli("study", written(STUDY.replace(old, new, 1)), "-o", "out", ok=False)
    assert ran.code in (1, 2) and message in ran.err, ran.err
    assert not Path("out").exists()


def test_the_corpus_must_be_of_the_pair_and_hold_something(cli: CLI, data: Path) -> None:
    cli("corpus", "build", "c.tsv", "--pair", "en-is", "--dev", 0, "--test", 8, "-o", "e")
    ran = cli("study", written(STUDY.replace('train = ["c"]', 'train = ["e"]')), "-o", "out", ok=False)
    assert ran.code == 2 and "another pair" in ran.err and "en-is" in ran.err
    cli("corpus", "build", "c.tsv", "--pair", "is-en", "--dev", 0, "--test", 8, "-o", "n")
    ran = cli("study", written(STUDY.replace('tune = { corpus = "c"', 'tune = { corpus = "n"')), "-o", "out", ok=False)
    assert ran.code == 2 and "this slice is empty" in ran.err


@pytest.mark.parametrize("arms, runs", [pytest.param(["sft"], 3, marks=pytest.mark.slow), pytest.param(["sft", "ltd"], 5, marks=pytest.mark.long)])
def test_a_study_killed_and_resumed(cli: CLI, data: Path, arms: list[str], runs: int) -> None:
    """On real stages: the tiny base is trained, scored with ctranslate2, and the learning rate that scored best is the one that is used."""
    ltd = '[arms.ltd]\ngeneral = "ltd"\ntask = "ltd"\ntuned_as = "sft"' if "ltd" in arms else ""
    text = (
        STUDY.replace("seeds = [1, 2]", "seeds = [1]")
        .replace('[arms.shots]\nkind = "base"\nshots = 2\n', "")
        .replace('[arms.tell]\n\n[arms.tell-last]\nmix = { order = "task-last" }\ntuned_as = "tell"', ltd)
    )
    if not ltd:
        text = text.replace("[1e-3, 3e-3]", "[3e-3]")
    file = written(text)
    command = [sys.executable, "-m", "tellmt", "study", file, "-o", "out", "--jobs", "2"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 500
    while not (Path("out/results.jsonl").exists() and Path("out/results.jsonl").read_bytes().count(b"\n") >= runs // 2):
        assert first.poll() is None and time.monotonic() < deadline, first.stderr and first.stderr.read()
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    stderr = first.communicate(timeout=240)[1]
    assert first.returncode == 130 and "Traceback" not in stderr
    finished_rows = Path("out/results.jsonl").read_bytes()
    # What a kill in the middle of a line leaves behind.
    with Path("out/results.jsonl").open("ab") as f:
        f.write(b'{"id": "cut sho')
    ran = cli("study", file, "-o", "out", "--jobs", 2, "--json", timeout=800)
    assert "cut short" in ran.err
    lines = Path("out/results.jsonl").read_bytes()
    assert lines.startswith(finished_rows)
    rows = [json.loads(line) for line in lines.split(b"\n") if line]
    assert len(rows) == ran.json["runs"] == runs == len({r["id"] for r in rows})
    for r in rows:
        assert r["dev"]["segments"] == 8 and r["dev"]["signatures"]["chrf2"].startswith("nrefs:1|")
        hypotheses = Path(f"out/runs/{r['id']}/hypotheses.txt").read_text(encoding="utf-8").split("\n")
        assert len(hypotheses) == 9
        if r["train"]:
            assert r["counts"]["task"]["tokens"] <= 400 and r["recipe"]["train"]["learning_rate"] == r["learning_rate"]
            assert len(Path(f"out/runs/{r['id']}/losses.jsonl").read_text().split("\n")) == 9
            assert r["dev"]["nats_per_token"] > 0
            assert (r["counts"]["general"]["tokens"] > 0) == (r["arm"] != "sft")
    tuned: dict[str, dict[float, float]] = {}
    for r in rows:
        if r["role"] == "tune":
            tuned.setdefault(r["arm"], {})[r["learning_rate"]] = r["dev"]["chrf2"]
    for arm in arms:
        run: Any = next(r for r in rows if r["role"] == "run" and r["arm"] == arm)
        assert run["learning_rate"] == min(tuned["sft"], key=lambda rate: (-tuned["sft"][rate], rate))
    assert "sft" in Path("out/report/study.md").read_text() and list(Path("out/report").glob("*.png"))
    assert not list((Path(os.environ["TELLMT_CACHE"]) / "ct2").glob("*-" + "?" * 32))
    # Nothing is left to do.
    assert cli("study", file, "-o", "out", "--dry-run", "--json").json["left"] == []
    assert cli("study", file, "-o", "out", "--json").json["runs"] == runs
    assert Path("out/results.jsonl").read_bytes() == lines
