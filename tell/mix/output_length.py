"""How many tokens the translations of a corpus need, which decides where an output is cut.

A tokenizer that hardly knows a language spells it byte by byte, and its translations have many times the tokens of their sources. Reads texts from memory.
"""

from __future__ import annotations

import dataclasses
import math

from tell.errors import CorpusError
from tell.model.engine import Decoding
from tell.model.tokenizer import BaseTokenizer
from tell.spool import BATCH

# Pairs that are looked at, at most twice as many: of 5,000 fifty are beyond the 99th percentile.
SAMPLE = 5000
# Tokens. A shorter source says little, and what its translation needs is in `length_extra`.
LEAST = 8
# The share of the pairs whose translations must fit, and how much longer than theirs an output may be.
SHARE, MORE = 0.99, 1.2
MOST = 20.0


@dataclasses.dataclass(slots=True)
class PairSample:
    """Pairs at equal distances, whatever their number."""

    pairs: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    step: int = 1
    seen: int = 0

    def add(self, source: str, target: str) -> None:
        if self.seen % self.step == 0:
            self.pairs.append((source, target))
            if len(self.pairs) >= 2 * SAMPLE:
                self.pairs, self.step = self.pairs[::2], 2 * self.step
        self.seen += 1

    def length_factor(self, tokenizer: BaseTokenizer, place: str) -> float | None:
        """The new tokens to allow per token of a source; None where the default is enough. Raises CorpusError where even the most that can be allowed would cut
        more references than one in a hundred."""
        lengths = []
        for start in range(0, len(self.pairs), BATCH):
            batch = self.pairs[start : start + BATCH]
            sides = (tokenizer.encode_batch([pair[side] for pair in batch]) for side in (0, 1))
            lengths += [(len(s), len(t)) for s, t in zip(*sides, strict=True)]
        ratios = sorted(t / s for s, t in lengths if s >= LEAST) or sorted(t / max(1, s) for s, t in lengths)
        wanted = MORE * ratios[math.ceil(SHARE * len(ratios)) - 1] if ratios else 0.0
        if wanted <= Decoding().length_factor:
            return None
        factor = min(MOST, math.ceil(10 * wanted) / 10)
        decoding = Decoding(length_factor=factor)
        if (cut := sum(t + 1 > decoding.max_tokens(s) for s, t in lengths)) > (1 - SHARE) * len(lengths):
            found = f"{cut:,} of {len(lengths):,} training pairs have longer translations than {factor:g} tokens for each of the source"
            raise CorpusError("the base spells the target language too finely to translate into it", place=place, found=found, valid="another base")
        return factor
