"""Text to token ids and back, with the base's own tokenizer, without torch or transformers."""

from __future__ import annotations

import functools
import threading
import weakref
from pathlib import Path
from typing import Any

from tell.errors import BaseModelError
from tell.machine import give_back
from tell.model.anchor import SEPARATOR, Anchor
from tell.model.base import Base
from tell.model.chat_template import ChatTurns
from tell.model.token_lengths import TokenCounter
from tell.records import Example


class _Loaded:
    """A tokenizer of the library's, which itself cannot be referred to weakly. It is read only: its settings are those of `_loaded`."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer


# By the file as it is now, and whether what spells a special token is text in it: some 100 MB each, so that all who need one in a process share it.
_shared: weakref.WeakValueDictionary[tuple[str, int, int, bool], _Loaded] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def _loaded(path: Path, special_as_text: bool) -> _Loaded:
    from tokenizers import Tokenizer

    with _loading:
        try:
            stat = path.stat()
            key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size, special_as_text)
            if (shared := _shared.get(key)) is not None:
                return shared
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as e:  # tokenizers raises bare Exception
            raise BaseModelError("the base's tokenizer cannot be read", place=str(path), found=str(e)) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = special_as_text
        # Reading the file takes twice what it leaves, which the C library would keep.
        give_back()
        shared = _shared[key] = _Loaded(tokenizer)
        return shared


class BaseTokenizer:
    """The tokenizer of a prepared base, and for the examples of a mix the turns that they are put into.

    Prompt, opening and response are encoded apart and joined, so that the boundary between what is given and what is
    generated falls between the same tokens in training and in serving. So are the turns of a chat template: in them a special
    token is one, while in a text what spells it stays text.
    """

    def __init__(self, base: Base, chat: ChatTurns | None = None):
        self.base, self.chat = base, chat
        self._own = _loaded(base.path / "tokenizer.json", special_as_text=True)
        self._tokenizer = self._own.tokenizer
        self.bos = [] if base.bos_id is None else [base.bos_id]
        self.eos_ids = list(base.eos_ids)
        self._turns: dict[ChatTurns, tuple[list[int], list[int], int]] = {}

    @functools.cached_property
    def _marking(self) -> _Loaded:
        """The tokenizer for text that is not a user's. It is a second one: changing a setting of the first could affect another thread."""
        return _loaded(self.base.path / "tokenizer.json", special_as_text=False)

    def _around(self, turns: ChatTurns | None) -> tuple[list[int], list[int], int]:
        """The ids before a prompt, those between it and the response, and the one that ends the response."""
        if turns is None:
            return self.bos, [], self.eos_ids[0]
        if turns not in self._turns:
            before, after, end = (self._marking.tokenizer.encode(t, add_special_tokens=False).ids for t in (turns.before, turns.after, turns.end))
            # Templates write the BOS themselves, or leave it to the tokenizer.
            start = before if before[: len(self.bos)] == self.bos else self.bos + before
            # What the engines stop at: the turn's own end where the base names it as one, as instruct models do.
            self._turns[turns] = start, after, end[0] if end and end[0] in self.eos_ids else self.eos_ids[0]
        return self._turns[turns]

    def encode(self, text: str) -> list[int]:
        """The ids of `text` alone: no BOS, no EOS, and no other special token, whatever the text spells."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def whole(self, text: str) -> list[int]:
        """`encode` with the base's whole vocabulary."""
        return BaseTokenizer.encode(self, text)

    def name(self, token: int) -> str:
        """A token as the tokenizer spells it, empty for an id that it does not have."""
        return self._tokenizer.id_to_token(token) or ""

    def id_of(self, name: str) -> int | None:
        """The id of the token that the tokenizer spells so."""
        id: int | None = self._tokenizer.token_to_id(name)
        return id

    def added_ids(self) -> set[int]:
        """The tokens that were added to the tokenizer's own: special ones, and what is cut out of a text before it is tokenised."""
        return set(self._tokenizer.get_added_tokens_decoder())

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def vocabulary(self) -> dict[str, int]:
        """Every token as the tokenizer spells it, and its id."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    @functools.cached_property
    def newline_ids(self) -> list[int]:
        """Every token whose text begins with a line break: what ends a one-line translation early."""
        first_ids = set()
        for n in range(1, 9):
            ids = self.encode("\n" * n)
            first_ids.update(ids[:1])
        return sorted(first_ids)

    def prompt_ids(self, anchor: Anchor, source: str) -> list[int]:
        """BOS, the anchored prompt, and the opening of the response: the model goes on from here."""
        before, after, _ = self._around(anchor.chat)
        return before + self.encode(_turn(anchor.prompt(source), anchor.chat)) + after + self.encode(anchor.opening)

    def _turns_of(self, example: Example) -> ChatTurns | None:
        """The turns that an example is put into: a template that asks for translations has only those."""
        return None if self.chat is not None and self.chat.translates and example.kind != "task" else self.chat

    def example_ids(self, examples: list[Example]) -> list[tuple[list[int], int]]:
        """(ids, n) per example; the loss is taken on ids[n:], which is opening, response and EOS."""
        turns = [self._turns_of(e) for e in examples]
        prompts = self.encode_batch([_turn(e.prompt, t) for e, t in zip(examples, turns, strict=True)])
        # One or two different ones among a million examples.
        opening_ids = {text: self.encode(text) for text in {e.opening for e in examples}}
        responses = self.encode_batch([e.response for e in examples])
        encoded = []
        for e, t, p, r in zip(examples, turns, prompts, responses, strict=True):
            before, after, end = self._around(t)
            start = len(before) + len(p) + len(after)
            encoded.append(([*before, *p, *after, *opening_ids[e.opening], *r, end], start))
        return encoded

    @functools.cached_property
    def _counted(self) -> TokenCounter:
        return TokenCounter(self._tokenizer, lambda texts: [len(ids) for ids in self.encode_batch(texts)])

    def lengths(self, examples: list[Example]) -> list[int]:
        """How many ids `example_ids` would give each example."""
        turns = [self._turns_of(e) for e in examples]
        around = {t: sum(map(len, self._around(t)[:2])) for t in set(turns)}
        openings = {text: len(self.encode(text)) + 1 for text in {e.opening for e in examples}}
        prompts = self._counted([_turn(e.prompt, t) for e, t in zip(examples, turns, strict=True)])
        responses = self._counted([e.response for e in examples])
        return [around[t] + openings[e.opening] + p + r for e, t, p, r in zip(examples, turns, prompts, responses, strict=True)]


def _turn(prompt: str, chat: ChatTurns | None) -> str:
    """A prompt's text as it stands in its turn, whose end takes the separator's place."""
    return prompt if chat is None else prompt.removesuffix(SEPARATOR)
