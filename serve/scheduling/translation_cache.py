"""A cache of translations by adapter version: the least recently used is evicted first, and its size is bounded in bytes. It is in memory only; the
translations of a version go with it.

An adapter's id is the hash of its content, which holds its anchor and its decoding, and decoding is greedy: the same segment gives the same
translation. Each version has its own entries. What was decoded otherwise than the card says, or sampled, has its settings and its seed in its key; and a
segment with terms of a glossary has the digest of the glossary.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter, OrderedDict

from tell.model.engine import Sampling
from tell.text.flags import Checked

# Bytes of an entry beside its two strings, at most: 263 were measured, and the table grows in steps.
ENTRY = 340

# A segment that is decoded as the adapter's card says, or with another penalty on repetition, or sampled; and the digest of the glossary that it has terms of.
DecodeKey = str | tuple[str, float | Sampling] | tuple[str, float | Sampling | None, str]


def decode_key(segment: str, how: float | Sampling | None, glossary: str) -> DecodeKey:
    """The key of a segment; `how` is None where the adapter's card says it, `glossary` the digest, or "" where the segment has no terms."""
    if glossary:
        return segment, how, glossary
    return segment if how is None else (segment, how)


class TranslationCache:
    def __init__(self, limit: int):
        """`limit` in bytes; 0 keeps nothing."""
        self.limit = limit
        self.evictions = 0
        # Bytes held, by version.
        self._sizes: Counter[str] = Counter()
        # By version; in each the least recently used first, with the time of its use as a count.
        self._versions: dict[str, OrderedDict[DecodeKey, tuple[int, Checked]]] = {}
        self._clock = itertools.count()

    def __len__(self) -> int:
        return sum(map(len, self._versions.values()))

    @property
    def size(self) -> int:
        return self._sizes.total()

    def has(self, adapter_id: str, key: DecodeKey) -> bool:
        return key in self._versions.get(adapter_id, ())

    def get(self, adapter_id: str, key: DecodeKey) -> Checked | None:
        entries = self._versions.get(adapter_id)
        if entries is None or (entry := entries.get(key)) is None:
            return None
        entries[key] = (next(self._clock), entry[1])
        entries.move_to_end(key)
        return entry[1]

    def put(self, adapter_id: str, key: DecodeKey, translation: Checked) -> None:
        size = _size(key, translation)
        # One that would evict a large part of the others is not worth it.
        if size > self.limit // 8:
            return
        entries = self._versions.setdefault(adapter_id, OrderedDict())
        if (earlier := entries.pop(key, None)) is not None:
            self._sizes[adapter_id] -= _size(key, earlier[1])
        entries[key] = (next(self._clock), translation)
        self._sizes[adapter_id] += size
        while self.size > self.limit:
            self._evict()

    def _evict(self) -> None:
        # The oldest of a version is its first, so only as many are compared as there are versions.
        adapter_id = min(self._versions, key=lambda v: next(iter(self._versions[v].values()))[0])
        entries = self._versions[adapter_id]
        key, (_, translation) = entries.popitem(last=False)
        self._sizes[adapter_id] -= _size(key, translation)
        self.evictions += 1
        if not entries:
            self.forget(adapter_id)

    def forget(self, adapter_id: str) -> None:
        """Drop the translations of a version."""
        self._versions.pop(adapter_id, None)
        self._sizes.pop(adapter_id, None)


def _size(key: DecodeKey, translation: Checked) -> int:
    text = key if isinstance(key, str) else key[0]
    return sys.getsizeof(text) + sys.getsizeof(translation.text) + ENTRY
