"""What the corpus that is built again says of its pairs: which split each source text is in for good, and what has changed since.

Reads the split.json, pairs.jsonl and dropped.jsonl of a corpus directory. Writes nothing. Memory holds hashes: some 30 bytes for each pair of that corpus.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tell.corpus.directory import PAIRS, read_report
from tell.corpus.segment_table import FirstSeen, SegmentTable, hashed
from tell.corpus.split import SPLITS, Sizes
from tell.errors import CorpusError
from tell.files import read_jsonl, sha256_file
from tell.records import Split
from tell.text.entities import known_letters

# Places in SPLITS, and what stands for a source text whose pairs are in several splits.
TRAIN, DEV, TEST, SEVERAL = 0, 1, 2, 3


def source_key(source: str) -> int:
    """The hash by which a source text is known: that of its letters, or of the text where it has none. HTML's references and a spreadsheet's
    escapes count as what they stand for."""
    return hashed(known_letters(source) or source)


def key_of_segment(table: SegmentTable, i: int) -> int:
    """`source_key` of a segment of the table; texts without letters, of which there are few, are read from the spool."""
    return table.letters[0][i] or hashed(json.loads(b"{" + table.spool.read(i) + b"}")["source"])


class KnownPairs:
    """The split of each source text of the earlier corpus, and how many of its pairs have not been found again.

    A text whose pairs were in several splits (the same source in dev and in test) is told apart by its targets.
    """

    def __init__(self) -> None:
        # 4 * pairs not found again + split.
        self._sources = FirstSeen()
        self._pairs: dict[int, tuple[int, int]] = {}

    def add(self, source: int, split: int, pairs: int = 1) -> bool:
        """Adds pairs of a source text. False where the text was in another split before, and has to be told apart by `add_pair`."""
        before = self._sources.first(source, 4 * pairs + split)
        if before is None:
            return True
        if before & 3 != split:
            self._sources.replace(source, SEVERAL)
            return False
        self._sources.replace(source, before + 4 * pairs)
        return True

    def several(self, source: int) -> bool:
        packed = self._sources.get(source)
        return packed is not None and packed & 3 == SEVERAL

    def add_pair(self, pair: int, split: int, pairs: int = 1) -> None:
        # Of equal pairs in two splits the one outside training decides.
        before, unmatched = self._pairs.get(pair, (split, 0))
        self._pairs[pair] = (max(before, split), unmatched + pairs)

    def split(self, source: int, pair: int) -> int | None:
        """The split that the pair was in by its source text; None for a new text. A new target of a text in several splits is test."""
        packed = self._sources.get(source)
        if packed is None or packed & 3 != SEVERAL:
            return packed if packed is None else packed & 3
        return self._pairs.get(pair, (TEST, 0))[0]

    def find(self, source: int, pair: int) -> int | None:
        """The split of one of the pairs of this source text that have not been found again, which is found now; None where there is none left."""
        packed = self._sources.get(source)
        if packed is None:
            return None
        if packed & 3 == SEVERAL:
            split, unmatched = self._pairs.get(pair, (TEST, 0))
            if unmatched:
                self._pairs[pair] = (split, unmatched - 1)
            return split if unmatched else None
        if packed < 4:
            return None
        self._sources.replace(source, packed - 4)
        return packed & 3

    def left(self) -> Iterator[tuple[int, int]]:
        """(split, number) of pairs that have not been found again."""
        yield from ((packed & 3, packed >> 2) for packed in self._sources.values() if packed & 3 != SEVERAL)
        yield from self._pairs.values()


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSplit:
    """What is frozen. `documents`: those that are dev or test by name. `held`: the source texts that ever were dev or test.

    `pairs` is None where nobody knows what was in training, since pairs.jsonl is not as it was written. `repeats`: the pairs that were dropped as repeats
    though their source text is in dev or test, and whether the same pair was kept too.
    """

    sizes: Sizes
    documents: dict[str, Split]
    held: dict[int, Split]
    pairs: KnownPairs | None
    repeats: dict[int, bool] = dataclasses.field(default_factory=dict)

    @property
    def by_name(self) -> bool:
        """Whether only the names of documents say what is frozen: split.json is of before pairs were frozen, and pairs.jsonl cannot be trusted."""
        return self.pairs is None and not self.held

    def split(self, source: int, pair: int) -> int | None:
        """The split that this source text is frozen in, as a place in SPLITS; None for a text that is new."""
        earlier_split = self.pairs.split(source, pair) if self.pairs is not None else None
        if earlier_split is not None:
            return earlier_split
        return SPLITS.index(self.held[source]) if source in self.held else None


def read_frozen(out: Path, pair: str, requested: Sizes) -> FrozenSplit | None:
    """What the corpus at `out` has frozen; None where there is none, or it has neither dev nor test.

    Raises CorpusError where it is of another pair, when split.json cannot be read, and for sizes other than its own.
    """
    if not (out / "corpus.json").exists():
        return None
    old = read_report(out)
    if old["pair"] != pair:
        raise CorpusError("this directory holds a corpus of another pair", place=str(out), found=old["pair"], valid="another -o")
    try:
        state = json.loads((out / "split.json").read_bytes())
        was = Sizes(state["dev"], state["test"], state["seed"])
        documents: dict[str, Split] = dict(state["documents"])
        # Test comes last, so that a text that was both is kept out of what is tried on dev.
        ever: dict[int, Split] = {int(key, 16): split for split in SPLITS[1:] for key in state.get("pairs", {}).get(split, [])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise CorpusError("the frozen split cannot be read", place=str(out / "split.json"), found=str(e), valid="--new-split draws another") from None
    if not documents and not ever:
        return None
    default = Sizes()
    for name in ("dev", "test", "seed"):
        value, before = getattr(requested, name), getattr(was, name)
        if value not in (before, getattr(default, name)):
            found = f"--{name} {value}"
            raise CorpusError("the split of this corpus is frozen", place=str(out), found=found, valid="the options it was made with, or --new-split")
    earlier = _known(out, old.get("pairs_sha256"))
    if earlier is None:
        return FrozenSplit(was, documents, ever, None)
    pairs, held_sources = earlier
    return FrozenSplit(was, documents, {**ever, **held_sources}, pairs, _repeats(out, held_sources))


def _known(out: Path, sha256: Any) -> tuple[KnownPairs, dict[int, Split]] | None:
    """The pairs of pairs.jsonl, and the source texts of those in dev and test; None where it is not as it was written."""
    path = out / PAIRS
    if not path.is_file() or (sha256 is not None and sha256_file(path) != sha256):
        return None
    pairs, held, alike = KnownPairs(), dict[int, Split](), True
    try:
        for _, row in read_jsonl(path):
            key = source_key(row["source"])
            alike &= pairs.add(key, SPLITS.index(row["split"]))
            if row["split"] != "train":
                held[key] = max(held.get(key, row["split"]), row["split"])
        if not alike:
            for _, row in read_jsonl(path):
                if pairs.several(source_key(row["source"])):
                    pairs.add_pair(hashed(row["source"], row["target"]), SPLITS.index(row["split"]))
    except (CorpusError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return pairs, held


def _repeats(out: Path, held: dict[int, Split]) -> dict[int, bool]:
    """The pairs that the earlier build dropped as repeats though their source text is in dev or test, and whether the same pair was kept too."""
    try:
        dropped = {
            hashed(row["source"], row["target"]): False
            for _, row in read_jsonl(out / "dropped.jsonl")
            if row["reason"] in ("in dev", "in test", "duplicate pair", "near-duplicate") and source_key(row["source"]) in held
        }
        if dropped:
            for _, row in read_jsonl(out / PAIRS):
                pair = hashed(row["source"], row["target"])
                if pair in dropped:
                    dropped[pair] = True
    except (CorpusError, OSError, KeyError, TypeError, AttributeError):
        return {}
    return dropped


def held_keys(table: SegmentTable, sides: bytearray, frozen: FrozenSplit | None) -> dict[str, list[str]]:
    """What split.json keeps of the pairs: the `source_key` of each source text that is or ever was dev or test, in hexadecimal digits, sorted."""
    held = {} if frozen is None else dict(frozen.held)
    for i in table.good():
        if sides[i]:
            key = key_of_segment(table, i)
            held[key] = max(held.get(key, SPLITS[sides[i]]), SPLITS[sides[i]])
    return {part: sorted(f"{key:016x}" for key, split in held.items() if split == part) for part in SPLITS[1:]}


def changes(table: SegmentTable, sides: bytearray, frozen: FrozenSplit | None) -> dict[str, dict[str, int]] | None:
    """The numbers of pairs that are in another split than in the earlier corpus (by the one they were in), that appeared and that went, by split.

    Pairs are known by their source text. All numbers are 0 where nothing was frozen; None where nobody knows. Uses up the counts of `frozen.pairs`.
    """
    counts: dict[str, dict[str, int]] = {what: {split: 0 for split in SPLITS} for what in ("moved", "appeared", "went")}
    if frozen is None:
        return counts
    if frozen.pairs is None:
        return None
    for i in table.good():
        split = frozen.pairs.find(key_of_segment(table, i), table.exact[i])
        if split is None:
            counts["appeared"][SPLITS[sides[i]]] += 1
        elif split != sides[i]:
            counts["moved"][SPLITS[split]] += 1
    for split, n in frozen.pairs.left():
        counts["went"][SPLITS[split]] += n
    return counts


def change_sentences(counts: dict[str, dict[str, int]] | None) -> list[str]:
    """One sentence on the changes, where there are any."""
    if counts is None:
        return [f"{PAIRS} was altered since the corpus was built: what was dev and test stays, but how many pairs moved, appeared and went is unknown"]
    if not any(n for by_split in counts.values() for n in by_split.values()):
        return []
    parts = []
    for what, by_split in counts.items():
        where = ", ".join(f"{n:,} {split}" for split, n in by_split.items() if n)
        parts.append(f"{sum(by_split.values()):,} {what}" + (f" ({where})" if where else ""))
    return [f"pairs since the build before: {', '.join(parts)}"]
