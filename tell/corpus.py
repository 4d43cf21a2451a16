"""Corpus building: clean, drop with a reason, keep test sets out of training, and freeze a split by whole documents.

Reads parallel files (`tell.readers`) and, where the corpus exists already, its split.json. Writes a directory: pairs.jsonl,
dropped.jsonl, split.json (the documents that are dev and test for good), and corpus.json with the counts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tell.errors import CorpusError
from tell.files import atomic_dir, key_of, sha256_file, write_json, write_jsonl
from tell.languages import LanguagePair
from tell.readers import Parsed, Segment, kind_of, labels, read_against, read_records, read_text, read_tsv
from tell.records import Pair, Split

FORMAT = 1
FILES = ("corpus.json", "pairs.jsonl", "dropped.jsonl", "split.json")
# Characters. Longer "sentences" are nearly always failed segmentation.
MAX_CHARS = 2000
# A side of more than RATIO_FROM characters must not be more than RATIO times the other: such pairs are misaligned.
RATIO, RATIO_FROM = 5, 20
# The default size of dev and of test: a tenth of the pairs, and no more than this.
DEFAULT_PART, DEFAULT_CAP = 10, 200


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. `dev` and `test` are sizes in pairs; None is the default size."""

    inputs: tuple[Path, ...]
    pair: LanguagePair
    docs: Path | None = None
    columns: str | None = None
    against: tuple[Path, ...] = ()
    dev: int | None = None
    test: int | None = None
    seed: int = 0


class _Letters(dict[int, str | None]):
    """For str.translate: letters and the marks on them stay, all else goes. Filled as characters are met."""

    def __missing__(self, point: int) -> str | None:
        char = chr(point)
        self[point] = found = char if unicodedata.category(char)[0] in "LM" else None
        return found


_LETTERS = _Letters()


