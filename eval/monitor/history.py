"""The monitor's history: runs of canary sets, alarms, and signals of the traffic, in SQLite at `<monitor>/history.db`.

The service and `tellmt monitor` write it, even at the same time. Rows keep the order in which they were written, whatever the clock says. The only
texts in it are outputs for canary sets (of baselines and of the newest runs), none of users. The number of rows is bounded. Mode 0600.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tell.errors import TellmtError

SCHEMA = 1
# Seconds to wait for another writer.
BUSY = 5.0
# Rows that are kept: runs of a pair, alarms, signals. About 30 MB in all with ten pairs.
RUNS, ALARMS, SIGNALS = 2000, 1000, 30_000
# Baselines of a pair whose outputs are kept.
BASELINES = 20
# With what the note of a run begins that somebody made a baseline.
ACCEPTED = "accepted: "

_TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, pair TEXT NOT NULL, version TEXT, base TEXT, canary TEXT NOT NULL, state TEXT NOT NULL,
    segments INTEGER NOT NULL, scores TEXT NOT NULL, hard TEXT NOT NULL, against INTEGER, delta REAL, p REAL, findings TEXT NOT NULL,
    baseline INTEGER NOT NULL, note TEXT, seconds REAL NOT NULL, outputs BLOB
);
CREATE INDEX runs_pair ON runs (pair, id);
CREATE TABLE alarms (
    id INTEGER PRIMARY KEY AUTOINCREMENT, opened REAL NOT NULL, closed REAL, pair TEXT NOT NULL, version TEXT, kind TEXT NOT NULL, text TEXT NOT NULL,
    rolled_back TEXT
);
CREATE TABLE signals (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, pair TEXT NOT NULL, version TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX signals_pair ON signals (pair, id);
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, pair TEXT NOT NULL, version TEXT NOT NULL, segments INTEGER NOT NULL, scores TEXT NOT NULL
);
"""


class HistoryError(TellmtError):
    """The history cannot be read or written. Translation goes on."""

    status = 503


@dataclasses.dataclass(frozen=True, slots=True)
class CanaryRun:
    """One run of a canary set. `state` is scored or unreachable; `against` is the run it was compared with; `hard` is {kind: [flagged, all]}."""

    pair: str
    version: str | None
    base: str | None
    canary: str
    state: str
    segments: int = 0
    scores: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    hard: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    against: int | None = None
    delta: float | None = None
    p: float | None = None
    findings: tuple[str, ...] = ()
    baseline: bool = False
    note: str | None = None
    seconds: float = 0.0
    id: int = 0
    time: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outputs:
    """The translations of the segments, in order, and whether each hard text has a flag."""

    texts: list[str]
    flagged: list[bool]

    def pack(self) -> bytes:
        return zlib.compress(json.dumps([self.texts, self.flagged], ensure_ascii=False).encode(errors="replace"))


@dataclasses.dataclass(frozen=True, slots=True)
class BestBaseline:
    """The baseline with the highest chrF2 of the series, which is one of `of` versions'."""

    run: CanaryRun
    outputs: Outputs
    of: int


@dataclasses.dataclass(frozen=True, slots=True)
class Alarm:
    """`closed` is None while the alarm is open. `rolled_back` is the version that was brought back because of it."""

    pair: str
    version: str | None
    kind: str
    text: str
    opened: float = 0.0
    closed: float | None = None
    rolled_back: str | None = None
    id: int = 0


_RUN = "id, time, pair, version, base, canary, state, segments, scores, hard, against, delta, p, findings, baseline, note, seconds"


def _run(row: sqlite3.Row) -> CanaryRun:
    values = dict(row)
    for name in ("scores", "hard", "findings"):
        values[name] = json.loads(values[name])
    return CanaryRun(**{**values, "findings": tuple(values["findings"]), "baseline": bool(values["baseline"])})


