"""JSON as a tree whose nodes know where they are in the text. Raises CorpusError where the text is not JSON, TooLarge where it is nested too deep."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Literal

from serve.formats.units import Bounds
from tell.errors import CorpusError

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+', re.S)
# Escapes that some writers use where JSON needs none.
_HTML_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "'": "\\u0027",
    "\u00a0": "\\u00a0",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
    "\u200b": "\\u200b",
}


@dataclasses.dataclass(slots=True)
class Node:
    """A value from `start` to `end` of the text. `members` of an object are by key, those of a list by number; a member begins at its key."""

    kind: Literal["object", "list", "string", "other"]
    start: int
    end: int = 0
    members: list[Member] = dataclasses.field(default_factory=list)
    # A string's text.
    text: str = ""

    def member(self, key: str) -> Node | None:
        """The member with this key: the last one, as JSON's readers have it."""
        return next((m.value for m in reversed(self.members) if m.key == key), None)

    def text_of(self, key: str) -> str | None:
        """The text of a member that is a string."""
        value = self.member(key)
        return value.text if value and value.kind == "string" else None


@dataclasses.dataclass(slots=True)
class Member:
    key: str
    key_start: int
    key_end: int
    value: Node


def parse(text: str, bounds: Bounds) -> Node:
    try:
        json.loads(text)
    except json.JSONDecodeError as e:
        raise CorpusError("this is not JSON", place=f"line {e.lineno}", found=f"{e.msg} (column {e.colno})", valid="a JSON file that is whole") from None
    except (RecursionError, ValueError):
        bounds.check("nesting", bounds.nesting + 1)
        raise CorpusError("this JSON is nested too deep", place="file") from None
    root: Node | None = None
    stack: list[Node] = []
    key: tuple[str, int, int] | None = None
    count = 0
    for token in _TOKEN.finditer(text):
        count += 1
        first = token.group()[0]
        if first in "}]":
            closed = stack.pop()
            closed.end = token.end()
            continue
        if first in ",:":
            continue
        parent = stack[-1] if stack else None
        if parent is not None and parent.kind == "object" and key is None:
            key = json.loads(token.group()), token.start(), token.end()
            continue
        node = Node("object" if first == "{" else "list" if first == "[" else "string" if first == '"' else "other", token.start(), token.end())
        if node.kind == "string":
            node.text = json.loads(token.group())
        if parent is None:
            root = node
        else:
            parent.members.append(Member(*(key or (str(len(parent.members)), node.start, node.start)), node))
        key = None
        if node.kind in ("object", "list"):
            stack.append(node)
            bounds.check("nesting", len(stack), f"line {text.count(chr(10), 0, node.start) + 1}" if len(stack) > bounds.nesting else "file")
        if not count % 1000:
            bounds.check("tokens", count)
    bounds.check("tokens", count)
    assert root is not None
    return root


def written(text: str, old: str, ascii_only: bool) -> str:
    """A text as a JSON string, with those escapes that `old`, the string in its place, uses where JSON needs none."""
    new = json.dumps(text, ensure_ascii=ascii_only)
    if "\\/" in old:
        new = new.replace("/", "\\/")
    lower = old.lower()
    for character, escape in _HTML_ESCAPES.items():
        if escape in lower:
            new = new.replace(character, escape)
    return new
