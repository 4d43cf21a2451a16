"""`tellmt translate` through the real CPU engine, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tell.model.base import Base
from tell.registry.registry import Registry
from tests.conftest import ROOT, Ran
from tests.support.naughty_strings import naughty, naughty_lines

# What the extra `serve` brings beside `files`, which `cpu` does not need.
SERVER_LIBRARIES = ("prometheus_client", "fastapi", "starlette", "uvicorn", "limits", "multipart", "python_multipart")


@pytest.fixture
def tiny_live(tiny: Base, tmp_path: Path) -> str:
    from tests.support.tiny import make_tiny_adapter

    adapter = make_tiny_adapter(tmp_path / "adapter", tiny)
    registry = Registry()
    id = registry.add(adapter.path, adapter.card)
    registry.promote("is-en", id, "for this test")
    return id


@pytest.mark.parametrize("quality", ["fast", "best"])
def test_a_file_is_translated_without_any_library_of_the_server(tiny_live: str, cli: Callable[..., Ran], tmp_path: Path, quality: str) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in SERVER_LIBRARIES:
        (hidden / f"{name}.py").write_text(f'raise ModuleNotFoundError("No module named {name!r}", name={name!r})\n')
    (tmp_path / "in.txt").write_text("Hún kom heim.\n\nHesturinn er svartur.\n")
    args = ("--from", "is", "--to", "en", "--engine", "ct2", "--quality", quality, "-o", tmp_path / "out.txt", "--json")
    ran = cli("translate", tmp_path / "in.txt", *args, PYTHONPATH=f"{hidden}{os.pathsep}{ROOT}")
    assert {name: ran.json[name] for name in ("segments", "translated", "blank", "failed", "adapter")} == {
        "segments": 3, "translated": 2, "blank": 1, "failed": 0, "adapter": tiny_live,
    }  # fmt: skip
    lines = (tmp_path / "out.txt").read_text().split("\n")
    assert len(lines) == 4 and lines[0] and lines[2] and not lines[1]


@naughty
@pytest.mark.long
def test_naughty_strings_through_the_real_engine(tiny_live: str, cli: Callable[..., Ran], tmp_path: Path) -> None:
    lines = naughty_lines(tmp_path / "in.txt")
    ran = cli("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "--engine", "ct2", "-o", tmp_path / "out.txt", "--json")
    out = (tmp_path / "out.txt").read_bytes().decode().split("\n")
    assert out.pop() == "" and len(out) == 515
    assert [o for o, line in zip(out, lines, strict=True) if not line.strip()] == [line for line in lines if not line.strip()]
    result = ran.json
    assert (result["segments"], result["failed"], result["adapter"]) == (515, 0, tiny_live)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 10], ids=["while it starts", "while it translates"])
def test_interrupted_leaves_nothing(after: float, tiny_live: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(f"{i} " + "hestur og fjall " * 40 for i in range(3000)))
    before = sorted(p.name for p in tmp_path.iterdir())
    command = [sys.executable, "-m", "tellmt", "translate", str(tmp_path / "in.txt"), "--engine", "ct2", "-o", str(tmp_path / "out.txt")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ), cwd=ROOT) as process:
        assert process.stderr is not None
        assert "engine ct2" in process.stderr.readline()
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err, err
    assert sorted(p.name for p in tmp_path.iterdir()) == before
