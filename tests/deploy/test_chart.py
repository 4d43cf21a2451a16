"""The chart sets what `tellmt serve` knows, and a service starts with exactly that. Over renderings that were kept, so that no helm is needed here
(tests/deploy/test_helm.py makes them again)."""

from __future__ import annotations

import json
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from serve.auth.keys import add_key
from serve.cli import serve, serve_config
from tell import __version__
from tell.registry.registry import Registry
from tests.serve.test_cli import Process
from tests.support.deployment import CHART, DEPLOY, EXAMPLES, VARIABLES, compose_service, golden, image_environment, moved, pod, resources, service_of, tools
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import publish, until

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
# What the chart itself decides; the others are keys of `serve`.
OWN = {"host", "port", "base", "registry", "feedback"}


def camel(name: str) -> str:
    return re.sub(r"_(.)", lambda m: m[1].upper(), name)


def expected(option: click.Parameter) -> dict[str, Any]:
    """An option's schema."""
    kind = option.type
    if isinstance(option, click.Option) and option.is_flag:
        return {"type": "boolean"}
    if isinstance(kind, click.IntRange):
        return {"type": "integer", "minimum": kind.min, "maximum": kind.max}
    if isinstance(kind, click.FloatRange):
        return {"type": "number", "exclusiveMinimum" if kind.min_open else "minimum": kind.min, "maximum": kind.max}
    if isinstance(kind, click.Choice):
        return {"enum": list(kind.choices)}
    return {"type": "array", "items": {"type": "string", "minLength": 1}} if option.multiple else {"type": "string", "minLength": 1}


def test_the_schema_has_every_option_of_the_service_with_its_bounds() -> None:
    options = {camel(str(p.name)): {**expected(p), "description": p.help} for p in serve.params if p.expose_value and p.name not in OWN}  # type: ignore[attr-defined]
    assert SCHEMA["properties"]["serve"]["properties"] == options
    assert SCHEMA["required"] == ["base"] and not SCHEMA["additionalProperties"]


def test_the_chart_is_that_of_this_version_and_its_renderings_are_kept() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"] == __version__
    assert (tools.GOLDEN / "key").read_text().strip() == tools.chart_key(), "the chart was changed: python3 scripts/deploy_tools.py render"


