"""Chooses among several translations of a segment: the one most similar to all others, by minimum Bayes risk on chrF. Reads strings, writes nothing.

What is drawn from a model by chance is scattered around what it thinks likely, so the candidate with the highest mean chrF2 against the others (Eikema and Aziz
2022, Freitag et al. 2022) is a better guess than the likeliest sequence of tokens. The chrF2 is sacrebleu's, counted once for each pair of candidates.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from tell.text.flags import Checked

# As sacrebleu's chrF2 has it: characters in a row, up to so many, white space left out; recall counts twice as much as precision.
ORDER, BETA = 6, 2


@dataclasses.dataclass(frozen=True, slots=True)
class Grams:
    """A text's stretches of one to `ORDER` characters with their numbers, and how many there are of each length."""

    counts: Counter[str]
    totals: tuple[int, ...]


def grams(text: str) -> Grams:
    line = "".join(text.split())
    counts = Counter(line[i : i + n] for n in range(1, ORDER + 1) for i in range(len(line) - n + 1))
    return Grams(counts, tuple(max(0, len(line) - n + 1) for n in range(1, ORDER + 1)))


def _matches(a: Grams, b: Grams) -> list[int]:
    matches = [0] * ORDER
    for gram in a.counts.keys() & b.counts.keys():
        matches[len(gram) - 1] += min(a.counts[gram], b.counts[gram])
    return matches


def _score(matches: Sequence[int], in_output: Sequence[int], in_reference: Sequence[int]) -> float:
    """chrF2 in percent, over the orders for which both texts are long enough."""
    orders = [(m, h, r) for m, h, r in zip(matches, in_output, in_reference, strict=True) if h and r]
    if not orders:
        return 0.0
    precision = sum(m / h for m, h, _ in orders) / len(orders)
    recall = sum(m / r for m, _, r in orders) / len(orders)
    if not precision + recall:
        return 0.0
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def chrf(output: str, reference: str) -> float:
    """The chrF2 of one text against one reference, in percent, as sacrebleu's sentence chrF2."""
    a, b = grams(output), grams(reference)
    return _score(_matches(a, b), a.totals, b.totals)


def agreement(texts: Sequence[str]) -> list[float]:
    """The mean chrF2 of each text against all others, including its own repeats; 0 when there is no other text."""
    times = Counter(texts)
    grams_by_text = {text: grams(text) for text in times}
    sums = {text: (times[text] - 1) * _score(_matches(g, g), g.totals, g.totals) for text, g in grams_by_text.items()}
    distinct = list(grams_by_text.items())
    for i, (text, grams_of) in enumerate(distinct):
        for other, its in distinct[i + 1 :]:
            matches = _matches(grams_of, its)
            sums[text] += times[other] * _score(matches, grams_of.totals, its.totals)
            sums[other] += times[text] * _score(matches, its.totals, grams_of.totals)
    return [sums[text] / max(1, len(texts) - 1) for text in texts]


def best_first(candidates: Sequence[Checked]) -> list[Checked]:
    """The candidates, each text once: those with the fewest and lightest flags first, among these the one that agrees most with all candidates."""
    agreed = agreement([c.text for c in candidates])
    order = sorted(range(len(candidates)), key=lambda i: (candidates[i].cost, -agreed[i], i))
    ranked: dict[str, Checked] = {}
    for i in order:
        ranked.setdefault(candidates[i].text, candidates[i])
    return list(ranked.values())
