#!/usr/bin/env python3
"""How far apart two equal trainings of bench_train.py end: this trainer again and again on its data, each time in another order from other weights.

Reads the directory that `bench_train.py --keep DIR` left. Writes DIR/noise/. What it prints is where TOLERANCE in bench_train.py comes from.

    python -m benchmarks.training.bench_train --only ours --keep DIR && python -m benchmarks.training.noise DIR
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tell.files import sha256_file


def tellmt(*arguments: object) -> Any:
    command = [sys.executable, "-m", "tellmt", "--json", *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def once(work: Path, corpus: Path, seed: int) -> float:
    """Nats per held-out token after a training in the order and from the weights of `seed`."""
    place = work / "noise" / str(seed)
    mixed = place / "mixed"
    mixed.mkdir(parents=True, exist_ok=True)
    lines = (work / "mixed" / "mixed.jsonl").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    random.Random(seed).shuffle(lines)
    (mixed / "mixed.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    report = json.loads((work / "mixed" / "mix.json").read_text())
    (mixed / "mix.json").write_text(json.dumps({**report, "sha256": sha256_file(mixed / "mixed.jsonl")}))
    tellmt("train", "--mixed", mixed, "--recipe", work / "recipe.toml", "--seed", seed, "-o", place / "adapter")
    loss: float = tellmt("losses", place / "adapter", "--corpus", corpus, "--split", "dev", "-o", place / "losses.jsonl")["nats_per_token"]
    return loss


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path, metavar="DIR", help="what bench_train.py --keep left")
    parser.add_argument("--corpus", type=Path, help="the corpus that bench_train.py was given  [default: the sample, in DIR]")
    parser.add_argument("--runs", type=int, default=6)
    options = parser.parse_args()
    losses_of = []
    for seed in range(2, options.runs + 2):
        losses_of.append(once(options.work, options.corpus or options.work / "corpus", seed))
        print(f"seed {seed}: {losses_of[-1]:.4f} nats per held-out token", flush=True)
    spread = statistics.stdev(losses_of)
    print(f"mean {statistics.mean(losses_of):.4f}, standard deviation {spread:.4f} over {len(losses_of)} trainings")
    print(f"two equal trainings differ by less than {2 * 2**0.5 * spread:.3f} in 19 of 20 cases (twice the standard deviation of a difference)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
