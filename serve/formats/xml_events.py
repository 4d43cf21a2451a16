"""XML as a stream of events, each with its own bytes: joined, they are the file. So everything that is not changed keeps its quotes and line ends.

Reads an open binary file. By expat, which tells where in the file each event is; a tree written out again has other quotes, `<x />` as `<x/>`, and no CR.
The rules are those of tell.text.safe_xml: a document that defines entities is refused, and nothing is fetched.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Literal
from xml.parsers import expat

from serve.formats.units import Bounds
from tell.errors import BadInput, CorpusError
from tell.text.safe_xml import Forbidden, forbidden_in, xml_encoding

BLOCK = 1 << 16
XML_LANG = "http://www.w3.org/XML/1998/namespace lang"
XML_SPACE = "http://www.w3.org/XML/1998/namespace space"
_PREFIX = re.compile(r"<([\w.-]+:)?")
_LONGEST_PREFIX = 1000
_ATTRIBUTE = re.compile(r"(?<=\s)([^\s=\"'<>/]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")
# Characters that XML 1.0 cannot hold, even escaped.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(slots=True)
class Event:
    """`name` is `uri local`, or the local name alone where there is no namespace; `text` is decoded. An element without content is a start and an end
    whose `raw` is empty. `span`: how many events after a start its end comes."""

    kind: Literal["start", "end", "text", "other"]
    name: str
    attributes: dict[str, str]
    text: str
    raw: bytes
    span: int = 0

    @property
    def local(self) -> str:
        return self.name.rpartition(" ")[2]


class Xml:
    """The events of a file, and how its bytes are read and written."""

    def __init__(self, source: IO[bytes], bounds: Bounds, place: str = "file", forbidden: Forbidden | None = None):
        """With `forbidden`, what is no character of XML does not end the reading; `damaged` tells which parts have it."""
        self.source, self.bounds, self.place, self.forbidden = source, bounds, place, forbidden
        self.encoding = "utf-8"

    def damaged(self, events: list[Event]) -> str | None:
        """What there is in the events that is no character of XML; None where there is nothing."""
        if self.forbidden is None or not self.forbidden.count:
            return None
        return forbidden_in(raw_of(events), self.encoding)

    def decode(self, raw: bytes) -> str:
        return raw.decode(self.encoding)

    def encode(self, text: str) -> bytes:
        """Markup as bytes; characters that the encoding lacks become references."""
        return text.encode(self.encoding, "xmlcharrefreplace")

    def __iter__(self) -> Iterator[Event]:
        """Raises CorpusError where the file is not well-formed or defines entities, TooLarge where it is nested too deep or has too many tags."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = False
        # A BOM is no event of its own.
        pending: list[tuple[int, Event]] = [(0, Event("other", "", {}, "", b""))]
        count = 0
        # The elements that are open, each with its number among the events.
        open_elements: list[tuple[Event, int]] = []

        def note(event: Event) -> None:
            nonlocal count
            count += 1
            pending.append((parser.CurrentByteIndex, event))

        def start(name: str, attributes: dict[str, str]) -> None:
            event = Event("start", name, attributes, "", b"")
            open_elements.append((event, count))
            if len(open_elements) > self.bounds.nesting:
                self.bounds.check("nesting", len(open_elements), f"{self.place}, line {parser.CurrentLineNumber}")
            note(event)

        def end(name: str) -> None:
            event, number = open_elements.pop()
            event.span = count - number
            note(Event("end", name, {}, "", b""))

        def declared(version: str, encoding: str | None, standalone: int) -> None:
            if encoding and not self.encoding.startswith("utf-16"):
                self.encoding = encoding.lower()
            note(Event("other", "", {}, "", b""))

        def entity(name: str, *rest: Any) -> None:
            raise self._error("the XML defines entities, which are not read", parser, name, "a file without <!ENTITY ...>")

        parser.StartElementHandler, parser.EndElementHandler, parser.XmlDeclHandler, parser.EntityDeclHandler = start, end, declared, entity
        parser.CharacterDataHandler = lambda text: note(Event("text", "", {}, text, b""))
        parser.CommentHandler = lambda text: note(Event("other", "#comment", {}, "", b""))
        parser.DefaultHandler = lambda text: note(Event("other", "", {}, "", b""))
        unread, unread_at = b"", 0
        try:
            while True:
                block = self.source.read(BLOCK)
                if not unread_at and not unread:
                    self._sniff(block)
                unread += block
                self.bounds.check("tag", len(unread) - len(block), self.place)
                parser.Parse(self.forbidden.feed(block, not block) if self.forbidden else block, not block)
                self.bounds.check("tokens", count, self.place)
                if not block:
                    break
                # The end of the last one is where the next will begin.
                for (start_byte, event), (next_byte, _) in itertools.pairwise(pending):
                    event.raw = unread[start_byte - unread_at : next_byte - unread_at]
                    yield event
                if pending:
                    unread, unread_at, pending = unread[pending[-1][0] - unread_at :], pending[-1][0], pending[-1:]
        except expat.ExpatError as e:
            message = expat.errors.messages.get(e.code, "") if e.code else ""
            raise CorpusError("this is not well-formed XML", place=f"{self.place}, line {e.lineno}", found=message, valid="an XML file that is whole") from None
        except (LookupError, UnicodeError):
            raise CorpusError("this encoding is not supported", place=self.place, found=self.encoding, valid="UTF-8") from None
        pending.append((unread_at + len(unread), Event("other", "", {}, "", b"")))
        for (start_byte, event), (next_byte, _) in itertools.pairwise(pending):
            event.raw = unread[start_byte - unread_at : next_byte - unread_at]
            yield event

    def units(self, starts: Callable[[Event], bool]) -> Iterator[list[Event]]:
        """The events in lists: an element for which `starts` holds as a whole, every other event by itself. Raises TooLarge for one with too many parts."""
        unit: list[Event] = []
        depth = 0
        for event in self:
            if not unit and not (event.kind == "start" and starts(event)):
                yield [event]
                continue
            unit.append(event)
            if len(unit) > self.bounds.elements:
                self.bounds.check("elements", len(unit), self.place)
            depth += (event.kind == "start") - (event.kind == "end")
            if not depth:
                yield unit
                unit = []

    def units_under(self, root: str, starts: Callable[[Event, int], bool], other: str, valid: str) -> Iterator[tuple[list[Event], int]]:
        """`units`, each with the number of elements that it is in, which `starts` is told too.

        Raises CorpusError with `other` and `valid` where the outermost element is not `root`."""
        around: list[Event] = []
        for events in self.units(lambda event: starts(event, len(around))):
            event, alone = events[0], len(events) == 1
            if alone and event.kind == "start" and not around and event.local != root:
                raise CorpusError(other, place="file", found=f"<{event.local}>", valid=valid)
            if alone and event.kind == "end":
                around.pop()
            yield events, len(around)
            if alone and event.kind == "start":
                around.append(event)

    def prefix_of(self, tag: bytes) -> str:
        """The prefix of a tag's name with its colon; empty where it has none."""
        prefix = _PREFIX.match(tag[:_LONGEST_PREFIX].decode(self.encoding, "ignore"))
        return (prefix.group(1) or "") if prefix else ""

    def _sniff(self, start: bytes) -> None:
        self.encoding = xml_encoding(start) or self.encoding

    def _error(self, thing: str, parser: Any, found: str, valid: str) -> BadInput:
        return CorpusError(thing, place=f"{self.place}, line {parser.CurrentLineNumber}", found=found, valid=valid)

    def with_attributes(self, tag: bytes, values: Mapping[str, str | None]) -> bytes:
        """A start tag with these attributes, by their names in the file: set where they are there, added at the end where they are not; None: without it."""
        text = self.decode(tag)
        for name, value in values.items():
            attribute = "" if value is None else f'{name}="{html.escape(value)}"'
            old_attribute = next((match for match in _ATTRIBUTE.finditer(text) if match.group(1) == name), None)
            if old_attribute:
                before = text[: old_attribute.start()]
                text = (before if attribute else before.rstrip()) + attribute + text[old_attribute.end() :]
            elif attribute:
                close = len(text) - (2 if text.endswith("/>") else 1)
                text = f"{text[:close].rstrip()} {attribute}{text[close:]}"
        return self.encode(text)


def escaped(text: str) -> str:
    """Text as it is written between tags. Characters that XML cannot hold become U+FFFD."""
    return html.escape(NOT_XML.sub("\ufffd", text), quote=False).replace("\r", "&#13;")


def inner(events: list[Event], start: int) -> int:
    """Where the element that starts at `start` ends, in events that follow one another in the file."""
    return start + events[start].span


def children(element: list[Event], name: str = "") -> list[tuple[int, int]]:
    """(start, end) of the children of an element: of those with this local name, or of all."""
    found, index = [], 1
    while index < len(element) - 1:
        if element[index].kind == "start":
            end = inner(element, index)
            if name in ("", element[index].local):
                found.append((index, end))
            index = end
        index += 1
    return found


def raw_of(events: list[Event]) -> bytes:
    return b"".join(e.raw for e in events)


def text_inside(events: list[Event]) -> str:
    return "".join(e.text for e in events)
