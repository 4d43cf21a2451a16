"""What a mix is like: tokens per word, how the task examples lie among the general ones, what was left out.

Reads mixed.jsonl and mix.json of a mix. Writes report.json and order.png beside them.
"""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from tell.console import table
from tell.extras import need
from tell.files import iter_lines, write_atomic, write_json
from tell.model.anchor import Anchor
from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.spool import BATCH

# Every line of mixed.jsonl begins with the id, and every id with the kind (tell.records).
_TASK = b'{"id": "task:'
# Bars in the picture, and examples in its close-up.
BARS, CLOSE = 100, 150
# Told apart by lightness as well as by colour.
_COLOURS = {"task": "#d95f02", "general": "#c9ced6"}


def check_plotting() -> None:
    """Raises MissingExtra when there is nothing to draw with: before the mix is made, not after."""
    need("matplotlib", "train")


def _kinds(mixed: Path) -> bytearray:
    """1 for a task example, 0 for a general one, in the order of training."""
    return bytearray(raw.startswith(_TASK) for _, raw in iter_lines(mixed))


def _task_texts(mixed: Path, anchor: Anchor) -> Iterator[tuple[str, str]]:
    """Source and target of each task example."""
    around = anchor.prompt("").removeprefix(anchor.prefix)
    for _, raw in iter_lines(mixed):
        if raw.startswith(_TASK):
            row = json.loads(raw)
            yield row["prompt"].removeprefix(anchor.prefix).removesuffix(around), row["response"]


def _fertility(mixed: Path, anchor: Anchor, tokenizer: BaseTokenizer) -> dict[str, dict[str, float]]:
    """Tokens per word of the task's two sides, anchors aside. A word is what white space parts."""
    texts = _task_texts(mixed, anchor)
    words, pieces = [0, 0], [0, 0]
    while batch := list(islice(texts, BATCH)):
        for side in (0, 1):
            words[side] += sum(len(t[side].split()) for t in batch)
            pieces[side] += sum(map(len, tokenizer.encode_batch([t[side] for t in batch])))
    return {name: {"words": w, "tokens": t, "tokens_per_word": round(t / max(1, w), 3)} for name, w, t in zip(("source", "target"), words, pieces, strict=True)}


