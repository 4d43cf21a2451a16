"""A comparison as one self-contained HTML page: no script, no font and no picture from elsewhere.

Reads the result of `eval.compare.compare.compare` and the template page.html; writes nothing.
"""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any

from eval.compare.terminal import comparison, documents_by_spread, main_metric, p_value_or_bound, system_names, verdict

# Documents in the plot; the table has all of them.
DOCUMENTS = 25
# Width of a histogram's bars, in points of chrF2.
BAR = 5
# Number of colours; a ninth system has the first one again.
COLOURS = 8


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that span the values."""
    span = max(high - low, 1e-9)
    rough = span / count
    size = 10 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def axis(values: list[float], zero: bool = False) -> dict[str, Any]:
    """A scale for these values: its ends, and its ticks with their places in percent of the width."""
    marks = ticks(min([*values, *([0.0] if zero else [])]), max([*values, *([0.0] if zero else [])]))
    if len(marks) == 1:
        marks = [marks[0] - 1, marks[0], marks[0] + 1]
    low, high = marks[0], marks[-1]
    labels = [f"{t:+g}" if zero and t else f"{t:g}" for t in marks]
    return {"low": low, "high": high, "ticks": [{"at": place(t, low, high), "text": text} for t, text in zip(marks, labels, strict=True)]}


def place(x: float, low: float, high: float) -> float:
    """The place of a value in percent of the width, with a margin on both sides, so that nothing is cut off."""
    return round(2 + 96 * (x - low) / (high - low), 2)


def differences(result: dict[str, Any]) -> list[dict[str, Any]]:
    """For each metric, a row for each system that is compared with the baseline."""
    draws = result["settings"]
    plots = []
    for m in result["metrics"]:
        comparisons = [(n, c) for n in system_names(result)[1:] if (c := comparison(result, n, m["key"])) is not None]
        scale = axis([x for _, c in comparisons for x in (c["bootstrap"]["low"], c["bootstrap"]["high"], c["delta"])], zero=True)
        rows = []
        for name, c in comparisons:
            places = {
                k: place(v, scale["low"], scale["high"]) for k, v in (("low", c["bootstrap"]["low"]), ("high", c["bootstrap"]["high"]), ("dot", c["delta"]))
            }
            ps = p_value_or_bound(c["randomisation"]["p"], draws["trials"]), p_value_or_bound(c["bootstrap"]["p"], draws["resamples"])
            text = f"{c['delta']:+.2f}", f"[{c['bootstrap']['low']:+.2f}, {c['bootstrap']['high']:+.2f}]"
            rows.append(
                {"name": name, **places, "delta": text[0], "span": text[1], "ar": ps[0], "bs": ps[1], "verdict": verdict(c), "differing": c["differing"]}
            )
        zero = place(0, scale["low"], scale["high"])
        plots.append({"name": m["name"], "less": not m["higher_is_better"], "rows": rows, "ticks": scale["ticks"], "zero": zero})
    return plots


def dots(result: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """A row for each group of segments with a dot for each system, by the main metric."""
    key = main_metric(result)["key"]
    scale = axis([s[key] for g in groups for s in g["scores"].values()])
    rows = []
    for g in groups:
        points: list[dict[str, Any]] = []
        for i, name in enumerate(system_names(result)):
            score = g["scores"][name][key]
            points.append({"at": place(score, scale["low"], scale["high"]), "colour": i % COLOURS, "title": f"{name}: {score:.1f}"})
        ends = [p["at"] for p in points]
        rows.append({"name": g["name"], "segments": g["segments"], "points": points, "low": min(ends), "high": max(ends)})
    return {"rows": rows, "ticks": scale["ticks"]}


def histogram(moved: dict[str, Any]) -> dict[str, Any]:
    """The number of segments by their change, in bars of BAR points. Segments without a change are in no bar."""
    counts: dict[int, int] = {}
    for d in moved["deltas"]:
        if d:
            counts[math.floor(d / BAR)] = counts.get(math.floor(d / BAR), 0) + 1
    far = max((max(-k, k + 1) for k in counts), default=1)
    far = 4 * -(-far // 4)
    most = max(counts.values(), default=1)
    bars = []
    for k, n in sorted(counts.items()):
        box = {"left": round(50 + 50 * k / far, 3), "width": round(50 / far, 3), "height": round(100 * n / most, 2)}
        bars.append({**box, "up": k >= 0, "title": f"{k * BAR:+d} to {(k + 1) * BAR:+d}: {n:,}"})
    marks = [{"at": 50 + 50 * k / 2, "text": f"{k * far * BAR // 2:+d}" if k else "0"} for k in (-2, -1, 0, 1, 2)]
    return {"bars": bars, "ticks": marks, "most": most}


def words(text: str, reference: str) -> list[tuple[str, bool]]:
    """The text in runs of words, each with whether the reference has these words in the same order."""
    tokens = text.split(" ")
    matcher = difflib.SequenceMatcher(None, [w.casefold() for w in tokens], [w.casefold() for w in reference.split(" ")], autojunk=False)
    runs, end = [], 0
    for start, _, size in matcher.get_matching_blocks():
        if start > end:
            runs.append((" ".join(tokens[end:start]), False))
        if size:
            runs.append((" ".join(tokens[start : start + size]), True))
        end = start + size
    return runs


def changed_segments(result: dict[str, Any], name: str) -> dict[str, Any]:
    """The segments on which a system gained and lost most, with their words marked."""
    m = result["moved"][name]

    def row(r: dict[str, Any]) -> dict[str, Any]:
        marked = {side: words(r[side], r["reference"]) for side in ("baseline", "hypothesis")}
        return {**r, **{f"{side}_words": runs for side, runs in marked.items()}}

    return {"name": name, **{k: m[k] for k in ("better", "worse", "same")}, "up": [row(r) for r in m["up"]], "down": [row(r) for r in m["down"]]}


def comparison_page(result: dict[str, Any]) -> str:
    """The whole page."""
    import jinja2

    names = system_names(result)
    measure = main_metric(result)
    pair = result["pair"]
    tags = (None, None) if pair is None else tuple(pair.split(":" if ":" in pair else "-", 1))
    diagnosed = all(result["systems"][n]["diagnostics"] is not None for n in names)
    flags = list(result["systems"][names[0]]["diagnostics"]["flags"]) if diagnosed else []
    documents = documents_by_spread(result, len(result["documents"])) if result["documents"] else []
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        r=result,
        names=names,
        colour={n: i % COLOURS for i, n in enumerate(names)},
        measure=measure,
        tags=tags,
        flags=[f for f in flags if any(result["systems"][n]["diagnostics"]["flags"][f] for n in names)],
        diagnosed=diagnosed,
        differences=differences(result),
        lengths=dots(result, result["lengths"]["groups"]),
        documents=dots(result, documents[:DOCUMENTS]) if documents else None,
        every_document=documents,
        histograms={n: histogram(result["moved"][n]) for n in names[1:]},
        moved=[changed_segments(result, n) for n in names[1:]],
    )
