"""Every driver over the tiny base, for the suite that all of them pass: in this process (ct2, vllm), and a real `vllm serve` (openai)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tell.adapter.card import CONFIG, WEIGHTS, Adapter, adapter_id, read_card, write_card
from tell.files import sha256_file
from tell.machine import processor_flags
from tell.model.base import Base
from tell.model.engine import Engine, EngineOptions, Prompt, open_engine
from tests.support.tiny import make_tiny_adapter, make_tiny_base

RANK = 8
CONTEXT = 512
KEY = "a-key-that-no-message-shows"
slow = pytest.mark.slow
DRIVERS = ["ct2", pytest.param("vllm", marks=slow), pytest.param("openai", marks=slow)]


def _end_with_parent() -> None:
    """Tests that are killed leave no server behind: prctl's PR_SET_PDEATHSIG, Linux alone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class VllmServe:
    """`vllm serve` of the tiny base in its CPU build, as an operator would start it; killed with all its processes by `kill`."""

    def __init__(self, base: Base, log: Path, max_loras: int = 48):
        self.base, self.log, self.max_loras = base, log, max_loras
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Raises AssertionError with the end of its log when it does not come up."""
        options = {
            "host": "127.0.0.1", "port": self.port, "served-model-name": self.base.id, "dtype": "bfloat16", "max-model-len": CONTEXT, "max-num-seqs": 16,
            "max-loras": self.max_loras, "max-cpu-loras": self.max_loras, "max-lora-rank": RANK, "api-key": KEY,
        }  # fmt: skip
        flags = [f"--{name}={value}" for name, value in options.items()]
        env = {
            **os.environ,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        # What `vllm serve` runs. That command itself does not start where the package is named vllm-cpu.
        module = "vllm.entrypoints.openai.api_server"
        command = [sys.executable, "-P", "-m", module, f"--model={self.base.path}", *flags, "--enable-lora", "--enforce-eager"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.log.parent, preexec_fn=_end_with_parent
            )
        end = time.monotonic() + 150
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=5, trust_env=False).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.split("\n") if line.startswith(name))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def need_exact_int8(engine: Engine) -> None:
    """Skip what holds ct2's int8 against float32 on a random base where ctranslate2 adds int8 products in 16 bits (docs/engines.md)."""
    flags = processor_flags()
    intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8") if flags else False
    if engine.name == "ct2" and "avx2" in flags and not intel and not flags & {"avx512_vnni", "avx_vnni"}:
        pytest.skip("ctranslate2's int8 is not exact on this processor: AVX2 without VNNI, not Intel's")


@pytest.fixture
def in_cache(isolated: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLMT_CACHE", str(tiny_cache))


@pytest.fixture(scope="session")
def base(tiny_cache: Path) -> Base:
    return make_tiny_base(tiny_cache)


@pytest.fixture(scope="session")
def adapters(base: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Adapter]:
    home = tmp_path_factory.mktemp("adapters")
    return make_tiny_adapter(home / "a", base, seed=1, rank=RANK), make_tiny_adapter(home / "b", base, seed=2, rank=RANK)


@pytest.fixture(scope="session")
def vllm_serve(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServe]:
    """One for the session; what uses it leaves it as it was, up and without an adapter.

    More slots than loads: its CPU build never empties one (see docs/engines.md).
    """
    server = VllmServe(make_tiny_base(tiny_cache), tmp_path_factory.mktemp("vllm-serve") / "log")
    yield server
    server.kill()


def unstarted_engine(name: str, base: Base, server: VllmServe | None = None, **more: Any) -> Engine:
    """A driver that is not started."""
    url = {"url": server.url} if server else {"url": "http://127.0.0.1:9"} if name == "openai" else {}
    return open_engine(name, EngineOptions(base=base, **{"max_adapters": 2, "max_rank": RANK, "max_batch": 16, "max_context": CONTEXT, **url, **more}))


@contextlib.contextmanager
def with_key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLMT_ENGINE_KEY", KEY)
        yield


@dataclasses.dataclass
class Running:
    """A started engine, and the loop it lives on."""

    engine: Engine
    runner: asyncio.Runner

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(asyncio.wait_for(work, 200))

    def texts(self, prompts: list[Prompt], adapter_id: str | None) -> list[str]:
        return [g.text for g in self.do(self.engine.generate(prompts, adapter_id))]


def server_for(name: str, request: pytest.FixtureRequest) -> VllmServe | None:
    """What the driver needs: nothing, vLLM, or a server of it. Skips where vLLM is not installed."""
    if name in ("vllm", "openai"):
        pytest.importorskip("vllm")
    server: VllmServe | None = request.getfixturevalue("vllm_serve") if name == "openai" else None
    return server


@pytest.fixture(scope="session", params=DRIVERS)
def running(request: pytest.FixtureRequest, base: Base, tiny_cache: Path) -> Iterator[Running]:
    """One of each driver for all files that ask; what uses it leaves it as it was."""
    with asyncio.Runner() as runner, with_key(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLMT_CACHE", str(tiny_cache))
        engine = unstarted_engine(request.param, base, server_for(request.param, request))
        runner.run(engine.start())
        yield Running(engine, runner)
        runner.run(engine.close())


@pytest.fixture
def loaded(running: Running, adapters: tuple[Adapter, Adapter]) -> Iterator[tuple[str, str]]:
    """Both adapters in the engine; the ids."""
    for a in adapters:
        running.do(running.engine.load(a.id, a.path))
    yield adapters[0].id, adapters[1].id
    for a in adapters:
        running.do(running.engine.unload(a.id))


def prompts(n: int, max_tokens: int = 24, one_line: bool = False) -> list[Prompt]:
    """Different lengths, so that batches are uneven."""
    return [Prompt((2, *range(300 + 7 * i, 310 + 7 * i + 3 * i)), max_tokens, one_line) for i in range(n)]


def altered(adapter: Adapter, path: Path, config: dict[str, Any] | None = None, tensors: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Adapter:
    """A copy that is whole and has a right card, but says or holds something else."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter.path, path)
    if config:
        (path / CONFIG).write_text(json.dumps({**json.loads((path / CONFIG).read_text()), **config}))
    if tensors:
        save_file(tensors(load_file(path / WEIGHTS)), path / WEIGHTS)
    card = read_card(path).model_copy(update={"files": {n: sha256_file(path / n) for n in (WEIGHTS, CONFIG)}})
    write_card(path, card)
    # Not verified: what is wrong with it is for the engine to find.
    return Adapter(adapter_id(card), path, card)
