"""How often the gate lets a version through that is as good as the live one, better, or worse, and where ten publishes in a row lead. Writes tables.

    python -m benchmarks.quality.gate_simulation
    python -m benchmarks.quality.gate_simulation --segments 64 --trials 400 --seed 2

The versions are real: `gate_statistics.npz` has, for each of 223 segments of NTREX (Icelandic to English), the counts of which chrF2 is made (matches and
numbers of character n-grams; no text), of ten adapters whose outputs are in docs/results/study-cpu. A trial draws two of them and a dev split, with
replacement. How far they differ on all 223 segments is known and taken off, and the difference that the trial is about is added; what chance adds is left as it
is. The decision is the gate's own (`eval.gate.margin.decided`), on paired resamples of the drawn segments.

`--statistics` takes another file like it: an array of (segments, 18) for each system, as `Metric.statistics` of chrF2 gives it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.gate.margin import Difference, decided, level, margin

STATISTICS = Path(__file__).with_name("gate_statistics.npz")
RESAMPLES = 300
TRUE = (-2.0, -1.0, 0.0, 1.0, 2.0)


def chrf2(sums: Any) -> Any:
    """chrF2 of sums of statistics, (..., 18) -> (...): `Metric.of` for many at once, to six digits."""
    hypothesis, reference, match = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    counted = (hypothesis > 0) & (reference > 0)
    precision, recall = match / np.maximum(hypothesis, 1), match / np.maximum(reference, 1)
    weighted = 4 * precision + recall
    scores = np.where(weighted > 0, 5 * precision * recall / np.where(weighted > 0, weighted, 1), 0)
    return 100 * (scores * counted).sum(-1) / np.maximum(counted.sum(-1), 1)


class Versions:
    """Systems on one drawn dev split, each as good as it is asked to be."""

    def __init__(self, statistics: Sequence[Any], segments: int, draw: Any):
        drawn = draw.integers(len(statistics[0]), size=segments)
        weights = draw.multinomial(segments, np.full(segments, 1 / segments), size=RESAMPLES).astype(float)
        whole = [chrf2(s.sum(0)) for s in statistics]
        self.segments = segments
        self.scores = [chrf2(s[drawn].sum(0)) - w for s, w in zip(statistics, whole, strict=True)]
        self.resamples = [chrf2(weights @ s[drawn]) - w for s, w in zip(statistics, whole, strict=True)]

    def differ(self, first: int, second: int, by: float) -> Difference:
        """What the gate sees of `second` beside `first` when it is truly better by so many points."""
        return decided(float(self.scores[second] - self.scores[first]) + by, self.resamples[second] - self.resamples[first] + by, self.segments)


def passes(seen: Difference) -> bool:
    return seen.within and not seen.high < 0


def passed_before(seen: Difference) -> bool:
    """By the rule without a margin: the interval stands for the paired test."""
    return not (seen.delta < 0 and seen.high < 0)


def shares(statistics: Sequence[Any], segments: int, trials: int, seed: int, true: Sequence[float] = TRUE) -> dict[float, tuple[float, float]]:
    """{true difference: (share that passes, share that passed before there was a margin)}"""
    draw = np.random.default_rng([seed, segments])
    counts = {by: [0, 0] for by in true}
    for _ in range(trials):
        versions = Versions(statistics, segments, draw)
        first, second = draw.choice(len(statistics), size=2, replace=False)
        for by in true:
            seen = versions.differ(first, second, by)
            counts[by][0] += passes(seen)
            counts[by][1] += passed_before(seen)
    return {by: (now / trials, before / trials) for by, (now, before) in counts.items()}


def ratchet(statistics: Sequence[Any], segments: int, each: float, tries: int, draw: Any, rule: Callable[[Difference], bool], best: bool) -> float:
    """The true quality, against the first version's, of what is live after so many publishes, each of a version that is truly `each` better than what is live.
    With `best` it has to pass beside the best version too, which is one until another is surely better."""
    versions = Versions(statistics, segments, draw)
    systems = draw.permutation(np.resize(np.arange(len(statistics)), tries + 1))
    live, best_version = (systems[0], 0.0), (systems[0], 0.0)
    for system in systems[1:]:
        new = system, live[1] + each
        seen = [versions.differ(other[0], system, new[1] - other[1]) for other in ([live, best_version] if best else [live])]
        if all(map(rule, seen)):
            live, best_version = new, (new if seen[-1].better else best_version)
    return float(live[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--statistics", type=Path, default=STATISTICS)
    parser.add_argument("--segments", type=int, nargs="*", default=[20, 32, 40, 64, 100, 128, 200, 256, 512, 1000])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with np.load(options.statistics) as file:
        statistics = [file[name].astype(float) for name in file.files]
    print(f"{len(statistics)} systems, {len(statistics[0])} segments, {options.trials} trials, seed {options.seed}\n")
    print("| segments | margin | level | " + " | ".join(f"{by:+g}" for by in TRUE) + " | -2, without a margin |\n|" + "---|" * (4 + len(TRUE)))
    for n in options.segments:
        found = shares(statistics, n, options.trials, options.seed)
        cells = [str(n), f"{margin(n):.2f}", f"{level(n):.0%}", *(f"{found[by][0]:.0%}" for by in TRUE), f"{found[TRUE[0]][1]:.0%}"]
        print("| " + " | ".join(cells) + " |", flush=True)
    print("\n| segments | each truly | rule | lost after ten, mean | more than 2 lost |\n|---|---|---|---|---|")
    for n in (64, 256):
        for each in (-0.5, -1.0, -2.0):
            for name, rule, best in (("without a margin", passed_before, False), ("live", passes, False), ("live and best", passes, True)):
                draw = np.random.default_rng([options.seed, n, 7])
                ends = [ratchet(statistics, n, each, 10, draw, rule, best) for _ in range(max(1, options.trials // 5))]
                print(f"| {n} | {each:+g} | {name} | {-np.mean(ends):.2f} | {np.mean([e < -2 for e in ends]):.0%} |", flush=True)


if __name__ == "__main__":
    main()
