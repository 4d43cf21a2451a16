"""Proof that an adapter acts, before it answers for anyone: an adapter whose weights match nothing loads with success and serves the bare base."""

from __future__ import annotations

from tell.anchors import Anchor
from tell.card import Adapter
from tell.engine import Engine, Prompt
from tell.errors import AdapterError
from tell.languages import LanguagePair, parse_pair
from tell.tokens import Tokens

# Long enough that two models which differ do so somewhere, short enough to take a few seconds on a CPU.
PROBE_TOKENS = 24


def probes(tokens: Tokens, anchor: Anchor, pair: LanguagePair) -> list[Prompt]:
    """Prompts in the adapter's own anchor, of texts that mean something in any language."""
    texts = (pair.source.autonym, "Reykjavík, 17. 6. 1944", "OK.", "1 2 3", "A. Einstein: E = mc²")
    return [Prompt(tuple(tokens.prompt_ids(anchor, text)), PROBE_TOKENS, one_line=False) for text in texts]


async def prove(engine: Engine, tokens: Tokens, adapter: Adapter) -> None:
    """Raises AdapterError when nothing the loaded adapter says differs from what the bare base says."""
    prompts = probes(tokens, adapter.card.anchor, parse_pair(adapter.card.pair))
    with_adapter = await engine.generate(prompts, adapter.id)
    bare = await engine.generate(prompts, None)
    if [g.text for g in with_adapter] == [g.text for g in bare]:
        raise AdapterError(
            "the adapter does not act: every probe came out as from the bare base", place=str(adapter.path), found=f"{len(prompts)} equal outputs"
        )
