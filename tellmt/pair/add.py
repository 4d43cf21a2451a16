"""`tellmt pair add`: the steps in their order, for both directions, from files to adapters that are live.

Reads files of segments; writes the pair's home (tellmt.pair.workspace), the registry through `tellmt publish`, and the cache of bases.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.console import clock, say, table
from tell.corpus.readers.dispatch import kind_of
from tell.errors import BadInput, BaseModelError, GateRefused
from tell.files import sha256_bytes, write_atomic, write_json
from tell.languages import LanguagePair
from tell.model.base import DEFAULT_BASE, Base, find_base
from tellmt.pair.commands import StepFailed, run
from tellmt.pair.plan import FEW, Direction, Plan, make_plan, recipe
from tellmt.pair.workspace import Asked, Given, Home, take

# Sentences that are proposed for translation.
PROPOSED = 300


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What the command line says; None means as before, or the default."""

    pair: LanguagePair
    files: tuple[Path, ...]
    mono: Path | None
    base: str | None
    budget: float | None
    one_way: bool
    reading: dict[str, list[str]]
    swap: tuple[Path, ...]
    against: tuple[Path, ...]
    few: bool
    engine: str
    dry_run: bool


def add(request: Request, home: Home) -> dict[str, Any]:
    """Go through every step that is not done yet. Raises BadInput, StepFailed, and GateRefused when no direction went live."""
    began = time.monotonic()
    with home.alone():
        before = home.asked()
        asked, at = _asked(request, home, before)
        directions = [home.pair, home.pair.reverse] if asked.both else [home.pair]
        try:
            base = _base(asked.base)
            corpora = {str(d): _corpus(home, asked, at, d) for d in directions}
        except StepFailed as e:
            if e.exit_code == 2:
                # What cannot be read must not be in the way of the next try.
                home.take_back(asked, before)
            raise
        pairs = corpora[str(directions[0])]["splits"]["train"]["pairs"]
        if pairs < FEW and not request.few:
            return _too_few(request, home, asked, pairs)
        measured: list[Direction] = []
        for d in directions:
            measured.append(_measure(home, base, d, corpora[str(d)], measured))
        plan = make_plan(measured, request.budget, time.monotonic() - began)
        for d, m in zip(directions, measured, strict=True):
            _recipe(home, d, base.id, plan.passes[m.pair], plan.learning_rate[m.pair])
        _say_plan(plan, measured, before is not None)
        result: dict[str, Any] = {"pair": str(home.pair), "home": str(home.path), "base": base.id, "seconds_planned": round(plan.seconds), "notes": plan.notes}
        if request.dry_run:
            return {**result, "dry_run": True, "directions": {m.pair: _planned(m, plan) for m in measured}}
        done = {str(d): _make(home, d, corpora[str(d)], request.engine) for d in directions}
        result |= {"directions": done, "seconds": round(time.monotonic() - began, 1)}
        _refused(done)
        return result


def _asked(request: Request, home: Home, before: Asked | None) -> tuple[Asked, dict[str, Path]]:
    """What is asked for now, with what was asked before, and where its files are read; written, and the files copied."""
    if before is None and not request.files and request.mono is None:
        raise BadInput(
            "no files of segments", place="pair add", found="no FILES", valid=f"tellmt pair add {request.pair} FILE, or --mono TEXT to have sentences proposed"
        )
    if before is not None and request.base is not None and request.base != before.base:
        valid = f"--base {before.base}, or tellmt pair remove {home.pair} first"
        raise BadInput("this pair was begun on another base", place="--base", found=request.base, valid=valid)
    base = request.base or (before.base if before else DEFAULT_BASE)
    given = list(request.files)
    if request.pair != home.pair and len(given) == 2 and all(p.is_file() and kind_of(p) == "text" for p in given):
        # Two texts are source and target by their order, and the home's direction is the other one.
        given.reverse()
    files, at, notes = take(home, given, before.files if before else [])
    for note in notes:
        say(note)
    reading = {**(before.reading if before else {}), **request.reading}
    if request.swap:
        reading["--swap"] = sorted({*reading.get("--swap", []), *(_name(home, path, files) for path in request.swap)})
    against = [str(p.absolute()) for p in request.against]
    asked = Asked(
        pair=str(home.pair),
        base=base,
        both=(before.both if before else True) and not request.one_way,
        files=files,
        reading=reading,
        against=[*(before.against if before else []), *(a for a in against if before is None or a not in before.against)],
    )
    home.write(asked)
    return asked, at


def _name(home: Home, path: Path, files: Sequence[Given]) -> str:
    """What a file of --swap is called in the home."""
    found = next((g.name for g in files if g.name == path.name or g.origin == os.path.abspath(path)), None)
    if found is None:
        raise BadInput("--swap names none of the files", place="--swap", found=str(path), valid=", ".join(g.name for g in files))
    return found


