"""XML in, XML out, as `serve.translation.markup_html` does with HTML: texts as lines to translate, everything else as it stands.

Reads and writes strings; asks no engine. A text may be a whole document or a part of one, with several elements side by side. It is parsed by
tell.text.safe_xml, so nothing is resolved or fetched. Outline detection tells by an element's surroundings whether it ends a sentence, unless the request
names such elements.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from serve.formats.tag_placeholders import free_letter
from serve.translation.markup_html import Markup, MarkupLine, Piece, lines_of_stretch
from tell.errors import RequestError
from tell.text.safe_xml import parse_tree

_DECLARATION = re.compile(r"\s*<\?xml\b[^>]{0,500}\?>")
# Prefixes of elements and attributes are declared around the text, which may be a part of a document that declares them.
_TAG = re.compile(r"<[^<>!?]+>")
_ERROR_LINE = re.compile(r"line \d+")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_PREFIX = re.compile(r"[<\s/]([A-Za-z_][\w.-]*):[A-Za-z_]")
# More than any document has; each is looked at with each element.
_PREFIXES = 50
_WRAP = "tellmt"
VALID = "XML that is whole: every tag closed, & as &amp;, no document type"


@dataclasses.dataclass(frozen=True, slots=True)
class XmlRules:
    """Elements by their names as written. `ignored` stay as they are; `splitting` end a sentence, `inside` do not; `outline`: others do as they stand."""

    ignored: frozenset[str] = frozenset()
    splitting: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()
    outline: bool = True


def parse_xml(text: str, rules: XmlRules, place: str = "text") -> Markup:
    """Raises RequestError where the text is not well-formed, without quoting it."""
    declaration = _DECLARATION.match(text)
    start = declaration.end() if declaration else 0
    tags = " ".join(_QUOTED.sub("", tag) for tag in _TAG.findall(text) if ":" in tag)
    prefixes = sorted({p for p in _PREFIX.findall(tags) if not p.lower().startswith("xml")})
    if len(prefixes) > _PREFIXES:
        raise RequestError("too many prefixes in the XML", place=place, found=len(prefixes), valid=f"at most {_PREFIXES}")
    declarations = "".join(f' xmlns:{p}="urn:tellmt:{p}"' for p in prefixes)
    try:
        # In one line with the text, so that the line of an error is that of the text.
        root = parse_tree(f"<{_WRAP}{declarations}>{text[start:]}</{_WRAP}>".encode("utf-8", "replace"), place=place, error=RequestError).getroot()
    except RequestError as e:
        error_line = _ERROR_LINE.search(str(e.place))
        raise RequestError("the XML is not well-formed", place=f"{place}{f', {error_line[0]}' if error_line else ''}", valid=VALID) from None
    letter = free_letter(html.unescape(text))
    parts: list[str | MarkupLine] = [text[:start]]
    stretch: list[Piece] = []
    for kind, value in _inner(root, rules, False):
        if kind == "block":
            parts += [*lines_of_stretch(stretch, letter, xml=True), value]
            stretch = []
        elif kind == "text" and stretch and stretch[-1][0] == "text":
            stretch[-1] = ("text", stretch[-1][1] + value)
        else:
            stretch.append((kind, value))
    parts += lines_of_stretch(stretch, letter, xml=True)
    return Markup(tuple(p for p in parts if p))


def _inner(node: Any, rules: XmlRules, within: bool) -> Iterator[Piece]:
    """The content of an element. `within`: whether the element is part of a sentence; then all that is in it is, too."""
    mixed = within or bool((node.text or "").strip()) or any((child.tail or "").strip() for child in node)
    if node.text:
        yield "text", node.text
    for child in node:
        yield from _outer(child, rules, mixed)
        if child.tail:
            yield "text", child.tail


def _outer(node: Any, rules: XmlRules, mixed: bool) -> Iterator[Piece]:
    if not isinstance(node.tag, str):
        # A comment or a processing instruction.
        yield ("void" if mixed else "block"), _as_is(node)
        return
    name = _name(node)
    inline = name not in rules.splitting and (name in rules.inside or (mixed if rules.outline else True))
    if name in rules.ignored:
        yield ("void" if inline else "block"), _as_is(node)
    elif not len(node) and node.text is None:
        yield ("void" if inline else "block"), f"{_start(node)[:-1]}/>"
    else:
        yield ("open" if inline else "block"), _start(node)
        yield from _inner(node, rules, inline and name not in rules.splitting)
        yield ("close" if inline else "block"), f"</{name}>"


def _name(node: Any) -> str:
    local = node.tag.rpartition("}")[2]
    return f"{node.prefix}:{local}" if node.prefix else str(local)


def _start(node: Any) -> str:
    parent = node.getparent()
    outer_prefixes = parent.nsmap if parent is not None else {}
    declarations = [(f"xmlns:{p}" if p else "xmlns", uri) for p, uri in node.nsmap.items() if outer_prefixes.get(p) != uri]
    attributes = [(_attribute(node, key), value) for key, value in node.attrib.items()]
    return f"<{_name(node)}{''.join(f' {key}={quoteattr(value)}' for key, value in [*declarations, *attributes])}>"


def _attribute(node: Any, key: str) -> str:
    uri, _, local = key.rpartition("}")
    if not uri:
        return local
    if uri == "{http://www.w3.org/XML/1998/namespace":
        return f"xml:{local}"
    prefix = next((p for p, u in node.nsmap.items() if p and u == uri[1:]), None)
    return f"{prefix}:{local}" if prefix else local


def _as_is(node: Any) -> str:
    """An element with all that is in it, without the declarations that were put around the text."""
    from lxml import etree

    if not isinstance(node.tag, str):
        return str(etree.tostring(node, encoding="unicode", with_tail=False))
    inside = escape(node.text or "") + "".join(_as_is(child) + escape(child.tail or "") for child in node)
    start = _start(node)
    return f"{start}{inside}</{_name(node)}>" if inside or node.text is not None else f"{start[:-1]}/>"
