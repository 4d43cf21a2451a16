"""The check that a loaded adapter acts, before it answers anyone: an adapter whose weights match nothing loads with success and serves the bare base.

An adapter whose card has golden sentences must translate them as it did when it was published. Others must answer probes in another way
than the base does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from serve.adapters.base_outputs import base_outputs
from tell.adapter.card import Adapter
from tell.adapter.golden import Golden, Sentence, engine_identity
from tell.errors import AdapterError, RequestError
from tell.languages import LanguagePair, parse_pair
from tell.model.anchor import Anchor
from tell.model.engine import Engine, Prompt
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator

# Long enough that two models which differ do so somewhere, short enough to take a few seconds on a CPU.
PROBE_TOKENS = 24
# chrF2 between two runs of one adapter on its golden sentences, from which on they count as outputs of the same adapter. In ctranslate2 int8 another batch
# left 81.6 of it, and the bare base's outputs had 12.3 (Gemma 3 270M, is-en).
ALIKE = 50.0


@dataclasses.dataclass(frozen=True, slots=True)
class LoadCheck:
    """A prompt that adapter and base answered differently, and the base's answer: enough to see the adapter act when it is loaded again."""

    prompt: Prompt
    base_output: str


def probes(tokens: BaseTokenizer, anchor: Anchor, pair: LanguagePair) -> list[Prompt]:
    """Prompts in the adapter's own anchor, of texts that mean something in any language."""
    texts = (pair.source.autonym, "Reykjavík, 17. 6. 1944", "OK.", "1 2 3", "A. Einstein: E = mc²")
    return [Prompt(tuple(tokens.prompt_ids(anchor, text)), PROBE_TOKENS, one_line=False) for text in texts]


async def check_loaded(translator: Translator, adapter: Adapter, earlier: LoadCheck | None = None) -> LoadCheck:
    """Raises AdapterError when the loaded adapter does not act, or does not act as published. `earlier` is what it returned for the same adapter."""
    engine = translator.engine
    if earlier is not None:
        generations = await engine.generate([earlier.prompt], adapter.id)
        if generations[0].text == earlier.base_output:
            raise AdapterError("the adapter does not act any more: what differed from the bare base is the same", place=str(adapter.path))
        return earlier
    golden = adapter.card.golden
    golden_prompts = _fitting_prompts(translator, golden.sentences) if golden else []
    prompts = [prompt for _, prompt in golden_prompts] or probes(translator.tokens, adapter.card.anchor, parse_pair(adapter.card.pair))
    generations = await engine.generate(prompts, adapter.id)
    if golden and golden_prompts:
        outputs = [translator.hypothesis(s.source, g).text for (s, _), g in zip(golden_prompts, generations, strict=True)]
        _check_golden(engine, adapter, golden, [s.output for s, _ in golden_prompts], outputs)
    of_base = await base_outputs(engine, prompts)
    differing = [LoadCheck(p, b) for p, g, b in zip(prompts, generations, of_base, strict=True) if g.text != b]
    # Every golden sentence differed when it was published; one in two does where numbers are rounded otherwise.
    if not differing or (golden_prompts and 2 * len(differing) < len(golden_prompts)):
        prompt_kind = "golden sentence" if golden_prompts else "probe"
        how_many = "every" if not differing else "almost every"
        raise AdapterError(
            f"the adapter does not act: {how_many} {prompt_kind} came out as from the bare base",
            place=str(adapter.path), found=f"{len(prompts) - len(differing)} of {len(prompts)} outputs equal",
        )  # fmt: skip
    return min(differing, key=lambda p: len(p.prompt.ids))


def _fitting_prompts(translator: Translator, sentences: Sequence[Sentence]) -> list[tuple[Sentence, Prompt]]:
    """The sentences that fit in the context of this service, each with its prompt."""
    fitting = []
    for sentence in sentences:
        try:
            fitting.append((sentence, translator.prompt(sentence.source.strip())))
        except RequestError:
            continue
    return fitting


def _check_golden(engine: Engine, adapter: Adapter, golden: Golden, published: list[str], outputs: list[str]) -> None:
    """Raises AdapterError when the golden sentences came out otherwise than published."""
    from sacrebleu.metrics import CHRF

    equal, exact = sum(p == o for p, o in zip(published, outputs, strict=True)), golden.exact is not None and golden.exact == engine_identity(engine)
    score = CHRF().corpus_score(outputs, [published]).score
    if equal == len(published) or (not exact and (2 * equal >= len(published) or score >= ALIKE)):
        return
    tolerance = f"half of them equal, or chrF2 {ALIKE:g}; they were made by {golden.engine}"
    raise AdapterError(
        "the golden sentences come out otherwise than when the adapter was published",
        place=str(adapter.path),
        found=f"{equal} of {len(published)} equal, chrF2 {score:.1f}",
        valid=f"all {len(published)} equal, since they were made by {golden.exact}" if exact else tolerance,
    )
