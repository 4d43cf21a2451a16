"""How much task data the reference arm needs to equal another: the primary figure of a study, and the same reading for every other cell.

Reads scored runs; writes nothing. By pairs the reading is on the loss of the held-out references; studies of before, by tokens, are read on chrF2, since their
losses were taken at no arm's best step.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.study.power import primary_power, verdict
from eval.study.results import RecordedStudy, ScoredRun
from eval.study.stats import Needed, Point, nats_per_token, size_needed, spread

# pair, size (None is all task data), arm, ratio
Cell = tuple[str, int | None, str, float | None]
# What the papers claim at most is nearly ten times.
CLAIM = 9.0


def counted(runs: Sequence[ScoredRun], unit: str) -> float:
    """The task data of a cell, as it was counted in the mixes: the mean over its runs."""
    return spread([float(getattr(r.row.counts["task"], "examples" if unit == "pairs" else "tokens")) if r.row.counts else 0.0 for r in runs]).mean


def point(runs: Sequence[ScoredRun], unit: str) -> Point | None:
    """A cell as a point of a curve; None where its runs have no outcome or no data."""
    scores: dict[int, float] = {}
    influence: dict[int, Any] = {}
    for run in runs:
        if unit == "tokens":
            if run.chrf2 is not None:
                scores[run.row.seed] = run.chrf2
        elif run.nats is not None:
            scores[run.row.seed] = -run.nats
            if run.losses:
                influence[run.row.seed] = -nats_per_token([run.losses[line] for line in sorted(run.losses)])[1]
    size = counted(runs, unit) if runs else 0.0
    if not scores or not size:
        return None
    lengths = {len(x) for x in influence.values()}
    return Point(size, scores, influence if set(influence) == set(scores) and len(lengths) == 1 else None)


def reference_curve(study: RecordedStudy, pair: str, trained: Mapping[Cell, list[ScoredRun]]) -> list[Point]:
    points = [point(runs, study.unit) for (p, _, arm, _), runs in trained.items() if (p, arm) == (pair, study.reference_arm)]
    return sorted((p for p in points if p is not None), key=lambda p: p.size)


def readings(study: RecordedStudy, pairs: Sequence[str], trained: Mapping[Cell, list[ScoredRun]], notes: list[str]) -> list[dict[str, Any]]:
    """For every cell but the reference's: what the reference needs for the same outcome. The study's primary cell has its answer beside it."""
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        curve = reference_curve(study, pair, trained)
        cells = {c: runs for c, runs in trained.items() if c[0] == pair and c[2] != study.reference_arm}
        if len(curve) < 2:
            if cells:
                notes.append(f"{pair}: {study.reference_arm} has {len(curve)} of the 2 sizes that its curve needs")
            continue
        for (_, size, arm, ratio), runs in cells.items():
            if (at := point(runs, study.unit)) is None:
                continue
            # A curve of few sizes with all seeds of the arm is read before one of all sizes with few of its seeds.
            with_seeds = [p for p in curve if set(at.scores) <= set(p.scores)]
            read_on = with_seeds if len(with_seeds) >= 2 else curve
            needed = size_needed(at, read_on)
            if needed is None:
                notes.append(f"{pair}, {arm} at {at.size:,.0f}: no seed in common with all sizes of {study.reference_arm}")
                continue
            head = {"pair": pair, "arm": arm, "ratio": ratio, "size": size}
            answer = primary_answer(study, head, needed, read_on)
            reading = {**dataclasses.asdict(needed), "size": size, "at": needed.size, "primary": answer}
            rows.append({**head, "ratio_of_general": ratio, "reference_sizes": [p.size for p in read_on], **reading})
    return rows


def primary_answer(study: RecordedStudy, head: dict[str, Any], needed: Needed, curve: Sequence[Point]) -> dict[str, Any] | None:
    """The answer of the primary figure, and how often a study like this gives each answer; None for every other cell."""
    primary = study.primary
    if not primary or any(head[k] != primary[k] for k in ("pair", "arm", "size", "ratio")):
        return None
    low, high = needed.bounds()
    margin = float(primary["margin"])
    wanted = int(primary.get("seeds", 2))
    answer = verdict(low, high, margin) if len(needed.seeds) >= wanted else f"none yet: {len(needed.seeds)} of {wanted} seeds"
    return {"margin": margin, "answer": answer, "claim_ruled_out": high < CLAIM, "power": power_of(needed, curve, margin)}


def power_of(needed: Needed, curve: Sequence[Point], margin: float) -> list[dict[str, Any]]:
    """How often a study with this curve, these seeds and their spread gives each answer, for several truths."""
    seeds = needed.seeds
    if len(seeds) < 2:
        return []
    # The spread of a step of the curve over seeds is that of the difference of two runs.
    steps = [(math.log2(b.size / a.size), [b.scores[s] - a.scores[s] for s in seeds]) for a, b in itertools.pairwise(curve)]
    slope = spread([x / doublings for doublings, differences in steps for x in differences]).mean
    sd = spread([spread(differences).sd or 0.0 for _, differences in steps]).mean
    if slope <= 0:
        return []
    sizes = [round(p.size) for p in curve]
    shares = [(t, primary_power(t, slope, sd, len(seeds), sizes, round(needed.size), margin, trials=200)) for t in (1.0, margin, 2.0, 3.0, CLAIM)]
    return [{"truth": truth, "slope": slope, "sd": sd, **share} for truth, share in shares]
