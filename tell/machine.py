"""What the operating system reports about this machine: cores, memory, disk, GPUs. Linux and macOS; standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tell.extras import has_gpu

# Names in /proc/cpuinfo of the instructions that make bfloat16 products fast (x86; the last is ARM's).
BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
# Intel's processors multiply by the second of them no faster than in float32, and what is around it costs: a Xeon whose virtual machine hides its AMX
# trained at 121 tokens/s so, and at 193 in float32 (docs/results/train-speed.md). AMD's do twice as many.
NOT_INTELS = "avx512_bf16"
# mallopt(3) of glibc.
_M_ARENA_MAX = -8


def _run(*command: str) -> str:
    """What a command prints, or nothing when it is not there, fails or takes over five seconds."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def give_back() -> None:
    """Let the C library return freed memory to the system. Beside large things that come and go it keeps what small ones left between them, which
    grows for as long as they do: after tokenising 250 MB, after a training step as much as its micro-batches took, after each model that is unloaded.
    Does nothing where the library has no such call (macOS, musl)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def share_memory_of_threads() -> None:
    """Let the threads of this process, dozens in a service, take memory from two pools instead of eight a core: freed memory of one is free for the others.
    glibc alone has the call; MALLOC_ARENA_MAX, where it is set, is obeyed instead."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def cores() -> int:
    """The cores this process may use, a container's limit counted."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        count = max(1, min(count, -(-int(quota) // int(period))))
    return count


def processor() -> str:
    """The processor's name, by which machines that round alike are told from others."""
    names = [line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").split("\n") if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def processor_flags() -> set[str]:
    """The instructions that the processor has, as /proc/cpuinfo names them; empty where there is no such file."""
    lines = [line.partition(":") for line in _read("/proc/cpuinfo").split("\n")]
    return {word for key, _, value in lines if key.strip().lower() in ("flags", "features") for word in value.split()}


def bf16() -> str:
    """Whether the CPU multiplies bfloat16 faster than float32: yes, no (it may be able to, slowly) or unknown."""
    if sys.platform == "darwin":
        return "yes" if _run("sysctl", "-n", "hw.optional.arm.FEAT_BF16").strip() == "1" else "no"
    lines = [line.partition(":") for line in _read("/proc/cpuinfo").split("\n")]
    flags = processor_flags()
    if any(key.strip() == "vendor_id" and value.strip() == "GenuineIntel" for key, _, value in lines):
        flags.discard(NOT_INTELS)
    return "unknown" if not flags else "yes" if flags & BF16_FLAGS else "no"


def memory() -> tuple[int | None, int | None]:
    """Total and available bytes, a container's limit counted; None for what cannot be told."""
    try:
        total: int | None = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        total = None
    rows = dict(line.split(":", 1) for line in _read("/proc/meminfo").split("\n") if ":" in line)
    available = int(rows["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in rows else None
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and total is not None and int(limit) < total:
        total = int(limit)
        if used.isdigit() and available is not None:
            available = max(0, min(available, total - int(used)))
    return total, available


def gpus() -> list[dict[str, Any]]:
    if not has_gpu():
        return []
    rows = _run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    cells = [[c.strip() for c in row.split(",")] for row in rows.split("\n") if row.count(",") == 2]
    # A device that nvidia-smi cannot describe is still one.
    return [{"name": n, "memory": int(m) << 20 if m.isdigit() else None, "driver": d} for n, m, d in cells] or [
        {"name": "an NVIDIA GPU that nvidia-smi does not describe", "memory": None, "driver": "unknown"}
    ]


def directory(path: Path) -> dict[str, Any]:
    """Free bytes where `path` lies or would be made, and what stands in the way of writing there."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    problem = None
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        problem = f"the cache cannot be written: {path}; set TELLMT_CACHE to a directory that can"
    return {"path": str(path), "free": shutil.disk_usage(there).free, "problem": problem}


def machine(cache: Path) -> dict[str, Any]:
    total, available = memory()
    return {
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": cores(),
        "bf16": bf16(),
        "memory": total,
        "memory_available": available,
        "gpus": gpus(),
        "cache": directory(cache),
    }
