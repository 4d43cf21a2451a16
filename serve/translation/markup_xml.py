"""XML in, XML out, as `serve.translation.markup_html` does with HTML: texts as lines to translate, everything else byte for byte as it came.

Reads and writes strings; asks no engine. A text may be a whole document or a part of one, with several elements side by side and prefixes that are declared
elsewhere. expat parses it without namespaces; a document type is refused, so nothing is expanded or fetched. Outline detection tells by an element's
surroundings whether it ends a sentence, unless the request names such elements.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterator, Set
from functools import partial
from typing import Any, Literal
from xml.parsers import expat

from serve.formats.tag_placeholders import free_letter
from serve.translation.markup_html import Markup, Piece, lines_of_stretch
from serve.translation.markup_lines import MarkupLine
from tell.errors import RequestError

_DECLARATION = re.compile(r"\s*<\?xml\b[^>]{0,500}\?>")
_WRAP = "tellmt"
# Elements in each other; more is no text of anybody's.
MOST_NESTED = 250
# What XML can spell in several ways: the character, as it is written where the text does not show how, and its references.
_SPELLINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    '"': ('"', ("&quot;", "&#34;", "&#x22;")),
    "'": ("'", ("&apos;", "&#39;", "&#x27;")),
    ">": ("&gt;", ("&gt;", "&#62;", "&#x3e;", "&#x3E;")),
    "\u00a0": ("\u00a0", ("&#160;", "&#xa0;", "&#xA0;")),
}
VALID = "XML that is whole: every tag closed, & as &amp;, no document type"


@dataclasses.dataclass(frozen=True, slots=True)
class XmlRules:
    """Elements by their names as written. `ignored` stay as they are; `splitting` end a sentence, `inside` do not; `outline`: others do as they stand."""

    ignored: frozenset[str] = frozenset()
    splitting: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()
    outline: bool = True


@dataclasses.dataclass(slots=True)
class Node:
    """A stretch of the XML, `raw` as it was written. Of an element, `start` and `end` are its tags, `end` empty where it closed itself, and `raw` is the whole
    where it is empty or ignored. `text` is what character data means."""

    kind: Literal["element", "text", "cdata", "other"]
    name: str = ""
    raw: str = ""
    start: str = ""
    end: str = ""
    text: str = ""
    inside: list[Node] = dataclasses.field(default_factory=list)


class SourceText(str):
    """Text with the way in which the XML spells it."""

    raw: str

    def __new__(cls, text: str, raw: str) -> SourceText:
        new = super().__new__(cls, text)
        new.raw = raw
        return new


def parse_xml(text: str, rules: XmlRules, place: str = "text") -> Markup:
    """Raises RequestError where the text is not well-formed, without quoting it."""
    declaration = _DECLARATION.match(text)
    start = declaration.end() if declaration else 0
    nodes = _parsed(text[start:], rules.ignored, place)
    letter = free_letter(html.unescape(text))
    parts: list[str | MarkupLine] = [text[:start]]
    stretch: list[Piece] = []

    def end_stretch() -> None:
        nonlocal stretch
        raw = "".join(value.raw for _, value in stretch if isinstance(value, SourceText))
        parts.extend(lines_of_stretch(stretch, letter, partial(_escaped, spelled=_spelled(raw))))
        stretch = []

    for kind, value in _content(nodes, rules, False):
        if kind == "block":
            end_stretch()
            parts.append(value)
        elif kind == "cdata":
            end_stretch()
            parts += lines_of_stretch([("text", value)], letter, _in_cdata)
        elif stretch and stretch[-1][0] == "text" and isinstance(value, SourceText) and isinstance(stretch[-1][1], SourceText):
            stretch[-1] = ("text", SourceText(stretch[-1][1] + value, stretch[-1][1].raw + value.raw))
        else:
            stretch.append((kind, value))
    end_stretch()
    return Markup(tuple(p for p in parts if p))


def _parsed(text: str, ignored: Set[str], place: str) -> list[Node]:
    """The content of the text. Raises RequestError."""
    # In one line with the text, so that the line of an error is that of the text.
    data = f"<{_WRAP}>{text}</{_WRAP}>".encode("utf-8", "replace")
    # Where each event begins, its node, and whether it is an end tag.
    events: list[tuple[int, Node, bool]] = []
    parser: Any = expat.ParserCreate("utf-8")
    open_elements: list[Node] = []

    def add(node: Node) -> None:
        if open_elements:
            open_elements[-1].inside.append(node)
        events.append((parser.CurrentByteIndex, node, False))

    def start(name: str, attributes: dict[str, str]) -> None:
        node = Node("element", name)
        add(node)
        open_elements.append(node)
        if len(open_elements) > MOST_NESTED:
            raise RequestError("elements of the XML lie too deep in each other", place=place, valid=f"at most {MOST_NESTED}")

    def end(name: str) -> None:
        node = open_elements.pop()
        if not open_elements and parser.CurrentByteIndex != len(data) - len(f"</{_WRAP}>"):
            # The text closes what was put around it.
            raise expat.ExpatError
        events.append((parser.CurrentByteIndex, node, True))

    in_cdata: list[Node] = []

    def cdata_begins() -> None:
        add(Node("cdata"))
        in_cdata.append(events[-1][1])

    def characters(value: str) -> None:
        if in_cdata:
            in_cdata[-1].text += value
        else:
            add(Node("text", text=value))

    def refused(*_: Any) -> None:
        raise expat.ExpatError

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters
    parser.StartCdataSectionHandler, parser.EndCdataSectionHandler = cdata_begins, in_cdata.clear
    parser.CommentHandler = parser.ProcessingInstructionHandler = lambda *_: add(Node("other"))
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refused
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, UnicodeError) as e:
        line = getattr(e, "lineno", None) or parser.CurrentLineNumber
        raise RequestError("the XML is not well-formed", place=f"{place}, line {line}", valid=VALID) from None
    return _with_raw(events, data, ignored)


def _with_raw(events: list[tuple[int, Node, bool]], data: bytes, ignored: Set[str]) -> list[Node]:
    """The nodes in the element around the text, with what was written for them: an event lasts until the next one begins."""
    begins: dict[int, int] = {}
    for number, (at, node, is_end) in enumerate(events):
        following = events[number + 1][0] if number + 1 < len(events) else len(data)
        if node.kind != "element":
            node.raw = data[at:following].decode("utf-8", "replace")
        elif not is_end:
            begins[id(node)] = at
            node.start = data[at:following].decode("utf-8", "replace")
        else:
            # An element that closes itself has both events at one place, and its tag follows the second.
            written = data[at:following].decode("utf-8", "replace")
            if at == begins[id(node)]:
                node.start = written
            else:
                node.end = written
            # For others it would be read and kept once for each element around them.
            if node.name in ignored or not node.inside:
                node.raw = data[begins[id(node)] : following].decode("utf-8", "replace")
    return events[0][1].inside


def _content(nodes: list[Node], rules: XmlRules, within: bool) -> Iterator[Piece]:
    """What an element holds. `within`: whether the element is part of a sentence; then all that is in it is, too."""
    mixed = within or any(node.kind in ("text", "cdata") and node.text.strip() for node in nodes)
    # A section of CDATA that is all the text of an element stays one. Beside other text it is text.
    alone = not within and sum(node.kind == "cdata" for node in nodes) == 1 and all(node.kind == "cdata" or not node.raw.strip() for node in nodes)
    for node in nodes:
        if node.kind == "cdata" and alone:
            yield "block", "<![CDATA["
            yield "cdata", node.text
            yield "block", "]]>"
        elif node.kind in ("text", "cdata"):
            yield "text", SourceText(node.text, node.raw if node.kind == "text" else html.escape(node.text, quote=False))
        elif node.kind == "other":
            yield ("void" if mixed else "block"), node.raw
        else:
            yield from _element(node, rules, mixed)


def _element(node: Node, rules: XmlRules, mixed: bool) -> Iterator[Piece]:
    inline = node.name not in rules.splitting and (node.name in rules.inside or (mixed if rules.outline else True))
    if node.name in rules.ignored or not node.inside:
        yield ("void" if inline else "block"), node.raw
        return
    yield ("open" if inline else "block"), node.start
    yield from _content(node.inside, rules, inline and node.name not in rules.splitting)
    yield ("close" if inline else "block"), node.end


def _spelled(raw: str) -> dict[str, str]:
    """How a line's own text spells the characters that XML can spell in several ways."""
    spelled = {}
    for character, (usual, references) in _SPELLINGS.items():
        if character in raw:
            spelled[character] = character
        else:
            spelled[character] = next((reference for reference in references if reference in raw), usual)
    return spelled


def _escaped(text: str, spelled: dict[str, str]) -> str:
    if isinstance(text, SourceText):
        return text.raw
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    for character, spelling in spelled.items():
        escaped = escaped.replace(character, spelling)
    # This may not stand in text.
    return escaped.replace("]]>", "]]&gt;")


def _in_cdata(text: str) -> str:
    return text.replace("]]>", "]]]]><![CDATA[>")
