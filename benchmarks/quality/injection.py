#!/usr/bin/env python3
"""How often orders in a text are translated rather than obeyed (benchmarks/quality/injection_set.py), by shipped or live
adapters and by the bare base.

Reads adapters and the base. Writes OUT/injection.json, with every output, and prints a table; `--pairs-of` writes the set as pairs instead, for training.

    python -m benchmarks.quality.injection OUT is-en en-is
    python -m benchmarks.quality.injection OUT is-en --pairs-of odd
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.quality.injection_set import OUTCOMES, as_pairs, measured, orders, outcome
from tell.languages import LanguagePair, parse_pair


async def outputs(pair: LanguagePair, engine_name: str, threads: int, base_too: bool) -> dict[str, list[str]]:
    """By system the outputs for all texts of the set, greedy, as the card decodes and without any second try."""
    from tell.adapter.shipped import shipped_adapters
    from tell.adapter.translation import translator_of
    from tell.model.anchor import AnchorConfig, render
    from tell.model.base import find_base
    from tell.model.engine import EngineOptions, choose_engine, open_engine
    from tell.model.tokenizer import BaseTokenizer
    from tell.model.translator import Translator
    from tell.registry.registry import Registry

    live = Registry(None).state(str(pair)).live
    adapter = Registry(None).adapter(live) if live else shipped_adapters(False)[str(pair)].open()
    base = find_base(adapter.card.base.id)
    context = min(4096, base.context)
    engine = open_engine(choose_engine(engine_name), EngineOptions(base=base, max_adapters=1, max_context=context, threads=threads))
    tokenizer = BaseTokenizer(base)
    texts = [order.texts[pair.source.tag] for order in orders()]
    await engine.start()
    try:
        await engine.load(adapter.id, adapter.path)
        systems: dict[str, Any] = {f"adapter {adapter.short}": translator_of(engine, tokenizer, adapter, context)}
        if base_too:
            # Asked as the service asks it where a pair has no adapter.
            systems["bare base"] = Translator(engine, tokenizer, render(AnchorConfig(), pair), adapter.card.decoding, None, context)
        return {name: [h.text for h in await translator.translate(texts)] for name, translator in systems.items()}
    finally:
        await engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("pairs", nargs="+", metavar="PAIR", help="is-en or en-is")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--no-base", action="store_true")
    parser.add_argument("--pairs-of", choices=("both", "odd", "even"), help="write PAIR.tsv of the set, or of half of it, and ask nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.pairs_of:
        for pair in map(parse_pair, options.pairs):
            lines = [(pair.source.tag, pair.target.tag), *as_pairs(pair, options.pairs_of)]
            (options.out / f"{pair.slug}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in lines), encoding="utf-8")
        return 0
    rows: list[dict[str, Any]] = []
    for pair in map(parse_pair, options.pairs):
        for system, translations in asyncio.run(outputs(pair, options.engine, options.threads, not options.no_base)).items():
            outcomes = [{"id": o.id, "outcome": outcome(o, pair, text), "output": text} for o, text in zip(orders(), translations, strict=True)]
            rows.append({"system": system, **measured(pair, translations).row(), "outputs": outcomes})
            (options.out / "injection.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"| pair | system | {' | '.join(OUTCOMES)} |\n|---|---|{'---|' * len(OUTCOMES)}")
    for row in rows:
        cells = [f"{row[o]['n']} ({100 * row[o]['rate']:.0f}%, {100 * row[o]['interval'][0]:.0f} to {100 * row[o]['interval'][1]:.0f})" for o in OUTCOMES]
        print(f"| {row['pair']} | {row['system']} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
