"""`tellmt serve` as a process: its ready line, ports, signals and exit codes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
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
from tests.conftest import ROOT, Ran
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import publish, until


class Process:
    """`tellmt serve --port 0` over the fake engine; stderr is collected as it comes."""

    def __init__(self, *args: str, module: str = "tests.support.fake_serve", start_new_session: bool = False, **env: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "serve", "--port", "0", *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=start_new_session,
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def err(self) -> str:
        return "\n".join(self.lines)

    def said(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        match: re.Match[str] = until(lambda: re.search(pattern, self.err) or (self.process.poll() is not None and pytest.fail(self.err)), seconds)
        return match

    @property
    def url(self) -> str:
        # vLLM needs over a minute to start on a busy machine.
        return self.said(r"ready: (http://\S+),", 180)[1]

    def end(self, number: int | None = None, seconds: float = 40) -> int:
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(seconds)
        self._reader.join()
        assert "Traceback" not in self.err, self.err
        return code


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def run(*args: str, **env: str) -> Process:
        processes.append(Process(*args, **env))
        return processes[-1]

    yield run
    for p in processes:
        if p.process.poll() is None:
            p.process.kill()
        p.process.wait()
        p._reader.join()


def published(root: Path, pair: str = "is-en", base_id: str = "light", seed: int = 1) -> str:
    base = light_base(cache_dir(), base_id)
    return publish(Registry(), light_adapter(root / f"{pair}-{base_id}", base, pair, seed))


def post(url: str, text: str = "a", timeout: float = 30) -> httpx.Response:
    return httpx.post(f"{url}/api/v1/translate", json={"source": "is", "target": "en", "text": text}, timeout=timeout, trust_env=False)


def test_it_says_when_it_is_ready_and_ends_on_sigterm(start: Any, tmp_path: Path) -> None:
    id = published(tmp_path)
    service = start()
    url = service.url
    assert f"ready: {url}, engine fake, base light, is-en {id[:12]}" in service.err
    assert len([x for x in service.lines if x.startswith("ready:")]) == 1
    assert post(url).json()["adapter"] == id
    assert service.end(signal.SIGTERM) == 0
    assert "fake engine closed" in service.err
    # No line per request.
    assert "/api/v1" not in service.err and "GET" not in service.err


def test_ctrl_c_is_130(start: Any, tmp_path: Path) -> None:
    published(tmp_path)
    service = start()
    assert service.url
    assert service.end(signal.SIGINT) == 130
    assert "fake engine closed" in service.err


@pytest.mark.clock
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_requests_under_way_end_and_no_new_connection_is_taken(start: Any, tmp_path: Path, number: int, code: int) -> None:
    published(tmp_path)
    service = start("--grace", "0", FAKE_DELAY="2.5")
    url = service.url
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(post(url).status_code))
    asking.start()
    until(lambda: "tellmt_segments_waiting 1.0" in httpx.get(f"{url}/metrics", trust_env=False).text)
    service.process.send_signal(number)

    def closed() -> bool:
        try:
            httpx.get(f"{url}/health", trust_env=False, timeout=1)
        except httpx.TransportError:
            return True
        return False

    until(closed)
    assert service.process.poll() is None and answers == []
    asking.join()
    assert answers == [200]
    assert service.end() == code
    assert "fake engine closed" in service.err


@pytest.mark.clock
def test_a_second_signal_ends_it_at_once(start: Any, tmp_path: Path) -> None:
    published(tmp_path)
    service = start(FAKE_DELAY="3")
    url = service.url
    cut_off: list[bool] = []

    def ask() -> None:
        try:
            post(url)
        except httpx.TransportError:
            cut_off.append(True)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: "tellmt_segments_waiting 1.0" in httpx.get(f"{url}/metrics", trust_env=False).text)
    service.process.send_signal(signal.SIGTERM)
    service.said("stopping")
    began = time.monotonic()
    assert service.end(signal.SIGTERM) == -signal.SIGTERM
    assert time.monotonic() - began < 2
    asking.join()
    assert cut_off


def test_it_answers_health_while_the_engine_starts_and_can_be_stopped_then(start: Any, tmp_path: Path) -> None:
    published(tmp_path)
    service = start(FAKE_START_DELAY="60")
    url = service.said(r"(http://\S+): starting")[1]

    def health() -> bool:
        try:
            return httpx.get(f"{url}/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    until(health)
    ready = httpx.get(f"{url}/ready", trust_env=False)
    assert ready.status_code == 503 and "starting" in ready.json()["error"]
    early = post(url)
    assert early.status_code == 503 and "starting" in early.json()["error"] and early.headers["retry-after"]
    assert service.end(signal.SIGTERM, 15) == 0
    assert "fake engine closed" in service.err


def test_an_engine_that_cannot_start_is_told_in_one_line(start: Any, tmp_path: Path) -> None:
    published(tmp_path)
    service = start(FAKE_START_FAILURE="no memory for this base")
    assert service.end() == 1
    assert "tellmt: no memory for this base" in service.lines
    assert "fake engine closed" in service.err


def test_json(start: Any, tmp_path: Path) -> None:
    id = published(tmp_path)
    service = start("--json")
    assert service.url
    assert service.process.stdout
    ready = json.loads(service.process.stdout.readline())
    assert ready == {"url": service.url, "engine": "fake", "base": "light", "pairs": {"is-en": id}, "refused": {}}
    assert service.end(signal.SIGTERM) == 0
    assert service.process.stdout.read() == ""


def test_a_port_in_use_is_named_before_anything_starts(cli: Callable[..., Ran], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        began = time.monotonic()
        ran = cli("serve", "--port", port, ok=False)
    assert ran.code == 1
    assert ran.err == f"tellmt: 127.0.0.1: port {port} is in use; valid: another port, with --port, or 0 for any that is free\n"
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--engine", "vlm"], 2, "unknown engine; found vlm; valid: vllm (did you mean this?)"),
        (["--port", "99999"], 2, "99999"),
        (["--host", "no.such.host.invalid"], 1, "no such host"),
        (["--host", "192.0.2.1"], 1, "port 0 cannot be bound"),
        (["--base", "no-such-base"], 1, "no such base"),
        ([], 1, "this base is not in the cache; found gemma-3-270m; valid: run: tellmt base fetch gemma-3-270m"),
    ],
)
def test_what_cannot_be_started(cli: Callable[..., Ran], args: list[str], code: int, message: str) -> None:
    ran = cli("serve", "--port", "0", "--engine", "ct2", *args, ok=False)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_an_empty_registry_then_a_first_version(start: Any, tmp_path: Path) -> None:
    light_base(cache_dir())
    service = start("--base", "light")
    assert service.said("ready: .* no pair is live yet")
    answer = post(service.url)
    assert answer.status_code == 400 and answer.json()["pairs"] == []
    id = published(tmp_path)
    until(lambda: post(service.url).status_code == 200)
    assert post(service.url).json()["adapter"] == id
    service.said(f"is-en: {id[:12]} is live")


def test_the_base_is_that_of_most_live_adapters_and_the_others_are_told(start: Any, tmp_path: Path) -> None:
    for pair, base in (("is-en", "light"), ("en-is", "light"), ("fo-is", "other")):
        published(tmp_path, pair, base)
    broken = published(tmp_path, "de-en", "other")
    (Registry().path(broken) / "card.json").write_text("{")
    service = start("--json")
    url = service.url
    assert service.process.stdout
    ready = json.loads(service.process.stdout.readline())
    assert ready["base"] == "light" and sorted(ready["pairs"]) == ["en-is", "is-en"]
    assert "adapter and base do not match" in ready["refused"]["fo-is"] and "card cannot be read" in ready["refused"]["de-en"]
    states = {p["pair"]: p["state"] for p in httpx.get(f"{url}/api/v1/adapters", trust_env=False).json()["pairs"]}
    assert states == {"is-en": "live", "en-is": "live", "fo-is": "refused", "de-en": "refused"}


def test_settings_come_from_the_environment_and_the_file(start: Any, tmp_path: Path) -> None:
    id = published(tmp_path)
    Path("tellmt.toml").write_text('[serve]\nmax_chars = 5\nhost = "127.0.0.1"\n')
    service = start(TELLMT_SERVE_BASE="light")
    assert post(service.url, "abcde").json()["adapter"] == id
    assert "at most 5" in post(service.url, "abcdef").json()["error"]


@pytest.mark.parametrize("engine", ["ct2", pytest.param("vllm", marks=pytest.mark.long)])
def test_ctrl_c_in_a_terminal_reaches_the_engines_processes_too_and_requests_still_end(engine: str, tiny: Any, tmp_path: Path) -> None:
    from tests.support.tiny import make_tiny_adapter

    if importlib.util.find_spec({"ct2": "ctranslate2"}.get(engine, engine)) is None:
        pytest.skip(f"{engine} is not installed")
    id = publish(Registry(), make_tiny_adapter(tmp_path / "a", tiny))
    service = Process("--engine", engine, module="tellmt", start_new_session=True)
    try:
        url = service.url
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(post(url, "Þetta er löng setning um veðrið. " * 20 + "\n" + "Önnur lína.\n" * 150, 120)))
        asking.start()
        until(lambda: "tellmt_segments_waiting 0.0" not in httpx.get(f"{url}/metrics", trust_env=False).text)
        # As a terminal does it: to the whole process group.
        os.killpg(service.process.pid, signal.SIGINT)
        asking.join()
        assert answers[0].status_code == 200 and answers[0].json()["adapter"] == id
        assert service.end() == 130
    finally:
        if service.process.poll() is None:
            os.killpg(service.process.pid, signal.SIGKILL)


def test_the_table_of_flags_is_that_of_the_command() -> None:
    import click

    from serve.cli import serve

    rows = re.findall(r"^\| `--([a-z-]+)` \| ([^|]*) \|", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: default.strip() for name, default in rows}
    options = {p.opts[0].removeprefix("--"): p for p in serve.params if isinstance(p, click.Option) and p.opts[0] not in ("--json", "--help")}
    assert set(documented) == set(options)
    for name, option in options.items():
        default_text = str(option.default) if option.show_default else ""
        assert documented[name].strip("`") == default_text, name


def test_the_unit_in_the_documentation_knows_the_exit_codes() -> None:
    from serve.config import ListenConfig
    from serve.server import DIED, FORCE

    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (unit,) = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    assert "Restart=on-failure" in unit and f"| {DIED} |" in text
    assert int(re.findall(r"TimeoutStopSec=(\d+)", unit)[0]) > ListenConfig().drain + FORCE
