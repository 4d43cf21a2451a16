"""Where runs over files keep their translations until all outputs are written: one directory a run in the cache, readable by its owner alone.

A run that ends well removes its directory; the same command finds that of an interrupted run again. A directory that no run came back to is removed after a
month.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve.files.segment_store import SegmentStore
from tell.errors import BadInput
from tell.files import key_of
from tell.paths import cache_dir, writable

# Seconds.
MONTH = 30 * 86400.0


@contextmanager
def run_store(settings: dict[str, Any], fresh: bool) -> Iterator[tuple[SegmentStore, Path]]:
    """The store of the run with these settings, and its directory; a `fresh` run begins with an empty store.

    Raises BadInput while another process works on it, OSError on a full disk.
    """
    root = writable(cache_dir() / "translate", "cache", "TELLMT_CACHE")
    for abandoned in root.iterdir():
        if abandoned.is_dir() and time.time() - abandoned.stat().st_mtime > MONTH:
            shutil.rmtree(abandoned, ignore_errors=True)
    directory = root / key_of(settings)[:32]
    directory.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput("the same files are being translated by another process", place=str(directory), valid="wait for it, or end it") from None
        if fresh:
            for earlier in directory.glob("ledger.sqlite*"):
                earlier.unlink()
        os.utime(directory)
        store = SegmentStore(directory / "ledger.sqlite")
        try:
            yield store, directory
        finally:
            store.close()
    finally:
        os.close(lock)


def remove_run(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
