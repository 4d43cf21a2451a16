"""The union of lexicons of one pair: what they count is added up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tell.errors import BadInput
from tell.languages import LanguagePair
from tell.lexicon.lexicon import Lexicon
from tell.lexicon.words import Keying, folded


def read_fitting(path: Path, pair: LanguagePair, keying: Keying) -> Lexicon:
    """The lexicon in a directory (an adapter's too) or a file. Raises BadInput where there is none, and for one of another pair or keying."""
    lexicon = Lexicon.read(path)
    if lexicon.pair != pair:
        raise BadInput("this lexicon is of another pair", place=str(path), found=str(lexicon.pair), valid=str(pair))
    if lexicon.keying != keying:
        raise BadInput("this lexicon keys words otherwise", place=str(path), found=str(lexicon.keying), valid=str(keying))
    return lexicon


def joined(lexicons: Sequence[Lexicon], weights: Sequence[float]) -> Lexicon:
    """The union of lexicons of one pair and keying, each count times its lexicon's weight. Where two write a candidate differently, the first one's way stays.

    A struck word is struck in the union. The commonest source words are in the order of their best rank in any lexicon.
    """
    first = lexicons[0]
    counts: dict[str, dict[str, float]] = {}
    written: dict[str, str] = {}
    totals: dict[str, float] = {}
    ranks: dict[str, int] = {}
    for lexicon, weight in zip(lexicons, weights, strict=True):
        for source_key in lexicon.lines:
            entry = counts.setdefault(source_key, {})
            for text, count in lexicon.candidates(source_key).items():
                name = folded(text)
                written.setdefault(name, text)
                entry[name] = entry.get(name, 0) + weight * count
        for name, count in lexicon.totals.items():
            totals[name] = totals.get(name, 0) + weight * count
        for rank, word in enumerate(lexicon.common):
            ranks[word] = min(rank, ranks.get(word, rank))
    entries = {k: {written[name]: count for name, count in entry.items()} for k, entry in counts.items()}
    common = sorted(ranks, key=lambda word: (ranks[word], word))
    struck = frozenset[str]().union(*(lexicon.struck for lexicon in lexicons))
    return Lexicon.of(first.pair, first.keying, common, entries, {name: round(n) for name, n in totals.items()}, struck)