@pytest.mark.parametrize("example", EXAMPLES)
def test_arguments_and_variables_are_those_that_the_service_knows(example: str, isolated: Path) -> None:
    args, env = service_of(golden(example))
    options = {f"TELLMT_SERVE_{p.name.upper()}" for p in serve.params if p.name}
    assert set(env) <= VARIABLES | options and set(image_environment()) <= VARIABLES
    context = serve.make_context("serve", args[1:])
    config = serve_config(context.params)
    values = yaml.safe_load((CHART / "examples" / example).read_text(encoding="utf-8"))
    assert config.engine.base == values["base"] and (config.listen.host, config.listen.port) == ("0.0.0.0", 8080)
    # Each flag has the value of the file, and none is given that the file and the chart's defaults do not have.
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["serve"]
    asked = {**defaults, **values.get("serve", {})}
    given = {camel(str(p.name)): context.params[str(p.name)] for p in serve.params if p.name and context.get_parameter_source(p.name).name == "COMMANDLINE"}  # type: ignore[union-attr]
    by_chart = {camel(n) for n in OWN} | ({"engine", "engineUrl", "noShipped"} if values.get("vllm") else set())
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if k not in by_chart} == asked


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_pod_may_do_nothing_that_it_need_not(example: str) -> None:
    spec = pod(golden(example))
    assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False
    for container in [*spec["initContainers"], *spec["containers"]]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]} and not context["allowPrivilegeEscalation"]
        assert {m["name"] for m in container["volumeMounts"]} <= {v["name"] for v in spec["volumes"]}
    (container,) = spec["containers"]
    assert container["startupProbe"]["httpGet"]["path"] == "/health" and container["readinessProbe"]["httpGet"]["path"] == "/ready"
    deployment = resources(golden(example))["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    drain = serve_config(serve.make_context("serve", service_of(golden(example))[0][1:]).params).listen.drain
    # Five seconds after its drain time the service ends by itself.
    assert spec["terminationGracePeriodSeconds"] > drain + 5


def test_one_replica_is_the_default_and_several_keep_a_client_where_it_was() -> None:
    assert resources(golden("object-store.yaml"))["Deployment"]["spec"]["replicas"] == 1
    assert resources(golden("object-store.yaml"))["Service"]["spec"]["sessionAffinity"] == "None"
    scaled = resources(golden("image.yaml"))
    assert scaled["Service"]["spec"]["sessionAffinity"] == "ClientIP" and "replicas" not in scaled["Deployment"]["spec"]
    assert scaled["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"] == "tellmt_segments_waiting"
    trigger = resources(golden("vllm.yaml"))["ScaledObject"]["spec"]["triggers"][0]["metadata"]
    assert trigger["query"] == 'sum(tellmt_segments_waiting{namespace="translation"})' and trigger["threshold"] == "128"
    assert resources(golden("object-store.yaml"))["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_vllm_beside_the_service_has_room_for_its_adapters_and_its_paths() -> None:
    spec = pod(golden("vllm.yaml"))
    sidecar = spec["initContainers"][-1]
    assert sidecar["restartPolicy"] == "Always" and [c["name"] for c in spec["initContainers"]] == ["keys", "base", "vllm"]
    flags = dict(a.removeprefix("--").split("=", 1) for a in sidecar["args"] if "=" in a)
    args, env = service_of(golden("vllm.yaml"))
    config = serve_config(serve.make_context("serve", args[1:]).params)
    # A live version of each pair and one more during a change; vLLM keeps twice as many on the CPU (docs/engines.md).
    assert int(flags["max-loras"]) > config.limits.adapters and int(flags["max-cpu-loras"]) >= 2 * config.limits.adapters
    assert int(flags["max-lora-rank"]) == config.limits.rank and int(flags["max-model-len"]) >= config.limits.context
    assert config.engine.url == f"http://{flags['host']}:{flags['port']}" and config.engine.name == "openai" and not config.shipped
    assert env["TELLMT_ENGINE_KEY"] == "tellmt-engine/key"
    # It reads adapters and the base where the service has them.
    (service,) = spec["containers"]
    places = [{m["name"]: m["mountPath"] for m in c["volumeMounts"]} for c in (sidecar, service)]
    assert all(places[0][name] == places[1][name] for name in ("bases", "cache"))


def ready(root: Path, args: list[str], env: dict[str, str], registry: str | None = None) -> None:
    """Start `tellmt serve` with these arguments and variables, over the fake engine, and ask /ready. Paths are below `root`, and the port is any."""
    import httpx

    words = [moved(a, root) for a in args if not a.startswith("--port")]
    env = {k: moved(v, root) for k, v in {**image_environment(), **env}.items()}
    if registry:
        words = [f"--registry={registry}" if w.startswith("--registry") else w for w in words]
    for path in ("state", "keys", "registry"):
        (root / "tellmt" / path).mkdir(parents=True, exist_ok=True)
    base = light_base(root, "gemma-3-270m")
    (root / "tellmt" / "bases").symlink_to(root / "bases")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        _, key = add_key("website", ["translate"])
        place = next((w.removeprefix("--registry=") for w in words if w.startswith("--registry=")), None)
        publish(Registry(place), light_adapter(root / "adapter", base))
        service = Process(*words[1:])
        try:
            url = service.url
            assert until(lambda: httpx.get(f"{url}/ready", trust_env=False).json())["status"] == "ready"
            # One of the names that the service answers to, where it has any.
            host = next((w.split("=")[1] for w in words if w.startswith("--allow-host=")), "localhost")
            ask = partial(httpx.post, f"{url}/api/v1/translate", json={"source": "is", "target": "en", "text": "a"}, trust_env=False)
            assert ask(headers={"Host": host}).status_code == 401
            assert ask(headers={"Host": host, "X-API-Key": key}).status_code == 200
        finally:
            code = service.end(signal.SIGTERM, 30)
        assert code == 0, service.err


def test_a_service_with_the_arguments_of_the_chart_is_ready(tmp_path: Path) -> None:
    args, env = service_of(golden("volumes.yaml"))
    env["TELLMT_SERVE_ALARM_WEBHOOK"] = "https://chat.example.org/hook"
    # The fake engine has any name; ct2 would have to be installed.
    ready(tmp_path, [*[a for a in args if not a.startswith(("--engine", "--drain", "--grace"))], "--drain=5", "--grace=0"], env)


def test_compose_sets_what_the_service_knows_and_a_service_with_it_is_ready(tmp_path: Path) -> None:
    service = compose_service()
    env = {k: str(v) for k, v in {**compose_service("keys")["environment"], **service["environment"]}.items()}
    options = {f"TELLMT_SERVE_{p.name.upper()}" for p in serve.params if p.name}
    assert set(env) - {"<<"} <= VARIABLES | options
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["stop_grace_period"] == "40s"
    pytest.importorskip("coredis", reason="limits[async-redis] is not installed")
    ready(tmp_path, [*service["command"], "--drain=5", "--grace=0"], {**env, "TELLMT_REGISTRY": "/srv/tellmt/registry"})


def test_the_files_that_compose_mounts_are_there() -> None:
    for name in ("prometheus", "grafana"):
        for volume in compose_service(name)["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
    rules = yaml.safe_load((DEPLOY / "prometheus" / "compose.yml").read_text())["rule_files"]
    assert all((DEPLOY / "prometheus" / rule).exists() for rule in rules)
