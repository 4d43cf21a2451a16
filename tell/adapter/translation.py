"""An adapter's translator: what its card says of prompts and decoding, put before an engine."""

from __future__ import annotations

from tell.adapter.card import Adapter, hinter_of, retriever_of
from tell.model.engine import Engine
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator


def translator_of(engine: Engine, tokens: BaseTokenizer, adapter: Adapter, max_context: int) -> Translator:
    """The adapter as it was trained, with its hints and nearest pairs. `max_context`: tokens of prompt and output together.

    Raises AdapterError when its lexicon or memory is damaged.
    """
    card = adapter.card
    return Translator(engine, tokens, card.anchor, card.decoding, adapter.id, max_context, hinter_of(adapter), retriever_of(adapter))
