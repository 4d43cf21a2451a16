"""Adapters with a lexicon: what of them is whole, what goes along, and what stays as it was for those without."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest

from tell.adapter.card import CARD, CONFIG, LEXICON, WEIGHTS, Adapter, hinter_of, open_adapter, weights_of, write_card
from tell.adapter.translation import translator_of
from tell.errors import AdapterError
from tell.lexicon.hints import HintOptions
from tell.model.engine import EngineOptions
from tell.model.tokenizer import BaseTokenizer
from tell.registry.registry import Registry
from tests.conftest import Ran
from tests.support.fake_engine import FakeEngine
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.hinted import with_lexicon
from tests.support.mixing import CLI


@pytest.fixture
def plain(tmp_path: Path, isolated: Path) -> Adapter:
    return light_adapter(tmp_path / "plain", light_base(isolated / "cache"))


@pytest.fixture
def hinted(tmp_path: Path, isolated: Path) -> Adapter:
    return with_lexicon(light_adapter(tmp_path / "hinted", light_base(isolated / "cache")))


def test_a_lexicon_changes_the_id_and_not_what_is_converted(plain: Adapter, hinted: Adapter) -> None:
    assert plain.id != hinted.id and weights_of(plain.card) == weights_of(hinted.card)
    other = with_lexicon(open_adapter(hinted.path), {"köttu*": {"cat": 1}})
    assert other.id != hinted.id and weights_of(other.card) == weights_of(hinted.card)
    more = with_lexicon(open_adapter(hinted.path), options=HintOptions(candidates=2, skip_common=1))
    assert more.id not in (other.id, hinted.id)


def test_a_card_without_hints_is_written_as_before(plain: Adapter) -> None:
    assert not {"hints", LEXICON} & {*json.loads((plain.path / "card.json").read_text()), *plain.card.files}
    assert hinter_of(plain) is None


def test_the_hints_of_an_adapter(hinted: Adapter) -> None:
    hinter = hinter_of(hinted)
    assert hinter is not None
    assert hinter.hinted("Hundurinn og setningin") == "Hundurinn 【 dog】 og setningin 【 sentence】"
    assert hinter.hinted("hús") == "hús 【 house】"


def test_hints_without_room_stand_in_no_prompt(hinted: Adapter, isolated: Path) -> None:
    base = light_base(isolated / "cache")
    translator = translator_of(FakeEngine(EngineOptions(base)), BaseTokenizer(base), hinted, base.context)
    source = "Hundurinn og setningin"
    assert [(h.start, h.end, h.candidates) for h in translator.hints(source)] == [(0, 9, ("dog",)), (13, 22, ("sentence",))]
    needed = len(translator.prompt(source).ids) + len(translator.tokens.encode(source)) + translator.decoding.length_extra
    assert dataclasses.replace(translator, max_context=needed).hints(source) == translator.hints(source)
    narrow = dataclasses.replace(translator, max_context=needed - 1)
    assert narrow.hints(source) == () and "【" not in translator.tokens.decode(list(narrow.prompt(source).ids))
    assert dataclasses.replace(translator, hinter=None).hints(source) == ()


def _altered(adapter: Adapter) -> None:
    (adapter.path / LEXICON).write_bytes((adapter.path / LEXICON).read_bytes().replace(b"dog", b"cat"))


def _missing(adapter: Adapter) -> None:
    (adapter.path / LEXICON).unlink()


def _unnamed(adapter: Adapter) -> None:
    write_card(adapter.path, adapter.card.model_copy(update={"files": {n: h for n, h in adapter.card.files.items() if n != LEXICON}}))


def _without_options(adapter: Adapter) -> None:
    write_card(adapter.path, adapter.card.model_copy(update={"hints": None}))


@pytest.mark.parametrize(
    ("break_", "said"),
    [
        (_altered, "lexicon.tsv: altered since its card was written"),
        (_missing, "the adapter is incomplete; found no lexicon.tsv"),
        (_unnamed, "the card names other files"),
        (_without_options, "the card names other files"),
    ],
)
def test_an_adapter_that_is_not_whole_is_refused(hinted: Adapter, break_: object, said: str) -> None:
    assert callable(break_)
    break_(hinted)
    with pytest.raises(AdapterError) as e:
        open_adapter(hinted.path)
    assert said in str(e.value)


def test_a_lexicon_of_another_pair_is_refused(hinted: Adapter) -> None:
    write_card(hinted.path, hinted.card.model_copy(update={"pair": "fo-en"}))
    with pytest.raises(AdapterError, match="of another pair"):
        hinter_of(open_adapter(hinted.path))


def test_the_lexicon_goes_along(hinted: Adapter, plain: Adapter, cli: CLI, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    for adapter in (hinted, plain):
        assert registry.add(adapter.path, adapter.card) == adapter.id
    added = registry.adapter(hinted.id)
    assert (added.path / LEXICON).read_bytes() == (hinted.path / LEXICON).read_bytes()
    other = tmp_path / "other"

    def at(place: Path, *args: object, ok: bool = True) -> Ran:
        return cli("registry", *args, ok=ok, TELLMT_REGISTRY=str(place))

    ran: Ran = at(tmp_path / "registry", "export", hinted.id, "-o", tmp_path / "hinted.tar")
    assert ran.code == 0, ran.err
    assert at(other, "import", tmp_path / "hinted.tar").code == 0
    assert Registry(other).adapter(hinted.id).card == hinted.card
    assert (Registry(other).adapter(hinted.id).path / LEXICON).read_bytes() == (hinted.path / LEXICON).read_bytes()
    # A lexicon that the card does not name is no part of an adapter.
    with tarfile.open(tmp_path / "both.tar", "w", format=tarfile.USTAR_FORMAT) as both:
        for name in (WEIGHTS, CONFIG, CARD):
            both.add(plain.path / name, name)
        both.add(hinted.path / LEXICON, LEXICON)
    ran = at(other, "import", tmp_path / "both.tar", ok=False)
    assert ran.code != 0 and "a member that is no part of this adapter; found lexicon.tsv" in ran.err
    # A file that is no part of the adapter does not come in, be it called as one that is.
    (registry.path(plain.id) / LEXICON).write_bytes(b"x")
    with pytest.raises(AdapterError, match="no part of an adapter"):
        registry.adapter(plain.id)
