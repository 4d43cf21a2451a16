"""`tellmt runs`: what is said of runs that last, were stopped, failed, finished, and of directories that are no runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import open_adapter
from tell.files import write_json, write_jsonl
from tellmt.cli import main
from tests.support.tiny import make_tiny_adapter
from train.run_dir import locked

Runs = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def runs(capsys: pytest.CaptureFixture[str]) -> Runs:
    """`tellmt runs DIR --json` in this process, by path."""

    def run(directory: Path) -> dict[str, dict[str, Any]]:
        assert main(["runs", str(directory), "--json"]) == 0
        return {r["path"]: r for r in json.loads(capsys.readouterr().out)["runs"]}

    return run


def make_run(path: Path, state: str = "running", steps: int = 4, saved: int = 0, message: str = "", **more: Any) -> Path:
    """A run directory as training leaves it."""
    path.mkdir(parents=True)
    about = {"state": state, "total": 10, "pair": "is-en", "base": "tiny", "started": "2026-11-21T08:00:00Z", "message": message}
    write_json(path / "status.json", about)
    write_jsonl(path / "metrics.jsonl", [{"step": i, "loss": 5.0 - i, "tokens": 100 * i, "seconds": 2.0 * i, **more} for i in range(1, steps + 1)])
    if state != "finished":
        write_json(path / "run.json", {"seed": 1})
        for step in range(2, saved + 1, 2):
            (path / f"step-{step:08}").mkdir()
    return path


def score(adapter: Path, name: str, chrf: float) -> dict[str, Any]:
    system = {"chrf": {"score": chrf, "signature": "chrF2|x"}, "bleu": {"score": 7.5, "signature": "BLEU|x"}}
    return {"name": name, "adapter": {"weights": open_adapter(adapter).card.files}, "systems": {"adapter": system, "base": system}}


def test_every_state(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    going = make_run(tmp_path / "a.run", steps=5, saved=4)
    make_run(tmp_path / "b.run", steps=5, saved=4)
    make_run(tmp_path / "deep" / "down" / "c.run", "stopped", 6, 6, "stopped by SIGTERM")
    make_run(tmp_path / "d.run", "failed", 3, 2, "step 4: the loss or its gradient is no longer a number")
    make_run(tmp_path / "e.run", "finished", 10)
    with locked(going):
        listed = runs(tmp_path)
        # Looking does not keep anybody out, and nobody is taken for running who is not.
        assert runs(tmp_path) == listed
        assert main(["runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert list(listed) == ["a.run", "b.run", "d.run", "deep/down/c.run", "e.run"]
    assert [(r["state"], r["step"], r["total"], r["message"]) for r in listed.values()] == [
        ("running", 5, 10, ""),
        ("stopped", 4, 10, "killed"),
        ("failed", 2, 10, "step 4: the loss or its gradient is no longer a number"),
        ("stopped", 6, 10, "stopped by SIGTERM"),
        ("finished", 10, 10, ""),
    ]
    assert listed["a.run"]["pid"] == os.getpid() and listed["b.run"]["pid"] is None
    a = listed["a.run"]
    assert (a["pair"], a["base"], a["loss"], a["tokens_per_second"], a["started"]) == ("is-en", "tiny", 0.0, 50.0, "2026-11-21T08:00:00Z")
    assert a["updated"] > a["started"] and a["best_dev_chrf"] is None and a["scores"] == []
    assert "5 runs: 1 failed, 1 finished, 1 running, 2 stopped" in printed and f"pid {os.getpid()}" in printed and "5 of 10" in printed


def test_scores_from_the_card_beside_it_and_the_gate(runs: Runs, tmp_path: Path, tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = make_tiny_adapter(tmp_path / "adapter", tiny).path
    make_run(tmp_path / "adapter.run", "finished", 10, dev_chrf=31.25, dev_nats=2.5)
    card = json.loads((adapter / "card.json").read_text())
    write_json(adapter / "card.json", {**card, "scores": [score(adapter, "newstest", 33.0)]})
    for name, chrf in (("scores", 34.0), ("again", 33.0)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "scores.json", score(adapter, "newstest" if name == "again" else "flores", chrf))
    (tmp_path / "other").mkdir()
    write_json(tmp_path / "other" / "scores.json", {**score(adapter, "ntrex", 99.0), "adapter": {"weights": {"x": "y"}}})
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "scores.json").write_text('{"name"')
    verdict = {"adapter": {"weights": card["files"]}, "passed": False, "metrics": {"adapter": score(adapter, "", 30.0)["systems"]["adapter"]}}
    write_json(tmp_path / "adapter.verdict.json", verdict)
    run = runs(tmp_path)["adapter.run"]
    assert run["best_dev_chrf"] == 31.25 and run["best_dev_nats"] == 2.5
    assert [(s["name"], s["chrf"], s["from"]) for s in run["scores"]] == [
        ("newstest", 33.0, "card"),
        ("flores", 34.0, "scores/scores.json"),
        ("dev", 30.0, "adapter.verdict.json"),
    ]
    assert run["scores"][0]["signatures"] == {"chrf": "chrF2|x", "bleu": "BLEU|x"} and run["scores"][2]["passed"] is False
    assert main(["runs", str(tmp_path)]) == 0
    assert "best dev loss 2.5000" in (printed := capsys.readouterr().out) and "refused" in printed
    # The scores of what a new run is about to replace are not the new run's.
    shutil.rmtree(tmp_path / "adapter.run")
    make_run(tmp_path / "adapter.run", "running", 2)
    assert runs(tmp_path)["adapter.run"]["scores"] == []


def test_damaged_and_foreign_directories_have_a_line(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "thesis.run").mkdir()
    (tmp_path / "thesis.run" / "thesis.tex").write_text("years of work")
    (tmp_path / "file.run").write_text("not a directory")
    torn = make_run(tmp_path / "torn.run", "stopped", 3, 2)
    (torn / "status.json").write_bytes(b"\xff{")
    with (torn / "metrics.jsonl").open("ab") as f:
        f.write(b'{"step": 4, "lo\xff\n[1]\n{"step": null}\n{"step": 5')
    odd = make_run(tmp_path / "odd.run", "stopped", 3)
    write_jsonl(odd / "metrics.jsonl", [{"step": 1, "seconds": "soon", "tokens": None}])
    nested = make_run(tmp_path / "nested.run", "finished", 1)
    (nested / "status.json").write_text("[" * 100_000)
    (tmp_path / "unnamed.run" / "status.json").mkdir(parents=True)
    (tmp_path / "link.run").symlink_to(torn)
    (tmp_path / "linked").symlink_to(tmp_path)
    make_run(tmp_path / ".hidden" / "x.run")
    make_run(tmp_path / "1" / "2" / "3" / "4" / "5" / "6" / "there.run")
    make_run(tmp_path / "1" / "2" / "3" / "4" / "5" / "6" / "7" / "too-deep.run")
    listed = runs(tmp_path)
    assert {path: r["state"] for path, r in listed.items()} == {
        "1/2/3/4/5/6/there.run": "stopped",
        "nested.run": "stopped",
        "odd.run": "unreadable",
        "thesis.run": "unreadable",
        "torn.run": "stopped",
        "unnamed.run": "stopped",
    }
    assert listed["thesis.run"]["message"] == "not a run of tellmt train" and "damaged" in listed["odd.run"]["message"]
    assert (listed["torn.run"]["step"], listed["torn.run"]["loss"], listed["torn.run"]["message"]) == (2, 2.0, "its status.json cannot be read")


def test_a_single_run_no_runs_and_no_directory(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "work" / "a.run", "stopped", 3, 2)
    assert runs(run)[str(run)]["step"] == 2
    monkeypatch.chdir(run.parent)
    assert main(["runs", "--json"]) == 0 and json.loads(capsys.readouterr().out)["runs"][0]["path"] == "a.run"
    (tmp_path / "empty").mkdir()
    assert main(["runs", str(tmp_path / "empty")]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "no runs in" in err
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert f"{tmp_path / 'nowhere'}: no such directory" in capsys.readouterr().err
