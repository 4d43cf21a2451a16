"""Anchors and prompts: the one module that turns a source segment into what a model reads.

An anchor (TELL, arXiv 2404.00914, section 3.1) is a constant natural-language prefix of every task prompt and a constant
opening of its response. Training, evaluation and serving all build their prompts here; an adapter's card carries the rendered
anchor, so that what was trained is what is served.
"""

from __future__ import annotations

import hashlib
import string
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer, model_validator

from tell.languages import LanguagePair
from tell.model.base import Base
from tell.model.chat_template import ChatTurns, choose_turns, own_turns

# Between the prompt's text and the response: a blank line, one token for most tokenizers. Where a chat template ends the turn, that does.
SEPARATOR = "\n\n"

# (prefix, opening). `paper` is the wording in the TELL authors' own data; `short` is ours, a quarter of its tokens.
WORDINGS = {
    "short": ("Translate this text from {source} into {target}.\n\n", "{target}:\n"),
    "paper": (
        "This text is in {source} and needs to be translated into {target}. Please translate only the text, strictly maintaining "
        "the original content order without making any other changes.\n\n ",
        "Sure, here is the {target} translation: \n\n ",
    ),
}
_FIELDS = ("source", "target")
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def _check_template(template: str) -> str:
    """Raises ValueError unless the template's only placeholders are {source} and {target}, as they stand."""
    for _, field, spec, conversion in string.Formatter().parse(template):
        if field is not None and (field not in _FIELDS or spec or conversion):
            placeholder = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"unknown placeholder {{{placeholder}}}; valid: {{source}} and {{target}}, and {{{{ or }}}} for a brace")
    return template


class AnchorConfig(BaseModel):
    """The `[anchor]` table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # nonce: meaningless words, the same for every example of a direction. What an anchor means, and not only that it is constant, is then left out.
    wording: Literal["short", "paper", "nonce"] = "short"
    parts: Literal["both", "prefix", "opening", "none"] = "both"
    # Templates over {source} and {target}, the languages' English names. Each takes the place of the wording's own, and may be empty.
    prefix: str | None = None
    opening: str | None = None
    # Put prompt and response into the turns of the base's chat template: true, false, or auto, where the base has one. Not auto unless asked
    # for: a template in the directory does not tell an instruct model, since pretrained bases are published with one as well.
    # own: the template of a translation model, told the languages, is the whole anchor.
    chat: Literal["auto", "own"] | bool = False

    @field_validator("prefix", "opening")
    @classmethod
    def _template(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("parts", "both") not in ("both", info.field_name):
            raise ValueError(f"given, and parts = {info.data['parts']!r} leaves it out")
        return value if value is None else _check_template(value)

    @field_validator("chat", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        # pydantic reads "yes" and 1 as true.
        if not (isinstance(value, bool) or value in ("auto", "own")):
            raise ValueError('neither true, false, "auto" nor "own"')
        return value

    @model_validator(mode="after")
    def _own_words(self) -> Self:
        if self.chat == "own" and (given := [name for name in ("wording", "parts", "prefix", "opening") if name in self.model_fields_set]):
            raise ValueError(f'{given[0]} is given, and chat = "own" takes the wording of the base\'s chat template')
        return self


class Anchor(BaseModel):
    """A rendered anchor, as the adapter's card keeps it. `chat` is None for plain text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str
    opening: str
    chat: ChatTurns | None = None

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Adapters are named by the hash of their card: those made before there was chat keep their names.
        fields: dict[str, Any] = handler(self)
        if self.chat is None:
            fields.pop("chat", None)
        return fields

    def prompt(self, source: str) -> str:
        """The prompt's text for one source segment, up to where the response begins."""
        return f"{self.prefix}{source}{SEPARATOR}"

    def strip(self, response: str) -> str:
        """A response without the opening, which a model may repeat, though with other white space, after it was given."""
        if response.startswith(self.opening):
            return response[len(self.opening) :]
        words = self.opening.strip()
        if not words or not response.lstrip().startswith(words):
            return response
        rest = response.lstrip()[len(words) :]
        # "English: ..." may be how a translation begins; only what is set off as the opening was is the opening.
        gap = rest[: len(rest) - len(rest.lstrip())]
        opening_space = self.opening[len(self.opening.rstrip()) :]
        return rest if not rest.strip() or "\n" in gap or (gap and "\n" not in opening_space) else response


def nonce(pair: LanguagePair) -> tuple[str, str]:
    """Prefix and opening in the shape of `short`, of syllables that the pair's codes decide and that mean nothing."""
    digest = hashlib.sha512(f"tellmt nonce {pair}".encode()).digest()
    syllables = [_CONSONANTS[a % len(_CONSONANTS)] + _VOWELS[b % len(_VOWELS)] for a, b in zip(digest[::2], digest[1::2], strict=True)]
    words = [a + b for a, b in zip(syllables[::2], syllables[1::2], strict=True)]
    return f"{' '.join(words[:7])}.\n\n", f"{words[7]}:\n"


def render(config: AnchorConfig, pair: LanguagePair, base: Base | None = None) -> Anchor:
    """The anchor of one direction. Raises BaseModelError when the turns of a chat template are asked for and `base` has none that can be used."""
    if base is None and config.chat is not False:
        raise ValueError("a chat template is the base's: render needs the base")
    if base is not None and config.chat == "own":
        return Anchor(prefix="", opening="", chat=own_turns(base, pair))
    names = {"source": pair.source.name, "target": pair.target.name}
    prefix, opening = nonce(pair) if config.wording == "nonce" else (t.format(**names) for t in WORDINGS[config.wording])
    prefix = prefix if config.prefix is None else config.prefix.format(**names)
    opening = opening if config.opening is None else config.opening.format(**names)
    return Anchor(
        prefix=prefix if config.parts in ("both", "prefix") else "",
        opening=opening if config.parts in ("both", "opening") else "",
        chat=None if base is None or config.chat == "own" else choose_turns(base, config.chat),
    )


def general_prompt(prompt: str) -> str:
    """The prompt's text for a general example: no anchor, the same separator."""
    return f"{prompt}{SEPARATOR}"
