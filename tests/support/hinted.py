"""An adapter with a lexicon, and a fake engine that writes what the hints in its prompts say: a glossary's way from a request to a translation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tell.adapter.card import LEXICON, Adapter, open_adapter, write_card
from tell.files import sha256_file
from tell.languages import parse_pair
from tell.lexicon.hints import HintOptions
from tell.lexicon.lexicon import Lexicon
from tell.lexicon.words import Keying, folded, key
from tell.model.base import Base
from tell.model.engine import Generation, Prompt
from tests.support.fake_eval_engine import light_adapter
from tests.support.slow_engine import SlowEngine

_HINTED = re.compile(r"[\w-]+ 【 ([^,】]*)[^】]*】")
WORDS = {"hundurinn": "the dog", "sefur": "sleeps", "kötturinn": "the cat"}


def hinted_adapter(path: Path, base: Base, pair: str = "is-en", words: Mapping[str, str] | None = None, seed: int = 0) -> Adapter:
    """A light adapter whose lexicon has these words, each with one translation."""
    light = light_adapter(path, base, pair, seed)
    keying = Keying()
    entries = {key(folded(word), keying): {translation: 3.0} for word, translation in (WORDS if words is None else words).items()}
    (path / LEXICON).write_bytes(Lexicon.of(parse_pair(pair), keying, (), entries).dump())
    files = {**light.card.files, LEXICON: sha256_file(path / LEXICON)}
    write_card(path, light.card.model_copy(update={"files": files, "hints": HintOptions(skip_common=0)}))
    return open_adapter(path)


class HintEngine(SlowEngine):
    """Writes the first hint of each word that has one in place of it, and every other word as it is. A source with "stubborn" in it keeps its words."""

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        generation = super()._answer(prompt, adapter_id)
        text = generation.text.partition(">")[2]
        if not adapter_id or text.startswith("golden"):
            return generation
        text = re.sub(" 【[^】]*】", "", text) if "stubborn" in text else _HINTED.sub(r"\1", text)
        return Generation(text, len(text), generation.finish)
