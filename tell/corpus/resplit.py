"""Assigns a corpus that is built again to its frozen split: what is known stays where it was, by its source text, and what is new goes with its document.

Reads and writes the table of segments.
"""

from __future__ import annotations

from array import array
from pathlib import Path

from tell.corpus.frozen import DEV, TEST, TRAIN, FrozenSplit, key_of_segment
from tell.corpus.rules import CleaningRules
from tell.corpus.segment_table import LOOSE, NAMED, SegmentTable
from tell.corpus.split import SPLITS, Assignment, Members, Repeats, drawn, drop_shared, texts_of
from tell.errors import CorpusError

# In `_known`: a segment whose source text is new, one that was dropped though its source text is in dev or test, and one that is not in question.
_NEW, _REPEAT, _DROPPED = 3, 4, 5


def assign_again(table: SegmentTable, rules: CleaningRules, frozen: FrozenSplit, out: Path) -> tuple[Assignment, list[str]]:
    """The split of the segments, and the frozen documents that are no longer in the data.

    A source text that was in a split stays in it. A new one goes with its document (`_homes`); what is in no document is for training.
    Raises CorpusError when nothing is left of dev and test.
    """
    sides, present = _known(table, frozen)
    homes = _homes(table, sides, frozen)
    names = {table.documents[d] for d in set(table.doc) if homes[d] != _NEW}
    missing = [] if frozen.held and len(present) == len(frozen.held) else sorted(d for d in frozen.documents if d not in names)
    by_name = any(d in names for d, kind in zip(table.documents, table.kinds, strict=True) if d in frozen.documents and (kind == NAMED or frozen.by_name))
    if not present and not by_name:
        # Under new names they would become training data.
        found = f"no {missing[0]}" if missing else None
        valid = "the files and --docs it was built from, or --new-split"
        raise CorpusError("none of the frozen dev and test documents and pairs is in the data", place=str(out), found=found, valid=valid)
    _repeats(table, sides, homes, frozen)
    new = [i for i in table.good() if sides[i] == _NEW]
    for i in new:
        d = table.doc[i]
        sides[i] = homes[d] if table.kinds[d] != LOOSE or frozen.by_name else TRAIN
    drop_shared(table, (i for i in new if sides[i] == TEST), texts_of(table, (i for i in table.good() if sides[i] == DEV)))
    _take(table, rules, frozen, sides, homes)
    kept_docs = {table.doc[i] for i in table.good() if sides[i] == homes[table.doc[i]] != TRAIN and (table.kinds[table.doc[i]] != LOOSE or frozen.by_name)}
    return Assignment(sides, {**frozen.documents, **{table.documents[d]: SPLITS[homes[d]] for d in sorted(kept_docs)}}), missing


def _known(table: SegmentTable, frozen: FrozenSplit) -> tuple[bytearray, set[int]]:
    """The frozen split of each good segment, _NEW or _REPEAT; and the source texts of dev and test that are in the data."""
    sides, present = bytearray([_DROPPED]) * len(table), set[int]()
    for i in table.good():
        key = key_of_segment(table, i)
        split = frozen.split(key, table.exact[i])
        if key in frozen.held:
            present.add(key)
        sides[i] = _NEW if split is None else _REPEAT if table.exact[i] in frozen.repeats else split
    return sides, present


def _homes(table: SegmentTable, sides: bytearray, frozen: FrozenSplit) -> bytearray:
    """The split of each document for its new segments, _NEW for a document that has no good ones.

    It is the split where most of its known segments are; of equals, test before dev before train. A document that was not dev or test by its name becomes
    so only where these are half of all its segments: another document may repeat a few. A document without any known segment goes by its name.
    """
    counts = [array("I", bytes(4 * len(table.documents))) for _ in SPLITS]
    all_of_it = array("I", bytes(4 * len(table.documents)))
    homes = bytearray([_NEW]) * len(table.documents)
    for i in table.good():
        all_of_it[table.doc[i]] += 1
        if sides[i] < len(SPLITS):
            counts[sides[i]][table.doc[i]] += 1
    for d, name in enumerate(table.documents):
        if not all_of_it[d]:
            continue
        # Where it is not known what was in training, nothing becomes dev or test but what was so by name.
        named = name in frozen.documents and (table.kinds[d] == NAMED or frozen.pairs is None)
        most = max(c[d] for c in counts)
        side = max(split for split, c in enumerate(counts) if c[d] == most)
        if most:
            homes[d] = side if named or (2 * most >= all_of_it[d] and frozen.pairs is not None) else TRAIN
        else:
            homes[d] = SPLITS.index(frozen.documents[name]) if named and (table.kinds[d] == NAMED or frozen.by_name) else TRAIN
    return homes


def _repeats(table: SegmentTable, sides: bytearray, homes: bytearray, frozen: FrozenSplit) -> None:
    """Returns pairs that were dropped, though their source text is in dev or test, to training, where they are dropped again; unless nothing stands for them
    now: the same pair in a document of its split, if the same pair was kept, else another pair of the text."""
    again: list[tuple[int, int, int]] = []
    at_home: set[int] = set()
    for i in table.good():
        if sides[i] == _REPEAT:
            key, pair = key_of_segment(table, i), table.exact[i]
            split = frozen.split(key, pair)
            assert split is not None
            if frozen.repeats[pair] and homes[table.doc[i]] == split:
                sides[i] = split
                at_home.add(pair)
            else:
                again.append((i, key, split))
    for i, _, split in again:
        if frozen.repeats[table.exact[i]]:
            sides[i] = TRAIN if table.exact[i] in at_home else split
    keys = {key for i, key, _ in again if sides[i] == _REPEAT}
    elsewhere = keys & {key_of_segment(table, i) for i in table.good() if sides[i] in (DEV, TEST)} if keys else keys
    for i, key, split in again:
        if sides[i] == _REPEAT:
            sides[i] = TRAIN if key in elsewhere else split


def _take(table: SegmentTable, rules: CleaningRules, frozen: FrozenSplit, sides: bytearray, homes: bytearray) -> None:
    """Drops pairs that repeat others. Those of dev and test come first, and of these the ones in a document of their split, in the order in which it was
    drawn: so the same files give the same corpus."""
    repeats, of, strays = Repeats(table, rules), Members(table), array("I")
    held_docs = [d for d, home in enumerate(homes) if home in (DEV, TEST)]
    for d in sorted(held_docs, key=lambda d: (table.documents[d] not in frozen.documents, homes[d], drawn(frozen.sizes.seed, table.documents[d]))):
        repeats.take([i for i in of(d) if sides[i] == homes[d]])
    strays.extend(i for i in table.good() if sides[i] in (DEV, TEST) and sides[i] != homes[table.doc[i]])
    repeats.take(strays)
    repeats.take(array("I", (i for i in table.good() if sides[i] == TRAIN)))
