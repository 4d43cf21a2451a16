"""Finds shifted stretches of parallel texts: lines whose translation is a few lines before or after them.

Reads the lines of both sides in their order, writes nothing. Lines that are translations of each other have similar lengths, and share numbers, names and
the beginnings of international words. A stretch is shifted where its lines clearly share more of that with neighbours than with their partners.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import unicodedata
from collections.abc import Sequence

from tell.text.normalise import weight

# Lines by which a side is looked for before and behind.
FARTHEST = 3
# What a stretch must be better by, together and in lines, to be called shifted; and the fall at which it is taken to have ended.
ENOUGH, LEAST, FALL = 25.0, 8, 8.0
# What a line must be better by with a neighbour to count for it: without it, short lines that say nothing would add up.
MARGIN = 0.1
# Letters by which a long word is compared: endings differ between languages.
STEM = 5

_WORD = re.compile(r"\d+|[^\W\d_]{4,}")


@dataclasses.dataclass(frozen=True, slots=True)
class Stretch:
    """Lines `first` to `last` of a list, counted from 0: the target of line i is at i + offset."""

    first: int
    last: int
    offset: int


@functools.lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))[:STEM]


def _signs(text: str) -> frozenset[str]:
    """The parts of a text that its translation may share: numbers, and the stems of its long words."""
    return frozenset(w if w[0].isdigit() else _stem(w) for w in _WORD.findall(text[:600]))


def _alike(a: tuple[int, frozenset[str]], b: tuple[int, frozenset[str]], usual: float) -> float:
    """How much two lines look like translations of each other. 0 where one is empty."""
    if not a[0] or not b[0]:
        return 0.0
    common = min(len(a[1] & b[1]), 3) if a[1] and b[1] else 0
    return 1.5 * common - min(abs(math.log(a[0] / b[0]) - usual), 1.5)


def shifted(source: Sequence[str], target: Sequence[str]) -> list[Stretch]:
    """The shifted stretches of two lists of equal length, in order and without overlaps."""
    n = len(source)
    if n < LEAST:
        return []
    a, b = ([(weight(text.strip()), _signs(text)) for text in side] for side in (source, target))
    ratios = sorted(math.log(x[0] / y[0]) for x, y in zip(a, b, strict=True) if x[0] and y[0])
    usual = ratios[len(ratios) // 2] if ratios else 0.0
    aligned = [_alike(x, y, usual) for x, y in zip(a, b, strict=True)]
    scored: list[tuple[float, Stretch]] = []
    for offset in [o for o in range(-FARTHEST, FARTHEST + 1) if o]:
        better = [_alike(a[i], b[i + offset], usual) - aligned[i] - MARGIN if 0 <= i + offset < n else -MARGIN for i in range(n)]
        scored += [(score, Stretch(first, last, offset)) for score, first, last in _stretches(better)]
    chosen: list[Stretch] = []
    for _, s in sorted(scored, key=lambda f: (-f[0], f[1].first, f[1].offset)):
        if all(s.last < c.first or s.first > c.last for c in chosen):
            chosen.append(s)
    return sorted(chosen, key=lambda s: s.first)


def _stretches(better: Sequence[float]) -> list[tuple[float, int, int]]:
    """(sum, first, last) of every stretch whose sum is high enough. A stretch ends where its sum has fallen far below its highest value."""
    stretches = []
    total = best = 0.0
    first = last = 0
    for i, x in enumerate([*better, -math.inf]):
        if total <= 0:
            total, best, first = 0.0, 0.0, i
        total += x
        if total > best:
            best, last = total, i
        if total < best - FALL or total <= 0 or x == -math.inf:
            if best >= ENOUGH and last - first + 1 >= LEAST:
                stretches.append((best, first, last))
            total = best = 0.0
    return stretches