class History:
    """Every method opens the file, may run in any thread, and raises HistoryError."""

    def __init__(self, path: Path, busy: float | None = None):
        """`busy`: seconds to wait for another writer."""
        self.path, self.busy = path, BUSY if busy is None else busy

    @contextlib.contextmanager
    def _open(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(self.path, timeout=self.busy, isolation_level=None)
        except (OSError, sqlite3.Error) as e:
            raise self._error(e) from None
        try:
            db.row_factory = sqlite3.Row
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise HistoryError("the history was written by a newer tellmt", place=str(self.path), found=f"schema {version}", valid=f"at most {SCHEMA}")
            if version < SCHEMA:
                self._create(db)
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as e:
            raise self._error(e) from None
        finally:
            # A transaction that was not committed is rolled back.
            db.close()

    def _create(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        # Another process may have been quicker.
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.execute("COMMIT")

    def _error(self, e: Exception) -> HistoryError:
        reason = (isinstance(e, OSError) and e.strerror) or str(e)
        return HistoryError("the monitor's history cannot be used", place=str(self.path), found=reason)

    # Runs

    def add(self, run: CanaryRun, outputs: Outputs | None) -> int:
        """Record a run and return its id. Outputs of the pair's earlier runs are removed, except for those of baselines."""
        values = {**dataclasses.asdict(run), "time": run.time or time.time(), "outputs": outputs.pack() if outputs else None}
        del values["id"]
        for name in ("scores", "hard", "findings"):
            values[name] = json.dumps(values[name])
        with self._open(write=True) as db:
            names = ", ".join(values)
            cursor = db.execute(f"INSERT INTO runs ({names}) VALUES ({', '.join('?' * len(values))})", tuple(values.values()))
            newest = cursor.lastrowid or 0
            db.execute("UPDATE runs SET outputs = NULL WHERE pair = ? AND id < ? AND baseline = 0 AND outputs IS NOT NULL", (run.pair, newest))
            old = "SELECT id FROM runs WHERE pair = ? AND baseline = 1 ORDER BY id DESC LIMIT -1 OFFSET ?"
            # The best of the series stays, however many come after it.
            best = "SELECT id FROM runs WHERE pair = ? AND canary = ? AND base IS ? AND baseline = 1 AND outputs IS NOT NULL AND scores LIKE '%chrf%'"
            best += " ORDER BY json_extract(scores, '$.chrf.score') DESC LIMIT 1"
            keys = (run.pair, BASELINES, run.pair, run.canary, run.base)
            db.execute(f"UPDATE runs SET outputs = NULL WHERE id IN ({old}) AND id NOT IN (SELECT id FROM ({best}))", keys)
            # A baseline stays while later runs may be compared with it.
            old = "SELECT id FROM runs WHERE pair = ? ORDER BY id DESC LIMIT -1 OFFSET ?"
            db.execute(f"DELETE FROM runs WHERE outputs IS NULL AND id IN ({old})", (run.pair, RUNS))
        return newest

    def runs(self, pair: str, most: int = RUNS) -> list[CanaryRun]:
        """The newest runs of a pair, oldest first."""
        with self._open() as db:
            rows = db.execute(f"SELECT {_RUN} FROM runs WHERE pair = ? ORDER BY id DESC LIMIT ?", (pair, most)).fetchall()
        return [_run(r) for r in reversed(rows)]

    def pairs(self) -> list[str]:
        with self._open() as db:
            return [r[0] for r in db.execute("SELECT DISTINCT pair FROM runs UNION SELECT DISTINCT pair FROM alarms ORDER BY 1")]

    def baseline(self, pair: str, canary: str, base: str | None, version: str | None) -> tuple[CanaryRun, Outputs] | None:
        """The baseline for a run of this version: its own, or else the newest of another version, on the same set and base."""
        query = f"SELECT {_RUN}, outputs FROM runs WHERE pair = ? AND canary = ? AND base IS ? AND baseline = 1 AND outputs IS NOT NULL"
        with self._open() as db:
            row = db.execute(f"{query} ORDER BY version IS ? DESC, id DESC LIMIT 1", (pair, canary, base, version)).fetchone()
        return None if row is None else self._with_outputs(row)

    def best_baseline(self, pair: str, canary: str, base: str | None) -> BestBaseline | None:
        """The best baseline on this set and base since the newest one that was accepted by hand, which is the measure from then on."""
        query = f"SELECT {_RUN}, outputs FROM runs WHERE pair = ? AND canary = ? AND base IS ? AND baseline = 1 AND outputs IS NOT NULL ORDER BY id"
        with self._open() as db:
            rows = db.execute(query, (pair, canary, base)).fetchall()
        accepted = max((i for i, row in enumerate(rows) if (row["note"] or "").startswith(ACCEPTED)), default=0)
        scored = [row for row in rows[accepted:] if json.loads(row["scores"])]
        if not scored:
            return None
        best = max(scored, key=lambda row: float(json.loads(row["scores"])["chrf"]["score"]))
        return BestBaseline(*self._with_outputs(best), of=len({row["version"] for row in scored}))

    def _with_outputs(self, row: sqlite3.Row) -> tuple[CanaryRun, Outputs]:
        try:
            outputs = Outputs(*json.loads(zlib.decompress(row["outputs"])))
        except (zlib.error, ValueError, TypeError) as e:
            raise self._error(e) from None
        return _run({k: row[k] for k in row.keys() if k != "outputs"}), outputs  # type: ignore[arg-type]  # noqa: SIM118

    def accept(self, pair: str, note: str) -> CanaryRun | None:
        """Make the newest scored run of the pair the baseline of its version, and close the pair's alarms. None without a run that has its outputs."""
        with self._open(write=True) as db:
            query = f"SELECT {_RUN} FROM runs WHERE pair = ? AND state = 'scored' AND outputs IS NOT NULL ORDER BY id DESC LIMIT 1"
            row = db.execute(query, (pair,)).fetchone()
            if row is None:
                return None
            db.execute("UPDATE runs SET baseline = 1, note = ? WHERE id = ?", (note, row["id"]))
            db.execute("UPDATE alarms SET closed = ? WHERE pair = ? AND closed IS NULL", (time.time(), pair))
        return _run(row)

    # Alarms

    def alarms(self, open_only: bool = False, most: int = ALARMS) -> list[Alarm]:
        """The newest first."""
        where = "WHERE closed IS NULL" if open_only else ""
        with self._open() as db:
            rows = db.execute(f"SELECT * FROM alarms {where} ORDER BY id DESC LIMIT ?", (most,)).fetchall()
        return [Alarm(**dict(r)) for r in rows]

    def update_alarms(self, pair: str, findings: Sequence[Alarm], keep: Sequence[str] = ()) -> tuple[list[Alarm], list[Alarm]]:
        """Open the found alarms that are not open yet, and close open ones that are not found, except for the kinds in `keep`. Returns (opened, closed)."""
        now = time.time()
        with self._open(write=True) as db:
            open_alarms = [Alarm(**dict(r)) for r in db.execute("SELECT * FROM alarms WHERE pair = ? AND closed IS NULL", (pair,))]
            open_keys = {(a.kind, a.version) for a in open_alarms}
            found_keys = {(a.kind, a.version) for a in findings}
            opened = [dataclasses.replace(a, opened=a.opened or now) for a in findings if (a.kind, a.version) not in open_keys]
            for i, a in enumerate(opened):
                cursor = db.execute(
                    "INSERT INTO alarms (opened, pair, version, kind, text) VALUES (?, ?, ?, ?, ?)", (a.opened, a.pair, a.version, a.kind, a.text)
                )
                opened[i] = dataclasses.replace(a, id=cursor.lastrowid or 0)
            closed = [a for a in open_alarms if (a.kind, a.version) not in found_keys and a.kind not in keep]
            db.executemany("UPDATE alarms SET closed = ? WHERE id = ?", [(now, a.id) for a in closed])
            db.execute("DELETE FROM alarms WHERE id IN (SELECT id FROM alarms ORDER BY id DESC LIMIT -1 OFFSET ?)", (ALARMS,))
        return opened, [dataclasses.replace(a, closed=now) for a in closed]

    def alarmed(self, pair: str, version: str) -> bool:
        """Whether a run of this version raised an alarm about its translations since it was last accepted."""
        with self._open() as db:
            last = db.execute("SELECT max(id) FROM runs WHERE pair = ? AND version = ? AND baseline = 1", (pair, version)).fetchone()[0] or 0
            query = "SELECT count(*) FROM runs WHERE pair = ? AND version = ? AND id > ? AND findings <> '[]'"
            return bool(db.execute(query, (pair, version, last)).fetchone()[0])

    def rolled_back(self, pair: str, version: str, to: str) -> None:
        with self._open(write=True) as db:
            db.execute("UPDATE alarms SET rolled_back = ? WHERE pair = ? AND version = ? AND closed IS NULL", (to, pair, version))

    # Signals and corrections

    def add_signals(self, rows: Sequence[tuple[float, str, str, dict[str, Any]]]) -> None:
        """Rows of (time, pair, version, counts)."""
        with self._open(write=True) as db:
            db.executemany("INSERT INTO signals (time, pair, version, data) VALUES (?, ?, ?, ?)", [(*r[:3], json.dumps(r[3])) for r in rows])
            db.execute("DELETE FROM signals WHERE id <= (SELECT max(id) FROM signals) - ?", (SIGNALS,))

    def signals(self, pair: str, most: int) -> list[tuple[float, str, dict[str, Any]]]:
        """(time, version, counts) of the newest rows, oldest first."""
        with self._open() as db:
            rows = db.execute("SELECT time, version, data FROM signals WHERE pair = ? ORDER BY id DESC LIMIT ?", (pair, most)).fetchall()
        return [(r["time"], r["version"], json.loads(r["data"])) for r in reversed(rows)]

    def add_feedback(self, pair: str, version: str, segments: int, scores: dict[str, Any]) -> None:
        with self._open(write=True) as db:
            values = (time.time(), pair, version, segments, json.dumps(scores))
            db.execute("INSERT INTO feedback (time, pair, version, segments, scores) VALUES (?, ?, ?, ?, ?)", values)
            db.execute("DELETE FROM feedback WHERE id <= (SELECT max(id) FROM feedback) - ?", (ALARMS,))

    def feedback(self, pair: str) -> list[dict[str, Any]]:
        """The newest scores of each version of the pair on corrections, newest first."""
        with self._open() as db:
            newest = "SELECT max(id) FROM feedback WHERE pair = ? GROUP BY version"
            query = f"SELECT time, version, segments, scores FROM feedback WHERE id IN ({newest}) ORDER BY id DESC"
            rows = db.execute(query, (pair,)).fetchall()
        return [{**dict(r), "scores": json.loads(r["scores"])} for r in rows]
