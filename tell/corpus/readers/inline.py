"""The text of a segment that has inline markup, as TMX and XLIFF know it. Reads lxml elements, writes nothing."""

from __future__ import annotations

from typing import Any

# Their content is code of the original format, or they have none: no text of the segment. Those that stand for something, not around it, part words.
_CODES = {"bpt", "ept", "it", "ut", "bx", "ex", "sc", "ec", "sm", "em"}
_STANDING = {"ph", "x"}


def local(element: Any) -> str:
    """The element's name without its namespace; empty for comments and processing instructions."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def text_without_codes(element: Any) -> str:
    """The text without the codes in it. Where only a placeholder parts two words, a space does."""
    parts: list[str] = []
    _gather(element, parts)
    return "".join(parts)


def _gather(element: Any, out: list[str]) -> None:
    _add(element.text, out, False)
    for child in element:
        name = local(child)
        if name == "cp":
            _add(_character(child.get("hex", "")), out, False)
        elif name and name not in _CODES and name not in _STANDING:
            _gather(child, out)
        _add(child.tail, out, name in _STANDING)


def _add(text: str | None, out: list[str], apart: bool) -> None:
    if text:
        if apart and out and out[-1][-1].isalnum() and text[0].isalnum():
            out.append(" ")
        out.append(text)


def _character(code: str) -> str:
    """What XLIFF 2 writes as <cp>: a character that XML cannot hold."""
    try:
        point = int(code, 16)
    except ValueError:
        return ""
    return chr(point) if point < 0xD800 or 0xE000 <= point < 0x110000 else ""
