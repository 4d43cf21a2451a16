"""Mixes anchored task examples with general data (TELL, arXiv 2404.00914).

Reads corpus directories (`tell.corpus.build`) and general JSONL files of {prompt, completion}. Writes a directory: mixed.jsonl with each example once, in
the order of training, mix.json with exact counts, and what the adapter takes along: lexicon.tsv for hints, memory.tsv for nearest pairs. `--report` adds
report.json and order.png.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tell.adapter.card import LEXICON, MEMORY
from tell.corpus.directory import open_corpus
from tell.corpus.readers.dispatch import labels
from tell.corpus.testsets import RegisteredTestSet, of_languages
from tell.errors import CorpusError, RecipeError
from tell.files import atomic_dir, check_replaceable, key_of, sha256_file, write_json
from tell.languages import parse_pair, same_pair
from tell.mix.config import MixConfig as MixConfig
from tell.mix.config import MixPlan as MixPlan
from tell.mix.general_examples import draw_general
from tell.mix.hinting import ExampleHints, open_hints
from tell.mix.order import arrange
from tell.mix.retrieving import ExamplePairs
from tell.mix.sources import ExampleSources
from tell.mix.task_examples import LEAK_LETTERS as LEAK_LETTERS
from tell.mix.task_examples import NamedCorpus, ReservedTexts, TaskExamples, read_known, read_task, training_pairs
from tell.model.tokenizer import BaseTokenizer
from tell.spool import BATCH as BATCH
from tell.spool import Spool
from tell.text.normalise import spelled

FORMAT = 1
FILES = ("mix.json", "mixed.jsonl", LEXICON, MEMORY, "report.json", "order.png")
SPOOL = ".spool"


@dataclasses.dataclass(frozen=True, slots=True)
class MixInputs:
    """The corpora, general files and lexicon of a mix, each opened and hashed once. `general_sha256` is in the order of the plan's files."""

    corpora: list[NamedCorpus]
    general_sha256: list[str]
    hints: ExampleHints | None = None
    # Registered test sets of the pair's languages, of which general data may hold nothing.
    testsets: Sequence[RegisteredTestSet] = ()


def _open_corpora(plan: MixPlan) -> list[NamedCorpus]:
    if len({c.resolve() for c in plan.corpora}) < len(plan.corpora):
        raise CorpusError("the same corpus is given twice", place="--corpus", found=", ".join(map(str, plan.corpora)))
    corpora = []
    for path, name in zip(plan.corpora, labels(c.absolute() for c in plan.corpora), strict=True):
        corpus = open_corpus(path)
        if not same_pair(corpus.pair, parse_pair(plan.pair)):
            raise CorpusError("this corpus is of another pair", place=str(path), found=str(corpus.pair), valid=plan.pair)
        corpora.append(NamedCorpus(corpus, name))
    return corpora


def open_inputs(plan: MixPlan) -> MixInputs:
    """Raises CorpusError when a file is missing or given twice, and when a corpus is of another pair or was altered."""
    for source in plan.general:
        if not source.path.is_file():
            raise CorpusError("no such file", place=str(source.path), valid="a JSONL file of general examples")
    if len({s.path.resolve() for s in plan.general}) < len(plan.general):
        raise CorpusError("the same file is given twice", place="--general", found=", ".join(str(s.path) for s in plan.general))
    hints = open_hints(plan.hints, plan.pair, plan.seed) if plan.hints else None
    # Only general data is looked through for them: corpora are built without.
    testsets = of_languages(parse_pair(plan.pair)) if plan.general else []
    return MixInputs(_open_corpora(plan), [sha256_file(s.path) for s in plan.general], hints, testsets)


def mix_key(plan: MixPlan, inputs: MixInputs) -> str:
    """The hash of everything that decides a mix."""
    return key_of(
        {
            "format": FORMAT,
            "pair": plan.pair,
            "base": [plan.base.id, plan.base.revision],
            "anchor": plan.anchor.model_dump(),
            "seed": plan.seed,
            "config": plan.config.model_dump(exclude={"general", "sources", *(() if plan.config.task_passes > 1 else ("task_passes",))}),
            "corpora": [[c.name, c.corpus.pairs_sha256] for c in inputs.corpora],
            "general": [[s.label, h, s.share, s.prompt, s.completion] for s, h in zip(plan.general, inputs.general_sha256, strict=True)],
            **({"testsets": [[s.name, *s.sha256] for s in inputs.testsets]} if inputs.testsets else {}),
            **({"hints": inputs.hints.key_parts()} if inputs.hints else {}),
            **({"retrieval": plan.retrieval.key_parts()} if plan.retrieval else {}),
        }
    )


def _write(path: Path, spool: Spool, order: array[int]) -> str:
    """Writes mixed.jsonl and returns its SHA-256. The directory is still aside, so writing line by line is safe."""
    digest = hashlib.sha256()
    with path.open("wb") as f:
        for block in spool.blocks(order):
            digest.update(block)
            f.write(block)
    return digest.hexdigest()


