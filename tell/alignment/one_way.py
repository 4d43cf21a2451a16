"""Aligns words in one direction with sil-thot's FastAlign, in a process of its own: `python one_way.py FILE PASSES forward|backward`.

It imports nothing of ours. Reads FILE: a line for each pair, source words and target words, a tab between the sides and spaces between words. Writes to stdout
a line "pass" after each pass of training, then for each pair a line of numbers: for each word of the side that is aligned, the place of its word on the other
side, counted from 1, or 0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

# Pairs whose alignments are asked for at once: a bound on memory.
BATCH = 2000


def read(path: Path, backward: bool) -> Iterator[tuple[list[str], list[str]]]:
    with path.open(encoding="utf-8", newline="\n") as f:
        for line in f:
            source, target = (side.split(" ") for side in line.rstrip("\n").split("\t"))
            yield (target, source) if backward else (source, target)


def main(file: str, passes: str, way: str) -> None:
    from thot.alignment import FastAlignModel

    path, backward = Path(file), way == "backward"
    model = FastAlignModel()
    # Without it rare words gather links to all that stands beside them.
    model.variational_bayes = True
    for source, target in read(path, backward):
        model.add_sentence_pair(source, target)
    model.start_training()
    for _ in range(int(passes)):
        model.train()
        print("pass", flush=True)
    model.end_training()
    sources: list[list[str]] = []
    targets: list[list[str]] = []

    def flush() -> None:
        for _, matrix in model.get_best_alignments(sources, targets):
            print(*matrix.to_list())
        sources.clear()
        targets.clear()

    for source, target in read(path, backward):
        sources.append(source)
        targets.append(target)
        if len(sources) == BATCH:
            flush()
    if sources:
        flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
