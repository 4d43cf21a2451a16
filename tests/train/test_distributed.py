"""Training on several processes, and with less memory than it would like: neither changes what is trained."""

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

from tell.adapter.card import WEIGHTS, read_header
from tests.conftest import Ran
from tests.support.training import make_mix
from train.distributed import ProcessGroup, world

CLI = Callable[..., Ran]
RECIPE = "seed = 3\n[train]\nbatch_tokens = 512\nmicro_tokens = 256\ndtype = 'float32'\ncompile = 'off'\nthreads = 1\n[lora]\nrank = 8\n"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tellmt"]


@pytest.fixture
def mixed(tmp_path: Path, tiny: Any) -> Path:
    (tmp_path / "r.toml").write_text(RECIPE)
    return make_mix(tmp_path / "mixed", tiny, 60)


def rows(adapter: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (adapter.parent / f"{adapter.name}.run" / "metrics.jsonl").read_text().split("\n") if line]


def train_on_two(mixed: Path, out: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, "train", "--mixed", mixed, "--recipe", mixed.parent / "r.toml", "-o", out, "--json"]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", **env}, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("spread", [False, True], ids=["whole base", "base spread over both"])
def test_two_processes_reach_the_loss_of_one(cli: CLI, mixed: Path, tmp_path: Path, spread: bool) -> None:
    cli("train", "--mixed", mixed, "--recipe", tmp_path / "r.toml", "-o", tmp_path / "one")
    ran = train_on_two(mixed, tmp_path / "two", **({"ACCELERATE_USE_FSDP": "true"} if spread else {}))
    assert ran.returncode == 0 and "Traceback" not in ran.stderr, ran.stderr
    # One result, from the first process alone.
    assert json.loads(ran.stdout)["card"]["training"]["processes"] == 2
    single, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(single) == len(two) >= 6
    for a, b in zip(single, two, strict=True):
        assert (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-4) and b["gradient_norm"] == pytest.approx(a["gradient_norm"], rel=1e-3)
    # They did not do the same work twice: a step of one process alone is another.
    assert len({r["loss"] for r in single}) == len(single)


