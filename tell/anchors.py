"""Anchors and prompts: the one module that turns a source segment into what a model reads.

An anchor (TELL, arXiv 2404.00914, section 3.1) is a constant natural-language prefix of every task prompt and a constant
opening of its response. Training, evaluation and serving all build their prompts here; an adapter's card carries the rendered
anchor, so that what was trained is what is served.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from tell.languages import LanguagePair

# Between the prompt's text and the response: a blank line, one token for most tokenizers.
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


class AnchorConfig(BaseModel):
    """The `[anchor]` table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wording: Literal["short", "paper"] = "short"
    parts: Literal["both", "prefix", "opening", "none"] = "both"


class Anchor(BaseModel):
    """A rendered anchor, as the adapter's card keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str
    opening: str

    def prompt(self, source: str) -> str:
        """The prompt's text for one source segment, up to where the response begins."""
        return f"{self.prefix}{source}{SEPARATOR}"

    def strip(self, response: str) -> str:
        """A response without the opening, which a model may repeat although it was given."""
        return response.removeprefix(self.opening).removeprefix(self.opening.strip()) if self.opening else response


def render(config: AnchorConfig, pair: LanguagePair) -> Anchor:
    prefix, opening = (t.format(source=pair.source.name, target=pair.target.name) for t in WORDINGS[config.wording])
    return Anchor(
        prefix=prefix if config.parts in ("both", "prefix") else "",
        opening=opening if config.parts in ("both", "opening") else "",
    )


def general_prompt(prompt: str) -> str:
    """The prompt's text for a general example: no anchor, the same separator."""
    return f"{prompt}{SEPARATOR}"
