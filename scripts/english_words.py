#!/usr/bin/env python3
"""Writes tell/model/english.txt: the commonest English words as they are written, one a line, commonest first, counted in a file of instructions.

    python scripts/english_words.py DATA/general/p3-train.jsonl.gz [--words 20000]

Nearly every pair has English on one side, and a small corpus has few of its words. What the list is for is in tell.model.pieces.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Words of letters, with an apostrophe or hyphen inside them parted there, as tokenizers do.
WORD = re.compile(r"[A-Za-z]+")


def counted(path: Path) -> Counter[str]:
    """How many lines have each word, as it is written: one long text does not make a word common."""
    counts: Counter[str] = Counter()
    with gzip.open(path, "rt", encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            counts.update(set(WORD.findall(f"{row['prompt']} {row['completion']}")))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("general", type=Path)
    parser.add_argument("--words", type=int, default=20_000)
    options = parser.parse_args()
    ranked = sorted(counted(options.general).items(), key=lambda item: (-item[1], item[0]))
    words = [word for word, _ in ranked[: options.words]]
    (ROOT / "tell/model/english.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    print(f"{len(words)} words; the last is in {ranked[len(words) - 1][1]} texts")


if __name__ == "__main__":
    main()
