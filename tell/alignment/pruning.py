"""Keeps a lexicon small enough to be part of an adapter: leaves out what occurred least."""

from __future__ import annotations

from collections.abc import Iterator

from tell.lexicon.lexicon import HEAD, MOST_BYTES, Lexicon


def pruned(lexicon: Lexicon, most_bytes: int = MOST_BYTES) -> tuple[Lexicon, dict[str, int]]:
    """The lexicon with its rarest entries left out until it has no more than `most_bytes`, and how many keys and candidates that were.

    At each count from 1 up, candidates that occurred no oftener go first, but for a key's first; then whole words, whose prefixes stay; then prefixes; then
    headwords of dictionaries.
    """
    entries = {k: lexicon.candidates(k) for k in lexicon.lines} if len(lexicon.dump()) > most_bytes else {}
    before = len(entries), sum(map(len, entries.values()))
    steps = _steps(max((c for counts in entries.values() for c in counts.values()), default=0))
    while len(lexicon.dump()) > most_bytes and entries:
        level, what = next(steps)
        kept = {k: _kept(k, counts, level, what) for k, counts in entries.items()}
        entries = {k: counts for k, counts in kept.items() if counts}
        lexicon = Lexicon.of(lexicon.pair, lexicon.keying, lexicon.common, entries, lexicon.totals, lexicon.struck)
    return lexicon, {"keys": before[0] - len(entries), "candidates": before[1] - sum(map(len, entries.values()))}


def _steps(highest: float) -> Iterator[tuple[float, str]]:
    for level in range(1, int(highest) + 2):
        for what in ("candidates", "words", "prefixes", "heads"):
            yield level, what


def _kind(source_key: str) -> str:
    return "heads" if source_key.endswith(HEAD) else "prefixes" if source_key.endswith("*") else "words"


def _kept(source_key: str, counts: dict[str, float], level: float, what: str) -> dict[str, float]:
    if what == "candidates":
        first = next(iter(counts))
        return {text: count for text, count in counts.items() if count > level or text == first}
    return counts if _kind(source_key) != what else {text: count for text, count in counts.items() if count > level}
