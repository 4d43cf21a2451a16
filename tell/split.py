"""The frozen split: which whole documents are dev and test, and which training pairs would repeat them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

from tell.clean import normalised
from tell.readers import Segment
from tell.records import Split

# The default size of dev and of test: a tenth of the pairs, and no more than this many.
PART, CAP = 10, 200


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """Pairs asked for, in whole documents; None is the default size. The seed decides which documents."""

    dev: int | None = None
    test: int | None = None
    seed: int = 0


def document(segment: Segment) -> str:
    """A document's name in split.json: always with its file, so that adding a file to the corpus renames none."""
    return f"{segment.file}/{segment.doc}"


def documents(segments: Iterable[Segment]) -> dict[str, list[Segment]]:
    docs: dict[str, list[Segment]] = {}
    for s in segments:
        docs.setdefault(document(s), []).append(s)
    return docs


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest()


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


def assign(segments: list[Segment], sizes: Sizes, frozen: dict[str, Split]) -> dict[str, Split]:
    """A split for every document, dev and test first, so that of two equal pairs the one outside training stays.

    Documents in `frozen` keep their split; where there are any, no further document becomes dev or test.
    """
    docs = documents(segments)
    default = min(CAP, max(1, len({(s.source, s.target) for s in segments}) // PART))
    out: dict[str, Split] = {}
    seen: set[tuple[str, str]] = set()
    for name in sorted(frozen):
        if name in docs:
            out[name] = frozen[name]
            _take(docs[name], seen)
    if not frozen:
        order = iter(sorted(docs, key=lambda d: _hash(sizes.seed, d)))
        parts: tuple[tuple[Split, int | None], ...] = (("dev", sizes.dev), ("test", sizes.test))
        for part, asked in parts:
            have = 0
            while have < (default if asked is None else asked) and (name := next(order, "")):
                out[name] = part
                have += _take(docs[name], seen)
    for name, found in docs.items():
        if name not in out:
            out[name] = "train"
            _take(found, seen)
    return out


def mark_leaks(segments: list[Segment], splits: dict[str, Split]) -> None:
    """Mark training pairs one side of which is, but for case and punctuation, in dev or test."""
    held: dict[tuple[int, str], str] = {}
    for s in segments:
        part = splits[document(s)]
        if part != "train" and s.reason is None:
            held.setdefault((0, normalised(s.source)), f"in {part}")
            held.setdefault((1, normalised(s.target)), f"in {part}")
    held.pop((0, ""), None), held.pop((1, ""), None)
    for s in segments:
        if splits[document(s)] == "train" and s.reason is None:
            s.reason = held.get((0, normalised(s.source))) or held.get((1, normalised(s.target)))
