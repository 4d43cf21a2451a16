"""`tellmt pair`: add a language pair from files, list the pairs, show one, remove one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tell.command import Command, Group, Many
from tell.console import clock, emit, say, table
from tell.corpus.cli import reading_options
from tell.errors import BadInput
from tell.languages import LanguagePair, parse_pair
from tell.model.base import DEFAULT_BASE

_FILE = click.Path(path_type=Path)
# What --lexicon calls the lexicons that come with tellmt.
SHIPPED = "shipped"


@click.group(cls=Group)
def pair() -> None:
    """Add a language pair from a small corpus, in one command."""


def _lexicons(direction: LanguagePair, named: tuple[str, ...]) -> dict[Path, LanguagePair]:
    """The lexicons that --lexicon names, with the direction of the pair that each is of. Raises BadInput for one that is none, or is of another pair."""
    from tell.adapter.shipped import shipped_adapters
    from tell.alignment.find import find_lexicon
    from tell.lexicon.lexicon import FILE, Lexicon

    directions = (direction, direction.reverse)
    found: dict[Path, LanguagePair] = {}
    for name in named:
        if name == SHIPPED:
            paths = [s.path for pair, s in shipped_adapters().items() if pair in map(str, directions) and (s.path / FILE).is_file()]
            if not paths:
                raise BadInput("no lexicon of this pair comes with tellmt", place="--lexicon", found=name, valid="the path of a lexicon or of an adapter")
        else:
            paths = [find_lexicon(name)]
        for path in paths:
            if (of := Lexicon.read(path).pair) not in directions:
                raise BadInput("this lexicon is of another pair", place=f"--lexicon {name}", found=str(of), valid=" or ".join(map(str, directions)))
            found[path] = of
    return found


@pair.command("add", cls=Command)
@click.argument("pair_", metavar="PAIR")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--mono", type=_FILE, help="A text in the source language: with too few pairs, sentences of it are proposed for translation.")
@click.option("--base", help=f"Base model.  [default: {DEFAULT_BASE}]")
@click.option("--budget", metavar="TIME", help="Time that all steps may take, such as 20m or 2h; training runs fewer epochs where they do not fit.")
@click.option("--one-way", is_flag=True, help="Make PAIR alone, without the other direction.")
@reading_options
@click.option("--against", cls=Many, type=_FILE, help="A test set whose segments must not be in the corpus; may name several.")
@click.option("--dictionary", "dictionaries", cls=Many, type=_FILE, help="Dictionary of the pair, for word hints: TSV, TBX, TMX or .dix; may name several.")
@click.option(
    "--lexicon", "lexicons", cls=Many, help="Lexicon or adapter of the pair whose words are added to its own; shipped is the one that comes with tellmt."
)
@click.option("--no-hints", is_flag=True, help="Train without word hints from a lexicon of the pair.")
@click.option("--few", is_flag=True, help="Train even on very few pairs.")
@click.option("--engine", default="auto", show_default=True, help="Engine driver for the scores: vllm, ct2, or auto.")
@click.option("--dry-run", is_flag=True, help="Stop after the plan: what would be done, and how long it would take. Keeps and fetches nothing.")
def add_(pair_: str, **options: Any) -> None:
    """Make PAIR (such as fo-en) from FILES, in both directions: clean, split, train, score, publish.

    A running service then serves it. The same command goes on where it was interrupted. With more files it adds them; the frozen test set stays.
    """
    from tellmt.pair.add import AddOptions, add_pair, result_table
    from tellmt.pair.plan import seconds_of
    from tellmt.pair.workspace import workspace_of

    direction = parse_pair(pair_, "PAIR")
    take = options.pop
    budget, mono, against, off, dictionaries = take("budget"), take("mono"), take("against"), take("off"), take("dictionaries")
    lexicons = _lexicons(direction, take("lexicons"))
    budget_seconds = None if budget is None else seconds_of(budget)
    if missing := [path for path in dictionaries if not path.is_file()]:
        raise BadInput("no such file", place="--dictionary", found=str(missing[0]), valid="a dictionary: TSV, TBX, TMX or .dix")
    for path in (*((mono,) if mono else ()), *against):
        click.Path(exists=True, dir_okay=False).convert(path, None, None)
    add_options = AddOptions(
        pair=direction,
        files=take("files"),
        mono=mono,
        base=take("base"),
        budget=budget_seconds,
        one_way=take("one_way"),
        swap=take("swap"),
        against=against,
        dictionaries=dictionaries,
        lexicons=lexicons,
        hints=not take("no_hints"),
        allow_few=take("few"),
        engine=take("engine"),
        dry_run=take("dry_run"),
        # What is left are the options of READING: `corpus build` gets them as they were given.
        reading={f"--{name.replace('_', '-')}": [] if value is True else [value] for name, value in options.items() if value not in (None, False)}
        | ({"--off": list(off)} if off else {}),
    )
    workspace = workspace_of(direction)
    result = add_pair(add_options, workspace)
    say("\nnothing was kept" if add_options.dry_run else f"\nreports and adapters: {workspace.path}")
    if any(d.get("live") for d in result.get("directions", {}).values()):
        say("served by: tellmt serve (one that runs already has it)")
    emit(result, lambda: result_table(result))


def _summary(workspace: Any) -> dict[str, Any]:
    """The pair's settings, and for each direction the live adapter and the last result."""
    from tell.registry.registry import Registry

    settings, registry = workspace.settings(), Registry()
    directions = {}
    for direction in [workspace.pair, workspace.pair.reverse] if settings.both else [workspace.pair]:
        directions[str(direction)] = {"live": registry.state(str(direction)).live, "done": workspace.last_result(direction)}
    files = [f.model_dump() for f in settings.files]
    return {"pair": str(workspace.pair), "path": str(workspace.path), "base": settings.base, "files": files, "directions": directions}


