"""What compose.yaml runs before the service: the first keys, and the registry's bucket."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from serve.auth.keys import read_keys
from tests.conftest import ROOT
from tests.support.deployment import compose_service, moved
from tests.tell.registry.conftest import s3, server  # noqa: F401


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH that has `tellmt` and `python3` as the image has them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, words in (("tellmt", "-m tellmt"), ("python3", "")):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_first_start_makes_two_keys_in_files_and_the_next_none(tmp_path: Path, path: str) -> None:
    service = compose_service("keys")
    folder = tmp_path / "tellmt" / "keys"
    folder.mkdir(parents=True)
    command = [*service["entrypoint"], *(moved(c, tmp_path) for c in service["command"])]
    env = {**os.environ, "PATH": path, "TELLMT_KEYS": str(folder / "keys.json"), "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        # No log of the container has a key.
        assert "tellmt_" not in done.stdout + done.stderr
    keys = {k.name: k for k in read_keys(folder / "keys.json") or []}
    assert {name: k.scopes for name, k in keys.items()} == {"website": ["translate"], "prometheus": ["metrics"]}
    assert sorted(p.name for p in folder.iterdir() if p.suffix == ".key") == ["prometheus.key", "website.key"]
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.glob("*.key")}
    # Prometheus's container is in the group, and reads its own alone.
    assert modes == {"website.key": 0o600, "prometheus.key": 0o640}
    assert compose_service("prometheus")["group_add"] == ["10001"]
    assert (folder / "website.key").read_text().startswith(f"tellmt_{keys['website'].id}_")


@pytest.mark.long
def test_the_bucket_is_made_once(path: str, s3: str) -> None:  # noqa: F811
    import s3fs

    service = compose_service("bucket")
    for _ in range(2):
        done = subprocess.run([*service["entrypoint"], *service["command"]], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert s3fs.S3FileSystem(skip_instance_cache=True).exists("tellmt")
