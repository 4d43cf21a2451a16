"""Corpus building: clean, drop with a reason, keep test sets out of training, and freeze a split.

Reads parallel files (`tell.corpus.readers.dispatch`) and, where the corpus exists already, what it has frozen (`tell.corpus.frozen`). Writes a directory:
pairs.jsonl, dropped.jsonl, split.json (the documents and pairs that are dev and test for good), corpus.json with the counts, and report.html for people.
Memory holds some 50 bytes a segment: texts lie in a spool beside the corpus.
"""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

from tell.corpus.directory import FILES, intact
from tell.corpus.frozen import change_sentences, changes, held_keys, read_frozen
from tell.corpus.ingest import IngestReport, read_corpus_inputs, spooled
from tell.corpus.near_duplicates import near_duplicates, near_sentences
from tell.corpus.readers import machine_output
from tell.corpus.readers.dispatch import InputGroup, groups, labels, read_against
from tell.corpus.readers.segment import ReadOptions, ReadReport
from tell.corpus.resplit import assign_again
from tell.corpus.rules import CleaningRules, rule_of, switched_on_rules
from tell.corpus.segment_table import SegmentTable, hashed
from tell.corpus.split import SPLITS, Sizes, assign_splits, mark_leaks
from tell.errors import CorpusError
from tell.files import atomic_dir, check_replaceable, key_of, sha256_file, write_json
from tell.languages import LanguagePair
from tell.model.base import Base
from tell.text.entities import known_letters
from tell.text.normalise import spelled

# 2: more formats and rules.
FORMAT = 2
# Kinds of files that say of a translation that a machine has made it.
_SAYING = {"xliff", "tmx", "po", "xlsx", "csv", "jsonl"}


@dataclasses.dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the user asked for. `swap`: files whose sides are exchanged; `off`: rules that are switched off.

    The report measures how well `base` knows the languages; `processes` None means one for each core.
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
    with_machine_output: bool = False
    base: Base | None = None
    processes: int | None = None

    @property
    def want(self) -> ReadOptions:
        return ReadOptions(
            self.pair, self.columns, self.source_column, self.target_column, self.doc_column, self.sheet, self.encoding, self.with_machine_output
        )


def grouped(options: BuildOptions) -> list[InputGroup]:
    """The input files in groups that are read together. Raises CorpusError for files that fit no group, and for a --swap that names none of them."""
    input_groups = groups(options.inputs, options.docs, options.columns)
    input_paths = {f.resolve() for g in input_groups for f in (*g.files, *g.paths)}
    for path in options.swap:
        if path.resolve() not in input_paths:
            raise CorpusError("not one of the files that are read", place="--swap", found=str(path), valid=", ".join(map(str, options.inputs)))
    return input_groups


@dataclasses.dataclass(frozen=True, slots=True)
class BuildInputs:
    """The input files in groups that are read together, the SHA-256 of each file, and the key of everything that decides the corpus."""

    groups: list[InputGroup]
    sha256: dict[Path, str]
    key: str


def _check_file(path: Path) -> None:
    if not path.exists():
        raise CorpusError("no such file", place=str(path))
    if path.is_dir():
        raise CorpusError("this is a directory", place=str(path), valid="a file")


def _may_say(group: InputGroup) -> bool:
    """Whether files of a group can say that a machine has translated something: a TSV does so by a column of its header alone."""
    if group.kind != "tsv":
        return group.kind in _SAYING
    for path in group.files:
        if path.suffix.lower() not in (".tsv", ".tab"):
            # Packed: its header is not looked for.
            return True
        with path.open("rb") as f:
            if any(machine_output.named(cell.strip()) for cell in f.readline(1 << 16).decode("utf-8", "replace").split("\t")):
                return True
    return False


def hash_inputs(options: BuildOptions) -> BuildInputs:
    """Hashes each file once. Raises CorpusError when one is missing, and when the files cannot be read together."""
    input_groups = grouped(options)
    swapped = {p.resolve() for p in options.swap}
    hashes: dict[Path, str] = {}
    for path in [f for g in input_groups for f in g.files] + ([] if options.docs is None else [options.docs]) + list(options.against):
        if path not in hashes:
            _check_file(path)
            hashes[path] = sha256_file(path)
    key = key_of(
        {
            "format": FORMAT,
            "pair": str(options.pair),
            "want": [getattr(options, n) for n in ("columns", "source_column", "target_column", "doc_column", "sheet", "encoding")],
            "off": sorted(set(options.off)),
            "sizes": dataclasses.asdict(options.sizes),
            "inputs": [[g.label, g.kind, [hashes[f] for f in g.files], any(p.resolve() in swapped for p in (*g.files, *g.paths))] for g in input_groups],
            "docs": None if options.docs is None else hashes[options.docs],
            "against": [[name, hashes[path]] for name, path in zip(labels(options.against), options.against, strict=True)],
            "base": options.base and [options.base.id, options.base.revision],
            # Of formats that say it, for corpora of an earlier version to be built again; the keys of others stay.
            **({"machine output": options.with_machine_output} if options.with_machine_output or any(map(_may_say, input_groups)) else {}),
        }
    )
    return BuildInputs(input_groups, hashes, key)


