"""Mixing (TELL, arXiv 2404.00914): anchored task examples shuffled through much general data.

Reads corpus directories (`tell.corpus`) and general JSONL files of {prompt, completion}. Writes a directory: mixed.jsonl, in the
order it is to be trained on, and mix.json with exact counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tell.anchors import Anchor, general_prompt
from tell.bases import Base
from tell.clean import normalised, spelled, storable
from tell.corpus import check_replaceable, read_corpus
from tell.errors import CorpusError
from tell.files import atomic_dir, key_of, read_lines, sha256_file, write_json
from tell.readers import labels
from tell.records import Example, Pair, read_pairs
from tell.tokens import Tokens

FORMAT = 1
FILES = ("mix.json", "mixed.jsonl")
# Examples tokenised at once: enough to keep every core busy, few enough to hold in memory.
BATCH = 4096
# Letters. A shorter segment ("Yes.", "Thank you.") is in any general data by chance and gives nothing away.
LEAK_LETTERS = 16


class MixConfig(BaseModel):
    """The `[mix]` table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # General tokens per task token, prompts and responses together.
    ratio: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    # JSONL files of {prompt, completion}, relative to the recipe.
    general: list[str] = []
    # At most this many tokens of task examples, in whole documents; a larger budget with the same seed holds the smaller one.
    task_tokens: int | None = Field(default=None, ge=1)
    # Tokens. Longer examples are left out and counted, never cut.
    max_tokens: int = Field(default=512, ge=16, le=131072)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides a mix."""

    pair: str
    corpora: tuple[Path, ...]
    general: tuple[Path, ...]
    base: Base
    anchor: Anchor
    config: MixConfig
    seed: int


@dataclasses.dataclass(slots=True)
class _Source:
    """One general file: its usable examples, and how many of them were drawn."""

    path: Path
    label: str
    lines: int
    usable: list[tuple[int, str, str]]
    used: int = 0


def open_corpora(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    """(name, corpus.json) of every corpus. Raises CorpusError when one is of another pair or was altered."""
    out = []
    if len({c.resolve() for c in plan.corpora}) < len(plan.corpora):
        raise CorpusError("the same corpus is given twice", place="--corpus", found=", ".join(map(str, plan.corpora)))
    for path, name in zip(plan.corpora, labels(c.absolute() for c in plan.corpora), strict=True):
        found = read_corpus(path)
        if found["pair"] != plan.pair:
            raise CorpusError("this corpus is of another pair", place=str(path), found=found["pair"], valid=plan.pair)
        if not (path / "pairs.jsonl").exists() or sha256_file(path / "pairs.jsonl") != found.get("pairs_sha256"):
            raise CorpusError("pairs.jsonl is missing or was altered after the corpus was built", place=str(path), valid="build the corpus again")
        out.append((name, found))
    return out


def mix_key(plan: Plan) -> str:
    for path in plan.general:
        if not path.is_file():
            raise CorpusError("no such file", place=str(path), valid="a JSONL file of general examples")
    if len({p.resolve() for p in plan.general}) < len(plan.general):
        raise CorpusError("the same file is given twice", place="--general", found=", ".join(map(str, plan.general)))
    return key_of(
        {
            "format": FORMAT, "pair": plan.pair, "base": [plan.base.id, plan.base.revision], "anchor": plan.anchor.model_dump(), "seed": plan.seed,
            "config": plan.config.model_dump(exclude={"general"}),
            "corpora": [[name, c["pairs_sha256"]] for name, c in open_corpora(plan)],
            "general": [[name, sha256_file(p)] for name, p in zip(labels(plan.general), plan.general, strict=True)],
        }
    )


def _lengths(tokens: Tokens, examples: list[Example]) -> Iterator[int]:
    """Tokens of each example as training will see it: BOS, prompt, opening, response, EOS."""
    for start in range(0, len(examples), BATCH):
        for ids, _ in tokens.example_ids(examples[start : start + BATCH]):
            yield len(ids)


def _sides(pairs: Iterable[Pair]) -> tuple[set[str], set[str]]:
    """Normalised sources and targets that have letters."""
    sides: tuple[set[str], set[str]] = (set(), set())
    for p in pairs:
        for side, text in zip(sides, (p.source, p.target), strict=True):
            side.add(normalised(text))
    return sides[0] - {""}, sides[1] - {""}


def _task(plan: Plan, tokens: Tokens, named: list[tuple[str, list[Pair]]], left_out: Counter[str]) -> tuple[list[Example], int]:
    """The anchored examples of the training pairs, within the budget, and their tokens."""
    held = _sides(p for _, pairs in named for p in pairs if p.split != "train")
    seen: set[tuple[str, str]] = set()
    examples: list[Example] = []
    documents: list[str] = []
    for name, pairs in named:
        for p in pairs:
            if p.split != "train":
                continue
            if (p.source, p.target) in seen:
                left_out["task: in another corpus too"] += 1
            elif normalised(p.source) in held[0] or normalised(p.target) in held[1]:
                left_out["task: in dev or test of another corpus"] += 1
            else:
                documents.append(f"{name}/{p.doc}")
                examples.append(Example(f"task:{name}/{p.doc}:{p.line}", "task", plan.anchor.prompt(p.source), plan.anchor.opening, p.target))
            seen.add((p.source, p.target))
    kept: dict[str, list[tuple[Example, int]]] = {}
    for example, document, n in zip(examples, documents, _lengths(tokens, examples), strict=True):
        if n > plan.config.max_tokens:
            left_out["task: longer than max_tokens"] += 1
        else:
            kept.setdefault(document, []).append((example, n))
    if not kept:
        raise CorpusError("no task examples left", place=", ".join(map(str, plan.corpora)), found=_counts(left_out), valid="training pairs")
    return _within(plan, kept, left_out)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {r}" for r, n in counts.most_common()) or "nothing read"


def _within(plan: Plan, docs: dict[str, list[tuple[Example, int]]], left_out: Counter[str]) -> tuple[list[Example], int]:
    """Whole documents within the budget: the longest prefix of one order by hash, so that budgets nest."""
    budget = plan.config.task_tokens
    sizes = {d: sum(n for _, n in found) for d, found in docs.items()}
    if budget is None:
        chosen = set(docs)
    else:
        chosen, total = set(), 0
        order = sorted(docs, key=lambda d: hashlib.sha256(f"{plan.seed}\n{d}".encode()).hexdigest())
        for d in order:
            if total + sizes[d] > budget:
                break
            total += sizes[d]
            chosen.add(d)
        if not chosen:
            least = sizes[order[0]]
            raise CorpusError("the budget is smaller than the first document", place="[mix] task_tokens", found=str(budget), valid=f"at least {least}")
    if beyond := sum(len(found) for d, found in docs.items() if d not in chosen):
        left_out["task: beyond task_tokens"] += beyond
    return [e for d, found in docs.items() if d in chosen for e, _ in found], sum(sizes[d] for d in chosen)


def _usable(value: Any) -> str:
    """The text of a prompt or completion; empty when it is not one."""
    return value.strip() if isinstance(value, str) and storable(value) else ""


def read_general(path: Path, label: str) -> _Source:
    """A pool of general examples. Lines without a prompt and a completion are not usable; a file with none that is raises CorpusError."""
    lines = read_lines(path)
    usable = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        prompt, completion = (_usable(row.get(k)) if isinstance(row, dict) else "" for k in ("prompt", "completion"))
        if prompt and completion:
            usable.append((number, prompt, completion))
    if not usable:
        raise CorpusError("no usable line", place=str(path), found=f"{len(lines)} lines", valid='JSONL of {"prompt": TEXT, "completion": TEXT}')
    return _Source(path, label, len(lines), usable)


def _repeats(texts: tuple[str, str], segments: set[str]) -> bool:
    """Whether a text, or a line of it, is one of the corpus's segments."""
    return any(normalised(part) in segments for text in texts for part in {text, *text.split("\n")})


