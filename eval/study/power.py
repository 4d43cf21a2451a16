"""The smallest effects that a study would have seen: by simulation, from the spread over seeds that runs have shown.

    python -m eval.study.power DIR [--seeds 3 8 ...]

Reads the results of a study directory, or takes spreads as arguments; writes tables. An effect is seen where the 95% interval of the mean difference over
paired seeds leaves out zero, and the smallest that counts is the one that is seen in four of five studies.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.scoring.significance import SEED
from eval.study.stats import LEVEL, spread, t_quantile

POWER = 0.8
TRIALS = 20_000


@functools.cache
def smallest_multiple(seeds: int) -> float:
    """The smallest difference that `seeds` paired seeds see with POWER, in standard deviations of the differences: by simulation with one draw for all
    sizes."""
    import numpy as np

    noise = np.random.default_rng(SEED).standard_normal((TRIALS, seeds))
    half = t_quantile((1 + LEVEL) / 2, seeds - 1) * noise.std(1, ddof=1) / math.sqrt(seeds)
    # A difference d is seen where |mean + d| > half; for d > 0 nearly always on its own side.
    needed = half - noise.mean(1)
    return float(np.quantile(needed, POWER))


def smallest_effect(differences: Sequence[float]) -> float | None:
    """The smallest mean difference that a comparison with the spread of these differences per seed would have seen; None for fewer than two."""
    s = spread(differences) if differences else None
    return None if s is None or s.sd is None else s.sd * smallest_multiple(s.n)


def primary_power(multiple: float, slope: float, sd: float, seeds: int, sizes: Sequence[int], size: int, margin: float, trials: int = 400) -> dict[str, float]:
    """How often the primary figure comes out as each of VERDICTS, and how often its interval holds the truth.

    The reference's loss falls by `slope` nats for each doubling of its pairs, and the arm at `size` pairs is worth `multiple` times as many. What a seed
    does to all runs alike no paired figure sees; beside that each run has an error of its own, and `sd` is that of the difference of two.
    """
    import numpy as np

    from eval.study.stats import Point, size_needed

    rng = np.random.default_rng(SEED)
    truth = np.array([slope * math.log2(x / size) for x in sizes])
    counts: dict[str, int] = defaultdict(int)
    for _ in range(trials):
        curve = truth[:, None] + sd / math.sqrt(2) * rng.standard_normal((len(sizes), seeds))
        arm = slope * math.log2(multiple) + sd / math.sqrt(2) * rng.standard_normal(seeds)
        points = [Point(float(x), dict(enumerate(map(float, row)))) for x, row in zip(sizes, curve, strict=True)]
        needed = size_needed(Point(float(size), dict(enumerate(map(float, arm)))), points)
        if needed is None:
            raise ValueError("no seeds")
        low, high = needed.bounds()
        counts[verdict(low, high, margin)] += 1
        counts["holds"] += low <= multiple * 1.001 and high >= multiple * 0.999
    return {name: counts[name] / trials for name in (*VERDICTS, "holds")}


VERDICTS = ("helps", "helps, by less than the margin", "does not help by the margin", "undecided")


def verdict(low: float, high: float, margin: float) -> str:
    """What the interval of the primary figure says: how many times its own pairs the reference needs, beside the margin fixed beforehand."""
    if low >= margin:
        return VERDICTS[0]
    if high < margin:
        return VERDICTS[1] if low > 1 else VERDICTS[2]
    return VERDICTS[3]


def spreads_of(directory: Path) -> list[tuple[str, str, int, float]]:
    """(arm and size, figure, seeds, standard deviation of the differences per seed to the reference) of a study's results."""
    from eval.study.results import read_results

    results = read_results(directory)
    cells: dict[tuple[Any, ...], dict[int, Any]] = defaultdict(dict)
    for run in results.runs:
        if run.row.train is not None:
            cells[run.row.pair, run.row.size, run.row.arm, run.row.ratio][run.row.seed] = run
    rows = []
    for (pair, size, arm, ratio), runs in cells.items():
        target = next((v for k, v in cells.items() if k[:3] == (pair, size, results.study.reference_arm)), {})
        seeds = sorted(set(runs) & set(target))
        if arm == results.study.reference_arm or len(seeds) < 2:
            continue
        for figure in ("nats", "chrf2"):
            values = [(getattr(runs[s], figure), getattr(target[s], figure)) for s in seeds]
            if all(a is not None and b is not None for a, b in values):
                rows.append((f"{pair} {arm}, {size}, ratio {ratio:g}", figure, len(seeds), spread([a - b for a, b in values]).sd or 0.0))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 8])
    parser.add_argument("--margin", type=float, default=1.5)
    parser.add_argument("--slopes", type=float, nargs="+", default=[0.05, 0.1, 0.2], help="Nats that the reference gains with each doubling of its pairs.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[150, 250, 500, 1000, 2000])
    parser.add_argument("--size", type=int, default=500)
    a = parser.parse_args()
    rows = spreads_of(a.directory)
    print("| comparison | figure | seeds | sd of the differences |" + "".join(f" seen with {n} seeds |" for n in a.seeds))
    print("|---|---|---:|---:|" + "---:|" * len(a.seeds))
    for name, figure, n, sd in rows:
        print(f"| {name} | {figure} | {n} | {sd:.3f} |" + "".join(f" {sd * smallest_multiple(s):.3f} |" for s in a.seeds))
    sds = sorted(sd for _, figure, _, sd in rows if figure == "nats")
    typical, large = sds[len(sds) // 2], sds[-1]
    print(f"\nPrimary figure, margin {a.margin:g}; sd of a point per seed: {typical:.3f} (median of the nats above), {large:.3f} (the largest)\n")
    print("| seeds | sd | nats a doubling | truth | " + " | ".join(VERDICTS) + " | interval holds the truth |")
    print("|---:|---:|---:|---:|" + "---:|" * (len(VERDICTS) + 1))
    for n in a.seeds:
        for sd in (typical, large):
            for slope in a.slopes:
                for truth in (1.0, 1.5, 2.0, 3.0):
                    shares = primary_power(truth, slope, sd, n, a.sizes, a.size, a.margin)
                    print(f"| {n} | {sd:.3f} | {slope:g} | {truth:g} | " + " | ".join(f"{shares[v]:.2f}" for v in (*VERDICTS, "holds")) + " |")


if __name__ == "__main__":
    main()
