"""The scripts for runs of nine minutes on a GPU, dry: what they ask for, in which order, what is written when, and how the next call goes on. The Python that
they call is a stub; what they really run has tests of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = """#!/usr/bin/env bash
# Records what it is asked for; fails or hangs where a file says so.
echo "$*" >> "$STUB_DIR/asked"
[ "$1" != -c ] || exit 0
module=$2; shift 2
for last; do :; done
case $module in
    benchmarks.training.shaped_base) mkdir -p "$1"; touch "$1/config.json"; exit 0 ;;
    tellmt)
        [ "$1" = study ] || exit 0
        out=; while [ $# -gt 0 ]; do [ "$1" != -o ] || out=$2; shift; done
        mkdir -p "$out/runs/x/adapter" "$out/report"
        touch "$out/runs/x/adapter/weights" "$out/runs/x/losses.jsonl" "$out/report/study.md"
        echo '{"id": "x"}' >> "$out/results.jsonl"
        exit 0 ;;
esac
[ ! -f "$STUB_DIR/hang" ] || sleep 60
[ ! -f "$STUB_DIR/fail-$module" ] || { echo "no such thing" >&2; exit 3; }
echo "{\\"module\\": \\"$module\\"}"
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    python = tmp_path / "python"
    python.write_text(STUB)
    python.chmod(0o755)
    monkeypatch.setenv("STUB_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHON", str(python))
    monkeypatch.setenv("BIG", str(tmp_path / "big"))
    return tmp_path


def script(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / args[0] if isinstance(args[0], str) else args[0]), *map(str, args[1:])]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **env})


def asked(stub: Path) -> list[str]:
    """What was asked for, but for the metadata that a fresh checkout lacks."""
    return [line for line in (stub / "asked").read_text().split("\n")[:-1] if not line.startswith("-c ")]


def parts(out: Path) -> list[list[str]]:
    return [line.split("\t") for line in (out / "parts.tsv").read_text().split("\n")[:-1]]


def test_parts_are_run_in_the_order_of_their_worth_and_each_is_written(stub: Path) -> None:
    ran = script("benchmarks/gpu.sh", stub / "out", 20)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [p[0] for p in parts(stub / "out")] == ["train", "adapters", "throughput", "hotload", "batch", "mixed", "train-4b", "adapters-4b", "studies"]
    modules = [line.split()[1] for line in asked(stub)]
    assert modules[:3] == ["benchmarks.training.bench_train", "benchmarks.serving.many_adapters", "benchmarks.serving.bench_serve"]
    assert "-m benchmarks.serving.many_adapters --adapters 1,8,64" in asked(stub) and "--only hotload,live --json" in "\n".join(asked(stub))
    assert json.loads((stub / "out" / "train.json").read_text()) == {"module": "benchmarks.training.bench_train"}
    # The shape is made once, and everything is there already the next time.
    assert modules.count("benchmarks.training.shaped_base") == 1 and f"-m tellmt base fetch {stub / 'big'}" in asked(stub)
    before = asked(stub)
    assert script("benchmarks/gpu.sh", stub / "out", 20).returncode == 0 and asked(stub) == before


def test_a_part_that_fails_is_tried_after_the_others_and_one_without_time_is_not_begun(stub: Path) -> None:
    (stub / "fail-benchmarks.training.bench_train").touch()
    ran = script("benchmarks/gpu.sh", stub / "out", 20, PARTS="train adapters")
    assert ran.returncode == 1 and "1 parts are missing" in ran.stdout
    assert [(p[0], p[2]) for p in parts(stub / "out")] == [("train", "3"), ("adapters", "0")] and "no such thing" in (stub / "out" / "train.log").read_text()
    (stub / "fail-benchmarks.training.bench_train").unlink()
    assert script("benchmarks/gpu.sh", stub / "out", 20, PARTS="train adapters batch").returncode == 0
    assert [p[0] for p in parts(stub / "out")][2:] == ["batch", "train"]
    ran = script("benchmarks/gpu.sh", stub / "short", 2, PARTS="train studies")
    assert ran.returncode == 1 and "train: needs up to 150 s" in ran.stdout and (stub / "short" / "studies.json").exists()


def test_a_part_is_stopped_when_the_time_is_over(stub: Path) -> None:
    (stub / "hang").touch()
    began = time.monotonic()
    ran = script("benchmarks/gpu.sh", stub / "out", "0.05", SIZE="tiny", PARTS="adapters")
    assert ran.returncode == 1 and time.monotonic() - began < 45
    assert not (stub / "out" / "adapters.json").exists() and "--requests 4" in asked(stub)[0]


def test_the_study_on_a_gpu_saves_its_results_and_goes_on_from_them(stub: Path) -> None:
    state = stub / "state"
    state.mkdir()
    ran = script("train/recipes/study-gpu.sh", state, stub / "out", 9, 4)
    assert ran.returncode == 0, ran.stderr
    assert "study study-cpu.toml -o cpu-pairs --jobs 4 --minutes 9 --speed 3000 --no-scores" in asked(stub)[0]
    with tarfile.open(stub / "out" / "study.tar.gz") as tar:
        names = tar.getnames()
    assert "cpu-pairs/results.jsonl" in names and "cpu-pairs/runs/x/losses.jsonl" in names and not [n for n in names if "adapter" in n]
    # Another machine has only what came back.
    other = stub / "other"
    other.mkdir()
    (other / "study.tar.gz").write_bytes((stub / "out" / "study.tar.gz").read_bytes())
    assert script("train/recipes/study-gpu.sh", other, stub / "again", 9).returncode == 0
    assert (other / "cpu-pairs" / "results.jsonl").read_text() == '{"id": "x"}\n' * 2
    assert (stub / "again" / "report.tar.gz").exists()
