"""Selecting (LTD, arXiv 2305.09246): the part of a pool that is worth training on, or worth having translated.

Reads a pool (`tell.select.pool`) and the embeddings of its items (`tell.model.embeddings`). Writes a directory: selected.jsonl, the chosen items in the
order of choice, and select.json with counts. From corpora it is also a corpus (corpus.json, pairs.jsonl, dropped.jsonl, split.json)
whose training pairs are the chosen ones; from a text there is selected.tsv, with an empty column for a translator to fill in, and where the
pair is named also selected.xlsx and selected.xlf.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from tell.console import progress
from tell.corpus.directory import FILES as CORPUS_FILES
from tell.corpus.directory import Corpus
from tell.corpus.readers.dispatch import labels
from tell.corpus.split import SPLITS
from tell.errors import BaseModelError, CorpusError, RecipeError
from tell.extras import need
from tell.files import atomic_dir, check_replaceable, key_of, sha256_file, write_json, write_jsonl
from tell.languages import LanguagePair
from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.select.pool import (
    Field,
    Kind,
    LoadedCorpus,
    PoolItem,
    SelectionPool,
    Side,
    check_files,
    corpus_names,
    corpus_pool,
    general_pool,
    open_corpora,
    text_pool,
)
from tell.text.normalise import spelled

FORMAT = 1
FILES = ("select.json", "selected.jsonl", "selected.tsv", "selected.xlsx", "selected.xlf", *CORPUS_FILES)
Method = Literal["ltd", "centres", "random"]
METHODS: tuple[Method, ...] = ("ltd", "centres", "random")
# Items tokenised at once.
BATCH = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """How much is chosen: one of a number of items, a percentage of the pool's items, and tokens."""

    k: int | None = None
    percent: Decimal | None = None
    tokens: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SelectionPlan:
    """Everything that decides a selection. `base` is None where neither embeddings nor tokens are needed, `pair` where nothing is to be translated."""

    kind: Kind
    inputs: tuple[Path, ...]
    amount: Amount
    method: Method
    clusters: int | None
    seed: int
    base: Base | None
    field: Field
    side: Side
    pair: LanguagePair | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SelectionInputs:
    """What a selection reads, each opened and hashed once: the name and the SHA-256 of every input. `corpora` is empty where files are read."""

    names: list[str]
    sha256: list[str]
    corpora: list[Corpus]


def open_inputs(plan: SelectionPlan) -> SelectionInputs:
    """Raises CorpusError when an input is missing or given twice, and when a corpus is of another pair or was altered."""
    if plan.kind == "corpus":
        corpora = open_corpora(plan.inputs)
        return SelectionInputs(corpus_names(corpora), [c.pairs_sha256 for c in corpora], corpora)
    check_files(plan.inputs, f"--{plan.kind}")
    return SelectionInputs(labels(plan.inputs), [sha256_file(p) for p in plan.inputs], [])


def select_key(plan: SelectionPlan, inputs: SelectionInputs) -> str:
    """The hash of everything that decides a selection."""
    embedded = {"general": plan.field, "corpus": plan.side, "text": ""}[plan.kind]
    return key_of(
        {
            "format": FORMAT,
            "kind": plan.kind,
            "inputs": [[name, sha256] for name, sha256 in zip(inputs.names, inputs.sha256, strict=True)],
            "k": plan.amount.k,
            "percent": str(plan.amount.percent),
            "tokens": plan.amount.tokens,
            "method": plan.method,
            "clusters": plan.clusters,
            "seed": plan.seed,
            "base": plan.base and [plan.base.id, plan.base.revision],
            "embedded": embedded,
            # Selections that were made before there was one keep their key.
            **({} if plan.pair is None else {"for": str(plan.pair)}),
        }
    )


def intact(out: Path, key: str) -> dict[str, Any] | None:
    """The select.json at `out` if it has this key and the files beside it are what was written."""
    try:
        selection: dict[str, Any] = dict(json.loads((out / "select.json").read_bytes()))
        whole = selection.get("key") == key and all((out / n).is_file() and sha256_file(out / n) == h for n, h in selection["files"].items())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise RecipeError("select.json cannot be read", place=str(out / "select.json"), found=str(e), valid="--force makes it again") from None
    return selection if whole else None


