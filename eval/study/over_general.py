"""What more general data does to an arm: its outcome over amounts, how each held-out segment's loss moves, and whether single tokens' losses fall in one step.

Reads scored runs; writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from eval.study.jumps import along_training, over_amounts
from eval.study.needed import Cell
from eval.study.results import ScoredRun
from eval.study.stats import StepTest, spread, step_test, unimodality_p


def picture_name(pair: str, size: int | None, arm: str) -> str:
    return f"{pair}-{'all' if size is None else size}-{arm}"


def over_general(
    trained: dict[Cell, list[ScoredRun]], pairs: list[str], looked: float | None, directory: Path, notes: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Arms with several ratios at one pair and size: their outcome over general tokens, how each segment's loss moves, and the tests on tokens. Along training
    these are made at the ratio `looked`, or at all of them."""
    groups: dict[tuple[str, int | None, str], list[list[ScoredRun]]] = defaultdict(list)
    for cell, runs in trained.items():
        groups[cell[:3]].append(runs)
    general: list[dict[str, Any]] = []
    losses: list[dict[str, Any]] = []
    jumps: list[dict[str, Any]] = []
    changes: dict[str, Any] = {}
    for (pair, size, arm), cells in sorted(groups.items(), key=lambda g: (pairs.index(g[0][0]), g[0][1] is None, g[0][1] or 0, g[0][2])):
        if len(cells) < 2:
            continue
        ordered = sorted(cells, key=lambda runs: spread([r.row.tokens("general") for r in runs]).mean)
        points = [
            {
                "ratio": runs[0].row.ratio,
                "general_tokens": spread([r.row.tokens("general") for r in runs]).mean,
                "seeds": [r.row.seed for r in runs],
                **{name: {"all": spread(values) if (values := _figures(runs, name)) else None, "each": values} for name in ("nats", "chrf2")},
            }
            for runs in ordered
        ]
        head = {"pair": pair, "size": size, "arm": arm}
        general.append({**head, "points": points})
        if (loss_rows := loss_changes(ordered)) is not None:
            row, matrix = loss_rows
            losses.append({**head, **row})
            changes[picture_name(pair, size, arm)] = matrix
        else:
            notes.append(f"{pair}, {'all' if size is None else f'{size:,}'}, {arm}: no seed has losses per segment at two amounts of general data")
        found = [over_amounts(ordered), *(along_training(runs, directory) if runs[0].row.ratio == (looked or runs[0].row.ratio) else None for runs in ordered)]
        for test, ratio in zip(found, [None, *(runs[0].row.ratio for runs in ordered)], strict=True):
            if test is not None:
                jumps.append({**head, "ratio": ratio, **test})
    return general, losses, jumps, changes


def _figures(runs: list[ScoredRun], name: str) -> list[float]:
    return [float(x) for r in runs if (x := getattr(r, name)) is not None]


def loss_changes(cells: list[list[ScoredRun]]) -> tuple[dict[str, Any], Any] | None:
    """Each dev segment's nats/token at every amount of general data minus that at the smallest, over the seeds that all amounts have."""
    import numpy as np

    with_losses = [[r for r in runs if r.losses] for runs in cells]
    with_losses = [runs for runs in with_losses if runs]
    if len(with_losses) < 2:
        return None
    seeds = sorted(set.intersection(*({r.row.seed for r in runs} for runs in with_losses)))
    lines = sorted(set.intersection(*(set(r.losses) for runs in with_losses for r in runs)))
    if not seeds or not lines:
        return None
    # amounts, seeds, segments
    each = np.array([[[r.losses[n][1] / r.losses[n][0] for n in lines] for r in runs if r.row.seed in seeds] for runs in with_losses])
    mean = each.mean(1)
    change = mean[1:] - mean[0]
    steps: StepTest | None = step_test(np.diff(mean, axis=0).T)
    amounts = [spread([r.row.tokens("general") for r in runs]).mean for runs in with_losses]
    row = {
        "seeds": seeds,
        "segments": len(lines),
        "ratios": [runs[0].row.ratio for runs in with_losses],
        "amounts": amounts,
        "changes": [
            {
                "general_tokens": amounts[k + 1],
                "mean": float(c.mean()),
                "sd": float(c.std(ddof=1)) if len(lines) > 1 else None,
                "deciles": [float(np.quantile(c, q)) for q in (0.1, 0.5, 0.9)],
                "falling": int((c < 0).sum()),
                "p_one_mode": unimodality_p(c),
            }
            for k, c in enumerate(change)
        ],
        # What another seed alone does to a segment's loss, mean over segments and amounts.
        "seed_sd": float(each.std(1, ddof=1).mean()) if len(seeds) > 1 else None,
        "steps": steps,
    }
    return row, change
