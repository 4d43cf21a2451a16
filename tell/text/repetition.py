"""Detects repetition loops, a common failure of language models. Reads strings, writes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A stretch that comes four times or more in a row, without regard to words: laughter, rows of dots, scripts without spaces.
_STRETCH = re.compile(r"(.{1,60}?)\1{3,}", re.S)
_EDGES = re.compile(r"^\W+|\W+$")
# Characters that a loop has beyond its first round: fewer are emphasis ("no, no, no, no"), and more are wanted where there are no letters, as in a row of dots.
LEAST = 12
# The same where there are only three rounds, as in a refrain.
LEAST_OF_THREE = 30
LEAST_OF_SIGNS = 24


def _rounds(words: Sequence[str]) -> tuple[int, int]:
    """The longest run of a repeated stretch of words: how many times the stretch occurs in it, and how many words follow its first occurrence."""
    seen: dict[tuple[str, str], int] = {}
    distances = set()
    for i in range(len(words) - 1):
        pair = words[i], words[i + 1]
        if pair in seen:
            distances.add(i - seen[pair])
        seen[pair] = i
    best = (1, 0)
    for p in distances:
        run = 0
        for i in range(len(words) - p):
            run = run + 1 if words[i] == words[i + p] else 0
            if run > best[1]:
                best = (run // p + 1, run)
    return best


def _worst(text: str) -> tuple[int, int]:
    """How many times something occurs in a row, and the characters after its first occurrence; (1, 0) when nothing occurs often enough."""
    words = [_EDGES.sub("", w).casefold() for w in text.split()]
    words = [w for w in words if w]
    rounds, repeated_words = _rounds(words)
    extra = int(repeated_words * (sum(map(len, words)) / len(words) + 1)) if words else 0
    worst = (rounds, extra) if (rounds >= 4 and extra >= LEAST) or (rounds == 3 and extra >= LEAST_OF_THREE) else (1, 0)
    for stretch in _STRETCH.finditer(text):
        unit = stretch.group(1)
        extra = len(stretch.group()) - len(unit)
        least = LEAST if any(map(str.isalpha, unit)) else LEAST_OF_SIGNS
        if unit.strip() and extra >= max(least, worst[1] + 1):
            worst = (len(stretch.group()) // len(unit), extra)
    return worst


def loops(source: str, translation: str) -> bool:
    """Whether the translation repeats something in a row that its source does not repeat."""
    rounds, extra = _worst(translation)
    if rounds == 1:
        return False
    in_source = _worst(source)
    return rounds > in_source[0] + 1 or extra > 2 * in_source[1] + LEAST_OF_THREE
