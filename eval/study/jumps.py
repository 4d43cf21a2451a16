"""Whether the loss of single target tokens falls in one step or smoothly (the quantization hypothesis, Michaud et al., arXiv 2303.13506).

Reads the losses of every token that runs kept, over amounts of general data and along training; writes nothing. docs/results/study-design.md fixes the tests.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.scoring.significance import SEED
from eval.study.results import ScoredRun
from eval.study.stats import quarters, shuffled_within, step_test, unimodality_p

# More would show nothing new in Silverman's test, whose time grows with them.
MODE_TOKENS = 2000
SHUFFLES = 20
# A share of jumps counts as a sign where it is this much above that of shuffled changes, and p is below the level both over amounts and along training.
SIGN, SIGN_P = 0.05, 0.01


def over_amounts(cells: Sequence[Sequence[ScoredRun]]) -> dict[str, Any] | None:
    """The tests over amounts of general data: `cells` are the runs of each amount, in order. None for fewer than three amounts with the losses of tokens."""
    import numpy as np

    kept = [[r for r in runs if r.each] for runs in cells]
    kept = [runs for runs in kept if runs]
    if len(kept) < 3:
        return None
    seeds = sorted(set.intersection(*({r.row.seed for r in runs} for runs in kept)))
    lines = sorted(set.intersection(*(set(r.each) for runs in kept for r in runs)))
    if not seeds or not lines:
        return None
    each = np.array([[np.concatenate([r.each[n] for n in lines]) for r in sorted(runs, key=lambda r: r.row.seed) if r.row.seed in seeds] for runs in kept])
    amounts = [float(np.mean([r.row.tokens("general") for r in runs])) for runs in kept]
    return {"along": "general tokens", "amounts": amounts, "seeds": seeds, **tests(each)}


def along_training(runs: Sequence[ScoredRun], directory: Path) -> dict[str, Any] | None:
    """The tests along the training of one cell's runs, from their looks. None for fewer than three looks."""
    import numpy as np

    looks: dict[int, dict[int, list[float]]] = {}
    for run in runs:
        path = directory / "runs" / run.row.id / "looks.jsonl"
        if path.is_file():
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
            looks[run.row.seed] = {int(r["step"]): r["nats"] for r in rows}
    if not looks:
        return None
    # Runs stop early at different looks; what all have is compared.
    count = min(len(x) for x in looks.values())
    if count < 3:
        return None
    each = np.array([[[*by_step.values()][k] for by_step in looks.values()] for k in range(count)])
    steps = [float(np.mean([[*by_step][k] for by_step in looks.values()])) for k in range(count)]
    return {"along": "training steps", "amounts": steps, "seeds": sorted(looks), **tests(each)}


def tests(each: Any) -> dict[str, Any]:
    """`each` is (amounts, seeds, tokens) of nats."""
    import numpy as np

    mean = each.mean(1)
    changes = np.diff(mean, axis=0).T
    strata = quarters(mean[0])
    stepped = step_test(changes, strata=strata)
    moved, errors = mean[-1] - mean[0], _errors(each)
    sure = np.abs(moved) > 3 * errors if errors is not None else np.zeros(len(moved), dtype=bool)
    rng = np.random.default_rng(SEED)
    squared = changes**2
    by_chance = float(np.mean([_one_step(shuffled_within(squared, strata, rng))[sure].sum() for _ in range(SHUFFLES)])) if sure.any() else 0.0
    drawn = rng.choice(len(moved), min(MODE_TOKENS, len(moved)), replace=False)
    monogenic = _one_step(squared) & sure
    return {
        "tokens": int(each.shape[2]),
        "steps": None if stepped is None else dataclasses.asdict(stepped),
        "p_one_mode": unimodality_p(moved[drawn]),
        "moved": int(sure.sum()),
        "monogenic": int(monogenic.sum()),
        "monogenic_by_chance": by_chance,
        "sign": bool(stepped and stepped.p < SIGN_P and stepped.largest - stepped.shuffled >= SIGN),
        "curves": {name: _curves(mean, of, rng) for name, of in (("monogenic", monogenic), ("polygenic", sure & ~monogenic))},
        "shares": {"observed": _histogram(squared), "shuffled": _histogram(shuffled_within(squared, strata, rng))},
    }


def _one_step(squared: Any) -> Any:
    """Whether more than half of a token's squared change lies in one step."""
    import numpy as np

    totals = squared.sum(1)
    return (totals > 0) & (squared.max(1) > 0.5 * np.maximum(totals, 1e-12))


def _errors(each: Any) -> Any:
    """The standard error over seeds of each token's change from the first amount to the last; a token's own is noisy with few seeds, so it is the mean of the
    tokens whose loss is alike (tenths). None for one seed."""
    import numpy as np

    if each.shape[1] < 2:
        return None
    variance = (each[0].var(0, ddof=1) + each[-1].var(0, ddof=1)) / each.shape[1]
    level = each.mean((0, 1))
    tenths = np.searchsorted(np.quantile(level, np.arange(0.1, 1, 0.1)), level)
    means = np.array([variance[tenths == k].mean() if (tenths == k).any() else 0.0 for k in range(10)])
    return np.sqrt(means[tenths])


def _curves(mean: Any, of: Any, rng: Any) -> list[list[float]]:
    """The losses of twenty tokens of these at every amount, for the plot."""
    import numpy as np

    at = np.flatnonzero(of)
    return [[round(float(x), 3) for x in mean[:, i]] for i in sorted(rng.choice(at, min(20, len(at)), replace=False))] if len(at) else []


def _histogram(squared: Any) -> list[float]:
    """The shares of tokens by the part of their squared change that lies in the largest step, in twenty bins."""
    import numpy as np

    totals = squared.sum(1)
    parts = squared.max(1)[totals > 0] / totals[totals > 0]
    return [round(float(x), 5) for x in np.histogram(parts, bins=20, range=(0, 1))[0] / max(1, len(parts))]
