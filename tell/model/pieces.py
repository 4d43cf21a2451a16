"""The part of a base's vocabulary that a language pair needs: which pieces, and how a text is spelled with these alone.

Reads and writes `pieces.json`, a file of the adapter. Of Gemma 3's 262,144 pieces a pair uses a tenth, and each step of decoding on a processor multiplies by
all that the model has. A piece that is not among an adapter's is spelled with pieces that are: with its two halves, by the tokenizer's own merges backwards,
down to single characters and bytes, all of which every adapter keeps. So nothing becomes unknown, and what is spelled reads the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from array import array
from collections.abc import Iterable, Sequence

from tell.errors import BadInput
from tell.model.base import Base
from tell.model.chat_template import ChatTurns
from tell.model.merges import NONE, Merges, merges_of
from tell.model.tokenizer import BaseTokenizer

# Bytes of the file at most.
MOST_BYTES = 4 << 20
FORMAT = 1
# Ids that a vocabulary may have at most.
MOST = 1 << 22


@dataclasses.dataclass(frozen=True, slots=True)
class Pieces:
    """The ids that are kept, ascending, of a vocabulary of `size` ids."""

    kept: array[int]
    size: int

    @classmethod
    def of(cls, ids: Iterable[int], size: int) -> Pieces:
        return cls(array("i", sorted(set(ids))), size)

    @classmethod
    def parse(cls, raw: bytes, place: str) -> Pieces:
        """Raises BadInput for anything that `dump` does not write."""
        try:
            data = json.loads(raw)
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}")
            size, gaps = data["vocabulary"], data["gaps"]
            if type(size) is not int or not 0 < size <= MOST or type(gaps) is not list or not all(type(g) is int and 0 < g <= size for g in gaps):
                raise ValueError("not the distances between ids")
            kept = array("i", (n - 1 for n in itertools.accumulate(gaps)))
            if not kept or kept[-1] >= size:
                raise ValueError("ids outside the vocabulary" if kept else "no ids")
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as e:
            raise BadInput("the pieces cannot be read", place=place, found=str(e)) from None
        return cls(kept, size)

    def dump(self) -> bytes:
        gaps = [b - a for a, b in itertools.pairwise([-1, *self.kept])]
        return json.dumps({"format": FORMAT, "vocabulary": self.size, "gaps": gaps}, separators=(",", ":")).encode() + b"\n"


class Speller:
    """Spells ids of the whole vocabulary with ids that are kept."""

    def __init__(self, pieces: Pieces, merges: Merges, tokens: BaseTokenizer):
        self._kept = bytearray(pieces.size)
        for i in pieces.kept:
            self._kept[i] = 1
        self._merges, self._tokens = merges, tokens
        self._spelled: dict[int, tuple[int, ...]] = {}

    def __call__(self, ids: Sequence[int]) -> list[int]:
        kept = self._kept
        if all(kept[i] for i in ids):
            return list(ids)
        return [k for i in ids for k in ((i,) if kept[i] else self._spelling(i))]

    def _spelling(self, piece: int) -> tuple[int, ...]:
        if (known := self._spelled.get(piece)) is not None:
            return known
        spelled: list[int] = []
        waiting = [piece]
        while waiting:
            i = waiting.pop()
            if self._kept[i]:
                spelled.append(i)
            elif self._merges.left[i] != NONE:
                waiting += [self._merges.right[i], self._merges.left[i]]
            else:
                spelled += self._characters(i)
        self._spelled[piece] = tuple(spelled)
        return self._spelled[piece]

    def _characters(self, piece: int) -> list[int]:
        """A piece that no merge makes, such as an added token, by the characters it is written with. Raises BadInput where one of them is not kept."""
        name = self._tokens.name(piece)
        ids = [i for character in name for i in self._tokens.whole(character)]
        if not ids or any(not self._kept[i] and (i == piece or self._merges.left[i] == NONE) for i in ids):
            raise BadInput("a piece that the kept ones cannot spell", place="pieces.json", found=name, valid="all characters and bytes are kept")
        return [k for i in ids for k in ((i,) if self._kept[i] else self._spelling(i))]


def alphabet(tokens: BaseTokenizer, merges: Merges) -> set[int]:
    """What every adapter keeps: all pieces that no merge makes (characters and bytes), and the special tokens that begin, end and fill a text."""
    added = tokens.added_ids()
    special = {i for name in ("<unk>", "<pad>", "<s>", "</s>", "<bos>", "<eos>") if (i := tokens.id_of(name)) is not None}
    # Gemma's line break is an added token.
    letters = {i for i, half in enumerate(merges.left) if half == NONE and (name := tokens.name(i)) and (i not in added or len(name) == 1)}
    return letters | special | {*tokens.bos, *tokens.eos_ids}


class PairTokenizer(BaseTokenizer):
    """The base's tokenizer, with every id that an adapter's vocabulary lacks spelled with those that it has."""

    def __init__(self, base: Base, pieces: Pieces, merges: Merges, chat: ChatTurns | None = None):
        super().__init__(base, chat)
        self.pieces, self.spell = pieces, Speller(pieces, merges, self)

    def encode(self, text: str) -> list[int]:
        return self.spell(super().encode(text))

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self.spell(ids) for ids in super().encode_batch(texts)]


def pair_tokenizer(tokens: BaseTokenizer, pieces: Pieces | None) -> BaseTokenizer:
    """The tokenizer of an adapter that keeps these pieces; the base's own where it keeps all (None)."""
    if pieces is None:
        return tokens
    merges = merges_of(tokens.base)
    if merges is None or pieces.size != len(merges.left):
        found, valid = f"of {pieces.size:,} ids", "the merges of this base" if merges is None else f"{len(merges.left):,} ids"
        raise BadInput("the pieces are of another vocabulary", place="pieces.json", found=found, valid=valid)
    return PairTokenizer(tokens.base, pieces, merges, tokens.chat)
