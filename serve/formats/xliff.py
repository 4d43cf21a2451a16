"""XLIFF 1.2 and 2: units without a translation get one, with its state set. Every other byte stays.

1.2: `<target state="needs-review-translation">`, for each segment where the file is segmented; 2: `<target>` in the segment, state `translated`. Units with
translate="no", approved or translated ones stay. Inline elements go along and come back; what is inside codes is not translated.
"""

from __future__ import annotations

import re
from typing import IO

from serve.formats.inline_tags import Piece, line_of
from serve.formats.units import Options, Replacement, Unit, UnitVisitor
from serve.formats.xml_events import XML_SPACE, Event, Xml, escaped, inner, raw_of, text_of
from tell.errors import CorpusError

# Inline elements with text in them; all others are codes, which go along as they are.
AROUND = {"g", "mrk", "pc", "hi"}
# States of what nobody has translated yet, of 1.2 and of 2.
OPEN = {"new", "needs-translation", "initial"}


def pieces_of(xml: Xml, events: list[Event], around: set[str] = AROUND) -> list[Piece]:
    """The content of an element as text and tags."""
    out: list[Piece] = []
    at, ends = 0, []
    while at < len(events):
        event = events[at]
        if event.kind == "text":
            if out and out[-1].kind == "text":
                out[-1] = Piece("text", out[-1].value + event.text)
            else:
                out.append(Piece("text", event.text))
        elif event.kind == "start":
            kept = event.local not in around or event.attributes.get("translate") == "no" or event.attributes.get("mtype") == "protected"
            if kept or not events[inner(events, at)].raw:
                end = inner(events, at)
                out.append(Piece("void", xml.decode(raw_of(events[at : end + 1]))))
                at = end
            else:
                ends.append(event.name)
                out.append(Piece("open", xml.decode(event.raw)))
        elif event.kind == "end":
            out.append(Piece("close", xml.decode(event.raw)))
        elif event.raw.strip() and not event.raw.startswith(b"<![CDATA[") and event.raw != b"]]>":
            out.append(Piece("void", xml.decode(event.raw)))
        at += 1
    return out


def translated(
    xml: Xml, events: list[Event], place: str, done: bool, visitor: UnitVisitor, around: set[str] = AROUND, kept: bool = True
) -> tuple[bytes, Replacement] | None:
    """An element's content translated; None where there is nothing to translate, or no translation. `kept`: white space in it means something."""
    run = pieces_of(xml, events, around)
    line = line_of(run)
    if line is None:
        return None
    text = line.text if kept else re.sub(r"\s+", " ", line.text)
    made = visitor.visit(Unit(text, place, done, line.tagged))
    if made is None or made.failed:
        return None
    if made.text == text:
        return raw_of(events), made
    pieces, placed = line.placed(made.text)
    if not placed:
        visitor.warn(place, "tags inside the text lost their places")
    written = (escaped(p.value) if p.kind == "text" else p.value for p in (*line.before, *pieces, *line.after))
    return xml.encode("".join(written)), made


def _child(events: list[Event], name: str) -> tuple[int, int] | None:
    """(start, end) of the first child with this local name of the element that `events` are."""
    at = 1
    while at < len(events) - 1:
        if events[at].kind == "start":
            end = inner(events, at)
            if events[at].local == name:
                return at, end
            at = end
        at += 1
    return None


def _template(xml: Xml, content: list[Event], place: str, done: bool, visitor: UnitVisitor, kept: bool) -> tuple[bytes, Replacement] | None:
    """The content of source or seg-source as that of a target: each marked segment translated by itself, or the whole where none is marked."""
    marks: list[tuple[int, int]] = []
    at = 0
    while at < len(content):
        if content[at].kind == "start" and content[at].local == "mrk" and content[at].attributes.get("mtype") == "seg":
            marks.append((at, inner(content, at)))
            at = marks[-1][1]
        at += 1
    if not marks:
        return translated(xml, content, place, done, visitor, kept=kept)
    out, at, last = [], 0, None
    missing = False
    for start, end in marks:
        out.append(raw_of(content[at : start + 1]))
        if any(map(str.isalpha, text_of(content[start + 1 : end]))):
            made = translated(xml, content[start + 1 : end], place, done, visitor, kept=kept)
            missing = missing or made is None
            last = made[1] if made else last
            out.append(made[0] if made else b"")
        else:
            out.append(raw_of(content[start + 1 : end]))
        at = end
    return None if missing or last is None else (b"".join([*out, raw_of(content[at:])]), last)


