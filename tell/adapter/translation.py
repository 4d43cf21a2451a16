"""An adapter's translator: what its card says of prompts and decoding, put before an engine."""

from __future__ import annotations

from tell.adapter.card import PIECES, Adapter, hinter_of, pieces_of, retriever_of
from tell.errors import AdapterError, BadInput
from tell.model.engine import Engine, EngineTraits, traits_of
from tell.model.pieces import pair_tokenizer
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator


def tokens_of(adapter: Adapter, tokens: BaseTokenizer, traits: EngineTraits) -> BaseTokenizer:
    """The tokenizer of the adapter's prompts: that of its base, which for an engine whose models have the adapter's own vocabulary spells what that lacks.

    Raises AdapterError.
    """
    if not traits.own_vocabulary:
        return tokens
    try:
        return pair_tokenizer(tokens, pieces_of(adapter))
    except BadInput as e:
        raise AdapterError(e.thing, place=str(adapter.path / PIECES), found=e.found, valid=e.valid) from None


def translator_of(engine: Engine, tokens: BaseTokenizer, adapter: Adapter, max_context: int) -> Translator:
    """The adapter as it was trained, with its hints and nearest pairs. `max_context`: tokens of prompt and output together.

    Raises AdapterError when its lexicon, its memory or the list of its pieces is damaged.
    """
    card = adapter.card
    own = tokens_of(adapter, tokens, traits_of(engine))
    return Translator(engine, own, card.anchor, card.decoding, adapter.id, max_context, hinter_of(adapter), retriever_of(adapter))
