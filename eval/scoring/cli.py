"""`tellmt score`: an adapter and the bare base on a test set, or outputs that are there already."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tell.command import Command, Many
from tell.console import emit, say, table

if TYPE_CHECKING:
    from eval.scoring.testset import TestSet
    from tell.languages import LanguagePair

FILE = click.Path(path_type=Path)
WHAT = "say what to score on: either --corpus DIR, or --testset NAME, or --source FILE and --reference FILE"


def figure(score: dict[str, Any]) -> str:
    return f"{score['score']:.1f} ± {score['ci']:.1f}"


def _measures(system: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: s for key, s in system.items() if isinstance(s, dict) and "signature" in s}


def shown(result: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    systems = result["systems"]
    first = next(iter(systems.values()))
    rows = [[name, *(figure(m) for m in _measures(s).values())] for name, s in systems.items()]
    columns = ["system", *(m["name"] for m in _measures(first).values())]
    parts: list[Any] = [table(f"{result['name']}, {result['pair'] or 'pair unknown'}", columns, rows)]
    parts += [Text(f"{m['name']}: {m['signature']}") for m in _measures(first).values()]
    if (paired := result.get("paired")) is not None:
        parts.append(Text(f"adapter - base: {paired['metric']} {paired['delta']:+.2f}, p = {paired['p']:.4f} ({paired['method']}; {paired['signature']})"))
    for name, s in systems.items():
        counts = [f"{what} {s[what]:,}" for what in ("empty", "truncated") if what in s]
        if (d := s.get("diagnostics")) is not None:
            flags = ", ".join(f"{f} {n:,}" for f, n in d["flags"].items() if n) or "none"
            counts += [f"length ratio {d['length_ratio']:.3f}", f"{d['flagged']:,} segments with a flag ({flags})"]
        parts.append(Text(f"{name}: {', '.join(counts)}"))
    sides = [f"{side} SHA-256 {result[f'{side}_sha256'][:16]}" for side in ("source", "reference") if result[f"{side}_sha256"]]
    parts.append(Text(f"{result['segments']:,} segments, {', '.join(sides)}"))
    return Group(*parts)


def _of_registry(name: str, pair: LanguagePair | None) -> TestSet:
    """A registered test set, with source and target exchanged where the pair asks for the other direction."""
    from eval.scoring.testset import TestSet
    from tell.corpus.testsets import find_testset
    from tell.languages import same_pair

    registered = find_testset(name)
    sources, targets = registered.texts()
    whole = registered.pair
    if pair is not None and same_pair(pair, whole.reverse):
        sources, targets, whole = targets, sources, pair
    return TestSet(name, whole, sources, targets, [f"{name}, segment {i}" for i in range(1, len(sources) + 1)])


@click.command(cls=Command)
@click.argument("adapter", type=FILE, required=False)
@click.option("--corpus", type=FILE, help="Corpus directory; one of its splits is the test set.")
@click.option("--split", type=click.Choice(["test", "dev"]), default="test", show_default=True, help="Split of --corpus.")
@click.option("--testset", help="Name of a registered test set (tellmt testset).")
@click.option("--source", type=FILE, help="File of source segments, one per line.")
@click.option("--reference", type=FILE, help="File of their references, one per line.")
@click.option("--hypotheses", cls=Many, type=FILE, help="Files of existing outputs, one segment per line, instead of ADAPTER; may name several.")
@click.option("--pair", help="With --hypotheses: the direction, such as is-en.  [default: by the texts]")
@click.option("--metric", "metrics", cls=Many, help="bleu, chrf, chrf++, ter, spbleu, comet, all, or the metric of a package; may name several.")
@click.option("--name", help="The test set's name in the scores [default: the file's or corpus's own].")
@click.option("--limit", type=click.IntRange(min=1), help="Score only the first N segments; the name of the scores says so.")
@click.option("--no-base", is_flag=True, help="Do not translate with the bare base.")
@click.option("--engine", default="auto", show_default=True, help="Engine driver: vllm, ct2, or auto.")
@click.option("--force", is_flag=True, help="Score again although nothing changed.")
@click.option("-o", "--out", type=FILE, help="Directory for hypotheses, segments.jsonl and scores.json; without it --hypotheses only shows the scores.")
def score(
    adapter: Path | None,
    corpus: Path | None,
    split: Literal["test", "dev"],
    testset: str | None,
    source: Path | None,
    reference: Path | None,
    hypotheses: tuple[Path, ...],
    pair: str | None,
    metrics: tuple[str, ...],
    name: str | None,
    limit: int | None,
    no_base: bool,
    engine: str,
    force: bool,
    out: Path | None,
) -> None:
    """Score ADAPTER and the bare base, or existing --hypotheses, on a test set.

    BLEU, chrF2, chrF2++ and TER are sacreBLEU's, with their signatures and 95% intervals; between adapter and base there is a
    paired test on chrF2. All translations are kept, so that any score can be computed again: tellmt compare reads the directory that this writes.
    """
    from eval.scoring.metrics import chosen
    from eval.scoring.scores import bootstrap_seed
    from tell.languages import parse_pair

    if (adapter is None) == (not hypotheses):
        raise click.UsageError("say what to score: either ADAPTER, or --hypotheses FILE")
    if sum(x is not None for x in (corpus, testset, reference)) != 1 or (source is not None and reference is None):
        raise click.UsageError(WHAT)
    bootstrap_seed()
    given_pair = parse_pair(pair) if pair else None
    if adapter is None:
        return _score_files(hypotheses, corpus, split, testset, source, reference, given_pair, metrics, name, limit, out)
    if pair is not None:
        raise click.UsageError("--pair goes with --hypotheses; an adapter has its own")
    if out is None:
        raise click.UsageError("say where the hypotheses and scores go: -o DIR")
    if reference is not None and source is None:
        raise click.UsageError(WHAT)

    from eval.scoring.score import score_adapter
    from eval.scoring.testset import from_corpus, from_files, not_empty
    from tell.adapter.card import open_adapter
    from tell.corpus.directory import open_corpus
    from tell.text.normalise import spelled

    opened = open_adapter(adapter)
    adapter_pair = parse_pair(opened.card.pair)
    if corpus is not None:
        test, place = from_corpus(open_corpus(corpus), split), f"{corpus}, split {split}"
    elif testset is not None:
        test, place = _of_registry(testset, adapter_pair), testset
    else:
        test, place = from_files(source or Path(), reference or Path(), adapter_pair), str(source)
    test = dataclasses.replace(test, name=spelled(name)) if name else test
    test = not_empty(test, place)
    test = test.first(limit) if limit else test
    measures = chosen(["bleu", "chrf", *(metrics or ("chrf++", "ter"))], adapter_pair)
    began = time.monotonic()
    result, reused = score_adapter(opened, test, engine, not no_base, out, force, measures)
    say("unchanged, reused" if reused else f"wrote {out / 'scores.json'} in {time.monotonic() - began:.1f} s")
    emit({**result, "reused": reused, "out": str(out)}, lambda: shown(result))


def _score_files(
    files: tuple[Path, ...],
    corpus: Path | None,
    split: Literal["test", "dev"],
    testset: str | None,
    source: Path | None,
    reference: Path | None,
    pair: LanguagePair | None,
    metrics: tuple[str, ...],
    name: str | None,
    limit: int | None,
    out: Path | None,
) -> None:
    from eval.scoring.metrics import chosen
    from eval.scoring.score import score_outputs
    from eval.scoring.system_outputs import ScoredSegments, gather, read_outputs
    from eval.scoring.testset import from_corpus, not_empty
    from tell.corpus.directory import open_corpus
    from tell.text.normalise import spelled

    if corpus is not None or testset is not None:
        test = from_corpus(open_corpus(corpus), split) if corpus is not None else _of_registry(str(testset), pair)
        test, outputs, set_name = not_empty(test, str(corpus or testset)), read_outputs(files), test.name
        segments = ScoredSegments(test.references, test.sources, test.documents, test.pair)
    else:
        segments, outputs, notes = gather(files, reference, source, None, None if pair is None else str(pair))
        set_name = spelled(reference.name if reference else "reference")
        for note in notes:
            say(f"note: {note}")
    called = spelled(name) if name else set_name
    if limit is not None and limit < len(segments.references):
        s, called = segments, f"{called}[:{limit}]"
        segments = ScoredSegments(s.references[:limit], s.sources and s.sources[:limit], s.documents and s.documents[:limit], s.pair)
        outputs = [dataclasses.replace(o, hypotheses=o.hypotheses[:limit]) for o in outputs]
    result = score_outputs(called, outputs, segments, chosen(metrics, segments.pair), out)
    if out is not None:
        say(f"wrote {out / 'scores.json'}")
    emit({**result, "out": None if out is None else str(out)}, lambda: shown(result))