def check_out(out: Path, plan: SelectionPlan) -> None:
    """Raises CorpusError when what is at `out` would be lost: the pool itself, or anything that a selection did not write."""
    check_replaceable(out, FILES)
    if out.exists() and (out / "corpus.json").exists() and not (out / "select.json").exists():
        raise CorpusError("this directory holds a corpus, which would be replaced", place=str(out), valid="a new directory for -o")
    for path in plan.inputs:
        if out.resolve() in (path.resolve(), *path.resolve().parents):
            raise CorpusError("the pool lies in this directory, which would be replaced", place=str(out), found=str(path), valid="a new directory for -o")


def _pool(plan: SelectionPlan, inputs: SelectionInputs) -> SelectionPool:
    if plan.kind == "general":
        pool = general_pool(plan.inputs, plan.field)
    elif plan.kind == "corpus":
        pool = corpus_pool(inputs.corpora, plan.side)
    else:
        pool = text_pool(plan.inputs[0])
    if not pool.items:
        found = ", ".join(f"{n} {reason}" for reason, n in pool.left_out.most_common()) or "no training pairs"
        raise CorpusError("the pool is empty", place=", ".join(map(str, plan.inputs)), found=found, valid="at least one item to choose from")
    return pool


def _count(plan: SelectionPlan, pool: SelectionPool) -> int | None:
    """How many items are asked for; None when tokens decide. Raises CorpusError for more than there are, RecipeError for none."""
    n, k, percent = len(pool.items), plan.amount.k, plan.amount.percent
    if percent is not None:
        if not (percent.is_finite() and 0 < percent <= 100):
            raise RecipeError("not a percentage", place="--percent", found=str(percent), valid="above 0, at most 100")
        # Rounded down: never more than was asked.
        k = int(n * percent / 100)
        if k == 0:
            least = (Decimal(100) / n).quantize(Decimal("0.0001"), rounding="ROUND_UP")
            raise RecipeError("this percentage of the pool is less than one item", place="--percent", found=f"{percent}% of {n}", valid=f"at least {least}")
    if k is not None and k > n:
        left_out = f" ({pool.left_out.total()} left out)" if pool.left_out else ""
        raise CorpusError("k is larger than the pool", place="-k", found=f"{k} of {n} items{left_out}", valid=f"at most {n}")
    return k


def _lengths(base: Base, pool: SelectionPool) -> list[int]:
    """Tokens of each item as a task or general example without an anchor: BOS, both texts, EOS; of a text, those of its line with BOS."""
    tokenizer = BaseTokenizer(base)
    if pool.kind == "text":
        lines = [i.example.prompt for i in pool.items]
        return [len(tokenizer.bos) + len(ids) for a in range(0, len(lines), BATCH) for ids in tokenizer.encode_batch(lines[a : a + BATCH])]
    examples = [i.example for i in pool.items]
    return [len(ids) for a in range(0, len(examples), BATCH) for ids, _ in tokenizer.example_ids(examples[a : a + BATCH])]


def _take(order: Iterable[int], k: int | None, budget: int | None, lengths: list[int] | None) -> list[int]:
    """The beginning of the order: k items, or those up to the first that would go beyond the budget."""
    chosen: list[int] = []
    have = 0
    with progress() as bar:
        task = bar.add_task("chosen", total=k or 0) if k else None
        for i in order:
            if budget is not None and lengths is not None:
                if have + lengths[i] > budget:
                    break
                have += lengths[i]
            chosen.append(i)
            if task is not None and len(chosen) % 64 == 0:
                bar.update(task, completed=len(chosen))
            if len(chosen) == k:
                break
    return chosen


def _ordered(plan: SelectionPlan, x: Any, clusters: int) -> tuple[Iterator[int], Any]:
    """The method's order of the whole pool, and its clusters."""
    from tell.select.coreset import Cover, centre_order, cluster, greedy_order

    clustering = cluster(x, clusters, plan.seed)
    centres = centre_order(clustering)
    if plan.method == "centres":
        return centres, clustering

    def ltd() -> Iterator[int]:
        first = [i for i, _ in zip(centres, clustering.sizes, strict=False)]
        yield from first
        cover = Cover(x)
        cover.add(first)
        yield from greedy_order(x, cover)

    return ltd(), clustering