def _corpus(home: Home, asked: Asked, at: dict[str, Path], direction: LanguagePair) -> dict[str, Any]:
    here = home.of(direction) / "corpus"
    if not asked.files:
        return {"splits": {"train": {"pairs": 0}}}
    if direction != home.pair:
        words = ["corpus", "reverse", str(home.of(home.pair) / "corpus"), "-o", str(here)]
        return run(f"{direction}: the same pairs and the same split, the other way round", words)
    # With the base, the report says how well it knows the languages.
    words = ["corpus", "build", *(str(at[g.name]) for g in asked.files), "--pair", str(direction), "--base", asked.base, "-o", str(here)]
    for option, values in asked.reading.items():
        words += [option, *((str(at[v]) for v in values) if option == "--swap" else values)]
    words += ["--against", *asked.against] if asked.against else []
    found = run(f"{direction}: read the files, clean them, freeze the split", words)
    kept = ", ".join(f"{split['pairs']:,} {name}" for name, split in found["splits"].items())
    say(f"  {found['read']:,} read, {found['kept']:,} kept: {kept}")
    if found["dropped"]:
        dropped = ", ".join(f"{n:,} {reason}" for reason, n in found["dropped"].items())
        say(f"  dropped: {dropped}")
    say(f"  what each rule did, with samples: {here / 'report.html'}")
    return found


def _base(base_id: str) -> Base:
    try:
        return find_base(base_id)
    except BaseModelError:
        run("Get the base model", ["base", "fetch", base_id])
        return find_base(base_id)


def _measure(home: Home, base: Base, direction: LanguagePair, corpus: dict[str, Any], before: Sequence[Direction]) -> Direction:
    """Mix, and time a few steps of a training of one pass. The other direction has the same texts, and is taken to be as fast."""
    here = home.of(direction)
    if not (here / "recipe.toml").exists():
        _recipe(home, direction, base.id, 1, 5e-4)
    words = ["mix", "--recipe", str(here / "recipe.toml"), "--corpus", str(here / "corpus"), "-o", str(here / "mixed")]
    mixed = run(f"{direction}: write the training examples", words)
    splits = corpus["splits"]
    pairs, dev = splits["train"]["pairs"], splits["dev"]["pairs"]
    held_out = dev + splits["test"]["pairs"]
    if before:
        one, tokens = before[0], int(mixed["counts"]["task"]["tokens"])
        return Direction(str(direction), pairs, tokens, one.pass_seconds * tokens / one.tokens, one.start_seconds, held_out, dev, one.device)
    known = home.measured(direction, str(corpus["key"]), base.id)
    if known is None:
        once = here / "estimate.toml"
        write_atomic(once, recipe(str(direction), base.id, 1, 5e-4))
        words = ["train", "--mixed", str(here / "mixed"), "--recipe", str(once), "--dry-run"]
        known = run(f"{direction}: measure the speed of training here", words)
        home.keep_measured(direction, str(corpus["key"]), base.id, known)
    return Direction(str(direction), pairs, known["tokens"], known["seconds"], known["seconds_to_start"], held_out, dev, known["device"])


def _recipe(home: Home, direction: LanguagePair, base: str, passes: int, rate: float) -> None:
    """Write the recipe, but leave one alone that somebody has changed since."""
    path, mark = home.of(direction) / "recipe.toml", home.of(direction) / ".recipe.sha256"
    if path.exists() and (not mark.exists() or mark.read_text() != sha256_bytes(path.read_bytes())):
        say(f"{path}: was changed by hand, and is used as it is")
        return
    text = recipe(str(direction), base, passes, rate)
    write_atomic(path, text)
    write_atomic(mark, sha256_bytes(text.encode()))


def _planned(m: Direction, plan: Plan) -> dict[str, Any]:
    return {
        **dataclasses.asdict(m),
        "passes": plan.passes[m.pair],
        "learning_rate": plan.learning_rate[m.pair],
        "seconds": round(m.seconds(plan.passes[m.pair])),
    }


def _say_plan(plan: Plan, measured: Sequence[Direction], again: bool) -> None:
    rows = []
    for m in measured:
        passes, training = plan.passes[m.pair], plan.passes[m.pair] * m.pass_seconds + m.start_seconds
        rows.append([m.pair, f"{m.pairs:,}", f"{m.tokens:,}", passes, f"{plan.learning_rate[m.pair]:g}", clock(training), clock(m.scoring)])
    from rich.console import Console

    shown = table("What will be done", ["direction", "training pairs", "tokens", "passes", "rate", "training", "scoring"], rows)
    Console(stderr=True, highlight=False, soft_wrap=True).print(shown)
    for note in plan.notes:
        say(note)
    reused = "; what is done already is not done again" if again else ""
    say(f"all of it takes about {clock(plan.seconds)}{reused}; Ctrl-C stops, and the same command goes on")


