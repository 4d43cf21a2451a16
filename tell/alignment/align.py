"""Aligns the words of segment pairs, both ways, and joins the two alignments by grow-diag-final-and (Koehn, Och and Marcu, 2003).

Takes and returns words in memory; lays them aside in a file for the two processes that align (`tell.alignment.one_way`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from tell.errors import TellmtError
from tell.extras import need

# Passes of EM over the pairs in each direction. Five and eight found no more words (docs/results/lexicon.md).
PASSES = 3
# thot's FastAlign takes no more words a side; its HMM and IBM-4 leave out pairs of more than 200 without saying so.
MOST_WORDS = 1024
ONE_WAY = Path(__file__).with_name("one_way.py")

Tokens = Sequence[str]
Link = tuple[int, int]
# The eight places around a link.
_AROUND = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


class Alignment:
    """The alignment of some pairs under way: both processes are started at once, and `links` waits for them.

    `folder` is where the words are laid aside; `step` is told the pairs that a pass has gone through since it was last called, PASSES times in all for each
    direction. Raises MissingExtra without sil-thot. Equal pairs give equal links.
    """

    def __init__(self, pairs: Sequence[tuple[Tokens, Tokens]], folder: Path, step: Callable[[int], None] = lambda done: None):
        need("thot.alignment", "train")
        self._pairs, self._step = pairs, step
        self._usable = [n for n, (source, target) in enumerate(pairs) if 0 < len(source) <= MOST_WORDS and 0 < len(target) <= MOST_WORDS]
        self._file = folder / f".words-{id(self)}"
        self._processes: list[subprocess.Popen[str]] = []
        if self._usable:
            with self._file.open("w", encoding="utf-8", newline="\n") as f:
                f.writelines(" ".join(pairs[n][0]) + "\t" + " ".join(pairs[n][1]) + "\n" for n in self._usable)
            self._processes = [self._start(way) for way in ("forward", "backward")]

    def _start(self, way: str) -> subprocess.Popen[str]:
        # By its file, which needs nothing of ours: so it runs wherever this does.
        command = [sys.executable, "-P", str(ONE_WAY), str(self._file), str(PASSES), way]
        # One thread each: what several threads add up, they add up in another order each time, and the links would differ.
        return subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"})

    def links(self) -> list[list[Link]]:
        """For each pair the links (i, j) of its source word i and target word j, sorted. Raises TellmtError when a process ended before it was done.

        A pair with an empty side, or with more than 1,024 words on one, has none.
        """
        links: list[list[Link]] = [[] for _ in self._pairs]
        try:
            forward, backward = (self._lines(p) for p in self._processes) if self._processes else (iter(()), iter(()))
            for n, there, back in zip(self._usable, forward, backward, strict=True):
                source, target = self._pairs[n]
                ways = {(i - 1, j) for j, i in enumerate(there) if i}, {(i, j - 1) for i, j in enumerate(back) if j}
                links[n] = same_words(symmetrised(*ways, len(source), len(target)), source, target)
        except ValueError:
            raise TellmtError("the process that aligns words was ended before it was done", valid="more memory, or a smaller corpus") from None
        return links

    def _lines(self, process: subprocess.Popen[str]) -> Iterator[list[int]]:
        stream: IO[str] = process.stdout  # type: ignore[assignment]
        for line in stream:
            if line == "pass\n":
                self._step(len(self._usable))
            else:
                yield [int(number) for number in line.split()]
        if process.wait():
            raise ValueError(process.returncode)

    def close(self) -> None:
        """Ends the processes and takes away what was laid aside."""
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._file.unlink(missing_ok=True)


def symmetrised(forward: set[Link], backward: set[Link], sources: int, targets: int) -> set[Link]:
    """The links of both ways, and of one way where they stand beside such, or join two words that have none: grow-diag-final-and.

    `sources` and `targets`: words on each side.
    """
    links = forward & backward
    rows, columns = bytearray(sources), bytearray(targets)
    for i, j in links:
        rows[i] = columns[j] = 1
    rest = sorted((forward | backward) - links)
    before = -1
    while before != len(links):
        before, still = len(links), []
        for i, j in rest:
            if rows[i] and columns[j]:
                continue
            if any((i + di, j + dj) in links for di, dj in _AROUND):
                links.add((i, j))
                rows[i] = columns[j] = 1
            else:
                still.append((i, j))
        rest = still
    # What is still alone: first what was found from the target's words to the source's, then the rest.
    for i, j in sorted(rest, key=lambda link: link not in forward):
        if not rows[i] and not columns[j]:
            links.add((i, j))
            rows[i] = columns[j] = 1
    return links


def same_words(links: set[Link], source: Tokens, target: Tokens) -> list[Link]:
    """The links sorted, with those of words that are written the same on both sides and have none otherwise: names, mostly."""
    if len({i for i, _ in links}) == len(source):
        return sorted(links)
    rows, columns = {i for i, _ in links}, {j for _, j in links}
    more: list[Link] = []
    for i, word in enumerate(source):
        if i not in rows and (same := next((j for j, w in enumerate(target) if w == word and j not in columns), None)) is not None:
            columns.add(same)
            more.append((i, same))
    return sorted([*links, *more])
