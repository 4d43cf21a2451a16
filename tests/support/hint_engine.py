"""A fake engine that writes what the hints in its prompts say: a glossary's way from a request to a translation; and an adapter with hints for it."""

from __future__ import annotations

import re
from pathlib import Path

from tell.adapter.card import Adapter
from tell.lexicon.hints import HintOptions
from tell.lexicon.words import Keying, key
from tell.model.base import Base
from tell.model.engine import Generation, Prompt
from tests.support.fake_eval_engine import light_adapter
from tests.support.hinted import with_lexicon
from tests.support.slow_engine import SlowEngine

_HINTED = re.compile(r"[\w-]+ 【 ([^,】]*)[^】]*】")
WORDS = {"hundurinn": "the dog", "sefur": "sleeps", "kötturinn": "the cat"}


def hinted_adapter(path: Path, base: Base) -> Adapter:
    """A light adapter from Icelandic to English whose lexicon has these words, each with one translation."""
    entries = {key(word, Keying()): {translation: 3.0} for word, translation in WORDS.items()}
    return with_lexicon(light_adapter(path, base), entries, HintOptions(skip_common=0))


class HintEngine(SlowEngine):
    """Writes the first hint of each word that has one in place of it, and every other word as it is. A source with "stubborn" in it keeps its words."""

    def _answer(self, prompt: Prompt, adapter_id: str | None) -> Generation:
        generation = super()._answer(prompt, adapter_id)
        text = generation.text.partition(">")[2]
        if not adapter_id or text.startswith("golden"):
            return generation
        text = re.sub(" 【[^】]*】", "", text) if "stubborn" in text else _HINTED.sub(r"\1", text)
        return Generation(text, len(text), generation.finish)
