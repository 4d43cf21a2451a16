#!/usr/bin/env python3
"""One of the two builds that `engine_bench.py` compares: a process with that build's own code, adapters and cache.

Started by its path with the build's checkout as PYTHONPATH, so that `serve`, `tell` and the harness of the serving benchmarks are the build's own. Reads one
request (JSON) a line from stdin and writes one JSON object a line to stdout. `Agent` has a method for each request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Agent:
    def __init__(self, root: str, work: str, engine: str, threads: int, module: str):
        import tell
        from benchmarks.serving.harness.workspace import prepare

        self.code = Path(root).resolve()
        if not Path(tell.__file__).resolve().is_relative_to(self.code):
            raise RuntimeError(f"the code comes from {Path(tell.__file__).parent}, not from {self.code}")
        self.options = argparse.Namespace(engine=engine, threads=threads, module=module, serve_option=[])
        self.work = prepare(Path(work).absolute())
        os.environ["TELLMT_CACHE"] = str(self.work.cache)
        self.service: Any = None
        self._registry: Any = None
        self._numbers = time.time_ns() % 1_000_000_007

    def _unique(self) -> int:
        """A number of a copy that no cache has."""
        self._numbers += 1
        return self._numbers

    def _live(self, adapters: list[list[Any]]) -> Any:
        """A registry in which these copies, as (pair, number, the shipped adapter that is copied), are live."""
        from benchmarks.serving.harness.workspace import variant

        registry = self.work.registry("-".join(pair for pair, _, _ in adapters) + "-live")
        for pair, number, of in adapters:
            registry.promote(pair, variant(self.work, registry, pair, number, of=of), "bench")
        return registry

    def serve(self, adapters: list[list[Any]], cache: bool = False) -> dict[str, Any]:
        """Start the service and convert what its cache lacks. `cache`: whether it keeps translations, as it does by default."""
        from benchmarks.serving.harness.workspace import serve

        self._registry = self._live(adapters)
        most = max(2, len(adapters) + 1)
        self.service = serve(self.options, self.work, self._registry, len(adapters), max_adapters=most, cache_mb=None if cache else 0)
        return {"pid": self.service.pid}

    def through(self, pairs: list[str], texts: list[str], n: int) -> dict[str, Any]:
        """Every text as a request of its own, `n` under way, the pairs in turn."""
        from benchmarks.serving.harness.client import translation_request
        from benchmarks.serving.harness.process import sample
        from benchmarks.serving.harness.sides import as_run, through

        used = sample(self.service.pid).cpu
        run = as_run(through(self.service, [translation_request(pairs[i % len(pairs)], t) for i, t in enumerate(texts)], n))
        return {"seconds": run.seconds, "texts": run.texts, "cpu": sample(self.service.pid).cpu - used}

    def rest(self) -> dict[str, Any]:
        """Resident MiB of the service: the least of some looks, since allocations come and go."""
        from benchmarks.serving.harness.process import sample

        looks = []
        for _ in range(5):
            time.sleep(0.4)
            looks.append(sample(self.service.pid).memory)
        return {"mib": min(looks)}

    def live(self) -> dict[str, Any]:
        """Seconds from a new adapter's directory to the first answer that names it: registered, promoted, converted, opened."""
        from benchmarks.serving.harness.process import sample
        from benchmarks.serving.harness.workspace import variant

        used, began = sample(self.service.pid).cpu, time.perf_counter()
        id = variant(self.work, self._registry, "is-en", self._unique(), 0.9)
        self._registry.promote("is-en", id, "bench")
        while self._ask("is-en")[1].get("adapter") != id:
            if time.perf_counter() - began > 900:
                raise RuntimeError(f"{id[:12]} was promoted and did not answer within 15 minutes")
            time.sleep(0.1)
        return {"seconds": time.perf_counter() - began, "service_cpu": sample(self.service.pid).cpu - used}

    def _ask(self, pair: str) -> tuple[int, dict[str, Any]]:
        """Status and answer to one short text; status 0 where nobody answered."""
        source, target = pair.split("-")
        body = json.dumps({"source": source, "target": target, "text": "Já."}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.service.url}/api/v1/translate", body, {"Content-Type": "application/json"})) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, {}
        except OSError:
            return 0, {}

    def start(self, adapters: list[list[Any]]) -> dict[str, Any]:
        """Seconds from the start of the process to its first answer. What it serves must have been converted before."""
        from benchmarks.serving.harness.process import Served, sample

        registry = self._live(adapters)
        arguments = ["--no-shipped", "--registry", str(registry.root), "--engine", self.options.engine]
        env = {"TELLMT_CACHE": str(self.work.cache), "TELLMT_REGISTRY": str(registry.root)}
        began = time.perf_counter()
        self.service = Served(self.options.module, arguments, env, self.work.root / "serve.log")
        while self.service.process.poll() is None and time.perf_counter() - began < 300:
            if self.service.url and self._ask(adapters[0][0])[0] == 200:
                took, cpu = time.perf_counter() - began, sample(self.service.pid).cpu
                self.stop()
                return {"seconds": took, "cpu": cpu}
            time.sleep(0.02)
        self.stop()
        raise RuntimeError("the service did not answer within 5 minutes of its start")

    def stop(self) -> dict[str, Any]:
        if self.service is not None:
            service, self.service = self.service, None
            service.__exit__(None, None, None)
        return {}

    def adapter(self) -> dict[str, Any]:
        """The copy whose weights are those that came with the build."""
        from benchmarks.serving.harness.workspace import variant

        registry = self.work.registry("sizes")
        return {"path": str(registry.path(variant(self.work, registry, "is-en")))}

    def convert(self, again: bool = False) -> dict[str, Any]:
        """Convert a copy of an adapter that the cache lacks (the build's own one, when it is not there yet, unless `again`), in a process of its own."""
        from benchmarks.serving.harness.workspace import variant

        registry = self.work.registry("sizes")
        id = variant(self.work, registry, "is-en", self._unique() if again else 0, 0.9 if again else 1.0)
        command = [sys.executable, "-P", __file__, "--convert", str(registry.path(id))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=self.code)
        if done.returncode:
            raise RuntimeError(f"the conversion ended with exit code {done.returncode}")
        result: dict[str, Any] = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
        return result


