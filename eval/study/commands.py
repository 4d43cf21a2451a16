"""The commands of a study's runs: each in a process of its own on its share of the cores. Writes their standard error to the run's log."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tell.errors import TellmtError
from tell.machine import cores


class RunFailed(TellmtError):
    """A command of a run failed."""


class CommandPool:
    """The commands of the runs: each in a process of its own on the cores of its lane. All of them end with the study."""

    def __init__(self, directory: Path, lanes: int):
        self.directory = directory
        self.stopping = threading.Event()
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self.lanes: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores()))
        for lane in range(lanes):
            # More lanes than cores share them.
            self.lanes.put(usable[lane::lanes] or [usable[lane % len(usable)]])

    def call(self, lane: list[int], log: Path, *args: str, module: str = "tellmt") -> str:
        """Run a command and return its standard output; its standard error goes to `log`. Raises RunFailed with the last line of the log."""
        if self.stopping.is_set():
            raise RunFailed("the study was stopped")
        # One thread per core: libraries that count the cores of the machine would start too many.
        environment = {**os.environ, "OMP_NUM_THREADS": str(len(lane)), "TOKENIZERS_PARALLELISM": "false" if len(lane) == 1 else "true"}
        pin = (lambda: os.sched_setaffinity(0, lane)) if hasattr(os, "sched_setaffinity") else None
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *args], cwd=self.directory, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True,
                start_new_session=True, preexec_fn=pin,
            )  # fmt: skip
            with self._lock:
                self._running.add(process)
                # `stop` may have been called since the check above.
                if self.stopping.is_set():
                    _end(process)
            try:
                stdout, _ = process.communicate()
            finally:
                with self._lock:
                    self._running.discard(process)
        if process.returncode:
            last = [x for x in log.read_text(encoding="utf-8", errors="replace").split("\n") if x.strip()][-1:] or ["no message"]
            raise RunFailed("a command of the study failed", place=str(log), found=f"exit {process.returncode}: {last[0]}")
        return stdout

    def stop(self) -> None:
        """End every command. Training saves its state and continues from it the next time."""
        self.stopping.set()
        with self._lock:
            for process in self._running:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


@contextmanager
def stopped_by_signals(commands: CommandPool) -> Iterator[None]:
    """SIGINT and SIGTERM end the running commands, and then the study."""
    handlers = {s: signal.signal(s, lambda number, frame: commands.stop()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
