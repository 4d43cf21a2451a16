"""YAML as a tree whose nodes know where they are in the text, and scalars written again in their old style.

By libyaml's events (PyYAML): aliases are not followed, so nothing is unfolded, and nesting is bounded here and there.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, Literal

from serve.formats.units import Bounds
from tell.errors import CorpusError
from tell.extras import need

_PROPERTY = re.compile(r"(?:[&!][^\s,\[\]{}]*[ \t]*(?:\r?\n[ \t]*)?){1,4}")
_INDICATOR = re.compile(r"[-?:,\[\]{}#&*!|>'\"%@`\s=~]")
_UNPLAIN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ufeff]|:(?:\\s|\\Z)|\\s#|\\A(?:---|\\.\\.\\.)|\\s\\Z")
_FLOW = re.compile(r"[,\[\]{}]")
_BOOLEAN = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_NOT_RAW = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


@dataclasses.dataclass(slots=True)
class Node:
    """A value from `start` to `end` of the text, behind its anchor and tag. `flow`: in brackets, or a scalar in them."""

    kind: Literal["mapping", "sequence", "scalar", "alias"]
    start: int
    end: int = 0
    flow: bool = False
    # Pairs of a mapping; of a sequence the keys are the values.
    members: list[tuple[Node, Node]] = dataclasses.field(default_factory=list)
    value: str = ""
    style: str = ""
    # Whether a scalar is a text: not a number, a truth value, or something with a tag.
    is_text: bool = False
    anchored: bool = False

    def member(self, key: str) -> Node | None:
        return next((value for name, value in self.members if name.value == key), None) if self.kind == "mapping" else None


def parse(text: str, bounds: Bounds) -> list[Node]:
    """The documents of a file. Raises CorpusError with the line where it is not YAML, TooLarge where it has too much of something."""
    yaml: Any = need("yaml", "files")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolver: Any = yaml.resolver.Resolver()
    documents: list[Node] = []
    stack: list[tuple[Node, list[Node]]] = []
    count = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            count += 1
            if not count % 1000:
                bounds.check("tokens", count)
            kind = type(event).__name__
            if kind in ("MappingEndEvent", "SequenceEndEvent"):
                node, parts = stack.pop()
                node.end = event.end_mark.index
                node.members = list(zip(parts[::2], parts[1::2], strict=True)) if node.kind == "mapping" else [(part, part) for part in parts]
                continue
            if kind not in ("MappingStartEvent", "SequenceStartEvent", "ScalarEvent", "AliasEvent"):
                continue
            node = _node(event, kind, text, resolver, yaml.ScalarNode)
            node.flow = node.flow or bool(stack and stack[-1][0].flow)
            if stack:
                stack[-1][1].append(node)
            else:
                documents.append(node)
            if node.kind in ("mapping", "sequence"):
                stack.append((node, []))
                if len(stack) > bounds.nesting:
                    bounds.check("nesting", len(stack), f"line {event.start_mark.line + 1}")
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        problem = getattr(e, "problem", None) or getattr(e, "reason", "") or "not YAML"
        place = f"line {mark.line + 1}" if mark else f"line {text.count(chr(10), 0, getattr(e, 'position', 0)) + 1}"
        raise CorpusError("this is not YAML", place=place, found=str(problem), valid="a YAML file that is whole") from None
    bounds.check("tokens", count)
    return documents


def _node(event: Any, kind: str, text: str, resolver: Any, scalar: Any) -> Node:
    start, end = event.start_mark.index, event.end_mark.index
    anchored = bool(event.anchor)
    if kind == "AliasEvent":
        return Node("alias", start, end)
    if kind != "ScalarEvent":
        return Node("mapping" if kind == "MappingStartEvent" else "sequence", start, end, bool(event.flow_style), anchored=anchored)
    if (event.anchor or event.tag) and (before := _PROPERTY.match(text, start, end)):
        start = before.end()
    is_text = not event.tag and (bool(event.style) or resolver.resolve(scalar, event.value, (True, False)).endswith(":str"))
    return Node("scalar", start, end, False, [], event.value, event.style or "", is_text, anchored)


def written(node: Node, text: str, new: str, ascii_only: bool) -> str:
    """A scalar of `text` with another value, in its old style where that can hold it, else in double quotes."""
    raw = text[node.start : node.end]
    if node.style in ("|", ">") and (block := _block(node, raw, new)) is not None:
        return block
    if node.style == "'" and not _UNPLAIN.search(new.strip()) and "\n" not in new:
        return "'" + new.replace("'", "''") + "'"
    if node.style == "'" and not any(c < " " or _NOT_RAW.match(c) for c in new):
        return "'" + new.replace("'", "''") + "'"
    if not node.style and is_plain(new, node.flow):
        return new
    return double_quoted(new, ascii_only) + ("\n" if raw.endswith("\n") and node.style in ("|", ">") else "")


def is_plain(text: str, flow: bool) -> bool:
    """Whether a text is itself in YAML without quotes, for readers of 1.1 and of 1.2."""
    if not text or _INDICATOR.match(text) or _UNPLAIN.search(text) or (flow and _FLOW.search(text)) or text.lower() in _BOOLEAN:
        return False
    yaml: Any = need("yaml", "files")
    return str(yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False))).endswith(":str")


def double_quoted(text: str, ascii_only: bool = False) -> str:
    quoted = _NOT_RAW.sub(lambda m: f"\\u{ord(m.group()):04x}", json.dumps(text, ensure_ascii=False))
    if not ascii_only:
        return quoted
    quoted = _ASTRAL.sub(lambda m: f"\\U{ord(m.group()):08x}", quoted)
    return "".join(c if c < "\x80" else f"\\u{ord(c):04x}" for c in quoted)


def _block(node: Node, raw: str, new: str) -> str | None:
    """A block scalar with another value and its old head, indentation and end; None where the style cannot hold it."""
    head, line_end, body = raw.partition("\n")
    if not line_end or any(_NOT_RAW.match(c) or (c < " " and c not in "\n\t") for c in new):
        return None
    end = "\r\n" if head.endswith("\r") else "\n"
    lines = body.split("\n")
    first = next((line for line in lines if line.strip()), None)
    first_value = next((line for line in node.value.split("\n") if line.strip()), "")
    if first is None:
        return None
    indent = " " * (len(first) - len(first.lstrip(" ")) - (len(first_value) - len(first_value.lstrip(" "))))
    core, old = new.rstrip("\n"), node.value.rstrip("\n")
    if core[:1] in (" ", "\n") and old[:1] != core[:1]:
        return None
    if node.style == ">":
        if any(line[:1] in (" ", "\t") for line in core.split("\n")):
            return None
        core = core.replace("\n", "\n\n")
    written_lines = [(indent + line if line.strip() else "") for line in core.split("\n")]
    # What follows the last line of text: blank lines that the head may keep.
    last = max(i for i, line in enumerate(lines) if line.strip())
    tail = lines[last + 1 :]
    return head + "\n" + end.join(written_lines) + ("\r" if end == "\r\n" and lines[last].endswith("\r") else "") + "".join("\n" + line for line in tail)
