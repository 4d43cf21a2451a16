"""Adapters with a memory, for tests of what goes with nearest pairs."""

from __future__ import annotations

from collections.abc import Sequence

from tell.adapter.card import MEMORY, Adapter, open_adapter, write_card
from tell.files import sha256_file
from tell.languages import parse_pair
from tell.retrieval.memory import collect
from tell.retrieval.retriever import RetrievalOptions

PAIRS = (("Hundurinn beit manninn.", "The dog bit the man."), ("Opnaðu skrána.", "Open the file."), ("Setningin er löng.", "The sentence is long."))


def with_memory(adapter: Adapter, pairs: Sequence[tuple[str, str]] = PAIRS, options: RetrievalOptions | None = None) -> Adapter:
    """The adapter in its directory, now with a memory of these pairs and a card that says so."""
    memory, _ = collect(parse_pair(adapter.card.pair), pairs)
    (adapter.path / MEMORY).write_bytes(memory.dump())
    files = {**adapter.card.files, MEMORY: sha256_file(adapter.path / MEMORY)}
    write_card(adapter.path, adapter.card.model_copy(update={"retrieval": options or RetrievalOptions(), "files": files}))
    return open_adapter(adapter.path)