@functools.lru_cache(maxsize=1 << 16)
def normalised(text: str) -> str:
    """What two copies of a sentence have in common: NFC, case folded, letters only. Empty for a text without letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).translate(_LETTERS)


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _control(text: str) -> bool:
    return any(c < " " and c != "\t" or c == "\x7f" for c in text)


def _surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def fault(source: str, target: str) -> str | None:
    """Why a cleaned pair is not worth training on, or None."""
    if not source:
        return "empty source"
    if not target:
        return "empty target"
    if _control(source + target):
        return "control characters"
    if _surrogate(source + target):
        return "invalid characters"
    if max(len(source), len(target)) > MAX_CHARS:
        return "too long"
    if source == target and normalised(source):
        return "identical sides"
    if max(len(source), len(target)) > max(RATIO_FROM, RATIO * min(len(source), len(target))):
        return "length ratio"
    return None


def _check_inputs(options: Options) -> str:
    """`text` for two line-aligned texts, else `tables`. Raises CorpusError for any other set of files."""
    kinds = [kind_of(p) for p in options.inputs]
    seen: set[Path] = set()
    for path in options.inputs:
        real = path.resolve()
        if real in seen:
            raise CorpusError("the same file is given twice", place=str(path), valid="different files")
        seen.add(real)
    if "text" not in kinds:
        if options.docs is not None:
            raise CorpusError("--docs goes with two line-aligned texts", place=str(options.docs), valid="a document column (TSV) or a doc key (JSONL)")
        return "tables"
    if kinds != ["text", "text"]:
        raise CorpusError(
            "these files cannot be read together", found=", ".join(p.name for p in options.inputs), valid="SOURCE.txt TARGET.txt, or any number of .tsv and .jsonl files"
        )
    if options.columns is not None:
        raise CorpusError("--columns is for TSV files", found=options.columns)
    return "text"


def read_inputs(options: Options) -> tuple[list[Parsed], list[Path]]:
    """The parsed inputs, and the files they came from (a pair of texts is one input of two files)."""
    if _check_inputs(options) == "text":
        source, target = options.inputs
        return [read_text(source, target, source.name, options.docs)], [source, target]
    parsed = []
    for path, label in zip(options.inputs, labels(options.inputs), strict=True):
        if kind_of(path) == "tsv":
            parsed.append(read_tsv(path, options.pair, label, options.columns))
        else:
            parsed.append(read_records(path, options.pair, label))
    return parsed, list(options.inputs)


def corpus_key(options: Options) -> str:
    """The hash of everything that decides the corpus, for a directory that holds none yet."""
    named = {"docs": [options.docs] if options.docs else [], "against": list(options.against)}
    return key_of(
        {
            "format": FORMAT, "pair": str(options.pair), "columns": options.columns, "dev": options.dev, "test": options.test, "seed": options.seed,
            "inputs": [[n, sha256_file(_there(p))] for n, p in zip(labels(options.inputs), options.inputs, strict=True)],
            **{k: [[p.name, sha256_file(_there(p))] for p in v] for k, v in named.items()},
        }
    )


def _there(path: Path) -> Path:
    if not path.exists():
        raise CorpusError("no such file", place=str(path))
    if path.is_dir():
        raise CorpusError("this is a directory", place=str(path), valid="a file")
    return path


def _docs(segments: Iterable[Segment]) -> dict[str, list[Segment]]:
    docs: dict[str, list[Segment]] = {}
    for s in segments:
        docs.setdefault(f"{s.file}/{s.doc}", []).append(s)
    return docs


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\n{name}".encode(errors="backslashreplace")).hexdigest()


def _take(segments: Iterable[Segment], seen: set[tuple[str, str]]) -> int:
    """Mark repeats of pairs seen before, remember the others, and count them."""
    kept = 0
    for s in segments:
        if (s.source, s.target) in seen:
            s.reason = "duplicate pair"
        else:
            seen.add((s.source, s.target))
            kept += 1
    return kept


def split(segments: list[Segment], options: Options, frozen: dict[str, Split]) -> dict[str, Split]:
    """A split for every document, dev and test first so that of two equal pairs the one outside training stays.

    Documents in `frozen` keep their split; where there are any, no further document becomes dev or test.
    """
    docs = _docs(segments)
    total = len({(s.source, s.target) for s in segments})
    default = min(DEFAULT_CAP, max(1, total // DEFAULT_PART))
    out: dict[str, Split] = {}
    seen: set[tuple[str, str]] = set()
    for name in sorted(frozen):
        if name in docs:
            out[name] = frozen[name]
            _take(docs[name], seen)
    if not frozen:
        order = iter(sorted(docs, key=lambda d: _hash(options.seed, d)))
        parts: tuple[tuple[Split, int | None], ...] = (("dev", options.dev), ("test", options.test))
        for part, asked in parts:
            size, have = default if asked is None else asked, 0
            while have < size:
                name = next(order, "")
                if not name:
                    break
                out[name] = part
                have += _take(docs[name], seen)
    for name, found in docs.items():
        if name not in out:
            out[name] = "train"
            _take(found, seen)
    return out


def _leaks(segments: list[Segment], splits: dict[str, Split]) -> None:
    """Mark training pairs one side of which is in dev or test."""
    held: dict[tuple[int, str], str] = {}
    for s in segments:
        part = splits[f"{s.file}/{s.doc}"]
        if part != "train" and s.reason is None:
            held.setdefault((0, normalised(s.source)), f"in {part}")
            held.setdefault((1, normalised(s.target)), f"in {part}")
    for s in segments:
        if splits[f"{s.file}/{s.doc}"] == "train" and s.reason is None:
            a, b = normalised(s.source), normalised(s.target)
            s.reason = (held.get((0, a)) if a else None) or (held.get((1, b)) if b else None)


def _against(segments: list[Segment], options: Options) -> list[dict[str, Any]]:
    """Mark pairs one side of which is a line of a test set; say per test set how many."""
    names = labels(options.against)
    held: dict[str, str] = {}
    report = []
    for path, name in zip(options.against, names, strict=True):
        texts = read_against(path, options.pair)
        for text in texts:
            held.setdefault(normalised(text), name)
        report.append({"path": str(path), "sha256": sha256_file(path), "lines": len(texts)})
    held.pop("", None)
    for s in segments:
        if s.reason is None and (name := held.get(normalised(s.source)) or held.get(normalised(s.target))):
            s.reason = f"in {name}"
    return report


def read_corpus(path: Path) -> dict[str, Any]:
    """The corpus.json of a built corpus. Raises CorpusError when there is none."""
    try:
        found = json.loads((path / "corpus.json").read_bytes())
        return {**found, "pair": str(found["pair"]), "key": str(found["key"])}
    except (FileNotFoundError, NotADirectoryError):
        raise CorpusError("not a corpus", place=str(path), found="no corpus.json", valid="a directory made by tellmt corpus build") from None
    except (ValueError, KeyError, TypeError) as e:
        raise CorpusError("corpus.json cannot be read", place=str(path), found=str(e)) from None


def _frozen(out: Path, options: Options) -> dict[str, Split]:
    """The dev and test documents of the corpus that is already at `out`, if any, and whether this build may replace it."""
    if not (out / "corpus.json").exists():
        return {}
    old = read_corpus(out)
    if old["pair"] != str(options.pair):
        raise CorpusError("this directory holds a corpus of another pair", place=str(out), found=old["pair"], valid="another -o")
    try:
        found = json.loads((out / "split.json").read_bytes())
        was = {k: found[k] for k in ("dev", "test", "seed")}
        frozen: dict[str, Split] = dict(found["documents"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CorpusError("the frozen split cannot be read", place=str(out / "split.json"), found=str(e), valid="--new-split draws another") from None
    asked = {"dev": options.dev, "test": options.test, "seed": options.seed}
    for name, value in asked.items():
        if value != was[name] and not (value is None or (name == "seed" and value == 0)):
            raise CorpusError("the split of this corpus is frozen", place=str(out), found=f"--{name} {value}", valid=f"--{name} {was[name]}, or --new-split")
    return frozen


def foreign(out: Path, files: Iterable[str]) -> None:
    """Raises CorpusError when `out` exists and holds anything but `files`: it is replaced as a whole, so it must be ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise CorpusError("not a directory", place=str(out), valid="a new directory for -o")
    others = sorted({p.name for p in out.iterdir()} - set(files))
    if others:
        raise CorpusError("this directory holds other files, and would be replaced", place=str(out), found=", ".join(others[:5]), valid="a new directory for -o")


