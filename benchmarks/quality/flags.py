#!/usr/bin/env python3
"""How often the guards are right: loops that are found of those made out of references, and references that are flagged as if they were bad translations.

Reads SOURCE and REFERENCE, segments a line each; writes nothing.

    python -m benchmarks.quality.flags is-en newstest2021.is-en.src.is newstest2021.is-en.ref.A.en
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

from tell.files import read_lines
from tell.languages import parse_pair
from tell.text.flags import flags_of
from tell.text.repetition import loops


def looping(text: str, draw: random.Random, shortest: int = 24) -> str:
    """The beginning of a text, whose last words or characters are then repeated: four times and `shortest` characters at least, and cut anywhere."""
    words = text.split()
    head = words[: draw.randint(1, len(words))]
    stretch = " " + " ".join(head[-draw.randint(1, 12) :]) if draw.random() < 0.5 else " ".join(head)[-draw.randint(1, 12) :]
    times = max(4, -(-shortest // len(stretch))) + draw.randint(0, 20)
    looped = " ".join(head) + stretch * times
    return looped[: len(looped) - draw.randint(0, len(stretch) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pair", type=parse_pair)
    parser.add_argument("source", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shortest", type=int, default=24, help="characters of a loop, at least [24]")
    options = parser.parse_args()
    rows = list(zip(read_lines(options.source), read_lines(options.reference), strict=True))
    draw = random.Random(options.seed)
    loops_found = sum(bool(loops(source, looping(reference, draw, options.shortest))) for source, reference in rows)
    flagged = [flags_of(options.pair, source, reference) for source, reference in rows]
    counts = Counter(flag for flags in flagged for flag in flags)
    print(f"loops found: {loops_found} of {len(rows)}")
    print(f"references with a flag: {sum(map(bool, flagged))} of {len(rows)}" + "".join(f", {flag} {n}" for flag, n in counts.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
