"""The part of a vocabulary that an adapter keeps: its file, and how texts are spelled with it."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import pytest

from tell.adapter.card import PIECES, open_adapter, pieces_of, weights_of
from tell.adapter.translation import tokens_of
from tell.errors import AdapterError, BadInput
from tell.model.base import Base
from tell.model.engine import EngineTraits
from tell.model.merges import NONE, merges_of
from tell.model.pieces import PairTokenizer, Pieces, pair_tokenizer
from tell.model.tokenizer import BaseTokenizer
from tests.support.kept import pieces_for, with_pieces
from tests.support.naughty_strings import PATH
from tests.support.tiny import make_tiny_adapter

TEXTS = ["The president said nothing.", "Forsetinn sagði ekkert.", "สวัสดีครับ", "Καλημέρα, Ξανθίππη", "日本 🙂 👩‍👩‍👧", "a\tb\n c", "{name} <b>x</b> %s"]


@pytest.fixture
def few(tiny: Base) -> PairTokenizer:
    """The tokenizer of an adapter that keeps little more than single letters."""
    tokens = pair_tokenizer(BaseTokenizer(tiny), pieces_for(tiny, ["The house"]))
    assert isinstance(tokens, PairTokenizer)
    return tokens


def test_every_text_reads_the_same_in_the_pieces_that_are_kept(tiny: Base, few: PairTokenizer) -> None:
    whole, kept = BaseTokenizer(tiny), set(few.pieces.kept)
    texts = [*TEXTS, *(json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else [])]
    longer = 0
    for text, ids in zip(texts, few.encode_batch(texts), strict=True):
        assert set(ids) <= kept and ids == few.encode(text)
        assert few.decode(ids) == whole.decode(whole.encode(text)), text
        longer += len(ids) > len(whole.encode(text))
    assert longer > len(texts) / 3
    # What is kept is spelled as before.
    assert few.encode("The house") == whole.encode("The house")


def test_a_piece_is_spelled_with_the_largest_halves_that_are_kept(tiny: Base) -> None:
    whole, merges = BaseTokenizer(tiny), merges_of(tiny)
    assert merges is not None
    alone = {whole.name(i): i for i in range(len(merges.left))}
    piece = next(i for i, half in enumerate(merges.left) if half != NONE and merges.left[half] != NONE and len(whole.name(i)) == 3)
    left, right = merges.left[piece], merges.right[piece]
    assert whole.name(left) + whole.name(right) == whole.name(piece)
    kept = {*pieces_for(tiny).kept, left}
    tokens = pair_tokenizer(whole, Pieces.of(kept, len(merges.left)))
    assert isinstance(tokens, PairTokenizer)
    assert tokens.spell([piece]) == [left, right]
    assert pair_tokenizer(whole, pieces_for(tiny)).spell([piece]) == [alone[c] for c in whole.name(piece)]  # type: ignore[attr-defined]


def test_the_file_says_which_ids_are_kept(tiny: Base) -> None:
    pieces = Pieces(array("i", [0, 1, 5, 9]), 10)
    assert json.loads(pieces.dump()) == {"format": 1, "vocabulary": 10, "gaps": [1, 1, 4, 4]}
    assert Pieces.parse(pieces.dump(), "here") == pieces == Pieces.of([9, 5, 5, 1, 0], 10)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{}", b"\xff", b"null", b"[" * 100_000,
        b'{"format": 2, "vocabulary": 10, "gaps": [1]}', b'{"format": 1, "vocabulary": 10, "gaps": []}', b'{"format": 1, "vocabulary": 10, "gaps": [1, 0]}',
        b'{"format": 1, "vocabulary": 10, "gaps": [5, 6]}', b'{"format": 1, "vocabulary": 10, "gaps": [true]}',
        b'{"format": 1, "vocabulary": "10", "gaps": [1]}', b'{"format": 1, "vocabulary": 99999999, "gaps": [1]}',
        b'{"format": 1, "vocabulary": 10, "gaps": [1.5]}', b'{"format": 1, "vocabulary": 10, "gaps": "1"}',
    ],
)  # fmt: skip
def test_a_list_that_tellmt_did_not_write_is_refused(raw: bytes) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        Pieces.parse(raw, "pieces.json")


def test_the_halves_are_kept_in_the_cache_and_read_again_when_they_are_damaged(tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLMT_CACHE", str(tmp_path))
    first = merges_of(tiny)
    [file] = (tmp_path / "merges").iterdir()
    written = file.read_bytes()
    file.write_bytes(written[:-3])
    assert merges_of(tiny) == first and file.read_bytes() == written
    assert first is not None and len(first.left) == len(first.right) == 1024


def test_a_tokenizer_that_knows_no_merges_has_no_halves(tiny: Base, tmp_path: Path) -> None:
    words = {"type": "BPE", "vocab": {"a</w>": 0}, "end_of_word_suffix": "</w>"}
    for n, model in enumerate([{"type": "Unigram", "vocab": [["a", 0.0]]}, {"type": "WordPiece", "vocab": {"a": 0}}, words]):
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
        assert merges_of(tiny.model_copy(update={"id": f"base-{n}", "path": tmp_path})) is None


def test_engines_with_the_whole_vocabulary_get_the_bases_own_spelling(tiny: Base, tmp_path: Path) -> None:
    adapter = with_pieces(make_tiny_adapter(tmp_path / "a", tiny), pieces_for(tiny))
    whole = BaseTokenizer(tiny)
    assert tokens_of(adapter, whole, EngineTraits()) is whole
    own = tokens_of(adapter, whole, EngineTraits(own_vocabulary=True))
    assert own.encode("The house") != whole.encode("The house") and own.decode(own.encode("The house")) == "The house"


def test_the_list_is_a_file_of_the_adapter(tiny: Base, tmp_path: Path) -> None:
    plain = make_tiny_adapter(tmp_path / "a", tiny)
    kept = with_pieces(plain, pieces_for(tiny))
    assert kept.id != plain.id and weights_of(kept.card) == weights_of(plain.card)
    assert pieces_of(plain) is None and pieces_of(kept) == pieces_for(tiny)
    # Another list under the same card; one that is of another base; one that is gone.
    (kept.path / PIECES).write_bytes(pieces_for(tiny, ["house"]).dump())
    with pytest.raises(AdapterError, match="pieces"):
        open_adapter(kept.path)
    other = with_pieces(kept, Pieces.of(range(50), 2048))
    with pytest.raises(AdapterError, match="of another vocabulary") as raised:
        tokens_of(other, BaseTokenizer(tiny), EngineTraits(own_vocabulary=True))
    assert "2,048" in str(raised.value) and "1,024" in str(raised.value)
    (kept.path / PIECES).unlink()
    with pytest.raises(AdapterError, match="pieces"):
        open_adapter(kept.path)
