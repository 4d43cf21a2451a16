"""The two builds: a checkout of the commit that figures are compared with beside this one, each with its own cache, worked by a process with its own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving.harness.load import BenchFailed
from benchmarks.serving.harness.process import ROOT

# The last commit whose converted models have the whole vocabulary of their base, are merged in float32, and run one batch at a time.
COMMIT = "d05bb2e078e8fd04708f241061d213ae53772ad2"
AGENT = Path(__file__).with_name("agent.py")
SIDES = ("before", "now")


def checkout(folder: Path, commit: str = COMMIT) -> Path:
    """The files of that commit, in a git worktree. Raises BenchFailed where this checkout lacks it."""
    if (folder / "pyproject.toml").exists():
        return folder
    git = ["git", "-C", str(ROOT)]
    subprocess.run([*git, "worktree", "prune"], check=False, capture_output=True)
    done = subprocess.run([*git, "worktree", "add", "--force", "--detach", str(folder), commit], check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchFailed(f"no checkout of {commit[:12]} can be made: {done.stderr.strip()[-200:]}; valid: a clone with its whole history")
    return folder


def code_version() -> str:
    """The last commit that changed what is measured, `+` where files differ from it: figures of another one are not this build's."""
    paths = ["tell", "train", "eval", "serve", "tellmt", "adapters"]
    git = ["git", "-C", str(ROOT)]
    last = subprocess.run([*git, "log", "-1", "--format=%h", "--", *paths], capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "--", *paths], capture_output=True, text=True, check=False).stdout.strip()
    return last + ("+" if changed else "")


class Build:
    """`name` is `before` or `now`; `ask` sends a request to the build's own process, which is started by the first."""

    def __init__(self, name: str, root: Path, work: Path, engine: str, threads: int, module: str):
        self.name, self.root, self.work = name, root, work
        self._opening = {"root": str(root), "work": str(work), "engine": engine, "threads": threads, "module": module}
        self._process: subprocess.Popen[str] | None = None

    @property
    def env(self) -> dict[str, str]:
        """What makes a command run this build's code with this build's cache and adapters."""
        env = {k: v for k, v in os.environ.items() if k != "TELLMT_REGISTRY"}
        return {**env, "PYTHONPATH": str(self.root), "TELLMT_CACHE": str(self.work / "cache"), "HF_HUB_OFFLINE": "1"}

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Raises BenchFailed with what the build says."""
        if self._process is None:
            # The base is the user's: the build's own process links to it from its cache.
            env = {k: v for k, v in self.env.items() if k != "TELLMT_CACHE"} | {k: v for k, v in os.environ.items() if k == "TELLMT_CACHE"}
            pipe = subprocess.PIPE
            self._process = subprocess.Popen([sys.executable, "-P", str(AGENT)], stdin=pipe, stdout=pipe, text=True, cwd=self.root, env=env)
            self._exchange(self._opening)
        return self._exchange({"do": do, **arguments})

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed(f"{self.name}: the process ended with exit code {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        if problem := reply.get("problem"):
            raise BenchFailed(f"{self.name}: {problem}")
        return reply

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            try:
                self._process.wait(120)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@contextmanager
def both(work: Path, engine: str, threads: int, module: str, before: Path | None = None) -> Iterator[tuple[Build, Build]]:
    """The earlier build, or the one of the checkout `before`, and this one."""
    roots = {"before": before.absolute() if before else checkout(work / "checkout"), "now": ROOT}
    builds = tuple(Build(name, roots[name], work / name, engine, threads, module) for name in SIDES)
    try:
        yield builds[0], builds[1]
    finally:
        for build in builds:
            build.close()
