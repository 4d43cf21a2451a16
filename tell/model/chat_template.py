"""A base's chat template, rendered once: the text before and after a prompt, so that nothing later needs the template.

Reads chat_template.jinja or tokenizer_config.json of a prepared base. Returns `ChatTurns`, which the adapter's card pins with its anchor.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from tell.errors import BaseModelError
from tell.languages import Language, LanguagePair, base_language
from tell.model.base import Base

# Stand-ins for the texts while the template is rendered: two of each, so that a template whose output depends on the texts is detected.
_MARKS = (("prompt9f3a7c", "response51be08"), ("prompt62d0e4", "response7ac39b"))
_NEEDED = "a base whose directory holds a chat template, or chat = false in [anchor]"


class ChatTurns(BaseModel):
    """What the base's chat template puts around a user's turn, and what ends the model's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # From the start of the text to where the prompt begins; with the base's BOS, where the template writes one.
    before: str
    # From the prompt's end to where the response begins.
    after: str
    # What follows the response, up to the text's end.
    end: str
    # The template writes the task itself, in the words that the base was trained with (chat = "own"): nothing but a text to translate is put into it.
    translates: bool = False

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Adapters are named by the hash of their card: those made before there was chat = "own" keep their names.
        fields: dict[str, Any] = handler(self)
        if not self.translates:
            fields.pop("translates", None)
        return fields


def _settings(base: Base) -> dict[str, Any]:
    path = base.path / "tokenizer_config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise BaseModelError("the tokenizer's settings cannot be read", place=str(path), found=str(e)) from None
    return settings if isinstance(settings, dict) else {}


def template_of(base: Base) -> str | None:
    """The base's chat template: its own file wins, as in transformers; None when there is none."""
    path = base.path / "chat_template.jinja"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as e:
        raise BaseModelError("the chat template cannot be read", place=str(path), found=str(e)) from None
    template = _settings(base).get("chat_template")
    if isinstance(template, list):
        templates = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = templates.get("default")
    return template if isinstance(template, str) else None


def _special(settings: dict[str, Any]) -> dict[str, str]:
    """bos_token, eos_token and the like, which templates write by name."""
    special_tokens = {}
    for name, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            special_tokens[name] = text
    return special_tokens


def _refuse(message: str) -> None:
    raise ValueError(message)


def _render(template: str, names: dict[str, str], prompt: str | list[dict[str, str]], response: str | None) -> str:
    """The conversation as the template writes it, up to where the response begins, or with it."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # The settings that transformers renders with. A template comes with the base and is not trusted: sandboxed, and without a clock, since
    # a prompt that changes with the day is not the one that was trained.
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    env.globals["raise_exception"] = _refuse
    messages = [{"role": "user", "content": prompt}, *([] if response is None else [{"role": "assistant", "content": response}])]
    # A base that can reason first is told not to: the response is the translation.
    return env.from_string(template).render(messages=messages, add_generation_prompt=response is None, enable_thinking=False, **names)


def _around(text: str, mark: str) -> tuple[str, str]:
    parts = text.split(mark)
    if len(parts) != 2:
        raise ValueError(f"a text given once is written {len(parts) - 1} times")
    return parts[0], parts[1]


def turns_of(base: Base) -> ChatTurns:
    """What the base's template writes around a prompt. Raises BaseModelError when it has none, or one that cannot be used."""
    template = template_of(base)
    if template is None:
        raise BaseModelError("this base has no chat template", place=str(base.path), found=base.id, valid=_NEEDED)
    names = _special(_settings(base))
    turns = []
    for prompt, response in _MARKS:
        try:
            before, after = _around(_render(template, names, prompt, None), prompt)
            _, end = _around(_render(template, names, prompt, response), response)
        except Exception as e:  # a template is a program: it may raise anything
            why = f"{type(e).__name__}: {e}"
            raise BaseModelError("the chat template of this base cannot be used", place=str(base.path), found=why, valid=_NEEDED) from None
        turns.append(ChatTurns(before=before, after=after, end=end))
    if turns[0] != turns[1]:
        raise BaseModelError("the chat template of this base writes something else around each text", place=str(base.path), valid=_NEEDED)
    return turns[0]


def _own_words(template: str, names: dict[str, str], languages: tuple[str, str, LanguagePair], listed: bool) -> ChatTurns:
    """The turns of a template that is told the languages, in a list as a translation model's content is, or in names of their own."""
    source, target, pair = languages
    told = {"source_lang_code": source, "target_lang_code": target}
    named = {"source_lang": source, "target_lang": target, "source_language": pair.source.name, "target_language": pair.target.name}
    turns = []
    for prompt, response in _MARKS:
        content = [{"type": "text", **told, "text": prompt}] if listed else prompt
        before, after = _around(_render(template, {**names, **told, **named}, content, None), prompt)
        _, end = _around(_render(template, {**names, **told, **named}, content, response), response)
        if "source_lang_code" in before + after:
            # Written out as it is by a template that expects a text.
            raise ValueError("it takes no languages")
        turns.append(ChatTurns(before=before, after=after, end=end, translates=True))
    if turns[0] != turns[1]:
        raise ValueError("it writes something else around each text")
    return turns[0]


def _codes(language: Language) -> list[str]:
    """The codes by which a template may know a language, its own first."""
    return list(dict.fromkeys([language.tag, base_language(language.tag)]))


def own_turns(base: Base, pair: LanguagePair) -> ChatTurns:
    """What a translation model's template writes around a text of this pair, with its own wording of the task.

    Raises BaseModelError when the base has no template, or one that does not name the languages or cannot be used for these.
    """
    template, place = template_of(base), str(base.path)
    if template is None:
        raise BaseModelError("this base has no chat template", place=place, found=base.id, valid=_NEEDED)
    names, why = _special(_settings(base)), ""
    back = LanguagePair(pair.target, pair.source)
    for listed in (False, True):
        for source in _codes(pair.source):
            for target in _codes(pair.target):
                try:
                    turns = _own_words(template, names, (source, target, pair), listed)
                    if turns != _own_words(template, names, (target, source, back), listed):
                        return turns
                except Exception as e:  # a template is a program: it may raise anything
                    why = f"{type(e).__name__}: {e}"
    valid = "chat = true, with the wording of the base's own page as prefix and opening in [anchor]"
    raise BaseModelError(f"the chat template of this base does not ask for translations of {pair} by itself", place=place, found=why or None, valid=valid)


def choose_turns(base: Base, chat: Literal["auto"] | bool) -> ChatTurns | None:
    """The turns that `chat` asks for: `auto` takes the template where there is one."""
    if chat is False or (chat == "auto" and template_of(base) is None):
        return None
    return turns_of(base)
