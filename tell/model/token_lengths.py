"""How many tokens a text has, without encoding all of it: words repeat, so their counts are kept and added up.

Exact, for the two kinds of tokenizer in which what stands on one side of a space cannot change the tokens on the other. What a tokenizer is, is
read off itself; with any other kind, and for any text that does not part so, the text is tokenised whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

# Words whose counts are kept at most, and their characters: about 100 MB.
WORDS, LONGEST = 1 << 20, 48
# Tokens that reach over a space, at most: every text is searched for them.
CROSSING = 64

# Gemma and other SentencePiece-like BPE: spaces become ▁, and merges decide everything.
_SPACES = 'Replace(pattern=String(" "), content="▁")'
_NO_CUT = ("None", 'Split(pattern=String(" "), behavior=MergedWithPrevious, invert=False)')
# SmolLM2, GPT-2: pieces are cut out before merging, and in none does a space follow anything but white space.
_BYTES = "ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)"
_CROSSES = re.compile("[^▁ ][▁ ]|[^\n]\n|\n[^\n]")
_LINE_ENDS = re.compile("(\n+)")


def _crosses(token: str) -> bool:
    """Whether a token reaches over a space from the left, or over a line break."""
    return bool(_CROSSES.search(token))


def word_boundaries(tokenizer: Any) -> tuple[str | None, re.Pattern[str] | None]:
    """`spaces` where spaces and line breaks part words, `bytes` where spaces do, None where neither is known; with a pattern of the texts where they do not."""
    model = tokenizer.model
    if type(model).__name__ != "BPE" or model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix:
        return None, None
    added = tokenizer.get_added_tokens_decoder().values()
    if any(t.lstrip or t.rstrip or t.single_word or _crosses(t.content) for t in added):
        return None, None
    normalizer, cut = repr(tokenizer.normalizer), repr(tokenizer.pre_tokenizer)
    if normalizer == "None" and cut == _BYTES:
        return "bytes", None
    if normalizer != _SPACES or cut not in _NO_CUT or getattr(model, "ignore_merges", False):
        return None, None
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    # Merging makes such a token only where the text has all of it. Gemma 3 has one: ">▁</".
    crossing = [re.escape(t).replace("▁", "[ ▁]") for t in vocabulary if _crosses(t)]
    if len(crossing) > CROSSING or not {"▁", "\n"} <= vocabulary.keys():
        return None, None
    return "spaces", re.compile("|".join(crossing)) if crossing else None


class TokenCounter:
    """Counts of tokens by text. `encode_lengths` gives those of texts tokenised whole."""

    def __init__(self, tokenizer: Any, encode_lengths: Callable[[list[str]], list[int]]):
        self._whole = encode_lengths
        self._kind, self._crossing = word_boundaries(tokenizer)
        # Words at the beginning of a text or line, and words with the space before them.
        self._first: dict[str, int] = {"": 0}
        self._inner: dict[str, int] = {}

    def __call__(self, texts: list[str]) -> list[int]:
        if self._kind is None:
            return self._whole(texts)
        if len(self._first) + len(self._inner) > WORDS:
            self._first, self._inner = {"": 0}, {}
        parted = [self._lines(t) for t in texts]
        self._learn(line for lines in parted for line in lines)
        counts = [self._sum(lines) for lines in parted]
        whole = [i for i, n in enumerate(counts) if n is None]
        for i, n in zip(whole, self._whole([texts[i] for i in whole]), strict=True):
            counts[i] = n
        return [n or 0 for n in counts]

    def _lines(self, text: str) -> list[list[str]]:
        """Words by line. Where line breaks part words, a run of them stands as a line of one word. No lines for a text that does not part so."""
        if self._crossing is not None and self._crossing.search(text):
            return []
        if self._kind == "spaces" and "\n" in text:
            return [line.split(" ") if line[0] != "\n" else [line] for line in _LINE_ENDS.split(text) if line]
        return [text.split(" ")]

    def _learn(self, lines: Iterable[list[str]]) -> None:
        unknown_words: tuple[dict[str, None], dict[str, None]] = ({}, {})
        for words in lines:
            if words[0] not in self._first and self._stands(words[0], True):
                unknown_words[0][words[0]] = None
            for w in words[1:]:
                if w not in self._inner and self._stands(w, False):
                    unknown_words[1][w] = None
        for counts, unknown, prefix in ((self._first, unknown_words[0], ""), (self._inner, unknown_words[1], " ")):
            counts.update(zip(unknown, self._whole([prefix + w for w in unknown]), strict=True))

    def _stands(self, word: str, first: bool) -> bool:
        """Whether a word's count may be kept: short, and with no white space where it meets its neighbours."""
        if len(word) > LONGEST:
            return False
        if not word:
            return first
        # A ▁ of the text's own could merge with the one that the next space becomes.
        return (first or not word[0].isspace()) and (not (word[-1].isspace() or word[-1] == "▁") or word[0] == "\n")

    def _sum(self, lines: list[list[str]]) -> int | None:
        """The tokens of all words; None where there are none, or the count of one is not kept."""
        first, inner, n = self._first, self._inner, 0
        if not lines:
            return None
        try:
            for words in lines:
                n += first[words[0]]
                if len(words) > 1:
                    n += sum(map(inner.__getitem__, words[1:]))
        except KeyError:
            return None
        return n
