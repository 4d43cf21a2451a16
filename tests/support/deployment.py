"""What tests of deploy/ share: the flags and variables that a rendering sets, and the tools that make one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

DEPLOY, CHART = ROOT / "deploy", ROOT / "deploy" / "chart"
EXAMPLES = sorted(p.name for p in (CHART / "examples").glob("*.yaml"))
# Variables that tellmt reads beside those of its options, and those of the S3 driver.
VARIABLES = {
    "TELLMT_BASES", "TELLMT_CACHE", "TELLMT_ENGINE_KEY", "TELLMT_KEYS", "TELLMT_MONITOR", "TELLMT_REGISTRY",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION",
}  # fmt: skip


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("deploy_tools", ROOT / "scripts" / "deploy_tools.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tools = _script()


def tool(name: str) -> str:
    """The path of a tool. Where it is missing the test fails in continuous integration and is skipped on a user's machine; both name its package."""
    path = tools.find(name)
    if path is None:
        message = f"no {name} on this machine ({tools.PACKAGES[name]}): python3 scripts/deploy_tools.py"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return str(path)


def run(name: str, *args: object, ok: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([tool(name), *map(str, args)], capture_output=True, text=True, check=False, **more)
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done


def golden(example: str) -> str:
    return (tools.GOLDEN / example).read_text(encoding="utf-8")


def resources(rendering: str) -> dict[str, Any]:
    """The resources of a rendering by kind; the chart has one of each."""
    found = [r for r in yaml.safe_load_all(rendering) if r]
    assert len({r["kind"] for r in found}) == len(found)
    return {r["kind"]: r for r in found}


def pod(rendering: str) -> dict[str, Any]:
    return dict(resources(rendering)["Deployment"]["spec"]["template"]["spec"])


def service_of(rendering: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of the service's container; a value from a Secret is the Secret's name and key."""
    (container,) = pod(rendering)["containers"]
    env = {e["name"]: e.get("value") or "{secretKeyRef[name]}/{secretKeyRef[key]}".format(**e["valueFrom"]) for e in container.get("env", [])}
    # What Kubernetes makes of an argument.
    return [a.replace("$$(", "$(") for a in container["args"]], env


def image_environment() -> dict[str, str]:
    """What the image sets of tellmt's variables."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    return dict(re.findall(r"(TELLMT_\w+)=(\S+)", text))


def compose_service(name: str = "tellmt") -> dict[str, Any]:
    """A service of compose.yaml with the defaults of its variables, as `docker compose config` shows it."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return dict(yaml.safe_load(text)["services"][name])


def moved(value: str, root: Path) -> str:
    """A path of the image under `root`."""
    return re.sub(r"(?<![\w/:])/(srv|var/cache)/tellmt", str(root / "tellmt"), value)


