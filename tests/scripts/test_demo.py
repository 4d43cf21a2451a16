"""scripts/demo.py as `make demo` calls it, on a tiny base: real stages, a real service, a real Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.support.tiny import make_tiny_base

RECIPE = """
pair = "is-en"
base = "tiny"
seed = 1
[mix]
ratio = {ratio}
[train]
learning_rate = 0.01
epochs = 1
batch_tokens = 512
micro_tokens = 1024
dtype = "float32"
threads = 1
[decoding]
length_factor = 0.65
length_extra = 4
"""
# A tiny base writes rubbish, and what rubbish depends on how a processor rounds. That the gate lets a real one through is for test_real_base.py.
FORCED = {"TELLMT_PUBLISH_FORCE": "1", "TELLMT_PUBLISH_WHY": "a test"}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def command(work: Path, port: int, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "demo.py"), "--port", str(port), "--work", str(work), "--recipe", str(work.parent / "recipe.toml"), *more]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE.format(ratio=0.1))
    make_tiny_base(Path(os.environ["TELLMT_CACHE"]))
    return tmp_path / "work"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_the_sample_to_a_service_and_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FORCED.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    first = run(*command(work, port, "--once"))
    assert first.returncode == 0, first.stderr[-2000:]
    # Every stage, in order, each with its time.
    assert re.findall(r"^=== (\d+)/11 ", first.stderr, re.M) == [str(n) for n in range(1, 12)]
    typed = re.findall(r"^\$ (?:TELLMT_REGISTRY=\S+ )?tellmt (\w+)", first.stderr, re.M)
    assert typed == ["doctor", "base", "corpus", "lexicon", "lexicon", "mix", "train", "decoding", "score", "publish", "serve"]
    assert len(re.findall(r", \d+\.\d s$", first.stderr, re.M)) >= 5 and "kept " not in first.stderr.split("=== 7/11")[1]
    # The table and the sentences, on stdout.
    for expected in ("BLEU", "chrF2", "version:2.", "bare base", "with adapter", "p = 0.", "Hvað kostar að leigja bíl"):
        assert expected in first.stdout
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False)

    log = work.parent / "second.log"
    began = time.monotonic()
    with log.open("wb") as out:
        second = subprocess.Popen(command(work, port), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            while "Ctrl-C" not in (text := log.read_text()):
                assert second.poll() is None and time.monotonic() - began < 200, text
                time.sleep(0.1)
            assert [w for w, _ in re.findall(r"^    (wrote|kept) (\S+) ", text, re.M)] == ["kept"] * 8
            assert "wrote " not in text.split("=== 11/11")[0].replace("wrote the", "")
            answer = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
            assert answer.status_code == 200 and "<html" in answer.text
            second.send_signal(signal.SIGINT)
            assert second.wait(30) == 130
        finally:
            second.kill()
    assert log.read_text().endswith("demo: stopped\n") and "Traceback" not in log.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False)


def test_a_port_in_use_is_said_before_anything_is_done(work: Path) -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        done = run(*command(work, occupied.getsockname()[1]))
    assert done.returncode == 1 and "is in use; choose another: make demo PORT=" in done.stderr
    assert not work.exists()


def test_a_port_that_is_none() -> None:
    done = run(sys.executable, str(ROOT / "scripts" / "demo.py"), "--port", "99999")
    assert done.returncode == 2 and "valid: 1 to 65535" in done.stderr


def test_a_failing_stage_ends_it_with_its_own_message_and_code(work: Path) -> None:
    (work.parent / "recipe.toml").write_text(RECIPE.format(ratio=50))
    done = run(*command(work, free_port(), "--once"))
    assert done.returncode == 2, done.stderr
    assert "not enough general data for this ratio" in done.stderr
    assert done.stderr.strip().split("\n")[-1].startswith("demo: stage 6 (Anchor")
    assert (work / "corpus" / "corpus.json").exists() and not (work / "mixed").exists()


def test_a_recipe_with_a_mistyped_key_is_found_first(work: Path) -> None:
    (work.parent / "recipe.toml").write_text('bsae = "tiny"\n')
    done = run(*command(work, free_port(), "--once"))
    assert done.returncode == 2 and "base (did you mean this?)" in done.stderr and "===" not in done.stderr


def test_a_service_that_cannot_start_shows_its_log(work: Path) -> None:
    """The log's end is shown and the exit code is the service's: here its registry is a plain file by then."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts" / "demo.py")
    assert spec and spec.loader
    demo = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = demo
    try:
        spec.loader.exec_module(demo)
        work.mkdir()
        shutil.rmtree(os.environ["TELLMT_REGISTRY"], ignore_errors=True)
        Path(os.environ["TELLMT_REGISTRY"]).write_text("")
        with pytest.raises(demo.DemoFailed, match="the service ended with exit code"):
            demo.start_service(free_port(), work / "serve.log", dict(os.environ))
    finally:
        del sys.modules["demo"]
    assert (work / "serve.log").read_text().startswith("tellmt: ")
