"""Adapters with a memory: what of them is whole, what goes along, what stands in their prompts, and what stays as it was for those without."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.scoring.hypotheses import System, hypotheses_key
from eval.scoring.testset import TestSet
from serve.adapters.base_only import base_of
from serve.adapters.versions import Version
from tell.adapter.card import CARD, LEXICON, MEMORY, Adapter, open_adapter, parse_card, retriever_of, weights_of, write_card
from tell.adapter.translation import translator_of
from tell.errors import AdapterError
from tell.languages import parse_pair
from tell.lexicon.glossary import Glossary
from tell.model.base import Base
from tell.model.engine import Decoding, EngineTraits, Generation
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator
from tell.registry.registry import Registry
from tell.retrieval.retriever import RetrievalOptions
from tests.conftest import Ran
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.hinted import with_lexicon
from tests.support.memories import with_memory
from tests.support.mixing import CLI

LINE = "【Hundurinn beit manninn.】 The dog bit the man.\n"


@pytest.fixture
def base(isolated: Path) -> Base:
    return light_base(isolated / "cache")


@pytest.fixture
def plain(tmp_path: Path, base: Base) -> Adapter:
    return light_adapter(tmp_path / "plain", base)


@pytest.fixture
def remembering(tmp_path: Path, base: Base) -> Adapter:
    return with_memory(light_adapter(tmp_path / "remembering", base))


def test_a_memory_changes_the_id_and_not_what_is_converted(plain: Adapter, remembering: Adapter) -> None:
    other = with_memory(open_adapter(remembering.path), [("Já.", "Yes.")])
    more = with_memory(open_adapter(remembering.path), options=RetrievalOptions(pairs=2))
    both = with_lexicon(open_adapter(remembering.path))
    assert len({a.id for a in (plain, remembering, other, more, both)}) == 5
    assert len({weights_of(a.card) for a in (plain, remembering, other, more, both)}) == 1


def test_cards_without_a_memory_are_written_as_before(plain: Adapter) -> None:
    assert not {"retrieval", MEMORY} & {*json.loads((plain.path / CARD).read_text()), *plain.card.files} and retriever_of(plain) is None
    hinted = with_lexicon(plain)
    assert "retrieval" not in json.loads((hinted.path / CARD).read_text()) and hinted.card.contents[2:] == (LEXICON,)
    assert hinted.card.prompt_parts == {"hints": {"candidates": 1, "skip_common": 1, "min_share": 0.1}}


def test_a_version_that_does_not_know_a_field_refuses_the_card(remembering: Adapter) -> None:
    card = json.loads((remembering.path / CARD).read_text())
    assert card["retrieval"] == {"pairs": 1, "min_score": 0.5}
    with pytest.raises(AdapterError, match="the card cannot be read; found later: Extra inputs are not permitted"):
        parse_card(json.dumps({**card, "later": card.pop("retrieval")}).encode(), CARD)


def _altered(adapter: Adapter) -> None:
    (adapter.path / MEMORY).write_bytes((adapter.path / MEMORY).read_bytes().replace(b"dog", b"cat"))


def _missing(adapter: Adapter) -> None:
    (adapter.path / MEMORY).unlink()


def _unnamed(adapter: Adapter) -> None:
    write_card(adapter.path, adapter.card.model_copy(update={"files": {n: h for n, h in adapter.card.files.items() if n != MEMORY}}))


def _without_options(adapter: Adapter) -> None:
    write_card(adapter.path, adapter.card.model_copy(update={"retrieval": None}))


def _of_another_pair(adapter: Adapter) -> None:
    write_card(adapter.path, adapter.card.model_copy(update={"pair": "fo-en"}))


@pytest.mark.parametrize(
    ("break_", "said"),
    [
        (_altered, "memory.tsv: altered since its card was written"),
        (_missing, "the adapter is incomplete; found no memory.tsv"),
        (_unnamed, "the card names other files"),
        (_without_options, "the card names other files"),
        (_of_another_pair, "the memory is of another pair than the adapter"),
    ],
)
def test_an_adapter_that_is_not_whole_is_refused(remembering: Adapter, break_: Callable[[Adapter], None], said: str) -> None:
    break_(remembering)
    with pytest.raises(AdapterError) as e:
        retriever_of(open_adapter(remembering.path))
    assert said in str(e.value)


def test_the_memory_goes_along(remembering: Adapter, plain: Adapter, cli: CLI, tmp_path: Path) -> None:
    both = with_lexicon(remembering)
    registry = Registry(tmp_path / "registry")
    for adapter in (both, plain):
        assert registry.add(adapter.path, adapter.card) == adapter.id
    other = tmp_path / "other"

    def at(place: Path, *args: object) -> Ran:
        return cli("registry", *args, TELLMT_REGISTRY=str(place))

    at(tmp_path / "registry", "export", both.id, "-o", tmp_path / "both.tar")
    at(other, "import", tmp_path / "both.tar")
    imported = Registry(other).adapter(both.id)
    assert imported.card == both.card and [(imported.path / n).read_bytes() for n in (MEMORY, LEXICON)] == [
        (both.path / n).read_bytes() for n in (MEMORY, LEXICON)
    ]
    # A file that is no part of the adapter does not come in, be it called as one that is.
    (registry.path(plain.id) / MEMORY).write_bytes(b"x")
    with pytest.raises(AdapterError, match="no part of an adapter"):
        registry.adapter(plain.id)


class Penalising:
    """As much of an engine as a prompt asks for: a penalty counts the prompt."""

    traits = EngineTraits(penalises_prompt=True)


def translator(adapter: Adapter, base: Base, context: int = 2048) -> Translator:
    return translator_of(Penalising(), BaseTokenizer(base), adapter, context)  # type: ignore[arg-type]


def source_in(translator: Translator, source: str, **options: Any) -> str:
    text = translator.tokens.decode(list(translator.prompt(source, **options).ids))
    return text.partition("\n\n")[2].rpartition("\n\n")[0]


def test_what_stands_in_the_prompt(remembering: Adapter, base: Base) -> None:
    near = translator(remembering, base)
    assert source_in(near, "Hundurinn beit hann.") == f"{LINE}Hundurinn beit hann." and source_in(near, "Kötturinn【1】") == "Kötturinn〖1〗"
    assert source_in(near, "Hundurinn beit\nmanninn.") == "Hundurinn beit\nmanninn."
    assert near.hypothesis("【x】", Generation("〖x〗", 1, "stop")).text == "【x】"
    penalised = dataclasses.replace(near, decoding=Decoding(repetition_penalty=1.5))
    assert penalised.prompt("Hundurinn beit hann.").repetition_penalty == 1.0
    # Hints are in the source, and a glossary's terms in their place; without hints it is not followed.
    terms = {"terms": near.terms(Glossary.inline({"hundurinn": "the hound"}), parse_pair("is-en"))}
    assert not near.follows_terms and source_in(near, "Hundurinn beit hann.", **terms) == f"{LINE}Hundurinn beit hann."
    both = translator(with_lexicon(remembering), base)
    assert source_in(both, "Hundurinn beit hann.") == f"{LINE}Hundurinn 【 dog】 beit hann."
    assert both.follows_terms and source_in(both, "Hundurinn beit hann.", **terms) == f"{LINE}Hundurinn 【 the hound】 beit hann."


def test_a_prompt_without_room_goes_without_pairs_and_then_without_hints(remembering: Adapter, base: Base) -> None:
    both = with_lexicon(remembering)
    written = [f"{LINE}Hundurinn 【 dog】 beit hann.", "Hundurinn 【 dog】 beit hann.", "Hundurinn beit hann."]
    tokens = BaseTokenizer(base)
    translation = len(tokens.encode(written[2])) + Decoding().length_extra
    for text, shorter in zip(written, [*written[1:], None], strict=True):
        context = len(tokens.prompt_ids(both.card.anchor, text)) + translation
        assert source_in(translator(both, base, context), written[2]) == text
        refused = translator(both, base, context - 1).refusal(written[2])
        assert refused if shorter is None else source_in(translator(both, base, context - 1), written[2]) == shorter


def test_the_bare_base_has_neither(remembering: Adapter, base: Base) -> None:
    ours = translator(with_lexicon(remembering), base)
    bare = base_of(Version(remembering, ours, 256)).translator
    assert (bare.adapter_id, bare.hinter, bare.retriever) == (None, None, None) and source_in(bare, "Hundurinn【】") == "Hundurinn【】"


def test_what_is_scored(plain: Adapter, remembering: Adapter, base: Base) -> None:
    dev = TestSet("dev", parse_pair("is-en"), ["Halló."], ["Hello."], ["f, line 1"])
    assert [s.name for s in System.variants(plain)] == ["adapter"]
    assert [(s.name, s.written) for s in System.variants(remembering)] == [("adapter", ("retrieval",)), ("adapter-without-retrieval", ())]
    both = with_lexicon(remembering)
    systems = System.variants(both)
    assert {s.name: (s.hinter() is not None, s.retriever() is not None) for s in systems} == {
        "adapter": (True, True), "adapter-without-hints": (False, True), "adapter-without-retrieval": (True, False),
    }  # fmt: skip
    assert len({hypotheses_key(base, s, dev, "openai", 2048) for s in [*systems, System.bare_base(both)]}) == 4
