"""How the process ends: after a signal in good order and in any case, and when its engine dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tell.paths import cache_dir
from tell.registry.registry import Registry
from tests.conftest import ROOT
from tests.serve.test_cli import Process, post, published, start  # noqa: F401
from tests.support.fake_eval_engine import light_base
from tests.support.serving import publish, until

Start = Callable[..., Process]
WAITING = "tellmt_segments_waiting 1.0"


def get(url: str, path: str) -> httpx.Response:
    return httpx.get(f"{url}{path}", trust_env=False, timeout=5)


def asking(url: str, answers: list[httpx.Response | Exception], text: str = "a") -> threading.Thread:
    """A request on its way in a thread, of which the answer is kept, or what came instead of one."""

    def ask() -> None:
        try:
            answers.append(post(url, text, timeout=60))
        except httpx.HTTPError as e:
            answers.append(e)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@pytest.mark.clock
def test_readiness_goes_at_once_and_new_requests_are_taken_for_the_grace(start: Start, tmp_path: Path) -> None:  # noqa: F811
    published(tmp_path)
    service = start("--grace", "3")
    url = service.url
    assert get(url, "/ready").json()["status"] == "ready"
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    until(lambda: get(url, "/ready").status_code == 503, 1)
    assert get(url, "/ready").json() == {"error": "the service is stopping", "status": "stopping"}
    # Alive, and taking what a load balancer still sends; nobody is to keep the connection.
    assert get(url, "/health").status_code == 200
    answer = post(url)
    assert answer.status_code == 200 and answer.headers["connection"] == "close" and time.monotonic() - began < 3
    assert service.end() == 0
    assert 3 <= time.monotonic() - began < 8


@pytest.mark.clock
def test_a_kept_connection_that_is_idle_is_closed(start: Start, tmp_path: Path) -> None:  # noqa: F811
    published(tmp_path)
    service = start("--grace", "0")
    with httpx.Client(base_url=service.url, trust_env=False, timeout=5) as connection:
        assert connection.get("/health").status_code == 200
        began = time.monotonic()
        assert service.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5


def test_under_load_no_accepted_request_is_lost(start: Start, tmp_path: Path) -> None:  # noqa: F811
    """Clients that keep their connections ask until they are refused one: whatever was not refused was answered."""
    id = published(tmp_path)
    service = start(FAKE_DELAY="0.05")
    url = service.url
    answers: list[Any] = []

    def client(number: int) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            for n in range(10_000):
                try:
                    answer = http.post("/api/v1/translate", json={"source": "is", "target": "en", "text": f"a {number} {n}"})
                except httpx.ConnectError:
                    return
                except httpx.HTTPError as e:
                    return answers.append(e)
                answers.append(answer.json().get("adapter") if answer.status_code == 200 else answer.status_code)

    clients = [threading.Thread(target=client, args=(i,)) for i in range(6)]
    for c in clients:
        c.start()
    until(lambda: len(answers) > 30)
    assert service.end(signal.SIGTERM) == 0
    for c in clients:
        c.join()
    assert set(answers) == {id}, {str(a) for a in answers}


@pytest.mark.clock
def test_a_client_that_has_connected_may_be_slow_to_ask(start: Start, tmp_path: Path) -> None:  # noqa: F811
    """Its connection was accepted before the end; it is on a busy machine, or far away."""
    id = published(tmp_path)
    service = start("--grace", "0")
    host, port = service.url.removeprefix("http://").split(":")
    body = json.dumps({"source": "is", "target": "en", "text": "a"}).encode()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.7)
        head = f"POST /api/v1/translate HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200") and id.encode() in answer
    assert service.process.wait(10) == 0


@pytest.mark.clock
def test_what_takes_longer_than_the_drain_time_is_answered_with_503(start: Start, tmp_path: Path) -> None:  # noqa: F811
    published(tmp_path)
    # The calls that prove the adapter take as long.
    service = start("--drain", "1", "--grace", "0", FAKE_DELAY="3")
    url, answers = service.url, list[Any]()
    thread = asking(url, answers)
    until(lambda: WAITING in get(url, "/metrics").text)
    began = time.monotonic()
    assert service.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 6
    thread.join()
    assert answers[0].status_code == 503 and "fake engine closed" in service.err
    assert "requests are left after 1 s" in service.err


@pytest.mark.clock
def test_an_engine_that_hangs_is_not_waited_for(start: Start, tmp_path: Path) -> None:  # noqa: F811
    published(tmp_path)
    service = start("--drain", "1", "--grace", "0")
    url, answers = service.url, list[Any]()
    thread = asking(url, answers, "hang the engine")
    until(lambda: WAITING in get(url, "/metrics").text)
    began = time.monotonic()
    assert service.end(signal.SIGTERM) == 70
    # The drain time, and five seconds.
    assert time.monotonic() - began < 6.5
    assert "ended by force: the engine did not end in time" in service.err
    thread.join()


@pytest.mark.clock
def test_the_engine_dies_and_the_adapters_come_back_with_the_next_process(start: Start, tmp_path: Path) -> None:  # noqa: F811
    id, other = published(tmp_path), published(tmp_path, "en-is", seed=2)
    service = start(FAKE_DELAY="1")
    url, answers = service.url, list[Any]()
    under_way = asking(url, answers)
    until(lambda: WAITING in get(url, "/metrics").text)
    began = time.monotonic()
    last = asking(url, answers, "kill the engine")
    assert service.end(seconds=20) == 70
    assert time.monotonic() - began < 10
    for thread in (under_way, last):
        thread.join()
    assert [a.status_code for a in answers] == [503, 503]
    assert "the engine has died" in service.err and "Traceback" not in service.err
    again = start()
    assert post(again.url).json()["adapter"] == id
    pairs = {p["pair"]: (p["state"], p["adapter"]) for p in get(again.url, "/api/v1/adapters").json()["pairs"]}
    assert pairs == {"is-en": ("live", id), "en-is": ("live", other)}


def test_readiness_goes_when_the_engine_dies(tmp_path: Path) -> None:
    from tests.serve.adapters.test_follower import Bench
    from tests.support.serving import running

    bench = Bench(tmp_path)
    bench.publish(seed=1)
    with running(bench.base, bench.registry) as service:
        assert service.http.get("/ready").status_code == 200
        service.engine.alive = False
        answer = service.http.get("/ready")
        assert answer.status_code == 503 and answer.json()["status"] == "down" and service.http.get("/health").status_code == 200


def test_nothing_to_serve_is_not_ready(start: Start, tmp_path: Path) -> None:  # noqa: F811
    light_base(cache_dir())
    service = start("--base", "light")
    service.said("ready: .* no pair is live yet")
    url = service.said(r"(http://\S+): starting")[1]
    answer = get(url, "/ready")
    assert answer.status_code == 503 and answer.json()["status"] == "empty" and get(url, "/health").status_code == 200
    published(tmp_path)
    until(lambda: get(url, "/ready").status_code == 200)
    assert service.end(signal.SIGTERM) == 0


def test_only_adapters_that_cannot_be_used_is_not_ready(start: Start, tmp_path: Path) -> None:  # noqa: F811
    published(tmp_path, seed=13)
    url = start().url
    assert get(url, "/ready").json()["status"] == "empty"
    assert "does not act" in post(url).json()["error"]


@pytest.fixture
def grandchildren() -> Iterator[Callable[[int], list[int]]]:
    """The processes under one, by their ids."""

    def of(pid: int) -> list[int]:
        lines = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split("\n")
        pairs = [tuple(map(int, line.split())) for line in lines if line.strip()]
        children = [p for p, parent in pairs if parent == pid]
        return [*children, *(g for f in children for g in of(f))]

    yield of


@pytest.mark.long
def test_vllms_process_is_killed(tiny: Any, tmp_path: Path, grandchildren: Callable[[int], list[int]]) -> None:
    pytest.importorskip("vllm")
    from tests.support.tiny import make_tiny_adapter

    id = publish(Registry(), make_tiny_adapter(tmp_path / "a", tiny))
    service = Process("--engine", "vllm", module="tellmt")
    try:
        url = service.said(r"ready: (http://\S+),", 200)[1]
        assert post(url).json()["adapter"] == id
        core = next(p for p in grandchildren(service.process.pid) if "EngineCor" in Path(f"/proc/{p}/comm").read_text())
        answers: list[Any] = []
        thread = asking(url, answers, "Þetta er löng setning um veðrið. " * 20 + "\n" + "Önnur lína.\n" * 150)
        until(lambda: "tellmt_segments_waiting 0.0" not in get(url, "/metrics").text)
        os.kill(core, signal.SIGKILL)
        assert service.end(seconds=20) == 70
        thread.join()
        assert answers[0].status_code == 503 and "the engine has died" in service.err
        assert grandchildren(service.process.pid) == []
    finally:
        if service.process.poll() is None:
            service.process.kill()


@pytest.mark.parametrize("where", ["pipe", "full"])
def test_a_log_that_nobody_reads_or_that_is_full_stops_nothing(isolated: Path, tmp_path: Path, where: str) -> None:
    """Whoever collected stderr has ended, or its disk is full: what is published still goes live, and the signal still ends the service."""
    published(tmp_path)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    words = [sys.executable, "-m", "tests.support.fake_serve", "serve", "--port", str(port)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = subprocess.PIPE if where == "pipe" else open("/dev/full", "w")  # noqa: SIM115
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log, env=env)
    try:
        if process.stderr:
            process.stderr.close()
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return get(url, "/ready").status_code == 200
            except httpx.HTTPError:
                assert process.poll() is None, process.returncode
                return False

        until(answers, 60)
        newer = published(tmp_path / "b", seed=2)
        until(lambda: post(url).json().get("adapter") == newer)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        if not isinstance(log, int):
            log.close()
