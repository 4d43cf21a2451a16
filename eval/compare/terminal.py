"""A comparison as tables for the terminal. Reads what `eval.compare.compare.compare` returned; writes nothing."""

from __future__ import annotations

from typing import Any

from tell.console import table

# What the terminal shows; the page and compare.json have more.
DOCUMENTS, MOVED, WIDE = 5, 3, 300


def p_value(p: float, draws: int) -> str:
    """The smallest p that so many draws can give is a bound, not a value."""
    least = 1 / (draws + 1)
    return f"< {2 * least:.4f}" if p <= least * 1.0001 else f"{p:.4f}"


def order_of(result: dict[str, Any]) -> list[str]:
    """The systems' names, the baseline first."""
    return list(result["order"])


def of(result: dict[str, Any], system: str, key: str) -> dict[str, Any] | None:
    return next((c for c in result["comparisons"] if (c["system"], c["metric"]) == (system, key)), None)


def main_metric(result: dict[str, Any]) -> dict[str, Any]:
    """The one that breakdowns show: chrF2 where it is there, since it says something of few segments too."""
    found: dict[str, Any] = next((m for m in result["metrics"] if m["key"] == "chrf"), result["metrics"][0])
    return found


def verdict(c: dict[str, Any]) -> str:
    """What a comparison says in a word."""
    if c["randomisation"]["p"] >= 0.05 or c["better"] is None:
        return "unclear"
    return "better" if c["better"] else "worse"


def _scores(result: dict[str, Any]) -> Any:
    rows = []
    for name in order_of(result):
        found = result["systems"][name]["scores"]
        rows.append([name, *(f"{found[m['key']]['score']:.1f} ± {found[m['key']]['ci']:.1f}" for m in result["metrics"])])
    title = f"{result['segments']:,} segments" + (f", {result['pair']}" if result["pair"] else "")
    return table(title, ["system", *(m["name"] + ("" if m["higher_is_better"] else " (less is better)") for m in result["metrics"])], rows)


def _differences(result: dict[str, Any]) -> Any:
    draws = result["settings"]
    rows: list[list[Any]] = []
    for name in order_of(result)[1:]:
        for m in result["metrics"]:
            c = of(result, name, m["key"])
            if c is not None:
                span = f"{c['delta']:+.2f} [{c['bootstrap']['low']:+.2f}, {c['bootstrap']['high']:+.2f}]"
                ps = p_value(c["randomisation"]["p"], draws["trials"]), p_value(c["bootstrap"]["p"], draws["resamples"])
                rows.append([name if m is result["metrics"][0] else "", m["name"], span, *ps, verdict(c)])
    return table(f"against {result['baseline']}", ["system", "metric", "difference [95%]", "p (ar)", "p (bs)", ""], rows)


def _diagnostics(result: dict[str, Any]) -> Any | None:
    names = order_of(result)
    if any(result["systems"][n]["diagnostics"] is None for n in names):
        return None
    flags = list(result["systems"][names[0]]["diagnostics"]["flags"])
    shown = [f for f in flags if any(result["systems"][n]["diagnostics"]["flags"][f] for n in names)]
    rows = []
    for name in names:
        d = result["systems"][name]["diagnostics"]
        rows.append([name, d["flagged"], *(d["flags"][f] for f in shown), f"{d['length_ratio']:.3f}"])
    return table("segments with a flag", ["system", "any", *shown, "length ratio"], rows)


def _groups(result: dict[str, Any], title: str, groups: list[dict[str, Any]]) -> Any:
    key = main_metric(result)["key"]
    names = order_of(result)
    rows = [[g["name"], g["segments"], *(f"{g['scores'][n][key]:.1f}" for n in names)] for g in groups]
    return table(title, ["", "segments", *names], rows)


def far_documents(result: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """The documents on which the systems are furthest apart, by the main metric."""
    key = main_metric(result)["key"]

    def apart(g: dict[str, Any]) -> float:
        found = [float(s[key]) for s in g["scores"].values()]
        return max(found) - min(found)

    return sorted(result["documents"] or [], key=apart, reverse=True)[:limit]


def _short(text: str) -> str:
    return text if len(text) <= WIDE else text[: WIDE - 1] + "…"


def _moved(result: dict[str, Any], name: str) -> Any:
    m = result["moved"][name]
    rows: list[list[Any]] = []
    for r in [*m["up"][:MOVED], *m["down"][:MOVED]]:
        rows += [[str(r["segment"]), f"{r['delta']:+.1f}", "reference", _short(r["reference"])]]
        rows += [["", "", result["baseline"], _short(r["baseline"])], ["", "", name, _short(r["hypothesis"])]]
    title = f"{name}: chrF2 higher on {m['better']:,} of {result['segments']:,} segments, lower on {m['worse']:,}; those that moved most"
    return table(title, ["segment", "chrF2", "", ""], rows)


def shown(result: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    measure, parts = main_metric(result)["name"], [_scores(result)]
    first = result["systems"][result["baseline"]]["scores"]
    parts += [Text(f"{s['name']}: {s['signature']}") for s in first.values()]
    parts.append(_differences(result))
    d = result["settings"]
    ar, bs = f"ar: paired approximate randomisation, {d['trials']:,} trials", f"bs: paired bootstrap, {d['resamples']:,} resamples"
    parts.append(Text(f"{ar}; {bs}; seed {d['seed']}; unclear: p (ar) is 0.05 or more; not corrected for the number of systems"))
    parts += [x for x in [_diagnostics(result)] if x is not None]
    parts.append(_groups(result, f"{measure} by characters of the {result['lengths']['of']}", result["lengths"]["groups"]))
    if result["documents"] is not None:
        far = far_documents(result, DOCUMENTS)
        parts.append(_groups(result, f"{measure} by document: {len(far)} of {len(result['documents']):,}, those furthest apart", far))
    parts += [_moved(result, name) for name in order_of(result)[1:]]
    return Group(*parts)