def _mark_against(table: SegmentTable, options: BuildOptions, hashes: dict[Path, str]) -> list[dict[str, Any]]:
    """Marks pairs one side of which is in a test set, and returns a report of each test set."""
    held: dict[int, str] = {}
    report = []
    for path, name in zip(options.against, labels(options.against), strict=True):
        texts = read_against(path, options.pair)
        for text in texts:
            if text_letters := known_letters(text):
                held.setdefault(hashed(text_letters), name)
        report.append({"path": spelled(str(path)), "sha256": hashes[path], "texts": len(texts)})
    if held:
        source, target = table.letters
        for i in table.good():
            if name := held.get(source[i]) or held.get(target[i], ""):
                table.drop(i, f"in {name}")
    return report


def _sources(inputs: BuildInputs, readings: list[ReadReport]) -> list[dict[str, Any]]:
    sources = []
    for group, reading in zip(inputs.groups, readings, strict=True):
        for path in group.files if group.kind == "directory" else group.paths:
            row: dict[str, Any] = {"path": spelled(str(path)), "sha256": inputs.sha256[path], "kind": group.kind, "lines": reading.lines}
            if encoding := reading.encodings.get(str(path)):
                row["encoding"] = encoding
            if reading.languages:
                row["languages"] = dict(reading.languages.most_common())
            sources.append(row)
    return sources


def build(options: BuildOptions, out: Path, new_split: bool = False, force: bool = False) -> tuple[dict[str, Any], bool]:
    """Builds the corpus at `out`. Returns its corpus.json, and whether the corpus was reused.

    A corpus is reused when it was built from the same files and options and its files are as they were written; `force` builds it even then.
    Raises CorpusError, and then leaves `out` as it was.
    """
    inputs = None
    if not (force or new_split) and (out / "corpus.json").exists():
        inputs = hash_inputs(options)
        if (unchanged := intact(out, inputs.key)) is not None:
            return unchanged, True
    check_replaceable(out, FILES)
    rules = switched_on_rules(options.pair, options.off)
    return _build(options, inputs or hash_inputs(options), rules, out, new_split), False


def _build(options: BuildOptions, inputs: BuildInputs, rules: CleaningRules, out: Path, new_split: bool) -> dict[str, Any]:
    frozen = None if new_split else read_frozen(out, str(options.pair), options.sizes)
    with spooled(out) as table:
        swapped = {p.resolve() for p in options.swap}
        cleaned = read_corpus_inputs(inputs.groups, inputs.sha256, options.want, options.docs, swapped, rules, table, options.processes)
        against = _mark_against(table, options, inputs.sha256)
        missing: list[str] = []
        if frozen is None:
            sizes, split = options.sizes, assign_splits(table, rules, options.sizes)
        else:
            sizes = frozen.sizes
            split, missing = assign_again(table, rules, frozen, out)
        mark_leaks(table, split.sides)
        counts = _counts(table, split.sides)
        _check_counts(options, counts, len(table))
        held = held_keys(table, split.sides, frozen)
        near = near_duplicates(table, split.sides)
        changed = None if new_split and (out / "corpus.json").exists() else changes(table, split.sides, frozen)
        report = {
            "format": FORMAT,
            "key": inputs.key,
            "pair": str(options.pair),
            "seed": sizes.seed,
            "read": len(table),
            "kept": sum(s["pairs"] for s in counts.splits.values()),
            "dropped": counts.dropped,
            "mended": dict(sorted(cleaned.mended.items())),
            "off": sorted(set(options.off)),
            "splits": counts.splits,
            "sources": _sources(inputs, cleaned.readings),
            "against": against,
            "documents": sorted({r.documents for r in cleaned.readings}),
            "missing_frozen": missing,
            "changes": changed,
            "near_duplicates": near,
            "notes": [n for n in [machine_output.sentence(counts.dropped, len(table))] if n]
            + cleaned.notes
            + near_sentences(near)
            + ([] if new_split else change_sentences(changed)),
        }
        if options.base is not None:
            report["base"] = _known(options.base, options, table)
        with atomic_dir(out) as aside:
            _write_texts(aside, table, split.sides, several=len(inputs.groups) > 1)
            write_json(aside / "split.json", {**dataclasses.asdict(sizes), "documents": split.documents, "pairs": held})
            report["pairs_sha256"] = sha256_file(aside / "pairs.jsonl")
            _write_report(aside, report, options, table, cleaned)
            write_json(aside / "corpus.json", report)
    return report


