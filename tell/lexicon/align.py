"""Aligns the words of segment pairs, both ways, and joins the two alignments (sil-thot's FastAlign and grow-diag-final-and).

Reads and returns words in memory. FastAlign (Dyer, Chahuneau and Smith, 2013) prefers links near the diagonal, which suits translations segment by segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tell.extras import need

# Passes of EM over the pairs in each direction.
PASSES = 5
# thot's FastAlign takes no more words a side; its HMM and IBM-4 leave out pairs of more than 200 without saying so.
MOST_WORDS = 1024
# Pairs whose links are asked for at once: a bound on memory.
BATCH = 2000

Tokens = Sequence[str]
Link = tuple[int, int]


def align(pairs: Sequence[tuple[Tokens, Tokens]], step: Callable[[int], None] = lambda done: None) -> list[list[Link]]:
    """For each pair the links (i, j) of its source word i and target word j, sorted.

    A pair with an empty side, or with more than 1,024 words on one, has none. Equal input gives equal links. `step` is told the pairs that were gone through
    since it was last called, 2 * PASSES + 1 times in all for each pair. Raises MissingExtra without sil-thot.
    """
    thot = need("thot.alignment", "train")
    usable = [n for n, (source, target) in enumerate(pairs) if 0 < len(source) <= MOST_WORDS and 0 < len(target) <= MOST_WORDS]
    links: list[list[Link]] = [[] for _ in pairs]
    if not usable:
        return links
    forward = _trained(thot, [pairs[n] for n in usable], step)
    backward = _trained(thot, [(pairs[n][1], pairs[n][0]) for n in usable], step)
    both = thot.SymmetrizedAligner(forward, backward)
    both.heuristic = thot.SymmetrizationHeuristic.GROW_DIAG_FINAL_AND
    for at in range(0, len(usable), BATCH):
        batch = usable[at : at + BATCH]
        found = both.get_best_alignments([list(pairs[n][0]) for n in batch], [list(pairs[n][1]) for n in batch])
        for n, (_, matrix) in zip(batch, found, strict=True):
            links[n] = _links(matrix, pairs[n])
        step(len(batch))
    return links


def _trained(thot: Any, pairs: Sequence[tuple[Tokens, Tokens]], step: Callable[[int], None]) -> Any:
    model = thot.FastAlignModel()
    # Without it rare words gather links to words that they merely stand beside (Riley and Gildea, 2012).
    model.variational_bayes = True
    for source, target in pairs:
        model.add_sentence_pair(list(source), list(target))
    model.start_training()
    for _ in range(PASSES):
        model.train()
        step(len(pairs))
    model.end_training()
    return model


def _links(matrix: Any, pair: tuple[Tokens, Tokens]) -> list[Link]:
    """The links of a matrix, and of words that are written the same on both sides and have none: names, mostly."""
    source, target = pair
    # Not to_list(), which has one link a word, and nothing at all where there are more.
    rows, columns = matrix.to_numpy().nonzero()
    links: list[Link] = list(zip(rows.tolist(), columns.tolist(), strict=True))
    linked, free = {i for i, _ in links}, set(range(len(target))) - {j for _, j in links}
    for i, word in enumerate(source):
        if i not in linked and (same := next((j for j in sorted(free) if target[j] == word), None)) is not None:
            free.remove(same)
            links.append((i, same))
    return sorted(links)
