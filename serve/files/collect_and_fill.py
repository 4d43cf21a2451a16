"""The two passes over a file: one that puts its segments into the ledger, one that puts their translations into the file. And one that only looks.

What a segment is, both ask the same way: the lines of a unit, without their layout (tell.text.segments).
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from serve.files.segment_store import Ledger, Noted
from serve.formats.text import one_line
from serve.formats.units import Made, Unit
from tell.errors import CorpusError
from tell.text.flags import FLAGS
from tell.text.segments import fill, pieces, split

# Segments, or notes, that go to the ledger in one step.
STEP = 2000
# Characters of a file that tell its language.
ENOUGH = 4000


@dataclasses.dataclass(slots=True)
class Counts:
    """Of one file's units. `kept` had a translation; `reused` was in the corpus; `bad` could not be read."""

    segments: int = 0
    blank: int = 0
    kept: int = 0
    translated: int = 0
    reused: int = 0
    failed: int = 0
    characters: int = 0
    warnings: int = 0
    flags: Counter[str] = dataclasses.field(default_factory=Counter)
    flagged: int = 0


class Collect:
    """The first pass."""

    def __init__(self, ledger: Ledger, again: bool):
        self.ledger, self.again = ledger, again
        self.counts = Counts()
        self._held: list[str] = []

    def unit(self, unit: Unit) -> Made | None:
        self.counts.segments += 1
        if not unit.text.strip():
            self.counts.blank += 1
        elif unit.done and not self.again:
            self.counts.kept += 1
        else:
            self.counts.characters += len(unit.text)
            spans = split(unit.text)
            self._held += [spans[i].text for i in pieces(spans)]
            if len(self._held) >= STEP:
                self.end()
        return None

    def bad(self, place: str, reason: str) -> None:
        self.counts.failed += 1

    def warn(self, place: str, what: str) -> None:
        self.counts.warnings += 1

    def end(self) -> None:
        self.ledger.add(self._held)
        self._held = []


class Fill:
    """The second pass. `file` is its name in messages."""

    def __init__(self, ledger: Ledger, again: bool, file: str):
        self.ledger, self.again, self.file = ledger, again, file
        self.counts = Counts()
        self._held: list[Noted] = []

    def unit(self, unit: Unit) -> Made | None:
        self.counts.segments += 1
        if not unit.text.strip():
            self.counts.blank += 1
            return None
        if unit.done and not self.again:
            self.counts.kept += 1
            return None
        self.counts.characters += len(unit.text)
        spans = split(unit.text)
        made: list[str] = []
        flags: set[str] = set()
        origins: set[str] = set()
        for i in pieces(spans):
            found = self.ledger.find(spans[i].text)
            if found is None or (found.text is None and found.problem is None):
                raise CorpusError("the file changed while it was read", place=self.file, valid="the same command again")
            if found.text is None:
                self.counts.failed += 1
                self._note(unit, "failed", "", found.problem or "")
                return Made("", "failed")
            made.append(one_line(found.text, spans[i].text))
            flags |= set(found.flags)
            origins.add(found.origin)
        text = fill(spans, made)
        self.counts.translated += 1
        self.counts.reused += origins == {"corpus"}
        if flags:
            self.counts.flagged += 1
            ordered = [f for f in FLAGS if f in flags]
            self.counts.flags.update(ordered)
            self._note(unit, "flagged", text, ", ".join(ordered))
        return Made(text, "corpus" if origins == {"corpus"} else "engine")

    def bad(self, place: str, reason: str) -> None:
        self.counts.failed += 1
        self._hold(Noted(self.file, place, "bad", "", "", reason))

    def warn(self, place: str, what: str) -> None:
        self.counts.warnings += 1
        self._hold(Noted(self.file, place, "warning", "", "", what))

    def _note(self, unit: Unit, kind: str, made: str, why: str) -> None:
        self._hold(Noted(self.file, unit.place, kind, unit.text, made, why))

    def _hold(self, row: Noted) -> None:
        self._held.append(row)
        if len(self._held) >= STEP:
            self.end()

    def end(self) -> None:
        if self._held:
            self.ledger.note(self._held)
        self._held = []


class Enough(Exception):
    """A file has been looked at for long enough."""


class Look:
    """Only what the file is about: the beginning of its text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._size = 0

    def unit(self, unit: Unit) -> Made | None:
        if not unit.done:
            self.texts.append(unit.text)
            self._size += len(unit.text)
            if self._size > ENOUGH:
                raise Enough
        return None

    def bad(self, place: str, reason: str) -> None: ...

    def warn(self, place: str, what: str) -> None: ...
