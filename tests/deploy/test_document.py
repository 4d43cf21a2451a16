"""docs/deploy.md word for word in an empty directory, as far as it goes without a cluster and a Docker engine: helm renders what it would install, and
docker-compose reads what it would start."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.support.deployment import DEPLOY, tool
from tests.test_docs import blocks


def commands() -> list[str]:
    return [line.strip() for document in ("docs/deploy.md", "README.md") for block in blocks(document, "sh") for line in block.split("\n") if line.strip()]


def test_its_targets_values_and_services_are_there() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    found = commands()
    for line in found:
        for target in re.findall(r"--target (\w+)", line):
            assert f" AS {target}\n" in text
        for argument in re.findall(r"--build-arg (\w+)=", line):
            assert f"ARG {argument}" in text
        for service in re.findall(r"compose.yaml exec -T (\w+)", line):
            assert service in services
    assert len([line for line in found if line.startswith("helm install")]) == 2


@pytest.mark.long
def test_its_commands_run(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "tellmt").write_text(f'#!/bin/sh\nexec {sys.executable} -m tellmt "$@"\n')
    (binaries / "tellmt").chmod(0o755)
    (binaries / "helm").symlink_to(tool("helm"))
    env = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ran = 0
    for line in commands():
        if line.startswith("docker compose -f deploy/compose.yaml up"):
            line = f"{shlex.quote(tool('docker-compose'))} -f deploy/compose.yaml config -q"
        elif line.startswith("helm install"):
            line = line.replace("helm install", "helm template")
        elif not line.startswith("TELLMT_KEYS="):
            continue
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, line + done.stderr
        if "helm template" in line:
            kinds = {r["kind"] for r in yaml.safe_load_all(done.stdout) if r}
            assert kinds == {"Deployment", "Service", "Secret", "PodDisruptionBudget"}
        ran += 1
    assert ran == 5
