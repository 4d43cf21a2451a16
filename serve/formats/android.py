"""Android's strings.xml: strings, arrays and plurals. Names, comments, `translatable="false"`, references (`@string/x`) and every other byte stay.

Android's escapes (`\\'`, `\\n`, `\\u0020`) and quotes are decoded and written again; tags inside a text go along, and `<xliff:g>` stays with its content.
Quantities become those that the target language has by CLDR.
"""

from __future__ import annotations

import itertools
import re
from typing import IO

from serve.formats import plural_forms
from serve.formats.claims import Claim, claim_of_path, new_code
from serve.formats.inline_tags import Line, Piece, line_of
from serve.formats.units import Options, Replacement, Unit, UnitVisitor
from serve.formats.xliff import indent_of, pieces_of
from serve.formats.xml_events import Event, Xml, children, raw_of, text_inside
from serve.formats.xml_text import as_before, is_cdata, written
from tell.text.normalise import halves_joined

# Elements of a text with text in them; others, and <xliff:g>, are kept whole.
_AROUND = {
    *("b", "i", "u", "s", "em", "strong", "big", "small", "sup", "sub", "strike", "tt", "li", "ul", "ol", "marquee", "a", "font", "annotation", "cite", "dfn"),
    *("blockquote", "p", "div", "span", "h1", "h2", "h3", "h4", "h5", "h6"),
}
_KINDS = ("string", "string-array", "plurals")
_LOCALE = "http://schemas.android.com/tools locale"
_SPACE = re.compile(r"[ \t\n\r]+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.)|\Z)|\"", re.S)
_CONTROL = {"n": "\n", "t": "\t"}
_BACK = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", '"': '\\"'}
_REFERENCE = re.compile(r"[@?](?:\+?[\w.]+:)?[\w.]+/[\w.]+|[@?](?:null|empty)")
_DOUBLE = re.compile(r" (?= )")


def _quoted(raw: str) -> bool:
    """Whether a text is in quotes, in which white space stays as it is."""
    text = raw.strip()
    return len(text) > 1 and text[0] == '"' and text[-1] == '"' and text[-2] != "\\" and text.count('"') - text.count('\\"') == 2


def unescape(raw: str) -> str:
    """The text that Android shows. White space is one space, but in quotes."""
    text = raw.strip()[1:-1] if _quoted(raw) else _SPACE.sub(" ", raw).strip(" ")
    return _decoded(text)


def _decoded(raw: str) -> str:
    """Escapes as characters; quotes that are not escaped show nothing. Half a character is U+FFFD."""
    text = _ESCAPE.sub(lambda m: chr(int(m.group(1), 16)) if m.group(1) else _CONTROL.get(m.group(2) or "", m.group(2) or ""), raw)
    return halves_joined(text)


def _written(text: str, quoted: bool, first: bool) -> str:
    """A text with Android's escapes. `first`: at the beginning of the string, where `@` and `?` mean something."""
    new = "".join(_BACK.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text)
    if quoted:
        return new
    new = new.replace("'", "\\'")
    new = _DOUBLE.sub("\\\\u0020", new)
    return "\\" + new if first and new[:1] in ("@", "?") else new


