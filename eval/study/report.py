"""The report of a study: its figures, the page and the plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.study.results import read_results
from tell.files import write_atomic, write_json


def write_study_report(study_dir: Path, out_dir: Path) -> dict[str, Any]:
    """Write the page, its plots and its figures to `out_dir`, and return the figures. Raises BadInput when there is nothing to report or damage."""
    from eval.study.page import study_page
    from eval.study.plots import study_plots
    from eval.study.summary import summarise

    results = read_results(study_dir)
    summary, changes = summarise(results, study_dir)
    pictures = study_plots(summary, changes, results.study.reference_arm)
    text = study_page(summary, study_dir.resolve().name, sorted(pictures))
    for name, png in pictures.items():
        write_atomic(out_dir / name, png)
    write_json(out_dir / "summary.json", summary)
    write_atomic(out_dir / "study.md", text)
    return summary
