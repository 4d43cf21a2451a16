"""Fluent's .ftl: values and attributes of messages and terms are translated. Ids, comments, placeables and every other byte stay.

Each variant of a selector is a text of its own; a selector by CLDR's categories gets those of the target language. A paragraph over several lines is one
text, and becomes one line. `.accesskey`, `.style` and their like stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from serve.formats import plural_forms
from serve.formats.claims import check_name
from serve.formats.edits import Edits, read_utf8
from serve.formats.inline_tags import Piece, joined, line_of
from serve.formats.units import Options, UnitVisitor
from tell.errors import CorpusError
from tell.extras import need
from tell.text.plurals import ORDER

# Attributes that are no texts.
_KEPT = {"accesskey", "commandkey", "key", "keycode", "style", "shortcut", "href", "src"}
_PARAGRAPH = re.compile(r"\n{2,}")
_INDENT = re.compile(r"\n([ ]+)(?=[^ \n\r])")
_BRACE = re.compile(r"[{}]")
# What cannot begin a line of a value.
_SPECIAL = ("[", "*", ".")


class _Resource:
    def __init__(self, text: str, visitor: UnitVisitor, options: Options):
        self.text, self.visitor, self.options = text, visitor, options
        self.edits = Edits(text)

    def entry(self, entry: Any) -> Iterator[tuple[int, int, str]]:
        """What is put in the place of an entry's patterns."""
        patterns = [entry.value] if entry.value else []
        patterns += [a.value for a in entry.attributes if a.id.name not in _KEPT]
        for pattern in patterns:
            start, end = _span(pattern)
            yield start, end, self.pattern(pattern)

    def pattern(self, pattern: Any) -> str:
        """A pattern with its text and its variants translated; it is as it was where none of them is changed."""
        start, end = _span(pattern)
        pieces, raw_parts, position = [], [], start
        for element in pattern.elements:
            if type(element).__name__ == "TextElement":
                pieces.append(Piece("text", _PARAGRAPH.sub("\0", element.value).replace("\n", " ").replace("\0", "\n")))
                continue
            raw = self.placeable(element)
            raw_parts += [self.text[position : element.span.start], raw]
            position = element.span.end
            pieces.append(Piece("void", raw))
        place = f"line {self.edits.line(start)}"
        line = line_of(joined(pieces), self.visitor, place)
        new_pieces = line.translated(self.visitor, place, "placeables") if line else None
        if new_pieces is None:
            return "".join([*raw_parts, self.text[position:end]])
        indent = _INDENT.search(self.text, start, end)
        indentation = "\n\n" + (indent.group(1) if indent else "    ")
        parts = [_escaped(p.value, indentation) if p.kind == "text" else p.value for p in new_pieces]
        new = "".join(parts)
        first_of_line = not self.text[self.text.rfind("\n", 0, start) + 1 : start].strip()
        return f'{{"{new[0]}"}}{new[1:]}' if first_of_line and new.startswith(_SPECIAL) else new

    def placeable(self, placeable: Any) -> str:
        start, end = placeable.span.start, placeable.span.end
        expression = placeable.expression
        if type(expression).__name__ != "SelectExpression":
            return self.text[start:end]
        return _spliced(self.text, start, end, self.variants(expression))

    def variants(self, select: Any) -> list[tuple[int, int, str]]:
        """The variants of a selector; those of a plural become those of the target language."""
        by_name = {v.key.name: v for v in select.variants if type(v.key).__name__ == "Identifier"}
        default = next(v for v in select.variants if v.default)
        if type(select.selector).__name__ not in ("VariableReference", "FunctionReference") or not plural_forms.is_group(set(by_name), self.options):
            return [(*_span(v.value), self.pattern(v.value)) for v in select.variants]
        if default is not by_name["other"] or _is_ordinal(select.selector):
            return [(*_span(v.value), self.pattern(v.value)) for v in select.variants]
        made = plural_forms.forms({name: _shown(v.value) for name, v in by_name.items()}, self.options)
        edits: list[tuple[int, int, str]] = []
        for variant in select.variants:
            name = variant.key.name if variant in by_name.values() else None
            if name is not None and name not in made:
                # With the white space before it.
                edits.append((self.margin(variant.span.start), variant.span.end, ""))
                continue
            base = by_name[made[name]] if name is not None else variant
            edits.append((*_span(variant.value), self.pattern(base.value)))
        for name in made:
            if name not in by_name:
                following = by_name[next(n for n in ORDER[ORDER.index(name) + 1 :] if n in by_name and n in made)]
                at = following.span.start
                margin = self.text[self.margin(at) : at]
                # The default's star stands in the margin.
                edits.append((at, at, f"{' ' if following.default else ''}[{name}] {self.pattern(by_name[made[name]].value)}{margin}"))
        return edits

    def margin(self, position: int) -> int:
        """Where the white space begins that ends here."""
        while position and self.text[position - 1].isspace():
            position -= 1
        return position


def _span(node: Any) -> tuple[int, int]:
    """Where a pattern's elements begin and end: that of a block begins with its white space."""
    return node.elements[0].span.start, node.elements[-1].span.end


def _is_ordinal(selector: Any) -> bool:
    named = getattr(getattr(selector, "arguments", None), "named", [])
    return any(argument.name.name == "type" for argument in named)


def _shown(pattern: Any) -> str:
    """A variant's text with its variables, so that it can be seen whether it says the number."""
    return "".join(e.value if type(e).__name__ == "TextElement" else f"{{{getattr(getattr(e.expression, 'id', None), 'name', '')}}}" for e in pattern.elements)


def _escaped(text: str, paragraph: str) -> str:
    """Text as Fluent writes it: braces in quotes, and paragraphs apart."""
    text = _BRACE.sub(lambda m: f'{{"{m.group()}"}}', text)
    first, *others = text.split("\n")
    return first + "".join(paragraph + (f'{{"{line[0]}"}}{line[1:]}' if line.startswith(_SPECIAL) else line) for line in others)


def _spliced(text: str, start: int, end: int, edits: list[tuple[int, int, str]]) -> str:
    parts, position = [], start
    for edit_start, edit_end, new in sorted(edits, key=lambda e: e[:2]):
        parts += [text[position:edit_start], new]
        position = edit_end
    return "".join([*parts, text[position:end]])


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    bom, text = read_utf8(source)
    check_name(visitor, options)
    options.bounds.check("tokens", text.count("\n"))
    parser: Any = need("fluent.syntax", "files").FluentParser()
    try:
        resource = _Resource(text, visitor, options)
        for entry in parser.parse(text).body:
            kind = type(entry).__name__
            if kind in ("Message", "Term"):
                for start, end, new in resource.entry(entry):
                    resource.edits.put(start, end, new)
            elif kind == "Junk":
                reason = entry.annotations[0].message if entry.annotations else "no message"
                visitor.unreadable(f"line {resource.edits.line(entry.span.start)}", f"not Fluent: {reason}")
    except RecursionError:
        raise CorpusError("placeables are nested too deep", place="file") from None
    out.write(bom + resource.edits.result().encode())
