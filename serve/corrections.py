"""Corrected translations, kept for scoring and retraining. Appends to the file of `tellmt serve --feedback FILE`, one JSON object a line, mode 0600.

A line has `source` and `target`, the correction, so that `tellmt corpus build` reads it as a pair; and beside them the pair, the adapter and what it had
written, the time, and the name of the key. The file is opened anew for each line: it can be moved away while the service runs.
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

# Of the file: about a hundred thousand corrections. Who may translate may fill it, and must not fill the disk.
MAX_BYTES = 64 << 20


class NotKept(TellmtError):
    status = 503


class NoRoom(TellmtError):
    status = 507


class Feedback:
    def __init__(self, path: Path, most: int = MAX_BYTES):
        """Raises NotKept when the file cannot be written."""
        self.path, self.most = path, most
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
        """Append a line, all of it or nothing; returns when it is on the disk. Raises NoRoom and NotKept."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        with self._open() as fd:
            # Of several services on one machine, one at a time.
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            if size + len(line) > self.most:
                raise NoRoom("no more feedback is kept: its file is full")
            # Whoever wrote to it by hand may have left the last line open.
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line
            try:
                if os.write(fd, line) < len(line):
                    raise OSError("the disk is full")
                os.fsync(fd)
            except OSError as e:
                os.ftruncate(fd, size)
                raise NotKept("the feedback file cannot be written", place=str(self.path), found=e.strerror or str(e)) from None
