"""Text to token ids and back, with the base's own tokenizer, without torch or transformers."""

from __future__ import annotations

import functools
from typing import Any

from tell.anchors import Anchor
from tell.bases import Base
from tell.errors import BaseModelError
from tell.records import Example


class Tokens:
    """The tokenizer of a prepared base.

    Prompt, opening and response are encoded apart and joined, so that the boundary between what is given and what is
    generated falls between the same tokens in training and in serving.
    """

    def __init__(self, base: Base):
        from tokenizers import Tokenizer

        path = base.path / "tokenizer.json"
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as e:  # tokenizers raises bare Exception
            raise BaseModelError("the base's tokenizer cannot be read", place=str(path), found=str(e)) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.base = base
        self.bos = [] if base.bos_id is None else [base.bos_id]
        self.eos_ids = list(base.eos_ids)

    def encode(self, text: str) -> list[int]:
        """The ids of `text` alone: no BOS, no EOS. Text that spells a special token is still text where the tokenizer allows it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def vocabulary(self) -> dict[str, int]:
        """Every token as the tokenizer spells it, and its id."""
        found: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return found

    @functools.cached_property
    def newline_ids(self) -> list[int]:
        """Every token whose text begins with a line break: what ends a one-line translation early."""
        found = set()
        for n in range(1, 9):
            ids = self.encode("\n" * n)
            found.update(ids[:1])
        return sorted(found)

    def prompt_ids(self, anchor: Anchor, source: str) -> list[int]:
        """BOS, the anchored prompt, and the opening of the response: the model goes on from here."""
        return self.bos + self.encode(anchor.prompt(source)) + self.encode(anchor.opening)

    def example_ids(self, examples: list[Example]) -> list[tuple[list[int], int]]:
        """(ids, n) per example; the loss is taken on ids[n:], which is opening, response and EOS."""
        prompts = self.encode_batch([e.prompt for e in examples])
        # One or two different ones among a million examples.
        opening_ids = {text: self.encode(text) for text in {e.opening for e in examples}}
        responses = self.encode_batch([e.response for e in examples])
        out = []
        for e, p, r in zip(examples, prompts, responses, strict=True):
            start = len(self.bos) + len(p)
            out.append((self.bos + p + opening_ids[e.opening] + r + self.eos_ids[:1], start))
        return out
