"""Drift of texts from the training data: the Jensen-Shannon divergence of hashed character trigrams.

A `Profile` holds no text, only counts: how many trigrams were hashed to each of a few thousand buckets, and which letters occurred.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

# Buckets that trigrams are hashed to: the trigrams of a window put a few in each bucket that is used at all.
BUCKETS = 2048
# Trigrams in a window: about 250 sentences. Fewer make the divergence larger by chance, so windows are compared with windows.
WINDOW = 20_000
# Windows of the training data from which the usual divergence is estimated.
MOST_WINDOWS = 50


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


def profile_of(texts: Sequence[str]) -> Profile:
    """The profile of the source side of training data."""
    counts = trigrams(texts)
    window: list[str] = []
    divergences: list[float] = []
    size = 0
    for text in texts:
        window.append(text)
        size += max(0, len(text) - 2)
        if size >= WINDOW:
            counts_of_window = trigrams(window)
            # Compared with the other windows: it is a part of the whole, and would be nearer to it than any new text can be.
            divergences.append(divergence(counts_of_window, counts - counts_of_window))
            window, size = [], 0
        if len(divergences) >= MOST_WINDOWS:
            break
    usual = sorted(divergences)[int(0.95 * (len(divergences) - 1))] if len(divergences) >= 4 else None
    letters = "".join(sorted({c for text in texts for c in text.lower() if c.isalpha()}))
    return Profile(counts=tuple(map(int, counts)), letters=letters, usual=usual, segments=len(texts))


def unknown_letters(text: str, training_letters: frozenset[str]) -> tuple[int, int]:
    """(letters of the text that the training data does not have, all its letters)."""
    letters = [c for c in text.lower() if c.isalpha()]
    return sum(c not in training_letters for c in letters), len(letters)
