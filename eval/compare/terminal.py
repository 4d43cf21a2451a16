"""A comparison as tables for the terminal. Reads the result of `eval.compare.compare.compare`; writes nothing."""

from __future__ import annotations

from typing import Any

from tell.console import table

# Documents, segments of each direction, and characters of a text that the terminal shows; the page and compare.json have more.
DOCUMENTS, MOVED, TEXT_WIDTH = 5, 3, 300


def p_value_or_bound(p: float, draws: int) -> str:
    """p as text. The smallest p that so many draws can give is a bound, not a value."""
    least = 1 / (draws + 1)
    return f"< {2 * least:.4f}" if p <= least * 1.0001 else f"{p:.4f}"


def system_names(result: dict[str, Any]) -> list[str]:
    """The systems' names, the baseline first."""
    return list(result["order"])


def comparison(result: dict[str, Any], system: str, metric: str) -> dict[str, Any] | None:
    """The comparison of a system with the baseline by a metric; None for the baseline."""
    return next((c for c in result["comparisons"] if (c["system"], c["metric"]) == (system, metric)), None)


def main_metric(result: dict[str, Any]) -> dict[str, Any]:
    """The metric of the breakdowns: chrF2 where it was computed, since it is meaningful for few segments too."""
    metrics: list[dict[str, Any]] = result["metrics"]
    return next((m for m in metrics if m["key"] == "chrf"), metrics[0])


def verdict(c: dict[str, Any]) -> str:
    """A comparison in one word."""
    if c["randomisation"]["p"] >= 0.05 or c["better"] is None:
        return "unclear"
    return "better" if c["better"] else "worse"


def _scores(result: dict[str, Any]) -> Any:
    rows = []
    for name in system_names(result):
        scores = result["systems"][name]["scores"]
        rows.append([name, *(f"{scores[m['key']]['score']:.1f} ± {scores[m['key']]['ci']:.1f}" for m in result["metrics"])])
    title = f"{result['segments']:,} segments" + (f", {result['pair']}" if result["pair"] else "")
    return table(title, ["system", *(m["name"] + ("" if m["higher_is_better"] else " (lower is better)") for m in result["metrics"])], rows)


def _differences(result: dict[str, Any]) -> Any:
    draws = result["settings"]
    rows: list[list[Any]] = []
    for name in system_names(result)[1:]:
        for m in result["metrics"]:
            c = comparison(result, name, m["key"])
            if c is not None:
                span = f"{c['delta']:+.2f} [{c['bootstrap']['low']:+.2f}, {c['bootstrap']['high']:+.2f}]"
                ps = p_value_or_bound(c["randomisation"]["p"], draws["trials"]), p_value_or_bound(c["bootstrap"]["p"], draws["resamples"])
                rows.append([name if m is result["metrics"][0] else "", m["name"], span, *ps, verdict(c)])
    return table(f"against {result['baseline']}", ["system", "metric", "difference [95%]", "p (ar)", "p (bs)", ""], rows)


def _diagnostics(result: dict[str, Any]) -> Any | None:
    names = system_names(result)
    if any(result["systems"][n]["diagnostics"] is None for n in names):
        return None
    flags = list(result["systems"][names[0]]["diagnostics"]["flags"])
    raised_flags = [f for f in flags if any(result["systems"][n]["diagnostics"]["flags"][f] for n in names)]
    rows = []
    for name in names:
        d = result["systems"][name]["diagnostics"]
        rows.append([name, d["flagged"], *(d["flags"][f] for f in raised_flags), f"{d['length_ratio']:.3f}"])
    return table("segments with a flag", ["system", "any", *raised_flags, "length ratio"], rows)


def _groups(result: dict[str, Any], title: str, groups: list[dict[str, Any]]) -> Any:
    key = main_metric(result)["key"]
    names = system_names(result)
    rows = [[g["name"], g["segments"], *(f"{g['scores'][n][key]:.1f}" for n in names)] for g in groups]
    return table(title, ["", "segments", *names], rows)


def documents_by_spread(result: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """The documents on which the systems differ most, by the main metric."""
    key = main_metric(result)["key"]

    def spread(group: dict[str, Any]) -> float:
        scores = [float(s[key]) for s in group["scores"].values()]
        return max(scores) - min(scores)

    return sorted(result["documents"] or [], key=spread, reverse=True)[:limit]


def _short(text: str) -> str:
    return text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 1] + "…"


def _moved(result: dict[str, Any], name: str) -> Any:
    m = result["moved"][name]
    rows: list[list[Any]] = []
    for r in [*m["up"][:MOVED], *m["down"][:MOVED]]:
        rows += [[str(r["segment"]), f"{r['delta']:+.1f}", "reference", _short(r["reference"])]]
        rows += [["", "", result["baseline"], _short(r["baseline"])], ["", "", name, _short(r["hypothesis"])]]
    title = f"{name}: chrF2 higher on {m['better']:,} of {result['segments']:,} segments, lower on {m['worse']:,}; those that moved most"
    return table(title, ["segment", "chrF2", "", ""], rows)


def comparison_tables(result: dict[str, Any]) -> Any:
    """All tables and notes, as rich renders them."""
    from rich.console import Group
    from rich.text import Text

    measure, parts = main_metric(result)["name"], [_scores(result)]
    first = result["systems"][result["baseline"]]["scores"]
    parts += [Text(f"{s['name']}: {s['signature']}") for s in first.values()]
    parts.append(_differences(result))
    settings = result["settings"]
    ar, bs = f"ar: paired approximate randomisation, {settings['trials']:,} trials", f"bs: paired bootstrap, {settings['resamples']:,} resamples"
    parts.append(Text(f"{ar}; {bs}; seed {settings['seed']}; unclear: p (ar) is 0.05 or more; not corrected for the number of systems"))
    if (diagnostics := _diagnostics(result)) is not None:
        parts.append(diagnostics)
    parts.append(_groups(result, f"{measure} by characters of the {result['lengths']['of']}", result["lengths"]["groups"]))
    if result["documents"] is not None:
        documents = documents_by_spread(result, DOCUMENTS)
        parts.append(_groups(result, f"{measure} by document: {len(documents)} of {len(result['documents']):,}, those that differ most", documents))
    parts += [_moved(result, name) for name in system_names(result)[1:]]
    return Group(*parts)