class _Strings:
    def __init__(self, xml: Xml, visitor: UnitVisitor, options: Options):
        self.xml, self.visitor, self.options = xml, visitor, options

    def content(self, events: list[Event], place: str) -> tuple[str, Line | None]:
        """The text of an element's content as a unit has it, and as a line where there are tags inside. Empty where there is nothing to translate."""
        if any(e.kind == "start" or e.name == "#comment" for e in events):
            pieces = pieces_of(self.xml, events, _AROUND)
            line = line_of([Piece("text", _in_line(p.value)) if p.kind == "text" else p for p in pieces], self.visitor, place)
            return (line.text if line else ""), line
        raw = text_inside(events)
        return ("" if _REFERENCE.fullmatch(raw.strip()) else unescape(raw)), None

    def filled(self, events: list[Event], text: str, line: Line | None, new: str, place: str) -> bytes:
        """The content with another text."""
        if new == text:
            return raw_of(events)
        if line is None:
            raw = text_inside(events)
            quoted = _quoted(raw)
            core = _written(new, quoted, True)
            core = f'"{core}"' if quoted else _edges(core)
            if is_cdata(events):
                return written(self.xml, events, core)
            before, after = raw[: len(raw) - len(raw.lstrip())], raw[len(raw.rstrip()) :] if raw.strip() else ""
            return self.xml.encode(as_before(self.xml, events, before + core + after))
        pieces, placed = line.placed(new)
        if not placed:
            self.visitor.warn(place, "tags inside the text lost their places")
        whole = [*line.before, *pieces, *line.after]
        parts = [as_before(self.xml, events, _written(p.value, False, i == 0)) if p.kind == "text" else p.value for i, p in enumerate(whole)]
        return self.xml.encode("".join(parts))

    def one(self, events: list[Event], place: str) -> bytes:
        """An element `<string>` or `<item>`."""
        if not events[-1].raw:
            return raw_of(events)
        text, line = self.content(events[1:-1], place)
        if not text.strip():
            return raw_of(events)
        if "\ufffd" in text and "\ufffd" not in text_inside(events):
            self.visitor.unreadable(place, "half a character (a lone surrogate)")
            return raw_of(events)
        replacement: Replacement | None = self.visitor.visit(Unit(text, place, tagged=line is not None and line.tagged))
        if replacement is None or replacement.failed:
            return raw_of(events)
        return events[0].raw + self.filled(events[1:-1], text, line, replacement.text, place) + events[-1].raw

    def array(self, events: list[Event], place: str) -> bytes:
        parts, position = [], 0
        for number, (start, end) in enumerate(children(events, "item")):
            parts += [raw_of(events[position:start]), self.one(events[start : end + 1], f"{place}[{number}]")]
            position = end + 1
        return b"".join([*parts, raw_of(events[position:])])

    def plurals(self, events: list[Event], place: str) -> bytes:
        items = {events[start].attributes.get("quantity", ""): (start, end) for start, end in children(events, "item")}
        contents = {name: self.content(events[start + 1 : end], place) for name, (start, end) in items.items()}
        texts = {name: text for name, (text, _) in contents.items()}
        if not plural_forms.is_group(set(items), self.options) or len(items) != len(children(events, "item")) or not all(t.strip() for t in texts.values()):
            return self.array(events, place)
        made = plural_forms.forms(texts, self.options)
        places = {name: f"{place} ({name})" for name in items}
        result = plural_forms.translations(texts, places, self.visitor, self.options)
        if result is None:
            return raw_of(events)
        rows = []
        for name, new in result.items():
            base = made[name]
            start, end = items[base]
            tag = events[start].raw if name == base else self.xml.with_attributes(events[start].raw, {"quantity": name})
            rows.append(tag + self.filled(events[start + 1 : end], *contents[base], new, places[base]) + events[end].raw)
        ordered = sorted(items.values())
        if list(result) == list(items):
            # What stands between the items, comments too, stays.
            gaps = [raw_of(events[a[1] + 1 : b[0]]) for a, b in itertools.pairwise(ordered)]
            body = b"".join(part for pair in zip(rows, [*gaps, b""], strict=True) for part in pair)
        else:
            indent = indent_of(events, ordered[0][0])
            body = indent.join(rows)
        return raw_of(events[: ordered[0][0]]) + body + raw_of(events[ordered[-1][1] + 1 :])


def _in_line(raw: str) -> str:
    """A stretch of text beside tags: white space is one space, at its ends too."""
    return _decoded(_SPACE.sub(" ", raw))


def _edges(core: str) -> str:
    """Spaces at the ends of a text as escapes: Android drops others."""
    stripped = core.strip(" ")
    if not stripped or stripped == core:
        return core
    return "\\u0020" * (len(core) - len(core.lstrip(" "))) + stripped + "\\u0020" * (len(core) - len(core.rstrip(" ")))


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    if claim := claim_of_path(options.name):
        new_code(claim, visitor, options)
    xml = Xml(source, options.bounds)
    strings = _Strings(xml, visitor, options)
    translate = True
    valid = "<resources>; a file of another format with its ending"
    for events, depth in xml.units_under(
        "resources", lambda event, depth: depth == 1 and (event.local in _KINDS or _is_string(event)), "this XML is no Android strings.xml", valid
    ):
        event = events[0]
        if len(events) > 1:
            place = f"{event.local} {event.attributes.get('name', '')}"
            if not translate or event.attributes.get("translatable") == "false":
                out.write(raw_of(events))
            elif event.local in ("string", "item"):
                out.write(strings.one(events, place))
            elif event.local == "plurals":
                out.write(strings.plurals(events, place))
            else:
                out.write(strings.array(events, place))
        elif event.kind == "start" and not depth:
            translate = event.attributes.get("translatable") != "false"
            out.write(_labelled(xml, event, visitor, options))
        else:
            out.write(event.raw)


def _is_string(event: Event) -> bool:
    """Whether an element is a string by its type: `<item type="string" name="a">`."""
    return event.local == "item" and event.attributes.get("type") == "string"


def _labelled(xml: Xml, event: Event, visitor: UnitVisitor, options: Options) -> bytes:
    """The tag of <resources>, whose `tools:locale` becomes the target's."""
    old = event.attributes.get(_LOCALE, "") if b"tools:locale" in event.raw else ""
    code = new_code(Claim("source", old, "tools:locale"), visitor, options) if old else None
    return xml.with_attributes(event.raw, {"tools:locale": code}) if code else event.raw
