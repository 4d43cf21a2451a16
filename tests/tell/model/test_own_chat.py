"""`[anchor] chat = "own"`: a translation model's own template is the anchor. The templates are written here, in the shape that such models have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.errors import BaseModelError
from tell.languages import parse_pair
from tell.model.anchor import Anchor, AnchorConfig, general_prompt, render
from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example
from tests.conftest import Ran
from tests.support.fake_eval_engine import light_base
from tests.support.mixing import corpus, general

IS_EN, EN_IS = parse_pair("is-en"), parse_pair("en-is")
# The content of a user's turn is a list of one item, which has the codes of the languages beside the text.
LISTED = (
    "{%- set names = {'is': 'Icelandic', 'en': 'English', 'pt': 'Portuguese'} -%}"
    "{{ '<bos>' }}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set c = m.content[0] -%}"
    "{%- if c.source_lang_code not in names or c.target_lang_code not in names -%}{{ raise_exception('a language that I do not know') }}{%- endif -%}"
    "{{ 'user: You translate ' + names[c.source_lang_code] + ' (' + c.source_lang_code + ') into ' + names[c.target_lang_code] + '.\n\n' }}"
    "{{ c.text | trim }}{{ '<eos>\n' }}{%- else -%}{{ 'model: ' + m.content | trim + '<eos>\n' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'model: ' }}{%- endif -%}"
)
# The languages are variables of the template.
NAMED = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'user' %}From {{ source_language }} into {{ target_language }}: {% endif %}"
    "{{ m.content }}\n{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def base_with(home: Path, template: str | None) -> Base:
    base = light_base(home / "cache", "own")
    if template is not None:
        (base.path / "chat_template.jinja").write_text(template)
    (base.path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<bos>", "eos_token": "<eos>"}))
    return base


def test_the_templates_own_words_are_the_anchor(isolated: Path) -> None:
    base = base_with(isolated, LISTED)
    anchor = render(AnchorConfig(chat="own"), IS_EN, base)
    assert anchor.prefix == anchor.opening == "" and anchor.chat and anchor.chat.translates
    assert anchor.chat.before == "<bos>user: You translate Icelandic (is) into English.\n\n" and anchor.chat.after == "<eos>\nmodel: "
    back = render(AnchorConfig(chat="own"), EN_IS, base).chat
    assert back and back.before == "<bos>user: You translate English (en) into Icelandic.\n\n"
    # The card keeps it, and those of before are as they were.
    assert Anchor.model_validate(json.loads(anchor.model_dump_json())) == anchor
    assert "translates" not in json.dumps(Anchor(prefix="", opening="", chat=anchor.chat.model_copy(update={"translates": False})).model_dump())
    tokens = BaseTokenizer(base, anchor.chat)
    [(ids, start)] = tokens.example_ids([Example("task:d:1", "task", anchor.prompt("Halló."), "", "Hello.")])
    assert ids[:start] == tokens.prompt_ids(anchor, "Halló.")


def test_a_template_may_know_a_language_by_its_base(isolated: Path) -> None:
    before = render(AnchorConfig(chat="own"), parse_pair("pt-BR:en"), base_with(isolated, LISTED)).chat
    assert before and "Portuguese (pt)" in before.before


def test_languages_may_be_variables_of_the_template(isolated: Path) -> None:
    turns = render(AnchorConfig(chat="own"), IS_EN, base_with(isolated, NAMED)).chat
    assert turns and turns.before == "user: From Icelandic into English: "


@pytest.mark.parametrize(
    ("template", "pair", "message"),
    [(None, "is-en", "no chat template"), (PLAIN, "is-en", "chat = true, with the wording"), (LISTED, "cy-en", "a language that I do not know")],
)
def test_what_cannot_be_the_anchor_is_refused(isolated: Path, template: str | None, pair: str, message: str) -> None:
    with pytest.raises(BaseModelError, match=message):
        render(AnchorConfig(chat="own"), parse_pair(pair), base_with(isolated, template))


@pytest.mark.parametrize("other", ['wording = "paper"', 'prefix = "x"', 'opening = ""', 'parts = "none"'])
def test_it_is_the_whole_anchor(isolated: Path, here: Callable[..., Ran], other: str) -> None:
    base_with(isolated, LISTED)
    Path("r.toml").write_text(f'pair = "is-en"\nbase = "own"\n[anchor]\nchat = "own"\n{other}\n')
    Path("c").mkdir()
    ran = here("mix", "--recipe", "r.toml", "--corpus", "c", "-o", "m", ok=False)
    assert ran.code == 2 and other.partition(" ")[0] in ran.err and 'chat = "own" takes the wording' in ran.err, ran.err


def test_general_examples_are_not_put_where_a_text_to_translate_is(isolated: Path, here: Callable[..., Ran]) -> None:
    base = base_with(isolated, LISTED)
    Path("r.toml").write_text('pair = "is-en"\nbase = "own"\n[anchor]\nchat = "own"\n')
    here("mix", "--recipe", "r.toml", "--corpus", corpus(here, "c", n=60), "--general", general("g.jsonl"), "-o", "m")
    mix: dict[str, Any] = json.loads(Path("m/mix.json").read_text())
    turns = Anchor.model_validate(mix["anchor"]).chat
    assert turns and turns.translates
    tokens = BaseTokenizer(base, turns)
    example = Example("general:g:1", "general", general_prompt("Explain rain."), "", "Water.")
    assert tokens.example_ids([example]) == BaseTokenizer(base).example_ids([example])
    task = Example("task:d:1", "task", general_prompt("Halló."), "", "Hello.")
    assert tokens.lengths([example, task]) == [len(ids) for ids, _ in tokens.example_ids([example, task])]