def _known(base: Base, options: BuildOptions, table: SegmentTable) -> dict[str, Any]:
    """Measures how well the base knows the two languages, on kept pairs from all over the corpus."""
    from tell.model.perplexity import COUNTED, base_knowledge

    good = array("I", table.good())
    sample = [good[i * len(good) // COUNTED] for i in range(COUNTED)] if len(good) > COUNTED else good
    rows = [json.loads(b"{" + table.spool.read(i) + b"}") for i in sample]
    return base_knowledge(base, options.pair, [r["source"] for r in rows], [r["target"] for r in rows])


@dataclasses.dataclass(frozen=True, slots=True)
class _Counts:
    dropped: dict[str, int]
    splits: dict[str, dict[str, int]]


def _counts(table: SegmentTable, sides: bytearray) -> _Counts:
    reasons = Counter(table.reason)
    reasons.pop(0, None)
    dropped = {table.reasons.all[r]: n for r, n in reasons.items()}
    pairs: Counter[str] = Counter()
    docs: dict[str, set[int]] = {x: set() for x in SPLITS}
    for i in table.good():
        split = SPLITS[sides[i]]
        pairs[split] += 1
        docs[split].add(table.doc[i])
    return _Counts(dict(sorted(dropped.items())), {x: {"pairs": pairs[x], "docs": len(docs[x])} for x in SPLITS})


def _check_counts(options: BuildOptions, counts: _Counts, read: int) -> None:
    where = ", ".join(map(str, options.inputs))
    kept_pairs = sum(s["pairs"] for s in counts.splits.values())
    if not kept_pairs:
        most = sorted(counts.dropped.items(), key=lambda d: (-d[1], d[0]))
        named = [name for reason, _ in most[:1] if (name := rule_of(reason))]
        valid = f"other files, or --off {named[0]} where that rule is wrong" if named else None
        if any(machine_output.is_machine_output(reason) for reason in counts.dropped):
            valid = f"translations that a person has made or confirmed; {machine_output.OPTION} takes a machine's all the same"
        raise CorpusError("no pairs left", place=where, found=f"{read} read: " + ", ".join(f"{n} {r}" for r, n in most), valid=valid)
    # A corpus of held-out segments alone has to be asked for: one split of 0, and the other at least as large as the whole.
    sizes = (options.sizes.dev, options.sizes.test)
    held_out_alone = 0 in sizes and None not in sizes and max(s or 0 for s in sizes) >= kept_pairs
    if not counts.splits["train"]["pairs"] and not held_out_alone:
        found = f"{kept_pairs} pairs in {sum(s['docs'] for s in counts.splits.values())} documents"
        raise CorpusError("too small to leave any pair for training", place=where, found=found, valid="more documents, or smaller --dev and --test")


def _write_texts(aside: Path, table: SegmentTable, sides: bytearray, several: bool) -> None:
    """Writes pairs.jsonl and dropped.jsonl in the order of the input files."""
    origins = [json.dumps(name, ensure_ascii=False) for name in table.files.all]
    reasons = [json.dumps(name, ensure_ascii=False) for name in table.reasons.all]
    with (aside / "pairs.jsonl").open("wb", 1 << 20) as pairs, (aside / "dropped.jsonl").open("wb", 1 << 20) as dropped:
        for i, text in enumerate(table.spool.lines()):
            origin, line, reason = origins[table.file[i]], table.line[i], table.reason[i]
            if reason:
                dropped.write(f'{{"origin": {origin}, "line": {line}, "reason": {reasons[reason]}, '.encode() + text[:-1] + b"}\n")
                continue
            doc = table.documents[table.doc[i]]
            if not several:
                doc = doc.removeprefix(f"{table.files.all[table.file[i]]}/")
            place = f', "doc": {json.dumps(doc, ensure_ascii=False)}, "line": {line}, "origin": {origin}, "split": "{SPLITS[sides[i]]}"}}\n'
            pairs.write(b"{" + text[:-1] + place.encode())


def _write_report(aside: Path, report: dict[str, Any], options: BuildOptions, table: SegmentTable, cleaned: IngestReport) -> None:
    from tell.corpus.report import corpus_page

    (aside / "report.html").write_text(corpus_page(report, options.pair, table, cleaned.samples), encoding="utf-8", newline="\n")
