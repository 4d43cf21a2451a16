"""The tags, comments, templates and texts of a page, in place, and which of its elements are translated. Reads strings.

Every character is looked at once or twice, however broken the page is.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict

from serve.formats.html_elements import ENDED_BY, INLINE, OPAQUE, SPELLED, VOID
from serve.formats.html_templates import CODE, START, Templates

# Elements whose content ends only at their own end tag: nothing in it is a tag.
RAW = frozenset(["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes", "noscript", "plaintext"])
_NEXT = re.compile(rf"<|{START}")
_TAG = re.compile(r"<(?:[!?]|/?[A-Za-z])")
_TAG_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_NAMED_BY_CODE = re.compile(r"</?(?:\{\{|\{%|\$\{)")
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.I) for name in sorted(RAW)}
_IN_TAG = re.compile(rf"[\"'>]|{START}")
_IN_VALUE = {quote: re.compile(rf"{quote}|{START}") for quote in "\"'"}
_DOCTYPE_SIGN = re.compile(r"[\[>]")
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=<>`]+)))?""")
_ENDERS = frozenset().union(*ENDED_BY.values())
# Elements that are looked at for the one that a start tag ends.
_DEEPEST = 50


@dataclasses.dataclass(slots=True)
class Event:
    """`kept`: an element whose content stays; `wanted`: one whose content is translated again inside such a one. `end`: the number of its last event."""

    kind: str
    name: str
    start: int
    kept: bool = False
    wanted: bool = False
    end: int = -1


def _tag_end(text: str, position: int, templates: Templates) -> int:
    """Where a tag ends; -1 where it does not. A `>` in a quoted value or in code is none."""
    while sign := _IN_TAG.search(text, position):
        if sign.group() == ">":
            return sign.end()
        position = sign.end()
        if sign.group() not in "\"'":
            position = max(position, templates.end(sign.start()))
        elif text[max(0, position - 50) : position - 1].rstrip().endswith("="):
            position = _value_end(text, position, sign.group(), templates)
            if position < 0:
                return -1
    return -1


def _value_end(text: str, position: int, quote: str, templates: Templates) -> int:
    while sign := _IN_VALUE[quote].search(text, position):
        position = sign.end()
        if sign.group() == quote:
            return position
        position = max(position, templates.end(sign.start()))
    return -1


def _translate(tag: str) -> str:
    """What a start tag says of its content: "no", "yes", or nothing."""
    if "translate" not in tag.lower():
        return ""
    attributes = {m.group(1).lower(): next(filter(None, m.groups()[1:]), "") for m in _ATTRIBUTE.finditer(tag)}
    if "translate" in attributes:
        return "no" if attributes["translate"].strip().lower() == "no" else "yes" if attributes["translate"].strip().lower() in ("yes", "") else ""
    return "no" if "notranslate" in attributes.get("class", "").split() else ""


