"""`tellmt select`: a pool in, the part of it worth training on or translating out."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from tell.command import Command, Many
from tell.console import emit, say, table
from tell.errors import RecipeError
from tell.extras import need
from tell.languages import parse_pair
from tell.model.base import DEFAULT_BASE, find_base
from tell.select.pool import Kind
from tell.select.selection import METHODS, Amount, SelectionPlan, check_out, intact, open_inputs, select_key
from tell.select.selection import select as make

_PATH = click.Path(path_type=Path)


def _percent(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text.removesuffix("%"))
    except InvalidOperation:
        raise RecipeError("not a number", place="--percent", found=text, valid="above 0, at most 100") from None


def _only(options: dict[str, Any], what: str) -> str:
    """The one option of a group that was given."""
    names = [name for name, value in options.items() if value not in (None, ())]
    if len(names) != 1:
        raise RecipeError(f"one of these says {what}", found=", ".join(names) or "none of them", valid=" or ".join(options))
    return names[0]


def _selection_plan(options: dict[str, Any]) -> SelectionPlan:
    """The command's options as a SelectionPlan. Raises RecipeError where they do not go together, and TypeError for an option that it does not know."""
    take = options.pop
    pools: dict[str, Any] = {"--general": take("general"), "--corpus": take("corpus"), "--text": take("text")}
    which = _only(pools, "what is chosen from")
    k, percent, tokens = take("k"), take("percent"), take("tokens")
    _only({"-k": k, "--percent": percent, "--tokens": tokens}, "how much is chosen")
    clusters, method, pair, base = take("clusters"), take("method"), take("pair"), take("base")
    if clusters is not None and method == "random":
        raise RecipeError("a random choice has no clusters", place="--clusters", found=str(clusters), valid="--method ltd or centres")
    kinds: dict[str, Kind] = {"--general": "general", "--corpus": "corpus", "--text": "text"}
    if pair is not None:
        for module in ("openpyxl", "lxml.etree"):
            need(module, "files")
    if pair is not None and which != "--text":
        raise RecipeError("only a text is exported for a translator", place="--pair", found=which, valid="--pair with --text")
    needs_base = method != "random" or tokens is not None
    return SelectionPlan(
        kind=kinds[which],
        inputs=(pools[which],) if which == "--text" else pools[which],
        amount=Amount(k, _percent(percent), tokens),
        method=method,
        clusters=clusters,
        base=find_base(base) if needs_base else None,
        pair=None if pair is None else parse_pair(pair),
        # The seed, and which part of an example or a pair is embedded, have the names of the record's own fields.
        **options,
    )


@click.command("select", cls=Command)
@click.option("--general", cls=Many, type=_PATH, help="Choose from general examples: JSONL of {prompt, completion}, may be .gz; may name several.")
@click.option("--corpus", cls=Many, type=_PATH, help="Choose from the training pairs of these corpus directories; may name several.")
@click.option("--text", type=_PATH, help="Choose from the lines of a text, to have them translated.")
@click.option("--pair", help="With --text: the pair to translate for, such as fo-en; writes selected.xlsx and selected.xlf for a translator too.")
@click.option("-k", "k", type=click.IntRange(min=1), help="How many items to choose.")
@click.option("--percent", help="How many items to choose, as a percentage of the pool.")
@click.option("--tokens", type=click.IntRange(min=1), help="Most tokens of the base to choose, without the anchors.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="ltd",
    show_default=True,
    help="ltd: the items nearest to cluster centres, then always the item farthest from all chosen ones; centres: only the first of these; random: by seed.",
)
@click.option("--clusters", type=click.IntRange(min=1), help="Clusters of K-Means.  [default: the square root of half the pool, at most -k]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed that decides the clusters and the random choice.")
@click.option("--base", default=DEFAULT_BASE, show_default=True, help="Base model that embeds the items and counts their tokens.")
@click.option("--field", type=click.Choice(["prompt", "both"]), default="both", show_default=True, help="The part of a general example that is embedded.")
@click.option("--side", type=click.Choice(["source", "target", "both"]), default="source", show_default=True, help="The part of a pair that is embedded.")
@click.option("--force", is_flag=True, help="Select although nothing changed.")
@click.option("-o", "--out", required=True, type=_PATH, help="Directory of the selection to write.")
def select(force: bool, out: Path, **options: Any) -> None:
    """Choose the items of a pool that are worth training on, or worth having translated.

    The method is LTD (arXiv 2305.09246). The base embeds every item; embeddings stay in the cache, so the next selection from the same pool
    takes seconds. With the same seed, method and --clusters, a smaller selection is the beginning of a larger one.
    """
    plan = _selection_plan(options)
    check_out(out, plan)
    inputs = open_inputs(plan)
    selection = None if force else intact(out, select_key(plan, inputs))
    if selection is None:
        selection = make(plan, inputs, out)
    else:
        say(f"{out}: unchanged, reused")
    emit(selection, lambda: _shown(selection, out))


def _shown(report: dict[str, Any], out: Path) -> Any:
    from rich.console import Group

    rows = [[name, report[name]["items"], "" if report[name]["tokens"] is None else f"{report[name]['tokens']:,}"] for name in ("pool", "chosen")]
    tables = [table(f"{out}  {report['kind']}, {report['method']}, seed {report['seed']}", ["", "items", "tokens"], rows)]
    if clusters := report["clusters"]:
        sizes, away = [c["size"] for c in clusters["clusters"]], clusters["distance"]
        facts = [
            ["clusters", f"{len(sizes)} of {min(sizes):,} to {max(sizes):,} items, {clusters['without']} without a chosen one"],
            ["distance to its centre", f"median {away['median']:.3f}, {away['min']:.3f} to {away['max']:.3f}"],
            ["farthest item of the pool from any chosen one", f"{clusters['covering_radius']:.3f}"],
        ]
        tables.append(table("", ["", ""], facts))
    if report["pool"]["left_out"]:
        tables.append(table("", ["not in the pool", "items"], [[reason, n] for reason, n in report["pool"]["left_out"].items()]))
    return Group(*tables)
