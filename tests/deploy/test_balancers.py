"""The configurations of deploy/balancers, by which a pair's requests find the replica that has it loaded, in front of real processes."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx
import pytest
import yaml

from serve.translation.routing import PIVOT_LANGUAGE
from tell.registry.registry import Registry
from tests.serve.test_cli import Process
from tests.support.deployment import DEPLOY
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import publish, until

BALANCERS = DEPLOY / "balancers"
LANGUAGES = ("is", "fo", "da", "nb", "sv", "fi", "cy", "ga", "eu", "lt", "lv", "et")
PAIRS = [f"{language}-{PIVOT_LANGUAGE}" for language in LANGUAGES]
REPLICAS, ROOM, REQUESTS = 3, 8, 180
LOADS = re.compile(r'^tellmt_adapter_loads_total\{outcome="loaded",pair="([^"]+)"\} (\S+)$', re.M)


def needs(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    return found or pytest.skip(f"no {program} on this machine (Debian: apt-get install {program})")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """The replicas, of which each test may kill one: the last test the first of them."""
    root = tmp_path_factory.mktemp("replicas")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    for pair in PAIRS:
        publish(registry, light_adapter(root / pair, base, pair))
    env = {"TELLMT_REGISTRY": str(root / "registry"), "TELLMT_CACHE": str(root / "cache"), "FAKE_DELAY": "0.005"}
    options = ("--base", "light", "--no-shipped", "--max-adapters", str(ROOM), "--grace", "0")
    started = [Process(*options, **env) for _ in range(REPLICAS)]
    try:
        assert all(p.url for p in started)
        yield started
    finally:
        for p in started:
            p.end(signal.SIGKILL if p.process.poll() is None else None)


@contextmanager
def balancer(name: str, root: Path, urls: list[str]) -> Iterator[str]:
    """The shipped configuration with the addresses of this test, run in the foreground."""
    port, text = free_port(), (BALANCERS / name).read_text(encoding="utf-8")
    addresses = {"127.0.0.1:8080": f"127.0.0.1:{port}"} | {f"127.0.0.1:808{n}": url.removeprefix("http://") for n, url in enumerate(urls, 1)}
    assert all(address in text for address in addresses)
    file = root / name
    file.write_text(re.sub(r"127\.0\.0\.1:808\d", lambda m: addresses[m[0]], text), encoding="utf-8")
    if name == "haproxy.cfg":
        command = [needs("haproxy"), "-db", "-f", str(file)]
    else:
        command = [needs("nginx"), "-p", str(root), "-e", "stderr", "-c", str(file), "-g", f"daemon off; pid {root}/nginx.pid;"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: ready(f"http://127.0.0.1:{port}"), 20)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def loads(services: list[Process]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for service in services:
        for pair, count in LOADS.findall(httpx.get(f"{service.url}/metrics", trust_env=False).text):
            counted[pair] += int(float(count))
    return counted


def send(url: str, requests: list[str], with_header: bool, clients: int = 4) -> list[httpx.Response]:
    """The answers to a request for each of these pairs, by so many clients at a time."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client, ThreadPoolExecutor(clients) as pool:

        def ask(pair: str) -> httpx.Response:
            source, target = pair.split("-")
            headers = {"Tellmt-Pair": pair} if with_header else {}
            return client.post("/api/v1/translate", json={"source": source, "target": target, "text": "a", "cache": False}, headers=headers)

        return list(pool.map(ask, requests))


def places(url: str, pairs: list[str]) -> dict[str, str]:
    """The replica of each pair, as the balancer says."""
    with httpx.Client(base_url=url, trust_env=False) as client:
        return {pair: client.get("/health", headers={"Tellmt-Pair": pair}).headers["Tellmt-Replica"] for pair in pairs}


