"""What hints cost a request: the same adapter asked for the same segments with its hints and without, in one run.

    python -m benchmarks.serving.hint_overhead ADAPTER TEXT --segments 200 --repeat 3

Reads an adapter that was trained with hints, its base from the cache, and a text in its source language, a line a segment. Writes nothing; prints one JSON
object. With hints and without take turns, chunk by chunk, so that other work on the machine meets both alike. `prompt_seconds` are those of writing prompts:
looking the words up and cutting all into tokens. `seconds` are those of the engine; of each chunk the best of --repeat counts. Outputs differ in length, so
`seconds_per_token` has the engine's seconds by tokens written. Ratios are with hints by without.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.adapter.card import open_adapter
from tell.adapter.translation import translator_of
from tell.errors import BadInput
from tell.machine import cores, processor
from tell.model.base import find_base
from tell.model.engine import EngineOptions, Prompt, open_engine
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator


@dataclasses.dataclass(slots=True)
class Cost:
    prompt_tokens: int = 0
    output_tokens: int = 0
    prompt_seconds: float = 0.0
    seconds: float = 0.0

    def row(self) -> dict[str, Any]:
        return {**{name: round(value, 5) for name, value in dataclasses.asdict(self).items()}, "seconds_per_token": round(self._per_token, 5)}

    @property
    def _per_token(self) -> float:
        return self.seconds / max(1, self.output_tokens)

    def by(self, other: Cost) -> dict[str, float]:
        ours, theirs = {**dataclasses.asdict(self), "seconds_per_token": self._per_token}, {**dataclasses.asdict(other), "seconds_per_token": other._per_token}
        return {name: round(ours[name] / theirs[name], 3) for name in ours if theirs[name]}


def written(translator: Translator, segments: Sequence[str]) -> tuple[list[Prompt], float]:
    began = time.perf_counter()
    prompts = [translator.prompt(segment) for segment in segments]
    return prompts, time.perf_counter() - began


async def measure(with_hints: Translator, segments: Sequence[str], chunk: int, repeat: int) -> dict[str, Cost]:
    """The costs of both ways. The first chunk is decoded once more before, since an engine may still have something to make ready."""
    ways = {"with": with_hints, "without": dataclasses.replace(with_hints, hinter=None)}
    costs = {name: Cost() for name in ways}
    await with_hints.engine.generate(written(with_hints, segments[:chunk])[0], with_hints.adapter_id)
    for start in range(0, len(segments), chunk):
        best: dict[str, float] = {}
        for turn in range(repeat):
            for name in sorted(ways, reverse=bool(turn % 2)):
                prompts, prompt_seconds = written(ways[name], segments[start : start + chunk])
                began = time.perf_counter()
                generations = await with_hints.engine.generate(prompts, with_hints.adapter_id)
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - began)
                if turn == repeat - 1:
                    costs[name].prompt_tokens += sum(len(p.ids) for p in prompts)
                    costs[name].output_tokens += sum(g.tokens for g in generations)
                    costs[name].prompt_seconds += prompt_seconds
        for name, seconds in best.items():
            costs[name].seconds += seconds
    return costs


async def run(args: argparse.Namespace) -> dict[str, Any]:
    adapter = open_adapter(args.adapter)
    if adapter.card.hints is None:
        raise BadInput("this adapter was trained without hints", place=str(args.adapter), valid="an adapter with a lexicon.tsv")
    base = find_base(adapter.card.base.id)
    segments = [line for line in args.text.read_text(encoding="utf-8").split("\n") if line.strip()][: args.segments]
    options = EngineOptions(base=base, max_adapters=1, max_rank=max(16, adapter.card.rank), max_context=min(2048, base.context), threads=args.threads)
    engine = open_engine(args.engine, options)
    try:
        await engine.start()
        await engine.load(adapter.id, adapter.path)
        costs = await measure(translator_of(engine, BaseTokenizer(base), adapter, options.max_context), segments, args.chunk, args.repeat)
    finally:
        await engine.close()
    return {
        "adapter": adapter.id, "pair": adapter.card.pair, "base": base.id, "engine": args.engine, "processor": processor(), "cores": cores(),
        "segments": len(segments), "chunk": args.chunk, "repeat": args.repeat, **{name: cost.row() for name, cost in costs.items()},
        "ratio": costs["with"].by(costs["without"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--chunk", type=int, default=32, help="Segments in one call of the engine (default: 32); 1 for what one short request waits.")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--engine", default="ct2")
    parser.add_argument("--threads", type=int, default=0)
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
