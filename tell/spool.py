"""Lines set aside on disk while a mix is made, so that memory holds where they are and not what they say."""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

# Examples tokenised at once: enough to keep every core busy, few enough to hold in memory.
BATCH = 4096


class Spool:
    """Lines by number, in a file that is removed at the end. A line that has been added can be read at once."""

    def __init__(self, path: Path):
        self._path = path
        self._file = path.open("w+b", buffering=1 << 20)
        self._starts = array("Q", [0])
        self._flushed = True

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def add(self, line: bytes) -> int:
        """The number of the line, which must bring its own end."""
        self._file.write(line)
        self._starts.append(self._starts[-1] + len(line))
        self._flushed = False
        return len(self._starts) - 2

    def blocks(self, numbers: Sequence[int]) -> Iterator[bytes]:
        """These lines in this order, some at a time."""
        self._file.flush()
        starts = self._starts
        # Mapped, not read line by line: a million calls would take as long as the rest of the writing.
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as lines:
            for at in range(0, len(numbers), BATCH):
                yield b"".join([lines[starts[i] : starts[i + 1]] for i in numbers[at : at + BATCH]])

    def lines(self) -> Iterator[bytes]:
        """All lines in the order in which they were added, read from the beginning."""
        self._file.seek(0)
        yield from self._file

    def read(self, number: int) -> bytes:
        if not self._flushed:
            self._file.flush()
            self._flushed = True
        start = self._starts[number]
        return os.pread(self._file.fileno(), self._starts[number + 1] - start, start)
