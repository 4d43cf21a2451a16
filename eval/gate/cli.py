"""`tellmt publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from eval.scoring.cli import figure
from tell.command import Command, Many
from tell.console import emit, json_mode, say, table
from tell.errors import GateRefused

ENGINE = click.option("--engine", default="auto", show_default=True, help="Engine driver: vllm, ct2, or auto.")
FILE = click.Path(path_type=Path)


def _verdict_table(verdict: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    systems = verdict["metrics"]
    rows = [[name, figure(s["bleu"]), figure(s["chrf"])] for name, s in systems.items()]
    lines = [f"{m['name']}: {m['signature']}" for m in (systems["adapter"]["bleu"], systems["adapter"]["chrf"])] if systems else []
    for name, p in verdict["paired"].items():
        interval = f", 95% interval {p['interval'][0]:+.2f} to {p['interval'][1]:+.2f}" if "interval" in p else ""
        lines.append(f"{name.replace('_', ' ')}: {p['metric']} {p['delta']:+.2f}{interval}, p = {p['p']:.4f} ({p['method']}; {p['signature']})")
    flags = {name: {f: n for f, n in s["diagnostics"]["flags"].items() if n} for name, s in systems.items() if "diagnostics" in s}
    for name, segments in flags.items():
        lines.append(f"{name}: flags " + (", ".join(f"{f} {n:,}" for f, n in segments.items()) or "none"))
    for r in verdict.get("testsets", []):
        counts = f"{r['leaked']:,} of {r['segments']:,} segments are in the training data, {r['near']:,} mostly"
        lines.append(f"test set {r['name']}: {counts}")
    part = verdict.get("judged_on", {})
    which = "the judging half of the dev split" if part.get("part") == "judging" else "dev split"
    of = f" of {part['of']:,}" if part.get("part") == "judging" else ""
    title = f"{which}, {verdict['corpus']['segments']:,}{of} segments, {verdict['pair']}"
    return Group(table(title, ["system", "BLEU", "chrF2"], rows), *(Text(line) for line in lines))


@click.command(cls=Command)
@click.argument("adapter", type=FILE)
@click.option("--corpus", type=FILE, required=True, help="Corpus directory; its dev split decides, or the half of it that chose nothing.")
@click.option("--scores", cls=Many, type=FILE, help="A scores.json to record on the card; may name several.")
@ENGINE
@click.option("--alpha", type=click.FloatRange(0, 1, True, True), default=0.05, show_default=True, help="Significance level of the paired test.")
@click.option("--allow", cls=Many, metavar="FLAG=SHARE", help="Share of segments that may have a flag, such as number=0.2; may name several.")
@click.option("--force", is_flag=True, help="Publish although the gate refuses; needs --why.")
@click.option("--why", help="The reason, kept in the registry's log.")
@click.option("--no-shipped", is_flag=True, help="Do not compare with the adapter that comes with tellmt.")
@click.option("--no-best", is_flag=True, help="Do not compare with the best version before the live one.")
@click.option("--no-golden", is_flag=True, help="Put no dev segments with their translations on the card, by which services verify the adapter.")
@click.option("-o", "--out", type=FILE, help="Where to write the verdict [default: ADAPTER.verdict.json].")
def publish(
    adapter: Path,
    corpus: Path,
    scores: tuple[Path, ...],
    engine: str,
    alpha: float,
    allow: tuple[str, ...],
    force: bool,
    why: str | None,
    no_shipped: bool,
    no_best: bool,
    no_golden: bool,
    out: Path | None,
) -> None:
    """Make ADAPTER live, if the gate accepts it.

    ADAPTER passes when its chrF2 on the dev split is higher than the bare base's by a paired test, and surely no more than a margin lower than the live
    version's (where none is live: than that of the adapter that came with tellmt) and than that of the best version before it: 2 points with 64 segments,
    1 with 256 and more. It is refused when its outputs have more flags than --allow permits and than the
    outputs of the adapter it would replace, or when its training data contains a registered test set. Scores on test sets are recorded, and decide nothing.

    Where the dev split has 200 segments or more, only one half of it judges: training and `tellmt decoding` choose on the other. The verdict says so.
    """
    from eval.gate.flag_limits import limits
    from eval.gate.publish import publish_adapter, verdict_path
    from tell.adapter.shipped import shipped_adapters

    if force and not (why and why.strip()):
        raise click.UsageError("--force needs --why TEXT: the reason is kept in the log")
    target = out or verdict_path(adapter)
    try:
        forced, shipped = why if force else None, shipped_adapters(no_shipped)
        done = publish_adapter(adapter, corpus, scores, engine, alpha, forced, why, target, shipped, not no_golden, limits(allow), not no_best)
    except GateRefused:
        if json_mode():
            import json

            emit({"published": False, "passed": False, "verdict": json.loads(target.read_bytes()), "verdict_path": str(target)})
        raise
    for note in done.verdict.get("notes", []):
        say(f"note: {note}")
    if done.already:
        say(f"{done.state.pair}: {done.id[:12]} is already live")
    else:
        say(f"{done.state.pair}: {done.id[:12]} is live" + (" (forced)" if done.forced else "") + f", generation {done.state.generation}")
    emit(
        {
            "published": not done.already,
            "already_live": done.already,
            "forced": done.forced,
            "passed": bool(done.verdict["passed"]),
            "id": done.id,
            "state": done.state.model_dump(),
            "verdict": done.verdict,
            "verdict_path": str(target),
        },
        lambda: _verdict_table(done.verdict),
    )
