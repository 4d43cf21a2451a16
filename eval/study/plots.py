"""The plots of a study's report, as PNG bytes that are legible at a width of 800 pixels.

Reads the summary of the report and, for the losses, the changes of each example; writes nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from eval.study.over_general import picture_name
from eval.study.summary import size_text
from tell.extras import need

# The colours of Okabe and Ito, which colour-blind readers can tell apart, without their yellow, which is invisible on white; the reference arm is black.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C510A", "#5E4FA2", "#666666")
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "h")
GREY = "#777777"
WIDTH = 8.0


def study_plots(summary: dict[str, Any], changes: dict[str, Any], reference: str) -> dict[str, bytes]:
    """The PNG of each plot by its file name. A plot without data is left out."""
    need("matplotlib", "train")
    png_by_name: dict[str, bytes] = {}
    style = arm_styles(summary, reference)
    if (png := plot_task_data(summary, style)) is not None:
        png_by_name["study-task-data.png"] = png
    if summary["general"]:
        png_by_name["study-general-tokens.png"] = plot_general_tokens(summary, style)
    for x in summary["losses"]:
        name = picture_name(x["pair"], x["size"], x["arm"])
        png_by_name[f"study-losses-{name}.png"] = plot_loss_changes(x, changes[name], summary["unit"])
    for x in summary["jumps"]:
        name = picture_name(x["pair"], x["size"], x["arm"])
        along = "general" if x["ratio"] is None else "training"
        png_by_name[f"study-tokens-{name}-{along}.png"] = plot_tokens(x)
    return png_by_name


def arm_styles(summary: dict[str, Any], reference: str) -> dict[str, tuple[str, str]]:
    """The colour and the marker of each arm, the same in every plot."""
    arms = list(dict.fromkeys(r["arm"] for t in summary["tables"] for r in t["rows"] if r["trained"]))
    arms = sorted((a for a in arms if a != reference), key=lambda a: (a != "tell", arms.index(a)))
    return {reference: ("#000000", "o")} | {a: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, a in enumerate(arms)}


def _figure(rows: int, columns: int, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The object interface, not pyplot: nothing global is changed and no display is asked for.
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _png(figure: Any) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, dpi=150, metadata={"Software": None})
    return png.getvalue()


def _axes(axes: Any, title: str, x: str | None, y: str | None) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x or "", fontsize=10)
    axes.set_ylabel(y or "", fontsize=10)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def token_label(tokens: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{letter}"
    return f"{tokens:.0f}"


def spread_labels(values: Sequence[float], gap: float) -> list[float]:
    """Where the labels of the values go: each as near its value as it can be with `gap` between neighbours, in the order of the values."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    blocks: list[tuple[list[int], float]] = []
    for i in order:
        blocks.append(([i], values[i]))
        while len(blocks) > 1:
            (below, low), (above, high) = blocks[-2:]
            if high - low >= gap * (len(below) + len(above)) / 2:
                break
            merged = below + above
            # A block stands where its labels are nearest their own values on average.
            centre = sum(values[j] - gap * (k - (len(merged) - 1) / 2) for k, j in enumerate(merged)) / len(merged)
            blocks[-2:] = [(merged, centre)]
    places = [0.0] * len(values)
    for members, middle in blocks:
        for k, j in enumerate(members):
            places[j] = middle + gap * (k - (len(members) - 1) / 2)
    return places


