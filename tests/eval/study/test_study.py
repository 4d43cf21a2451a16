"""`tellmt study`: what is planned, what each bad study file is told, and a real one, killed and resumed, on the tiny base."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.study.config import read_study
from eval.study.plan import StudyRun, nearest, recipe, study_runs, wants
from eval.study.run import StudyRunner, _toml
from tests.conftest import Ran

CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")

STUDY = """
name = "s"
base = "tiny"
pairs = ["is-en"]
passes = 2
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
sizes = [16]
ratios = [0.0, 1.0]
seeds = [9]

[looks]
count = 3

[arms.base]
kind = "base"

[arms.shots]
kind = "base"
shots = 2

[arms.sft]
anchor = { parts = "prefix" }

[arms.tell]

[arms.tell-last]
patience = 0
mix = { order = "task-last" }
tuned_as = "tell"

[[stages]]
name = "bare"
arms = ["base", "shots"]
seeds = [1, 2]

[[stages]]
name = "first"
arms = ["sft"]
sizes = [8, 16]
seeds = [1, 2]
scores = true

[[stages]]
name = "first"
arms = ["tell", "tell-last"]
sizes = [16]
ratios = [1.0]
seeds = [1, 2]
tokens = true
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
    planned = cli("study", written(), "-o", "out", "--dry-run", "--json").json
    runs_left = planned["left"]
    tuning = [r for r in runs_left if r["role"] == "tune"]
    # The bare bases come first; the arms of the first stage that is trained try their rates at the nearest tuned size, and later stages wait for it.
    assert [(r["arm"], r["seed"]) for r in runs_left if r["role"] == "run"] == [("base", 1), ("shots", 1), ("shots", 2)]
    rates = [(arm, 16, ratio, 9, rate) for arm, ratio in (("sft", 0), ("tell", 1)) for rate in (1e-3, 3e-3)]
    assert [(r["arm"], r["size"], r["ratio"], r["seed"], r["learning_rate"]) for r in tuning] == rates
    assert [(s["stage"], s["runs"]) for s in planned["stages"]] == [("bare", 3), ("first", 12)]
    assert all(s["tokens"] > 0 for s in planned["stages"][1:]) and not Path("out").exists()


def tuned(study: Any, *best: tuple[str, float, float]) -> dict[Any, dict[int, float]]:
    """Losses under which (arm, ratio) is best at a rate."""
    return {((arm, "is-en", 16, ratio), rate): {9: abs(rate - chosen)} for arm, ratio, chosen in best for rate in study.tune.learning_rates}


def test_rates_are_those_of_the_best_tuning_loss(data: Path) -> None:
    study = read_study(Path(written()))
    runs = [*study_runs(study, tuned(study, ("sft", 0.0, 1e-3), ("tell", 1.0, 3e-3)))]
    compared = [(r.arm, r.size, r.ratio, r.seed, r.learning_rate) for r in runs if r.role == "run" and r.learning_rate]
    # Seed after seed, and in each the small sizes first; an arm that takes another's rate tries none.
    expected = [("sft", 8, 0, 1e-3), ("sft", 16, 0, 1e-3), ("tell", 16, 1, 3e-3), ("tell-last", 16, 1, 3e-3)]
    assert compared == [(arm, size, ratio, seed, rate) for seed in (1, 2) for arm, size, ratio, rate in expected]
    assert not [r for r in runs if r.arm == "tell-last" and r.role == "tune"]
    by_arm = {(r.arm, r.size): r for r in runs if r.role == "run" and r.seed == 1}
    assert wants(study, by_arm["sft", 8], "scores") and not wants(study, by_arm["tell", 16], "scores") and wants(study, by_arm["tell", 16], "tokens")
    made = recipe(study, by_arm["tell", 16], every=4)
    assert made["mix"] == {"ratio": 1.0, "task_passes": 2} and made["train"]["epochs"] == 1
    assert made["dev"] == {"every": 4, "patience": 3, "segments": 100, "metric": "loss"}
    assert recipe(study, by_arm["tell-last", 16], every=4)["dev"]["patience"] == 0


@pytest.mark.parametrize(
    ("value", "places", "expected"), [(30, [0, 1, 10], 10), (0.3, [0, 1, 10], 1), (0, [0, 1], 0), (3, [1, 10], 1), (math.inf, [150, 500], 500)]
)
def test_the_nearest_place(value: float, places: list[float], expected: float) -> None:
    assert nearest(value, places) == expected


