"""How long `tellmt select` takes on embeddings that are there already, in wall and CPU seconds.

    python -m benchmarks.data.bench_select --items 42530 -k 4253                 made embeddings only
    python -m benchmarks.data.bench_select --like chosen.npy --items 42530       made from the rows of a real matrix, with noise

Reads an optional float32 matrix of real embeddings. Writes nothing; prints one JSON object a method. Made rows are a real (or drawn)
row plus noise, at length 1 again: how they lie is like the real ones, which items they are is not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from tell.select.coreset import Cover, centre_order, cluster, default_clusters, greedy_order, one_thread


def rows(like: Path | None, items: int, width: int, noise: float, seed: int) -> Any:
    """Unit rows: those of `like`, each as often as needed, moved by noise of this part of their typical distance to one another."""
    draw = np.random.default_rng(seed)
    if like is None:
        # Directions close to one another, as the mean states of a language model are, in groups.
        groups = draw.normal(size=(150, 48)) * 2
        low = groups[draw.integers(0, 150, items)] + draw.normal(size=(items, 48))
        real = (low @ draw.normal(size=(48, width)) / 7 + 6).astype(np.float32)
    else:
        real = np.load(like)
    real = real / np.linalg.norm(real, axis=1, keepdims=True)
    vectors = real[np.arange(items) % len(real)]
    sample = real[draw.choice(len(real), min(500, len(real)), replace=False)]
    apart = float(np.median(np.linalg.norm(sample[:, None] - sample[None], axis=2)))
    vectors = vectors + draw.normal(size=vectors.shape).astype(np.float32) * (noise * apart / np.sqrt(vectors.shape[1]))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", type=Path)
    parser.add_argument("--items", type=int, default=42530)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--noise", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-k", type=int, nargs="+", default=[425, 4253])
    args = parser.parse_args()
    x = rows(args.like, args.items, args.width, args.noise, args.seed)
    clusters = default_clusters(len(x))
    for k in args.k:
        wall, cpu = time.perf_counter(), time.process_time()
        with one_thread():
            clusters_of = cluster(x, clusters, args.seed)
            middle = time.process_time()
            cover = Cover(x)
            first = list(itertools.islice(centre_order(clusters_of), len(clusters_of.sizes)))
            cover.add(first)
            chosen = first + list(itertools.islice(greedy_order(x, cover), k - len(first)))
            last = Cover(x)
            last.add(chosen)
        done = {"items": len(x), "width": x.shape[1], "clusters": len(clusters_of.sizes), "k": len(set(chosen)), "like": bool(args.like), "seed": args.seed}
        took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "kmeans_cpu_s": middle - cpu}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps({**done, **{n: round(s, 1) for n, s in took.items()}, "radius": round(last.radius(), 4), "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    main()
