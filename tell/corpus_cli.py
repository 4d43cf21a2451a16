"""`tellmt corpus build`: parallel files in, a corpus directory out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tell.cli import Command, Group, Many
from tell.console import emit, say, table
from tell.corpus import Options, build, reusable
from tell.languages import parse_pair
from tell.split import Sizes
from tell.testsets import of_languages

_FILE = click.Path(path_type=Path)


@click.group(cls=Group)
def corpus() -> None:
    """Read a parallel corpus and freeze its split."""


@corpus.command("build", cls=Command)
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--pair", required=True, help="Direction of translation, such as is-en.")
@click.option("--docs", type=_FILE, help="One document id per line of the two texts.")
@click.option("--columns", help="Names of a TSV's columns in order, where it has no header: en,is or doc,en,is.")
@click.option("--against", cls=Many, type=_FILE, help="A test set that no kept pair may repeat; several may follow.")
@click.option("--dev", type=click.IntRange(min=0), help="Pairs for dev, in whole documents.  [default: a tenth, at most 200]")
@click.option("--test", type=click.IntRange(min=0), help="Pairs for test, in whole documents.  [default: a tenth, at most 200]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides which documents are dev and test.")
@click.option("--new-split", is_flag=True, help="Draw dev and test anew where the corpus exists already.")
@click.option("--force", is_flag=True, help="Build even when nothing changed.")
@click.option("-o", "--out", required=True, type=_FILE, help="The corpus directory.")
def build_(
    files: tuple[Path, ...],
    pair: str,
    docs: Path | None,
    columns: str | None,
    against: tuple[Path, ...],
    dev: int | None,
    test: int | None,
    seed: int,
    new_split: bool,
    force: bool,
    out: Path,
) -> None:
    """Clean SOURCE.txt and TARGET.txt, or TSV and JSONL FILES, into one corpus with a frozen split.

    Every line that is dropped has its reason in dropped.jsonl; what repeats a registered test set (tellmt testset) is. Documents that were
    dev or test in an earlier build at the same place stay so.
    """
    held = [file for s in of_languages(parse_pair(pair)) for file in s.files]
    options = Options(files, parse_pair(pair), docs, columns, (*against, *held), Sizes(dev, test, seed))
    report = None if force or new_split else reusable(out, options)
    if report is None:
        report = build(options, out, new_split)
    else:
        say(f"{out}: unchanged, reused")
    if report.get("missing_frozen"):
        say(f"{out}: {len(report['missing_frozen'])} frozen dev or test documents are not in the data any more")
    emit(report, lambda: _shown(report, out))


def _shown(report: dict[str, Any], out: Path) -> Any:
    rows: list[list[Any]] = [["read", report["read"], ""]]
    rows += [[f"dropped: {reason}", n, ""] for reason, n in report["dropped"].items()]
    rows.append(["kept", report["kept"], ""])
    rows += [[f"kept: {name}", s["pairs"], f"{s['docs']:,} documents"] for name, s in report["splits"].items()]
    return table(f"{out}  {report['pair']}", ["", "pairs", ""], rows)
