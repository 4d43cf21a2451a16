"""Qt's .ts: messages without a translation get one, still `type="unfinished"`. Finished, vanished and obsolete ones and every other byte stay.

A message with `numerus="yes"` gets as many forms as the target language has, all made of its source. `language` of <TS> becomes the target's where it is
missing.
"""

from __future__ import annotations

from typing import IO

from serve.formats.claims import Claim, new_code
from serve.formats.named_languages import is_template, posix_name
from serve.formats.units import Options, UnitVisitor
from serve.formats.xliff import indent_of, translated
from serve.formats.xml_events import Event, Xml, children, raw_of, text_inside
from serve.formats.xml_text import begins_as_xml
from tell.errors import CorpusError
from tell.languages import Language
from tell.text.plurals import gettext_categories

_GONE = ("vanished", "obsolete")
# Forms of languages of which Qt's table (QLocale's languages in qttools' numerus.cpp) has another number than gettext's.
_FORMS = {
    **dict.fromkeys(("hu", "tr", "fa", "tt"), 1),
    **dict.fromkeys(("ga", "gv", "mi", "mk", "ca", "fil", "tl"), 3),
    "mt": 4,
    "cy": 5,
}


def _forms(target: Language) -> int:
    """How many forms of a number Qt has for a language."""
    return _FORMS.get(target.tag.partition("-")[0]) or len(gettext_categories(target.tag) or ()) or 1


def _message(xml: Xml, events: list[Event], place: str, visitor: UnitVisitor, options: Options) -> bytes:
    """A `<message>` with its translation."""
    sources, targets = children(events, "source"), children(events, "translation")
    if not sources or len(targets) > 1:
        return raw_of(events)
    source, target = sources[0], targets[0] if targets else None
    kind = events[target[0]].attributes.get("type", "") if target else ""
    inside = events[target[0] + 1 : target[1]] if target else []
    if kind in _GONE:
        return raw_of(events)
    if any(e.local == "lengthvariant" for e in inside):
        if not text_inside(inside).strip():
            visitor.warn(place, "a translation in several lengths stays empty")
        return raw_of(events)
    forms = children(events[target[0] : target[1] + 1], "numerusform") if target else []
    numerus = events[0].attributes.get("numerus") == "yes"
    if numerus and not text_inside(inside).strip() and options.pair:
        count = max(_forms(options.pair.target), len(forms))
    else:
        count = max(len(forms), 1)
    has_translation = bool(text_inside(inside).strip())
    content = translated(xml, events[source[0] + 1 : source[1]], place, has_translation, visitor, around=set())
    if content is None:
        return raw_of(events)
    indent = indent_of(events, source[0])
    body = content[0]
    if numerus:
        step = indent + b"    " if indent.strip(b" \t") else b""
        body = b"".join(step + b"<numerusform>" + content[0] + b"</numerusform>" for _ in range(count)) + indent
    tag = xml.encode(xml.decode(events[target[0]].raw).removesuffix("/>").rstrip()) if target else b"<translation"
    tag = xml.with_attributes(tag if tag.endswith(b">") else tag + b">", {"type": "unfinished"})
    element = tag + body + b"</translation>"
    if target:
        return raw_of(events[: target[0]]) + element + raw_of(events[target[1] + 1 :])
    last = children(events)[-1][1]
    return raw_of(events[: last + 1]) + indent + element + raw_of(events[last + 1 :])


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    if not begins_as_xml(source):
        raise CorpusError("this is not Qt's .ts", place="line 1", found="no XML; perhaps TypeScript", valid="<TS>; --format text translates it line by line")
    xml = Xml(source, options.bounds)
    number = 0
    for events, depth in xml.units_under("TS", lambda event, depth: depth > 0 and event.local == "message", "this is not Qt's .ts", "<TS>"):
        event = events[0]
        if len(events) > 1:
            number += 1
            out.write(_message(xml, events, f"message {event.attributes.get('id') or number}", visitor, options))
        else:
            out.write(_labelled(xml, event, visitor, options) if event.kind == "start" and not depth else event.raw)


def _labelled(xml: Xml, event: Event, visitor: UnitVisitor, options: Options) -> bytes:
    """The tag of <TS> with the target's language."""
    old, source = event.attributes.get("language", ""), event.attributes.get("sourcelanguage", "")
    if source:
        new_code(Claim("source", source, "sourcelanguage"), visitor, options)
    if not is_template(old):
        # Where no source is named it may be that of the texts: a template, or the plural forms of the source language itself.
        code = new_code(Claim("target" if source else "source", old, "language"), visitor, options)
        return xml.with_attributes(event.raw, {"language": code}) if code else event.raw
    return xml.with_attributes(event.raw, {"language": posix_name(options.pair.target.tag)}) if options.pair else event.raw