def _spacing(kinds: bytearray) -> dict[str, float] | None:
    """Steps from one task example to the next (1: they are neighbours); None when there is but one."""
    gaps = array("I", sorted(b - a for a, b in pairwise(i for i, k in enumerate(kinds) if k)))
    if not gaps:
        return None
    # Nearest rank: a distance that occurs.
    at = {name: gaps[max(0, -(-len(gaps) * p // 100) - 1)] for name, p in (("median", 50), ("p95", 95))}
    return {"min": gaps[0], **at, "max": gaps[-1], "mean": round(sum(gaps) / len(gaps), 3)}


def write_report(out: Path, mix: dict[str, Any], base: Base, anchor: Anchor) -> dict[str, Any]:
    """Write report.json and order.png into the mix at `out`, and return the report."""
    mixed = out / "mixed.jsonl"
    kinds = _kinds(mixed)
    report = {
        "sha256": mix["sha256"],
        "pair": mix["pair"],
        "base": mix["base"]["id"],
        "seed": mix["seed"],
        "order": mix["order"],
        "counts": mix["counts"],
        "task": [{k: c[k] for k in ("name", "pairs", "examples", "tokens")} for c in mix["corpora"]],
        "granularity": mix["granularity"],
        "general": [{k: s[k] for k in ("name", "usable", "used", "tokens")} for s in mix["general_sources"]],
        "fertility": _fertility(mixed, anchor, BaseTokenizer(base)),
        "spacing": _spacing(kinds),
        "left_out": mix["left_out"],
    }
    write_json(out / "report.json", report)
    write_atomic(out / "order.png", _drawn(kinds, report))
    return report


def _close(kinds: bytearray) -> int:
    """Where the close-up begins: around the change from one kind to the other that is nearest to the middle."""
    middle = len(kinds) // 2
    changes = (i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1])
    return max(0, min(min(changes, key=lambda i: abs(i - middle), default=middle) - CLOSE // 2, len(kinds) - CLOSE))


def _drawn(kinds: bytearray, report: dict[str, Any]) -> bytes:
    need("matplotlib", "train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    n, task = len(kinds), sum(kinds)
    figure = Figure(figsize=(10, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    whole, close = figure.subplots(2, 1, height_ratios=[4, 1])
    figure.suptitle(f"{report['pair']}, order “{report['order']}”: {task:,} task and {n - task:,} general examples", fontsize=13, fontweight="bold")

    edges = [i * n // min(BARS, n) for i in range(min(BARS, n) + 1)]
    shares = [100 * sum(kinds[a:b]) / (b - a) for a, b in pairwise(edges)]
    widths = [b - a for a, b in pairwise(edges)]
    whole.bar(edges[:-1], [100.0] * len(shares), width=widths, align="edge", color=_COLOURS["general"])
    whole.bar(edges[:-1], shares, width=widths, align="edge", color=_COLOURS["task"])
    mean = 100 * task / n
    whole.axhline(mean, color="black", linewidth=1, linestyle=(0, (4, 3)))
    whole.annotate(f"{mean:.0f}% task\nover all", (1.004, mean), xycoords=("axes fraction", "data"), va="center", fontsize=10, annotation_clip=False)
    whole.set(xlim=(0, n), ylim=(0, 100), ylabel="share of the examples", xlabel="place in training, from the first example to the last")
    whole.yaxis.set_major_formatter(lambda y, _: f"{y:.0f}%")
    whole.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    whole.set_title(f"the whole mix, {max(widths):,} examples a bar" if max(widths) > 1 else "the whole mix", fontsize=11, loc="left")

    start = _close(kinds)
    part = kinds[start : start + CLOSE]
    colours = [_COLOURS["task" if k else "general"] for k in part]
    close.bar(range(start, start + len(part)), [1] * len(part), width=1, align="edge", color=colours, edgecolor="white", linewidth=0.6)
    close.set(xlim=(start, start + len(part)), ylim=(0, 1), yticks=[])
    close.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    close.set_title(f"close up, one bar each: examples {start + 1:,} to {start + len(part):,}", fontsize=11, loc="left")
    for axes in (whole, close):
        axes.spines[["top", "right", "left"]].set_visible(False)
    patches = [Patch(color=c, label=f"{k} example") for k, c in _COLOURS.items()]
    whole.legend(handles=patches, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=10)
    picture = io.BytesIO()
    # No date and no version in it: the same mix gives the same picture.
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def mix_tables(report: dict[str, Any], out: Path) -> Any:
    from rich.console import Group

    rows = [["task", c["name"], c["examples"], c["tokens"]] for c in report["task"]]
    rows += [["general", s["name"], s["used"], s["tokens"]] for s in report["general"]]
    parts = [table("", ["", "from", "examples", "tokens"], rows)]
    kinds = [[k, f"{c['share']:.0%}", c["examples"], c["tokens"], c.get("split", 0)] for k, c in report["granularity"].items() if c.get("examples")]
    if len(kinds) > 1 or kinds[0][0] != "sentence":
        parts.append(table("", ["granularity", "asked", "examples", "tokens", "split to fit"], kinds))
    fertility = [[side, f["words"], f["tokens"], f"{f['tokens_per_word']:.2f}"] for side, f in report["fertility"].items()]
    parts.append(table("", ["task side", "words", "tokens", "tokens per word"], fertility))
    if s := report["spacing"]:
        steps = [[s[k] for k in ("min", "median", "p95", "max")] + [f"{s['mean']:.2f}"]]
        parts.append(table("from one task example to the next, in examples", ["min", "median", "p95", "max", "mean"], steps))
    parts.append(f"written: {out / 'report.json'}, {out / 'order.png'}")
    return Group(*parts)