def test_a_signal_stops_both_and_one_process_goes_on(cli: CLI, mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE.replace("[train]", "[train]\nepochs = 25\nsave_steps = 5"))
    out = tmp_path / "two"
    command = [*TORCHRUN, "train", "--mixed", mixed, "--recipe", tmp_path / "r.toml", "-o", out]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "two.run").glob("step-*/manifest.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=100)[1]
    assert process.returncode != 0 and err.count("the same command goes on from here") == 1, err
    saved = max((tmp_path / "two.run").glob("step-*"))
    # On as many processes as there happen to be.
    (tmp_path / "r.toml").write_text((tmp_path / "r.toml").read_text())
    ran = cli("train", "--mixed", mixed, "--recipe", tmp_path / "r.toml", "-o", out)
    assert f"going on from the checkpoint after step {int(saved.name.removeprefix('step-'))} " in ran.err
    assert [r["step"] for r in rows(out)] == list(range(1, len(rows(out)) + 1))


def test_shares_are_even_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = ProcessGroup()
    ranks.count = 3
    costs = [900, 100, 500, 400, 300, 200, 700, 800]
    shares = [ranks.assigned(costs, i) for i in range(3)]
    assert sorted(i for s in shares for i in s) == list(range(8))
    assert max(sum(costs[i] for i in s) for s in shares) <= 1.1 * sum(costs) / 3
    for rank, size in (("2", "2"), ("x", "2"), ("-1", "1")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        with pytest.raises(Exception, match="not a rank"):
            world()


# Loads what training loads, then allows so much more data memory than that.
LIMITED = """
import resource, sys
import torch, transformers, peft, safetensors.torch
from tellmt.cli import entry
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (now + int(sys.argv.pop(1)), resource.RLIM_INFINITY))
sys.argv[0] = "tellmt"
entry()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit on data memory is Linux's")
def test_a_step_that_does_not_fit_into_memory_is_cut_smaller(cli: CLI, tmp_path: Path, tiny: Any) -> None:
    mixed = make_mix(tmp_path / "big", tiny, 1000)
    (tmp_path / "r.toml").write_text(RECIPE.replace("512", "50_000").replace("256", "50_000"))
    roomy = cli("train", "--mixed", mixed, "--recipe", tmp_path / "r.toml", "-o", tmp_path / "roomy")
    assert "out of memory" not in roomy.err

    def limited(megabytes: int, out: str, recipe: str = "r.toml") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LIMITED, str(megabytes << 20), "train", "--mixed", mixed, "--recipe", tmp_path / recipe, "-o", tmp_path / out]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    ran = limited(300, "tight")
    assert ran.returncode == 0 and "Traceback" not in ran.stderr, ran.stderr
    assert "out of memory: micro-batches of at most" in ran.stderr and "a step stays 50,000 tokens" in ran.stderr
    wide, narrow = rows(tmp_path / "roomy"), rows(tmp_path / "tight")
    assert [r["tokens"] for r in wide] == [r["tokens"] for r in narrow]
    assert [r["loss"] for r in wide] == pytest.approx([r["loss"] for r in narrow], abs=1e-4)


def test_a_base_in_four_bits(cli: CLI, mixed: Path, tmp_path: Path) -> None:
    """Trains like the whole one, if not to the same digits, and the adapter is of the same kind."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    cli("train", "--mixed", mixed, "--recipe", tmp_path / "r.toml", "-o", tmp_path / "whole")
    (tmp_path / "q.toml").write_text(RECIPE.replace("[train]", "[train]\nquantisation = 'nf4'"))
    ran = cli("train", "--mixed", mixed, "--recipe", tmp_path / "q.toml", "-o", tmp_path / "bits", "--json")
    assert ran.json["card"]["recipe"]["train"]["quantisation"] == "nf4"
    a, b = rows(tmp_path / "whole"), rows(tmp_path / "bits")
    assert [r["loss"] for r in b] == pytest.approx([r["loss"] for r in a], rel=0.05)
    assert [r["loss"] for r in b] != [r["loss"] for r in a]
    assert read_header(tmp_path / "bits" / WEIGHTS) == read_header(tmp_path / "whole" / WEIGHTS)


def test_four_bits_are_not_spread(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tellmt.cli import main

    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    monkeypatch.setattr(ProcessGroup, "sharded", property(lambda self: True, lambda self, value: None), raising=False)
    (tmp_path / "q.toml").write_text(RECIPE.replace("[train]", "[train]\nquantisation = 'nf4'"))
    assert main(["train", "--mixed", str(mixed), "--recipe", str(tmp_path / "q.toml"), "-o", str(tmp_path / "none")]) == 2
    assert "cannot be spread" in capsys.readouterr().err


def test_without_bitsandbytes(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tellmt.cli import main

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    (tmp_path / "q.toml").write_text(RECIPE.replace("[train]", "[train]\nquantisation = 'nf4'"))
    assert main(["train", "--mixed", str(mixed), "--recipe", str(tmp_path / "q.toml"), "-o", str(tmp_path / "none")]) != 0
    assert "tellmt[quantised]" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_not_even_one_example_fits(tiny: Any, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory that fails at every size, in this process; what was there is kept."""
    import torch

    import train.stepper
    from tellmt.cli import main

    def full(*args: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(train.stepper, "backward", full)
    assert main(["train", "--mixed", str(mixed), "--recipe", str(tmp_path / "r.toml"), "-o", str(tmp_path / "none")]) == 1
    err = capsys.readouterr().err
    assert "not enough memory for one example" in err and "gradient_checkpointing" in err and "at most" in err
    assert not (tmp_path / "none").exists()


def test_training_loads_nothing_that_it_does_not_use() -> None:
    """Each would cost memory and time in every process; afterwards they can be had as ever."""
    code = """
import sys
from tell.extras import need
for name in ("torch", "transformers", "peft"):
    need(name, "train")
from train.model import load_model
from tell.model.base import Base
try:
    load_model(Base.model_construct(path="/nowhere"), None, "float32", "cpu", 0)
except Exception as e:
    print(type(e).__name__)
print([m for m in ("sklearn", "scipy", "pandas", "matplotlib") if m in sys.modules])
import sklearn.cluster
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.split("\n")[1] == "[]", done.stdout + done.stderr
