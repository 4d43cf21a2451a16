"""Where an output ends: the token ids that stop an engine, and the ids of its output that are kept.

Every driver uses this, and so does validation while training: the same output ends at the same place in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from tell.model.engine import Generation, Prompt
from tell.model.tokenizer import BaseTokenizer


class StopTokens:
    def __init__(self, tokenizer: BaseTokenizer, vocabulary: Iterable[tuple[str, int]]):
        """`vocabulary` gives every token's name and id, as the tokenizer spells them."""
        self._tokens = tokenizer
        self.eos = frozenset(tokenizer.eos_ids)
        # A line break is itself in some vocabularies, "Ċ" in byte-level ones (a letter in others) and "<0x0A>" in byte-fallback ones.
        broken = (i for name, i in vocabulary if "\n" in name or "Ċ" in name or name == "<0x0A>")
        self.breaks = frozenset(i for i in broken if "\n" in tokenizer.decode([i]))

    def ids(self, one_line: bool) -> list[int]:
        """The ids that end an output. One that ends at a line break ends at any token holding one, such as `.\\n`."""
        return sorted(self.eos | self.breaks if one_line else self.eos)

    def generation(self, ids: list[int], prompt: Prompt) -> Generation:
        """`ids` is what the engine produced, the token that stopped it included. `tokens` counts all but the EOS."""
        stopped = bool(ids) and (ids[-1] in self.eos or (prompt.one_line and ids[-1] in self.breaks))
        output_ids = ids[:-1] if ids and ids[-1] in self.eos else ids
        text = self._tokens.decode(output_ids)
        if prompt.one_line:
            text = text.split("\n", 1)[0]
        return Generation(text, len(output_ids), "stop" if stopped else "length")
