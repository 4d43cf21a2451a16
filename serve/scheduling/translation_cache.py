"""Translations kept per adapter version, the least recently used given up first, bounded in bytes. In memory only, and gone with the version.

An adapter is known by the hash of its content, which holds its anchor and its decoding, and decoding is greedy: the same segment gives the same
translation. Each version has entries of its own, so nothing crosses from one to another; and what was decoded otherwise than the card says, or drawn by chance,
has its settings and its seed in its key.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter, OrderedDict

from tell.model.engine import Sampling
from tell.text.flags import Checked

# Bytes of an entry beside its two strings, at most: 263 were measured, and the table grows in steps.
ENTRY = 340

# A segment decoded as the adapter's card has it, or a segment with another penalty on repetition, or drawn by chance.
DecodeKey = str | tuple[str, float | Sampling]


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

    def has(self, adapter_id: str, segment: DecodeKey) -> bool:
        return segment in self._versions.get(adapter_id, ())

    def get(self, adapter_id: str, segment: DecodeKey) -> Checked | None:
        entries = self._versions.get(adapter_id)
        if entries is None or (found := entries.get(segment)) is None:
            return None
        entries[segment] = (next(self._clock), found[1])
        entries.move_to_end(segment)
        return found[1]

    def put(self, adapter_id: str, segment: DecodeKey, made: Checked) -> None:
        size = _size(segment, made)
        # One that would put out a large part of the others is not worth it.
        if size > self.limit // 8:
            return
        entries = self._versions.setdefault(adapter_id, OrderedDict())
        if (old := entries.pop(segment, None)) is not None:
            self._sizes[adapter_id] -= _size(segment, old[1])
        entries[segment] = (next(self._clock), made)
        self._sizes[adapter_id] += size
        while self.size > self.limit:
            self._evict()

    def _evict(self) -> None:
        # The oldest of a version is its first, so only as many are compared as there are versions.
        adapter_id = min(self._versions, key=lambda v: next(iter(self._versions[v].values()))[0])
        entries = self._versions[adapter_id]
        segment, (_, made) = entries.popitem(last=False)
        self._sizes[adapter_id] -= _size(segment, made)
        self.evictions += 1
        if not entries:
            self.forget(adapter_id)

    def forget(self, adapter_id: str) -> None:
        """Drop what a version made."""
        self._versions.pop(adapter_id, None)
        self._sizes.pop(adapter_id, None)


def _size(segment: DecodeKey, made: Checked) -> int:
    text = segment if isinstance(segment, str) else segment[0]
    return sys.getsizeof(text) + sys.getsizeof(made.text) + ENTRY
