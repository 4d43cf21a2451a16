"""Corpus building: clean, drop with a reason, keep test sets out of training, and freeze a split by whole documents.

Reads parallel files (`tell.readers`) and, where the corpus exists already, its split.json. Writes a directory: pairs.jsonl,
dropped.jsonl, split.json (the documents that are dev and test for good), and corpus.json with the counts.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tell.clean import fault, normalised, spelled, tidy
from tell.errors import CorpusError
from tell.files import atomic_dir, key_of, sha256_file, write_json, write_jsonl
from tell.languages import LanguagePair
from tell.readers import Parsed, Segment, kind_of, labels, read_against, read_records, read_text, read_tsv
from tell.records import Pair, Split
from tell.split import Sizes, assign, document, documents, mark_leaks

FORMAT = 1
FILES = ("corpus.json", "pairs.jsonl", "dropped.jsonl", "split.json")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    inputs: tuple[Path, ...]
    pair: LanguagePair
    docs: Path | None = None
    columns: str | None = None
    against: tuple[Path, ...] = ()
    sizes: Sizes = dataclasses.field(default_factory=Sizes)


def _check_inputs(options: Options) -> bool:
    """Whether the inputs are two line-aligned texts rather than tables. Raises CorpusError for any other set of files."""
    kinds = [kind_of(p) for p in options.inputs]
    seen: set[Path] = set()
    for path in options.inputs:
        if path.resolve() in seen:
            raise CorpusError("the same file is given twice", place=str(path), valid="different files")
        seen.add(path.resolve())
    if "text" not in kinds:
        if options.docs is not None:
            raise CorpusError("--docs goes with two line-aligned texts", place=str(options.docs), valid="a document column (TSV) or a doc key (JSONL)")
        return False
    if kinds != ["text", "text"]:
        names = ", ".join(p.name for p in options.inputs)
        raise CorpusError("these files cannot be read together", found=names, valid="SOURCE.txt TARGET.txt, or any number of .tsv and .jsonl files")
    if options.columns is not None:
        raise CorpusError("--columns is for TSV files", found=options.columns)
    return True


def read_inputs(options: Options) -> list[Parsed]:
    """The parsed inputs; two line-aligned texts are one."""
    if _check_inputs(options):
        source, target = options.inputs
        return [read_text(source, target, labels([source])[0], options.docs)]
    parsed = []
    for path, label in zip(options.inputs, labels(options.inputs), strict=True):
        parsed.append(read_tsv(path, options.pair, label, options.columns) if kind_of(path) == "tsv" else read_records(path, options.pair, label))
    return parsed


def _hashed(path: Path) -> str:
    if not path.exists():
        raise CorpusError("no such file", place=str(path))
    if path.is_dir():
        raise CorpusError("this is a directory", place=str(path), valid="a file")
    return sha256_file(path)


def corpus_key(options: Options) -> str:
    """The hash of everything that decides a corpus that is not there yet."""
    return key_of(
        {
            "format": FORMAT,
            "pair": str(options.pair),
            "columns": options.columns,
            "sizes": dataclasses.asdict(options.sizes),
            "inputs": [[n, _hashed(p)] for n, p in zip(labels(options.inputs), options.inputs, strict=True)],
            "docs": None if options.docs is None else _hashed(options.docs),
            "against": [[n, _hashed(p)] for n, p in zip(labels(options.against), options.against, strict=True)],
        }
    )


def read_corpus(path: Path) -> dict[str, Any]:
    """The corpus.json of a built corpus. Raises CorpusError when there is none."""
    try:
        found = json.loads((path / "corpus.json").read_bytes())
        return {**found, "pair": str(found["pair"]), "key": str(found["key"])}
    except (FileNotFoundError, NotADirectoryError):
        raise CorpusError("not a corpus", place=str(path), found="no corpus.json", valid="a directory made by tellmt corpus build") from None
    except (ValueError, KeyError, TypeError) as e:
        raise CorpusError("corpus.json cannot be read", place=str(path), found=str(e)) from None


def reusable(out: Path, options: Options) -> dict[str, Any] | None:
    """The corpus.json at `out` if it was built from these options and files, and its pairs are what was written."""
    if not (out / "corpus.json").exists():
        return None
    found, pairs = read_corpus(out), out / "pairs.jsonl"
    whole = all((out / name).is_file() for name in FILES) and sha256_file(pairs) == found.get("pairs_sha256")
    return found if whole and found["key"] == corpus_key(options) else None


def _frozen(out: Path, options: Options) -> tuple[Sizes, dict[str, Split]]:
    """The sizes and the dev and test documents of the corpus that is already at `out`; those asked for, and none, where there is no corpus."""
    if not (out / "corpus.json").exists():
        return options.sizes, {}
    old = read_corpus(out)
    if old["pair"] != str(options.pair):
        raise CorpusError("this directory holds a corpus of another pair", place=str(out), found=old["pair"], valid="another -o")
    try:
        state = json.loads((out / "split.json").read_bytes())
        was = Sizes(state["dev"], state["test"], state["seed"])
        frozen: dict[str, Split] = dict(state["documents"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CorpusError("the frozen split cannot be read", place=str(out / "split.json"), found=str(e), valid="--new-split draws another") from None
    if not frozen:
        return options.sizes, {}
    default = Sizes()
    for name in ("dev", "test", "seed"):
        asked, before = getattr(options.sizes, name), getattr(was, name)
        if asked not in (before, getattr(default, name)):
            found = f"--{name} {asked}"
            raise CorpusError("the split of this corpus is frozen", place=str(out), found=found, valid="the options it was made with, or --new-split")
    return was, frozen


def check_replaceable(out: Path, files: Iterable[str]) -> None:
    """Raises CorpusError when `out` exists and holds anything but `files`: it is replaced as a whole, so it must be ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise CorpusError("not a directory", place=str(out), valid="a new directory for -o")
    others = sorted({p.name for p in out.iterdir()} - set(files))
    if others:
        found = ", ".join(others[:5])
        raise CorpusError("this directory holds other files, and would be replaced", place=str(out), found=found, valid="a new directory for -o")


