"""What a person sees of a run: the picture, metrics.jsonl, and the programs that follow it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import train.trackers
from tests.support.training import Run, make_mix, metrics, runner
from train.plot import read_rows, smoothed

RECIPE = "seed = 3\n[train]\nbatch_tokens = 256\nmicro_tokens = 256\nsave_steps = 100\nthreads = 1\n"


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


@pytest.fixture
def command(tiny: Any, tmp_path: Path) -> list[Any]:
    make_mix(tmp_path / "mixed", tiny, 20)
    (tmp_path / "r.toml").write_text(RECIPE)
    return ["train", "--mixed", tmp_path / "mixed", "--recipe", tmp_path / "r.toml", "-o", tmp_path / "adapter"]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """SIGTERM as soon as step `step` has been written down: it is heeded after the one that follows."""
    import train.progress

    real = train.progress.RunProgress.step

    def hit(self: Any, row: dict[str, Any], *rest: Any) -> None:
        real(self, row, *rest)
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train.progress.RunProgress, "step", hit)


def shape(png: Path) -> tuple[int, int]:
    raw = png.read_bytes()
    assert raw.startswith(b"\x89PNG\r\n\x1a\n") and raw.endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")


def test_a_picture_is_drawn_when_a_run_stops_and_again_when_it_ends(tellmt: Run, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "adapter.run" / "training.png"
    with monkeypatch.context() as m:
        interrupt_at(m, 2)
        assert tellmt(*command)[0] == 143
    assert shape(picture) > (1000, 500)
    stopped = picture.read_bytes()
    code, out, err = tellmt(*command, "--json")
    assert code == 0, err
    assert json.loads(out)["plot"] == str(picture)
    assert picture.read_bytes() != stopped and shape(picture) > (1000, 500)
    rows = metrics(tmp_path / "adapter.run")
    assert [r["step"] for r in rows] == list(range(1, json.loads(out)["card"]["training"]["steps"] + 1))
    assert rows[-1].keys() == {"step", "loss", "learning_rate", "gradient_norm", "tokens", "seconds"}
    # Also for people, and when nothing was to be done.
    _, out, _ = tellmt(*command)
    assert "training.png" in out.replace("\n", "")
    assert "tokens/s" in err and "% task" in err and "min left" in err


def test_a_picture_that_cannot_be_drawn_costs_no_run(tellmt: Run, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import train.plot

    def broken(*_: Any) -> bytes:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(train.plot, "_png", broken)
    code, out, err = tellmt(*command, "--json")
    assert code == 0 and "warning: no picture of the run (RuntimeError: no fonts)" in err and json.loads(out)["plot"] is None


def test_the_picture_shows_the_last_row_of_each_step(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": loss} for s, loss in ((1, 9.0), (2, 8.0), (3, 7.0), (2, 1.0), (3, 2.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"step": 4, "lo')
    assert [(r["step"], r["loss"]) for r in read_rows(tmp_path / "metrics.jsonl")] == [(1, 9.0), (2, 1.0), (3, 2.0)]
    assert read_rows(tmp_path / "none.jsonl") == []
    assert smoothed([1.0] * 200) == pytest.approx([1.0] * 200) and smoothed([0, 0, 10, 0, 0])[2] == 2.0


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_gets_what_metrics_say_and_a_resumed_run_goes_on_in_its_log(
    tellmt: Run, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "r.toml").write_text(RECIPE + 'report_to = "tensorboard"\n')
    with monkeypatch.context() as m:
        interrupt_at(m, 2)
        assert tellmt(*command)[0] == 143
    assert [s for s, _ in events(tmp_path / "adapter.run" / "tensorboard")["loss"]] == [1, 2, 3]
    code, _, err = tellmt(*command)
    assert code == 0 and "going on from the checkpoint after step 3" in err
    logged, rows = events(tmp_path / "adapter.run" / "tensorboard"), metrics(tmp_path / "adapter.run")
    assert len(rows) > 3
    for tag in ("loss", "learning_rate", "gradient_norm"):
        assert logged[tag] == [(r["step"], pytest.approx(r[tag], rel=1e-6)) for r in rows]
    assert all(value > 0 for _, value in logged["tokens_per_second"])
    # The recipe is the run's configuration, written once.
    (logged,) = (tmp_path / "adapter.run" / "tensorboard").glob("*/hparams.yml")
    assert "train.batch_tokens: 256" in logged.read_text() and "lora.rank: 16" in logged.read_text()
    # What follows a run is no part of it.
    (tmp_path / "r.toml").write_text(RECIPE)
    code, out, _ = tellmt(*command, "--json")
    assert code == 0 and json.loads(out)["reused"]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_said_before_training(
    tellmt: Run, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(train.trackers, "installed", lambda module: module != name)
    (tmp_path / "r.toml").write_text(RECIPE + f'report_to = ["{name}"]\n')
    code, _, err = tellmt(*command)
    assert code == 1 and f"[train]: report_to asks for {name}, which is not installed; valid: run: pip install {name}" in err
    assert not (tmp_path / "adapter.run").exists()


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tellmt: Run, command: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from accelerate.tracking import TensorBoardTracker

    def lost(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is gone")

    (tmp_path / "r.toml").write_text(RECIPE + 'report_to = "tensorboard"\n')
    with monkeypatch.context() as m:
        m.setattr(TensorBoardTracker, "log", lost)
        code, _, err = tellmt(*command)
    assert code == 0 and err.count("tensorboard is left out from step 1 on (the server is gone)") == 1
    with monkeypatch.context() as m:
        m.setattr(TensorBoardTracker, "start", lost)
        code, _, err = tellmt(*command, "--force")
    assert code == 1 and "a tracker cannot be opened; found the server is gone" in err
