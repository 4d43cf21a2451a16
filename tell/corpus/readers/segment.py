"""What every reader returns: segments, and a report on the file. Reads and writes nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tell.languages import Language, LanguagePair, distance, language

BLANK = "blank line"
UNTRANSLATED = "not translated"


@dataclasses.dataclass(slots=True)
class AlignedSegment:
    """One line as read. `reason` says why it cannot be a pair, and is None when it can. `doc` is empty where the file names no documents."""

    source: str
    target: str
    doc: str
    line: int
    reason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read. `columns` names the columns of a table without a header, in order; the other columns are names in a table's header."""

    pair: LanguagePair
    columns: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    doc_column: str | None = None
    sheet: str | None = None
    encoding: str | None = None
    # Whether what a machine has translated is read too (`tell.corpus.readers.machine_output`).
    machine_output: bool = False


@dataclasses.dataclass(slots=True)
class ReadReport:
    """What is known of a group of files after its last segment was read.

    `lines`: lines of a text, rows of a table, records, units. `documents`: what they were taken from, empty where the file names none.
    `languages`: units in each language of a file that holds tagged ones. `notes`: sentences for the person who gave the file.
    """

    paths: tuple[Path, ...]
    label: str
    kind: str
    lines: int = 0
    documents: str = ""
    encodings: dict[str, str] = dataclasses.field(default_factory=dict)
    languages: Counter[str] = dataclasses.field(default_factory=Counter)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def place(self) -> str:
        return " and ".join(map(str, self.paths))


def blank(source: str, target: str) -> str | None:
    return None if source.strip() or target.strip() else BLANK


def unit_lines(source: str, target: str) -> list[tuple[str, str]]:
    """A unit's lines, one by one where both sides have as many, else as one line each: a segment holds no line break."""
    sides = [[line.strip() for line in side.replace("\r\n", "\n").replace("\r", "\n").split("\n")] for side in (source, target)]
    full = [[line for line in side if line] for side in sides]
    if len(full[0]) == len(full[1]) > 1:
        return list(zip(*full, strict=True))
    return [(" ".join(full[0]), " ".join(full[1]))]


class Sides:
    """Which of a file's languages are the two of the pair: the tag itself, else the nearest one, as `en-US` for `en`."""

    def __init__(self, pair: LanguagePair):
        self._pair = pair
        self._known: dict[str, tuple[int | None, int | None]] = {}

    def far(self, tag: str) -> tuple[int | None, int | None]:
        """How far the tag is from the source's language and from the target's; None for another language."""
        if tag not in self._known:
            language = tagged(tag)
            self._known[tag] = (None, None) if language is None else (distance(self._pair.source, language), distance(self._pair.target, language))
        return self._known[tag]

    def which(self, tag: str) -> int | None:
        """0 for the source, 1 for the target, None for neither."""
        a, b = self.far(tag)
        if a is None and b is None:
            return None
        return 1 if a is None or (b is not None and b < a) else 0


def tagged(tag: str) -> Language | None:
    """The language of a file's own tag; None where it is no BCP 47 tag."""
    from tell.errors import LanguageError

    try:
        return language(tag)
    except LanguageError:
        return None


def language_counts(languages: Counter[str]) -> str:
    return ", ".join(f"{tag} ({n:,})" for tag, n in languages.most_common(12)) or "none"


def numbered(pairs: Iterator[tuple[str, str, str, str | None]]) -> Iterator[AlignedSegment]:
    """Segments of (source, target, doc, reason), lines parted and counted through the file."""
    number = 0
    for source, target, doc, reason in pairs:
        for s, t in [(source, target)] if reason else unit_lines(source, target):
            number += 1
            yield AlignedSegment(s, t, doc, number, reason or blank(s, t))
