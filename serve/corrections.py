"""Keeps users' corrections for scoring and retraining. Appends to the file of `tellmt serve --feedback FILE`, one JSON object a line, mode 0600.

A line has `source` and the correction as `target`, so that `tellmt corpus build` reads it as a pair; and the pair, the adapter and its translation, the
time, and the name of the key. The file is opened for each line, so it can be moved away while the service runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tell.errors import TellmtError

# Size of the file, about a hundred thousand corrections. Any client that may translate can fill the file, and must not fill the disk.
MAX_BYTES = 64 << 20


class NotKept(TellmtError):
    status = 503


class NoRoom(TellmtError):
    status = 507


class Feedback:
    def __init__(self, path: Path, max_bytes: int = MAX_BYTES):
        """Raises NotKept when the file cannot be written."""
        self.path, self.max_bytes = path, max_bytes
        with self._open():
            pass

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as e:
            raise NotKept("the feedback file cannot be written", place=str(self.path), found=e.strerror or str(e)) from None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotKept("the feedback file is no file", place=str(self.path), valid="a file, or a name where there is none yet")
            yield fd
        finally:
            os.close(fd)

    def keep(self, record: dict[str, Any]) -> None:
        """Append a line, whole or not at all, and return when it is on the disk. Raises NoRoom and NotKept."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        with self._open() as fd:
            # Several services on one machine may share the file.
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            if size + len(line) > self.max_bytes:
                raise NoRoom("the feedback file is full")
            # A person who edited the file may have left the last line without its end.
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line
            try:
                if os.write(fd, line) < len(line):
                    raise OSError("the disk is full")
                os.fsync(fd)
            except OSError as e:
                os.ftruncate(fd, size)
                raise NotKept("the feedback file cannot be written", place=str(self.path), found=e.strerror or str(e)) from None
