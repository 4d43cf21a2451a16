"""The figures of a study's report: tables, tests and curves, from the results so far.

Reads what `eval.study.results` returns, for a study that is finished or not; writes nothing. `eval.study.report` writes the figures as summary.json, and the
page and the plots that are made from them.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from eval.scoring.significance import METHOD, SEED, TRIALS
from eval.study.results import ResultRow, ScoredRun, StudyResults
from eval.study.stats import RESAMPLES, StepTest, chrf_of, holm, randomisation_p, spread, step_test, t_interval, tokens_needed, unimodality_p

# pair, budget (None is all task data), arm, ratio
Cell = tuple[str, int | None, str, float | None]
# Fewer than this in every run of a comparison cannot be told apart: with n segments the smallest possible p is 2^(1-n).
MIN_SEGMENTS = 10


def summarise(results: StudyResults) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of the page, and for the plots the change in loss of each example, by `picture_name`."""
    study = results.study
    trained: dict[Cell, list[ScoredRun]] = defaultdict(list)
    bare: dict[tuple[str, str], list[ScoredRun]] = defaultdict(list)
    for run in sorted(results.runs, key=lambda r: r.row.seed):
        r = run.row
        if r.train is None:
            bare[r.pair, r.arm].append(run)
        else:
            trained[r.pair, r.budget, r.arm, r.ratio].append(run)
    notes = list(results.notes)
    order = [*study.arms, *sorted({c[2] for c in trained} - set(study.arms))]
    ratios = {arm: main_ratio(arm, trained, study.arms.get(arm, {}).get("ratios") or study.ratios) for arm in order if any(c[2] == arm for c in trained)}
    rows = [*(r.row for r in results.runs), *results.tuning]
    pairs = [p for p in dict.fromkeys([*study.pairs, *(r.pair for r in rows)]) if any(r.pair == p for r in rows)]
    budgets: dict[str, list[int | None]] = {p: sorted({c[1] for c in trained if c[0] == p}, key=lambda b: (b is None, b or 0)) for p in pairs}
    tables_of: dict[str, list[int | str | None]] = {p: list[int | str | None](budgets[p]) or ["none"] for p in pairs}
    general, losses, changes = over_general(trained, pairs, notes)
    summary = {
        "study": study.name,
        "reference_arm": study.reference_arm,
        "pairs": {p: {**scored_on(results, p), "signatures": results.signatures[p]} for p in pairs},
        "seeds": sorted({r.seed for r in rows}),
        "runs": len(results.runs),
        "tuning_runs": len(results.tuning),
        "bases": distinct(r.base for r in rows),
        "versions": distinct(r.versions for r in rows),
        "machines": distinct(r.machine for r in rows),
        "finished": [f(r.finished for r in rows if r.finished) for f in (min, max)] if any(r.finished for r in rows) else None,
        "main_ratio": ratios,
        "tuned_as": {arm: settings["tuned_as"] for arm, settings in study.arms.items() if settings.get("tuned_as")},
        "missing": missing(results, trained, bare),
        "test": {"metric": "chrF2", "method": METHOD, "trials": TRIALS, "seed": SEED, "correction": "Holm, over one table"},
        "tables": [score_table(p, b, trained, bare, ratios, results) for p in pairs for b in tables_of[p]],
        "tuning": tuning_rates(results, trained, pairs),
        "needed": needed_table(pairs, budgets, trained, ratios, study.reference_arm, notes),
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED},
        "general": general,
        "losses": losses,
        "notes": list(dict.fromkeys(notes)),
    }
    return plain(summary), changes


def plain(value: Any) -> Any:
    """The value as JSON can have it: numbers that are not finite become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values that are not empty, each once, in their order."""
    distinct: list[Any] = []
    for value in values:
        if value and value not in distinct:
            distinct.append(value)
    return distinct


def main_ratio(arm: str, cells: Iterable[Cell], listed: Sequence[float]) -> float | None:
    """The ratio at which an arm is drawn over task tokens: the one with runs at most budgets, and of equals the first that is listed."""
    counts: dict[float | None, int] = defaultdict(int)
    for cell in cells:
        if cell[2] == arm:
            counts[cell[3]] += 1
    return min(counts, key=lambda r: (-counts[r], listed.index(r) if r in listed else len(listed), r or 0))


