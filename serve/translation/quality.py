"""The quality of a translation: `fast` decodes a segment once, greedily; `best` samples more candidates and takes the one that agrees most with all of them.

Reads and writes nothing. Every candidate is a decode of its own in the queue, so that a request pays for each, and a request that leaves stops them all.
"""

from __future__ import annotations

from typing import Literal

from tell.model.engine import Sampling

Quality = Literal["fast", "best"]
QUALITY = "fast, or best: each segment is decoded several times, and the candidate that agrees most with the others is taken; it costs as many times as much"
# Candidates of `best`, the greedy one among them; the number was chosen on training-side data (docs/results/quality.md).
CANDIDATES = 8
SAMPLED = Sampling(temperature=0.5)
# Alternatives that a request may ask for.
MOST_ALTERNATIVES = 10
ALTERNATIVES = f"a number of other translations of each text, 0 to {MOST_ALTERNATIVES}; each costs as much as the first"


def candidates(quality: Quality, alternatives: int) -> int:
    """Decodes of each segment. Some sampled candidates come out alike, so there are a few more decodes than alternatives."""
    return max(CANDIDATES if quality == "best" else 1, alternatives + 2 if alternatives else 1)


def samplings(number: int) -> list[Sampling]:
    """How the candidates beside the greedy one are sampled. Seeds are always the same, and so are translations, as far as the engine keeps to seeds."""
    return [Sampling(SAMPLED.temperature, SAMPLED.top_k, SAMPLED.top_p, seed) for seed in range(1, number)]
