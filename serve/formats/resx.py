""".NET's .resx and .resw: the values of texts are translated. Names, comments, other data and every other byte stay.

Data with a media type, or another type than a string's, is no text (pictures, sizes, serialised objects), nor is what Windows Forms' designer writes
(`>>button1.Name`).
"""

from __future__ import annotations

from typing import IO

from serve.formats.claims import check_name
from serve.formats.units import Options, Unit, UnitVisitor, changed
from serve.formats.xml_events import Event, Xml, children, raw_of, text_inside
from serve.formats.xml_text import written

_STRING = "System.String"


def _data(xml: Xml, events: list[Event], visitor: UnitVisitor) -> bytes:
    """A `<data>` with its value translated."""
    attributes = events[0].attributes
    name = attributes.get("name", "")
    values = children(events, "value")
    kind = attributes.get("type", _STRING)
    if kind.partition(",")[0].strip() != _STRING or "mimetype" in attributes or name.startswith((">>", "$this.Name")) or len(values) != 1:
        return raw_of(events)
    start, end = values[0]
    content = events[start + 1 : end]
    if any(e.kind == "start" or e.name == "#comment" for e in content):
        visitor.unreadable(f"data {name}", "elements or comments inside a value")
        return raw_of(events)
    new = changed(visitor, Unit(text_inside(content), f"data {name}"))
    return raw_of(events) if new is None else raw_of(events[: start + 1]) + written(xml, content, new) + raw_of(events[end:])


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    check_name(visitor, options)
    xml = Xml(source, options.bounds)
    for events, _ in xml.units_under("root", lambda event, depth: depth == 1 and event.local == "data", "this is not .resx", "<root>"):
        out.write(_data(xml, events, visitor) if len(events) > 1 else events[0].raw)
