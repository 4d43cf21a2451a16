"""Halves of a dev split stay when rows are added, and documents stay whole where there are enough of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tell.corpus.dev_halves import LEAST_SHARE, choosing_part, judging_part
from tell.records import Pair, read_pairs
from tests.conftest import Tellmt


def word(i: int) -> str:
    """A word of its own for each number: what differs in digits alone counts as the same sentence."""
    return "".join(chr(ord("a") + int(d)) for d in f"{i:04d}")


def row(i: int, document: str | None) -> str:
    return (f"{document}\t" if document else "") + f"Hetta er setningur um {word(i)} og fuglar.\tThis is a sentence about {word(i)} and birds.\n"


def sides(corpus: Path) -> dict[str, str]:
    """Source text -> which half it is in."""
    dev = read_pairs(corpus / "pairs.jsonl", "dev")
    choosing, judging = choosing_part(dev), judging_part(dev)
    assert {p.source for p in choosing.pairs}.isdisjoint(p.source for p in judging.pairs) and len(choosing.pairs) + len(judging.pairs) == len(dev)
    assert all(len(part.pairs) / len(dev) >= LEAST_SHARE for part in (choosing, judging))
    return {p.source: part.part for part in (choosing, judging) for p in part.pairs}


@pytest.mark.parametrize("named", [True, False])
def test_rows_that_are_added_move_nothing(tellmt: Tellmt, tmp_path: Path, named: bool) -> None:
    heading = "doc\tfo\ten\n" if named else "fo\ten\n"
    rows = [row(i, f"d{i // 10}" if named else None) for i in range(600)]
    (tmp_path / "a.tsv").write_text(heading + "".join(rows))
    build = ["corpus", "build", tmp_path / "a.tsv", "--pair", "fo-en", "--dev", 220, "-o", tmp_path / "corpus"]
    assert tellmt(*build)[0] == 0
    before = sides(tmp_path / "corpus")
    # On top, within a dev document, and in another file, so that documents get its name before theirs.
    more = [row(i, "new" if named else None) for i in range(1000, 1013)]
    grown = [extra for r in rows for extra in ([r, row(2000 + len(r), r.split("\t")[0])] if named and r.startswith("d7\t") else [r])]
    (tmp_path / "a.tsv").write_text(heading + "".join([*more, *grown]))
    shutil.copy(tmp_path / "a.tsv", tmp_path / "kept.tsv")
    (tmp_path / "b.tsv").write_text(heading + "".join(row(i, "d3" if named else None) for i in range(3000, 3040)))
    code, _, err = tellmt(*build[:3], tmp_path / "b.tsv", *build[3:])
    assert code == 0, err
    after = sides(tmp_path / "corpus")
    assert before.items() <= after.items()
    if named:
        halves = {(p.doc, after[p.source]) for p in read_pairs(tmp_path / "corpus" / "pairs.jsonl", "dev")}
        assert len(halves) == len({doc for doc, _ in halves}) > 20


def test_few_long_documents_are_halved_by_segments() -> None:
    one = [Pair(f"Ein setningur um {word(i)}.", "A sentence.", "the only one", i, "a.tsv", "dev") for i in range(240)]
    assert judging_part(one).by == choosing_part(one).by == "segments"
    assert 60 <= len(judging_part(one).pairs) <= 180


def test_a_source_text_in_both_halves_chooses_nothing() -> None:
    dev = [Pair(f"Ein setningur um {word(i)}.", "A sentence.", f"d{i}", i, "a.tsv", "dev") for i in range(240)]
    dev += [Pair("JA, takk!", f"Yes {i}.", f"e{i}", i, "b.tsv", "dev") for i in range(40)]
    choosing, judging = choosing_part(dev), judging_part(dev)
    assert choosing.by == "documents" and len(choosing.pairs) + len(judging.pairs) < 280
    assert any(p.source == "JA, takk!" for p in judging.pairs) and not any(p.source == "JA, takk!" for p in choosing.pairs)


def test_fewer_than_200_segments_are_one_part() -> None:
    dev = [Pair(str(i), str(i), f"d{i}", i, "a.tsv", "dev") for i in range(199)]
    assert choosing_part(dev).record() == judging_part(dev).record() == {"part": "whole", "segments": 199, "of": 199}
    # Where all texts are the same, there are no halves.
    assert judging_part([Pair("Ja.", "Yes.", "block-00001", i, "a.tsv", "dev") for i in range(300)]).part == "whole"
