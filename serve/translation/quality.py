"""How hard a segment is tried for: `fast` decodes it once, greedily; `best` draws more candidates and takes the one that agrees most with all of them.

Reads and writes nothing. Every candidate is a decode of its own in the queue, so that a request pays for each, and what leaves takes all with it.
"""

from __future__ import annotations

from typing import Literal

from tell.model.engine import Sampling

Quality = Literal["fast", "best"]
QUALITY = "fast, or best: several candidates are made of each segment, and the one that agrees most with the others is taken; it costs as many times as much"
# Of `best`, the greedy one among them; chosen on training-side data (docs/results/quality.md).
CANDIDATES = 8
DRAWN = Sampling(temperature=0.5)
# Other translations that a request may ask for.
MOST_ALTERNATIVES = 10
ALTERNATIVES = f"a number of other translations of each text, 0 to {MOST_ALTERNATIVES}; each costs as much as the first"


def candidates(quality: Quality, alternatives: int) -> int:
    """Decodes of each segment. Of those drawn some come out alike, so a few more are made than are asked for."""
    return max(CANDIDATES if quality == "best" else 1, alternatives + 2 if alternatives else 1)


def samplings(number: int) -> list[Sampling]:
    """How those beside the greedy one are drawn. The seeds are always the same: so is the answer, as far as the engine keeps to them."""
    return [Sampling(DRAWN.temperature, DRAWN.top_k, DRAWN.top_p, seed) for seed in range(1, number)]