def _kinds(plan: MixPlan, task: TaskExamples) -> dict[str, dict[str, int | float]]:
    shares = plan.config.shares()
    return {kind: {"share": shares.get(kind, 0.0), **dict(sorted(counts.items()))} for kind, counts in task.kinds.items()}


def _sources(plan: MixPlan, inputs: MixInputs, drawn: list[dict[str, int]]) -> Iterator[dict[str, Any]]:
    for source, sha256, counts in zip(plan.general, inputs.general_sha256, drawn, strict=True):
        named = {"path": spelled(str(source.path))} if source.dataset is None else {"path": spelled(source.path.name), "dataset": spelled(source.dataset)}
        yield {**named, "name": source.label, "sha256": sha256, **({} if source.share is None else {"share": source.share}), **counts}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Stops the search for reference cycles meanwhile: nothing here makes any, and with millions of objects it takes a twentieth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _check(plan: MixPlan, out: Path) -> None:
    """Raises CorpusError or RecipeError for a mix that cannot be made at `out`, before anything is read."""
    check_replaceable(out, FILES)
    config = plan.config
    if config.max_tokens > plan.base.context:
        raise RecipeError("longer than the base's context", place="[mix] max_tokens", found=str(config.max_tokens), valid=f"{plan.base.context} at most")
    if (config.ratio > 0 if config.general_tokens is None else config.general_tokens > 0) and not plan.general:
        raise CorpusError("no general data", place="--general", valid="a JSONL file of general examples, or --ratio 0")


def _example_pairs(plan: MixPlan, corpora: list[NamedCorpus], known: ReservedTexts) -> ExamplePairs | None:
    """What finds the nearest pairs among all that the mix may train on; None for prompts without."""
    if plan.retrieval is None:
        return None
    return ExamplePairs(plan.retrieval, plan.pair, (p for _, p in training_pairs(corpora, known, [], Counter())), plan.seed)


def mix(plan: MixPlan, inputs: MixInputs, out: Path) -> dict[str, Any]:
    """Make the mix at `out` and return its mix.json. Raises CorpusError, and then leaves `out` as it was."""
    _check(plan, out)
    key, corpora, config = mix_key(plan, inputs), inputs.corpora, plan.config
    tokenizer = BaseTokenizer(plan.base, plan.anchor.chat)
    left_out: Counter[str] = Counter()
    with _uncollected(), atomic_dir(out) as aside:
        with Spool(aside / SPOOL) as spool:
            wants_general = config.ratio > 0 if config.general_tokens is None else config.general_tokens > 0
            known = read_known(corpora, inputs.hints, inputs.testsets, wants_general)
            retrieval = _example_pairs(plan, corpora, known)
            task = read_task(plan, tokenizer, corpora, known, spool, left_out, ExampleSources(inputs.hints, retrieval))
            general_tokens = round(config.ratio * task.tokens) if config.general_tokens is None else config.general_tokens
            drawn, sources = draw_general(plan, tokenizer, known, general_tokens, spool, aside, left_out)
            parts = (task.plain, drawn.plain()) if config.order == "none" else (task.chosen, drawn.lines)
            digest = _write(aside / "mixed.jsonl", spool, arrange(config.order, *parts, plan.seed, config.task_passes))
        report = {
            "format": FORMAT,
            "key": key,
            "pair": plan.pair,
            "base": {"id": plan.base.id, "revision": plan.base.revision},
            "anchor": plan.anchor.model_dump(),
            "seed": plan.seed,
            "order": config.order,
            "ratio": config.ratio if config.general_tokens is None else None,
            "general_tokens": config.general_tokens,
            "max_tokens": config.max_tokens,
            "task_tokens": config.task_tokens,
            **({"task_passes": config.task_passes} if config.task_passes > 1 else {}),
            "granularity": _kinds(plan, task),
            "counts": {
                "task": {"examples": len(task.chosen), "tokens": task.tokens},
                "general": {"examples": len(drawn.lines), "tokens": drawn.tokens},
            },
            "general_sources": list(_sources(plan, inputs, sources)),
            "corpora": [
                {"path": spelled(str(c.corpus.path)), "name": c.name, "pairs_sha256": c.corpus.pairs_sha256}
                | {count: counts[count] for count in ("pairs", "examples", "tokens")}
                for c, counts in zip(corpora, task.corpora, strict=True)
            ],
            "left_out": dict(sorted(left_out.items())),
            **({"hints": inputs.hints.row()} if inputs.hints else {}),
            **({"retrieval": retrieval.row()} if retrieval else {}),
            **({"length_factor": task.length_factor} if task.length_factor else {}),
            "sha256": digest,
        }
        # The adapter takes these along: what was trained is what is served.
        if retrieval is not None:
            (aside / MEMORY).write_bytes(retrieval.file)
        if inputs.hints is not None:
            shutil.copyfile(inputs.hints.file, aside / LEXICON)
        write_json(aside / "mix.json", report)
    return report
