"""Reads and cleans all segments in the order of the files, and enters them into the segment table. Reads the user's files, writes the table's spool."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tell.corpus.clean import BATCH, CleanedBatch, Workers, clean_batch
from tell.corpus.misalignment import Stretch
from tell.corpus.readers.dispatch import InputGroup, read_group
from tell.corpus.readers.segment import AlignedSegment, ReadOptions, ReadReport
from tell.corpus.rules import CleaningRules
from tell.corpus.segment_table import SegmentTable
from tell.errors import CorpusError
from tell.spool import Spool

# Pairs of swapped sides by which a file is refused, and after how many that are told it need not be read on.
SWAPPED, SURE = 4, 200
# What was mended that is kept for each rule, to be shown.
SAMPLES = 8


@contextmanager
def spooled(out: Path) -> Iterator[SegmentTable]:
    """A table whose texts lie in a directory beside the corpus, which is removed at the end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.spool.") as aside, Spool(Path(aside) / "spool") as spool:
        yield SegmentTable(spool)


@dataclasses.dataclass(frozen=True, slots=True)
class Mended:
    """A text before and after a rule mended it."""

    rule: str
    place: str
    before: str
    after: str


@dataclasses.dataclass(slots=True)
class IngestReport:
    """What reading and cleaning found out about the files."""

    readings: list[ReadReport] = dataclasses.field(default_factory=list)
    mended: Counter[str] = dataclasses.field(default_factory=Counter)
    samples: list[Mended] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


class _File:
    """Enters one group of files into the table, and adds up what its batches say."""

    def __init__(self, reading: ReadReport, want: ReadOptions):
        self.reading, self._pair = reading, want.pair
        self._right = self._swapped = 0
        self._stretches: list[tuple[int, int, int]] = []

    def take(self, segments: list[AlignedSegment], batch: CleanedBatch, table: SegmentTable, into: IngestReport) -> None:
        lines = [s.line for s in segments]
        table.add(lines, [s.doc for s in segments], batch.reasons, batch.hashes, batch.texts)
        self._right += batch.right
        self._swapped += batch.swapped
        into.mended.update(batch.mended)
        for rule, i, before, after in batch.samples:
            if sum(m.rule == rule for m in into.samples) < SAMPLES:
                into.samples.append(Mended(rule, f"{self.reading.label}, line {lines[i]}", before, after))
        for s in batch.stretches:
            self._stretched(s, lines)
        if self._right + self._swapped >= SURE:
            self._check_sides()

    def _stretched(self, s: Stretch, lines: list[int]) -> None:
        first, last = lines[s.first], lines[s.last]
        # One that goes on where the batch before ended.
        if self._stretches and self._stretches[-1][2] == s.offset and first - self._stretches[-1][1] <= 2:
            first = self._stretches.pop()[0]
        self._stretches.append((first, last, s.offset))

    def _check_sides(self) -> None:
        if self._swapped < SWAPPED or self._swapped <= self._right:
            return
        a, b = self._pair.source, self._pair.target
        found = f"{self._swapped:,} pairs with {b.name} where {a.name} should be, or the other way round, and {self._right:,} right ones"
        valid = f"--swap {self.reading.paths[0]} turns them, --off language lets them be"
        raise CorpusError("the sides are swapped", place=self.reading.place, found=found, valid=valid)

    def close(self, table: SegmentTable, into: IngestReport) -> None:
        self._check_sides()
        table.close_file(self.reading)
        self.reading.notes += [_said(*s) for s in self._stretches]
        detected = [f"{name}: read as {e}" for name, e in self.reading.encodings.items() if "(detected)" in e]
        into.notes += [*detected, *(f"{self.reading.place}: {n}" for n in self.reading.notes)]
        into.readings.append(self.reading)


def _said(first: int, last: int, offset: int) -> str:
    where = "before" if offset < 0 else "behind"
    lines = "line" if abs(offset) == 1 else "lines"
    hint = f"look around line {first:,} for a line that only one side has"
    return f"shifted from line {first:,} to {last:,}: the target is {abs(offset)} {lines} {where} the source; {hint}"


def _batches(segments: Iterator[AlignedSegment], turned: bool) -> Iterator[list[AlignedSegment]]:
    batch: list[AlignedSegment] = []
    for s in segments:
        if turned:
            s.source, s.target = s.target, s.source
        batch.append(s)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def read_corpus_inputs(
    groups: list[InputGroup],
    sha256: dict[Path, str],
    want: ReadOptions,
    docs: Path | None,
    swapped: set[Path],
    rules: CleaningRules,
    table: SegmentTable,
    processes: int | None = None,
) -> IngestReport:
    """Enters all segments of the groups into the table. `sha256` has the hash of every file; `swapped` are files and directories, resolved, whose sides
    are exchanged.

    `processes` None means one for each core; the result does not depend on it. Raises CorpusError for a file that cannot be read, or whose sides are swapped.
    """
    into = IngestReport()
    with Workers(clean_batch, processes) as workers:
        for group in groups:
            file = _File(group.reading(), want)
            table.open_file(group.label)
            turned = any(p.resolve() in swapped for p in (*group.files, *group.paths))
            for segments in _batches(read_group(group, want, file.reading, docs), turned):
                workers.put(segments, [(s.source, s.target, s.reason) for s in segments], rules)
                for about, batch in workers.ready():
                    file.take(about, batch, table, into)
            # What is known of a file is known at its end, so its last batches are waited for.
            for about, batch in workers.ready(all_of_it=True):
                file.take(about, batch, table, into)
            file.close(table, into)
    if not len(table) and into.notes:
        place, valid = str(groups[0].paths[0].parent), f"a file with {want.pair.source.tag} and {want.pair.target.tag}"
        raise CorpusError("no file here is of both languages", place=place, found=into.notes[0], valid=valid)
    same: dict[str, list[str]] = {}
    for path in (p for g in groups for p in g.files):
        same.setdefault(sha256[path], []).append(str(path))
    into.notes += [f"the same bytes: {' and '.join(paths[:4])}" for paths in same.values() if len(paths) > 1]
    return into
