"""Sentence, paragraph and document examples from the same aligned documents, in shares of the task tokens.

A whole document is used in one way, so each of its segments is in exactly one example. Paragraphs and documents join consecutive segments by
line breaks, on both sides. What is then longer than max_tokens is split between segments, and counted; no segment is cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise

from tell.mix.config import KINDS, Kind

JOIN = "\n"
# Segments whose documents are counted together: enough for every core, few enough to hold in memory.
CHUNK = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class SizedSegment:
    """One aligned segment that fits as an example of its own: the number of that example, and its tokens."""

    number: int
    line: int
    source: str
    target: str
    tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class AlignedDocument:
    """Segments in order. `whole` is false for what only stands in for a document, such as a block of ten unrelated lines."""

    index: int
    segments: list[SizedSegment]
    whole: bool

    @property
    def joinable(self) -> bool:
        return self.whole and len(self.segments) > 1


@dataclasses.dataclass(frozen=True, slots=True)
class JoinedSegments:
    """The segments of one example, and its tokens."""

    segments: list[SizedSegment]
    tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class DocumentUse:
    """How a document is used: as which kind, in which examples, and how many of them had to be split to fit."""

    document: AlignedDocument
    kind: Kind
    units: list[JoinedSegments]
    split: int

    @property
    def tokens(self) -> int:
        return sum(u.tokens for u in self.units)


# (source, target) of joined segments -> the tokens of each as an example.
Count = Callable[[list[tuple[str, str]]], list[int]]


def parts(segments: list[SizedSegment], n: int) -> list[list[SizedSegment]]:
    """`n` runs of consecutive segments, as equal in number as can be."""
    edges = [i * len(segments) // n for i in range(n + 1)]
    return [segments[a:b] for a, b in pairwise(edges)]


def joined(segments: list[SizedSegment]) -> tuple[str, str]:
    return JOIN.join(s.source for s in segments), JOIN.join(s.target for s in segments)


def _groups(document: AlignedDocument, kind: Kind, per: int) -> list[list[SizedSegment]]:
    if kind == "sentence":
        return [[s] for s in document.segments]
    return parts(document.segments, -(-len(document.segments) // per) if kind == "paragraph" else 1)


def _fitted(uses: list[tuple[AlignedDocument, Kind]], per: int, limit: int, count: Count) -> list[DocumentUse]:
    """The examples of documents used in these ways. Those over the limit are split in halves until they fit, as each segment alone does."""
    units: list[list[JoinedSegments]] = [[] for _ in uses]
    split = [0] * len(uses)
    todo = [(i, g, False) for i, (document, kind) in enumerate(uses) for g in _groups(document, kind, per)]
    while todo:
        lengths = iter(count([joined(g) for _, g, _ in todo if len(g) > 1]))
        over = []
        for i, group, halved in todo:
            n = group[0].tokens if len(group) == 1 else next(lengths)
            if n <= limit:
                units[i].append(JoinedSegments(group, n))
            else:
                split[i] += not halved
                over += [(i, half, True) for half in parts(group, 2)]
        todo = over
    for document_units in units:
        # Halves are found later than what fitted at once.
        document_units.sort(key=lambda u: u.segments[0].number)
    return [DocumentUse(d, k, u, s) for (d, k), u, s in zip(uses, units, split, strict=True)]


def _chunks(documents: Iterable[AlignedDocument]) -> Iterator[list[AlignedDocument]]:
    chunk: list[AlignedDocument] = []
    size = 0
    for d in documents:
        chunk.append(d)
        size += len(d.segments)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _distance(have: Mapping[Kind, int], use: DocumentUse, shares: Mapping[Kind, float]) -> float:
    """How far the tokens of each kind would be from their shares with this use."""
    total = sum(have.values()) + use.tokens
    return sum(abs(have[k] + (use.tokens if k == use.kind else 0) - shares.get(k, 0.0) * total) for k in KINDS)


def choose_granularities(
    documents: Iterable[AlignedDocument], shares: Mapping[Kind, float], per: int, limit: int, count: Count, budget: int | None
) -> Iterator[DocumentUse]:
    """How each document is used, in the order given, up to the first that would go over the budget.

    Each is used in the way that brings the tokens so far nearest to the shares. What was decided for the first documents does not
    depend on those after them: a smaller budget's examples are in a larger one's.
    """
    have: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    for chunk in _chunks(documents):
        alone: tuple[Kind, ...] = ("sentence",)
        ways = [(d, k) for d in chunk for k in (shares if d.joinable else alone)]
        options: dict[int, list[DocumentUse]] = {}
        for use in _fitted(ways, per, limit, count):
            options.setdefault(use.document.index, []).append(use)
        for d in chunk:
            best = min(options[d.index], key=lambda use: _distance(have, use, shares))
            if budget is not None and sum(have.values()) + best.tokens > budget:
                return
            have[best.kind] += best.tokens
            yield best
