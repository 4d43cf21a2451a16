"""`tellmt mix`: corpora and general data in, a mix directory out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tell.anchors import AnchorConfig, render
from tell.bases import DEFAULT_BASE, find_base
from tell.cli import Command, Many
from tell.console import emit, say, table
from tell.corpus import read_corpus
from tell.errors import RecipeError
from tell.files import sha256_file
from tell.languages import parse_pair
from tell.mix import MixConfig, Plan, mix_key
from tell.mix import mix as make
from tell.recipe import load_recipe, validated

_PATH = click.Path(path_type=Path)


def _plan(recipe: Path, corpora: tuple[Path, ...], general: tuple[Path, ...], base: str | None, seed: int | None, ratio: float | None) -> Plan:
    """What the recipe and the flags say together; flags win."""
    found = load_recipe(recipe)
    table = found.get("mix", {})
    if ratio is not None and isinstance(table, dict):
        table = {**table, "ratio": ratio}
    config = validated(MixConfig, table, f"{recipe}, [mix]")
    pair = parse_pair(found["pair"], f"{recipe}, pair") if "pair" in found else parse_pair(read_corpus(corpora[0])["pair"], str(corpora[0]))
    wording = validated(AnchorConfig, found.get("anchor", {}), f"{recipe}, [anchor]")
    model = find_base(base or found.get("base", DEFAULT_BASE))
    pools = general or tuple(recipe.parent / g for g in config.general)
    return Plan(str(pair), corpora, pools, model, render(wording, pair, model), config, found.get("seed", 0) if seed is None else seed)


@click.command("mix", cls=Command)
@click.option("--recipe", required=True, type=_PATH, help="Recipe with pair, base, seed, [anchor] and [mix].")
@click.option("--corpus", "corpora", cls=Many, required=True, type=_PATH, help="A directory made by corpus build; several may follow.")
@click.option("--general", cls=Many, type=_PATH, help="JSONL of {prompt, completion}, may be .gz; several may follow. Replaces the recipe's list.")
@click.option("--base", help="Base model whose tokens are counted.")
@click.option("--seed", type=click.IntRange(min=0), help="Decides the sample and the order.")
@click.option("--ratio", type=float, help="General tokens per task token; 0 for none.")
@click.option("--force", is_flag=True, help="Mix even when nothing changed.")
@click.option("-o", "--out", required=True, type=_PATH, help="The mix directory.")
def mix(
    recipe: Path, corpora: tuple[Path, ...], general: tuple[Path, ...], base: str | None, seed: int | None, ratio: float | None, force: bool, out: Path
) -> None:
    """Anchor the training pairs of corpora and shuffle them through general examples."""
    plan = _plan(recipe, corpora, general, base, seed, ratio)
    report = None if force else _made(out, mix_key(plan))
    if report is None:
        report = make(plan, out)
    else:
        say(f"{out}: unchanged, reused")
    emit(report, lambda: _shown(report, out))


def _made(out: Path, key: str) -> dict[str, Any] | None:
    """The mix.json at `out` if it has this key and its mixed.jsonl is what was written."""
    try:
        found: dict[str, Any] = dict(json.loads((out / "mix.json").read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as e:
        raise RecipeError("mix.json cannot be read", place=str(out / "mix.json"), found=str(e), valid="--force makes it again") from None
    examples = out / "mixed.jsonl"
    return found if found.get("key") == key and examples.is_file() and sha256_file(examples) == found.get("sha256") else None


def _shown(report: dict[str, Any], out: Path) -> Any:
    from rich.console import Group

    counts = report["counts"]
    total = {k: counts["task"][k] + counts["general"][k] for k in ("examples", "tokens")}
    kept = [[name, c["examples"], c["tokens"]] for name, c in (("task", counts["task"]), ("general", counts["general"]), ("together", total))]
    shown = [table(f"{out}  {report['pair']}  {report['base']['id']}", ["", "examples", "tokens"], kept)]
    if report["left_out"]:
        shown.append(table("", ["left out", "examples"], [[reason, n] for reason, n in report["left_out"].items()]))
    return Group(*shown)