def _make(home: Home, direction: LanguagePair, corpus: dict[str, Any], engine: str) -> dict[str, Any]:
    """Train, choose how to decode, score and publish one direction."""
    here, began = home.of(direction), time.monotonic()
    trained = run(
        f"{direction}: train",
        ["train", "--recipe", str(here / "recipe.toml"), "--mixed", str(here / "mixed"), "-o", str(here / "adapter")],
    )
    chosen = ["--engine", engine] if engine != "auto" else []
    decoding = _decoding(here, direction, trained, chosen)
    words = ["score", str(here / "adapter"), "--corpus", str(here / "corpus"), "--split", "test", "-o", str(here / "scores"), *chosen]
    scored = run(f"{direction}: score it and the bare base on the frozen test set", words)
    words = ["publish", str(here / "adapter"), "--corpus", str(here / "corpus"), "--scores", str(here / "scores" / "scores.json"), *chosen]
    refused = None
    try:
        published = run(f"{direction}: publish it, if it is better than the bare base and not worse than what is live", words)
    except StepFailed as e:
        if e.result is None or "verdict" not in e.result:
            raise
        # The gate's answer is a result: the other direction may pass.
        published, refused = e.result, list(e.result["verdict"].get("reasons", []))
    # What was trained before, in a run that did not come to its end, took its time then.
    seconds = time.monotonic() - began + (trained["card"]["training"]["seconds"] if trained["reused"] else 0)
    found = {
        # Published, it has another id than as it was trained: its scores are on its card then.
        "adapter": published.get("id") or decoding["id"],
        "repetition_penalty": decoding["chosen"],
        "corpus_key": corpus["key"],
        "pairs": corpus["kept"],
        "splits": {name: s["pairs"] for name, s in corpus["splits"].items()},
        "scores": {name: {m: s[m] for m in ("bleu", "chrf")} for name, s in scored["systems"].items()},
        "live": refused is None,
        "refused": refused,
        "trained_now": not trained["reused"],
        "verdict": published.get("verdict_path"),
        "seconds": round(seconds, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    before = home.done(direction)
    if before and (before["adapter"], before["corpus_key"]) == (found["adapter"], found["corpus_key"]):
        # Gone through again, with nothing new.
        found |= {k: before[k] for k in ("seconds", "finished")}
    write_json(here / "done.json", found)
    return found


def _decoding(here: Path, direction: LanguagePair, trained: dict[str, Any], engine: list[str]) -> dict[str, Any]:
    """The penalty on repetition that the dev split asks for, or the one that somebody has put into the recipe."""
    own = trained["card"]["recipe"].get("decoding", {}).get("repetition_penalty", 1.0)
    if own != 1.0:
        say(f"{direction}: decodes with the recipe's penalty on repetition, {own:g}")
        return {"chosen": own, "id": trained["id"]}
    words = ["decoding", str(here / "adapter"), "--corpus", str(here / "corpus"), *engine]
    return run(f"{direction}: choose how it decodes, by the dev split", words)


def _refused(done: dict[str, dict[str, Any]]) -> None:
    kept_out = {d: r["refused"] for d, r in done.items() if not r["live"]}
    for direction, reasons in kept_out.items():
        say(f"{direction}: not published: {'; '.join(reasons) or 'see the verdict'}")
    if len(kept_out) == len(done):
        raise GateRefused("no direction went live", place=", ".join(done), valid="more or cleaner pairs; tellmt publish --force --why TEXT overrules the gate")


def _too_few(request: Request, home: Home, asked: Asked, pairs: int) -> dict[str, Any]:
    """Fewer pairs than are worth training on: propose what to have translated, where there is a text to choose from."""
    if request.mono is None:
        valid = "--mono TEXT, to have the sentences proposed that are worth translating; or --few, to train on these all the same"
        raise BadInput(f"fewer than {FEW} training pairs", place=str(home.pair), found=f"{pairs}", valid=valid)
    out = home.path / "to-translate"
    words = ["select", "--text", str(request.mono), "--pair", str(home.pair), "-k", str(PROPOSED), "--base", asked.base, "-o", str(out)]
    chosen = run("Choose the sentences that are worth having translated", words)
    files = sorted((str(p) for p in out.iterdir() if p.suffix in (".xlsx", ".xlf")), reverse=True)
    say(f"\n{chosen['chosen']['items']} sentences to translate, as a spreadsheet and for translation tools: {', '.join(files)}")
    say(f"Filled in, either comes back with: tellmt pair add {home.pair} {files[0] if files else out}")
    return {"pair": str(home.pair), "home": str(home.path), "pairs": pairs, "proposed": chosen["chosen"]["items"], "to_translate": files}


def show(result: dict[str, Any]) -> Any:
    if "directions" not in result or result.get("dry_run"):
        return None
    rows = []
    for direction, d in result["directions"].items():
        base, own = (d["scores"][s]["chrf"] for s in ("base", "adapter"))
        state = "live" if d["live"] else "refused"
        rows.append(
            [direction, f"{base['score']:.1f} ± {base['ci']:.1f}", f"{own['score']:.1f} ± {own['ci']:.1f}", d["splits"]["test"], state, d["adapter"][:12]]
        )
    return table(f"{result['pair']}, in {clock(result['seconds'])}", ["direction", "chrF2, bare base", "chrF2, adapter", "test segments", "", "adapter"], rows)
