"""Compare outputs of systems on the same segments: scores, paired tests, and where the outputs differ.

Reads texts from memory; writes nothing. It returns the content of compare.json, from which the tables and the page are made.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from eval.scoring.diagnose import diagnose, length_ratio
from eval.scoring.metrics import Metric, metric
from eval.scoring.scores import RESAMPLES, bootstrap_seed, score
from eval.scoring.significance import TRIALS, bootstrap, randomisation
from eval.scoring.system_outputs import ScoredSegments
from tell.errors import BadInput
from tell.files import sha256_bytes

FORMAT = 1
# ScoredSegments that are listed of those that gained most, and of those that lost most.
MOVED = 10
# Upper bounds of the groups by length, in characters of a segment.
LENGTHS = (25, 50, 100, 150, 200)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    measures: list[Metric]
    trials: int = TRIALS
    resamples: int = RESAMPLES


Groups = dict[str, list[int]]


def _check(segments: ScoredSegments, systems: dict[str, list[str]], places: dict[str, str]) -> None:
    n = len(segments.references)
    for name, hypotheses in systems.items():
        if len(hypotheses) != n:
            counts = f"{len(hypotheses):,} hypotheses and {n:,} references"
            raise BadInput(
                "hypotheses and references are not equally many", place=places.get(name, name), found=counts, valid="one line each for every segment"
            )
    for what, side in (("sources", segments.sources), ("document ids", segments.documents)):
        if side is not None and len(side) != n:
            raise BadInput(f"{what} and references are not equally many", found=f"{len(side):,} {what} and {n:,} references", valid="one for every segment")


def _repeated(segments: ScoredSegments) -> int:
    """The number of segments that repeat an earlier one, by source and reference."""
    sides = [segments.references] if segments.sources is None else [segments.sources, segments.references]
    return sum(n - 1 for n in Counter(zip(*sides, strict=True)).values())


def by_length(segments: ScoredSegments) -> Groups:
    texts = segments.references if segments.sources is None else segments.sources
    bounds = [0, *LENGTHS]
    names = [f"{a + 1 if a else 0}–{b}" for a, b in itertools.pairwise(bounds)] + [f"over {LENGTHS[-1]}"]
    groups: Groups = {name: [] for name in names}
    for i, text in enumerate(texts):
        groups[names[sum(len(text) > b for b in LENGTHS)]].append(i)
    return {name: rows for name, rows in groups.items() if rows}


def by_document(documents: Sequence[str]) -> Groups:
    groups: Groups = {}
    for i, name in enumerate(documents):
        groups.setdefault(name, []).append(i)
    return groups


def _grouped(groups: Groups, measures: list[Metric], statistics: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The scores of every system on each group of segments alone."""
    return [
        {
            "name": name,
            "segments": len(rows),
            "scores": {system: {m.key: round(m.of(rows_of[m.key][rows].sum(0)), 2) for m in measures} for system, rows_of in statistics.items()},
        }
        for name, rows in groups.items()
    ]


def _segment_changes(segments: ScoredSegments, base: list[str], hypotheses: list[str], first: list[float], second: list[float]) -> dict[str, Any]:
    """The segments that gained and lost most chrF2, and how many gained and lost. `first` and `second` are the chrF2 of each segment."""
    delta = [b - a for a, b in zip(first, second, strict=True)]
    order = sorted(range(len(delta)), key=lambda i: (-abs(delta[i]), i))

    def row(i: int) -> dict[str, Any]:
        context = {} if segments.sources is None else {"source": segments.sources[i]}
        context |= {} if segments.documents is None else {"document": segments.documents[i]}
        texts = {"reference": segments.references[i], "baseline": base[i], "hypothesis": hypotheses[i]}
        return {"segment": i + 1, "delta": round(delta[i], 2), "chrf": [round(first[i], 2), round(second[i], 2)], **texts, **context}

    better, worse = [i for i in order if delta[i] > 1e-9], [i for i in order if delta[i] < -1e-9]
    counts = {"better": len(better), "worse": len(worse), "same": len(delta) - len(better) - len(worse)}
    return {**counts, "up": [row(i) for i in better[:MOVED]], "down": [row(i) for i in worse[:MOVED]], "deltas": [round(d, 1) for d in delta]}


def compare(
    segments: ScoredSegments, systems: dict[str, list[str]], settings: Settings, places: dict[str, str] | None = None, step: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """The content of compare.json. The others are compared with the first system; `step` is called with the name of each system before it is scored.

    Raises BadInput when hypotheses, sources or document ids are not as many as the references.
    """
    _check(segments, systems, places or {})
    measures, seed, names = settings.measures, int(bootstrap_seed()), list(systems)
    segment_metric = next((m for m in measures if m.key == "chrf"), None) or metric("chrf", segments.pair)
    statistics: dict[str, dict[str, Any]] = {}
    reports: dict[str, dict[str, Any]] = {}
    segment_scores: dict[str, list[float]] = {}
    for name, hypotheses in systems.items():
        if step:
            step(name)
        statistics[name] = {m.key: m.statistics(hypotheses, segments.references, segments.sources) for m in measures}
        chrf_rows = statistics[name]["chrf"] if segment_metric in measures else segment_metric.statistics(hypotheses, segments.references)
        segment_scores[name] = [segment_metric.of(row) for row in chrf_rows]
        diagnosis = None
        if segments.pair is not None and segments.sources is not None:
            diagnosis = diagnose(segments.pair, segments.sources, hypotheses, segments.references)
        reports[name] = {
            "place": (places or {}).get(name),
            "sha256": sha256_bytes("\n".join(hypotheses).encode(errors="surrogatepass")),
            "scores": {m.key: score(m, statistics[name][m.key], settings.resamples) for m in measures},
            "empty": sum(not h.strip() for h in hypotheses),
            "length_ratio": length_ratio(hypotheses, segments.references),
            "diagnostics": None if diagnosis is None else diagnosis.row(),
        }
    base = names[0]
    comparisons = []
    for name in names[1:]:
        for m in measures:
            a, b = statistics[base][m.key], statistics[name][m.key]
            by_trials, by_resamples = randomisation(m, a, b, settings.trials, seed), bootstrap(m, a, b, settings.resamples, seed)
            better = None if by_trials.delta == 0 else (by_trials.delta > 0) == m.higher_is_better
            comparisons.append(
                {
                    "system": name,
                    "metric": m.key,
                    "delta": by_trials.delta,
                    "better": better,
                    "differing": by_trials.differing,
                    "randomisation": {"p": by_trials.p, "signature": by_trials.signature},
                    "bootstrap": dataclasses.asdict(by_resamples),
                }
            )
    return {
        "format": FORMAT,
        "segments": len(segments.references),
        "repeated": _repeated(segments),
        "pair": None if segments.pair is None else str(segments.pair),
        "reference_sha256": sha256_bytes("\n".join(segments.references).encode(errors="surrogatepass")),
        "metrics": [{"key": m.key, "name": m.name, "higher_is_better": m.higher_is_better} for m in measures],
        "baseline": base,
        "order": names,
        "systems": reports,
        "comparisons": comparisons,
        "lengths": {"of": "reference" if segments.sources is None else "source", "groups": _grouped(by_length(segments), measures, statistics)},
        "documents": None if segments.documents is None else _grouped(by_document(segments.documents), measures, statistics),
        "moved": {name: _segment_changes(segments, systems[base], systems[name], segment_scores[base], segment_scores[name]) for name in names[1:]},
        "settings": {"trials": settings.trials, "resamples": settings.resamples, "seed": seed},
    }
