"""`tellmt compare`: compares outputs in a table, and with -o also in compare.json and compare.html."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eval.scoring.system_outputs import gather
from tell.command import Command, Many
from tell.console import emit, progress, say
from tell.errors import BadInput

if TYPE_CHECKING:
    from eval.scoring.system_outputs import SystemOutput

FILE = click.Path(path_type=Path)


def baseline_first(outputs: list[SystemOutput], baseline: str | None) -> list[SystemOutput]:
    """The outputs with the baseline first. Raises BadInput when no system, or more than one, has this name."""
    from tell.errors import suggestion

    if baseline is None:
        return outputs
    named = [o for o in outputs if o.name == baseline] or [o for o in outputs if Path(o.place).name == baseline]
    if len(named) != 1:
        raise BadInput("no system of this name", place="--baseline", found=baseline, valid=suggestion(baseline, [o.name for o in outputs]))
    return [*named, *(o for o in outputs if o is not named[0])]


@click.command(cls=Command)
@click.argument("outputs", type=FILE, nargs=-1, required=True)
@click.option("--reference", type=FILE, help="File of references, one segment per line; not needed for directories of tellmt score.")
@click.option("--source", type=FILE, help="File of sources, one per line: for diagnostics, lengths, and metrics that read them.")
@click.option("--documents", type=FILE, help="File with the document id of each segment, one per line.")
@click.option("--pair", help="Direction of translation, such as is-en.  [default: by the texts, where sources are given]")
@click.option("--baseline", help="Name of the system that the others are compared with.  [default: the first]")
@click.option("--metric", "metrics", cls=Many, help="bleu, chrf, chrf++, ter, spbleu, comet, all, or the metric of a package; may name several.")
@click.option("--trials", type=click.IntRange(min=100), default=10_000, show_default=True, help="Trials of the paired approximate randomisation.")
@click.option("--resamples", type=click.IntRange(min=40), default=1000, show_default=True, help="Samples of the paired bootstrap.")
@click.option("-o", "--out", type=FILE, help="Directory to write compare.json and compare.html (a page with plots) to.")
def compare(
    outputs: tuple[Path, ...], baseline: str | None, metrics: tuple[str, ...], trials: int, resamples: int, out: Path | None, **side_files: Any
) -> None:
    """Compare the OUTPUTS of systems on the same segments.

    OUTPUTS are text files with one segment per line, JSONL, or directories that tellmt score wrote. The others are compared with the first, by paired
    approximate randomisation and paired bootstrap.
    """
    from eval.compare.compare import Settings
    from eval.compare.compare import compare as run
    from eval.compare.terminal import comparison_tables
    from eval.scoring.metrics import chosen

    if len(outputs) == 1 and not outputs[0].is_dir() and outputs[0].suffix not in (".jsonl", ".ndjson"):
        raise click.UsageError("comparing takes two outputs or more; tellmt score --hypotheses FILE scores one")
    if out is not None and out.exists() and not out.is_dir():
        raise BadInput("this is a file", place=str(out), valid="a directory for -o")
    # `side_files` are the references, sources and document ids, and the pair.
    segments, systems, notes = gather(outputs, **side_files)
    systems = baseline_first(systems, baseline)
    if len(systems) < 2:
        raise BadInput("there is one system only", place=str(outputs[0]), found=systems[0].name, valid="two or more")
    measures = chosen(metrics, segments.pair)
    with progress() as bar:
        task = bar.add_task("compare", total=len(systems))

        def step(name: str) -> None:
            bar.update(task, description=f"score {name}")
            bar.advance(task)

        result = run(segments, {s.name: s.hypotheses for s in systems}, Settings(measures, trials, resamples), {s.name: s.place for s in systems}, step)
    result["notes"] = notes
    for note in _notes(result):
        say(f"note: {note}")
    if out is not None:
        from eval.compare.page import comparison_page
        from tell.files import write_atomic, write_json

        write_json(out / "compare.json", result)
        write_atomic(out / "compare.html", comparison_page(result))
        say(f"wrote {out / 'compare.json'} and {out / 'compare.html'}")
    emit({**result, "out": None if out is None else str(out)}, lambda: comparison_tables(result))


def _notes(result: dict[str, Any]) -> list[str]:
    notes = list(result["notes"])
    if result["repeated"]:
        notes.append(f"{result['repeated']:,} of {result['segments']:,} segments repeat an earlier one; each is counted")
    if result["segments"] < 30:
        notes.append(f"{result['segments']:,} segments tell little: intervals and p of so few are rough")
    first = result["systems"][result["baseline"]]["sha256"]
    same = [name for name, s in result["systems"].items() if name != result["baseline"] and s["sha256"] == first]
    return notes + [f"{name} is the same output as {result['baseline']}" for name in same]
