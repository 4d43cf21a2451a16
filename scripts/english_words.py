#!/usr/bin/env python3
"""Writes the English words of which adapters keep pieces, in tell/model: english.txt, the commonest as they are written, commonest first, counted in a file of
instructions; and english_dictionary.txt, the words in small letters of a word list.

    python scripts/english_words.py DATA/general/p3-train.jsonl.gz /usr/share/dict/american-english [--words 20000]

Nearly every pair has English on one side, and a small corpus has few of its words. What the lists are for is in train.pieces. The word list is that of Debian's
package wamerican (SCOWL).
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
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("--words", type=int, default=20_000)
    options = parser.parse_args()
    ranked = sorted(counted(options.general).items(), key=lambda item: (-item[1], item[0]))
    words = [word for word, _ in ranked[: options.words]]
    (ROOT / "tell/model/english.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    known = set(words)
    others = [w for w in options.dictionary.read_text(encoding="utf-8").split() if WORD.fullmatch(w) and w.islower() and w not in known]
    (ROOT / "tell/model/english_dictionary.txt").write_text("\n".join(others) + "\n", encoding="utf-8")
    print(f"{len(words)} words and {len(others)} of the dictionary; the last is in {ranked[len(words) - 1][1]} texts")


if __name__ == "__main__":
    main()
