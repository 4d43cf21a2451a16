"""Finds the texts of a collection that are nearest to a text, by the character n-grams that they have in common.

An inverted index in memory: for each n-gram the numbers of the texts that have it. Inflected words have n-grams in common, and languages without spaces
between words have them too.
"""

from __future__ import annotations

import bisect
import heapq
import math
import unicodedata
from array import array
from collections.abc import Iterable

# Grows when other texts may be found: mixes are then made anew.
RULES = 1
# Code points of an n-gram.
GRAM = 3
# Texts that are compared in full: those that have most of the text's rarest n-grams in common with it, for their own length.
COMPARED = 64


def grams(text: str) -> list[str]:
    """The n-grams of a text, each once: of its NFC, case-folded, with single spaces, one of them at either end."""
    padded = f" {' '.join(unicodedata.normalize('NFC', text).casefold().split())} "
    return list(dict.fromkeys(padded[i : i + GRAM] for i in range(len(padded) - GRAM + 1)))


class Nearest:
    """An index of texts. Two texts score what their common n-grams weigh, twice, over what the n-grams of both weigh: 0 for none, 1 where all are common.

    An n-gram weighs log(1 + texts / texts that have it).
    """

    def __init__(self, texts: Iterable[str]):
        self._having: dict[str, array[int]] = {}
        count = 0
        for count, text in enumerate(texts, 1):
            for gram in grams(text):
                try:
                    self._having[gram].append(count - 1)
                except KeyError:
                    self._having[gram] = array("I", (count - 1,))
        self._texts = count
        # What the n-grams of each text weigh.
        self._weights = array("d", bytes(8 * count))
        for numbers in self._having.values():
            weight = self._weight(len(numbers))
            for number in numbers:
                self._weights[number] += weight

    def __len__(self) -> int:
        return self._texts

    def _weight(self, having: int) -> float:
        return math.log(1 + self._texts / having)

    def find(self, text: str, count: int, min_score: float, without: int | None = None) -> list[tuple[int, float]]:
        """(number, score) of the nearest texts that score at least `min_score`, at most `count` of them, the nearest first; of equals the earlier.

        `without`: the number of a text that is left out.
        """
        empty: array[int] = array("I")
        # The rarest first: they have the shortest lists, and leave the fewest texts.
        looked_up = sorted(((self._weight(max(1, len(n))), n) for n in (self._having.get(gram, empty) for gram in grams(text))), key=lambda w: -w[0])
        own = rest = math.fsum(weight for weight, _ in looked_up)
        # A text that scores enough has n-grams of at least this weight in common: what has none of the rarest need not be looked at. Half of the weight is
        # always looked up, to tell the promising ones from the rest.
        needed = own * min(0.5, min_score / (2 - min_score)) - 1e-9
        common: dict[int, float] = {}
        looked = 0
        while looked < len(looked_up) and rest >= needed:
            weight, numbers = looked_up[looked]
            for number in numbers:
                common[number] = common.get(number, 0.0) + weight
            rest -= weight
            looked += 1
        if without is not None:
            common.pop(without, None)
        promising = heapq.nlargest(COMPARED, ((weight / (own + self._weights[number]), -number) for number, weight in common.items()))
        found: list[tuple[float, int]] = []
        for _, negative in promising:
            number = -negative
            weight, both = common[number], own + self._weights[number]
            # What it may score at most. What cannot come among the nearest any more is not compared.
            bound = 2 * (weight + min(rest, self._weights[number] - weight)) / both + 1e-6
            if bound < min_score or (len(found) >= count and bound < -found[count - 1][0]):
                continue
            weight += sum(weight for weight, numbers in looked_up[looked:] if _holds(numbers, number))
            # Rounded, since the sums are not made in one order.
            if (score := min(1.0, round(2 * weight / both, 6))) >= min_score:
                bisect.insort(found, (-score, number))
        return [(number, -score) for score, number in found[:count]]


def _holds(numbers: array[int], number: int) -> bool:
    at = bisect.bisect_left(numbers, number)
    return at < len(numbers) and numbers[at] == number
