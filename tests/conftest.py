"""Fixtures every test file shares: an isolated home, the CLI as a user runs it, and a tiny real base."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


# These share engines that take half a minute to start, so one worker has all of them.
ENGINES = {"test_engines", "test_checkpoint", "test_closing", "test_openai"}

# What takes longest, longest first. Two workers take file after file, and a long one at the end would leave one of them idle.
LONGEST = [
    "engines",
    "test_real_base.py",
    "train/test_distributed.py",
    "train/test_train.py",
    "eval/study/test_study.py",
    "test_bases.py",
    "serve/engines/ct2/test_ct2.py",
    "serve/engines/ct2/test_model_cache.py",
    "tellmt/pair/test_pair.py",
    "scripts/test_demo.py",
    "serve/test_shutdown.py",
    "serve/test_cli.py",
    "tell/select/test_selection.py",
    "serve/adapters/test_follower.py",
    "eval/gate/test_publish.py",
    "eval/scoring/test_score.py",
    "tellmt/test_api.py",
    "serve/files/test_own_engine.py",
    "serve/scheduling/test_load.py",
    "test_earlier.py",
]

# Commands that load torch or the model of languages, which a process forked from one that has them need not do again (tests/support/warm.py).
WARM = {"train", "select", "losses", "corpus", "mix", "registry"}

# A shell that starts the tests in the background has SIGINT ignored, and every command under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def unit(file: str) -> str:
    """What one worker takes whole: a file, by its path under tests/, or the files of ENGINES together."""
    path = Path(file)
    return "engines" if path.stem in ENGINES and path.parent.name == "engines" else file.removeprefix(f"{ROOT}/").removeprefix("tests/")


ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def pytest_configure() -> None:
    """Of several workers each, with all it starts, keeps to cores of its own: their engines' threads wait for one another by spinning, and two engines on
    the same two cores take five times as long as one after the other."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if workers and ALL_CORES:
        cores, number = sorted(ALL_CORES), int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        if share := len(cores) // workers:
            os.sched_setaffinity(0, cores[number * share : (number + 1) * share])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class ByUnit(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(super()._split_scope(nodeid))

    return ByUnit(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, then those with slow tests."""
    for item in items:
        if item.get_closest_marker("clock"):
            item.add_marker(pytest.mark.flaky(reruns=2))
    units = {item: unit(str(item.path)) for item in items}
    slow = Counter(units[item] for item in items if item.get_closest_marker("slow"))
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (place.get(units[item], len(place)), -slow[units[item]]))


@pytest.fixture(autouse=True)
def its_cores(request: pytest.FixtureRequest) -> Iterator[None]:
    if not ALL_CORES or not request.node.get_closest_marker("all_cores"):
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALL_CORES)
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own cache, registry or tellmt.toml."""
    home = tmp_path_factory.mktemp("home")
    for name in [n for n in os.environ if n.startswith("TELLMT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TELLMT_CACHE", str(home / "cache"))
    monkeypatch.setenv("TELLMT_REGISTRY", str(home / "registry"))
    monkeypatch.setenv("TELLMT_MONITOR", str(home / "monitor"))
    monkeypatch.setenv("TELLMT_KEYS", str(home / "keys.json"))
    # Nor sees the adapters that come with tellmt.
    monkeypatch.setenv("TELLMT_SHIPPED", str(tmp_path_factory.mktemp("shipped")))
    monkeypatch.chdir(home)
    return home


class Ran:
    """A finished command: exit code, stdout, stderr, and stdout as JSON."""

    def __init__(self, done: subprocess.CompletedProcess[str]):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli() -> Callable[..., Ran]:
    """Run `tellmt ARGS` in a process of its own, as a user would. `ok=False` allows a non-zero exit."""

    def run(*args: object, ok: bool = True, stdin: str | None = None, timeout: float = 240, **env: str) -> Ran:
        words = [*map(str, args)]
        if words and words[0] in WARM and not env:
            from tests.support.warm import run as warm

            ran = Ran(warm(words, stdin, timeout))
        else:
            command = [sys.executable, "-m", "tellmt", *words]
            ran = Ran(subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, env={**os.environ, **env}, check=False))
        assert "Traceback" not in ran.err, ran.err
        assert not ok or ran.code == 0, f"exit {ran.code}: {ran.err}"
        return ran

    return run


# Arguments to exit code, the object on standard output, and what stands on standard error.
Tellmt = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Tellmt:
    """Run a command in this process with --json."""
    from tellmt.cli import main

    def run(*args: object) -> tuple[int, Any, str]:
        code = main(["--json", *map(str, args)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


@pytest.fixture
def here() -> Callable[..., Ran]:
    """`cli` without a process of its own: for commands that are run a hundred times, each of which would load the same models."""
    from tellmt.cli import main

    def run(*args: object, ok: bool = True) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(map(str, args)))
        ran = Ran(subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue()))
        assert not ok or ran.code == 0, f"exit {ran.code}: {ran.err}"
        return ran

    return run


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the base `tiny`; give it to a test as TELLMT_CACHE. Shared by the session, so tests must not alter the base."""
    from tests.support.tiny import make_tiny_base

    cache = tmp_path_factory.mktemp("tiny-cache")
    make_tiny_base(cache)
    return cache


@pytest.fixture
def tiny(tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny base, with TELLMT_CACHE pointing at its cache."""
    from tests.support.tiny import make_tiny_base

    monkeypatch.setenv("TELLMT_CACHE", str(tiny_cache))
    return make_tiny_base(tiny_cache)
