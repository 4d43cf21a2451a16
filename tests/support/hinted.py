"""Adapters with a lexicon, for tests of what goes with hints."""

from __future__ import annotations

from collections.abc import Mapping

from tell.adapter.card import LEXICON, Adapter, open_adapter, write_card
from tell.files import sha256_file
from tell.languages import parse_pair
from tell.lexicon.hints import HintOptions
from tell.lexicon.lexicon import Lexicon
from tell.lexicon.words import Keying

ENTRIES = {"hundu*": {"dog": 4, "hound": 2}, "hús*": {"house": 3}, "hús": {"house": 3}, "setni*": {"sentence": 5}}


def with_lexicon(adapter: Adapter, entries: Mapping[str, Mapping[str, float]] = ENTRIES, options: HintOptions | None = None) -> Adapter:
    """The adapter in its directory, now with a lexicon of these entries and a card that says so."""
    lexicon = Lexicon.of(parse_pair(adapter.card.pair), Keying(), ["og"], entries, {})
    (adapter.path / LEXICON).write_bytes(lexicon.dump())
    files = {**adapter.card.files, LEXICON: sha256_file(adapter.path / LEXICON)}
    write_card(adapter.path, adapter.card.model_copy(update={"hints": options or HintOptions(skip_common=1), "files": files}))
    return open_adapter(adapter.path)
