"""The short tags that stand for others in what a model gets, such as `<x1>`, `</x1>` and `<x2/>`, and what came back of them. Reads nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

# A tag inside a line: short, so that a model copies it, and found as a placeholder.
TOKEN = re.compile(r"<(/?)([a-z])(\d{1,4})(/?)>")
LETTERS = "xgzqwkvj"


def free_letter(text: str) -> str:
    """A letter for the tags of a text that has no such tags of its own."""
    return next((x for x in LETTERS if not re.search(rf"</?{x}\d", text)), "x")


def matches(kinds: Sequence[str]) -> tuple[dict[int, int], dict[int, int]]:
    """Where a tag ("open") is closed ("close") that is opened at a place, and the reverse. What begins or ends beyond the stretch, as in
    <a>one<p>two</a>, is in neither."""
    closed: dict[int, int] = {}
    waiting: list[int] = []
    for i, kind in enumerate(kinds):
        if kind == "open":
            waiting.append(i)
        elif kind == "close" and waiting:
            closed[waiting.pop()] = i
    return closed, {end: start for start, end in closed.items()}


def found_in(made: str, known: Collection[str]) -> tuple[list[str], bool]:
    """A translation cut at the stand-ins that are known, text at even places and stand-ins at odd ones, and whether each is there once and inside the
    others as tags must be."""
    out: list[str] = []
    opened: list[str] = []
    at, good = 0, True
    for found in TOKEN.finditer(made):
        if found.group() not in known:
            continue
        out += [made[at : found.start()], found.group()]
        at = found.end()
        if found.group(1):
            good = good and bool(opened) and opened.pop() == found.group(3)
        elif not found.group(4):
            opened.append(found.group(3))
    return [*out, made[at:]], good and sorted(out[1::2]) == sorted(known)


def without(made: str, known: Collection[str]) -> str:
    """A translation without the stand-ins that are known."""
    return TOKEN.sub(lambda m: "" if m.group() in known else m.group(), made)
