"""Adapters that keep a part of the tiny base's vocabulary."""

from __future__ import annotations

from collections.abc import Iterable

from tell.adapter.card import PIECES, Adapter, KeptPieces, open_adapter, write_card
from tell.files import sha256_file
from tell.model.base import Base
from tell.model.merges import merges_of
from tell.model.pieces import Pieces, alphabet
from tell.model.tokenizer import BaseTokenizer


def pieces_for(base: Base, texts: Iterable[str] = ()) -> Pieces:
    """What every adapter keeps, and the pieces of these texts."""
    merges, tokens = merges_of(base), BaseTokenizer(base)
    assert merges is not None
    return Pieces.of(alphabet(tokens, merges) | {i for text in texts for i in tokens.encode(text)}, len(merges.left))


def with_pieces(adapter: Adapter, pieces: Pieces) -> Adapter:
    """The adapter in its directory, now with a list of pieces and a card that says so."""
    (adapter.path / PIECES).write_bytes(pieces.dump())
    files = {**adapter.card.files, PIECES: sha256_file(adapter.path / PIECES)}
    write_card(adapter.path, adapter.card.model_copy(update={"pieces": KeptPieces.chosen(pieces, 0.001), "files": files}))
    return open_adapter(adapter.path)