def _plain(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _sources(parsed: list[Parsed], files: list[Path]) -> Iterator[dict[str, Any]]:
    for i, path in enumerate(files):
        yield {"path": str(path), "sha256": sha256_file(path), "lines": parsed[min(i, len(parsed) - 1)].lines}


def build(options: Options, out: Path, new_split: bool = False) -> dict[str, Any]:
    """Build the corpus at `out` and return its corpus.json. Raises CorpusError, and then leaves `out` as it was."""
    foreign(out, FILES)
    key = corpus_key(options)
    frozen = {} if new_split else _frozen(out, options)
    parsed, files = read_inputs(options)
    everything = [s for p in parsed for s in p.segments]
    for s in everything:
        s.source, s.target = _clean(s.source), _clean(s.target)
        s.reason = s.reason or fault(s.source, s.target)
    against = _against(everything, options)
    good = [s for s in everything if s.reason is None]
    splits = split(good, options, frozen)
    _leaks(good, splits)
    kept = [s for s in good if s.reason is None]
    dropped = Counter(s.reason for s in everything if s.reason is not None)
    reasons = ", ".join(f"{n} {r}" for r, n in dropped.most_common())
    if not kept:
        raise CorpusError("no pairs left", place=", ".join(map(str, files)), found=f"{len(everything)} read: {reasons}")
    many = len(parsed) > 1
    pairs = [Pair(s.source, s.target, _plain(f"{s.file}/{s.doc}" if many else s.doc), s.line, s.file, splits[f"{s.file}/{s.doc}"]) for s in kept]
    if not any(p.split == "train" for p in pairs):
        raise CorpusError(
            "too small to leave any pair for training", place=", ".join(map(str, files)),
            found=f"{len(pairs)} pairs in {len(_docs(kept))} documents", valid="more documents, or smaller --dev and --test",
        )
    held = {**frozen, **{d: s for d, s in splits.items() if s != "train"}}
    with atomic_dir(out) as aside:
        write_jsonl(aside / "pairs.jsonl", [p.row() for p in pairs])
        rows = [(s.file, s.line, s.reason, s.source, s.target) for s in everything if s.reason is not None]
        names = ("origin", "line", "reason", "source", "target")
        write_jsonl(aside / "dropped.jsonl", [dict(zip(names, (_plain(c) if isinstance(c, str) else c for c in r), strict=True)) for r in rows])
        write_json(aside / "split.json", {"seed": options.seed, "dev": options.dev, "test": options.test, "documents": {_plain(d): s for d, s in held.items()}})
        report = {
            "format": FORMAT, "key": key, "pair": str(options.pair), "seed": options.seed,
            "read": len(everything), "kept": len(pairs), "dropped": dict(sorted(dropped.items())),
            "splits": {part: {"pairs": sum(p.split == part for p in pairs), "docs": len({p.doc for p in pairs if p.split == part})} for part in ("train", "dev", "test")},
            "pairs_sha256": sha256_file(aside / "pairs.jsonl"), "sources": list(_sources(parsed, files)), "against": against,
            "documents": sorted({p.documents for p in parsed}), "missing_frozen": sorted(d for d in frozen if d not in splits),
        }
        write_json(aside / "corpus.json", report)
    return report
