"""How long a lexicon takes to look up the words of a text: against a look-up that takes every word's entries apart each time, in one run.

    python -m benchmarks.data.bench_lexicon LEXICON TEXT --lines 4000

Reads a lexicon (`tellmt lexicon build`) and a text in its source language, a line a segment. Writes nothing; prints one JSON object, with microseconds of
processor time a word of the text. Both look-ups must offer the same words for every segment, or it fails. `first`: nothing is known yet, as when a service has
just loaded the lexicon; `again`: the same text once more. `plain` is what `tell.lexicon.lexicon` did before it kept what it had looked up. Both find the words
of a text in the same way, and what that takes is in both.
"""

from __future__ import annotations

import argparse
import bisect
import json
import time
from collections.abc import Callable
from pathlib import Path

from tell.lexicon.initials import radical
from tell.lexicon.lexicon import ENDING, HEAD, HEADS, SHARED, SMOOTHING, Hint, Lexicon
from tell.lexicon.words import folded, keys, words


class PlainLookUp:
    def __init__(self, lexicon: Lexicon):
        self.lexicon = lexicon
        self.ranks = {word: rank for rank, word in enumerate(lexicon.common)}
        self.sorted_heads = sorted(k.removesuffix(HEAD) for k in lexicon.lines if k.endswith(HEAD))

    def candidates(self, key: str) -> dict[str, float]:
        parts = self.lexicon.lines[key].split("\t") if key in self.lexicon.lines else []
        return {text: float(count) for text, count in zip(parts[::2], parts[1::2], strict=True)}

    def heads(self, word: str) -> list[str]:
        heads, word = self.sorted_heads, radical(folded(word), self.lexicon.keying.initials)
        at = bisect.bisect_left(heads, word)
        if at < len(heads) and heads[at] == word:
            return [word]

        def shared(head: str) -> int:
            return next((i for i, (x, y) in enumerate(zip(word, head, strict=False)) if x != y), min(len(word), len(head)))

        most = max((shared(heads[i]) for i in (at - 1, at) if 0 <= i < len(heads)), default=0)
        if most < SHARED or len(word) - most > ENDING:
            return []
        first = bisect.bisect_left(heads, word[:most])
        return [h for h in heads[first : first + HEADS] if h.startswith(word[:most]) and len(h) - most <= ENDING]

    def ranked(self, word: str) -> dict[str, float]:
        if folded(word) in self.lexicon.struck:
            return {}
        found: dict[str, float] = {}
        written: dict[str, str] = {}
        for key, weight in keys(word, self.lexicon.keying):
            for text, count in self.candidates(key).items():
                written.setdefault(folded(text), text)
                found[folded(text)] = found.get(folded(text), 0) + weight * count
        found = {name: count * count / (self.lexicon.totals.get(name, 1) + SMOOTHING) for name, count in found.items()}
        listed: dict[str, float] = {}
        for head in self.heads(word):
            for text, count in self.candidates(head + HEAD).items():
                written.setdefault(folded(text), text)
                listed[folded(text)] = max(count, listed.get(folded(text), 0))
        for name, count in listed.items():
            found[name] = found.get(name, 0) + count
        return {written[name]: found[name] for name in sorted(found, key=lambda name: (-found[name], name))}

    def hints(self, text: str, candidates: int, skip_common: int, min_share: float) -> list[Hint]:
        found = []
        for word in words(text, self.lexicon.pair.source.tag):
            rank = self.ranks.get(folded(word.text))
            if (rank is None or rank >= skip_common) and (ranked := self.ranked(word.text)):
                least = min_share * sum(ranked.values())
                found.append(Hint(word.start, word.end, tuple(text for text, strength in ranked.items() if strength >= least)[:candidates]))
        return [hint for hint in found if hint.candidates]


def timed(look_up: Callable[[str], list[Hint]], segments: list[str]) -> tuple[float, list[list[Hint]]]:
    began = time.process_time()
    hints = [look_up(segment) for segment in segments]
    return time.process_time() - began, hints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lexicon", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--lines", type=int, default=4000, help="Segments of the text that are looked up (default: 4000).")
    parser.add_argument("--candidates", type=int, default=1)
    parser.add_argument("--skip-common", type=int, default=100)
    parser.add_argument("--min-share", type=float, default=0.1)
    args = parser.parse_args()
    lexicon = Lexicon.read(args.lexicon)
    segments = args.text.read_text(encoding="utf-8").split("\n")[: args.lines]
    plain = PlainLookUp(lexicon)
    options = {"candidates": args.candidates, "skip_common": args.skip_common, "min_share": args.min_share}
    # A first look at a few sorts the headwords and fills the caches that both share.
    lexicon.hints(segments[0], **options)
    own_first, hints = timed(lambda s: lexicon.hints(s, **options), segments)
    plain_first, expected = timed(lambda s: plain.hints(s, **options), segments)
    again, hints_again = timed(lambda s: lexicon.hints(s, **options), segments)
    if not hints == hints_again == expected:
        raise SystemExit("the two look-ups offer different words")
    count = sum(len(words(s, lexicon.pair.source.tag)) for s in segments)
    micro = {name: round(1e6 * seconds / count, 2) for name, seconds in (("plain", plain_first), ("first", own_first), ("again", again))}
    print(
        json.dumps(
            {
                "keys": len(lexicon), "segments": len(segments), "words": count, "hints": sum(map(len, hints)), "microseconds_a_word": micro,
                "ratio_first": round(own_first / plain_first, 3), "ratio_again": round(again / plain_first, 3),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
