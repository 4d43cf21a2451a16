"""Proof that an adapter acts, before it answers for anyone: an adapter whose weights match nothing loads with success and serves the bare base.

An adapter whose card has golden sentences must translate them as it did when it was published. Others must answer probes in another way
than the base does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tell.adapter.card import Adapter
from tell.adapter.golden import Golden, Sentence, identity
from tell.errors import AdapterError, RequestError
from tell.languages import LanguagePair, parse_pair
from tell.model.anchor import Anchor
from tell.model.engine import Engine, Prompt
from tell.model.tokenizer import Tokens
from tell.model.translator import Translator

# Long enough that two models which differ do so somewhere, short enough to take a few seconds on a CPU.
PROBE_TOKENS = 24
# chrF2 between two runs of one adapter on its golden sentences, from which on it is taken for the same adapter. In ctranslate2 int8 another batch
# left 81.6 of it, and the bare base's outputs had 12.3 (Gemma 3 270M, is-en).
ALIKE = 50.0


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """A prompt that adapter and base answered differently, and the base's answer: enough to see the adapter act when it is loaded again."""

    prompt: Prompt
    bare: str


def probes(tokens: Tokens, anchor: Anchor, pair: LanguagePair) -> list[Prompt]:
    """Prompts in the adapter's own anchor, of texts that mean something in any language."""
    texts = (pair.source.autonym, "Reykjavík, 17. 6. 1944", "OK.", "1 2 3", "A. Einstein: E = mc²")
    return [Prompt(tuple(tokens.prompt_ids(anchor, text)), PROBE_TOKENS, one_line=False) for text in texts]


async def prove(engine: Engine, tokens: Tokens, adapter: Adapter, max_context: int, before: Proof | None = None) -> Proof:
    """Raises AdapterError when the loaded adapter does not act, or does not act as published. `before` is what it returned for the same adapter."""
    if before is not None:
        again = await engine.generate([before.prompt], adapter.id)
        if again[0].text == before.bare:
            raise AdapterError("the adapter does not act any more: what differed from the bare base is the same", place=str(adapter.path))
        return before
    translator = Translator(engine, tokens, adapter.card.anchor, adapter.card.decoding, adapter.id, max_context)
    golden = adapter.card.golden
    asked = _fitting(translator, golden.sentences) if golden else []
    prompts = [prompt for _, prompt in asked] or probes(tokens, adapter.card.anchor, parse_pair(adapter.card.pair))
    made = await engine.generate(prompts, adapter.id)
    if golden and asked:
        found = [translator.hypothesis(s.source, g).text for (s, _), g in zip(asked, made, strict=True)]
        _compare(engine, adapter, golden, [s.output for s, _ in asked], found)
    bare = await engine.generate(prompts, None)
    differing = [Proof(p, b.text) for p, g, b in zip(prompts, made, bare, strict=True) if g.text != b.text]
    # Every golden sentence differed when it was published; one in two does where numbers are rounded otherwise.
    if not differing or (asked and 2 * len(differing) < len(asked)):
        kind = "golden sentence" if asked else "probe"
        less = "every" if not differing else "almost every"
        raise AdapterError(
            f"the adapter does not act: {less} {kind} came out as from the bare base",
            place=str(adapter.path), found=f"{len(prompts) - len(differing)} of {len(prompts)} outputs equal",
        )  # fmt: skip
    return min(differing, key=lambda p: len(p.prompt.ids))


def _fitting(translator: Translator, sentences: Sequence[Sentence]) -> list[tuple[Sentence, Prompt]]:
    """Those that the context of this service has room for."""
    out = []
    for sentence in sentences:
        try:
            out.append((sentence, translator.prompt(sentence.source.strip())))
        except RequestError:
            continue
    return out


def _compare(engine: Engine, adapter: Adapter, golden: Golden, wanted: list[str], found: list[str]) -> None:
    """Raises AdapterError when the golden sentences came out otherwise than published."""
    from sacrebleu.metrics import CHRF

    same, exact = sum(w == f for w, f in zip(wanted, found, strict=True)), golden.exact is not None and golden.exact == identity(engine)
    score = CHRF().corpus_score(found, [wanted]).score
    if same == len(wanted) or (not exact and (2 * same >= len(wanted) or score >= ALIKE)):
        return
    half = f"half of them equal, or chrF2 {ALIKE:g}; they were made by {golden.engine}"
    raise AdapterError(
        "the golden sentences come out otherwise than when the adapter was published",
        place=str(adapter.path),
        found=f"{same} of {len(wanted)} equal, chrF2 {score:.1f}",
        valid=f"all {len(wanted)} equal, since they were made by {golden.exact}" if exact else half,
    )