def scored_on(results: StudyResults, pair: str) -> dict[str, Any]:
    """The names and sizes of the sets that runs and tuning runs of a pair were scored on."""
    runs, tuned = [r.row.dev for r in results.runs if r.row.pair == pair], [r.dev for r in results.tuning if r.pair == pair]
    names = {"names": sorted({d.name for d in runs if d.name}), "tuning_names": sorted({d.name for d in tuned if d.name})}
    return {**names, "segments": sorted({d.segments for d in runs}), "tuning_segments": sorted({d.segments for d in tuned})}


def missing(results: StudyResults, trained: dict[Cell, list[ScoredRun]], bare: dict[tuple[str, str], list[ScoredRun]]) -> list[str]:
    """The runs of the study that results.jsonl does not have."""
    study = results.study
    gaps: list[str] = []

    def setting(arm: str, key: str, every: Sequence[Any]) -> list[Any]:
        return list(study.arms[arm].get(key) or every)

    for pair in study.pairs:
        for arm, settings in study.arms.items():
            seeds = setting(arm, "seeds", study.seeds)
            if (pair, arm) in bare or settings.get("kind") == "base":
                # Without examples in the prompt nothing depends on the seed.
                seeds_run = {r.row.seed for r in bare.get((pair, arm), [])}
                seeds_needed = seeds if settings.get("shots") else seeds[: not seeds_run]
                gaps += missing_seeds(f"{pair}, {arm}", seeds_needed, seeds_run)
                continue
            cells = {c: {r.row.seed for r in runs} for c, runs in trained.items() if (c[0], c[2]) == (pair, arm)}
            if not cells:
                gaps.append(f"{pair}, {arm}: no run")
                continue
            for budget in (None if b == "all" else b for b in setting(arm, "budgets", study.budgets)):
                ratios = settings.get("ratios") or study.ratios or sorted({c[3] or 0 for c in cells if c[1] == budget})
                if not any(c[1] == budget for c in cells):
                    gaps.append(f"{pair}, {arm}, {budget_text(budget)}: no run")
                    continue
                for ratio in ratios:
                    at_ratio = f", general to task {ratio:g}" if len(ratios) > 1 else ""
                    gaps += missing_seeds(f"{pair}, {arm}, {budget_text(budget)}{at_ratio}", seeds, cells.get((pair, budget, arm, ratio), set()))
    return gaps


def missing_seeds(cell: str, seeds: Sequence[int], seeds_run: set[int]) -> list[str]:
    if missing := [s for s in seeds if s not in seeds_run]:
        return [f"{cell}: no run" + (f" with seed {', '.join(map(str, missing))}" if seeds_run else "")]
    return []


def budget_text(budget: int | str | None) -> str:
    return "all task data" if budget is None else "no training" if budget == "none" else f"{budget:,} task tokens"


def score_table(
    pair: str,
    budget: int | str | None,
    trained: dict[Cell, list[ScoredRun]],
    bare: dict[tuple[str, str], list[ScoredRun]],
    ratios: dict[str, float | None],
    results: StudyResults,
) -> dict[str, Any]:
    """The table of one pair and budget ("none" where no trained arm has run yet). Every table of a pair has its untrained arms."""
    reference = results.study.reference_arm
    order = [*results.study.arms, *sorted({c[2] for c in trained} - set(results.study.arms))]
    groups: list[tuple[str, float | None, list[ScoredRun]]] = [(arm, None, runs) for (p, arm), runs in bare.items() if p == pair]
    groups += [(c[2], c[3], runs) for c, runs in trained.items() if c[:2] == (pair, budget)]
    groups.sort(key=lambda g: (g[2][0].row.train is not None, order.index(g[0]) if g[0] in order else len(order), g[1] or 0))
    target = [] if isinstance(budget, str) else trained.get((pair, budget, reference, ratios.get(reference)), [])
    rows: list[dict[str, Any]] = []
    for arm, ratio, runs in groups:
        nats = [r.nats for r in runs if r.nats is not None]
        rows.append(
            {
                "arm": arm,
                "ratio": ratio,
                "trained": runs[0].row.train is not None,
                "learning_rates": sorted({r.row.learning_rate for r in runs if r.row.learning_rate is not None and r.row.train is not None}),
                "epochs": sorted({r.row.epochs for r in runs if r.row.epochs is not None and r.row.train is not None}),
                "seeds": [r.row.seed for r in runs],
                "task_tokens": spread([r.row.tokens("task") for r in runs]),
                "general_tokens": spread([r.row.tokens("general") for r in runs]),
                "seconds": spread([r.row.train.seconds for r in runs if r.row.train is not None]) if runs[0].row.train else None,
                "segments": runs[0].row.dev.segments,
                "each": [r.chrf2 for r in runs],
                "chrf2": spread([r.chrf2 for r in runs]),
                "bleu": spread([r.bleu for r in runs]),
                "nats": spread(nats) if nats else None,
                "nats_missing": len(runs) - len(nats),
                "truncated": spread([float(r.row.dev.truncated) for r in runs]),
                "against": None if runs is target or not target else against(runs, target),
            }
        )
    tested = [r["against"] for r in rows if r["against"] and r["against"]["p"] is not None]
    for comparison, p in zip(tested, holm([c["p"] for c in tested]), strict=True):
        comparison["p_holm"] = p
    return {"pair": pair, "budget": budget, "rows": rows, "reference_there": bool(target), "comparisons": len(tested)}


