"""What a run over files has still to translate and what it has: every different segment once, in shards, on the disk. A run that was killed goes on from it.

Reads and writes one SQLite file. What is recorded stays when the process is killed; when the machine is, the last moments may be lost, and are translated
again. Segments are known by their text, so files may be read anew, or change, between two runs.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tell.errors import TellmtError

# Segments of one shard: some minutes of work for a CPU, seconds for a GPU.
SHARD = 2048
_SCHEMA = """
CREATE TABLE IF NOT EXISTS segment (
    id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL, size INTEGER NOT NULL, times INTEGER NOT NULL,
    made TEXT, flags TEXT NOT NULL DEFAULT '', origin TEXT NOT NULL DEFAULT '', problem TEXT, shard INTEGER
);
CREATE TABLE IF NOT EXISTS shard (number INTEGER PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS adapter (id TEXT PRIMARY KEY, place INTEGER);
CREATE TABLE IF NOT EXISTS noted (file TEXT NOT NULL, place TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, made TEXT NOT NULL, why TEXT NOT NULL);
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A segment's translation with its flags, the worst first; or in `failed` the reason why there is none."""

    text: str
    flags: tuple[str, ...] = ()
    failed: str | None = None

    @property
    def truncated(self) -> bool:
        return "truncated" in self.flags


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """A unit of work: segments that are translated together, longest first. It knows nothing of files, and its results are recorded by its ids,
    so shards may be worked on anywhere and in any order."""

    number: int
    ids: tuple[int, ...]
    texts: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What the ledger has of a segment: its translation, or the reason why there is none."""

    text: str | None
    flags: tuple[str, ...]
    origin: str
    problem: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Of the segments that the files have now: different ones, how often they stand there, and characters; `done` of these."""

    segments: int
    times: int
    characters: int
    done: int
    done_times: int
    done_characters: int


@dataclasses.dataclass(frozen=True, slots=True)
class Noted:
    file: str
    place: str
    kind: str
    source: str
    made: str
    why: str


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Ledger:
    """Raises OSError when the disk is full, TellmtError when the file is damaged."""

    def __init__(self, path: Path):
        self.path = path
        with self._told():
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            # A kill loses nothing; a power cut at most what came last.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as e:
            if "full" in str(e):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from None
            raise TellmtError("what was translated so far cannot be kept", place=str(self.path), found=str(e), valid="a writable TELLMT_CACHE") from None
        except sqlite3.DatabaseError as e:
            raise TellmtError("what was translated so far cannot be read", place=str(self.path), found=str(e), valid="the same command with --fresh") from None

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Collecting

    def begin(self) -> None:
        """Files are about to be read: nothing stands in them yet, and what failed is tried again."""
        with self._change() as db:
            db.execute("UPDATE segment SET times = 0, problem = NULL")
            db.execute("DELETE FROM noted")

    def add(self, texts: Iterable[str]) -> None:
        rows = [(_hash(t), t, len(t)) for t in texts]
        with self._change() as db:
            db.executemany("INSERT INTO segment (hash, text, size, times) VALUES (?, ?, ?, 1) ON CONFLICT (hash) DO UPDATE SET times = times + 1", rows)

    def reuse(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Translations that are there already, by their sources; of several the first."""
        update = "UPDATE segment SET made = ?, flags = '', origin = 'corpus' WHERE hash = ? AND times AND made IS NULL"
        with self._change() as db:
            db.executemany(update, ((target, _hash(source)) for source, target in pairs))

    def forget(self, adapter: str) -> int:
        """Throw away what other adapters have translated; how many segments that were."""
        with self._change() as db:
            if not db.execute("SELECT 1 FROM adapter WHERE id != ?", (adapter,)).fetchone():
                return 0
            db.execute("DELETE FROM adapter")
            return db.execute("UPDATE segment SET made = NULL, flags = '', origin = '' WHERE origin = 'engine'").rowcount

    def divide(self) -> None:
        """Put what is to be translated into shards, the longest segments first: what is too much shows at once, and the time left is never too hopeful."""
        with self._change() as db:
            db.execute("UPDATE segment SET shard = NULL")
            db.execute("DELETE FROM shard")
            db.execute(
                "UPDATE segment SET shard = ranked.place / ? FROM"
                " (SELECT id, row_number() OVER (ORDER BY size DESC, id) - 1 AS place FROM segment WHERE times AND made IS NULL) AS ranked"
                " WHERE segment.id = ranked.id",
                (SHARD,),
            )
            db.execute("CREATE INDEX IF NOT EXISTS by_shard ON segment (shard, size)")
            db.execute("INSERT INTO shard SELECT DISTINCT shard, 'open' FROM segment WHERE shard IS NOT NULL")

    # Translating

    def totals(self) -> Totals:
        with self._told():
            row = self._db.execute(
                "SELECT count(*), total(times), total(size), total(made IS NOT NULL), total((made IS NOT NULL) * times), total((made IS NOT NULL) * size)"
                " FROM segment WHERE times"
            ).fetchone()
        return Totals(*map(int, row))

    def shards(self) -> Iterator[Shard]:
        """The shards that are open, each with what is not translated yet."""
        with self._told():
            numbers = [n for (n,) in self._db.execute("SELECT number FROM shard WHERE state = 'open' ORDER BY number")]
        for number in numbers:
            with self._told():
                rows = self._db.execute(
                    "SELECT id, text FROM segment WHERE shard = ? AND made IS NULL AND problem IS NULL ORDER BY size DESC, id", (number,)
                ).fetchall()
            yield Shard(number, tuple(i for i, _ in rows), tuple(t for _, t in rows))

    def sample(self, count: int) -> Shard:
        """Segments of all lengths, evenly."""
        with self._told():
            rows = self._db.execute(
                "WITH ranked AS (SELECT id, text, size, row_number() OVER (ORDER BY size DESC, id) - 1 AS place, count(*) OVER () AS n FROM segment"
                " WHERE times AND made IS NULL) SELECT id, text FROM ranked WHERE place * ? / n != (place - 1) * ? / n OR place = 0 ORDER BY size DESC, id",
                (count, count),
            ).fetchall()
        return Shard(-1, tuple(i for i, _ in rows), tuple(t for _, t in rows))

    def record(self, ids: Sequence[int], done: Sequence[Done], adapters: Sequence[str]) -> int:
        """Keep what came of segments. Returns how often they stand in the files."""
        rows = [(None if d.failed is not None else d.text, ",".join(d.flags), "engine", d.failed, i) for i, d in zip(ids, done, strict=True)]
        with self._change() as db:
            db.executemany("UPDATE segment SET made = ?, flags = ?, origin = ?, problem = ? WHERE id = ?", rows)
            db.executemany("INSERT OR IGNORE INTO adapter SELECT ?, count(*) FROM adapter", [(a,) for a in adapters])
            marks = ",".join("?" * len(ids))
            times: int = db.execute(f"SELECT total(times) FROM segment WHERE id IN ({marks})", list(ids)).fetchone()[0]
        return int(times)

    def close_shard(self, number: int) -> None:
        with self._change() as db:
            db.execute("UPDATE shard SET state = 'done' WHERE number = ?", (number,))

    def adapters(self) -> list[str]:
        """Those that translated, in the order of their first answers."""
        with self._told():
            return [a for (a,) in self._db.execute("SELECT id FROM adapter ORDER BY place")]

    # Writing

    def find(self, text: str) -> Found | None:
        """None where no file had this segment when they were read."""
        with self._told():
            row = self._db.execute("SELECT made, flags, origin, problem FROM segment WHERE hash = ? AND times", (_hash(text),)).fetchone()
        return None if row is None else Found(row[0], tuple(f for f in row[1].split(",") if f), row[2], row[3])

    def note(self, rows: Sequence[Noted]) -> None:
        with self._change() as db:
            db.executemany("INSERT INTO noted VALUES (?, ?, ?, ?, ?, ?)", [dataclasses.astuple(r) for r in rows])

    def noted(self, *kinds: str) -> Iterator[Noted]:
        with self._told():
            marks = ",".join("?" * len(kinds))
            for row in self._db.execute(f"SELECT * FROM noted WHERE kind IN ({marks}) ORDER BY rowid", kinds):
                yield Noted(*row)