def _mark_against(segments: list[Segment], options: Options) -> list[dict[str, Any]]:
    """Mark pairs one side of which is in a test set; report each test set."""
    held: dict[str, str] = {}
    report = []
    for path, name in zip(options.against, labels(options.against), strict=True):
        texts = read_against(path, options.pair)
        for text in texts:
            held.setdefault(normalised(text), name)
        report.append({"path": spelled(str(path)), "sha256": sha256_file(path), "texts": len(texts)})
    held.pop("", None)
    for s in segments:
        if s.reason is None and (name := held.get(normalised(s.source)) or held.get(normalised(s.target), "")):
            s.reason = f"in {name}"
    return report


def _sources(options: Options, parsed: list[Parsed]) -> list[dict[str, Any]]:
    lines = [p.lines for p in parsed] if len(parsed) == len(options.inputs) else [parsed[0].lines] * len(options.inputs)
    return [{"path": spelled(str(p)), "sha256": sha256_file(p), "lines": n} for p, n in zip(options.inputs, lines, strict=True)]


def build(options: Options, out: Path, new_split: bool = False) -> dict[str, Any]:
    """Build the corpus at `out` and return its corpus.json. Raises CorpusError, and then leaves `out` as it was."""
    check_replaceable(out, FILES)
    key = corpus_key(options)
    sizes, frozen = (options.sizes, {}) if new_split else _frozen(out, options)
    parsed = read_inputs(options)
    everything = [s for p in parsed for s in p.segments]
    for s in everything:
        s.source, s.target = tidy(s.source), tidy(s.target)
        s.reason = s.reason or fault(s.source, s.target)
    against = _mark_against(everything, options)
    good = [s for s in everything if s.reason is None]
    splits = assign(good, sizes, frozen)
    missing = sorted(d for d in frozen if d not in splits)
    if missing and len(missing) == len(frozen):
        # Under new names they would become training data.
        valid = "the files and --docs it was built from, or --new-split"
        raise CorpusError("none of the frozen dev and test documents is in the data", place=str(out), found=f"no {missing[0]}", valid=valid)
    mark_leaks(good, splits)
    kept = [s for s in good if s.reason is None]
    left = [s for s in everything if s.reason is not None]
    dropped = Counter(str(s.reason) for s in left)
    where = ", ".join(map(str, options.inputs))
    if not kept:
        raise CorpusError("no pairs left", place=where, found=f"{len(left)} read: " + ", ".join(f"{n} {r}" for r, n in dropped.most_common()))
    pairs = [Pair(s.source, s.target, document(s) if len(parsed) > 1 else s.doc, s.line, s.file, splits[document(s)]) for s in kept]
    if not any(p.split == "train" for p in pairs):
        found = f"{len(pairs)} pairs in {len(documents(kept))} documents"
        raise CorpusError("too small to leave any pair for training", place=where, found=found, valid="more documents, or smaller --dev and --test")
    report = {
        "format": FORMAT,
        "key": key,
        "pair": str(options.pair),
        "seed": sizes.seed,
        "read": len(everything),
        "kept": len(pairs),
        "dropped": dict(sorted(dropped.items())),
        "splits": {x: {"pairs": sum(p.split == x for p in pairs), "docs": len({p.doc for p in pairs if p.split == x})} for x in SPLITS},
        "sources": _sources(options, parsed),
        "against": against,
        "documents": sorted({p.documents for p in parsed}),
        "missing_frozen": missing,
    }
    held = {**frozen, **{d: s for d, s in splits.items() if s != "train"}}
    with atomic_dir(out) as aside:
        write_jsonl(aside / "pairs.jsonl", [p.row() for p in pairs])
        write_jsonl(aside / "dropped.jsonl", [_row(s) for s in left])
        write_json(aside / "split.json", {**dataclasses.asdict(sizes), "documents": held})
        report["pairs_sha256"] = sha256_file(aside / "pairs.jsonl")
        write_json(aside / "corpus.json", report)
    return report


def _row(s: Segment) -> dict[str, Any]:
    return {"origin": s.file, "line": s.line, "reason": s.reason, "source": spelled(s.source), "target": spelled(s.target)}
