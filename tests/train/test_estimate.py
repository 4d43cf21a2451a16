"""`tellmt train --dry-run`: exact where it counts, near where it measures, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tell.console import clock
from tellmt.cli import main
from tests.support.training import make_mix
from train.estimate import _retime_compiled

RECIPE = "[train]\nepochs = {epochs}\nbatch_tokens = 512\nmicro_tokens = {micro}\nthreads = 1\ncompile = 'off'\n[lora]\nrank = 8\n"


@pytest.fixture
def train(tmp_path: Path, tiny: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    mixed = make_mix(tmp_path / "mixed", tiny, 120)

    def run(*args: str, code: int = 0, epochs: int = 8, micro: int = 256) -> tuple[Any, str]:
        (tmp_path / "r.toml").write_text(RECIPE.format(epochs=epochs, micro=micro))
        assert main(["train", "--mixed", str(mixed), "--recipe", str(tmp_path / "r.toml"), *args]) == code
        out, err = capsys.readouterr()
        return (json.loads(out) if out.startswith("{") else out), err

    return run


@pytest.mark.clock
def test_what_is_estimated_is_what_then_happens(train: Any, tmp_path: Path) -> None:
    before = sorted(p.name for p in tmp_path.rglob("*"))
    figures, _ = train("--dry-run", "--json")
    assert sorted({p.name for p in tmp_path.rglob("*")} - {"r.toml"}) == sorted(set(before) - {"r.toml"})
    card = train("-o", str(tmp_path / "adapter"), "--json")[0]["card"]
    assert (figures["tokens"], figures["steps"], figures["examples"]) == (card["training"]["tokens"], card["training"]["steps"], 150)
    assert figures["task_tokens"] < figures["tokens"] and figures["dtype"] == card["training"]["dtype"]
    # Seconds are compared where a machine has nothing else to do (docs/results/train-speed.md); here, that they are of that order.
    assert 0.2 < figures["seconds"] / card["training"]["seconds"] < 5
    assert 2**27 < figures["memory"] < 2**34


@pytest.mark.clock
def test_it_says_so_to_people_and_grows_with_the_work(train: Any) -> None:
    message, _ = train("--dry-run")
    for word in ("examples", "tokens", "steps", "micro-batches", "time", "memory", "GiB"):
        assert word in message
    once, often = train("--dry-run", "--json", epochs=1)[0], train("--dry-run", "--json", epochs=50)[0]
    assert often["tokens"] == 50 * once["tokens"] and often["seconds"] > 10 * once["seconds"]
    # Where padding goes up, it is seen.
    assert 0 <= once["padding"] < 0.5


def test_without_an_output_only_a_dry_run_is_possible(train: Any) -> None:
    assert "'-o'" in train(code=2)[1]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (150, "2 min"), (3599, "1 h 00 min"), (11_100, "3 h 05 min")])
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_what_had_code_compiled_for_it_is_timed_again() -> None:
    seconds = {0: 1.0, 1: 61.0, 2: 5.9, 3: 2.2}
    costs, again = [1.0, 1.0, 2.0, 2.0], []

    def timed(n: int) -> float:
        again.append(n)
        return 1.5

    assert _retime_compiled(seconds, costs.__getitem__, timed) == 59.5 and again == [1]
    assert seconds == {0: 1.0, 1: 1.5, 2: 5.9, 3: 2.2}
    # What is slow all the same is slow.
    assert _retime_compiled(slow := {0: 1.0, 1: 9.0}, costs.__getitem__, lambda n: 9.5) == 0 and slow == {0: 1.0, 1: 9.0}
