"""`tellmt serve` as a process: started on a free port, watched through /proc and /metrics, and stopped."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.serving.harness.load import BenchFailed

ROOT = Path(__file__).resolve().parents[3]
# Seconds: converting eight adapters takes two minutes on two cores, vLLM's start on a GPU one to three.
START, STOP = 1800.0, 90.0


@functools.cache
def help_of(module: str) -> str:
    """What `tellmt serve --help` says, to learn which options this version has."""
    done = subprocess.run([sys.executable, "-m", module, "serve", "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"`{module} serve --help` ended with exit code {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout


def options(module: str, values: Mapping[str, object]) -> list[str]:
    """`values` as arguments, without those that this version does not have."""
    help_text = help_of(module)
    return [word for name, value in values.items() if re.search(rf"{name}\b", help_text) for word in (name, str(value))]


class Served:
    """A running service. `url` once it is ready."""

    def __init__(self, module: str, arguments: Sequence[str], env: Mapping[str, str], log: Path):
        self.arguments = ["serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *self.arguments],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, **env, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        )  # fmt: skip
        self.pid = self.process.pid
        self.url = ""
        self._log = log
        self._said: collections.deque[str] = collections.deque(maxlen=50)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        with self._log.open("a") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                self._said.append(line.rstrip("\n"))
                if ready := re.search(r"ready: (http://\S+?),", line):
                    self.url = ready[1]
                    self._ready.set()
        self._ready.set()

    def ready(self, pairs: int = 0, within: float = START) -> Served:
        """Wait for its ready line, and until it serves that many pairs. Raises BenchFailed with its last words when it ends before."""
        end = time.monotonic() + within
        self._ready.wait(within)
        while self.url and self.process.poll() is None:
            if not pairs or len(self.live()) >= pairs:
                return self
            if time.monotonic() > end:
                break
            time.sleep(0.2)
        last_line = next((line for line in reversed(self._said) if line.strip()), "nothing")
        self.kill()
        raise BenchFailed(f"the service did not become ready with {pairs} pairs; it said last: {last_line}")

    def live(self) -> dict[str, str]:
        """Adapter by pair, from /api/v1/adapters."""
        import json

        with urllib.request.urlopen(f"{self.url}/api/v1/adapters", timeout=60) as answer:
            return {p["pair"]: p["adapter"] for p in json.load(answer)["pairs"] if p["adapter"]}

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by name and labels as they are written."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            rows = answer.read().decode().split("\n")
        return {row.rpartition(" ")[0]: float(row.rpartition(" ")[2]) for row in rows if row and not row.startswith("#")}

    def total(self, name: str) -> float:
        """The sum of a metric over its labels."""
        return sum(value for key, value in self.metrics().items() if key.split("{")[0] == name)

    def has(self, path: str) -> bool:
        """Whether the service has this route."""
        import json

        with urllib.request.urlopen(f"{self.url}/openapi.json", timeout=60) as answer:
            return path in json.load(answer)["paths"]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self, within: float) -> int | None:
        """The exit code; None when it runs still after so many seconds."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left. Raises BenchFailed when it did not end well by itself."""
        self.terminate()
        code = self.ended(STOP)
        self.kill()
        if code != 0:
            raise BenchFailed(f"the service ended with exit code {code} on SIGTERM; its words are in {self._log}" if code else f"it ran on for {STOP:.0f} s")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if self.process.poll() is not None:
            self.kill()
        elif kind is None:
            self.stop()
        else:
            self.kill()


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A process and what it started, at one moment. `memory` is resident MiB, `cpu` seconds of processor time so far."""

    at: float
    memory: float
    descriptors: int
    threads: int
    cpu: float
    processes: int


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    pids = [pid]
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in file.read_text().split():
                pids += tree(int(child))
    return pids


def _usage_of(pid: int) -> tuple[float, int, int, float]:
    folder = Path(f"/proc/{pid}")
    status = dict(row.split(":", 1) for row in (folder / "status").read_text().split("\n") if ":" in row)
    # After the name in brackets, which may hold anything: state is field 3, user and system time are 14 and 15 (proc(5)).
    stat = (folder / "stat").read_text().rpartition(")")[2].split()
    ticks = int(stat[11]) + int(stat[12])
    return int(status.get("VmRSS", "0").split()[0]) / 1024, len(os.listdir(folder / "fd")), int(status["Threads"]), ticks / os.sysconf("SC_CLK_TCK")


def sample(pid: int, but: str = "ct2_convert") -> Sample:
    """Processes whose command holds `but` are left out: a conversion takes its memory with it when it ends."""
    memory, descriptors, threads, cpu, processes = 0.0, 0, 0, 0.0, 0
    for process in tree(pid):
        try:
            if process != pid and but in Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace"):
                continue
            usage = _usage_of(process)
        except (OSError, KeyError, IndexError, ValueError):
            continue  # it has just ended
        memory, descriptors, threads, cpu, processes = memory + usage[0], descriptors + usage[1], threads + usage[2], cpu + usage[3], processes + 1
    return Sample(time.monotonic(), memory, descriptors, threads, cpu, processes)
