"""`tellmt corpus build`: parallel files in, a corpus directory out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tell.command import Command, Group, Many
from tell.console import emit, say, table
from tell.corpus.build import BuildOptions, build
from tell.corpus.rules import RULES, rule_of
from tell.corpus.split import Sizes
from tell.corpus.testsets import of_languages
from tell.languages import LanguagePair, parse_pair
from tell.model.base import find_base

_FILE = click.Path(path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])


# How files of pairs are read and cleaned, for every command that reads some.
READING = (
    click.option("--columns", help="Column names of a table without a header, in order: en,is or doc,en,is."),
    click.option("--source-column", help="Name of the source column in the header."),
    click.option("--target-column", help="Name of the target column in the header."),
    click.option("--doc-column", help="Name of the column of document ids in the header."),
    click.option("--sheet", help="Sheet of a spreadsheet.  [default: the first that is not empty]"),
    click.option("--encoding", help="Encoding of texts and tables.  [default: UTF-8, or detected and reported]"),
    click.option("--swap", cls=Many, type=_FILE, help="Files whose source and target sides are swapped; may name several."),
    click.option("--with-machine-output", is_flag=True, help="Read what a machine has translated and nobody confirmed, too; by default it is left out."),
    click.option("--off", cls=Many, type=str, help=f"Cleaning rules to switch off; may name several of: {', '.join(RULES)}."),
)


def reading_options(command: F) -> F:
    for option in reversed(READING):
        command = option(command)
    return command


@click.group(cls=Group)
def corpus() -> None:
    """Read a parallel corpus and freeze its split."""


@corpus.command("build", cls=Command)
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--pair", required=True, help="Direction of translation, such as is-en.")
@click.option("--docs", type=_FILE, help="File with the document id of each line of the two texts.")
@reading_options
@click.option("--against", cls=Many, type=_FILE, help="Test set whose segments must not be in the corpus; may name several.")
@click.option("--dev", type=click.IntRange(min=0), help="Pairs of the dev split, in whole documents.  [default: a tenth, at most 200]")
@click.option("--test", type=click.IntRange(min=0), help="Pairs of the test split, in whole documents.  [default: a tenth, at most 200]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed that decides which documents are dev and test.")
@click.option("--new-split", is_flag=True, help="Draw dev and test again although the corpus exists already.")
@click.option("--base", help="Base model: the report measures how well it knows the two languages.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes that clean; their number does not change the corpus.  [default: one for each core]")
@click.option("--force", is_flag=True, help="Build although nothing changed.")
@click.option("-o", "--out", required=True, type=_FILE, help="Corpus directory to write.")
def build_(pair: str, new_split: bool, force: bool, out: Path, **options: Any) -> None:
    """Clean parallel FILES into one corpus with a frozen split.

    FILES are SOURCE.txt and TARGET.txt, line by line; or TMX, XLIFF, PO, MO, TSV, CSV, XLSX and JSONL files; or directories of these. dropped.jsonl gives
    the reason for every dropped line, and report.html shows samples. Pairs that repeat a registered test set (tellmt testset) are dropped too. Pairs and
    documents that were dev or test in an earlier build at the same place stay dev or test.
    """
    report, reused = build(_build_options(parse_pair(pair), options), out, new_split, force)
    if reused:
        say(f"{out}: unchanged, reused")
    for note in [*report.get("notes", []), *report.get("base", {}).get("said", [])]:
        say(note)
    if report.get("missing_frozen"):
        say(f"{out}: {len(report['missing_frozen'])} frozen dev or test documents are no longer in the data")
    emit(report, lambda: _shown(report, out))


def _build_options(pair: LanguagePair, options: dict[str, Any]) -> BuildOptions:
    """The command's options as a BuildOptions. Raises TypeError for an option that it does not know."""
    take = options.pop
    registered = [file for test_set in of_languages(pair) for file in test_set.files]
    against = (*take("against"), *registered)
    sizes, base = Sizes(take("dev"), take("test"), take("seed")), take("base")
    # The remaining options have the names of the record's own fields.
    return BuildOptions(take("files"), pair, against=against, sizes=sizes, base=None if base is None else find_base(base), processes=take("jobs"), **options)


@corpus.command("reverse", cls=Command)
@click.argument("corpus_", metavar="CORPUS", type=_FILE)
@click.option("--force", is_flag=True, help="Write it although nothing changed.")
@click.option("-o", "--out", required=True, type=_FILE, help="Corpus directory to write, of the other direction.")
def reverse_(corpus_: Path, force: bool, out: Path) -> None:
    """Write the other direction of CORPUS: the same pairs and the same frozen split, with source and target exchanged."""
    from tell.corpus.reverse import reverse

    report, reused = reverse(corpus_, out, force)
    if reused:
        say(f"{out}: unchanged, reused")
    emit(report, lambda: _shown(report, out))


def _shown(report: dict[str, Any], out: Path) -> Any:
    rows: list[list[Any]] = [["read", report["read"], ""]]
    rows += [[f"dropped: {reason}", n, _turned_off_by(reason)] for reason, n in report["dropped"].items()]
    rows += [[f"mended: {name}", n, _turned_off_by(name)] for name, n in report.get("mended", {}).items()]
    rows.append(["kept", report["kept"], ""])
    rows += [[f"kept: {name}", s["pairs"], f"{s['docs']:,} documents"] for name, s in report["splits"].items()]
    return table(f"{out}  {report['pair']}, see report.html in it", ["", "pairs", ""], rows)


def _turned_off_by(reason: str) -> str:
    name = reason if reason in RULES else rule_of(reason)
    return f"--off {name}" if name else ""
