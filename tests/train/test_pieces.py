"""Which pieces a trained adapter keeps, through the commands: on the tiny base, whose 1,024 pieces count as many here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import train.pieces
from serve.engines.ct2.vocabulary import FILE
from tell.adapter.card import PIECES, WEIGHTS, open_adapter, pieces_of
from tell.adapter.translation import tokens_of
from tell.model.base import Base
from tell.model.engine import EngineTraits
from tell.model.tokenizer import BaseTokenizer
from tell.paths import cache_dir
from tell.records import read_examples
from tell.registry.registry import Registry
from tests.conftest import Ran
from tests.support.converting import converted_here
from tests.support.mixing import corpus
from tests.support.training import make_mix

Here = Callable[..., Ran]
RECIPE = 'pair = "is-en"\nbase = "tiny"\n[train]\nbatch_tokens = 256\nmicro_tokens = 256\nthreads = 1\ncompile = "off"\ndtype = "float32"\n[lora]\nrank = 8\n'


@pytest.fixture(autouse=True)
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary of 1,024 is worth cutting, English has two words, and what the other pieces have of a random model's probability is no matter."""
    (tmp_path / "english.txt").write_text("government\nhouse\n")
    monkeypatch.setattr(train.pieces, "ENGLISH", tmp_path / "english.txt")
    monkeypatch.setattr(train.pieces, "DICTIONARY", tmp_path / "english.txt")
    monkeypatch.setattr(train.pieces, "LEAST", 1000)
    monkeypatch.setattr(train.pieces, "MOST", 100)
    monkeypatch.setattr(train.pieces, "MOST_LEFT_OUT", 1.0)
    monkeypatch.setattr("serve.engines.ct2.engine.convert_model", converted_here)


@pytest.fixture
def mixed(isolated: Path, here: Here, tiny: Base) -> Path:
    Path("recipe.toml").write_text(RECIPE)
    here("mix", "--recipe", "recipe.toml", "--corpus", corpus(here, "corpus", n=40), "--ratio", 0, "-o", "mixed")
    return Path("mixed")


def trained(here: Here, *args: object) -> Ran:
    return here("train", "--recipe", "recipe.toml", "--mixed", "mixed", "-o", "adapter", "--json", *args)


def test_an_adapter_keeps_what_its_examples_have_and_serves_any_text(mixed: Path, here: Here, tiny: Base) -> None:
    ran = trained(here)
    adapter = open_adapter(Path("adapter"))
    pieces, said = pieces_of(adapter), adapter.card.pieces
    assert pieces is not None and said is not None and (said.kept, said.of) == (len(pieces.kept), 1024) and 0 < said.left_out < 1
    assert f"of the base's 1,024 pieces the adapter keeps {said.kept:,}" in ran.err and said.kept < 768
    tokens, kept = BaseTokenizer(tiny), set(pieces.kept)
    texts = [text for e in read_examples(mixed / "mixed.jsonl") for text in (e.prompt, e.response)]
    assert all(set(ids) <= kept for ids in tokens.encode_batch(texts))
    # A word of English that the examples lack.
    own = tokens_of(adapter, tokens, EngineTraits(own_vocabulary=True))
    assert own.encode(" government") == tokens.encode(" government")
    here("publish", "adapter", "--corpus", "corpus", "--engine", "ct2", "--force", "--why", "a test")
    live = Registry().state("is-en").live
    assert live is not None and pieces_of(Registry().adapter(live)) == pieces
    Path("in.txt").write_text("Þetta er íslenska setningin.\nสวัสดี Ξανθίππη 🙂\n")
    here("translate", "in.txt", "--from", "is", "--to", "en", "--engine", "ct2", "-o", "out.txt")
    assert len(Path("out.txt").read_text().split("\n")) == 3
    assert [p for p in (cache_dir() / "ct2").glob(f"*/{FILE}") if adapter.card.files[PIECES][:12] in p.parent.name]
    # Trained again it is the same.
    trained(here, "--force")
    assert open_adapter(Path("adapter")).card.files == adapter.card.files


def test_the_whole_vocabulary_on_demand_and_a_part_of_it_later(mixed: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("recipe.toml").write_text(RECIPE.replace("[lora]", 'vocabulary = "whole"\n[lora]'))
    assert "keeps" not in trained(here).err
    whole = open_adapter(Path("adapter"))
    assert whole.card.pieces is None and not (whole.path / PIECES).exists()
    Path("recipe.toml").write_text(RECIPE)
    trained(here, "--force")
    own = open_adapter(Path("adapter"))
    assert own.card.files[WEIGHTS] == whole.card.files[WEIGHTS] and own.id != whole.id

    Path("recipe.toml").write_text(RECIPE.replace("[lora]", 'vocabulary = "whole"\n[lora]'))
    trained(here, "--force")
    ran = here("vocabulary", "adapter", "--mixed", "mixed", "-o", "kept", "--json")
    kept = open_adapter(Path("kept"))
    assert ran.json["id"] == kept.id and kept.card.files == own.card.files and kept.card.pieces == own.card.pieces
    assert (kept.card.golden, kept.card.scores, kept.card.verdict) == (None, [], None)
    assert f"{own.card.pieces.kept:,} of 1,024" in here("vocabulary", "adapter", "--mixed", "mixed", "-o", "kept", "--force").out  # type: ignore[union-attr]

    # Training goes on from it: what it has stays in.
    Path("recipe.toml").write_text(RECIPE)
    monkeypatch.setattr(train.pieces, "MOST", 1)
    trained(here, "--force", "--from", "kept")
    assert set(pieces_of(kept).kept) <= set(pieces_of(open_adapter(Path("adapter"))).kept)  # type: ignore[union-attr]


def test_the_whole_is_kept_where_the_rest_matters(mixed: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.pieces, "MOST_LEFT_OUT", 0.001)
    ran = trained(here)
    assert open_adapter(Path("adapter")).card.pieces is None
    assert "the adapter keeps the base's whole vocabulary: the pieces that could be left out have " in ran.err
    before = sorted(Path().iterdir())
    refused = here("vocabulary", "adapter", "--mixed", "mixed", "-o", "kept", ok=False)
    assert refused.code == 1 and "better served with the whole vocabulary" in refused.err and sorted(Path().iterdir()) == before
    # A small vocabulary is not looked at.
    monkeypatch.setattr(train.pieces, "LEAST", 2000)
    assert "vocabulary" not in trained(here, "--force").err


def test_what_cannot_be_given_a_vocabulary(mixed: Path, here: Here, tiny: Base) -> None:
    trained(here)
    make_mix(Path("other"), tiny)
    report = json.loads(Path("other/mix.json").read_text())
    Path("other/mix.json").write_text(json.dumps({**report, "pair": "en-is"}))
    for args, message in {
        ("adapter", "--mixed", "other", "-o", "new"): "the mix is of another pair than the adapter",
        ("adapter", "--mixed", "corpus", "-o", "new"): "not a mix directory",
        ("corpus", "--mixed", "mixed", "-o", "new"): "found no card.json",
        ("adapter", "--mixed", "mixed", "-o", "adapter"): "this directory exists",
        ("adapter", "--mixed", "mixed", "-o", "corpus", "--force"): "this directory exists",
    }.items():
        ran = here("vocabulary", *args, ok=False)
        assert ran.code in (1, 2) and message in ran.err and "Traceback" not in ran.err, ran.err
        assert not Path("new").exists()
