#!/usr/bin/env python3
"""What a batch costs ctranslate2, and what the engine ct2 makes of prompts that come one by one: against the raw generator on the same prompts, without HTTP.

Reads a prepared base, an adapter and a file of segments; uses the cache of converted models. Four parts, chosen with --only: `steps`, the time of a
step by the size of the batch, and of two batches side by side on half of the cores each; `beside`, eight batches of four of eight models one after the
other and two at a time, against one batch of 32, wall and processor time; `callers`, n callers with one prompt at a time each against the
raw generator with n prompts at a time, and n prompts that come 3 ms apart; `mixed`, the callers spread over eight models against one.

    python -m benchmarks.serving.ct2_batches --adapter adapters/is-en --source FILE
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serve.engines.ct2.convert import Conversion, convert_model
from serve.engines.ct2.engine import Ct2Engine
from tell.adapter.card import Adapter, open_adapter
from tell.adapter.translation import translator_of
from tell.errors import TellmtError
from tell.machine import cores
from tell.model.base import find_base
from tell.model.engine import EngineOptions, Prompt

PARTS = ("steps", "beside", "callers", "mixed")
MODELS = 8


@dataclasses.dataclass(slots=True)
class Bench:
    engine: Ct2Engine
    adapter: Adapter
    path: Path
    prompts: list[Prompt]
    sizes: list[int] = dataclasses.field(default_factory=list)

    @property
    def model(self) -> Any:
        return self.engine._models[self.adapter.id]

    def raw(self, prompts: Sequence[Prompt], model: Any = None, steps: int = 0) -> tuple[float, int]:
        """Seconds and tokens of one batch; with `steps`, exactly so many tokens each."""
        budgets = [p.max_tokens for p in prompts]

        def stop(step: Any) -> bool:
            budgets[step.batch_id] -= 1
            return bool(budgets[step.batch_id] <= 0)

        vocabulary, started = self.engine._vocabularies[self.adapter.id], time.perf_counter()
        results = (model or self.model).generate_batch(
            [vocabulary.names(p.ids) for p in prompts],
            max_length=steps or max(budgets), min_length=steps, end_token=vocabulary.rows(self.engine._stop_tokens.ids(True)), return_end_token=True,
            include_prompt_in_result=False,
            repetition_penalty=prompts[0].repetition_penalty, beam_size=1, sampling_topk=1, callback=None if steps else stop,
        )  # fmt: skip
        return time.perf_counter() - started, sum(len(r.sequences_ids[0]) for r in results)

    async def callers(self, prompts: Sequence[Prompt], n: int, ids: Sequence[str]) -> tuple[float, int]:
        """Seconds and tokens when `n` callers ask for one prompt at a time, each as soon as it has its answer."""
        todo = deque(enumerate(prompts))
        tokens = 0

        async def caller() -> None:
            nonlocal tokens
            while todo:
                i, prompt = todo.popleft()
                generations = await self.engine.generate([prompt], ids[i % len(ids)])
                tokens += generations[0].tokens + (generations[0].finish == "stop")

        self.sizes.clear()
        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(n)))
        return time.perf_counter() - started, tokens


def steps(bench: Bench) -> None:
    cut = [dataclasses.replace(p, ids=p.ids[:40]) for p in bench.prompts if len(p.ids) >= 40]

    def step(n: int) -> float:
        return (bench.raw(cut[:n], steps=17)[0] - bench.raw(cut[:n], steps=1)[0]) / 16

    print("| prompts in the batch | ms a step | ms a token |\n|---|---|---|")
    for n in (1, 2, 4, 8, 16, 32, 64):
        seconds = min(step(n) for _ in range(2))
        print(f"| {n} | {seconds * 1e3:.0f} | {seconds / n * 1e3:.1f} |", flush=True)
    halves = [bench.engine._generator(bench.path, max(1, cores() // 2)) for _ in range(2)]
    print("\n| two batches of | side by side, s | one after the other, s |\n|---|---|---|")
    for n in (1, 4, 16):
        with ThreadPoolExecutor(2) as pool:
            started = time.perf_counter()
            list(pool.map(lambda half, n=n: bench.raw(cut[:n], half, 17), halves))
            together = time.perf_counter() - started
        print(f"| {n} | {together:.2f} | {2 * bench.raw(cut[:n], steps=17)[0]:.2f} |", flush=True)


def beside(bench: Bench, rounds: int) -> None:
    """Each way of running 32 prompts, in turns. A model that is open eight times stands for eight: the weights that are read are others each time."""
    prompts = bench.prompts[:32]
    fours = [prompts[i : i + 4] for i in range(0, 32, 4)]
    wide = [bench.engine._generator(bench.path) for _ in fours]
    narrow = [bench.engine._generator(bench.path, max(1, cores() // 2)) for _ in fours]

    def side_by_side() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda way: bench.raw(way[1], way[0]), zip(narrow, fours, strict=True)))

    ways = {
        "one model, one batch of 32": lambda: bench.raw(prompts, wide[0]),
        "eight models, one after the other": lambda: [bench.raw(four, model) for model, four in zip(wide, fours, strict=True)],
        "eight models, two at a time": side_by_side,
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for name, way in [*ways.items()] * (rounds + 1):
        before = time.perf_counter(), time.process_time()
        way()
        took[name].append((time.perf_counter() - before[0], time.process_time() - before[1]))
    print("\n| 32 prompts | s | processor s | of one model's throughput | by processor time |\n|---|---|---|---|---|")
    # The first round is warm-up.
    one, *_ = [[sorted(x)[rounds // 2] for x in zip(*t[1:], strict=True)] for t in took.values()]
    for name, times in took.items():
        wall, used = (sorted(x)[rounds // 2] for x in zip(*times[1:], strict=True))
        print(f"| {name} | {wall:.2f} | {used:.2f} | {one[0] / wall:.2f} | {one[1] / used:.2f} |", flush=True)


async def calls(bench: Bench, rounds: int) -> None:
    ids = [bench.adapter.id]
    for n, count in ((32, 96), (8, 48), (1, 8)):
        prompts, engine, raw = bench.prompts[:count], [0.0, 0], [0.0, 0]
        for _ in range(rounds):
            for start in range(0, count, n):
                seconds, tokens = bench.raw(prompts[start : start + n])
                raw = [raw[0] + seconds, raw[1] + tokens]
            seconds, tokens = await bench.callers(prompts, n, ids)
            engine = [engine[0] + seconds, engine[1] + tokens]
        ours, theirs = engine[1] / engine[0], raw[1] / raw[0]
        print(f"{n} callers: {ours:.1f} tokens/s, raw {theirs:.1f}, ratio {ours / theirs:.3f}; the last round's batches {bench.sizes}", flush=True)

    async def late(i: int, p: Prompt) -> None:
        await asyncio.sleep(0.003 * i)
        await bench.engine.generate([p], bench.adapter.id)

    bench.sizes.clear()
    started = time.perf_counter()
    await asyncio.gather(*(late(i, p) for i, p in enumerate(bench.prompts[:32])))
    took, at_once = time.perf_counter() - started, bench.raw(bench.prompts[:32])[0]
    print(f"32 prompts 3 ms apart: {took:.2f} s, raw and all at once {at_once:.2f} s, ratio {at_once / took:.3f}; batches {bench.sizes}", flush=True)


async def mixed(bench: Bench) -> None:
    """The same converted model opened eight times under eight names: what differs is only which prompts may share a batch."""
    ids = [bench.adapter.id]
    for n in range(1, MODELS):
        bench.engine._models[f"copy-{n}"] = bench.engine._generator(bench.path)
        ids.append(f"copy-{n}")
    for n in (32, 256):
        prompts = bench.prompts[: max(96, n)]
        seconds, tokens = await bench.callers(prompts, n, ids[:1])
        one_rate, sizes = tokens / seconds, list(bench.sizes)
        seconds, tokens = await bench.callers(prompts, n, ids)
        eight = tokens / seconds
        print(
            f"{n} callers: one model {one_rate:.1f} tokens/s in batches {sizes}; eight {eight:.1f} in {bench.sizes}; ratio {eight / one_rate:.2f}", flush=True
        )
    for name in ids[1:]:
        bench.engine._models.pop(name)


async def measure(adapter: Adapter, segments: list[str], parts: list[str], rounds: int) -> None:
    base = find_base(adapter.card.base.id)
    engine = Ct2Engine(EngineOptions(base, max_adapters=MODELS + 1, max_rank=max(16, adapter.card.rank), max_context=min(2048, base.context)))
    await engine.start()
    try:
        await engine.load(adapter.id, adapter.path)
        path = await convert_model(Conversion(base, adapter, cores()))
        translator = translator_of(engine, engine._tokens, adapter, 2048)
        bench = Bench(engine, adapter, path, [translator.prompt(s) for s in segments])
        run_batch = engine._run_batch

        def counted(batch: Any, *others: Any) -> Any:
            bench.sizes.append(len(batch))
            return run_batch(batch, *others)

        engine._run_batch = counted  # type: ignore[method-assign]
        bench.raw(bench.prompts[:8])
        if "steps" in parts:
            steps(bench)
        if "beside" in parts:
            beside(bench, rounds)
        if "callers" in parts:
            await calls(bench, rounds)
        if "mixed" in parts:
            await mixed(bench)
    finally:
        await engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--adapter", type=Path, required=True, help="adapter directory")
    parser.add_argument("--source", type=Path, required=True, help="segments to translate, one a line, at least 256")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}  [default: all]")
    parser.add_argument("--rounds", type=int, default=1, help="of `callers` and `beside`  [default: 1]")
    args = parser.parse_args()
    parts = args.only.split(",")
    try:
        segments = args.source.read_text(encoding="utf-8").split("\n")[:256]
        if len(segments) < 256 or not all(s.strip() for s in segments) or not set(parts) <= set(PARTS):
            print(f"found {len(segments)} lines and parts {args.only}; valid: at least 256 lines with text, parts of {', '.join(PARTS)}", file=sys.stderr)
            return 2
        asyncio.run(measure(open_adapter(args.adapter), segments, parts, args.rounds))
    except (TellmtError, OSError) as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