def _chrf(result: dict[str, Any] | None, system: str) -> str:
    return f"{result['scores'][system]['chrf']['score']:.1f}" if result else ""


@pair.command("list", cls=Command)
def list_() -> None:
    """List the pairs that were added, with their scores and their live adapters."""
    from tellmt.pair.workspace import all_workspaces

    summaries = [_summary(workspace) for workspace in all_workspaces()]
    rows = []
    for summary in summaries:
        for direction, d in summary["directions"].items():
            training_pairs = d["done"]["splits"]["train"] if d["done"] else ""
            rows.append([direction, summary["base"], training_pairs, _chrf(d["done"], "base"), _chrf(d["done"], "adapter"), (d["live"] or "")[:12]])
    if not summaries:
        say("no pair was added yet: tellmt pair add PAIR FILE")
    columns = ["direction", "base", "training pairs", "chrF2, bare base", "chrF2, adapter", "live"]
    emit({"pairs": summaries}, lambda: table("", columns, rows) if summaries else None)


@pair.command("show", cls=Command)
@click.argument("pair_", metavar="PAIR")
def show_(pair_: str) -> None:
    """Show PAIR: its files, the result of each direction, and the live adapters."""
    from rich.console import Group as Stack

    from tellmt.pair.workspace import existing_workspace

    summary = _summary(existing_workspace(pair_))
    facts = [["directory", summary["path"]], ["base", summary["base"]]]
    for direction, d in summary["directions"].items():
        facts.append([f"{direction}: live", (d["live"] or "nothing")[:12]])
        if result := d["done"]:
            facts.append([f"{direction}: pairs", ", ".join(f"{n:,} {split}" for split, n in result["splits"].items())])
            facts.append([f"{direction}: chrF2 on test", f"{_chrf(result, 'adapter')}, bare base {_chrf(result, 'base')}"])
            facts.append([f"{direction}: made", f"{result['finished']} in {clock(result['seconds'])}"])
            facts += [[f"{direction}: not published", reason] for reason in result["refused"] or []]
        else:
            facts.append([f"{direction}: made", f"not yet: tellmt pair add {summary['pair']} goes on"])
    files = [[f["name"], f["added"], f["origin"]] for f in summary["files"]]
    emit(summary, lambda: Stack(table(summary["pair"], ["", ""], facts), table("", ["file", "added", "from"], files)))


@pair.command("remove", cls=Command)
@click.argument("pair_", metavar="PAIR")
@click.option("--keep-live", is_flag=True, help="Only remove the directory; live adapters stay live.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_(pair_: str, keep_live: bool, yes: bool) -> None:
    """Take PAIR off the services, and remove its directory with the corpus, the frozen test set and the adapters.

    Published adapters stay in the registry: `tellmt registry rollback PAIR` brings the last one back.
    """
    from tell.registry.registry import Registry
    from tellmt.pair.workspace import existing_workspace, remove_workspace

    workspace = existing_workspace(pair_)
    summary = _summary(workspace)
    if not yes:
        click.confirm(f"Remove {summary['path']}, with {len(summary['files'])} files and everything that was made of them?", abort=True, err=True)
    withdrawn = []
    for direction, d in summary["directions"].items():
        if d["live"] and not keep_live:
            Registry().withdraw(direction, "tellmt pair remove")
            withdrawn.append(direction)
            say(f"{direction}: {d['live'][:12]} is not live any more")
    remove_workspace(workspace)
    say(f"{summary['path']}: removed")
    emit({"removed": summary["path"], "withdrawn": withdrawn})
