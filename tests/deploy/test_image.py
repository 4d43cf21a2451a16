"""The image is built and run without a Docker engine: on a Debian that mmdebstrap makes, by buildah in a chroot, and asked over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tell import __version__
from tests.conftest import ROOT
from tests.support.deployment import run, tool

pytestmark = [
    pytest.mark.long,
    # Building takes minutes: torch is unpacked twice.
    pytest.mark.timeout(5400),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a chroot needs root"),
]
SYSTEM, IMAGE = "localhost/tellmt-test-system", "localhost/tellmt-test"
ROOM = 12 << 30


class Buildah:
    """buildah with a store of its own, so that what was made goes with it."""

    def __init__(self, home: Path):
        self.words = ["--root", str(home / "store"), "--runroot", str(home / "run")]

    def __call__(self, *args: object) -> str:
        return run("buildah", *self.words, *args, env={**os.environ, "BUILDAH_ISOLATION": "chroot"}).stdout.strip()


def of_this_machine() -> list[str]:
    """pip's configuration of this machine, for the build: its files, and the variables that the image's definition takes."""
    words = []
    for file in ("/etc/pip.conf", "/etc/xdg/pip", *os.environ.get("PIP_FIND_LINKS", "").split()):
        if Path(file).is_absolute() and Path(file).exists():
            words += ["--volume", f"{file}:{file}:ro"]
    if certificates := os.environ.get("PIP_CERT"):
        # Elsewhere than Debian's own, which are being installed.
        words += ["--volume", f"{certificates}:/run/pip-certificates:ro", "--build-arg", "PIP_CERT=/run/pip-certificates"]
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        if name in os.environ:
            words += ["--build-arg", f"{name}={os.environ[name]}"]
    return words


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    home = tmp_path_factory.mktemp("image")
    tool("buildah")
    if shutil.disk_usage(home).free < ROOM:
        pytest.fail(f"the image needs {ROOM >> 30} GiB of disk at {home}")
    buildah = Buildah(home)
    try:
        run("mmdebstrap", "--variant=minbase", "bookworm", home / "system.tar")
        container = buildah("from", "scratch")
        buildah("add", "-q", container, home / "system.tar", "/")
        buildah("commit", "-q", "--rm", container, SYSTEM)
        arguments = ["--build-arg", f"BASE_IMAGE={SYSTEM}", "--build-arg", "BASE=gemma-3-270m", "--build-arg", f"VERSION={__version__}"]
        buildah("bud", "-q", "--network", "host", *of_this_machine(), *arguments, "-f", ROOT / "deploy" / "Containerfile", "-t", IMAGE, ROOT)
        yield buildah
    finally:
        run("buildah", *buildah.words, "rm", "--all", ok=False)
        run("buildah", *buildah.words, "rmi", "--all", "--force", ok=False)
        shutil.rmtree(home, ignore_errors=True)


def inspected(buildah: Buildah) -> dict[str, Any]:
    return dict(json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"])


def test_the_image_says_what_it_is_and_runs_as_nobody(buildah: Buildah) -> None:
    config = inspected(buildah)
    assert config["User"] == "10001:10001" and config["Entrypoint"] == ["tellmt"] and config["Cmd"] == ["serve", "--host", "0.0.0.0"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__ and config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_translates_without_a_network_and_without_writing_to_its_root(buildah: Buildah, tmp_path: Path) -> None:
    container = buildah("from", IMAGE)
    root = buildah("mount", container)
    (tmp_path / "config.json").write_text(json.dumps(inspected(buildah)))
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.support.run_image", root, str(tmp_path / "config.json"), "1800"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    buildah("umount", container)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["user"] == "10001" and "Read-only file system" in seen["root"] and seen["key"].startswith("tellmt_"), seen
    assert seen["ready"][0] == 200, seen["log"]
    assert seen["without"] == 401 and seen["with"][0] == 200 and seen["with"][1]["translations"][0]["text"], seen
    assert seen["code"] == 0, seen["log"]