def events_of(text: str, is_xml: bool) -> list[Event]:
    events: list[Event] = []
    templates = Templates(text)
    position = search_from = 0
    while position < len(text):
        found = _NEXT.search(text, max(position, search_from))
        start = found.start() if found else -1
        code_end = templates.end(start) if found else -1
        if start >= 0 and code_end < 0 and _NAMED_BY_CODE.match(text, start):
            code_end = _tag_end(text, start + 1, templates)
        if start >= 0 and code_end < 0 and not _TAG.match(text, start):
            # A less-than sign or a brace, not a tag.
            search_from = start + 1
            continue
        if start != position:
            events.append(Event("text", "", position))
        if start < 0:
            break
        follows = text[start + 1 : start + 2]
        if code_end >= 0:
            events.append(Event("border" if templates.is_border(start, code_end) else "template", "", start))
            position = code_end
        elif text.startswith("<!--", start):
            end = text.find("-->", start + 4) + 3
            events.append(Event("comment", "", start))
            position = end if end > 2 else len(text)
        elif is_xml and text.startswith("<![CDATA[", start):
            end = text.find("]]>", start + 9) + 3
            events.append(Event("cdata", "", start))
            position = end if end > 2 else len(text)
        elif follows in ("!", "?"):
            is_doctype = text[start : start + 9].lower() == "<!doctype"
            end = _doctype_end(text, start) if is_doctype else text.find(">", start) + 1
            events.append(Event("block" if is_doctype else "comment", "", start))
            position = end or len(text)
        else:
            is_end_tag = follows == "/"
            tag_name = _TAG_NAME.match(text, start + 1 + is_end_tag)
            name = tag_name.group().lower() if tag_name else ""
            position = _tag_end(text, start + 1, templates)
            if position < 0:
                # To a browser, too, an unclosed tag is no text.
                events.append(Event("comment", "", start))
                break
            is_void = name in VOID or text[position - 2] == "/"
            kind = "close" if is_end_tag else "void" if is_void else "open"
            said = _translate(text[start:position]) if kind == "open" else ""
            is_kept = kind == "open" and (said == "no" or (name in OPAQUE and not (said == "yes" and name in SPELLED)))
            events.append(Event(kind, name, start, is_kept, said == "yes"))
            if name in RAW and kind == "open":
                # A script of XHTML may stand in CDATA, where its own end tag is text.
                after_cdata = text.find("]]>", position) if is_xml and text[position : position + 200].lstrip(" \t\r\n/*").startswith("<![CDATA[") else -1
                close = _RAW_END[name].search(text, max(position, after_cdata))
                end = close.start() if close else len(text)
                events += _raw_events(text, position, end, templates if name == "title" else None)
                position = end
        search_from = position
    _set_ends(events)
    return events


def _raw_events(text: str, start: int, end: int, templates: Templates | None) -> list[Event]:
    """What stands in an element that has no tags: text, with code of templates in it where that is to be told."""
    events: list[Event] = []
    position = search_from = start
    while templates and (code := CODE.search(text, search_from, end)):
        code_end = templates.end(code.start())
        search_from = code.end()
        if 0 <= code_end <= end:
            events += [Event("text", "", position)] * (code.start() > position) + [Event("template", "", code.start())]
            position = search_from = code_end
    return events + [Event("text", "", position)] * (end > position)


def _doctype_end(text: str, start: int) -> int:
    """Where a doctype ends, which may declare entities; 0 where it does not."""
    sign = _DOCTYPE_SIGN.search(text, start)
    if sign and sign.group() == "[":
        close = text.find("]", sign.end())
        return text.find(">", close) + 1 if close >= 0 else text.find(">", start) + 1
    return sign.end() if sign else 0


def _set_ends(events: list[Event]) -> None:
    """Where each element ends: at its end tag, at the start tag of another that ends it, or where what it stands in does."""
    stack: list[int] = []
    # Where in the stack the elements are that are no part of a sentence or need no end tag, and where those of each name.
    blocks: list[int] = []
    places: dict[str, list[int]] = defaultdict(list)

    def pop(place: int, end: int) -> None:
        while len(stack) > place:
            event = events[stack.pop()]
            if event.end < 0:
                event.end = end
                places[event.name].pop()
            if blocks and blocks[-1] == len(stack):
                blocks.pop()

    for number, event in enumerate(events):
        name = event.name
        if event.kind in ("open", "void") and name in _ENDERS:
            ended = -1
            for place in reversed(blocks[-_DEEPEST:]):
                other = events[stack[place]].name
                if other not in ENDED_BY:
                    break
                if name in ENDED_BY[other]:
                    ended = place
            if ended >= 0:
                pop(ended, number - 1)
        if event.kind == "open":
            places[name].append(len(stack))
            if name not in INLINE or name in ENDED_BY:
                blocks.append(len(stack))
            stack.append(number)
        elif event.kind == "close" and places[name]:
            place = places[name][-1]
            if name in INLINE and any(b > place and events[stack[b]].name not in INLINE for b in blocks[-_DEEPEST:]):
                # What goes on around it stays open.
                places[name].pop()
                events[stack[place]].end = number
                continue
            pop(place + 1, number - 1)
            pop(place, number)
    pop(0, len(events) - 1)
