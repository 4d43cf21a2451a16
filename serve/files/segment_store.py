"""The segments of a run over files, each different one once, on disk: those that are translated, and the others in shards. A killed run goes on from it.

Reads and writes one SQLite file. Translations that are recorded stay when the process is killed; a machine that loses power may lose the last moments, and
the next run translates those segments again. Segments are known by their text, so files may be read anew, or change, between two runs.
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
SHARD_SIZE = 2048
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
class SegmentResult:
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
class StoredSegment:
    """A segment in the store: its translation (None: there is none), flags, origin (`engine` or `corpus`), or the problem that kept it untranslated."""

    text: str | None
    flags: tuple[str, ...]
    origin: str
    problem: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """The segments that the files have now: how many different ones, how often they stand in the files, and their characters; `done`: those translated."""

    segments: int
    times: int
    characters: int
    done: int
    done_times: int
    done_characters: int


@dataclasses.dataclass(frozen=True, slots=True)
class ReportEntry:
    """Something about one unit of a file that the report tells. `kind`: `failed`, `bad` (unreadable), `flagged` or `warning`."""

    file: str
    place: str
    kind: str
    source: str
    translation: str
    reason: str


def _text_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class SegmentStore:
    """Raises OSError when the disk is full, TellmtError when the file is damaged."""

    def __init__(self, path: Path):
        self.path = path
        with self._readable_errors():
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            # A kill loses nothing; a power cut at most the last results.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as e:
            if "full" in str(e):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from None
            raise TellmtError("the translations so far cannot be kept", place=str(self.path), found=str(e), valid="a writable TELLMT_CACHE") from None
        except sqlite3.DatabaseError as e:
            raise TellmtError("the translations so far cannot be read", place=str(self.path), found=str(e), valid="the same command with --fresh") from None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._readable_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Collecting

    def start_collecting(self) -> None:
        """Called before files are read: no segment is counted yet, and segments that failed are tried again."""
        with self._transaction() as db:
            db.execute("UPDATE segment SET times = 0, problem = NULL")
            db.execute("DELETE FROM noted")

    def add(self, texts: Iterable[str]) -> None:
        """Count segments that stand in the files, new ones as not translated."""
        rows = [(_text_hash(t), t, len(t)) for t in texts]
        with self._transaction() as db:
            db.executemany("INSERT INTO segment (hash, text, size, times) VALUES (?, ?, ?, 1) ON CONFLICT (hash) DO UPDATE SET times = times + 1", rows)

    def add_known(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Take (source, translation) pairs of a corpus as the translations of these segments; of several pairs with one source, the first."""
        update = "UPDATE segment SET made = ?, flags = '', origin = 'corpus' WHERE hash = ? AND times AND made IS NULL"
        with self._transaction() as db:
            db.executemany(update, ((target, _text_hash(source)) for source, target in pairs))

    def drop_other_adapters(self, adapter: str) -> int:
        """Throw the translations of all other adapters away; returns how many segments that were."""
        with self._transaction() as db:
            if not db.execute("SELECT 1 FROM adapter WHERE id != ?", (adapter,)).fetchone():
                return 0
            db.execute("DELETE FROM adapter")
            return db.execute("UPDATE segment SET made = NULL, flags = '', origin = '' WHERE origin = 'engine'").rowcount

    def divide_into_shards(self) -> None:
        """Put the segments without a translation into shards, the longest first: what is too much shows at once, and the time left is never too hopeful."""
        with self._transaction() as db:
            db.execute("UPDATE segment SET shard = NULL")
            db.execute("DELETE FROM shard")
            db.execute(
                "UPDATE segment SET shard = ranked.place / ? FROM"
                " (SELECT id, row_number() OVER (ORDER BY size DESC, id) - 1 AS place FROM segment WHERE times AND made IS NULL) AS ranked"
                " WHERE segment.id = ranked.id",
                (SHARD_SIZE,),
            )
            db.execute("CREATE INDEX IF NOT EXISTS by_shard ON segment (shard, size)")
            db.execute("INSERT INTO shard SELECT DISTINCT shard, 'open' FROM segment WHERE shard IS NOT NULL")

    # Translating

    def totals(self) -> Totals:
        with self._readable_errors():
            row = self._db.execute(
                "SELECT count(*), total(times), total(size), total(made IS NOT NULL), total((made IS NOT NULL) * times), total((made IS NOT NULL) * size)"
                " FROM segment WHERE times"
            ).fetchone()
        return Totals(*map(int, row))

    def shards(self) -> Iterator[Shard]:
        """The open shards, each with its segments that are not translated yet."""
        with self._readable_errors():
            numbers = [n for (n,) in self._db.execute("SELECT number FROM shard WHERE state = 'open' ORDER BY number")]
        for number in numbers:
            with self._readable_errors():
                rows = self._db.execute(
                    "SELECT id, text FROM segment WHERE shard = ? AND made IS NULL AND problem IS NULL ORDER BY size DESC, id", (number,)
                ).fetchall()
            yield Shard(number, tuple(i for i, _ in rows), tuple(t for _, t in rows))

    def sample(self, count: int) -> Shard:
        """Segments of all lengths, evenly."""
        with self._readable_errors():
            rows = self._db.execute(
                "WITH ranked AS (SELECT id, text, size, row_number() OVER (ORDER BY size DESC, id) - 1 AS place, count(*) OVER () AS n FROM segment"
                " WHERE times AND made IS NULL) SELECT id, text FROM ranked WHERE place * ? / n != (place - 1) * ? / n OR place = 0 ORDER BY size DESC, id",
                (count, count),
            ).fetchall()
        return Shard(-1, tuple(i for i, _ in rows), tuple(t for _, t in rows))

    def record(self, ids: Sequence[int], results: Sequence[SegmentResult], adapters: Sequence[str]) -> int:
        """Keep the results of segments, and the ids of the adapters that translated. Returns how often these segments stand in the files."""
        rows = [(None if r.failed is not None else r.text, ",".join(r.flags), "engine", r.failed, i) for i, r in zip(ids, results, strict=True)]
        with self._transaction() as db:
            db.executemany("UPDATE segment SET made = ?, flags = ?, origin = ?, problem = ? WHERE id = ?", rows)
            db.executemany("INSERT OR IGNORE INTO adapter SELECT ?, count(*) FROM adapter", [(a,) for a in adapters])
            marks = ",".join("?" * len(ids))
            times: int = db.execute(f"SELECT total(times) FROM segment WHERE id IN ({marks})", list(ids)).fetchone()[0]
        return int(times)

    def close_shard(self, number: int) -> None:
        with self._transaction() as db:
            db.execute("UPDATE shard SET state = 'done' WHERE number = ?", (number,))

    def adapters(self) -> list[str]:
        """The ids of the adapters that translated, in the order of their first answers."""
        with self._readable_errors():
            return [a for (a,) in self._db.execute("SELECT id FROM adapter ORDER BY place")]

    # Writing

    def find(self, text: str) -> StoredSegment | None:
        """The segment of this text; None where no file had it when they were read."""
        with self._readable_errors():
            row = self._db.execute("SELECT made, flags, origin, problem FROM segment WHERE hash = ? AND times", (_text_hash(text),)).fetchone()
        if row is None:
            return None
        translation, flags, origin, problem = row
        return StoredSegment(translation, tuple(f for f in flags.split(",") if f), origin, problem)

    def add_entries(self, entries: Sequence[ReportEntry]) -> None:
        with self._transaction() as db:
            db.executemany("INSERT INTO noted VALUES (?, ?, ?, ?, ?, ?)", [dataclasses.astuple(e) for e in entries])

    def entries(self, *kinds: str) -> Iterator[ReportEntry]:
        with self._readable_errors():
            marks = ",".join("?" * len(kinds))
            for row in self._db.execute(f"SELECT * FROM noted WHERE kind IN ({marks}) ORDER BY rowid", kinds):
                yield ReportEntry(*row)
