"""Keeps what building a corpus needs of each segment: some 50 bytes in memory, the texts on disk.

Writes a spool beside the corpus (`tell.spool`), which is removed at the end.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator

from tell.corpus.readers.segment import BLANK, ReadReport
from tell.spool import Spool

# What a document is: one that the file names; a stretch between blank lines, whose name changes with its place; and lines that nothing joins.
NAMED, STRETCH, LOOSE = range(3)
# Without any sign of documents, this many consecutive lines are taken for one: neighbours are often about the same thing.
BLOCK = 10


def hashed(*texts: str) -> int:
    """64 bits of the texts, never 0, the same in every process."""
    raw = "\n".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little") or 1


class FirstSeen:
    """A hash table from hashes to their first positions, or to other numbers of 32 bits. A dict of millions of numbers would take ten times the memory."""

    def __init__(self) -> None:
        self._keys, self._where = array("Q", bytes(8 << 10)), array("I", bytes(4 << 10))
        self._mask = (1 << 10) - 1
        self._held = 0

    def first(self, key: int, where: int) -> int | None:
        """The first position of the key; None when the key is new, and then `where` is stored as its position."""
        keys, mask = self._keys, self._mask
        at = key & mask
        while occupant := keys[at]:
            if occupant == key:
                return self._where[at]
            at = (at + 1) & mask
        keys[at], self._where[at] = key, where
        self._held += 1
        if 5 * self._held > 3 * mask:
            self._grow()
        return None

    def _slot(self, key: int) -> int:
        at = key & self._mask
        while self._keys[at] not in (0, key):
            at = (at + 1) & self._mask
        return at

    def get(self, key: int) -> int | None:
        """What is stored for the key; None where nothing is."""
        at = self._slot(key)
        return self._where[at] if self._keys[at] else None

    def replace(self, key: int, where: int) -> None:
        """Stores another number for a key that is there."""
        self._where[self._slot(key)] = where

    def values(self) -> Iterator[int]:
        return (value for key, value in zip(self._keys, self._where, strict=True) if key)

    def _grow(self) -> None:
        keys, where = self._keys, self._where
        mask = self._mask = 2 * len(keys) - 1
        self._keys, self._where = array("Q", bytes(16 * len(keys))), array("I", bytes(8 * len(keys)))
        for key, value in zip(keys, where, strict=True):
            if key:
                at = key & mask
                while self._keys[at]:
                    at = (at + 1) & mask
                self._keys[at], self._where[at] = key, value


class NumberedNames:
    """Gives each different string a number, from 0."""

    def __init__(self, *known: str):
        self.all = list(known)
        self._numbers = {name: i for i, name in enumerate(known)}

    def number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.all)
            self.all.append(name)
        return number


class SegmentTable:
    """Columns of all segments in the order in which they were read.

    `reason` 0 is none; `letters` are the hashes of each side's letters, 0 where it has none. `kinds` says of each document what it is.
    """

    def __init__(self, spool: Spool):
        self.spool = spool
        self.reasons, self.files = NumberedNames(""), NumberedNames()
        # Names of documents, each with its file; the first is for segments that are in none yet.
        self.documents: list[str] = [""]
        self.kinds = bytearray([LOOSE])
        self.file, self.line, self.doc, self.reason = array("H"), array("I"), array("I"), array("H")
        self.exact, self.near = array("Q"), array("Q")
        self.letters = array("Q"), array("Q")
        self._begun = 0
        self._docs = NumberedNames("")

    def __len__(self) -> int:
        return len(self.line)

    def open_file(self, label: str) -> None:
        """Assigns the segments that are added from now on to this file."""
        self._file = self.files.number(label)
        self._begun = len(self)
        self._docs = NumberedNames("")

    def add(
        self,
        lines: list[int],
        docs: list[str],
        reasons: list[str | None],
        hashes: tuple[array[int], array[int], array[int], array[int]],
        texts: Iterable[bytes],
    ) -> None:
        """Adds a batch of segments. `hashes` are those of the pair, of its letters, and of each side's letters; `texts` are the lines for the spool."""
        self.line.extend(lines)
        self.file.extend([self._file] * len(lines))
        self.doc.extend(map(self._docs.number, docs))
        self.reason.extend(self.reasons.number(r or "") for r in reasons)
        for column, values in zip((self.exact, self.near, *self.letters), hashes, strict=True):
            column.extend(values)
        for text in texts:
            self.spool.add(text)

    def close_file(self, reading: ReadReport) -> None:
        """Assigns documents to the file's segments: those that it names, else the stretches between blank lines, else blocks of lines."""
        names, kind = (self._docs.all, NAMED) if reading.documents else self._grouped(reading)
        label = self.files.all[self._file]
        start = len(self.documents)
        self.documents.extend(f"{label}/{name}" for name in names)
        self.kinds.extend([kind] * len(names))
        for i in range(self._begun, len(self)):
            if names[self.doc[i]] == "":
                self.doc[i] = len(self.documents)
                self.documents.append(f"{label}/line-{self.line[i]}")
                self.kinds.append(LOOSE)
            else:
                self.doc[i] += start

    def _grouped(self, reading: ReadReport) -> tuple[list[str], int]:
        """Names and kind of documents between blank lines or, where these give fewer than three, blocks of lines."""
        blank = self.reasons.number(BLANK)
        groups, inside = 0, False
        for i in range(self._begun, len(self)):
            now = self.reason[i] != blank
            groups += now and not inside
            inside = now
            self.doc[i] = max(groups, 1) - 1
        if groups >= 3:
            reading.documents = "blank lines"
            return [f"part-{n + 1:05}" for n in range(groups)], STRETCH
        for i in range(self._begun, len(self)):
            self.doc[i] = (i - self._begun) // BLOCK
        reading.documents = f"blocks of {BLOCK} lines"
        return [f"block-{n + 1:05}" for n in range((len(self) - self._begun - 1) // BLOCK + 1)], LOOSE

    def drop(self, i: int, reason: str) -> None:
        self.reason[i] = self.reasons.number(reason)

    def good(self) -> Iterator[int]:
        """The segments that have no reason to be dropped."""
        return (i for i, r in enumerate(self.reason) if not r)