@dataclasses.dataclass(slots=True)
class _Choice:
    """The chosen items in order, and what is known of them."""

    items: list[int]
    clusters: Any = None
    asked_clusters: int | None = None
    radius: float | None = None
    embedding: dict[str, Any] | None = None


def _choose(plan: SelectionPlan, pool: SelectionPool, k: int | None, lengths: list[int] | None) -> _Choice:
    from tell.select.coreset import Cover, default_clusters, one_thread, random_order

    n, budget = len(pool.items), plan.amount.tokens
    if plan.method == "random":
        return _Choice(_take(random_order(n, plan.seed), k, budget, lengths))
    clusters = plan.clusters or min(default_clusters(n), k or n)
    most = n if k is None else k
    if clusters > most:
        raise RecipeError("more clusters than items to choose", place="--clusters", found=f"{clusters} clusters, {most} items", valid=f"at most {most}")
    if plan.base is None:
        raise BaseModelError("this method embeds the pool with a base, and none is given", found=plan.method, valid="a base")
    for module in ("numpy", "sklearn.cluster", "threadpoolctl"):
        need(module, "train")  # now, and not after an hour of embedding
    from tell.model.embeddings import embed

    x, embedding = embed(plan.base, [i.parts for i in pool.items])
    with one_thread():
        order, clustering = _ordered(plan, x, clusters)
        chosen = _take(order, k, budget, lengths)
        cover = Cover(x)
        cover.add(chosen)
    if plan.clusters is not None and len(chosen) < clusters:
        counts = f"{clusters} clusters, {len(chosen)} items within {budget} tokens"
        raise RecipeError("more clusters than items to choose", place="--clusters", found=counts, valid=f"at most {len(chosen)}")
    return _Choice(chosen, clustering, clusters, cover.radius(), {"base": {"id": plan.base.id, "revision": plan.base.revision}, **embedding})


def _rows(pool: SelectionPool, choice: _Choice, lengths: list[int] | None) -> Iterator[dict[str, Any]]:
    for rank, i in enumerate(choice.items, 1):
        item = pool.items[i]
        of = choice.clusters
        where = {"cluster": None, "distance": None} if of is None else {"cluster": int(of.of[i]), "distance": round(float(of.distance[i]), 6)}
        yield {"rank": rank, "id": item.id, **where, "tokens": None if lengths is None else lengths[i], **item.row}


def _summary(choice: _Choice) -> dict[str, Any] | None:
    """Where the chosen items lie: distances to their own centre, and the radius within which they cover the whole pool."""
    if choice.clusters is None:
        return None
    of, sizes = choice.clusters, choice.clusters.sizes
    distances = [float(of.distance[i]) for i in choice.items]
    chosen_of = Counter(int(of.of[i]) for i in choice.items)
    named = {"min": min(distances), "median": median(distances), "mean": fmean(distances), "max": max(distances)}
    return {
        "asked": choice.asked_clusters,
        "clusters": [{"size": s, "chosen": chosen_of[c]} for c, s in enumerate(sizes)],
        "without": sum(not chosen_of[c] for c in range(len(sizes))),
        "distance": {name: round(d, 6) for name, d in named.items()},
        "covering_radius": None if choice.radius is None else round(choice.radius, 6),
    }


