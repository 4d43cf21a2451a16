"""A real Redis for tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.serving import until


def tool(name: str, package: str) -> str:
    """The path of a program. Without it a test is skipped, and fails where everything is to run (CI)."""
    if (path := shutil.which(name)) is None:
        problem = f"no {name} on this machine (Debian: apt-get install {package})"
        pytest.fail(problem) if os.environ.get("CI") else pytest.skip(problem)
    return path


class Redis:
    """A server on a port of its own, which can be stopped and started again, and then knows what it knew."""

    def __init__(self, folder: Path):
        self._program = tool("redis-server", "redis-server")
        pytest.importorskip("coredis", reason="limits[async-redis] is not installed")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.folder = folder
        self.uri = f"redis://:geheim@127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = [self._program, "--port", self.port, "--bind", "127.0.0.1", "--requirepass", "geheim", "--save", "", "--appendonly", "yes"]
        self.process = subprocess.Popen([str(w) for w in (*words, "--dir", self.folder)], stdout=subprocess.DEVNULL)

        def answers() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.sendall(b"AUTH geheim\r\nPING\r\n")
                    time.sleep(0.02)
                    return b"PONG" in s.recv(100)
            except OSError:
                return False

        until(answers)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