def against(runs: list[ScoredRun], target: list[ScoredRun]) -> dict[str, Any]:
    """A cell minus the reference cell, over the seeds that both have. A single run without training is compared with every seed of the reference."""
    import numpy as np

    by_seed = {r.row.seed: r for r in runs}
    target_by_seed = {r.row.seed: r for r in target}
    single = len(runs) == 1 and runs[0].row.train is None
    pairs = [(runs[0], t) for t in target] if single else [(by_seed[s], target_by_seed[s]) for s in by_seed if s in target_by_seed]
    seeds = [t.row.seed for _, t in pairs]
    empty = {"chrf2": None, "interval": None, "bleu": None, "nats": None, "pooled": None, "p": None, "p_holm": None, "p_by_segment": None}
    comparison: dict[str, Any] = {"seeds": seeds, **empty, "pooled_segments": 0, "differing": None}
    if not pairs:
        return comparison
    chrf2 = [a.chrf2 - b.chrf2 for a, b in pairs]
    nats = [a.nats - b.nats for a, b in pairs if a.nats is not None and b.nats is not None]
    mean_nats = spread(nats).mean if nats else None
    comparison |= {"chrf2": spread(chrf2).mean, "interval": t_interval(chrf2), "bleu": spread([a.bleu - b.bleu for a, b in pairs]).mean, "nats": mean_nats}
    tested = [(a, b) for a, b in pairs if a.stats is not None and b.stats is not None]
    if len(tested) < len(pairs) or len(tested[0][0].stats) < MIN_SEGMENTS:
        return comparison
    first, second = np.stack([b.stats for _, b in tested]), np.stack([a.stats for a, _ in tested])
    pooled = [s.reshape(-1, s.shape[-1]) for s in (first, second)]
    comparison |= {"pooled": float(chrf_of(pooled[1].sum(0)) - chrf_of(pooled[0].sum(0))), "p": randomisation_p(*pooled)}
    comparison |= {"pooled_segments": len(pooled[0]), "differing": int((pooled[0] != pooled[1]).any(axis=1).sum())}
    # The seeds translate the same segments, so the pooled test counts each several times; here each is swapped in all seeds or in none.
    comparison["p_by_segment"] = randomisation_p(first.sum(0), second.sum(0))
    return comparison


def tuning_rates(results: StudyResults, trained: dict[Cell, list[ScoredRun]], pairs: list[str]) -> list[dict[str, Any]]:
    """The learning rates that were tried. The chosen one is the rate of the runs, or before there are any, the best by chrF2."""
    groups: dict[Cell, dict[float, list[ResultRow]]] = defaultdict(lambda: defaultdict(list))
    for row in results.tuning:
        groups[row.pair, row.budget, row.arm, row.ratio][row.learning_rate or 0.0].append(row)
    order = list(results.study.arms)
    cells = sorted(groups, key=lambda c: (pairs.index(c[0]), c[1] is None, c[1] or 0, order.index(c[2]) if c[2] in order else len(order), c[3] or 0))
    tables = []
    for cell in cells:
        tried = groups[cell]
        scores = {lr: spread([r.dev.chrf2 for r in rows]).mean for lr, rows in tried.items()}
        rates = [{r.row.learning_rate for r in runs} for c, runs in trained.items() if c == cell]
        rates = rates or [{r.row.learning_rate for r in runs} for c, runs in trained.items() if (c[0], c[2]) == (cell[0], cell[2])]
        used = sorted(lr for lr in set().union(*rates) if lr in tried) if rates else []
        best = max(scores, key=lambda lr: scores[lr])
        chosen = used or [best]
        entries = []
        for lr in sorted(tried):
            nats = [r.dev.nats_per_token for r in tried[lr] if r.dev.nats_per_token is not None and math.isfinite(r.dev.nats_per_token)]
            entries.append(
                {
                    "learning_rate": lr,
                    "seeds": sorted(r.seed for r in tried[lr]),
                    "segments": tried[lr][0].dev.segments,
                    "chrf2": scores[lr],
                    "bleu": spread([r.dev.bleu for r in tried[lr]]).mean,
                    "nats": spread(nats).mean if nats else None,
                    "chosen": lr in chosen,
                }
            )
        edge = len(tried) > 1 and any(lr in (min(tried), max(tried)) for lr in chosen)
        head = {"pair": cell[0], "budget": cell[1], "arm": cell[2], "ratio": cell[3]}
        tables.append({**head, "tried": entries, "used": bool(used), "best_chrf2": best, "at_edge": edge})
    return tables


