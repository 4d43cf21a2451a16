"""The two halves that a base's tokenizer merges into each of its pieces.

Reads a prepared base's `tokenizer.json`; keeps what it found in `<cache>/merges/<base>-<revision>.bin`, since reading half a million merges takes seconds.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from array import array
from typing import Any

from tell.files import write_atomic
from tell.machine import give_back
from tell.model.base import Base, slug
from tell.paths import cache_dir

# In place of a half: the piece is made of no merge.
NONE = -1
_KIND = "i"


@dataclasses.dataclass(frozen=True, slots=True)
class Merges:
    """By the id of a piece, the ids of its halves, `NONE` for one that no merge makes: `left` and `right` have as many entries as the vocabulary ids."""

    left: array[int]
    right: array[int]


def merges_of(base: Base) -> Merges | None:
    """The merges of the base's tokenizer; None where it does not work by merges (Unigram, WordPiece), or not from characters or bytes up.

    Where several merges make one piece, the earliest counts: that is the one which a text is put together by.
    """
    path = cache_dir() / "merges" / f"{slug(base.id)}-{base.revision[:12]}.bin"
    try:
        return _parsed(path.read_bytes())
    except (OSError, ValueError):
        pass
    merges = _read(base)
    give_back()
    if merges is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, merges.left.tobytes() + merges.right.tobytes())
        except OSError:
            # It is read again next time.
            pass
    return merges


def _parsed(raw: bytes) -> Merges:
    """Raises ValueError for bytes that are not two halves of whole numbers."""
    if not raw or len(raw) % (2 * array(_KIND).itemsize) or sys.byteorder != "little":
        raise ValueError("not the halves of pieces")
    left, right = array(_KIND), array(_KIND)
    left.frombytes(raw[: len(raw) // 2])
    right.frombytes(raw[len(raw) // 2 :])
    return Merges(left, right)


def _read(base: Base) -> Merges | None:
    tokenizer: dict[str, Any] = json.loads((base.path / "tokenizer.json").read_bytes())
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    size = 1 + max([*vocabulary.values(), *(token["id"] for token in tokenizer.get("added_tokens") or [])])
    left, right = array(_KIND, [NONE]) * size, array(_KIND, [NONE]) * size
    for merge in model.get("merges") or []:
        # Older files have both halves in one string, parted by a space that is in neither.
        a, b = merge if isinstance(merge, list) else merge.split(" ", 1)
        made = vocabulary.get(a + b)
        if made is not None and left[made] == NONE and a in vocabulary and b in vocabulary:
            left[made], right[made] = vocabulary[a], vocabulary[b]
    return Merges(left, right)
