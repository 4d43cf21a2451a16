"""Registered test sets: texts that nothing may be trained on, kept where every corpus that is built and every adapter that is published is held against them.

Reads and writes `<test sets>/<name>/`: the two sides as text files named after their languages, and testset.json, last.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tell.corpus.overlap import HeldOutSet
from tell.errors import BadInput, CorpusError, NotFound, suggestion
from tell.files import atomic_dir, read_lines, sha256_file, write_atomic, write_json
from tell.languages import LanguagePair, base_language, parse_pair
from tell.paths import testsets_dir, writable
from tell.text.normalise import letters

FORMAT = 1
REPORT = "testset.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclasses.dataclass(frozen=True, slots=True)
class RegisteredTestSet:
    """One test set. The hashes are of its files; `repeated` counts segments that are there already, `blank` those with an empty side."""

    name: str
    pair: LanguagePair
    path: Path
    segments: int
    repeated: int
    blank: int
    sha256: tuple[str, str]

    @property
    def files(self) -> tuple[Path, Path]:
        return self.path / _file(self.name, self.pair.source.tag), self.path / _file(self.name, self.pair.target.tag)

    def row(self) -> dict[str, object]:
        return {**{f: getattr(self, f) for f in ("name", "segments", "repeated", "blank")}, "pair": str(self.pair), "sha256": list(self.sha256)}

    def texts(self) -> tuple[list[str], list[str]]:
        """Sources and targets. Raises CorpusError when a file is not what was registered."""
        for file, expected in zip(self.files, self.sha256, strict=True):
            if not file.is_file() or (actual := sha256_file(file)) != expected:
                what = "no such file" if not file.is_file() else f"SHA-256 {actual[:16]}"
                raise CorpusError(
                    "altered since this test set was registered", place=str(file), found=what, valid=f"{expected[:16]}; remove it and add it again"
                )
        return read_lines(self.files[0]), read_lines(self.files[1])

    def held(self) -> HeldOutSet:
        return HeldOutSet(self.name, list(zip(*self.texts(), strict=True)))


def _file(name: str, tag: str) -> str:
    return f"{name}.{tag}.txt"


def _open(path: Path) -> RegisteredTestSet:
    place = path / REPORT
    try:
        report = json.loads(place.read_bytes())
        source, target = (str(h) for h in list(report["sha256"])[:2])
        segments, repeated, blank = (int(report[name]) for name in ("segments", "repeated", "blank"))
        return RegisteredTestSet(path.name, parse_pair(report["pair"], str(place)), path, segments, repeated, blank, (source, target))
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as e:
        raise CorpusError("this test set cannot be read", place=str(place), found=repr(e), valid="remove it and add it again") from None


def registered() -> list[RegisteredTestSet]:
    """Every test set, by name. Raises CorpusError when one of them cannot be read: it must not be passed over in silence."""
    root = testsets_dir()
    return [_open(p) for p in sorted(root.iterdir()) if _NAME.fullmatch(p.name)] if root.is_dir() else []


def find_testset(name: str) -> RegisteredTestSet:
    """The test set of this name. Raises NotFound with what there is."""
    names = {s.name: s for s in registered()}
    if name not in names:
        raise NotFound("no test set of this name", place=str(testsets_dir()), found=name, valid=suggestion(name, names) or "tellmt testset add")
    return names[name]


def of_languages(pair: LanguagePair, sets: Iterable[RegisteredTestSet] | None = None) -> list[RegisteredTestSet]:
    """Those that share a language with a pair, whatever its region: only they can be repeated by its corpora."""
    languages = {base_language(tag) for tag in (pair.source.tag, pair.target.tag)}
    return [s for s in (registered() if sets is None else sets) if languages & {base_language(t) for t in (s.pair.source.tag, s.pair.target.tag)}]


def register_testset(name: str, source: Path, target: Path, pair: LanguagePair) -> tuple[RegisteredTestSet, bool]:
    """Register a test set; the second value says whether it was there already, as it is. Raises BadInput and CorpusError."""
    if not _NAME.fullmatch(name):
        raise BadInput("not a name for a test set", found=repr(name), valid="up to 64 letters, digits, dots, hyphens and underscores, such as newstest2021")
    sides = read_lines(source), read_lines(target)
    if len(sides[0]) != len(sides[1]):
        found = f"{len(sides[0]):,} and {len(sides[1]):,} lines"
        raise CorpusError("the two sides are not equally long", place=f"{source} and {target}", found=found, valid="line-aligned files")
    if not any(letters(s) for side in sides for s in side):
        raise BadInput("the test set is empty", place=str(source), found=f"{len(sides[0]):,} lines without a letter")
    pairs = list(zip(*sides, strict=True))
    path = writable(testsets_dir(), "directory of test sets", "TELLMT_TESTSETS") / name
    texts = ["".join(line + "\n" for line in side) for side in sides]
    if path.exists():
        old = _open(path)
        if old.pair == pair and all(f.read_text(encoding="utf-8") == t for f, t in zip(old.files, texts, strict=True)):
            return old, True
        raise BadInput("another test set has this name", place=str(path), found=name, valid=f"another name, or first: tellmt testset remove {name}")
    repeated = sum(n - 1 for n in Counter(pairs).values())
    blank = sum(not (s.strip() and t.strip()) for s, t in pairs)
    with atomic_dir(path) as aside:
        files = [aside / _file(name, tag) for tag in (pair.source.tag, pair.target.tag)]
        for file, text in zip(files, texts, strict=True):
            write_atomic(file, text)
        report = {"format": FORMAT, "pair": str(pair), "segments": len(pairs), "repeated": repeated, "blank": blank, "sha256": [sha256_file(f) for f in files]}
        write_json(aside / REPORT, report)
    return _open(path), False


def remove_testset(name: str) -> RegisteredTestSet:
    """Raises NotFound when there is none. A damaged one goes too."""
    path = testsets_dir() / name
    if _NAME.fullmatch(name) and path.is_dir():
        try:
            old = _open(path)
        except CorpusError:
            old = RegisteredTestSet(name, parse_pair("is-en"), path, 0, 0, 0, ("", ""))
        shutil.rmtree(path)
        return old
    return find_testset(name)