def needed_table(
    pairs: list[str],
    budgets: dict[str, list[int | None]],
    trained: dict[Cell, list[ScoredRun]],
    ratios: dict[str, float | None],
    reference: str,
    notes: list[str],
) -> list[dict[str, Any]]:
    """For each pair and arm: the task tokens that the reference needs for the same chrF2."""

    def curve(pair: str, arm: str) -> dict[int | None, tuple[float, list[Any]]]:
        points = {}
        for budget in budgets[pair]:
            runs = [r for r in trained.get((pair, budget, arm, ratios[arm]), []) if r.stats is not None]
            tokens = spread([r.row.tokens("task") for r in runs]).mean if runs else 0
            if tokens > 0:
                points[budget] = (tokens, [r.stats for r in runs])
        return points

    tables: list[dict[str, Any]] = []
    for pair in pairs:
        if reference not in ratios:
            continue
        reference_curve = curve(pair, reference)
        arms = [a for a in ratios if a != reference and curve(pair, a)]
        if len(reference_curve) < 2:
            if arms:
                notes.append(f"{pair}: {reference} has {len(reference_curve)} of the 2 budgets that its curve needs")
            continue
        for arm in arms:
            arm_curve = curve(pair, arm)
            order = sorted(arm_curve, key=lambda b: arm_curve[b][0])
            readings = tokens_needed([arm_curve[b] for b in order], list(reference_curve.values()))
            seeds = [len(arm_curve[b][1]) for b in order]
            rows = [{"budget": b, "seeds": n, **dataclasses.asdict(r)} for b, n, r in zip(order, seeds, readings, strict=True)]
            tokens = sorted(t for t, _ in reference_curve.values())
            tables.append({"pair": pair, "arm": arm, "ratio": ratios[arm], "reference_tokens": tokens, "readings": rows})
    return tables


def picture_name(pair: str, budget: int | None, arm: str) -> str:
    return f"{pair}-{'all' if budget is None else budget}-{arm}"


def over_general(trained: dict[Cell, list[ScoredRun]], pairs: list[str], notes: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Arms with several ratios at one pair and budget: their chrF2 over general tokens, and how each example's loss moves."""
    groups: dict[tuple[str, int | None, str], list[list[ScoredRun]]] = defaultdict(list)
    for cell, runs in trained.items():
        groups[cell[:3]].append(runs)
    general: list[dict[str, Any]] = []
    losses: list[dict[str, Any]] = []
    changes: dict[str, Any] = {}
    for (pair, budget, arm), cells in sorted(groups.items(), key=lambda g: (pairs.index(g[0][0]), g[0][1] is None, g[0][1] or 0, g[0][2])):
        if len(cells) < 2:
            continue
        ordered = sorted(cells, key=lambda runs: spread([r.row.tokens("general") for r in runs]).mean)
        points = [
            {
                "ratio": runs[0].row.ratio,
                "general_tokens": spread([r.row.tokens("general") for r in runs]).mean,
                "seeds": [r.row.seed for r in runs],
                "each": [r.chrf2 for r in runs],
                "chrf2": spread([r.chrf2 for r in runs]),
                "nats": spread([r.nats for r in runs if r.nats is not None]) if any(r.nats is not None for r in runs) else None,
            }
            for runs in ordered
        ]
        head = {"pair": pair, "budget": budget, "arm": arm}
        general.append({**head, "points": points})
        if (loss_rows := loss_changes(ordered)) is not None:
            row, matrix = loss_rows
            losses.append({**head, **row})
            changes[picture_name(pair, budget, arm)] = matrix
        else:
            notes.append(f"{pair}, {budget_text(budget)}, {arm}: no seed has losses per segment at two amounts of general data")
    return general, losses, changes


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
