"""`tellmt study`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tell.command import Command
from tell.console import emit, say, table

_PATH = click.Path(path_type=Path)


@click.command("study", cls=Command)
@click.argument("file", metavar="STUDY.toml", type=_PATH)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at the same time; each gets its share of the cores.")
@click.option("--dry-run", is_flag=True, help="List the runs, and stop.")
@click.option("--report-only", is_flag=True, help="Run nothing; write the report of the finished runs.")
@click.option("--base", metavar="BASE", help="Another base than the file's; the study is then called after it too.")
@click.option("--cell", metavar="CELL", help="Run one finished cell again, beside the study: PAIR/ARM/PAIRS/RATIO/SEED or the id of a line of results.jsonl.")
@click.option("--no-scores", is_flag=True, help="Translate nothing: the losses alone, where scoring would take longer than training.")
@click.option("--runs", type=click.IntRange(min=1), help="Stop after so many more runs.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so many minutes: runs that would not be finished by then, at the speed of those so far, are not begun, and what is running is stopped.",
)
@click.option(
    "--speed", type=click.IntRange(min=1), default=100, show_default=True, help="Tokens a second of one run, for --dry-run and until one is finished."
)
@click.option("-o", "--out", type=_PATH, required=True, metavar="DIR", help="Study directory; the report is in DIR/report.")
def study(
    file: Path,
    jobs: int,
    dry_run: bool,
    report_only: bool,
    base: str | None,
    cell: str | None,
    no_scores: bool,
    runs: int | None,
    minutes: float | None,
    speed: int,
    out: Path,
) -> None:
    """Compare ways of training over sizes of the task data, amounts of general data and seeds.

    Learning rates are tuned for each arm on one part of the training data and on seeds of their own, and the arms are compared on other segments. The same
    command continues a study that was stopped.
    """
    from eval.study.report import write_study_report

    if report_only:
        # Of a study of before too, whose file is refused.
        summary = write_study_report(out, out / "report")
        say(f"wrote {out / 'report'}")
        emit(
            {"runs": summary["runs"], "report": str(out / "report")}, lambda: table("", ["", ""], [["runs", summary["runs"]], ["report", str(out / "report")]])
        )
        return
    from eval.study.config import read_study
    from eval.study.plan import cost, planned_cost
    from eval.study.run import StudyRunner

    runner = StudyRunner(read_study(file, base), file, out, jobs, scores=not no_scores)
    if dry_run:
        missing = runner.missing_runs(runner.finished())
        stages = planned_cost(runner.study)
        rows = [
            [r.role, r.pair, r.arm, "all" if r.size is None else f"{r.size:,}", f"{r.ratio:g}", r.seed, r.learning_rate or "-", f"{cost(runner.study, r):,}"]
            for r in missing
        ]
        columns = ["", "pair", "arm", "task pairs", "ratio", "seed", "rate", "tokens"]
        whole = [[name, n, f"{tokens:,}", f"{tokens / speed / 3600 / jobs:.1f}"] for name, n, tokens in stages]
        whole.append(["all", sum(n for _, n, _ in stages), f"{sum(t for *_, t in stages):,}", f"{sum(t for *_, t in stages) / speed / 3600 / jobs:.1f}"])
        result = {
            "left": [r.model_dump() for r in missing],
            "stages": [{"stage": name, "runs": n, "tokens": tokens, "hours": round(tokens / speed / 3600 / jobs, 2)} for name, n, tokens in stages],
        }
        title = f"At most, at {speed} tokens/s a run and {jobs} at a time"
        emit(result, lambda: _both(table(title, ["stage", "runs", "tokens", "hours"], whole), table(f"{len(rows)} runs can begin now", columns, rows)))
        return
    if cell is not None:
        again = runner.repeat(cell, runner.finished())
        figures = [[name, again["before"].get(name), again["again"].get(name)] for name in ("nats_per_token", "chrf2", "bleu", "segments")]
        emit(again, lambda: table(again["cell"], ["", "recorded", "again"], [[n, "-" if a is None else a, "-" if b is None else b] for n, a, b in figures]))
        return
    runner.run_all(runs, minutes, speed)
    finished = runner.finished()
    write_study_report(out, out / "report")
    say(f"wrote {out / 'report'}")
    rates = [[p, a, f"{n:,}", f"{ratio:g}", "-" if r is None else f"{r:g}"] for p, a, n, ratio, r in runner.chosen_rates(finished)]
    columns = ["pair", "arm", "task pairs", "ratio", "rate"]
    emit({"runs": len(finished), "report": str(out / "report")}, lambda: table(f"{len(finished)} runs; chosen learning rates", columns, rates))


def _both(*parts: Any) -> Any:
    from rich.console import Group

    return Group(*parts)