def convert(adapter: Path) -> dict[str, Any]:
    """What the conversion took: seconds, processor seconds, peak resident MiB of the largest process, and the size of what was written."""
    from serve.engines.ct2.convert import Conversion, convert_model
    from tell.adapter.card import open_adapter
    from tell.machine import cores
    from tell.model.base import find_base

    opened = open_adapter(adapter)
    began = time.perf_counter()
    path = asyncio.run(convert_model(Conversion(find_base(opened.card.base.id), opened, cores())))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.perf_counter() - began
    size = sum(f.stat().st_size for f in path.iterdir() if f.is_file())
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024, "bytes": size, "model": str(path)}


def _end_with_parent(agent: Agent, parent: int) -> None:
    """Take the service along when the benchmark is gone, however it ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    if agent.service is not None:
        agent.service.kill()
    os._exit(1)


def main() -> int:
    if sys.argv[1:2] == ["--convert"]:
        print(json.dumps(convert(Path(sys.argv[2]))))
        return 0
    # Libraries print; what is read by the other side is on a descriptor of its own.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # A signal to the whole group must not end this process before it has taken its service along; it sees its parent end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    agent: Agent | None = None
    parent = os.getppid()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if agent is None:
                agent, reply = Agent(**request), {}
                threading.Thread(target=_end_with_parent, args=(agent, parent), daemon=True).start()
            else:
                reply = getattr(agent, request.pop("do"))(**request)
        except Exception as e:  # whatever the build raises is the other side's to report
            reply = {"problem": f"{type(e).__name__}: {e}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    if agent is not None and agent.service is not None:
        agent.service.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
