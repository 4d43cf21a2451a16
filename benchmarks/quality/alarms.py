"""How often the monitor's tests are wrong, and what they find: made-up systems on a canary set of a corpus' dev split. Writes a table to standard output.

    python -m benchmarks.quality.alarms CORPUS --runs 200 --noise 0.25
    python -m benchmarks.quality.alarms CORPUS --runs 20 --worse 0.01 0.02 0.04

A system is the references with a share of their words spoilt, always the same ones; noise is one more word in a share of the segments, another one at each
run. With `--worse` so large a share of the words is spoilt beside; without, nothing but the noise differs, and whatever is found is wrong. `--drop 0` leaves
the test alone.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from eval.monitor.canary_sets import CanarySet, freeze
from eval.monitor.history import CanaryRun, Outputs
from eval.monitor.judge import AlarmThresholds, CanaryTranslations, judge_translations
from eval.scoring.testset import from_corpus
from tell.corpus.directory import open_corpus


def simulated_outputs(canary: CanarySet, spoilt: float, extra: float, noise: float, draw: random.Random) -> CanaryTranslations:
    texts = []
    for segment in canary.segments:
        segment_draw = random.Random(segment.source)
        words = ["xqz" if segment_draw.random() < spoilt + extra else w for w in segment.reference.split(" ")]
        if draw.random() < noise:
            words[draw.randrange(len(words))] = "qzx"
        texts.append(" ".join(words))
    return CanaryTranslations("v", "base", texts, [()] * len(canary.hard), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--noise", type=float, default=0.25)
    parser.add_argument("--spoilt", type=float, default=0.4)
    parser.add_argument("--worse", type=float, nargs="*", default=[0.0])
    parser.add_argument("--drop", type=float, default=AlarmThresholds().drop)
    options = parser.parse_args()
    canary, _ = freeze(from_corpus(open_corpus(options.corpus), "dev"), options.size, [], str(options.corpus))
    draw, thresholds = random.Random(1), AlarmThresholds(drop=options.drop)
    print(f"{len(canary.segments)} segments, noise in {options.noise:.0%} of them, alpha {thresholds.alpha}, drop {thresholds.drop}, {options.runs} runs each")
    print("| words spoilt more | chrF2 lost, mean | found by one run | by a second too |\n|---|---|---|---|")
    for extra in options.worse:
        alarms, twice, lost = 0, 0, 0.0
        for _ in range(options.runs):
            # A baseline of its own for each: one that is lucky would stand for all.
            first = simulated_outputs(canary, options.spoilt, 0.0, options.noise, draw)
            scored = judge_translations(canary, first, None, AlarmThresholds(drop=1000)).scores
            baseline = CanaryRun("x", "v", "base", canary.sha256, "scored", scores=scored), Outputs(first.texts, [False] * len(canary.hard))
            judgement = judge_translations(canary, simulated_outputs(canary, options.spoilt, extra, options.noise, draw), baseline, thresholds)
            lost -= (judgement.delta or 0.0) / options.runs
            if judgement.findings:
                alarms += 1
                twice += bool(judge_translations(canary, simulated_outputs(canary, options.spoilt, extra, options.noise, draw), baseline, thresholds).findings)
        print(f"| {extra:.1%} | {lost:.2f} | {alarms} of {options.runs} | {twice} of {options.runs} |", flush=True)


if __name__ == "__main__":
    main()
