"""The study's file is what its design says."""

from __future__ import annotations

import re
from pathlib import Path

from eval.study.config import read_study
from eval.study.plan import StudyRun, planned_cost, recipe, study_runs, tuning_runs

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "results" / "study-design.md").read_text(encoding="utf-8")


def test_the_file_has_the_stages_of_the_design_in_their_order() -> None:
    study = read_study(ROOT / "train" / "recipes" / "study-cpu.toml")
    stages = planned_cost(study)
    assert [name.split()[0] for name, *_ in stages] == [str(n) for n in range(1, 9)]
    for name, runs, tokens in stages:
        line = re.search(rf"^\| {name.split()[0]} [^|]*\| (\d+) \| ([\d.]+) \|", DESIGN.replace("| 1 primary: ", "| x "), re.MULTILINE)
        assert line and (int(line[1]), float(line[2])) == (runs, round(tokens / 1e6, 1)), (name, runs, tokens)
    first = [s for s in study.stages if s.name == "1 primary"]
    assert {n for s in first if "sft" in s.arms for n in s.sizes} == {150, 250, 500, 1000, 2000} and {len(s.seeds) for s in first} == {8}
    assert study.primary == {"pair": "is-en", "arm": "tell", "size": 500, "ratio": 10.0, "margin": 1.5, "seeds": 8} and "The margin is **1.5**" in DESIGN
    assert len([*tuning_runs(study, first)]) == 18 == sum(1 for _ in study_runs(study, {}))
    # What needs no more than a name in the design is an arm of the file.
    named = set(re.findall(r"^\| ([a-z, -]+) \|", DESIGN.split("## Arms")[1].split("## Order")[0], re.MULTILINE))
    assert {a for names in named for a in names.split(", ")} - {"arm"} == set(study.arms) - {"base"}
    told = StudyRun(role="run", arm="sft-steps", pair="is-en", size=500, ratio=0.0, seed=1, learning_rate=5e-4)
    assert recipe(study, told)["mix"]["task_passes"] == 13
