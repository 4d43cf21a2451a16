"""The figures of a study's report: the primary figure, tables and curves, from the results so far.

Reads what `eval.study.results` returns, for a study that is finished or not; writes nothing. `eval.study.report` writes the figures as summary.json, and the
page and the plots that are made from them.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eval.study.needed import Cell, counted, readings
from eval.study.over_general import over_general
from eval.study.power import POWER, smallest_effect
from eval.study.results import ResultRow, ScoredRun, StudyResults
from eval.study.stats import spread, t_interval


def summarise(results: StudyResults, directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of the page, and for the plots the change in loss of each example, by `picture_name`."""
    study = results.study
    trained: dict[Cell, list[ScoredRun]] = defaultdict(list)
    bare: dict[tuple[str, str], list[ScoredRun]] = defaultdict(list)
    for run in sorted(results.runs, key=lambda r: r.row.seed):
        r = run.row
        if r.train is None:
            bare[r.pair, r.arm].append(run)
        else:
            trained[r.pair, r.size, r.arm, r.ratio].append(run)
    notes = list(results.notes)
    order = [*study.arms, *sorted({c[2] for c in trained} - set(study.arms))]
    ratios = {arm: main_ratio(arm, trained) for arm in order if any(c[2] == arm for c in trained)}
    rows = [*(r.row for r in results.runs), *results.tuning]
    pairs = [p for p in dict.fromkeys([*study.pairs, *(r.pair for r in rows)]) if any(r.pair == p for r in rows)]
    sizes: dict[str, list[int | None]] = {p: sorted({c[1] for c in trained if c[0] == p}, key=lambda b: (b is None, b or 0)) for p in pairs}
    tables_of: dict[str, list[int | str | None]] = {p: list[int | str | None](sizes[p]) or ["none"] for p in pairs}
    general, losses, jumps, changes = over_general(trained, pairs, study.primary.get("ratio"), directory, notes)
    needed = readings(study, pairs, trained, notes)
    tuning_seeds = {r.seed for r in results.tuning}
    compared = {r.row.seed for r in results.runs if r.row.train}
    if both := sorted(tuning_seeds & compared):
        notes.append(f"seed {', '.join(map(str, both))} chose the learning rates and is compared too, which flatters the arms that were tuned")
    summary = {
        "study": study.name,
        "unit": study.unit,
        "reference_arm": study.reference_arm,
        "primary": study.primary,
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
        "missing": missing(results),
        "power": POWER,
        "tables": [score_table(p, b, trained, bare, ratios, results) for p in pairs for b in tables_of[p]],
        "tuning": tuning_rates(results, trained, pairs),
        "needed": needed,
        "general": general,
        "losses": losses,
        "jumps": jumps,
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


def main_ratio(arm: str, cells: Iterable[Cell]) -> float | None:
    """The ratio at which an arm is drawn over the task data: the one with runs at most sizes, and of equals the smallest."""
    counts: dict[float | None, int] = defaultdict(int)
    for cell in cells:
        if cell[2] == arm:
            counts[cell[3]] += 1
    return min(counts, key=lambda r: (-counts[r], r or 0))


def scored_on(results: StudyResults, pair: str) -> dict[str, Any]:
    """The names and sizes of the sets that runs and tuning runs of a pair were scored on."""
    runs, tuned = [r.row.dev for r in results.runs if r.row.pair == pair], [r.dev for r in results.tuning if r.pair == pair]
    names = {"names": sorted({d.name for d in runs if d.name}), "tuning_names": sorted({d.name for d in tuned if d.name})}
    return {**names, "segments": sorted({d.segments for d in runs}), "tuning_segments": sorted({d.segments for d in tuned})}


def missing(results: StudyResults) -> list[str]:
    """The cells of the study's stages that results.jsonl does not have, or has not with every seed."""
    study = results.study
    there: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for r in (run.row for run in results.runs):
        there[r.pair, r.arm, r.size, r.ratio or 0.0].add(r.seed)
    gaps: list[str] = []
    for stage in study.stages:
        for pair in stage.pairs or study.pairs:
            for arm in stage.arms:
                settings = study.arms.get(arm, {})
                if settings.get("kind") == "base":
                    seeds = stage.seeds if settings.get("shots") else [min(stage.seeds)]
                    gaps += missing_seeds(f"{stage.name}: {pair}, {arm}", seeds, there[pair, arm, None, 0.0])
                    continue
                for size in stage.sizes:
                    for ratio in stage.ratios:
                        at_ratio = f", general to task {ratio:g}" if ratio else ""
                        size_text_ = size_text(None if size == "all" else size, study.unit)
                        gaps += missing_seeds(
                            f"{stage.name}: {pair}, {arm}, {size_text_}{at_ratio}", stage.seeds, there[pair, arm, None if size == "all" else size, ratio]
                        )
    return list(dict.fromkeys(gaps))


def missing_seeds(cell: str, seeds: Sequence[int], seeds_run: set[int]) -> list[str]:
    if missing := [s for s in seeds if s not in seeds_run]:
        return [f"{cell}: no run" + (f" with seed {', '.join(map(str, missing))}" if seeds_run else "")]
    return []


def size_text(size: int | str | None, unit: str) -> str:
    what = "task pairs" if unit == "pairs" else "task tokens"
    return "all task data" if size is None else "no training" if size == "none" else f"{size:,} {what}"


def score_table(
    pair: str,
    size: int | str | None,
    trained: dict[Cell, list[ScoredRun]],
    bare: dict[tuple[str, str], list[ScoredRun]],
    ratios: dict[str, float | None],
    results: StudyResults,
) -> dict[str, Any]:
    """The table of one pair and size ("none" where no trained arm has run yet). Every table of a pair has its untrained arms."""
    reference = results.study.reference_arm
    order = [*results.study.arms, *sorted({c[2] for c in trained} - set(results.study.arms))]
    groups: list[tuple[str, float | None, list[ScoredRun]]] = [(arm, None, runs) for (p, arm), runs in bare.items() if p == pair]
    groups += [(c[2], c[3], runs) for c, runs in trained.items() if c[:2] == (pair, size)]
    groups.sort(key=lambda g: (g[2][0].row.train is not None, order.index(g[0]) if g[0] in order else len(order), g[1] or 0))
    target = [] if isinstance(size, str) else trained.get((pair, size, reference, ratios.get(reference)), [])
    rows: list[dict[str, Any]] = []
    for arm, ratio, runs in groups:
        in_training = runs[0].row.train is not None
        rows.append(
            {
                "arm": arm,
                "ratio": ratio,
                "trained": in_training,
                "learning_rates": sorted({r.row.learning_rate for r in runs if r.row.learning_rate is not None and in_training}),
                "passes": sorted({r.row.passes for r in runs if r.row.passes is not None and in_training}),
                "seeds": [r.row.seed for r in runs],
                "task_pairs": counted(runs, "pairs") if in_training else None,
                "task_tokens": spread([r.row.tokens("task") for r in runs]),
                "general_tokens": spread([r.row.tokens("general") for r in runs]),
                "trained_tokens": spread([r.row.train.tokens for r in runs if r.row.train]) if in_training else None,
                "segments": runs[0].row.dev.segments,
                **{name: {"all": spread(values) if (values := figures(runs, name)) else None, "each": values} for name in ("nats", "chrf2", "bleu")},
                "truncated": spread([float(r.row.dev.truncated) for r in runs]),
                "against": None if runs is target or not target else {name: against(runs, target, name) for name in ("nats", "chrf2")},
            }
        )
    return {"pair": pair, "size": size, "rows": rows, "reference_there": bool(target)}


def figures(runs: Sequence[ScoredRun], name: str) -> list[float]:
    return [float(x) for r in runs if (x := getattr(r, name)) is not None]


def against(runs: list[ScoredRun], target: list[ScoredRun], name: str) -> dict[str, Any] | None:
    """A cell minus the reference cell in one figure, over the seeds that both have, and the smallest difference that these seeds would have seen. A single
    run without training is compared with every seed of the reference. None where a side lacks the figure."""
    by_seed, target_by_seed = ({r.row.seed: getattr(r, name) for r in side if getattr(r, name) is not None} for side in (runs, target))
    if len(runs) == 1 and runs[0].row.train is None and by_seed:
        by_seed = dict.fromkeys(target_by_seed, *by_seed.values())
    seeds = [s for s in by_seed if s in target_by_seed]
    if not by_seed or not target_by_seed:
        return None
    differences = [float(by_seed[s] - target_by_seed[s]) for s in seeds]
    if not differences:
        return {"seeds": [], "mean": None, "interval": None, "seen_from": None}
    return {"seeds": seeds, "mean": spread(differences).mean, "interval": t_interval(differences), "seen_from": smallest_effect(differences)}


def tuning_rates(results: StudyResults, trained: dict[Cell, list[ScoredRun]], pairs: list[str]) -> list[dict[str, Any]]:
    """The learning rates that were tried. The chosen one is the rate of the runs, or before there are any, the best by the loss on the tuning segments (in
    studies by tokens, by chrF2)."""
    groups: dict[Cell, dict[float, list[ResultRow]]] = defaultdict(lambda: defaultdict(list))
    for row in results.tuning:
        groups[row.pair, row.size, row.arm, row.ratio][row.learning_rate or 0.0].append(row)
    by_loss = results.study.unit == "pairs"
    order = list(results.study.arms)
    cells = sorted(groups, key=lambda c: (pairs.index(c[0]), c[1] is None, c[1] or 0, order.index(c[2]) if c[2] in order else len(order), c[3] or 0))
    tables = []
    for cell in cells:
        tried = groups[cell]
        chrf2 = {lr: [float(r.dev.chrf2) for r in rows if r.dev.chrf2 is not None] for lr, rows in tried.items()}
        nats = {
            lr: [r.dev.nats_per_token for r in rows if r.dev.nats_per_token is not None and math.isfinite(r.dev.nats_per_token)] for lr, rows in tried.items()
        }
        scores = {lr: -spread(nats[lr]).mean if by_loss and nats[lr] else spread(chrf2[lr]).mean if chrf2[lr] and not by_loss else -math.inf for lr in tried}
        rates = [{r.row.learning_rate for r in runs} for c, runs in trained.items() if c == cell]
        used = sorted(lr for lr in set().union(*rates) if lr in tried) if rates else []
        best = max(scores, key=lambda lr: (scores[lr], -lr))
        chosen = used or [best]
        entries = []
        for lr in sorted(tried):
            means = {name: spread(values[lr]).mean if values[lr] else None for name, values in (("nats", nats), ("chrf2", chrf2))}
            entries.append(
                {"learning_rate": lr, "seeds": sorted(r.seed for r in tried[lr]), "segments": tried[lr][0].dev.segments, **means, "chosen": lr in chosen}
            )
        edge = len(tried) > 1 and any(lr in (min(tried), max(tried)) for lr in chosen)
        head = {"pair": cell[0], "size": cell[1], "arm": cell[2], "ratio": cell[3]}
        tables.append({**head, "tried": entries, "used": bool(used), "best": best, "by": "nats" if by_loss else "chrF2", "at_edge": edge})
    return tables
