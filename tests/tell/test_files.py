"""`atomic_dir` when other processes write and remove the same directory."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tell import files
from tell.files import atomic_dir
from tests.conftest import ROOT


def fill(path: Path, text: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "a").write_text(text)


def is_replaced(final: Path) -> None:
    with atomic_dir(final) as aside:
        fill(aside, "ours")
    assert (final / "a").read_text() == "ours" and os.listdir(final.parent) == ["out"]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What others do just before the first renames of this process, one after the other."""
    deeds: list[Any] = []
    replace = os.replace

    def replaced(source: Any, target: Any) -> None:
        if deeds:
            deeds.pop(0)()
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", replaced)
    return deeds


def test_one_that_comes_meanwhile_is_replaced(tmp_path: Path, meanwhile: list[Any]) -> None:
    final = tmp_path / "out"
    meanwhile.append(lambda: fill(final, "theirs"))
    is_replaced(final)


def test_one_that_goes_meanwhile_is_not_missed(tmp_path: Path, meanwhile: list[Any]) -> None:
    final = tmp_path / "out"
    fill(final, "old")
    meanwhile.extend([lambda: None, lambda: shutil.rmtree(final), lambda: fill(final, "theirs")])
    is_replaced(final)


def test_a_file_in_its_place_is_replaced(tmp_path: Path) -> None:
    final = tmp_path / "out"
    final.write_text("a file")
    is_replaced(final)


def test_what_was_there_stays_when_the_rename_fails(tmp_path: Path, meanwhile: list[Any]) -> None:
    final = tmp_path / "out"
    fill(final, "old")

    def refuse() -> None:
        raise OSError(errno.EIO, "input/output error")

    meanwhile.extend([lambda: None, lambda: None, refuse])
    with pytest.raises(OSError, match="input/output error"), atomic_dir(final) as aside:
        fill(aside, "ours")
    assert (final / "a").read_text() == "old" and os.listdir(tmp_path) == ["out"]


def test_processes_that_write_the_same_directory_all_end_well(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tell.files import atomic_dir
for i in range(60):
    with atomic_dir(Path(sys.argv[1])) as aside:
        (aside / "a").write_text(str(i))
        (aside / "b").write_text(str(i))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    writers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [w.communicate(timeout=100)[1] for w in writers]
    assert [w.returncode for w in writers] == [0, 0, 0], errors
    assert os.listdir(tmp_path) == ["out"] and sorted(os.listdir(tmp_path / "out")) == ["a", "b"]
