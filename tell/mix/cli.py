"""`tellmt mix`: corpora and general data in, a mix directory out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tell.alignment.find import find_lexicon
from tell.command import Command, Many
from tell.console import emit, say, table
from tell.corpus.directory import read_report
from tell.corpus.readers.dispatch import labels
from tell.errors import BadInput, NotFound, RecipeError
from tell.files import sha256_file
from tell.languages import parse_pair
from tell.mix.build import mix as make
from tell.mix.build import mix_key, open_inputs
from tell.mix.config import ORDERS, GeneralSource, MixConfig, MixPlan
from tell.mix.hinting import HintConfig, HintPlan
from tell.mix.retrieving import RetrievalConfig
from tell.model.anchor import AnchorConfig, render
from tell.model.base import DEFAULT_BASE, find_base
from tell.recipe import load_recipe, validated

_PATH = click.Path(path_type=Path)
# Keys of which a recipe or the flags give one; a flag takes the place of either in the recipe.
_AMOUNTS = ("ratio", "general_tokens")


def _config(recipe: Path, table: Any, flags: dict[str, Any]) -> MixConfig:
    """The `[mix]` table with the flags in it; flags win."""
    set_flags = {k: v for k, v in flags.items() if v is not None}
    if set(_AMOUNTS) <= set(set_flags):
        raise RecipeError("--ratio and --general-tokens are both given", valid="one of them")
    if set_flags and isinstance(table, dict):
        table = {**{k: v for k, v in table.items() if not (k in _AMOUNTS and set(_AMOUNTS) & set(set_flags))}, **set_flags}
    return validated(MixConfig, table, f"{recipe}, [mix]")


def _sources(config: MixConfig, general: tuple[Path, ...], folder: Path) -> tuple[GeneralSource, ...]:
    """The files of the general data. Fetches datasets that are not in the cache."""
    if general or not config.sources:
        files = general or tuple(folder / g for g in config.general)
        return tuple(GeneralSource(p, n) for p, n in zip(files, labels(files), strict=True))
    from tell.mix.hub_datasets import dataset_file

    sources: list[GeneralSource] = []
    paths = [folder / s.path if s.path is not None else dataset_file(s, folder) for s in config.sources]
    for s, path, label in zip(config.sources, paths, labels(paths), strict=True):
        if s.path is not None:
            sources.append(GeneralSource(path, label, s.share, s.prompt, s.completion))
        else:
            name = f"{s.dataset}:{s.split}"
            sources.append(GeneralSource(path, label if name in (o.label for o in sources) else name, s.share, dataset=s.dataset))
    return tuple(sources)


def _hints(recipe: Path, table: Any, lexicon: str | None) -> HintPlan | None:
    """The `[hints]` table with the lexicon of the command line; None where neither names a lexicon."""
    config = validated(HintConfig, table, f"{recipe}, [hints]")
    if lexicon is None and config.lexicon is None:
        if table:
            raise RecipeError("[hints] without a lexicon", place=str(recipe), valid="lexicon = DIRECTORY of tellmt lexicon build, or --lexicon")
        return None
    return HintPlan(recipe.parent / str(config.lexicon) if lexicon is None else _lexicon(lexicon), config)


def _lexicon(named: str) -> Path:
    try:
        return find_lexicon(named)
    except NotFound as e:
        # An option of a command that needs it: exit code 2, as for any other file that is not there.
        raise BadInput(e.thing, place=f"--lexicon {named}", valid=e.valid) from None


def _plan(
    recipe: Path,
    corpora: tuple[Path, ...],
    general: tuple[Path, ...],
    base: str | None,
    seed: int | None,
    lexicon: str | None,
    retrieval: bool,
    flags: dict[str, Any],
) -> MixPlan:
    """The plan from the recipe and the flags; flags win."""
    tables = load_recipe(recipe)
    config = _config(recipe, tables.get("mix", {}), flags)
    pair = parse_pair(tables["pair"], f"{recipe}, pair") if "pair" in tables else parse_pair(read_report(corpora[0])["pair"], str(corpora[0]))
    wording = validated(AnchorConfig, tables.get("anchor", {}), f"{recipe}, [anchor]")
    model = find_base(base or tables.get("base", DEFAULT_BASE))
    sources = _sources(config, general, recipe.parent)
    if not sources and not set(_AMOUNTS) & config.model_fields_set:
        # A recipe that says nothing of general data wants none: in the study it did not help (docs/results/study.md).
        config = config.model_copy(update={"ratio": 0.0})
    hints = _hints(recipe, tables.get("hints", {}), lexicon)
    # The table alone is enough, be it empty: nobody writes it who wants none.
    near = validated(RetrievalConfig, tables.get("retrieval", {}), f"{recipe}, [retrieval]") if retrieval or "retrieval" in tables else None
    seed = tables.get("seed", 0) if seed is None else seed
    return MixPlan(str(pair), corpora, sources, model, render(wording, pair, model), config, seed, hints, near)


@click.command("mix", cls=Command)
@click.option("--recipe", required=True, type=_PATH, help="Recipe: pair, base, seed, [anchor], [mix], [hints], [retrieval]; docs/recipes.md has every key.")
@click.option("--corpus", "corpora", cls=Many, required=True, type=_PATH, help="Corpus directory; may name several.")
@click.option("--general", cls=Many, type=_PATH, help="JSONL of {prompt, completion}, may be .gz; may name several. Replaces the recipe's files.")
@click.option("--base", help="Base model whose tokens are counted.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed that decides the sample and the order.")
@click.option("--ratio", type=float, help="General tokens per task token; 0 for none.")
@click.option("--general-tokens", type=int, help="Number of general tokens, instead of a ratio.")
@click.option("--task-tokens", type=int, help="Most task tokens, in whole documents; a smaller budget takes a part of what a larger one takes.")
@click.option("--order", type=click.Choice(ORDERS), help="Order of task and general examples.  [default: shuffled]")
@click.option(
    "--lexicon",
    metavar="DIR|PAIR",
    help="Lexicon of `tellmt lexicon build`, or of a pair that was added: writes word hints into the prompts. Replaces the recipe's.",
)
@click.option("--retrieval", is_flag=True, help="Write the nearest training pairs into the prompts, as a table [retrieval] in the recipe does.")
@click.option("--report", is_flag=True, help="Also write report.json and order.png: tokens per word, spacing, what was left out.")
@click.option("--force", is_flag=True, help="Mix although nothing changed.")
@click.option("-o", "--out", required=True, type=_PATH, help="Mix directory to write.")
def mix(report: bool, force: bool, out: Path, **options: Any) -> None:
    """Turn training pairs into prompts, with word hints where there is a lexicon, and mix them with general examples."""
    # These override keys of the recipe's table [mix].
    flags = {name: options.pop(name) for name in ("ratio", "general_tokens", "task_tokens", "order")}
    plan = _plan(**options, flags=flags)
    if report:
        from tell.mix.report import check_plotting

        check_plotting()
    inputs = open_inputs(plan)
    mixed = None if force else _intact(out, mix_key(plan, inputs))
    if mixed is None:
        mixed = make(plan, inputs, out)
    else:
        say(f"{out}: unchanged, reused")
    if note := mixed.get("hints", {}).get("note"):
        say(f"note: {note}")
    if not report:
        emit(mixed, lambda: _shown(mixed, out))
        return
    from tell.mix.report import mix_tables, write_report

    lengths_and_spacing = write_report(out, mixed, plan.base, plan.anchor)
    emit({**mixed, "report": lengths_and_spacing}, lambda: _grouped(_shown(mixed, out), mix_tables(lengths_and_spacing, out)))


def _intact(out: Path, key: str) -> dict[str, Any] | None:
    """The mix.json at `out` if it has this key and its mixed.jsonl is what was written."""
    try:
        mixed: dict[str, Any] = dict(json.loads((out / "mix.json").read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as e:
        raise RecipeError("mix.json cannot be read", place=str(out / "mix.json"), found=str(e), valid="--force makes it again") from None
    examples = out / "mixed.jsonl"
    return mixed if mixed.get("key") == key and examples.is_file() and sha256_file(examples) == mixed.get("sha256") else None


def _grouped(*parts: Any) -> Any:
    from rich.console import Group

    return Group(*parts)


def _shown(report: dict[str, Any], out: Path) -> Any:
    counts = report["counts"]
    total = {k: counts["task"][k] + counts["general"][k] for k in ("examples", "tokens")}
    kept = [[name, c["examples"], c["tokens"]] for name, c in (("task", counts["task"]), ("general", counts["general"]), ("together", total))]
    tables = [table(f"{out}  {report['pair']}  {report['base']['id']}", ["", "examples", "tokens"], kept)]
    if hints := report.get("hints"):
        titles = {"hinted": "with hints", "hints": "hints in them", "dropped": "left without, on purpose", "too_long": "without room for hints"}
        tables.append(table("", ["hints", "examples"], [[title, hints["counts"][name]] for name, title in titles.items()]))
    if near := report.get("retrieval"):
        titles = {"retrieved": "with near pairs", "pairs": "pairs in them", "dropped": "left without, on purpose", "too_long": "without room for pairs"}
        tables.append(table("", ["nearest pairs", "examples"], [[title, near["counts"][name]] for name, title in titles.items()]))
    if report["left_out"]:
        tables.append(table("", ["left out", "examples"], [[reason, n] for reason, n in report["left_out"].items()]))
    return _grouped(*tables)
