"""How much faster an adapter translates with its own vocabulary than with the whole: both in one engine, in turns, in one run.

    python -m benchmarks.serving.vocabulary ADAPTER TEXT -o DIR [--sizes 1,8,32] [--turns 5] [--threads 2]

Reads an adapter with `pieces.json`, its base from the cache, and a text in its source language, a line a segment. Writes `whole/` (the same adapter without its
pieces) to DIR, and prints one JSON object: the sizes of both models, and for each number of segments in a call the tokens a second of both and their ratio.
Calls of both take turns, on the same segments; of each side the fastest turn counts, and `range` has the ratios of the single turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.quality.vocabulary import with_whole_vocabulary
from serve.engines.ct2.convert import Conversion
from tell.adapter.card import open_adapter
from tell.adapter.translation import translator_of
from tell.errors import BadInput, TellmtError
from tell.files import read_lines
from tell.machine import cores, processor
from tell.model.base import find_base
from tell.model.engine import EngineOptions, open_engine
from tell.model.tokenizer import BaseTokenizer


async def measure(adapter_path: Path, texts: list[str], out: Path, sizes: list[int], turns: int, threads: int) -> dict[str, Any]:
    own = open_adapter(adapter_path)
    if own.card.pieces is None:
        raise BadInput("the adapter has the whole vocabulary", place=str(adapter_path), valid="one with pieces.json")
    sides = {"own": own, "whole": with_whole_vocabulary(own, out / "whole")}
    base = find_base(own.card.base.id)
    engine = open_engine("ct2", EngineOptions(base, threads=threads, max_context=min(4096, base.context)))
    await engine.start()
    result: dict[str, Any] = {"adapter": own.id, "pieces": own.card.pieces.model_dump(), "threads": threads, "processor": processor(), "MB": {}, "sizes": {}}
    try:
        translators = {}
        for name, side in sides.items():
            await engine.load(side.id, side.path)
            translators[name] = translator_of(engine, BaseTokenizer(base), side, 512)
            result["MB"][name] = round((Conversion(base, side, threads).directory / "model.bin").stat().st_size / 1e6, 1)
        for size in sizes:
            speeds: dict[str, list[float]] = {name: [] for name in sides}
            for turn in range(turns + 1):
                for name, translator in translators.items():
                    prompts = [translator.prompt(text) for text in texts[:size]]
                    began = time.perf_counter()
                    tokens = sum(g.tokens for g in await engine.generate(prompts, sides[name].id))
                    # The first turn makes things ready.
                    if turn:
                        speeds[name].append(tokens / (time.perf_counter() - began))
            ratios = sorted(a / b for a, b in zip(speeds["own"], speeds["whole"], strict=True))
            best = {name: round(max(values), 1) for name, values in speeds.items()}
            result["sizes"][str(size)] = {**best, "ratio": round(best["own"] / best["whole"], 3), "range": [round(ratios[0], 3), round(ratios[-1], 3)]}
    finally:
        await engine.close()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="The speed of an adapter with its own vocabulary against the whole.")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--sizes", default="1,8,32")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    options = parser.parse_args()
    try:
        texts, sizes = [line for line in read_lines(options.text) if line], [int(n) for n in options.sizes.split(",")]
        if len(texts) < max(sizes):
            raise BadInput("too few segments", place=str(options.text), found=str(len(texts)), valid=f"at least {max(sizes)}")
        options.out.mkdir(parents=True, exist_ok=True)
        print(json.dumps(asyncio.run(measure(options.adapter, texts, options.out, sizes, options.turns, options.threads)), indent=1))
    except TellmtError as e:
        print(f"vocabulary: {e}", file=sys.stderr)
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