def _labels(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Writes names at the right of the panel, each beside the last point of its line: (x, y, name, colour)."""
    low, high = axes.get_ylim()
    inches = axes.figure.get_size_inches()[1] * axes.get_position().height
    places = spread_labels([y for _, y, _, _ in ends], (high - low) * 0.165 / max(inches, 0.5))
    axes.set_ylim(min([low, *places]), max([high, *places]))
    for (x, y, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.015, place),
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            fontsize=9.5,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linestyle": ":", "color": colour, "linewidth": 0.8, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3},
        )


def _line(axes: Any, points: list[tuple[float, dict[str, Any], list[tuple[float, float]]]], colour: str, mark: str) -> None:
    """Draws the line of means, the band from the lowest to the highest seed, and a marker for each seed."""
    xs = [x for x, _, _ in points]
    axes.fill_between(xs, [s["low"] for _, s, _ in points], [s["high"] for _, s, _ in points], color=colour, alpha=0.13, linewidth=0)
    axes.plot(xs, [s["mean"] for _, s, _ in points], color=colour, linewidth=1.8)
    for _, _, each in points:
        axes.plot([x for x, _ in each], [y for _, y in each], linestyle="none", marker=mark, color=colour, markersize=4.5, alpha=0.75, markeredgewidth=0)


def outcome_of(unit: str) -> tuple[str, str, str]:
    """The figure that a study is read on, its name on an axis, and the key of its data."""
    return ("nats", "nats per target token (lower is better)", "task_pairs") if unit == "pairs" else ("chrf2", "chrF2", "task_tokens")


def plot_task_data(summary: dict[str, Any], style: dict[str, tuple[str, str]]) -> bytes | None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ratios = summary["main_ratio"]
    figure_name, axis, amount = outcome_of(summary["unit"])
    curves: dict[str, dict[tuple[str, str], list[Any]]] = {}
    flat: dict[str, dict[str, float]] = {}
    for t in summary["tables"]:
        for r in t["rows"]:
            if not (outcome := r[figure_name]["all"]):
                continue
            if not r["trained"]:
                flat.setdefault(t["pair"], {})[r["arm"]] = outcome["mean"]
                continue
            x = r["task_pairs"] if amount == "task_pairs" else r["task_tokens"]["mean"]
            # Every amount of general data has a line of its own where the study goes by pairs.
            name = r["arm"] if not r["ratio"] or summary["unit"] == "tokens" else f"{r['arm']} {r['ratio']:g}"
            if x and (summary["unit"] == "pairs" or r["ratio"] == ratios[r["arm"]]):
                curves.setdefault(t["pair"], {}).setdefault((r["arm"], name), []).append((x, outcome, [(x, y) for y in r[figure_name]["each"]]))
    if not curves:
        return None
    figure, axes = _figure(len(curves), 1, 3.7 * len(curves))
    for panel, (pair, arms) in zip(axes[:, 0], curves.items(), strict=True):
        segments = " or ".join(map(str, summary["pairs"][pair]["segments"]))
        _axes(panel, f"{pair}: {axis} on {segments} held-out segments", f"task {summary['unit']} (logarithmic)", axis)
        panel.set_xscale("log")
        for (arm, _), points in sorted(arms.items(), key=lambda a: a[0][0] == "tell"):
            _line(panel, sorted(points, key=lambda p: p[0]), *style[arm])
        places = sorted({p[0] for points in arms.values() for p in points})
        ticks = [x for i, x in enumerate(places) if i == 0 or x > 1.25 * places[i - 1]]
        panel.set_xlim(places[0] / 1.15, places[-1] * (1.15 if len(places) == 1 else 1.04))
        panel.xaxis.set_major_locator(FixedLocator(ticks))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: token_label(x)))
        ends = [(max(p[0] for p in points), max(points, key=lambda p: p[0])[1]["mean"], name, style[arm][0]) for (arm, name), points in arms.items()]
        for arm, y in flat.get(pair, {}).items():
            panel.axhline(y, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
            ends.append((panel.get_xlim()[1], y, arm, GREY))
        figure.draw_without_rendering()
        _labels(panel, ends)
    legend = "line: mean over seeds; band: lowest to highest seed; markers: seeds; dashed: without training; dotted: leads to the arm's name"
    figure.supxlabel(legend, fontsize=8, color="#444444")
    return _png(figure)


def plot_general_tokens(summary: dict[str, Any], style: dict[str, tuple[str, str]]) -> bytes:
    from matplotlib.ticker import FixedLocator, NullLocator

    panels: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    for g in summary["general"]:
        panels.setdefault((g["pair"], g["size"]), []).append(g)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = _figure(rows, columns, 3.3 * rows)
    figure_name, axis, _ = outcome_of(summary["unit"])
    for panel, ((pair, size), lines) in zip(axes.flat, panels.items(), strict=False):
        where = f"{pair}, {size_text(size, summary['unit'])}"
        _axes(panel, where, "general tokens (logarithmic)", axis)
        panel.set_xscale("log")
        amounts = sorted({p["general_tokens"] for g in lines for p in g["points"]})
        above = [a for a in amounts if a > 0] or [1.0]
        # A logarithmic axis has no zero; runs without general data get a place of their own at the left.
        zero = above[0] / 4
        many = len(lines) > 1
        for g in lines:
            there = [(p["general_tokens"] or zero, p[figure_name]) for p in g["points"] if p[figure_name]["all"]]
            if there:
                _line(panel, [(x, f["all"], [(x, y) for y in f["each"]]) for x, f in there], *style[g["arm"]])
        places = [a or zero for a in amounts]
        ticks = [x for i, x in enumerate(places) if i == 0 or x > 1.5 * places[i - 1]]
        panel.xaxis.set_major_locator(FixedLocator(ticks))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticklabels(["none" if x == zero and amounts[0] == 0 else token_label(x) for x in ticks])
        if many:
            figure.draw_without_rendering()
            last = [(g["arm"], g["points"][-1]) for g in lines if g["points"][-1][figure_name]["all"]]
            _labels(panel, [(p["general_tokens"], p[figure_name]["all"]["mean"], arm, style[arm][0]) for arm, p in last])
        else:
            panel.set_title(f"{where}, {lines[0]['arm']}", loc="left", fontsize=11)
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    figure.supxlabel("line: mean over seeds; band: lowest to highest seed; markers: seeds; every amount has its own run", fontsize=9, color="#444444")
    return _png(figure)


def plot_loss_changes(x: dict[str, Any], changes: Any, unit: str) -> bytes:
    """At the left the changes at each amount, sorted on their own; at the right the same examples in one order for all amounts."""
    import matplotlib
    import numpy as np

    figure, axes = _figure(1, 2, 4.4)
    left, right = axes[0]
    steps, segments = changes.shape
    extreme = float(np.quantile(np.abs(changes), 0.98)) or 1.0
    shades = matplotlib.colormaps["viridis_r"]
    _axes(left, "one line per amount of general tokens", "dev segments, sorted for each amount", "change in nats per token")
    left.axhline(0, color="#999999", linewidth=0.8)
    ends = []
    for k in range(steps):
        colour = shades(0.15 + 0.75 * (k + 1) / steps)
        ordered = np.sort(changes[k])
        left.plot(np.arange(1, segments + 1), ordered, color=colour, linewidth=1.8)
        ends.append((segments, float(ordered[-1]), token_label(x["amounts"][k + 1]), colour))
    left.set_xlim(1, segments)
    left.margins(x=0)
    figure.draw_without_rendering()
    _labels(left, ends)
    order = np.argsort(changes[-1], kind="stable")
    image = right.imshow(changes[:, order].T, aspect="auto", cmap="RdBu_r", vmin=-extreme, vmax=extreme, interpolation="nearest", origin="lower")
    _axes(right, "one row per segment, ordered by last change", "general tokens", None)
    right.grid(False)
    right.set_xticks(range(steps), [token_label(a) for a in x["amounts"][1:]])
    right.set_yticks([])
    bar = figure.colorbar(image, ax=right, shrink=0.9, extend="both")
    bar.set_label("change in nats per token (blue: lower)", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    seeds = ", ".join(map(str, x["seeds"]))
    about = f"loss of {segments} dev segments, minus that at {token_label(x['amounts'][0])} general tokens; seeds {seeds}"
    title = f"{x['pair']}, {size_text(x['size'], unit)}, {x['arm']}: {about}"

    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return _png(figure)


def plot_tokens(x: dict[str, Any]) -> bytes:
    """At the left how much of a token's change lies in its largest step, and the same by chance; at the right the losses of single tokens."""
    figure, axes = _figure(1, 2, 4.0)
    left, right = axes[0]
    _axes(left, f"{x['tokens']:,} target tokens", "share of the squared change in the largest step", "share of the tokens")
    bins = [(i + 0.5) / 20 for i in range(20)]
    left.step(bins, x["shares"]["observed"], where="mid", color=COLOURS[0], linewidth=1.8, label="observed")
    left.step(bins, x["shares"]["shuffled"], where="mid", color=GREY, linewidth=1.4, label="steps shuffled")
    left.legend(frameon=False, fontsize=9)
    _axes(right, "tokens that jump (orange) or drift (blue)", x["along"], "nats")
    at = range(len(x["amounts"]))
    for name, colour in (("monogenic", COLOURS[0]), ("polygenic", COLOURS[1])):
        for curve in x["curves"][name]:
            right.plot(at, curve, color=colour, linewidth=0.9, alpha=0.6)
    right.set_xticks(list(at), [token_label(a) for a in x["amounts"]])
    size = "all" if x["size"] is None else f"{x['size']:,}"
    figure.suptitle(
        f"{x['pair']}, {size}, {x['arm']}: losses of target tokens over {x['along']}; seeds {', '.join(map(str, x['seeds']))}", fontsize=10, x=0.01, ha="left"
    )
    return _png(figure)
