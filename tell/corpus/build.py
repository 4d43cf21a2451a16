"""Corpus building: clean, drop with a reason, keep test sets out of training, and freeze a split by whole documents.

Reads parallel files (`tell.corpus.readers.dispatch`) and, where the corpus exists already, its split.json. Writes a directory: pairs.jsonl,
dropped.jsonl, split.json (the documents that are dev and test for good), corpus.json with the counts, and report.html for people.
Memory holds some 50 bytes a segment: texts lie in a spool beside the corpus.
"""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

from tell.corpus.directory import FILES, intact, read_corpus
from tell.corpus.ingest import Gathered, gather, spooled
from tell.corpus.readers.dispatch import Group, groups, labels, read_against
from tell.corpus.readers.segment import Reading, Want
from tell.corpus.rules import rule_of, rules
from tell.corpus.segment_table import Ledger, hashed
from tell.corpus.split import SPLITS, Sizes, assign, mark_leaks
from tell.errors import CorpusError
from tell.files import atomic_dir, check_replaceable, key_of, sha256_file, write_json
from tell.languages import LanguagePair
from tell.model.base import Base
from tell.records import Split
from tell.text.normalise import letters, spelled

# 2: more formats and rules.
FORMAT = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. `swap`: files whose sides are to be turned around; `off`: rules that are not to be used.

    `base` is the id and revision of the base that the report asks about the languages; `processes` None is one for each core.
    """

    inputs: tuple[Path, ...]
    pair: LanguagePair
    docs: Path | None = None
    columns: str | None = None
    against: tuple[Path, ...] = ()
    sizes: Sizes = dataclasses.field(default_factory=Sizes)
    source_column: str | None = None
    target_column: str | None = None
    doc_column: str | None = None
    sheet: str | None = None
    encoding: str | None = None
    swap: tuple[Path, ...] = ()
    off: tuple[str, ...] = ()
    base: Base | None = None
    processes: int | None = None

    @property
    def want(self) -> Want:
        return Want(self.pair, self.columns, self.source_column, self.target_column, self.doc_column, self.sheet, self.encoding)


def grouped(options: Options) -> list[Group]:
    """The inputs by what is read together. Raises CorpusError for files that cannot be, and for a --swap that names none of them."""
    found = groups(options.inputs, options.docs, options.columns)
    known = {f.resolve() for g in found for f in (*g.files, *g.paths)}
    for path in options.swap:
        if path.resolve() not in known:
            raise CorpusError("not one of the files that are read", place="--swap", found=str(path), valid=", ".join(map(str, options.inputs)))
    return found


def _hashed(path: Path) -> str:
    if not path.exists():
        raise CorpusError("no such file", place=str(path))
    if path.is_dir():
        raise CorpusError("this is a directory", place=str(path), valid="a file")
    return sha256_file(path)


def corpus_key(options: Options) -> str:
    """The hash of everything that decides a corpus that is not there yet."""
    found = grouped(options)
    swapped = {p.resolve() for p in options.swap}
    return key_of(
        {
            "format": FORMAT,
            "pair": str(options.pair),
            "want": [getattr(options, n) for n in ("columns", "source_column", "target_column", "doc_column", "sheet", "encoding")],
            "off": sorted(set(options.off)),
            "sizes": dataclasses.asdict(options.sizes),
            "inputs": [[g.label, g.kind, [_hashed(p) for p in g.files], any(p.resolve() in swapped for p in (*g.files, *g.paths))] for g in found],
            "docs": None if options.docs is None else _hashed(options.docs),
            "against": [[n, _hashed(p)] for n, p in zip(labels(options.against), options.against, strict=True)],
            "base": options.base and [options.base.id, options.base.revision],
        }
    )


def reusable(out: Path, options: Options) -> dict[str, Any] | None:
    """The corpus.json at `out` if it was built from these options and files, and its pairs are what was written."""
    return intact(out, corpus_key(options)) if (out / "corpus.json").exists() else None


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


def _mark_against(ledger: Ledger, options: Options) -> list[dict[str, Any]]:
    """Mark pairs one side of which is in a test set; report each test set."""
    held: dict[int, str] = {}
    report = []
    for path, name in zip(options.against, labels(options.against), strict=True):
        texts = read_against(path, options.pair)
        for text in texts:
            if own := letters(text):
                held.setdefault(hashed(own), name)
        report.append({"path": spelled(str(path)), "sha256": sha256_file(path), "texts": len(texts)})
    if held:
        source, target = ledger.letters
        for i in ledger.good():
            if name := held.get(source[i]) or held.get(target[i], ""):
                ledger.drop(i, f"in {name}")
    return report


def _sources(found: list[Group], readings: list[Reading]) -> list[dict[str, Any]]:
    out = []
    for group, reading in zip(found, readings, strict=True):
        for path in group.files if group.kind == "directory" else group.paths:
            row: dict[str, Any] = {"path": spelled(str(path)), "sha256": sha256_file(path), "kind": group.kind, "lines": reading.lines}
            if encoding := reading.encodings.get(str(path)):
                row["encoding"] = encoding
            if reading.languages:
                row["languages"] = dict(reading.languages.most_common())
            out.append(row)
    return out


def build(options: Options, out: Path, new_split: bool = False) -> dict[str, Any]:
    """Build the corpus at `out` and return its corpus.json. Raises CorpusError, and then leaves `out` as it was."""
    check_replaceable(out, FILES)
    by = rules(options.pair, options.off)
    found = grouped(options)
    key = corpus_key(options)
    sizes, frozen = (options.sizes, {}) if new_split else _frozen(out, options)
    with spooled(out) as ledger:
        cleaned = gather(found, options.want, options.docs, {p.resolve() for p in options.swap}, by, ledger, options.processes)
        against = _mark_against(ledger, options)
        splits = assign(ledger, by, sizes, frozen)
        named = {ledger.documents[d]: split for d, split in enumerate(splits) if split is not None and (split != "train" or frozen)}
        missing = sorted(d for d in frozen if d not in named)
        if missing and len(missing) == len(frozen):
            # Under new names they would become training data.
            valid = "the files and --docs it was built from, or --new-split"
            raise CorpusError("none of the frozen dev and test documents is in the data", place=str(out), found=f"no {missing[0]}", valid=valid)
        mark_leaks(ledger, splits)
        counts = _counts(ledger, splits)
        _check_counts(options, counts, len(ledger))
        report = {
            "format": FORMAT,
            "key": key,
            "pair": str(options.pair),
            "seed": sizes.seed,
            "read": len(ledger),
            "kept": sum(s["pairs"] for s in counts.splits.values()),
            "dropped": counts.dropped,
            "mended": dict(sorted(cleaned.mended.items())),
            "off": sorted(set(options.off)),
            "splits": counts.splits,
            "sources": _sources(found, cleaned.readings),
            "against": against,
            "documents": sorted({r.documents for r in cleaned.readings}),
            "missing_frozen": missing,
            "notes": cleaned.notes,
        }
        if options.base is not None:
            report["base"] = _known(options.base, options, ledger)
        held = {**frozen, **{d: s for d, s in named.items() if s != "train"}}
        with atomic_dir(out) as aside:
            _write_texts(aside, ledger, splits, several=len(found) > 1)
            write_json(aside / "split.json", {**dataclasses.asdict(sizes), "documents": held})
            report["pairs_sha256"] = sha256_file(aside / "pairs.jsonl")
            _write_report(aside, report, options, ledger, cleaned)
            write_json(aside / "corpus.json", report)
    return report


def _known(base: Base, options: Options, ledger: Ledger) -> dict[str, Any]:
    """How well the base knows the two languages, by kept pairs from all over the corpus."""
    from tell.model.perplexity import COUNTED, base_knowledge

    good = array("I", ledger.good())
    some = [good[i * len(good) // COUNTED] for i in range(COUNTED)] if len(good) > COUNTED else good
    rows = [json.loads(b"{" + ledger.spool.read(i) + b"}") for i in some]
    return base_knowledge(base, options.pair, [r["source"] for r in rows], [r["target"] for r in rows])


@dataclasses.dataclass(frozen=True, slots=True)
class _Counts:
    dropped: dict[str, int]
    splits: dict[str, dict[str, int]]


def _counts(ledger: Ledger, splits: list[Split | None]) -> _Counts:
    reasons = Counter(ledger.reason)
    reasons.pop(0, None)
    dropped = {ledger.reasons.all[r]: n for r, n in reasons.items()}
    pairs: Counter[str] = Counter()
    docs: dict[str, set[int]] = {x: set() for x in SPLITS}
    for i in ledger.good():
        split = splits[ledger.doc[i]] or "train"
        pairs[split] += 1
        docs[split].add(ledger.doc[i])
    return _Counts(dict(sorted(dropped.items())), {x: {"pairs": pairs[x], "docs": len(docs[x])} for x in SPLITS})


def _check_counts(options: Options, counts: _Counts, read: int) -> None:
    where = ", ".join(map(str, options.inputs))
    kept = sum(s["pairs"] for s in counts.splits.values())
    if not kept:
        most = sorted(counts.dropped.items(), key=lambda d: (-d[1], d[0]))
        named = [name for reason, _ in most[:1] if (name := rule_of(reason))]
        valid = f"other files, or --off {named[0]} where that rule is wrong" if named else None
        raise CorpusError("no pairs left", place=where, found=f"{read} read: " + ", ".join(f"{n} {r}" for r, n in most), valid=valid)
    if not counts.splits["train"]["pairs"]:
        found = f"{kept} pairs in {sum(s['docs'] for s in counts.splits.values())} documents"
        raise CorpusError("too small to leave any pair for training", place=where, found=found, valid="more documents, or smaller --dev and --test")


def _write_texts(aside: Path, ledger: Ledger, splits: list[Split | None], several: bool) -> None:
    """pairs.jsonl and dropped.jsonl, in the order of the files."""
    origins = [json.dumps(name, ensure_ascii=False) for name in ledger.files.all]
    reasons = [json.dumps(name, ensure_ascii=False) for name in ledger.reasons.all]
    with (aside / "pairs.jsonl").open("wb", 1 << 20) as pairs, (aside / "dropped.jsonl").open("wb", 1 << 20) as dropped:
        for i, text in enumerate(ledger.spool.lines()):
            origin, line, reason = origins[ledger.file[i]], ledger.line[i], ledger.reason[i]
            if reason:
                dropped.write(f'{{"origin": {origin}, "line": {line}, "reason": {reasons[reason]}, '.encode() + text[:-1] + b"}\n")
                continue
            doc = ledger.documents[ledger.doc[i]]
            if not several:
                doc = doc.removeprefix(f"{ledger.files.all[ledger.file[i]]}/")
            place = f', "doc": {json.dumps(doc, ensure_ascii=False)}, "line": {line}, "origin": {origin}, "split": "{splits[ledger.doc[i]]}"}}\n'
            pairs.write(b"{" + text[:-1] + place.encode())


def _write_report(aside: Path, report: dict[str, Any], options: Options, ledger: Ledger, cleaned: Gathered) -> None:
    from tell.corpus.report import page

    (aside / "report.html").write_text(page(report, options.pair, ledger, cleaned.samples), encoding="utf-8", newline="\n")
