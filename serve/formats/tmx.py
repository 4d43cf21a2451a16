"""TMX: translation units that lack the target language get it, beside the language they are translated from. Every other byte stays."""

from __future__ import annotations

from typing import IO

from serve.formats.units import MACHINE, Options, UnitVisitor
from serve.formats.xliff import indent_of, translated
from serve.formats.xml_events import XML_LANG, Event, Xml, inner, raw_of, text_inside
from tell.errors import BadInput, CorpusError, LanguageError
from tell.languages import Language, distance, language

# Elements with text of the sentence in them; bpt, ept, it, ph and ut hold codes of another program.
AROUND = {"hi"}


def _language(event: Event) -> Language | None:
    try:
        return language(event.attributes.get(XML_LANG) or event.attributes.get("lang") or "")
    except LanguageError:
        return None


def _far(candidate: Language | None, expected: Language) -> int | None:
    return None if candidate is None else distance(expected, candidate)


def _unit(xml: Xml, events: list[Event], place: str, visitor: UnitVisitor, options: Options) -> bytes:
    pair = options.pair
    assert pair is not None
    sides: dict[str, tuple[int, int]] = {}
    nearest: dict[str, int] = {}
    position = 1
    while position < len(events) - 1:
        if events[position].kind == "start":
            seg_end = inner(events, position)
            if events[position].local == "tuv":
                side_language = _language(events[position])
                for name, expected in (("source", pair.source), ("target", pair.target)):
                    if (far := _far(side_language, expected)) is not None and far < nearest.get(name, far + 1):
                        sides[name], nearest[name] = (position, seg_end), far
            position = seg_end
        position += 1
    if "source" not in sides:
        return raw_of(events)
    source_start, source_end = sides["source"]
    seg_start = next((i for i in range(source_start, source_end) if events[i].kind == "start" and events[i].local == "seg"), None)
    if seg_start is None:
        return raw_of(events)
    seg_end = inner(events, seg_start)
    old_target = sides.get("target")
    has_translation = bool(old_target and text_inside(events[old_target[0] : old_target[1]]).strip())
    translated_seg = translated(xml, events[seg_start + 1 : seg_end], place, has_translation, visitor, AROUND)
    if translated_seg is None:
        return raw_of(events)
    name = "xml:lang" if XML_LANG in events[source_start].attributes else "lang"
    # The source's own notes and dates are not the translation's.
    # By this mark `corpus build` tells it from what a person has translated; a tool that changes it enters who has.
    made = "" if translated_seg[1].origin == "corpus" else f' creationid="{MACHINE}"'
    new_target = xml.encode(f'<tuv {name}="{pair.target.tag}"{made}><seg>') + translated_seg[0] + xml.encode("</seg></tuv>")
    if old_target:
        return raw_of(events[: old_target[0]]) + new_target + raw_of(events[old_target[1] + 1 :])
    return raw_of(events[: source_end + 1]) + indent_of(events, source_start) + new_target + raw_of(events[source_end + 1 :])


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    if options.pair is None:
        raise BadInput("a TMX is translated from one of its languages into another", valid="--from and --to")
    xml = Xml(source, options.bounds)
    number = 0
    root = ""

    def is_unit(event: Event) -> bool:
        return bool(root) and event.local == "tu"

    for events in xml.units(is_unit):
        event = events[0]
        if event.kind == "start" and not root:
            root = event.local
            if root != "tmx":
                raise CorpusError("this is not TMX", place="file", found=f"<{root}>", valid="<tmx>")
        if len(events) > 1:
            number += 1
            out.write(_unit(xml, events, f"unit {number}", visitor, options))
        else:
            out.write(event.raw)