def _general(
    plan: Plan, tokens: Tokens, sources: list[_Source], segments: set[str], wanted: int, left_out: Counter[str]
) -> tuple[list[Example], int]:
    """General examples drawn without replacement until they have `wanted` tokens. Raises CorpusError with what is missing."""
    order = [(s, i) for s, source in enumerate(sources) for i in range(len(source.usable))]
    random.Random(f"general {plan.seed}").shuffle(order)
    drawn: list[Example] = []
    have = at = 0
    while have < wanted and at < len(order):
        batch: list[tuple[int, Example]] = []
        while len(batch) < BATCH and at < len(order):
            s, i = order[at]
            at += 1
            number, prompt, completion = sources[s].usable[i]
            batch.append((s, Example(f"general:{sources[s].label}:{number}", "general", general_prompt(prompt), "", completion)))
        for (s, example), n in zip(batch, _lengths(tokens, [e for _, e in batch]), strict=True):
            if have >= wanted:
                break
            if n > plan.config.max_tokens:
                left_out["general: longer than max_tokens"] += 1
            elif _repeats((example.prompt.rstrip("\n"), example.response), segments):
                left_out["general: repeats a segment of the corpus"] += 1
            else:
                drawn.append(example)
                sources[s].used += 1
                have += n
    if have < wanted:
        # Rounded down, so that the ratio offered can be had.
        most = math.floor(1000 * plan.config.ratio * have / wanted) / 1000
        raise CorpusError(
            "not enough general data for this ratio", place=", ".join(map(str, plan.general)),
            found=f"{have} usable tokens, {wanted - have} missing", valid=f"more general files, or a ratio of {most:.3f} at most",
        )
    return drawn, have


