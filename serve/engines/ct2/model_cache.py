"""`<cache>/ct2`: which converted models are in use, and which are removed when they take more space than they may.

A model in use is a directory with a shared lock (flock) on it, held by every process that has it open: locks end with their process, so
a crash leaves none. Pruning takes an exclusive lock on what it removes and skips what it cannot lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tell.errors import BadInput

logger = logging.getLogger(__name__)

MARK = "tellmt-ct2.json"
LIMIT = "TELLMT_CT2_CACHE_GB"
# About seventy adapters of Gemma 3 270M (275 MB each), or two of a model of 8 billion weights.
DEFAULT_GB = 20.0
# Seconds after which an unlocked temporary directory counts as left by a process that was killed.
ABANDONED = 60


def limit_bytes() -> int:
    """From TELLMT_CT2_CACHE_GB, in units of 10^9 bytes; 0 keeps only what is loaded. Raises BadInput."""
    text = os.environ.get(LIMIT, "")
    try:
        gigabytes = float(text) if text else DEFAULT_GB
        if not 0 <= gigabytes < 1e6:
            raise ValueError
    except ValueError:
        raise BadInput("not a size", place=LIMIT, found=text, valid="a number of GB, such as 20") from None
    return int(gigabytes * 1e9)


class ModelLock:
    """A converted model in use by this process, until `release`."""

    def __init__(self, fd: int):
        self._fd = fd

    def release(self) -> None:
        if self._fd >= 0:
            # Releases the lock too.
            os.close(self._fd)
            self._fd = -1


def lock_model(path: Path) -> ModelLock | None:
    """Lock a model for use, and record the time of use. None when it is gone or is being removed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    # A file system without locks is not pruned either.
    with contextlib.suppress(OSError):
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
    try:
        # Between opening and locking it may have been moved away, and another put in its place.
        same = os.fstat(fd).st_ino == os.stat(path).st_ino
    except OSError:
        same = False
    if not same:
        os.close(fd)
        return None
    # A read-only cache still serves.
    with contextlib.suppress(OSError):
        os.utime(path / MARK)
    return ModelLock(fd)


def lock_unfinished(aside: Path) -> None:
    """Lock a directory that is being written, for as long as this process lives."""
    with contextlib.suppress(OSError):
        fcntl.flock(os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_SH)


def _models(folder: Path) -> list[tuple[float, int, Path]]:
    """(last use, bytes, directory) of every converted model, the least recently used first."""
    models = []
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_dir():
            continue
        with contextlib.suppress(OSError):
            last_used = (path / MARK).stat().st_mtime if (path / MARK).exists() else path.stat().st_mtime
            models.append((last_used, sum(f.stat().st_size for f in path.iterdir()), path))
    return sorted(models)


@contextlib.contextmanager
def _prune_lock(folder: Path) -> Iterator[None]:
    """Only one process prunes at a time: two would each remove as much as is needed."""
    with open(folder / ".prune.lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _exclusively_locked(path: Path) -> Iterator[bool]:
    """Whether no process has the directory locked; if so it is locked exclusively for the block."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked = True
        except OSError:
            unlocked = False
        yield unlocked
    finally:
        os.close(fd)


def _remove(path: Path) -> bool:
    """Remove a model unless it is in use. It is renamed first, so that no process opens half of one."""
    with _exclusively_locked(path) as unlocked:
        if unlocked:
            aside = path.parent / f".{path.name}.old.{os.getpid()}.{time.monotonic_ns()}"
            os.rename(path, aside)
            shutil.rmtree(aside, ignore_errors=True)
        return unlocked


def sweep(folder: Path) -> None:
    """Remove what was left half-written or half-removed by processes that were killed."""
    for leftover in [*folder.glob(".*.new.*"), *folder.glob(".*.old.*")]:
        with contextlib.suppress(OSError), _exclusively_locked(leftover) as unlocked:
            if unlocked and time.time() - leftover.stat().st_mtime > ABANDONED:
                shutil.rmtree(leftover)


def prune(folder: Path, limit: int) -> list[str]:
    """Remove models that no process has loaded, the least recently used first, until the rest take at most `limit` bytes. Returns their names."""
    removed: list[str] = []
    # A folder that does not exist or cannot be written is not pruned.
    with contextlib.suppress(OSError), _prune_lock(folder):
        sweep(folder)
        models = _models(folder)
        total = sum(size for _, size, _ in models)
        for _, size, path in models:
            if total <= limit:
                break
            with contextlib.suppress(OSError):
                if _remove(path):
                    total -= size
                    removed.append(path.name)
    for name in removed:
        logger.warning(f"{folder}: removed {name}, the longest unused; {LIMIT} bounds this cache")
    return removed
