"""A real Prometheus scrapes the running service: metrics by the conventions, rules and dashboard queries that give data, alerts that fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.support.fake_eval_engine import corpus_dir, light_adapter, light_base
from tests.support.serving import Running, publish, until
from tests.support.watched import watched

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason="no prometheus on this machine (Debian: apt-get install prometheus)")

RULES = ROOT / "deploy" / "prometheus" / "tellmt.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "tellmt.json"


def promtool(*args: object, stdin: str | None = None) -> str:
    done = subprocess.run([str(PROMTOOL), *map(str, args)], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_rules_and_configuration_are_right_and_each_alert_fires() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    promtool("check", "config", RULES.with_name("prometheus.yml"))
    promtool("test", "rules", RULES.with_name("tellmt.rules_test.yml"))


def alerts() -> dict[str, str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_every_alert_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(Tellmt\w+)`", text)) == set(alerts())


def queries() -> list[str]:
    """Those of the dashboard's panels, as Grafana would send them."""
    expressions = [t["expr"] for p in json.loads(DASHBOARD.read_text())["panels"] for t in p.get("targets", [])]
    return [q.replace("$pair", ".+").replace("$__rate_interval", "1m") for q in expressions]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from eval.monitor.canary_sets import freeze, set_path, write_set
    from eval.scoring.testset import from_corpus
    from tell.corpus.directory import open_corpus
    from tell.languages import parse_pair
    from tell.registry.registry import Registry

    root = tmp_path_factory.mktemp("prometheus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLMT_KEYS", str(root / "keys.json"))
        # Windows that a test can fill.
        patch.setattr("eval.monitor.drift.WINDOW", 1000)
        patch.setattr("serve.metrics.traffic.WINDOW", 50)
        corpus = open_corpus(corpus_dir(root / "corpus", train=300, dev=120))
        canary, _ = freeze(from_corpus(corpus, "dev"), 100, [p.source for p in corpus.pairs("train")], "here")
        write_set(set_path(root / "monitor", parse_pair("is-en")), canary, replace=False)
        registry = Registry(root / "registry")
        publish(registry, light_adapter(root / "one", light_base(root / "cache"), seed=1))
        with watched(light_base(root / "cache"), registry, root / "monitor") as running_service:
            until(lambda: running_service.metric("tellmt_canary_last_run_timestamp_seconds", pair="is-en"))
            yield running_service


def traffic(service: Running) -> None:
    service.texts(["Í gær fórum við í sund og það var mjög gaman.", "hús hús hús hús hús hús hús hús hús hús hús hús hús hús", "Þar voru 1234 hestar."])


def test_metrics_follow_the_conventions(service: Running) -> None:
    traffic(service)
    page = service.http.get("/metrics").text
    promtool("check", "metrics", stdin=page)
    # Labels hold what was loaded and what the code names, never what somebody sent.
    names = set(re.findall(r'[{,](\w+)="', page))
    assert names <= {"route", "status", "pair", "version", "flag", "le", "reason", "outcome", "language", "metric", "kind", "what", "state"}, names
    assert "sund" not in page and "Þar" not in page


class Prometheus:
    def __init__(self, url: str):
        self.url = url

    def ask(self, path: str, **query: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
                return json.loads(answer.read())["data"]
        except (urllib.error.URLError, ConnectionError, ValueError):
            return None

    def query(self, expression: str) -> list[Any]:
        response = self.ask("/api/v1/query", query=expression)
        return [r for r in response["result"] if r["value"][1] != "NaN"] if response else []


@pytest.fixture(scope="module")
def prometheus(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    home = tmp_path_factory.mktemp("tsdb")
    config = yaml.safe_load(RULES.with_name("prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(RULES)]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [service.url.removeprefix("http://")]
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free_port:
        address = f"127.0.0.1:{free_port.getsockname()[1]}"
    log = (home / "log").open("w")
    command = [str(PROMETHEUS), f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'data'}", f"--web.listen-address={address}"]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def test_every_rule_and_every_query_of_the_dashboard_gives_data(service: Running, prometheus: Prometheus) -> None:
    # The left side of each alert: while all is well the whole has no result.
    expressions = [re.split(r" (?:[<>]=?|==) ", expression)[0] for expression in alerts().values()] + queries()
    expressions += [rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "record" in rule]
    assert len(expressions) > 40

    def missing() -> list[str]:
        traffic(service)
        return [q for q in expressions if not prometheus.query(q)]

    unanswered: list[str] = expressions
    for _ in range(60):
        if prometheus.query("up") and not (unanswered := missing()):
            break
        time.sleep(0.25)
    assert not unanswered, unanswered
    groups = prometheus.ask("/api/v1/rules")["groups"]
    assert {(rule["name"], rule["health"]) for group in groups for rule in group["rules"] if rule["health"] != "ok"} == set()
    firing = {rule["name"] for group in groups for rule in group["rules"] if rule.get("state") in ("pending", "firing")}
    # What the traffic of this test is made to be.
    assert firing <= {"TellmtFlagged", "TellmtInputLanguage", "TellmtInputDrift"}
