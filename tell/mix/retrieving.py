"""Nearest pairs in the training examples of a mix: what each prompt gets from the memory that is made of the same pairs.

Leave one out: an example's own pair, and what is the same, is no near pair of it. With it, every answer would stand in its prompt, and the model would learn to
copy. Some examples get no pairs, so that the adapter also translates without.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import ConfigDict, Field

from tell.files import sha256_bytes
from tell.languages import parse_pair
from tell.records import Pair
from tell.retrieval.memory import FORMAT, collect
from tell.retrieval.nearest import RULES
from tell.retrieval.retriever import RetrievalOptions, Retriever, write_pairs


class RetrievalConfig(RetrievalOptions):
    """The `[retrieval]` table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Share of the examples that get no pairs.
    dropout: float = Field(default=0.15, ge=0, le=1)

    @property
    def options(self) -> RetrievalOptions:
        return RetrievalOptions(**{name: getattr(self, name) for name in RetrievalOptions.model_fields})

    def key_parts(self) -> dict[str, Any]:
        """What decides the pairs beside the corpora, for the key of the mix."""
        return {**self.model_dump(), "format": [FORMAT, RULES]}


class ExamplePairs:
    """Writes the nearest pairs of a mix's task examples, and counts them."""

    def __init__(self, config: RetrievalConfig, pair: str, training: Iterable[Pair], seed: int):
        self.config, self.seed = config, seed
        memory, self.left_out = collect(parse_pair(pair), ((p.source, p.target) for p in training))
        # The bytes of memory.tsv.
        self.file = memory.dump()
        self._retriever = Retriever(memory, config.options)
        self.counts: Counter[str] = Counter(retrieved=0, pairs=0, dropped=0, too_long=0)

    def lines(self, pair: Pair) -> str:
        """What stands before the pair's source in its prompt."""
        digest = hashlib.sha256(f"{self.seed}\nretrieval\n{pair.source}\n{pair.target}".encode()).digest()
        if int.from_bytes(digest[:8]) < self.config.dropout * 2**64:
            self.counts["dropped"] += 1
            return ""
        pairs = self._retriever.pairs(pair.source, without=pair.target)
        self.counts.update(retrieved=1 if pairs else 0, pairs=len(pairs))
        return write_pairs(pairs)

    def row(self) -> dict[str, Any]:
        """For mix.json: `retrieved` examples have `pairs` pairs together, `dropped` ones were left without, `too_long` ones have no room; all before
        `task_tokens`."""
        memory = {"pairs": len(self._retriever.memory.pairs), "bytes": len(self.file), "left_out": self.left_out}
        return {**self.config.model_dump(), "memory": memory, "memory_sha256": sha256_bytes(self.file), "counts": dict(self.counts)}
