"""The real tools over the chart, the compose file and the image's definition: helm, kubernetes-validate, docker-compose, promtool, hadolint."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy.test_chart import SCHEMA, ready
from tests.support.deployment import CHART, DEPLOY, EXAMPLES, compose_service, golden, resources, run, service_of, tool, tools
from tests.tell.registry.conftest import s3, server  # noqa: F401

pytestmark = pytest.mark.long
KUBERNETES = [f"1.{minor}" for minor in range(30, 38)]


def template(values: Path, *more: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return run("helm", "template", "tellmt", CHART, "--namespace", "translation", "-f", values, *more, ok=ok)


def values_of(example: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "examples" / example).read_text(encoding="utf-8")))


@pytest.mark.parametrize("example", EXAMPLES)
def test_helm_has_nothing_against_the_chart_and_renders_what_was_kept(example: str) -> None:
    assert "0 chart(s) failed" in run("helm", "lint", "--strict", CHART, "-f", CHART / "examples" / example).stdout
    assert tools.rendered(CHART / "examples" / example) == golden(example)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_what_is_rendered(version: str, tmp_path: Path) -> None:
    files = []
    for example in EXAMPLES:
        for kind, resource in resources(golden(example)).items():
            # A resource of KEDA, which is none of Kubernetes's own.
            if kind != "ScaledObject":
                files.append(tmp_path / f"{kind}-{example}")
                files[-1].write_text(yaml.safe_dump(resource), encoding="utf-8")
    run("kubernetes-validate", "--strict", "-k", version, *files)
    broken = yaml.safe_load(files[0].read_text(encoding="utf-8"))
    broken["spec"]["sepc"] = 1
    files[0].write_text(yaml.safe_dump(broken), encoding="utf-8")
    assert run("kubernetes-validate", "--strict", "-k", version, files[0], ok=False).returncode


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The values of the schema that are no groups of others."""
    if not schema.get("properties") or schema.get("required") == ["name", "key"]:
        return {path}
    return {leaf for name, part in schema["properties"].items() for leaf in leaves(part, (*path, name))}


