"""The choice itself, on unit vectors: K-Means, the items nearest its centres, and KCenterGreedy after them.

LTD (arXiv 2305.09246): cluster the pool's embeddings, sample at the centres, then fill up with KCenterGreedy, which takes the item
farthest from all that are taken (Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR
2018, algorithm 1). Reads and writes no file. All orders are endless in the sense that they go on to the pool's last item, and never
look at how many will be taken: a smaller choice is the beginning of a larger one.
"""

from __future__ import annotations

import dataclasses
import math
import random
import warnings
from collections.abc import Iterator
from typing import Any

from tell.extras import need

# Items that K-Means is fitted to; of a larger pool a sample by seed. The others only join their nearest centre.
FIT = 1 << 16
# One start and at most this many rounds: on P3 more of either moved the inertia by less than 1%.
ROUNDS = 100
# Rows of a product at once: bounds memory to ROWS x CANDIDATES float32 numbers.
ROWS = 8192
# Items among which the farthest is looked for before all distances are brought up to date.
CANDIDATES = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Clusters:
    """For each item its cluster and its distance to that cluster's centre; clusters are numbered by size, the largest first."""

    of: Any
    distance: Any
    sizes: list[int]


def default_clusters(items: int) -> int:
    """The square root of half the items, an old rule of thumb (Mardia, Kent and Bibby, Multivariate Analysis, 1979, section 13.3.3)."""
    return max(1, round(math.sqrt(items / 2)))


def one_thread() -> Any:
    """BLAS and OpenMP on one thread: with more, sums are added up in another order every time, and near-ties are decided anew."""
    return need("threadpoolctl", "train").threadpool_limits(limits=1)


def cluster(x: Any, clusters: int, seed: int) -> Clusters:
    """K-Means on the rows of `x`."""
    np, sklearn = need("numpy", "train"), need("sklearn.cluster", "train")
    n = len(x)
    fitted = x
    if n > FIT:
        fitted = x[np.sort(np.random.default_rng(seed).choice(n, FIT, replace=False))]
    means = sklearn.KMeans(n_clusters=clusters, n_init=1, max_iter=ROUNDS, random_state=seed % 2**32, copy_x=False)
    with one_thread(), warnings.catch_warnings():
        # Fewer distinct items than clusters: the empty ones fall away below.
        warnings.simplefilter("ignore")
        means.fit(fitted)
        of = np.concatenate([means.predict(x[i : i + ROWS]) for i in range(0, n, ROWS)])
    centres = means.cluster_centers_
    distance = np.concatenate([np.linalg.norm(x[i : i + ROWS] - centres[of[i : i + ROWS]], axis=1) for i in range(0, n, ROWS)])
    sizes = np.bincount(of, minlength=clusters)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(clusters, dtype=np.int64)
    rank[order] = np.arange(clusters)
    return Clusters(rank[of], distance, [int(s) for s in sizes[order] if s])


def centre_order(clusters: Clusters) -> Iterator[int]:
    """The item nearest to each centre, largest cluster first; then the second nearest of each, and so on to the last."""
    np = need("numpy", "train")
    by_cluster = np.lexsort((np.arange(len(clusters.of)), clusters.distance, clusters.of))
    starts = np.concatenate([[0], np.cumsum(clusters.sizes)])
    turn = np.concatenate([np.arange(s) for s in clusters.sizes])
    which = np.repeat(np.arange(len(clusters.sizes)), np.diff(starts))
    yield from by_cluster[np.lexsort((which, turn))].tolist()


def random_order(items: int, seed: int) -> Iterator[int]:
    order = list(range(items))
    random.Random(f"select {seed}").shuffle(order)
    yield from order


class Cover:
    """For every item the greatest cosine to any that was taken, so the distance to the nearest: sqrt(2 - 2 cosine) for unit vectors."""

    def __init__(self, x: Any):
        np = need("numpy", "train")
        self.x, self.nearest = x, np.full(len(x), -2.0, dtype=np.float32)

    def add(self, chosen: list[int]) -> None:
        """Take several at once: one product of matrices, whose memory is bounded."""
        np = need("numpy", "train")
        for a in range(0, len(chosen), CANDIDATES):
            chunk = self.x[chosen[a : a + CANDIDATES]].T
            for i in range(0, len(self.x), ROWS):
                near = self.nearest[i : i + ROWS]
                np.maximum(near, (self.x[i : i + ROWS] @ chunk).max(axis=1), out=near)
        # Rounding must not leave a taken item, or one equal to it, farther away than the rest.
        self.nearest[chosen] = 2.0

    def radius(self) -> float:
        """The distance of the item that is farthest from all that were taken."""
        return math.sqrt(max(0.0, 2.0 - 2.0 * min(1.0, float(self.nearest.min()))))


def greedy_order(x: Any, cover: Cover) -> Iterator[int]:
    """KCenterGreedy after what `cover` holds: always the item farthest from all that were taken, to the last.

    Distances only shrink, so as long as the farthest of some CANDIDATES, kept up to date, is at least as far as every other item
    was, it is the farthest of all; the others are brought up to date in one product of matrices afterwards. The order is that of the
    plain algorithm, one product of a matrix and a vector per item, in a tenth of its time.
    """
    np = need("numpy", "train")
    remaining = len(x) - int((cover.nearest > 1.5).sum())
    while remaining:
        if len(x) > CANDIDATES:
            candidates = np.sort(np.argpartition(cover.nearest, CANDIDATES)[:CANDIDATES])
        else:
            candidates = np.arange(len(x))
        near = cover.nearest[candidates].copy()
        # The farthest of those outside, with distances that are too large if anything.
        others = np.delete(cover.nearest, candidates) if len(candidates) < len(x) else near[:0]
        limit = float(others.min()) if len(others) else 3.0
        block = x[candidates]
        chosen: list[int] = []
        while len(chosen) < remaining:
            at = int(near.argmin())
            if near[at] > 1.5 or (chosen and float(near[at]) >= limit):
                break
            chosen.append(int(candidates[at]))
            yield int(candidates[at])
            np.maximum(near, block @ block[at], out=near)
            near[at] = 2.0
        cover.add(chosen)
        remaining -= len(chosen)