def select(plan: SelectionPlan, inputs: SelectionInputs, out: Path) -> dict[str, Any]:
    """Make the selection at `out` and return its select.json. Raises CorpusError or RecipeError, and then leaves `out` as it was."""
    check_out(out, plan)
    key = select_key(plan, inputs)
    pool = _pool(plan, inputs)
    k = _count(plan, pool)
    budget = plan.amount.tokens
    lengths = None if plan.base is None else _lengths(plan.base, pool)
    if budget is not None and lengths is not None and sum(lengths) < budget:
        raise CorpusError("the budget is larger than the pool", place="--tokens", found=f"{budget} of {sum(lengths)} tokens", valid=f"at most {sum(lengths)}")
    choice = _choose(plan, pool, k, lengths)
    if not choice.items:
        raise CorpusError("the budget is smaller than the first item", place="--tokens", found=str(budget), valid="a larger budget")
    with atomic_dir(out) as aside:
        write_jsonl(aside / "selected.jsonl", _rows(pool, choice, lengths))
        picked = [pool.items[i] for i in choice.items]
        if pool.kind == "text":
            lines = ["source\ttarget", *(f"{i.row['text']}\t" for i in picked)]
            (aside / "selected.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
            if plan.pair is not None:
                from tell.select.export import xliff, xlsx

                for name, made_by in (("selected.xlsx", xlsx), ("selected.xlf", xliff)):
                    (aside / name).write_bytes(made_by([i.row["text"] for i in picked], plan.pair))
        elif pool.kind == "corpus":
            _write_corpus(aside, key, pool.corpora, picked, pool)
        hashes = {p.name: sha256_file(p) for p in sorted(aside.iterdir())}
        report = {
            "format": FORMAT,
            "key": key,
            "kind": plan.kind,
            "method": plan.method,
            "seed": plan.seed,
            "asked": {"k": plan.amount.k, "percent": None if plan.amount.percent is None else str(plan.amount.percent), "tokens": budget},
            "embedded": {"general": plan.field, "corpus": plan.side, "text": "text"}[plan.kind],
            "embedding": choice.embedding,
            "inputs": [{"path": spelled(str(p)), "sha256": sha256} for p, sha256 in zip(plan.inputs, inputs.sha256, strict=True)],
            "pool": {"items": len(pool.items), "tokens": None if lengths is None else sum(lengths), "left_out": dict(sorted(pool.left_out.items()))},
            "chosen": {"items": len(choice.items), "tokens": None if lengths is None else sum(lengths[i] for i in choice.items)},
            "clusters": _summary(choice),
            "files": hashes,
        }
        write_json(aside / "select.json", report)
    return report


def _write_corpus(aside: Path, key: str, corpora: list[LoadedCorpus], picked: list[PoolItem], pool: SelectionPool) -> None:
    """A corpus whose train split is the chosen pairs; the dev and test pairs stay, so that leak checks still see them."""
    several = len(corpora) > 1
    chosen = {i.id for i in picked}
    in_pool = {i.id for i in pool.items}
    pairs, dropped = [], []
    for corpus in corpora:
        seen: set[str] = set()
        for p in corpus.pairs:
            name = f"{corpus.name}/{p.doc}:{p.line}"
            # Documents of two corpora may have the same name.
            renamed = dataclasses.replace(p, doc=f"{corpus.name}/{p.doc}") if several else p
            if p.split != "train" or (name in chosen and name not in seen):
                pairs.append(renamed)
            else:
                reason = "not selected" if name in in_pool else "left out of the pool"
                dropped.append({"origin": p.origin, "line": p.line, "reason": reason, "source": p.source, "target": p.target})
            seen.add(name)
    states = [json.loads((c.corpus.path / "split.json").read_bytes()) for c in corpora]
    documents = {f"{c.name}/{d}" if several else d: split for c, state in zip(corpora, states, strict=True) for d, split in state["documents"].items()}
    sizes = {n: None if several else states[0][n] for n in ("dev", "test")}
    write_jsonl(aside / "pairs.jsonl", [p.row() for p in pairs])
    write_jsonl(aside / "dropped.jsonl", dropped)
    frozen = {} if several or "pairs" not in states[0] else {"pairs": states[0]["pairs"]}
    write_json(aside / "split.json", {**sizes, "seed": 0 if several else states[0]["seed"], "documents": documents, **frozen})
    against = {json.dumps(a, sort_keys=True): a for c in corpora for a in c.corpus.report.get("against", [])}
    report = {
        "format": corpora[0].corpus.report.get("format", 1),
        "key": key,
        "pair": corpora[0].corpus.report["pair"],
        "seed": 0 if several else states[0]["seed"],
        "read": len(pairs) + len(dropped),
        "kept": len(pairs),
        "dropped": dict(sorted(Counter(str(d["reason"]) for d in dropped).items())),
        "splits": {x: {"pairs": sum(p.split == x for p in pairs), "docs": len({p.doc for p in pairs if p.split == x})} for x in SPLITS},
        "sources": [{"path": spelled(str(c.corpus.pairs_path)), "sha256": c.corpus.pairs_sha256, "lines": len(c.pairs)} for c in corpora],
        "against": [against[name] for name in sorted(against)],
        "documents": sorted({d for c in corpora for d in c.corpus.report.get("documents", [])}),
        "missing_frozen": [],
        "pairs_sha256": sha256_file(aside / "pairs.jsonl"),
    }
    write_json(aside / "corpus.json", report)
