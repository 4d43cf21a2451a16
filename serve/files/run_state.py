"""Where runs over files keep what they have translated until all of it is written: one directory a run in the cache, readable by its owner alone.

A run that ends well removes its own; one that was interrupted is found again by what it was asked. What nobody came back to is removed after a month.
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

from serve.files.segment_store import Ledger
from tell.errors import BadInput
from tell.files import key_of
from tell.paths import cache_dir, writable

# Seconds.
MONTH = 30 * 86400.0


@contextmanager
def state(asked: dict[str, Any], fresh: bool) -> Iterator[tuple[Ledger, Path]]:
    """The ledger of the run that was asked this, and its directory. Raises BadInput while another process works on it, OSError on a full disk."""
    root = writable(cache_dir() / "translate", "cache", "TELLMT_CACHE")
    for old in root.iterdir():
        if old.is_dir() and time.time() - old.stat().st_mtime > MONTH:
            shutil.rmtree(old, ignore_errors=True)
    place = root / key_of(asked)[:32]
    place.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput("the same files are being translated by another process", place=str(place), valid="wait for it, or end it") from None
        if fresh:
            for left in place.glob("ledger.sqlite*"):
                left.unlink()
        os.utime(place)
        ledger = Ledger(place / "ledger.sqlite")
        try:
            yield ledger, place
        finally:
            ledger.close()
    finally:
        os.close(lock)


def forget(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
