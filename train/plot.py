"""The picture of a run: reads metrics.jsonl of its directory, writes training.png beside it, to be read at 800 pixels wide."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tell.files import write_atomic
from train.checkpoint import METRICS

PLOT = "training.png"
# Okabe and Ito's colours, as in the studies' pictures.
_LOSS, _DEV, _RATE, _FAINT = "#0072B2", "#D55E00", "#009E73", "#9CC9E3"


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows by step, the last one of each: a run that was killed did some steps twice. A row that was torn is left out."""
    rows: dict[int, dict[str, Any]] = {}
    with suppress(FileNotFoundError):
        for line in file.read_bytes().split(b"\n"):
            with suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                rows[int(row["step"])] = row
    return [rows[step] for step in sorted(rows)]


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean over a window round each value, 1/25 of the run wide and at least 5; narrower at the ends, where there is less."""
    half = max(2, len(values) // 50)
    sums = [0.0]
    for v in values:
        sums.append(sums[-1] + v)
    spans = ((max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values)))
    return [(sums[end] - sums[start]) / (end - start) for start, end in spans]


def draw(run_dir: Path, title: str) -> Path | None:
    """Write the picture; None where there are no steps to show. Raises ImportError without matplotlib."""
    rows = read_rows(run_dir / METRICS)
    if not rows:
        return None
    write_atomic(run_dir / PLOT, _png(rows, title))
    return run_dir / PLOT


def _png(rows: list[dict[str, Any]], title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    key, what, digits, best_of = ("dev_nats", "nats per token", 3, min) if any("dev_nats" in r for r in rows) else ("dev_chrf", "chrF2", 1, max)
    looks = [(r["step"], r[key]) for r in rows if key in r]
    heights = [3, 2, 1.4] if looks else [3, 1.4]
    # The object interface, not pyplot: nothing global is changed and no display is asked for.
    figure = Figure(figsize=(8, 1.1 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    steps, losses = [r["step"] for r in rows], [r["loss"] for r in rows]
    mean = smoothed(losses)
    panels[0].plot(steps, losses, color=_FAINT, linewidth=0.8, marker="." if len(rows) < 50 else None, label="each step")
    panels[0].plot(steps, mean, color=_LOSS, linewidth=1.8, label="smoothed")
    # A few steps at the start are far above the rest: they are left out of the range, which would flatten the curve.
    low, high = min(losses), max(losses)
    inside = sorted(losses)[int(len(losses) * 0.99)] if len(losses) >= 100 else high
    panels[0].set_ylim(low - 0.05 * (inside - low or 1), inside + 0.1 * (inside - low or 1))
    panels[0].legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
    _axes(panels[0], f"Loss (nats per token): about {mean[-1]:.2f} by step {steps[-1]:,}")
    if looks:
        best = best_of(looks, key=lambda x: x[1])
        panels[1].plot(*zip(*looks, strict=True), color=_DEV, linewidth=1.4, marker="o", markersize=4)
        panels[1].plot(*best, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=_DEV)
        panels[1].margins(y=0.18)
        _axes(panels[1], f"{what} on the dev split: best {best[1]:.{digits}f} at step {best[0]:,}")
    panels[-1].plot(steps, [r["learning_rate"] for r in rows], color=_RATE, linewidth=1.4)
    panels[-1].set_ylim(bottom=0)
    panels[-1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    _axes(panels[-1], "Learning rate")
    panels[-1].set_xlabel("optimiser step", fontsize=10)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _axes(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