def mixed(cli: CLI, runner: StudyRunner, run: StudyRun) -> tuple[Path, list[list[str]], dict[str, Any]]:
    """The real commands of a run up to its mix: its directory, the commands, and mix.json."""
    work = runner.out / "runs" / f"{run.arm}-{run.size}"
    work.mkdir(parents=True)
    (work / "recipe.toml").write_text(_toml(recipe(runner.study, run)))
    commands: list[list[str]] = []

    def call(*args: str) -> dict[str, Any]:
        commands.append([*args])
        return dict(cli(*args).json)

    counts = runner._mix(run, work, call)
    mix = json.loads((work / "mixed" / "mix.json").read_text())
    assert counts == mix["counts"]
    return work, commands, mix


def examples(work: Path, kind: str) -> list[dict[str, Any]]:
    return [e for e in map(json.loads, (work / "mixed" / "mixed.jsonl").read_text().split("\n")[:-1]) if e["id"].startswith(kind)]


def one(arm: str, size: int | None = 16, ratio: float = 0.0, seed: int = 1) -> StudyRun:
    return StudyRun(role="run", arm=arm, pair="is-en", size=size, ratio=ratio, seed=seed, learning_rate=1e-3)


def test_the_pairs_of_a_seed_are_nested_and_the_same_for_every_arm(cli: CLI, data: Path) -> None:
    text = STUDY + '\n[arms.wrong]\nanswers = "shuffled"\ntuned_as = "tell"\n'
    runner = StudyRunner(read_study(Path(written(text))), Path("s.toml"), Path("out").absolute(), 1)
    small, large, tell, wrong = (mixed(cli, runner, run) for run in (one("sft", 8), one("sft"), one("tell", ratio=1.0), one("wrong", ratio=1.0)))
    pairs = [{e["response"].split("\n")[-1] for e in examples(work, "task")} for work, *_ in (small, large, tell)]
    assert pairs[0] < pairs[1] == pairs[2] and [len(p) for p in pairs] == [8, 16, 16]
    # The task data is there as often as SFT repeats it, the general data once.
    assert len(examples(tell[0], "task")) == 32 and tell[2]["counts"]["task"]["examples"] == 16
    general = [e["prompt"] for e in examples(tell[0], "general")]
    assert len(general) == len(set(general)) == tell[2]["counts"]["general"]["examples"] > 4
    # Half of it in each pass.
    halves = [e["id"].startswith("general") for e in map(json.loads, (tell[0] / "mixed" / "mixed.jsonl").read_text().split("\n")[:-1])]
    assert abs(sum(halves[: len(halves) // 2]) - sum(halves) / 2) <= 1
    own = {json.loads(line)["prompt"]: json.loads(line)["completion"] for line in Path("g.jsonl").read_text().split("\n")[:-1]}
    kept = [own[e["prompt"].strip()] == e["response"] for e in examples(wrong[0], "general")]
    assert all(own[e["prompt"].strip()] == e["response"] for e in examples(tell[0], "general")) and sum(kept) < len(kept) / 4
    assert len({*map(runner.run_id, (one("tell", ratio=1.0), one("wrong", ratio=1.0), one("sft"), one("sft", 8)))}) == 4


def test_general_data_repeats_nothing_of_a_corpus_that_is_held_out_alone(cli: CLI, data: Path) -> None:
    """Such a corpus has no pair to train on, has to be asked for by sizes, and is named to the mix for what it reserves."""
    rows = [f"h{i}\tAn answer that is held out, {letters(i)} of many more\tSvar sem er haldið utan við, {letters(i)}" for i in range(12)]
    Path("h.tsv").write_text("\n".join(["document\ten\tis", *rows]) + "\n", encoding="utf-8")
    assert "too small to leave any pair" in cli("corpus", "build", "h.tsv", "--pair", "is-en", "--dev", 4, "--test", 100, "-o", "h", ok=False).err
    assert cli("corpus", "build", "h.tsv", "--pair", "is-en", "--dev", 0, "--test", 100, "-o", "h", "--json").json["splits"]["test"]["pairs"] == 12
    pool = Path("g.jsonl").read_text() + json.dumps({"prompt": "Say it", "completion": f"Now: An answer that is held out, {letters(3)} of many more"}) + "\n"
    Path("g.jsonl").write_text(pool)
    study = read_study(Path(written(STUDY.replace('dev = { corpus = "c", split = "test" }', 'dev = { corpus = "h", split = "test" }'))))
    work, commands, mix = mixed(cli, StudyRunner(study, Path("s.toml"), Path("out").absolute(), 1), one("tell", 60, ratio=2.0))
    assert commands[-1][3:6] == ["--corpus", str(work.relative_to(Path.cwd()) / "task"), "h"] and mix["counts"]["task"]["examples"] == 60
    assert not [e for e in examples(work, "general") if "held out" in e["response"]]


def test_an_arm_with_hints_learns_a_lexicon_from_its_own_pairs(cli: CLI, data: Path) -> None:
    Path("d.tsv").write_text("setningin\tsentence\nheitir\tcalled\n")
    text = STUDY.replace('dev = { corpus = "c", split = "test" }', 'dev = { corpus = "c", split = "test" }\ndictionaries = ["d.tsv"]')
    text += '\n[arms.hints]\ntuned_as = "sft"\nanchor = { parts = "prefix" }\n'
    text += "hints = { candidates = 2, skip_common = 0, dropout = 0.0 }\ndictionaries = true\n"
    before = StudyRunner(read_study(Path(written())), Path("s.toml"), Path("a"), 1)
    after = StudyRunner(read_study(Path(written(text))), Path("s.toml"), Path("b").absolute(), 1)
    assert before.run_id(one("sft", 60)) == after.run_id(one("sft", 60)) != after.run_id(one("hints", 60))
    work, commands, mix = mixed(cli, after, one("hints", 60))
    assert [c[0] for c in commands] == ["select", "lexicon", "mix"] and "d.tsv" in commands[1] and "--lexicon" in commands[2]
    assert commands[1][2] == str(work.relative_to(Path.cwd()) / "task")
    assert mix["hints"]["candidates"] == 2 and mix["hints"]["counts"]["hinted"] == mix["counts"]["task"]["examples"]
    assert "heitir 【 called】" in (work / "mixed" / "mixed.jsonl").read_text()


def test_an_arm_with_nearest_pairs(cli: CLI, data: Path) -> None:
    """By itself, and with hints; an arm without is what it was."""
    ui = '\n[arms.ui]\ntuned_as = "sft"\nanchor = { parts = "prefix" }\nretrieval = {}\n'
    both = ui.replace("[arms.ui]", "[arms.both]").replace("retrieval = {}", "retrieval = { pairs = 2, dropout = 0.0 }\nhints = { skip_common = 0 }")
    after = StudyRunner(read_study(Path(written(STUDY + ui + both))), Path("s.toml"), Path("b").absolute(), 1)
    assert len({*map(after.run_id, (one("sft", None), one("ui", None), one("both", None)))}) == 3
    for arm, stages, files in (("ui", ["mix"], {"memory.tsv"}), ("both", ["lexicon", "mix"], {"memory.tsv", "lexicon.tsv"})):
        work, commands, mix = mixed(cli, after, one(arm, None))
        assert [c[0] for c in commands] == stages and {p.name for p in (work / "mixed").glob("*.tsv")} == files
        assert mix["retrieval"]["counts"]["retrieved"] > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [1, 2]", 'seeds = ["one"]', "seeds"),
        ("seeds = [1, 2]", "seeds = [1.5]", "whole numbers"),
        ("seeds = [1, 2]", "seeds = [1, 1]", "the same value twice"),
        ("seeds = [9]", "seeds = [2]", "seed 2 is compared too"),
        ("passes = 2", "budgets = [10_000]", "studies go by pairs"),
        ('[arms.tell-last]\npatience = 0\nmix = { order = "task-last" }', "[arms.tell-last]", "arms tell and tell-last are the same"),
        ('tuned_as = "tell"', 'tuned_as = "tall"', "no such arm: tall"),
        ('tuned_as = "tell"', 'tuned_as = "base"', "tunes none itself"),
        ('reference = "sft"', 'reference = "stf"', "no such arm: stf"),
        ('arms = ["sft"]', 'arms = ["sfft"]', "no such arm: sfft"),
        ("sizes = [8, 16]", "", "and no sizes"),
        ('pairs = ["is-en"]', 'pairs = ["is-en", "en-is"]', "no [corpora.en-is]"),
        ("shots = 2", "shots = 2\npasses = 3", "a bare base and is not trained"),
        ("[arms.tell]", "[arms.tell]\nshots = 2", "shots are for a bare base"),
        ("[arms.tell]", "[arms.tell]\ntrain = { learning_rate = 1e-3 }", "learning_rate: tuned"),
        ("[arms.tell]", "[arms.tell]\ntrain = { epochs = 2 }", "epochs: set by passes"),
        ("[arms.tell]", "[arms.tell]\nmix = { ratio = 1 }", "[mix] ratio: set by"),
        ("[arms.tell]", '[arms.tell]\ngeneral = "ltd"\nanswers = "shuffled"', "either chosen or has its answers shuffled"),
        ('arms = ["sft"]\nsizes = [8, 16]', 'arms = ["chosen"]\nsizes = ["all"]', "nothing to choose from all task pairs"),
        ("passes = 2", "phases = 2", "passes (did you mean this?)"),
        ('general = ["g.jsonl"]', "", "no general data"),
        ('general = ["g.jsonl"]', 'general = ["h.jsonl"]', "no such file"),
        ('split = "test"', 'split = "train"', "'dev' or 'test'"),
        ('tune = { corpus = "c", split = "dev" }', 'tune = { corpus = "c", split = "test" }', "looks at a dev split"),
        ('train = ["c"]', 'train = ["d"]', "not a corpus"),
        ('base = "tiny"', 'base = "tinny"', "tinny"),
        ("[arms.tell]", "[arms.tell]\ndictionaries = true", "no hints that would use them"),
        ("[arms.tell]", '[arms.tell]\nhints = { lexicon = "x" }', "learned from its own pairs"),
        ("shots = 2", "shots = 2\nretrieval = {}", "a bare base and is not trained"),
        ('dev = { corpus = "c", split = "test" }', 'dev = { corpus = "c", split = "test" }\ndictionaries = ["d.tsv"]', "no such file"),
        ("name =", "name", "not a readable TOML file"),
    ],
)
def test_bad_study_files(cli: CLI, data: Path, old: str, new: str, message: str) -> None:
    text = STUDY + '\n[arms.chosen]\ntask = "ltd"\n' if "chosen" in new else STUDY
    assert old in text
    ran = cli("study", written(text.replace(old, new, 1)), "-o", "out", ok=False)
    assert ran.code in (1, 2) and message in ran.err, ran.err
    assert not Path("out").exists()


def test_the_corpus_must_be_of_the_pair_and_hold_something(cli: CLI, data: Path) -> None:
    cli("corpus", "build", "c.tsv", "--pair", "en-is", "--dev", 0, "--test", 8, "-o", "e")
    ran = cli("study", written(STUDY.replace('train = ["c"]', 'train = ["e"]')), "-o", "out", ok=False)
    assert ran.code == 2 and "another pair" in ran.err and "en-is" in ran.err
    cli("corpus", "build", "c.tsv", "--pair", "is-en", "--dev", 0, "--test", 8, "-o", "n")
    ran = cli("study", written(STUDY.replace('tune = { corpus = "c"', 'tune = { corpus = "n"')), "-o", "out", ok=False)
    assert ran.code == 2 and "this slice is empty" in ran.err


def kept_until(file: str, lines: int, jobs: int = 2) -> bytes:
    """Starts the study, stops it once so many lines are finished, and returns them."""
    first = subprocess.Popen([sys.executable, "-m", "tellmt", "study", file, "-o", "out", "--jobs", str(jobs)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 500
    while not (Path("out/results.jsonl").exists() and Path("out/results.jsonl").read_bytes().count(b"\n") >= lines):
        assert first.poll() is None and time.monotonic() < deadline, first.stderr and first.stderr.read()
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    stderr = first.communicate(timeout=240)[1]
    assert first.returncode == 130 and "Traceback" not in stderr
    return Path("out/results.jsonl").read_bytes()


def without_stages(text: str, *stages: str) -> str:
    return text[: text.index("[[stages]]")] + "".join(stages)


ALONE = '[[stages]]\nname = "a"\narms = ["sft"]\nsizes = [16]\nseeds = [1]\n'
SFT = '[[stages]]\nname = "a"\narms = ["base", "sft"]\nsizes = [16]\nseeds = [1]\nscores = true\n'
TELL = '[[stages]]\nname = "b"\narms = ["tell"]\nsizes = [16]\nratios = [1.0]\nseeds = [1]\ntokens = true\n'
LTD = '[[stages]]\nname = "c"\narms = ["ltd"]\nsizes = [16]\nratios = [1.0]\nseeds = [1]\nscores = true\n'


@pytest.mark.parametrize("what, runs", [pytest.param("sft", 2, marks=pytest.mark.slow), pytest.param("all", 8, marks=pytest.mark.long)])
def test_a_study_killed_and_resumed(cli: CLI, data: Path, what: str, runs: int) -> None:
    """On real commands: the tiny base is trained, its losses taken, and scored with ctranslate2; the rate with the lowest tuning loss is the one that is
    used."""
    text = (
        without_stages(STUDY, ALONE)
        if what == "sft"
        else without_stages(STUDY, '[arms.ltd]\ngeneral = "ltd"\ntask = "ltd"\ntuned_as = "tell"\n', SFT, TELL, LTD)
    )
    if what == "sft":
        text = text.replace("[1e-3, 3e-3]", "[3e-3]")
    file = written(text)
    finished_rows = kept_until(file, 1)
    # What a kill in the middle of a line leaves behind.
    with Path("out/results.jsonl").open("ab") as f:
        f.write(b'{"id": "cut sho')
    ran = cli("study", file, "-o", "out", "--jobs", 2, "--json", timeout=800)
    assert "cut short" in ran.err
    lines = Path("out/results.jsonl").read_bytes()
    assert lines.startswith(finished_rows)
    rows = [json.loads(line) for line in lines.split(b"\n") if line]
    assert len(rows) == ran.json["runs"] == runs == len({r["id"] for r in rows})
    losses: dict[str, dict[float, float]] = {}
    for r in rows:
        scored = r["role"] == "run" and r["arm"] != "tell" and what == "all"
        assert ("chrf2" in r["dev"]) == scored == Path(f"out/runs/{r['id']}/hypotheses.txt").exists()
        if r["role"] == "tune":
            losses.setdefault(r["arm"], {})[r["learning_rate"]] = r["dev"]["nats_per_token"]
        if r["train"] and r["role"] == "run":
            assert r["dev"]["segments"] == 8 and r["counts"]["task"]["examples"] == 16 and r["recipe"]["mix"]["task_passes"] == 2
            each = [json.loads(line) for line in Path(f"out/runs/{r['id']}/losses.jsonl").read_text().split("\n")[:-1]]
            assert len(each) == 8 and all(("each" in x) == (r["arm"] == "tell") for x in each)
            assert (r["counts"]["general"]["tokens"] > 0) == (r["arm"] != "sft")
            # Its weights are those of its best look.
            assert r["train"]["best_nats"] == min(n for _, n in r["train"]["looks"]) and r["train"]["kept_step"] == r["train"]["best_step"]
    for r in rows:
        if r["role"] == "run" and r["train"]:
            tried = losses["sft" if r["arm"] == "sft" else "tell"]
            assert r["learning_rate"] == min(tried, key=lambda rate: (tried[rate], rate))
    page = Path("out/report/study.md").read_text()
    assert "### is-en, 16 task pairs" in page and list(Path("out/report").glob("*.png"))
    assert not list((Path(os.environ["TELLMT_CACHE"]) / "ct2").glob("*-" + "?" * 32))
    # Nothing is left to do.
    assert cli("study", file, "-o", "out", "--dry-run", "--json").json["left"] == []
    assert cli("study", file, "-o", "out", "--json").json["runs"] == runs
    assert Path("out/results.jsonl").read_bytes() == lines
    if what == "sft":
        return
    # A reader repeats one cell, and the study stays what it is.
    again = cli("study", file, "-o", "out", "--cell", "is-en/sft/16/0/1", "--json", timeout=800).json
    assert again["same_id"] and again["again"]["nats_per_token"] == pytest.approx(again["before"]["nats_per_token"], abs=1e-3)
    assert Path("out/results.jsonl").read_bytes() == lines
    assert "is-en/sft/16/0/1" in cli("study", file, "-o", "out", "--cell", "is-en/sft/9/0/1", ok=False).err


@pytest.mark.long
def test_the_gpu_script_on_a_processor(data: Path) -> None:
    """Dry, on the tiny base: it runs, saves everything but adapters, and the next call has nothing left to do."""
    written(without_stages(STUDY, ALONE).replace("[1e-3, 3e-3]", "[3e-3]"))
    root = Path(__file__).parents[3]
    command = ["bash", str(root / "train/recipes/study-gpu.sh"), str(data), "back", "20", "2"]
    env = {**os.environ, "PYTHON": sys.executable, "STUDY": str(data / "s.toml"), "STUDY_NAME": "s"}
    for _ in range(2):
        ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=1200, check=False)
        assert ran.returncode == 0, ran.stderr
    assert len(Path("s/results.jsonl").read_text().split("\n")) == 3
    with tarfile.open("back/study.tar.gz") as tar:
        assert "s/results.jsonl" in tar.getnames() and not [n for n in tar.getnames() if "/adapter" in n]