def set_in(values: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    known = leaves(SCHEMA)
    return {p for name, value in values.items() for p in ({(*path, name)} if (*path, name) in known else set_in(value, (*path, name)))}


def without(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    less = copy.deepcopy(values)
    place = less
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return less


def test_every_value_of_the_schema_reaches_the_rendering(tmp_path: Path) -> None:
    """Each is in an example, and without it that example is rendered otherwise, or not at all."""
    # Those that are given as their default: what a value means that makes no difference.
    more: list[dict[str, Any]] = [
        {**values_of("object-store.yaml"), "replicas": 3, "serve": {**values_of("object-store.yaml")["serve"], "maxAdapters": 4}},
        {**values_of("object-store.yaml"), "vllm": {"enabled": True, "model": "/srv/tellmt/bases/other", "image": "vllm:1"}},
        {**values_of("object-store.yaml"), "serve": {"engine": "openai", "engineUrl": "http://gpu:8000", "enginePathMap": "/a=/b", "logFormat": "text"}},
        {**values_of("object-store.yaml"), "service": {"sessionAffinity": "ClientIP"}},
        {**values_of("volumes.yaml"), "serve": {"monitor": True, "alarmWebhook": "https://chat.example.org"}, "serveFromSecret": {}},
        {**values_of("vllm.yaml"), "autoscaling": {"kind": "hpa", "minReplicas": 3, "maxReplicas": 9, "segmentsWaiting": 7}},
    ]
    reached: set[tuple[str, ...]] = set()
    for number, values in enumerate([*map(values_of, EXAMPLES), *more]):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        whole = template(file).stdout
        for path in set_in(values) - reached:
            file.write_text(yaml.safe_dump(without(values, path)), encoding="utf-8")
            less = template(file, ok=False)
            if less.returncode or less.stdout != whole:
                reached.add(path)
    # `global` is helm's own, for charts of charts.
    assert leaves(SCHEMA) - reached == {("global",)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("base=", "base"),
        ("bsae=tiny", "bsae"),
        ("serve.maxAdapter=4", "maxAdapter"),
        ("serve.maxAdapters=0", "maxAdapters"),
        ("serve.threads=two", "threads"),
        ("serve.logFormat=xml", "logFormat"),
        ("registry.existingClaim=a", "give one of registry.url"),
        ("registry.url=s3://key:secret@bucket/r", "url"),
        ("keys.content=x", "give one of keys.existingSecret"),
        ("serve.monitor=true", "need state.existingClaim"),
        ("feedback=true", "need state.existingClaim"),
        ("bases.from=claim", "bases.existingClaim goes with"),
        ("serve.alarmWebhook=https://a.org", "go with serve.monitor"),
        ("serve.grace=100", "serve.grace is part of serve.drain"),
        ("autoscaling.kind=keda", "needs autoscaling.prometheus"),
        ("autoscaling.minReplicas=9", "is more than"),
        ("replicas=2,serve.monitor=true,state.existingClaim=a", "goes with one replica"),
        ("vllm.enabled=true,serve.engine=ct2", "serve.engine is set by"),
        ("vllm.enabled=true,bases.from=image", "cannot see into"),
    ],
)
def test_a_value_that_is_wrong_is_refused_by_its_name(change: str, message: str) -> None:
    done = template(CHART / "examples" / "object-store.yaml", "--set", change, ok=False)
    assert done.returncode and message in done.stderr, done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_service_starts_with_the_arguments_of_each_example(example: str, tmp_path: Path, s3: str) -> None:  # noqa: F811
    args, env = service_of(golden(example))
    secrets = {"TELLMT_SERVE_ALARM_WEBHOOK": "https://chat.example.org", "TELLMT_SERVE_QUOTA_STORAGE": "redis://quotas"}
    # The store is that of this test.
    env = {k: secrets.get(k, v) for k, v in env.items() if not k.startswith("AWS_")}
    left_out = ("--engine", "--drain", "--grace") if example != "vllm.yaml" else ("--drain", "--grace")
    ready(tmp_path, [*[a for a in args if not a.startswith(left_out)], "--drain=5", "--grace=0"], env, s3 if "s3://" in " ".join(args) else None)


def test_vllm_takes_the_arguments_of_its_container() -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    spec = resources(golden("vllm.yaml"))["Deployment"]["spec"]["template"]["spec"]["initContainers"][-1]
    code = (
        "import json, sys\nfrom vllm.entrypoints.launchers.cli_args import make_arg_parser\nfrom vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "a = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])\nprint(json.dumps([a.max_loras, a.max_cpu_loras, a.host, a.enable_lora]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "--model", *spec["args"]], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout.strip().split("\n")[-1]) == [18, 34, "127.0.0.1", True], done.stderr[-2000:]


def test_docker_compose_reads_the_files_as_they_are_meant() -> None:
    files = ["-f", DEPLOY / "compose.yaml"]
    config = json.loads(run("docker-compose", *files, "config", "--format", "json").stdout)
    service = config["services"]["tellmt"]
    assert {k: str(v) for k, v in service["environment"].items()} == {k: str(v) for k, v in compose_service()["environment"].items() if k != "<<"} | {
        k: str(v) for k, v in compose_service("keys")["environment"].items()
    }
    assert service["command"] == compose_service()["command"]
    # Only this machine reaches what is open.
    assert {p["host_ip"] for s in config["services"].values() for p in s.get("ports", [])} == {"127.0.0.1"}
    gpu = json.loads(run("docker-compose", *files, "-f", DEPLOY / "compose.gpu.yaml", "config", "--format", "json").stdout)["services"]["tellmt"]
    assert gpu["build"]["target"] == "gpu" and gpu["environment"]["TELLMT_SERVE_ENGINE"] == "vllm" and gpu["environment"]["TELLMT_SERVE_BASE"]


def test_prometheus_reads_the_configuration_of_compose(tmp_path: Path) -> None:
    text = (DEPLOY / "prometheus" / "compose.yml").read_text(encoding="utf-8")
    (tmp_path / "key").write_text("secret")
    (tmp_path / "tellmt.rules.yml").write_text((DEPLOY / "prometheus" / "tellmt.rules.yml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "compose.yml").write_text(text.replace("/run/tellmt/prometheus.key", str(tmp_path / "key")), encoding="utf-8")
    run("promtool", "check", "config", tmp_path / "compose.yml")


def test_the_containerfile_has_no_fault() -> None:
    run("hadolint", "--config", ROOT / ".hadolint.yaml", DEPLOY / "Containerfile")
    assert tool("hadolint")