def test_nginx_sends_a_pair_to_one_replica(tmp_path: Path, services: list[Process]) -> None:
    needs("nginx")
    with balancer("nginx.conf", tmp_path, [s.url for s in services]) as url:
        before = loads(services)
        assert Counter(a.status_code for a in send(url, PAIRS * 5, with_header=True)) == {200: 5 * len(PAIRS)}
        assert max((loads(services) - before).values(), default=0) <= 1


def test_pairs_stay_where_they_are_loaded_and_a_dead_replica_moves_only_its_own(tmp_path: Path, services: list[Process]) -> None:
    needs("haproxy")
    mixed = [PAIRS[n % len(PAIRS)] for n in range(REQUESTS)]
    Random(1).shuffle(mixed)
    with balancer("haproxy.cfg", tmp_path, [s.url for s in services]) as url:
        before = loads(services)
        answers = send(url, mixed, with_header=True, clients=1)
        assert Counter(a.status_code for a in answers) == {200: REQUESTS}
        one_by_one = loads(services) - before
        assert max(one_by_one.values(), default=0) <= 2, one_by_one
        assert {a.headers["Tellmt-Replica"] for a in answers} == {"replica-1", "replica-2", "replica-3"}
        # With several at a time a replica that has too much passes some on: the busier the machine, the more.
        before = loads(services)
        answers = send(url, mixed, with_header=True)
        assert Counter(a.status_code for a in answers) == {200: REQUESTS}
        by_pair = loads(services) - before
        # Without the header the replicas take turns, and each loads everything.
        before = loads(services)
        assert Counter(a.status_code for a in send(url, mixed, with_header=False)) == {200: REQUESTS}
        in_turn = loads(services) - before
        print(f"loads: {one_by_one.total()} by pair and one by one, {by_pair.total()} by pair, {in_turn.total()} in turn")
        assert in_turn.total() > 1.5 * by_pair.total() and in_turn.total() > 2 * len(PAIRS)

        # Where pairs of any name would go: a hundred of them, before and after the death of a replica.
        names = [f"{a}-{b}" for a in LANGUAGES for b in LANGUAGES if a != b]
        home = places(url, names)
        services[0].process.kill()
        answers = send(url, mixed, with_header=True)
        assert Counter(a.status_code for a in answers) == {200: REQUESTS}
        until(lambda: "replica-1" not in places(url, names).values())
        now = places(url, names)
        moved = [name for name in names if now[name] != home[name]]
        print("moved", len(moved), "of", len(names))
        assert len(moved) <= (1 / REPLICAS + 0.1) * len(names)
        # None of a living replica's went elsewhere.
        assert {home[name] for name in moved} == {"replica-1"}


def test_haproxy_and_nginx_take_the_files_as_they_are() -> None:
    haproxy, nginx = needs("haproxy"), needs("nginx")
    for command in ([haproxy, "-c", "-f", BALANCERS / "haproxy.cfg"], [nginx, "-t", "-e", "stderr", "-c", BALANCERS / "nginx.conf"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "[WARNING]" not in done.stderr and "[warn]" not in done.stderr, done.stderr


def test_envoy_is_given_the_same() -> None:
    envoy = yaml.safe_load((BALANCERS / "envoy.yaml").read_text(encoding="utf-8"))["static_resources"]
    (cluster,) = envoy["clusters"]
    assert cluster["lb_policy"] == "RING_HASH" and cluster["health_checks"][0]["http_health_check"]["path"] == "/ready"
    assert cluster["common_lb_config"]["consistent_hashing_lb_config"]["hash_balance_factor"] == 150
    assert "hash-balance-factor 150" in (BALANCERS / "haproxy.cfg").read_text(encoding="utf-8")


def test_nginx_sends_a_request_that_a_dead_replica_was_to_have_to_another(tmp_path: Path, services: list[Process]) -> None:
    """After the first replica has died."""
    needs("nginx")
    services[0].process.kill()
    with balancer("nginx.conf", tmp_path, [s.url for s in services]) as url:
        for with_header in (True, False):
            assert Counter(a.status_code for a in send(url, PAIRS * 2, with_header)) == {200: 2 * len(PAIRS)}
