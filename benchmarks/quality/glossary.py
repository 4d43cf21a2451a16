#!/usr/bin/env python3
"""How often an adapter follows a glossary: the share of the terms of benchmarks/quality/glossary_set.tsv that come out, with the glossary and without it,
and chrF2 against the set's own references.

Each sentence is translated with a glossary of its one term, greedily, with the service's checks and retries. Reads a shipped or live adapter, or the one in
--adapter, and its base. Writes OUT/glossary.json, with every output, and prints a table.

    python -m benchmarks.quality.glossary OUT is-en en-is
    python -m benchmarks.quality.glossary OUT is-en --adapter work/adapter
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.injection_set import wilson
from tell.languages import LanguagePair, parse_pair
from tell.lexicon.glossary import Glossary
from tell.lexicon.terms import honoured
from tell.text.flags import Checked

SET = Path(__file__).with_name("glossary_set.tsv")
COLUMNS = "en\tis\ten term\tis term\tis form"


@dataclasses.dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence to translate, with a term in it, what that is to become, and a reference that has it."""

    text: str
    reference: str
    term: str
    target: str


def sentences(pair: LanguagePair) -> list[Sentence]:
    """The set in one direction. From Icelandic a term is the form that stands in the sentence, since Icelandic bends more than the ends of words."""
    heading, *lines = SET.read_text(encoding="utf-8").rstrip("\n").split("\n")
    if heading != COLUMNS or str(pair) not in ("en-is", "is-en"):
        raise ValueError(f"{SET.name} has other columns, or not the pair {pair}")
    rows = [line.split("\t") for line in lines]
    if str(pair) == "en-is":
        return [Sentence(english, icelandic, term, target) for english, icelandic, term, target, _ in rows]
    return [Sentence(icelandic, english, form, target) for english, icelandic, target, _, form in rows]


def measured(pair: LanguagePair, outputs: Sequence[str]) -> dict[str, Any]:
    """The share of the terms that are in the outputs, with its 95% interval (Wilson), and chrF2 with its signature."""
    from eval.scoring.metrics import metric

    test = sentences(pair)
    came_out = [honoured(sentence.target, output, pair.target.tag) for sentence, output in zip(test, outputs, strict=True)]
    chrf = metric("chrf", pair)
    statistics = chrf.statistics(outputs, [sentence.reference for sentence in test])
    return {
        "sentences": len(test), "honoured": sum(came_out), "share": round(sum(came_out) / len(test), 4),
        "interval": [round(end, 4) for end in wilson(sum(came_out), len(test))],
        "chrf2": round(chrf.of(statistics.sum(axis=0)), 2), "signature": chrf.signature(),
        "outputs": [{"source": s.text, "target_term": s.target, "output": o, "honoured": h} for s, o, h in zip(test, outputs, came_out, strict=True)],
    }  # fmt: skip


async def translated(pair: LanguagePair, adapter_path: Path | None, engine_name: str, threads: int) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The adapter in words, and the outputs without and with each sentence's glossary."""
    from serve.translation.decoder import Decoder, Effort
    from tell.adapter.card import open_adapter
    from tell.adapter.shipped import shipped_adapters
    from tell.adapter.translation import translator_of
    from tell.model.base import find_base
    from tell.model.engine import EngineOptions, choose_engine, open_engine
    from tell.model.tokenizer import BaseTokenizer
    from tell.model.translator import segment_limit
    from tell.registry.registry import Registry

    live = Registry(None).state(str(pair)).live
    adapter = open_adapter(adapter_path) if adapter_path else Registry(None).adapter(live) if live else shipped_adapters(False)[str(pair)].open()
    base = find_base(adapter.card.base.id)
    context = min(4096, base.context)
    engine_options = EngineOptions(base=base, max_adapters=1, max_rank=max(16, adapter.card.rank), max_context=context, threads=threads)
    engine = open_engine(choose_engine(engine_name), engine_options)
    await engine.start()
    try:
        await engine.load(adapter.id, adapter.path)
        translator = translator_of(engine, BaseTokenizer(base), adapter, context)
        plain = Decoder(translator, pair, segment_limit(translator))

        async def output(sentence: Sentence, with_glossary: bool) -> str:
            terms = translator.terms(Glossary.inline({sentence.term: sentence.target}), pair) if with_glossary else None
            decoded: list[Checked] = [*await dataclasses.replace(plain, terms=terms).decode([sentence.text], Effort())]
            return decoded[0].text

        outputs = {
            name: list(await asyncio.gather(*(output(sentence, with_glossary) for sentence in sentences(pair))))
            for name, with_glossary in (("without", False), ("with", True))
        }
    finally:
        await engine.close()
    return {"adapter": adapter.id, "base": base.id, "engine": engine.name, "hints": translator.follows_terms}, outputs


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("pairs", nargs="+", metavar="PAIR", help="is-en or en-is")
    parser.add_argument("--adapter", type=Path, help="the directory of an adapter of the one pair; by default the live or shipped one")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.adapter and len(options.pairs) > 1:
        parser.error("--adapter is of one pair")
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for pair in map(parse_pair, options.pairs):
        system, outputs = asyncio.run(translated(pair, options.adapter, options.engine, options.threads))
        rows += [{"pair": str(pair), **system, "glossary": name, **measured(pair, texts)} for name, texts in outputs.items()]
        (options.out / "glossary.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("| pair | adapter | hints | glossary | terms that came out | chrF2 |\n|---|---|---|---|---|---|")
    for row in rows:
        share = f"{row['honoured']} of {row['sentences']} ({100 * row['share']:.0f}%, {100 * row['interval'][0]:.0f} to {100 * row['interval'][1]:.0f})"
        print(f"| {row['pair']} | {row['adapter'][:12]} | {'yes' if row['hints'] else 'no'} | {row['glossary']} | {share} | {row['chrf2']:.1f} |")
    print(f"\nchrF2: {rows[0]['signature']}; terms: forms are counted by the beginnings of their words (tell.lexicon.terms.honoured), intervals of 95%")
    return 0


if __name__ == "__main__":
    sys.exit(main())