def _write(path: Path, examples: list[Example]) -> str:
    """Write mixed.jsonl and return its SHA-256. Into a directory that is still aside, so line by line is safe."""
    digest = hashlib.sha256()
    with path.open("wb") as f:
        for e in examples:
            line = json.dumps(e.row(), ensure_ascii=False).encode() + b"\n"
            digest.update(line)
            f.write(line)
    return digest.hexdigest()


def mix(plan: Plan, out: Path) -> dict[str, Any]:
    """Make the mix at `out` and return its mix.json. Raises CorpusError, and then leaves `out` as it was."""
    check_replaceable(out, FILES)
    key = mix_key(plan)
    opened = open_corpora(plan)
    named = [(name, read_pairs(path / "pairs.jsonl")) for (name, _), path in zip(opened, plan.corpora, strict=True)]
    tokens = Tokens(plan.base, plan.anchor.chat)
    left_out: Counter[str] = Counter()
    task, task_tokens = _task(plan, tokens, named, left_out)
    ratio = plan.config.ratio
    if ratio > 0 and not plan.general:
        raise CorpusError("no general data", place="--general", valid="a JSONL file of general examples, or --ratio 0")
    sources = [read_general(p, n) for p, n in zip(plan.general, labels(plan.general), strict=True)]
    segments = {s for side in _sides(p for _, pairs in named for p in pairs) for s in side if len(s) >= LEAK_LETTERS}
    general, general_tokens = _general(plan, tokens, sources, segments, round(ratio * task_tokens), left_out)
    examples = task + general
    random.Random(f"mix {plan.seed}").shuffle(examples)
    with atomic_dir(out) as aside:
        digest = _write(aside / "mixed.jsonl", examples)
        report = {
            "format": FORMAT, "key": key, "pair": plan.pair, "base": {"id": plan.base.id, "revision": plan.base.revision},
            "anchor": plan.anchor.model_dump(), "seed": plan.seed, "ratio": ratio, "max_tokens": plan.config.max_tokens, "task_tokens": plan.config.task_tokens,
            "counts": {"task": {"examples": len(task), "tokens": task_tokens}, "general": {"examples": len(general), "tokens": general_tokens}},
            "general_sources": [
                {"path": spelled(str(s.path)), "sha256": sha256_file(s.path), "lines": s.lines, "usable": len(s.usable), "used": s.used} for s in sources
            ],
            "corpora": [
                {"path": spelled(str(path)), "name": name, "pairs_sha256": c["pairs_sha256"], "pairs": sum(p.split == "train" for p in pairs)}
                for path, (name, c), (_, pairs) in zip(plan.corpora, opened, named, strict=True)
            ],
            "left_out": dict(sorted(left_out.items())), "sha256": digest,
        }
        write_json(aside / "mix.json", report)
    return report
