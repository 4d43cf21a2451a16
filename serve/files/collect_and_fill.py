"""The visitors of a file's units: one puts their segments into the store, one puts the translations into the file, and one samples text for its language.

For all of them a segment is a line of a unit, without its layout (tell.text.segments).
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from serve.files.segment_store import ReportEntry, SegmentStore
from serve.formats.text import on_one_line
from serve.formats.units import Replacement, Unit
from tell.errors import CorpusError
from tell.text.flags import FLAGS
from tell.text.segments import fill, pieces, split

# Segments, or report entries, that go to the store in one step.
STORE_STEP = 2000
# Characters of a file that tell its language.
SAMPLE_CHARACTERS = 4000


@dataclasses.dataclass(slots=True)
class UnitCounts:
    """Counts of one file's units. `kept` had a translation already; `reused` ones were in the corpus; `failed` ones have none, or could not be read."""

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


class SegmentCollector:
    """Puts the segments of a file into the store."""

    def __init__(self, store: SegmentStore, retranslate: bool):
        self.store, self.retranslate = store, retranslate
        self.counts = UnitCounts()
        self._segments: list[str] = []

    def visit(self, unit: Unit) -> Replacement | None:
        self.counts.segments += 1
        if not unit.text.strip():
            self.counts.blank += 1
        elif unit.translated and not self.retranslate:
            self.counts.kept += 1
        else:
            self.counts.characters += len(unit.text)
            spans = split(unit.text)
            self._segments += [spans[i].text for i in pieces(spans)]
            if len(self._segments) >= STORE_STEP:
                self.flush()
        return None

    def unreadable(self, place: str, reason: str) -> None:
        self.counts.failed += 1

    def warn(self, place: str, warning: str) -> None:
        self.counts.warnings += 1

    def flush(self) -> None:
        self.store.add(self._segments)
        self._segments = []


class TranslationFiller:
    """Replaces the units of a file by their translations in the store. `file` is its name in messages."""

    def __init__(self, store: SegmentStore, retranslate: bool, file: str):
        self.store, self.retranslate, self.file = store, retranslate, file
        self.counts = UnitCounts()
        self._entries: list[ReportEntry] = []

    def visit(self, unit: Unit) -> Replacement | None:
        self.counts.segments += 1
        if not unit.text.strip():
            self.counts.blank += 1
            return None
        if unit.translated and not self.retranslate:
            self.counts.kept += 1
            return None
        self.counts.characters += len(unit.text)
        spans = split(unit.text)
        translations: list[str] = []
        flags: set[str] = set()
        origins: set[str] = set()
        for i in pieces(spans):
            segment = self.store.find(spans[i].text)
            if segment is None or (segment.text is None and segment.problem is None):
                raise CorpusError("the file changed while it was read", place=self.file, valid="the same command again")
            if segment.text is None:
                self.counts.failed += 1
                self._report_unit(unit, "failed", "", segment.problem or "")
                return Replacement("", "failed")
            translations.append(on_one_line(segment.text, spans[i].text))
            flags |= set(segment.flags)
            origins.add(segment.origin)
        text = fill(spans, translations)
        self.counts.translated += 1
        self.counts.reused += origins == {"corpus"}
        if flags:
            self.counts.flagged += 1
            ordered = [f for f in FLAGS if f in flags]
            self.counts.flags.update(ordered)
            self._report_unit(unit, "flagged", text, ", ".join(ordered))
        return Replacement(text, "corpus" if origins == {"corpus"} else "engine")

    def unreadable(self, place: str, reason: str) -> None:
        self.counts.failed += 1
        self._report(ReportEntry(self.file, place, "bad", "", "", reason))

    def warn(self, place: str, warning: str) -> None:
        self.counts.warnings += 1
        self._report(ReportEntry(self.file, place, "warning", "", "", warning))

    def _report_unit(self, unit: Unit, kind: str, translation: str, reason: str) -> None:
        self._report(ReportEntry(self.file, unit.place, kind, unit.text, translation, reason))

    def _report(self, entry: ReportEntry) -> None:
        self._entries.append(entry)
        if len(self._entries) >= STORE_STEP:
            self.flush()

    def flush(self) -> None:
        if self._entries:
            self.store.add_entries(self._entries)
        self._entries = []


class NoVisitor:
    """Sees a file through and does nothing."""

    def visit(self, unit: Unit) -> Replacement | None:
        return None

    def unreadable(self, place: str, reason: str) -> None: ...

    def warn(self, place: str, warning: str) -> None: ...


class SampleComplete(Exception):
    """The sample holds enough text; the rest of the file need not be read."""


class LanguageSample:
    """Keeps the beginning of a file's text. Raises SampleComplete when there is enough of it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._size = 0

    def visit(self, unit: Unit) -> Replacement | None:
        if not unit.translated:
            self.texts.append(unit.text)
            self._size += len(unit.text)
            if self._size > SAMPLE_CHARACTERS:
                raise SampleComplete
        return None

    def unreadable(self, place: str, reason: str) -> None: ...

    def warn(self, place: str, warning: str) -> None: ...
