"""A line of a text with markup, as a model gets it. Reads nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """The short tag in a line's text, and the markup that it stands for."""

    text: str
    markup: str


@dataclasses.dataclass(frozen=True, slots=True)
class MarkupLine:
    """A stretch of text between two ends of sentences. `before` and `after` are markup: white space, and tags that are all around the text.

    `escape` writes text as markup.
    """

    before: str
    text: str
    after: str
    tokens: tuple[Token, ...]
    escape: Callable[[str], str]
