"""The short tags that stand for a file's tags in the text that a model gets, such as `<x1>`, `</x1>` and `<x2/>`, and those that come back. Reads nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# A tag inside a line: short, so that a model copies it, and found as a placeholder.
TOKEN = re.compile(r"<(/?)([a-z])(\d{1,4})(/?)>")
LETTERS = "xgzqwkvj"
_TAKEN = re.compile(r"</?([a-z])\d")


def free_letter(text: str) -> str:
    """A letter for the tags of a text that has no such tags of its own."""
    taken = set(_TAKEN.findall(text))
    return next((x for x in LETTERS if x not in taken), "x")


def matches(kinds: Sequence[str]) -> tuple[dict[int, int], dict[int, int]]:
    """Where a tag ("open") is closed ("close") that is opened at a place, and the reverse. A tag that begins or ends beyond the stretch, as in
    <a>one<p>two</a>, is in neither."""
    closing: dict[int, int] = {}
    open_tags: list[int] = []
    for i, kind in enumerate(kinds):
        if kind == "open":
            open_tags.append(i)
        elif kind == "close" and open_tags:
            closing[open_tags.pop()] = i
    return closing, {end: opening for opening, end in closing.items()}


def split_at_tags(translation: str, known: Collection[str]) -> tuple[list[str], bool]:
    """A translation cut at the stand-ins that are known, text at even places and stand-ins at odd ones, and whether each is there once and inside the
    others as tags must be."""
    parts: list[str] = []
    open_tags: list[str] = []
    position, well_nested = 0, True
    for token in TOKEN.finditer(translation):
        if token.group() not in known:
            continue
        parts += [translation[position : token.start()], token.group()]
        position = token.end()
        if token.group(1):
            well_nested = well_nested and bool(open_tags) and open_tags.pop() == token.group(3)
        elif not token.group(4):
            open_tags.append(token.group(3))
    return [*parts, translation[position:]], well_nested and sorted(parts[1::2]) == sorted(known)


def without_tags(translation: str, known: Collection[str]) -> str:
    """A translation without the stand-ins that are known."""
    return TOKEN.sub(lambda m: "" if m.group() in known else m.group(), translation)