def _unit(xml: Xml, events: list[Event], place: str, visitor: UnitVisitor, version: int, kept: bool) -> bytes:
    """A trans-unit of 1.2, or a segment of 2, with its target."""
    source, target = _child(events, "source"), _child(events, "target")
    if source is None or events[source[1]].raw == b"":
        return raw_of(events)
    given = text_of(events[target[0] : target[1]]).strip() if target else ""
    state = (events[target[0]].attributes if target and version == 1 else events[0].attributes).get("state", "")
    done = events[0].attributes.get("approved") == "yes" or (bool(given) and state not in OPEN)
    of = _child(events, "seg-source") if version == 1 else None
    # A seg-source that holds nothing is no segmentation.
    base = of if of and events[of[1]].raw else source
    made = _template(xml, events[base[0] + 1 : base[1]], place, done, visitor, kept)
    if made is None:
        return raw_of(events)
    # In the file's own prefix and with the namespace that it declares.
    found = re.match(r"<(?:([\w.-]+):)?", xml.decode(events[source[0]].raw))
    prefix = f"{found.group(1)}:" if found and found.group(1) else ""
    marks = {"state": "needs-review-translation", "state-qualifier": "exact-match" if made[1].origin == "corpus" else "mt-suggestion"} if version == 1 else {}
    opened = events[target[0]].raw if target else xml.encode(f"<{prefix}target>")
    if target and not events[target[1]].raw:
        opened = xml.encode(re.sub(r"\s*/>$", ">", xml.decode(opened)))
    new = xml.with_attributes(opened, marks) + made[0] + xml.encode(f"</{prefix}target>")
    head = xml.with_attributes(events[0].raw, {"state": "translated"}) if version == 2 else events[0].raw
    if target:
        return head + raw_of(events[1 : target[0]]) + new + raw_of(events[target[1] + 1 :])
    after = base[1] if base[0] > source[0] else source[1]
    return head + raw_of(events[1 : after + 1]) + indent_of(events, source[0]) + new + raw_of(events[after + 1 :])


def indent_of(events: list[Event], at: int) -> bytes:
    """The white space before an element, so that what is added stands under it."""
    start = at
    while start and events[start - 1].kind == "text":
        start -= 1
    found = raw_of(events[start:at])
    return found if not text_of(events[start:at]).strip() else b""


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    xml = Xml(source)
    version = 0
    # For each element that is open: whether it is translated, and whether white space in it means something.
    open_: list[tuple[bool, bool]] = []
    held: list[Event] = []
    depth, number = 0, 0
    for event in xml:
        if held:
            held.append(event)
            depth += (event.kind == "start") - (event.kind == "end")
            if not depth:
                number += 1
                place = f"unit {held[0].attributes.get('id') or number}"
                out.write(_unit(xml, held, place, visitor, version, open_[-1][1]) if open_[-1][0] else raw_of(held))
                open_.pop()
                held = []
            continue
        raw = event.raw
        if event.kind == "start":
            if not open_:
                if event.local != "xliff":
                    raise CorpusError("this is not XLIFF", place="file", found=f"<{event.local}>", valid="<xliff>")
                version = 2 if event.attributes.get("version", "1.2").startswith("2") else 1
            translate, kept = open_[-1] if open_ else (True, False)
            translate = {"no": False, "yes": True}.get(event.attributes.get("translate", ""), translate)
            kept = {"preserve": True, "default": False}.get(event.attributes.get(XML_SPACE, ""), kept)
            open_.append((translate, kept))
            if event.local == ("trans-unit" if version == 1 else "segment"):
                held, depth = [event], 1
                continue
            language = {"file": "target-language"} if version == 1 else {"xliff": "trgLang"}
            name = language.get(event.local)
            if name and name not in event.attributes and options.pair:
                raw = xml.with_attributes(raw, {name: options.pair.target.tag})
        elif event.kind == "end":
            open_.pop()
        out.write(raw)
