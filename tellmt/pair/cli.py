"""`tellmt pair`: add a language pair from files, list the pairs, show one, remove one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tell.command import Command, Group, Many
from tell.console import clock, emit, say, table
from tell.corpus.cli import reading_options
from tell.languages import parse_pair
from tell.model.base import DEFAULT_BASE

_FILE = click.Path(path_type=Path)


@click.group(cls=Group)
def pair() -> None:
    """Add a language pair from a small corpus, in one command."""


@pair.command("add", cls=Command)
@click.argument("pair_", metavar="PAIR")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--mono", type=_FILE, help="A text in the source language: with too few pairs, which of its sentences to have translated.")
@click.option("--base", help=f"Base model.  [default: {DEFAULT_BASE}]")
@click.option("--budget", metavar="TIME", help="The time there is, such as 20m or 2h: fewer passes are made where they do not fit.")
@click.option("--one-way", is_flag=True, help="PAIR alone, and not the other direction.")
@reading_options
@click.option("--against", cls=Many, type=_FILE, help="A test set that no pair may repeat; several may follow.")
@click.option("--few", is_flag=True, help="Train although there are very few pairs.")
@click.option("--engine", default="auto", show_default=True, help="Engine driver for the scores: vllm, ct2, or auto.")
@click.option("--dry-run", is_flag=True, help="Stop after saying what would be done, and how long it would take.")
def add_(
    pair_: str,
    files: tuple[Path, ...],
    mono: Path | None,
    base: str | None,
    budget: str | None,
    one_way: bool,
    swap: tuple[Path, ...],
    off: tuple[str, ...],
    against: tuple[Path, ...],
    few: bool,
    engine: str,
    dry_run: bool,
    **how: str | None,
) -> None:
    """Make PAIR (such as fo-en) of FILES, in both directions: clean, split, train, score, publish.

    A running service then has it. The same command goes on where it was interrupted; with more files it takes them in, and the frozen test set stays.
    """
    from tellmt.pair.add import Request, add, show
    from tellmt.pair.plan import seconds_of
    from tellmt.pair.workspace import home_of

    wanted = parse_pair(pair_, "PAIR")
    time = None if budget is None else seconds_of(budget)
    for path in (*((mono,) if mono else ()), *against):
        click.Path(exists=True, dir_okay=False).convert(path, None, None)
    reading = {f"--{name.replace('_', '-')}": [value] for name, value in how.items() if value is not None} | ({"--off": list(off)} if off else {})
    request = Request(wanted, files, mono, base, time, one_way, reading, swap, against, few, engine, dry_run)
    home = home_of(wanted)
    result = add(request, home)
    say(f"\nreports and adapters: {home.path}")
    if any(d.get("live") for d in result.get("directions", {}).values()):
        say("served by: tellmt serve (one that runs already has it)")
    emit(result, lambda: show(result))


def _row(home: Any) -> dict[str, Any]:
    from tell.registry.registry import Registry

    asked, store = home.asked(), Registry()
    directions = {}
    for direction in [home.pair, home.pair.reverse] if asked.both else [home.pair]:
        directions[str(direction)] = {"live": store.state(str(direction)).live, "done": home.done(direction)}
    return {"pair": str(home.pair), "path": str(home.path), "base": asked.base, "files": [f.model_dump() for f in asked.files], "directions": directions}


def _chrf(done: dict[str, Any] | None, system: str) -> str:
    return f"{done['scores'][system]['chrf']['score']:.1f}" if done else ""


@pair.command("list", cls=Command)
def list_() -> None:
    """List the pairs that were added, with their scores and what is live."""
    from tellmt.pair.workspace import homes

    rows = [_row(home) for home in homes()]
    lines = []
    for row in rows:
        for direction, d in row["directions"].items():
            trained_on = d["done"]["splits"]["train"] if d["done"] else ""
            lines.append([direction, row["base"], trained_on, _chrf(d["done"], "base"), _chrf(d["done"], "adapter"), (d["live"] or "")[:12]])
    if not rows:
        say("no pair was added yet: tellmt pair add PAIR FILE")
    emit({"pairs": rows}, lambda: table("", ["direction", "base", "training pairs", "chrF2, bare base", "chrF2, adapter", "live"], lines) if rows else None)


@pair.command("show", cls=Command)
@click.argument("pair_", metavar="PAIR")
def show_(pair_: str) -> None:
    """Show what is known of PAIR: its files, what was made of them, and what is live."""
    from rich.console import Group as Stack

    from tellmt.pair.workspace import existing

    home = existing(pair_)
    row = _row(home)
    facts = [["directory", row["path"]], ["base", row["base"]]]
    for direction, d in row["directions"].items():
        facts.append([f"{direction}: live", (d["live"] or "nothing")[:12]])
        if done := d["done"]:
            facts.append([f"{direction}: pairs", ", ".join(f"{n:,} {split}" for split, n in done["splits"].items())])
            facts.append([f"{direction}: chrF2 on test", f"{_chrf(done, 'adapter')}, bare base {_chrf(done, 'base')}"])
            facts.append([f"{direction}: made", f"{done['finished']} in {clock(done['seconds'])}"])
            facts += [[f"{direction}: not published", reason] for reason in done["refused"] or []]
        else:
            facts.append([f"{direction}: made", f"not yet: tellmt pair add {row['pair']} goes on"])
    files = [[f["name"], f["added"], f["origin"]] for f in row["files"]]
    emit(row, lambda: Stack(table(row["pair"], ["", ""], facts), table("", ["file", "added", "from"], files)))


@pair.command("remove", cls=Command)
@click.argument("pair_", metavar="PAIR")
@click.option("--keep-live", is_flag=True, help="Leave what is live in the registry, and only remove the directory.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_(pair_: str, keep_live: bool, yes: bool) -> None:
    """Take PAIR off the services, and remove its directory with the corpus, the frozen test set and the adapters in it.

    What was published stays in the registry: `tellmt registry rollback PAIR` brings it back.
    """
    from tell.registry.registry import Registry
    from tellmt.pair.workspace import existing, remove

    home = existing(pair_)
    row = _row(home)
    if not yes:
        click.confirm(f"Remove {row['path']}, with {len(row['files'])} files and all that was made of them?", abort=True, err=True)
    withdrawn = []
    for direction, d in row["directions"].items():
        if d["live"] and not keep_live:
            Registry().withdraw(direction, "tellmt pair remove")
            withdrawn.append(direction)
            say(f"{direction}: {d['live'][:12]} is not live any more")
    remove(home)
    say(f"{row['path']}: removed")
    emit({"removed": row["path"], "withdrawn": withdrawn})
