"""TMX: translation units that lack the target language get it, beside the language they are translated from. Every other byte stays.

A unit without a segment, or with a character that XML forbids, is reported, and stays; a memory without the source language is refused.
"""

from __future__ import annotations

from collections import Counter
from typing import IO

from serve.formats.units import MACHINE, Options, UnitVisitor
from serve.formats.xliff import indent_of, translated
from serve.formats.xml_events import XML_LANG, Event, Xml, children, inner, raw_of, text_inside
from tell.errors import BadInput, CorpusError, LanguageError
from tell.languages import Language, LanguagePair, distance, language
from tell.text.safe_xml import Forbidden

# Elements with text of the sentence in them, also those that tools borrow from XLIFF; bpt, ept, it, ph and ut hold codes of another program.
AROUND = {"hi", "g", "mrk", "pc"}


def _language(event: Event) -> Language | None:
    try:
        return language((event.attributes.get(XML_LANG) or event.attributes.get("lang") or "")[:60])
    except LanguageError:
        return None


def _seg(events: list[Event], start: int, end: int) -> int | None:
    """Where the segment of a variant begins."""
    return next((i for i in range(start, end) if events[i].kind == "start" and events[i].local == "seg"), None)


def _sides(events: list[Event], options: Options, found: Counter[str]) -> dict[str, tuple[int, int]]:
    """(start, end) of the variants of a unit that are nearest to the two languages; those without a segment only where there is no other."""
    assert options.pair is not None
    sides: dict[str, tuple[int, int]] = {}
    nearest: dict[str, tuple[bool, int]] = {}
    for start, end in children(events, "tuv"):
        label = _language(events[start])
        found[label.tag if label else "?"] += 1
        for name, expected in (("source", options.pair.source), ("target", options.pair.target)):
            far = None if label is None else distance(expected, label)
            if far is not None and (rank := (_seg(events, start, end) is None, far)) < nearest.get(name, (True, far + 1)):
                sides[name], nearest[name] = (start, end), rank
    return sides


def _unit(xml: Xml, events: list[Event], sides: dict[str, tuple[int, int]], place: str, visitor: UnitVisitor, pair: LanguagePair) -> bytes:
    if damage := xml.damaged(events):
        visitor.unreadable(place, f"a character that XML forbids: {damage}")
        return raw_of(events)
    source_start, source_end = sides["source"]
    seg_start = _seg(events, source_start, source_end)
    if seg_start is None:
        visitor.unreadable(place, f"the <tuv> of {pair.source.tag} has no <seg>")
        return raw_of(events)
    seg_end = inner(events, seg_start)
    old_target = sides.get("target")
    old_seg = _seg(events, *old_target) if old_target else None
    has_translation = old_seg is not None and bool(text_inside(events[old_seg : inner(events, old_seg)]).strip())
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
    pair = options.pair
    if pair is None:
        raise BadInput("a TMX is translated from one of its languages into another", valid="--from and --to")
    xml = Xml(source, options.bounds, forbidden=Forbidden())
    number = with_source = 0
    root = ""
    found: Counter[str] = Counter()

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
            sides = _sides(events, options, found)
            with_source += "source" in sides
            out.write(_unit(xml, events, sides, f"unit {number}", visitor, pair) if "source" in sides else raw_of(events))
        else:
            out.write(event.raw)
    if found and not with_source:
        languages = ", ".join(f"{tag} ({count:,})" for tag, count in found.most_common(12))
        raise CorpusError("no unit is in the source language", place="file", found=languages, valid=pair.source.tag)
