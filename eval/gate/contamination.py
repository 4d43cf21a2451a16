"""Finds segments of test sets and of the dev split in the data an adapter was trained on, by the corpora and general data that its card names.

Reads those corpora and files one text after the other, if they are unchanged. Writes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.scoring.testset import TestSet
from tell.adapter.card import Adapter
from tell.corpus.directory import Corpus, open_corpus
from tell.corpus.overlap import HeldOutSet, Leaks
from tell.corpus.testsets import RegisteredTestSet
from tell.errors import CorpusError
from tell.files import read_jsonl, sha256_file
from tell.text.normalise import spelled

DEV = "dev"


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingOverlap:
    """`dev` segments were trained on through another corpus; `sets` are the reports of `tell.corpus.overlap` on the test sets; `notes` say what was not
    looked at."""

    dev: int
    sets: list[dict[str, Any]]
    notes: list[str]


def _pairs(entry: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(text, file, line) of the training pairs of a corpus, by its entry on the card. Raises CorpusError when the corpus is not the one trained on."""
    path = Path(str(entry.get("path", "")))
    corpus = open_corpus(path)
    if corpus.pairs_sha256 != entry.get("pairs_sha256"):
        raise CorpusError("rebuilt since the adapter was trained", place=str(path))
    for p in corpus.pairs("train"):
        yield p.source, p.origin, p.line
        yield p.target, p.origin, p.line


def _general(entry: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    path = Path(str(entry.get("path", "")))
    if not path.is_file() or sha256_file(path) != entry.get("sha256"):
        raise CorpusError("not there any more, or changed", place=str(path))
    for number, row in read_jsonl(path):
        for value in row.values():
            for line in value.split("\n") if isinstance(value, str) else ():
                yield line, path.name, number


def _unread(adapter: Adapter, leaks: Leaks) -> Iterator[tuple[str, Exception]]:
    """Looks through all that the adapter was trained on, and yields (kind of data, reason) for what cannot be read any more."""
    data = adapter.card.data
    for what, entries, read in (("corpus", data.get("corpora", []), _pairs), ("general data", data.get("general_sources", []), _general)):
        for entry in entries:
            try:
                for text, file, line in read(entry):
                    leaks.look(text, spelled(file), line)
            except (CorpusError, OSError) as e:
                yield what, e


def trained_on(adapter: Adapter, corpus: Corpus, dev: TestSet, sets: Sequence[RegisteredTestSet]) -> TrainingOverlap:
    """What of the dev split and of the test sets is in the adapter's training data.

    When the adapter was trained on this very corpus, the dev split is safe: it is frozen, and `mix` leaves out what any of its corpora holds back."""
    corpora = list(adapter.card.data.get("corpora", []))
    same = any(entry.get("pairs_sha256") == corpus.pairs_sha256 for entry in corpora)
    held = [s.held() for s in sets] + ([] if same else [HeldOutSet(DEV, list(zip(dev.sources, dev.references, strict=True)))])
    if not held:
        return TrainingOverlap(0, [], [])
    leaks = Leaks(held)
    unchecked = " or ".join([*(["the dev segments"] if not same else []), *(["the registered test sets"] if sets else [])])
    notes = [f"not checked whether {unchecked} were trained on through another {what}: {e}" for what, e in _unread(adapter, leaks)]
    reports = leaks.report()
    return TrainingOverlap(0 if same else int(reports[-1]["leaked"]), reports[: len(sets)], notes)


def seen(adapter: Adapter, corpus: Corpus, judged: TestSet) -> tuple[set[int], list[str]]:
    """(the segments of `judged`, from 0, that an adapter which went live earlier was trained on; why that is not known of some of its data).

    It is asked as the new one is. But its corpora may have been split otherwise, or be gone, and a card from elsewhere may name none."""
    corpora = adapter.card.data.get("corpora")
    if not isinstance(corpora, list) or not corpora:
        return set(), ["its card names no corpora"]
    if any(entry.get("pairs_sha256") == corpus.pairs_sha256 for entry in corpora):
        return set(), []
    leaks = Leaks([HeldOutSet(DEV, list(zip(judged.sources, judged.references, strict=True)))])
    unknown = [str(e) for _, e in _unread(adapter, leaks)]
    return leaks.leaked(0), unknown


def repeats(dev: TestSet, sets: Sequence[RegisteredTestSet]) -> list[dict[str, Any]]:
    """The reports of `tell.corpus.overlap` on the dev split itself: segments of a test set must not decide."""
    leaks = Leaks(s.held() for s in sets)
    for i, sides in enumerate(zip(dev.sources, dev.references, strict=True), 1):
        for text in sides:
            leaks.look(text, DEV, i)
    return leaks.report()
