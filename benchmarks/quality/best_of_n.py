#!/usr/bin/env python3
"""What `quality: best` gains over `fast`, and what it costs: the adapter's greedy output against the candidate that minimum Bayes risk on chrF2 chooses.

Reads a shipped or published adapter, and a split of a corpus or two line-aligned files. Writes OUT/draws.jsonl, one candidate a line, so that a run that was
stopped goes on, and OUT/quality.json; prints a table. Settings are chosen on training-side data; a test set is scored once, with what was chosen.

    python -m benchmarks.quality.best_of_n is-en OUT --corpus CORPUS --split dev --sampling 0.5 0.8,0,0.9 1.0,10
    python -m benchmarks.quality.best_of_n is-en OUT --source S --reference R --first 200 --sampling 0.5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.scoring.testset import TestSet, from_corpus, from_files
from tell.corpus.directory import open_corpus
from tell.languages import parse_pair
from tell.model.engine import Sampling
from tell.text.flags import Checked, checked
from tell.text.mbr import best_first

RESAMPLES, SEED = 1000, 12345
# (sampling as it was written, or greedy; number of the candidate) -> candidates by segment.
Draws = dict[tuple[str, int], dict[int, dict[str, Any]]]
GREEDY = ("greedy", 0)


def sampling_of(text: str, seed: int) -> Sampling:
    """`TEMPERATURE[,TOP_K[,TOP_P]]`."""
    parts = [*text.split(","), "", ""][:3]
    return Sampling(float(parts[0]), int(parts[1] or 0), float(parts[2] or 1.0), seed)


def read_draws(path: Path) -> Draws:
    draws: Draws = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        # The last line of a run that was killed may be half of one.
        if line.endswith("}"):
            row = json.loads(line)
            draws.setdefault((row["sampling"], row["number"]), {})[row["segment"]] = row
    return draws


async def draw(pair: str, engine_name: str, threads: int, test: TestSet, keys: Sequence[tuple[str, int]], path: Path, seconds: float) -> bool:
    """Add what is missing; whether all is there now."""
    from tell.adapter.shipped import shipped_adapters
    from tell.adapter.translation import translator_of
    from tell.model.base import find_base
    from tell.model.engine import EngineOptions, choose_engine, open_engine
    from tell.model.tokenizer import BaseTokenizer
    from tell.model.translator import segment_limit
    from tell.registry.registry import Registry

    live = Registry(None).state(pair).live
    adapter = Registry(None).adapter(live) if live else shipped_adapters(False)[pair].open()
    base = find_base(adapter.card.base.id)
    context = min(4096, base.context)
    engine = open_engine(choose_engine(engine_name), EngineOptions(base=base, max_adapters=1, max_context=context, threads=threads))
    tokenizer = BaseTokenizer(base)
    end = time.monotonic() + seconds
    await engine.start()
    try:
        await engine.load(adapter.id, adapter.path)
        translator = translator_of(engine, tokenizer, adapter, context)
        limit = segment_limit(translator)
        assert all(len(tokenizer.encode(s)) <= limit for s in test.sources), "a segment is too long to be translated whole"
        for sampling, number in keys:
            have = read_draws(path).get((sampling, number), {})
            missing = [i for i in range(len(test.sources)) if i not in have]
            for at in range(0, len(missing), 64):
                if time.monotonic() > end:
                    return False
                batch = missing[at : at + 64]
                drawn = None if sampling == "greedy" else sampling_of(sampling, number)
                began = time.monotonic()
                hypotheses = await translator.translate([test.sources[i] for i in batch], drawn)
                took = (time.monotonic() - began) / len(batch)
                with path.open("a", encoding="utf-8") as file:
                    for i, h in zip(batch, hypotheses, strict=True):
                        row = {"sampling": sampling, "number": number, "segment": i, "seconds": round(took, 4)}
                        file.write(json.dumps({**row, "text": h.text, "tokens": h.tokens, "truncated": h.truncated}, ensure_ascii=False) + "\n")
        return True
    finally:
        await engine.close()


def choose(test: TestSet, draws: Draws, keys: Sequence[tuple[str, int]]) -> tuple[list[str], float]:
    """The chosen text of each segment, and the seconds that choosing took for all."""
    from tell.text.hypothesis import Hypothesis

    chosen, began = [], time.perf_counter()
    for i, source in enumerate(test.sources):
        rows = [draws[key][i] for key in keys]
        candidates: list[Checked] = [checked(test.pair, source, Hypothesis(r["text"], r["tokens"], r["truncated"])) for r in rows]
        chosen.append(best_first(candidates)[0].text if len(candidates) > 1 else candidates[0].text)
    return chosen, time.perf_counter() - began


def gains(test: TestSet, fast: Sequence[str], best: Sequence[str]) -> dict[str, dict[str, float]]:
    """By metric the gain of the second over the first, and the ends of its 95% interval: paired bootstrap (Koehn 2004) over segments."""
    import numpy as np

    from eval.scoring.scores import metrics

    by_metric = {}
    draw = random.Random(SEED)
    picks = [[draw.randrange(len(fast)) for _ in fast] for _ in range(RESAMPLES)]
    for name, metric in metrics(test.pair).items():
        a, b = (np.array(metric._extract_corpus_statistics(list(s), [test.references])) for s in (fast, best))

        def score(stats: Any, metric: Any = metric) -> float:
            return float(metric._compute_score_from_stats(stats.tolist()).score)

        diffs = sorted(score(b[pick].sum(0)) - score(a[pick].sum(0)) for pick in picks)
        low, high = diffs[int(0.025 * RESAMPLES)], diffs[int(0.975 * RESAMPLES) - 1]
        by_metric[name] = {"gain": round(score(b.sum(0)) - score(a.sum(0)), 2), "low": round(low, 2), "high": round(high, 2)}
    return by_metric


def report(test: TestSet, draws: Draws, samplings: Sequence[str], sizes: Sequence[int]) -> list[dict[str, Any]]:
    from eval.scoring.scores import score_system

    def cost(keys: Sequence[tuple[str, int]]) -> dict[str, float]:
        rows = [row for key in keys for row in draws[key].values()]
        return {"tokens": sum(r["tokens"] for r in rows), "seconds": round(sum(r["seconds"] for r in rows), 1)}

    fast, _ = choose(test, draws, [GREEDY])
    scored = score_system(fast, test.references, test.pair)
    rows: list[dict[str, Any]] = [{"sampling": "greedy", "candidates": 1, "scores": scored, **cost([GREEDY])}]
    for sampling in samplings:
        for size in sizes:
            keys = [GREEDY, *((sampling, n) for n in range(1, size))]
            if any(len(draws.get(key, {})) < len(test.sources) for key in keys):
                continue
            best, choosing = choose(test, draws, keys)
            gained = gains(test, fast, best)
            row = {"sampling": sampling, "candidates": size, "scores": score_system(best, test.references, test.pair), "gains": gained}
            rows.append({**row, **cost(keys), "choosing": round(choosing, 2), "changed": sum(a != b for a, b in zip(fast, best, strict=True))})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| sampling | candidates | BLEU | chrF2 | BLEU gained | chrF2 gained | changed | output tokens | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        scores = [f"{r['scores'][m]['score']:.1f} ± {r['scores'][m]['ci']:.1f}" for m in ("bleu", "chrf")]
        gained = [f"{g['gain']:+.2f} ({g['low']:+.2f} to {g['high']:+.2f})" for g in (r["gains"][m] for m in ("bleu", "chrf"))] if "gains" in r else ["", ""]
        cells = [r["sampling"], r["candidates"], *scores, *gained, r.get("changed", ""), f"{r['tokens']:,}", r["seconds"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pair")
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", type=Path, help="a corpus of tellmt corpus build")
    parser.add_argument("--split", default="dev", choices=("train", "dev", "test"))
    parser.add_argument("--source", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--first", type=int, default=10**9, help="only so many segments")
    parser.add_argument("--sampling", nargs="+", default=["0.5"], metavar="T[,TOP_K[,TOP_P]]")
    parser.add_argument("--candidates", nargs="+", type=int, default=[2, 4, 8], help="the greedy one and so many less one drawn")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop drawing after so many; the next run goes on")
    options = parser.parse_args()
    if options.corpus:
        test = from_corpus(open_corpus(options.corpus), options.split)
    else:
        test = from_files(options.source, options.reference, parse_pair(options.pair))
    test = test.first(options.first)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "draws.jsonl"
    keys = [GREEDY, *((s, n) for n in range(1, max(options.candidates)) for s in options.sampling)]
    whole = asyncio.run(draw(options.pair, options.engine, options.threads, test, keys, path, options.seconds))
    draws = read_draws(path)
    if len(draws.get(GREEDY, {})) < len(test.sources):
        print("stopped before there was anything to compare")
        return 1
    rows = report(test, draws, options.sampling, options.candidates)
    named = {"name": test.name, "pair": str(test.pair), "segments": len(test.sources), "sources": test.source_sha256, "references": test.reference_sha256}
    (options.out / "quality.json").write_text(json.dumps({"set": named, "rows": rows}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{test.name}, {test.pair}, {len(test.sources)} segments, sources {test.source_sha256[:16]}{'' if whole else ' (not all is drawn yet)'}\n")
    print(table(rows))
    print("\n" + "\n".join(s["signature"] for s in rows[0]["scores"].values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
