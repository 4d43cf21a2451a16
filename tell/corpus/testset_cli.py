"""`tellmt testset add|list|remove|check`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tell.command import Command, Group
from tell.console import emit, progress, say, table

_FILE = click.Path(path_type=Path)


@click.group(cls=Group)
def testset() -> None:
    """Register test sets, which must never be trained on, and look for them in data."""


@testset.command("add", cls=Command)
@click.argument("name")
@click.option("--source", type=_FILE, required=True, help="Its source segments, one a line.")
@click.option("--target", type=_FILE, required=True, help="Their translations, one a line.")
@click.option("--pair", required=True, help="Direction of translation, such as is-en.")
def add(name: str, source: Path, target: Path, pair: str) -> None:
    """Register a test set under NAME.

    From now on `tellmt corpus build` drops pairs that repeat it, `tellmt publish` refuses adapters that were trained on it, and `tellmt score --testset NAME`
    scores on it. This holds for both directions of its languages.
    """
    from tell.corpus.testsets import register_testset
    from tell.languages import parse_pair

    registered, already = register_testset(name, source, target, parse_pair(pair))
    remarks = [f"{n:,} {what}" for n, what in ((registered.repeated, "repeat an earlier one"), (registered.blank, "have an empty side")) if n]
    state = "already there" if already else "registered"
    say(f"{name}: {state}, {registered.segments:,} segments, {registered.pair}" + (f" ({', '.join(remarks)})" if remarks else ""))
    emit({**registered.row(), "already": already, "path": str(registered.path)})


@testset.command("list", cls=Command)
def list_sets() -> None:
    """List the registered test sets."""
    from tell.corpus.testsets import registered
    from tell.paths import testsets_dir

    sets = registered()

    def sets_table() -> Any:
        if not sets:
            return f"no test sets in {testsets_dir()}; tellmt testset add puts them there"
        return table(str(testsets_dir()), ["name", "pair", "segments", "repeated"], [[s.name, str(s.pair), s.segments, s.repeated] for s in sets])

    emit({"root": str(testsets_dir()), "testsets": [s.row() for s in sets]}, sets_table)


@testset.command("remove", cls=Command)
@click.argument("name")
def remove(name: str) -> None:
    """Remove the test set NAME; corpora may hold its segments again."""
    from tell.corpus.testsets import remove_testset

    removed = remove_testset(name)
    say(f"{name}: removed")
    emit({"removed": removed.name})


def texts_in(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of everything in a file that training may read: lines, cells of a TSV, and the lines of the texts of JSON objects."""
    from tell.corpus.readers.dispatch import corpus_format
    from tell.files import iter_lines, line_text, read_jsonl

    kind = corpus_format(path)
    if kind == "jsonl":
        for number, row in read_jsonl(path):
            for value in row.values():
                if isinstance(value, str):
                    for part in value.split("\n"):
                        yield number, part
        return
    for number, (start, raw) in enumerate(iter_lines(path), 1):
        line = line_text(raw, path, number, start)
        for cell in line.split("\t") if kind == "tsv" else [line]:
            yield number, cell


@testset.command("check", cls=Command)
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--testset", "names", multiple=True, help="Look for this test set only; may be given again.  [default: all]")
def check(files: tuple[Path, ...], names: tuple[str, ...]) -> None:
    """Look in FILES (text, TSV, JSONL, corpus directories) for registered test sets. The exit code is 1 when a whole segment is in them."""
    from tell.corpus.directory import REPORT, open_corpus
    from tell.corpus.overlap import Leaks
    from tell.corpus.testsets import find_testset, registered
    from tell.errors import BadInput

    sets = [find_testset(n) for n in names] or registered()
    if not sets:
        raise BadInput("no test set is registered", valid="tellmt testset add NAME --source FILE --target FILE --pair is-en")
    leaks = Leaks(s.held() for s in sets)
    with progress() as bar:
        task = bar.add_task("look", total=None)
        for path in files:
            if path.is_dir() and not (path / REPORT).is_file():
                raise BadInput("this is a directory", place=str(path), valid="a file, or a directory of tellmt corpus build")
            training_file = open_corpus(path).pairs_path if path.is_dir() else path
            for number, text in texts_in(training_file):
                leaks.look(text, str(training_file), number)
                if not leaks.texts % 10_000:
                    bar.update(task, completed=leaks.texts)
    report = leaks.report()
    emit({"texts": leaks.texts, "testsets": report}, lambda: overlap_tables(report, leaks.texts))
    if any(r["leaked"] for r in report):
        click.get_current_context().exit(1)


def overlap_tables(report: list[dict[str, Any]], texts: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    from tell.corpus.overlap import LISTED, WORDS

    columns = ["test set", "segments", "there whole", "there, short", "mostly there", "touched"]
    rows = [[r["name"], r["segments"], r["leaked"], r["short"], r["near"], r["touched"]] for r in report]
    lines = [f"mostly there: {LISTED:.0%} of its stretches of {WORDS} words or more; touched: any of them"]
    for r in report:
        lines += [f"{r['name']}, segment {x['segment']}: {x['place']}" for x in r["leaked_segments"][:10]]
        lines += [f"{r['name']}, segment {x['segment']}: {x['share']:.0%} in {x['place']} and elsewhere" for x in r["near_segments"][:5]]
    return Group(table(f"{texts:,} texts", columns, rows), *(Text(line) for line in lines))
