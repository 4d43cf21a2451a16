"""Test sets: source segments and the references that their translations are compared with.

Reads one split of a corpus (`tell.corpus.directory`), or two line-aligned text files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tell.corpus.directory import Corpus
from tell.errors import BadInput, CorpusError
from tell.files import read_lines, sha256_bytes
from tell.languages import LanguagePair
from tell.records import Pair, Split
from tell.text.normalise import spelled


@dataclasses.dataclass(frozen=True, slots=True)
class TestSet:
    """Segments and their references, equally many and at least one. The hashes are of the lines used, joined by LF."""

    # pytest collects classes named Test*; this one is not a test.
    __test__ = False

    name: str
    pair: LanguagePair
    sources: list[str]
    references: list[str]
    # Where each segment came from, for messages: "file, line n".
    places: list[str]
    # The document of each segment, where documents are known.
    documents: list[str] | None = None

    @property
    def source_sha256(self) -> str:
        return sha256_bytes("\n".join(self.sources).encode())

    @property
    def reference_sha256(self) -> str:
        return sha256_bytes("\n".join(self.references).encode())

    def first(self, n: int) -> TestSet:
        """The first `n` segments, under a name that says so; the set itself when it has no more."""
        if n >= len(self.sources):
            return self
        documents = self.documents and self.documents[:n]
        return TestSet(f"{self.name}[:{n}]", self.pair, self.sources[:n], self.references[:n], self.places[:n], documents)


def from_corpus(corpus: Corpus, split: Split) -> TestSet:
    """One split of a corpus, in file order."""
    return of_pairs(corpus, split, list(corpus.pairs(split)))


def of_pairs(corpus: Corpus, split: Split, pairs: Sequence[Pair], part: str = "") -> TestSet:
    """Pairs of one split of a corpus; `part` is what they are called where they are not all of it."""
    name = f"{spelled(corpus.path.resolve().name)}/{split}" + (f", {part}" if part else "")
    places = [f"{p.origin}, line {p.line}" for p in pairs]
    return TestSet(name, corpus.pair, [p.source for p in pairs], [p.target for p in pairs], places, [p.doc for p in pairs])


def from_files(source: Path, reference: Path, pair: LanguagePair, name: str | None = None) -> TestSet:
    """Two line-aligned files. Raises CorpusError naming both counts when they differ."""
    sources, references = read_lines(source), read_lines(reference)
    if len(sources) != len(references):
        raise CorpusError(
            "the source and the reference are not equally long",
            place=f"{source} and {reference}",
            found=f"{len(sources):,} and {len(references):,} lines",
        )
    return TestSet(spelled(name or source.name), pair, sources, references, [f"{source}, line {i}" for i in range(1, len(sources) + 1)])


def not_empty(test: TestSet, place: str) -> TestSet:
    if not test.sources:
        raise BadInput("the test set is empty", place=place, found="0 segments", valid="at least 1")
    return test
