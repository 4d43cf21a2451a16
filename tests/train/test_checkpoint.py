"""What a run keeps and what it survives: damaged checkpoints, killed writers, a second process, a full disk, changed settings."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import WEIGHTS
from tell.files import sha256_file, write_json
from tellmt.cli import main
from tests.support.training import make_mix
from train.checkpoint import MANIFEST, TENSORS, DamagedCheckpoint, latest_checkpoint, read_checkpoint, save_checkpoint, truncate_metrics, write_checkpoint
from train.run_dir import clear_partial_writes, locked

RECIPE = """seed = 3
[train]
batch_tokens = 128
micro_tokens = 128
save_steps = 2
threads = 1
dtype = "float32"
compile = "off"
[lora]
rank = 8
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run in this process: exit code, stdout, stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        code = main([*map(str, args)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def command(tmp_path: Path, tiny: Any) -> list[str]:
    """Trains tmp_path/adapter in a few steps."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    make_mix(tmp_path / "mixed", tiny, 12)
    return ["train", "--mixed", str(tmp_path / "mixed"), "--recipe", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "adapter")]


@pytest.fixture
def stopped(tellmt: Run, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run that was cut off while it wrote its third checkpoint: steps 2 and 4 are saved, 6 is in the metrics."""
    import train.loop

    with monkeypatch.context() as patch:

        def save_twice(run_dir: Path, step: int, *rest: Any) -> None:
            if step > 4:
                raise KeyboardInterrupt
            save_checkpoint(run_dir, step, *rest)

        patch.setattr(train.loop, "save_checkpoint", save_twice)
        assert tellmt(*command)[0] == 130
    assert steps(tmp_path / "adapter.run") == [1, 2, 3, 4, 5, 6]
    return tmp_path / "adapter.run"


def steps(run_dir: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().split("\n") if line]


def status(run_dir: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run_dir / "status.json").read_text())
    return values


def a_checkpoint(path: Path, step: int = 5) -> None:
    import torch

    write_checkpoint(path, step, {"master:a": torch.arange(6.0), "exp_avg:a": torch.ones(3)}, {"tokens": 7, "recent": [0.1, 1e-9], "dev": {"best": 31.5}})


# --- a checkpoint by itself


def test_a_checkpoint_comes_back_as_it_was_under_any_name(tmp_path: Path) -> None:
    a_checkpoint(tmp_path / "best")
    step, tensors, progress = read_checkpoint(tmp_path / "best")
    assert (step, progress) == (5, {"tokens": 7, "recent": [0.1, 1e-9], "dev": {"best": 31.5}})
    assert tensors["master:a"].tolist() == [0, 1, 2, 3, 4, 5] and tensors["exp_avg:a"].tolist() == [1, 1, 1]
    a_checkpoint(tmp_path / "best", 8)
    assert read_checkpoint(tmp_path / "best")[0] == 8 and [p.name for p in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("flip", [1, 0x20, 0x80, 0xFF])
@pytest.mark.parametrize("name", [MANIFEST, TENSORS])
def test_no_byte_can_change_unseen(tmp_path: Path, name: str, flip: int) -> None:
    a_checkpoint(tmp_path / "c")
    whole = (tmp_path / "c" / name).read_bytes()
    for at in range(len(whole)):
        (tmp_path / "c" / name).write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        with pytest.raises(DamagedCheckpoint):
            read_checkpoint(tmp_path / "c")
    (tmp_path / "c" / name).write_bytes(whole)
    assert read_checkpoint(tmp_path / "c")[0] == 5


@pytest.mark.parametrize("name", [MANIFEST, TENSORS])
def test_no_byte_can_be_missing_unseen(tmp_path: Path, name: str) -> None:
    a_checkpoint(tmp_path / "c")
    whole = (tmp_path / "c" / name).read_bytes()
    for cut in (*(whole[:n] for n in range(len(whole))), whole + b"\n", whole.replace(b"\n", b"\r\n") + b" "):
        (tmp_path / "c" / name).write_bytes(cut)
        with pytest.raises(DamagedCheckpoint):
            read_checkpoint(tmp_path / "c")
    (tmp_path / "c" / name).unlink()
    with pytest.raises(DamagedCheckpoint, match=name):
        read_checkpoint(tmp_path / "c")


def test_two_checkpoints_are_kept_and_damaged_ones_are_not_among_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    for step in (2, 4, 6):
        save_checkpoint(tmp_path, step, {"a": torch.ones(1)}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004", "step-00000006"]
    (tmp_path / "step-00000006" / MANIFEST).write_text("{}")
    # A directory that was renamed holds another step than it says.
    shutil.copytree(tmp_path / "step-00000004", tmp_path / "step-00000009")
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint[0] == 4
    err = capsys.readouterr().err
    assert "checkpoint step-00000006 is damaged" in err and "step-00000009 is damaged and not used (it holds step 4)" in err
    save_checkpoint(tmp_path, 7, {"a": torch.ones(1)}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004", "step-00000007"]


@pytest.mark.parametrize(
    ("text", "step", "leftover"),
    [
        ("1 2 3 4", 2, [1, 2]),
        ("1 2 3 4", 4, [1, 2, 3, 4]),
        ("1 2 3 4", 0, []),
        ("1 2 TORN", 2, [1, 2]),
        ("1 2 TORN 3", 3, [1, 2, 3]),
        # What versions before this one left behind: steps that were done twice.
        ("1 2 3 2 3", 3, [1, 2, 3]),
        ("", 3, []),
    ],
)
def test_metrics_are_cut_to_the_checkpoint(tmp_path: Path, text: str, step: int, leftover: list[int]) -> None:
    rows = [f'{{"step": {x}, "loss": {i}}}\n' if x.isdigit() else '{"step": 1, "lo\n' for i, x in enumerate(text.split())]
    (tmp_path / "metrics.jsonl").write_text("".join(rows) + ('{"step": 3}' if "TORN" in text else ""))
    truncate_metrics(tmp_path, step)
    assert steps(tmp_path) == leftover


def test_what_killed_writers_left_is_removed_and_what_they_had_moved_away_is_put_back(tmp_path: Path) -> None:
    for name in (".step-00000006.new.ab12_xyz", ".best.old.k3j_aaaa/best", ".adapter.new.q1w2e3r4"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("x")
    for name in (".status.json.ab12_xyz", ".hidden", ".config.toml", "metrics.jsonl"):
        (tmp_path / name).write_text("x")
    clear_partial_writes(tmp_path, only="adapter")
    assert not (tmp_path / ".adapter.new.q1w2e3r4").exists() and (tmp_path / ".step-00000006.new.ab12_xyz").exists()
    clear_partial_writes(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".config.toml", ".hidden", "best", "metrics.jsonl"]
    assert (tmp_path / "best" / "file").read_text() == "x"


# --- a run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> Iterator[str]:
    """The hash of the weights that an undisturbed run ends with."""
    from tests.support.tiny import make_tiny_base

    place = tmp_path_factory.mktemp("whole")
    (place / "recipe.toml").write_text(RECIPE)
    make_mix(place / "mixed", make_tiny_base(tiny_cache), 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLMT_CACHE", str(tiny_cache))
        assert main(["train", "--mixed", str(place / "mixed"), "--recipe", str(place / "recipe.toml"), "-o", str(place / "adapter")]) == 0
    yield sha256_file(place / "adapter" / WEIGHTS)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ({}, "going on from the checkpoint after step 4"),
        ({4: TENSORS}, "going on from the checkpoint after step 2"),
        ({4: MANIFEST}, "going on from the checkpoint after step 2"),
        ({4: MANIFEST, 2: TENSORS}, "no checkpoint in"),
    ],
)
def test_a_run_goes_on_from_the_newest_checkpoint_that_verifies(
    tellmt: Run, command: list[str], stopped: Path, whole: str, damaged: dict[int, str], message: str
) -> None:
    for step, name in damaged.items():
        file = stopped / f"step-{step:08}" / name
        file.write_bytes(file.read_bytes()[:-1])
    (stopped / ".step-00000006.new.abcdefgh").mkdir()
    code, _, err = tellmt(*command)
    assert code == 0 and message in err
    assert err.count("is damaged and not used") == len(damaged)
    assert sha256_file(stopped.parent / "adapter" / WEIGHTS) == whole
    rows = steps(stopped)
    assert rows == list(range(1, len(rows) + 1)) and len(rows) > 6
    # Nothing is left but what stays for good.
    assert {p.name for p in stopped.iterdir()} <= {"metrics.jsonl", "status.json", "training.png"}
    assert status(stopped)["state"] == "finished" and status(stopped)["total"] == len(rows)


@pytest.mark.parametrize("change", ["mixed data", "base", "train.learning_rate", "seed"])
def test_a_run_is_not_continued_as_another(tellmt: Run, command: list[str], stopped: Path, tmp_path: Path, tiny: Any, change: str) -> None:
    before = {p.name: sha256_file(p / TENSORS) for p in stopped.glob("step-*")}
    again = list(command)
    if change == "mixed data":
        make_mix(tmp_path / "mixed", tiny, 13)
    elif change == "base":
        # As if the base had been another one when the run began: its files are shared between tests.
        write_json(stopped / "run.json", {**json.loads((stopped / "run.json").read_text()), "base": "0" * 64})
    elif change == "seed":
        again += ["--seed", "9"]
    else:
        (tmp_path / "recipe.toml").write_text(RECIPE.replace("[train]", "[train]\nlearning_rate = 5e-4"))
    code, _, err = tellmt(*again)
    assert code == 2 and f"found changed: {change};" in err and "--restart" in err
    assert {p.name: sha256_file(p / TENSORS) for p in stopped.glob("step-*")} == before


def test_a_run_whose_record_is_damaged_is_not_guessed_at(tellmt: Run, command: list[str], stopped: Path) -> None:
    (stopped / "run.json").write_text("{")
    code, _, err = tellmt(*command)
    assert code == 2 and f"{stopped / 'run.json'}: the record of an unfinished run is damaged" in err and "--restart" in err
    (stopped / "notes.txt").write_text("mine")
    code, _, err = tellmt(*command, "--restart")
    assert code == 0 and "going on" not in err and (stopped / "notes.txt").read_text() == "mine"


def test_checkpoints_of_nobody_are_not_gone_on_from(tellmt: Run, command: list[str], stopped: Path, whole: str) -> None:
    (stopped / "run.json").unlink()
    code, _, err = tellmt(*command)
    assert code == 0 and "going on" not in err and sha256_file(stopped.parent / "adapter" / WEIGHTS) == whole


def test_killed_after_the_adapter_was_written(tellmt: Run, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import train.run_dir

    def killed(run_dir: Path, status: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.run_dir, "_finish", killed)
        assert tellmt(*command)[0] == 130
    run_dir = tmp_path / "adapter.run"
    assert list(run_dir.glob("step-*"))
    code, _, err = tellmt(*command)
    assert code == 0 and "unchanged, reused" in err
    assert not list(run_dir.glob("step-*")) and not (run_dir / "run.json").exists() and status(run_dir)["state"] == "finished"
    # Or a moment later, when only the lock was left to take away.
    (run_dir / "lock").write_text("1\n")
    assert tellmt(*command)[0] == 0 and not (run_dir / "lock").exists()


def test_one_process_to_a_directory(tellmt: Run, command: list[str], stopped: Path) -> None:
    # A lock is that of an open file: the second one is kept out in the same process too.
    with locked(stopped):
        code, _, err = tellmt(*command)
        assert code == 1 and f"{stopped}: another process trains here; found pid {os.getpid()}; valid: wait for it" in err
        assert sorted(p.name for p in stopped.glob("step-*")) == ["step-00000002", "step-00000004"]
    assert not (stopped / "lock").exists() and tellmt(*command)[0] == 0


def test_the_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from train.run_dir import locked\nwith locked(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        with pytest.raises(Exception, match=f"pid {process.pid}"), locked(tmp_path):
            pass
        process.kill()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


# --- a full disk


def limited(command: list[str], size: int) -> subprocess.CompletedProcess[str]:
    """The command where no file may be larger than `size` bytes, which a system reports as it does a full disk."""

    def preexec() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run([sys.executable, "-m", "tellmt", *command], capture_output=True, text=True, preexec_fn=preexec, check=False, timeout=200)


@pytest.mark.parametrize(("what", "size"), [("checkpoint", 100_000), ("metrics", 900)])
def test_no_room_for_more(tellmt: Run, command: list[str], stopped: Path, tmp_path: Path, whole: str, what: str, size: int) -> None:
    before = {p.name: read_checkpoint(p)[0] for p in stopped.glob("step-*")}
    if what == "metrics":
        # What a step writes is less than what any other file takes, so those before it are made small.
        size = (stopped / "metrics.jsonl").stat().st_size - 100
    ran = limited(command, size)
    place = stopped / ("step-00000006" if what == "checkpoint" else "metrics.jsonl")
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert f"{place}: cannot be written; found File too large" in ran.stderr and "free some space and run the same command again" in ran.stderr
    assert ran.stderr.count("cannot be written") == 1
    assert {p.name: read_checkpoint(p)[0] for p in stopped.glob("step-*")} == before and not (tmp_path / "adapter").exists()
    assert status(stopped)["state"] == "failed" and "File too large" in status(stopped)["message"]
    assert not [p for p in (*stopped.iterdir(), *tmp_path.iterdir()) if p.name.startswith(".")]
    code, _, err = tellmt(*command)
    assert code == 0 and "going on from the checkpoint after step 4" in err and sha256_file(tmp_path / "adapter" / WEIGHTS) == whole


def test_no_room_for_the_adapter(tellmt: Run, command: list[str], tmp_path: Path, whole: str) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("save_steps = 2", "save_steps = 50"))
    ran = limited(command, 60_000)
    assert ran.returncode == 1 and "Traceback" not in ran.stderr and f"{tmp_path / 'adapter'}: cannot be written; found File too large" in ran.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter.run", "mixed", "recipe.toml"]
    assert status(tmp_path / "adapter.run")["state"] == "failed"
    code, _, _ = tellmt(*command)
    assert code == 0 and sha256_file(tmp_path / "adapter" / WEIGHTS) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MB; skips where none can be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system can only be mounted by root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "none", place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_full(tellmt: Run, command: list[str], small_disk: Path, whole: str) -> None:
    """One checkpoint fits and a second one does not; then nothing does; then there is room."""
    command[-1] = str(small_disk / "adapter")
    run_dir = small_disk / "adapter.run"
    block = small_disk / "block"
    block.write_bytes(b"\0" * 1_130_000)
    code, _, err = tellmt(*command)
    assert code == 1 and "cannot be written; found No space left on device" in err and str(run_dir / "step-") in err
    saved = sorted(run_dir.glob("step-*"))
    assert saved and all(read_checkpoint(p) for p in saved) and status(run_dir)["state"] == "failed" and "No space" in status(run_dir)["message"]
    with pytest.raises(OSError), block.open("ab", buffering=0) as f:
        while f.write(b"\0" * 4096):
            pass
    code, _, err = tellmt(*command)
    assert code == 1 and "No space left on device" in err and all(read_checkpoint(p) for p in saved)
    block.unlink()
    code, _, err = tellmt(*command)
    assert code == 0 and "going on from the checkpoint" in err and sha256_file(small_disk / "adapter" / WEIGHTS) == whole
