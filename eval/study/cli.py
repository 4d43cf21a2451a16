"""`tellmt study`."""

from __future__ import annotations

from pathlib import Path

import click

from tell.command import Command
from tell.console import emit, say, table

_PATH = click.Path(path_type=Path)


@click.command("study", cls=Command)
@click.argument("file", metavar="STUDY.toml", type=_PATH)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at the same time; each gets its share of the cores.")
@click.option("--dry-run", is_flag=True, help="List the runs, and stop.")
@click.option("--report-only", is_flag=True, help="Run nothing; write the report of the finished runs.")
@click.option("-o", "--out", type=_PATH, required=True, metavar="DIR", help="Study directory; the report is in DIR/report.")
def study(file: Path, jobs: int, dry_run: bool, report_only: bool, out: Path) -> None:
    """Compare ways of training over budgets, amounts of general data and seeds.

    Learning rates are tuned for each arm on one part of the training data, and the arms are compared on another. The same command continues a study that was
    stopped.
    """
    from eval.study.config import read_study
    from eval.study.report import write_study_report
    from eval.study.run import StudyRunner

    runner = StudyRunner(read_study(file), file, out, jobs)
    if dry_run:
        missing = runner.missing_runs(runner.finished())
        rows = [[r.role, r.pair, r.arm, "all" if r.budget is None else f"{r.budget:,}", r.ratio, r.seed, r.learning_rate or "-"] for r in missing]
        columns = ["", "pair", "arm", "task tokens", "ratio", "seed", "rate"]
        emit({"left": [r.model_dump() for r in missing]}, lambda: table(f"{len(rows)} runs left, and those that wait for a learning rate", columns, rows))
        return
    if not report_only:
        runner.run_all()
    finished = runner.finished()
    write_study_report(out, out / "report")
    say(f"wrote {out / 'report'}")
    rates = [[p, a, f"{b:,}", "-" if r is None else f"{r:g}"] for p, a, b, r in runner.chosen_rates(finished)]
    emit(
        {"runs": len(finished), "report": str(out / "report")},
        lambda: table(f"{len(finished)} runs; chosen learning rates", ["pair", "arm", "at", "rate"], rates),
    )
