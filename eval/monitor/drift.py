"""Drift of texts from the training data: the Jensen-Shannon divergence of hashed character trigrams.

A `Profile` holds no text, only counts: how many trigrams were hashed to each of a few thousand buckets, and which letters occurred.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from eval.scoring.significance import student

# Buckets that trigrams are hashed to: the trigrams of a window put a few in each bucket that is used at all.
BUCKETS = 2048
# Trigrams in a window: about 250 sentences. Fewer make the divergence larger by chance, so windows are compared with windows.
WINDOW = 20_000
# Windows of the training data from which the usual divergence is estimated.
FEWEST_WINDOWS, MOST_WINDOWS = 4, 50


class Profile(BaseModel):
    """The training data in counts: trigrams by bucket; its letters; and `usual`, the divergence that 19 of 20 of its own windows stay below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: tuple[int, ...] = Field(min_length=BUCKETS, max_length=BUCKETS)
    letters: str
    usual: float | None = None
    segments: int = 0


def trigrams(texts: Iterable[str]) -> Any:
    """Trigrams of the lower-case texts by bucket, an int64 array (BUCKETS,). Trigrams that span two texts are left out."""
    import numpy as np

    points = np.frombuffer("\x00".join(texts).lower().encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    if len(points) < 3:
        return np.zeros(BUCKETS, dtype=np.int64)
    a, b, c = points[:-2], points[1:-1], points[2:]
    within_text = (a > 0) & (b > 0) & (c > 0)
    # Multipliers of the usual hash of three coordinates (Teschner et al. 2003); the upper bits are mixed in, since buckets are the lower ones.
    hashes = (a * np.uint64(73856093)) ^ (b * np.uint64(19349663)) ^ (c * np.uint64(83492791))
    hashes ^= hashes >> np.uint64(15)
    return np.bincount((hashes[within_text] % np.uint64(BUCKETS)).astype(np.int64), minlength=BUCKETS)


def divergence(first: Any, second: Any) -> float:
    """Jensen-Shannon divergence of two arrays of counts, in bits: 0 for equal shares, 1 for nothing in common. 0 if one is empty."""
    import numpy as np

    p, q = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not p.sum() or not q.sum():
        return 0.0
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def bits(x: Any) -> float:
        used = x > 0
        return float((x[used] * np.log2(x[used] / middle[used])).sum())

    return max(0.0, (bits(p) + bits(q)) / 2)


def _windows(texts: Sequence[str]) -> list[tuple[int, int]]:
    """(first, last + 1) of the texts of each window: at most MOST_WINDOWS, evenly spread, since what lies first in a corpus is not all of it."""
    windows: list[tuple[int, int]] = []
    size = first = 0
    for i, text in enumerate(texts):
        size += max(0, len(text) - 2)
        if size >= WINDOW:
            windows.append((first, i + 1))
            size, first = 0, i + 1
    if len(windows) <= MOST_WINDOWS:
        return windows
    return [windows[i * len(windows) // MOST_WINDOWS] for i in range(MOST_WINDOWS)]


def nineteen_of_twenty(values: Sequence[float]) -> float:
    """What 19 of 20 further values like these stay below. Of n values the k-th is exceeded by one in n + 1 - k of n + 1 further ones, not of n; of too few to
    have one that is exceeded so rarely, the logarithms are taken to be normal, with the width of a prediction. All are above 0."""
    n, position = len(values), 0.95 * (len(values) + 1)
    if position > n:
        logs = [math.log(v) for v in values]
        mean = sum(logs) / n
        spread = math.sqrt(sum((v - mean) ** 2 for v in logs) / (n - 1) * (1 + 1 / n))
        return math.exp(mean + student(0.95, n - 1) * spread)
    ordered, below = sorted(values), int(position)
    return ordered[below - 1] + (position - below) * (ordered[min(below, n - 1)] - ordered[below - 1])


def profile_of(texts: Sequence[str]) -> Profile:
    """The profile of the source side of training data."""
    counts = trigrams(texts)
    divergences: list[float] = []
    for first, end in _windows(texts):
        counts_of_window = trigrams(texts[first:end])
        whole, part = int(counts.sum()), int(counts_of_window.sum())
        if whole == part:
            break
        # Compared with the other windows: it is a part of the whole, and would be nearer to it than any new text can be. Without it the whole is smaller, and
        # chance puts two samples apart by the sum of the inverses of their sizes: new text is compared with all of it.
        further = (1 / part + 1 / (whole - part)) / (1 / part + 1 / whole)
        divergences.append(divergence(counts_of_window, counts - counts_of_window) / further)
    divergences = [d for d in divergences if d > 0]
    usual = nineteen_of_twenty(divergences) if len(divergences) >= FEWEST_WINDOWS else None
    letters = "".join(sorted({c for text in texts for c in text.lower() if c.isalpha()}))
    return Profile(counts=tuple(map(int, counts)), letters=letters, usual=usual, segments=len(texts))


def unknown_letters(text: str, training_letters: frozenset[str]) -> tuple[int, int]:
    """(letters of the text that the training data does not have, all its letters)."""
    letters = [c for c in text.lower() if c.isalpha()]
    return sum(c not in training_letters for c in letters), len(letters)
