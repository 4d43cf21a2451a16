"""XLIFF 1.2 and 2: units without a translation get one, with its state set. Every other byte stays.

1.2: `<target state="needs-review-translation">`, for each segment where the file is segmented; 2: `<target>` in the segment, state `translated` with
the subState `tellmt:mt`. Units with translate="no", approved, locked or translated ones stay, and so do those of files in it that are of other languages.
Inline elements go along and come back; what is inside codes is not translated. A unit with a character that XML forbids is reported, and stays.
"""

from __future__ import annotations

import re
from typing import IO

from serve.formats.inline_tags import Piece, joined, line_of
from serve.formats.named_languages import is_of, is_template, other_languages
from serve.formats.units import MACHINE, Options, Replacement, Unit, UnitVisitor
from serve.formats.xml_events import XML_SPACE, Event, Xml, escaped, inner, raw_of, text_inside
from tell.errors import CorpusError
from tell.text.safe_xml import Forbidden

# Inline elements with text in them; all others are codes, which go along as they are.
AROUND = {"g", "mrk", "pc", "hi"}
# States whose target is no translation yet, in 1.2 and 2: `needs-l10n` is of text and what is not text.
OPEN = {"new", "needs-translation", "needs-l10n", "initial"}
# Where only what is not text is to be adapted, a target that is the source says that nobody has translated the text.
COPIED = {"needs-adaptation"}
# States after which what is not text is still to be looked at.
ALSO_NOT_TEXT = {"needs-l10n", "needs-adaptation", "needs-review-l10n", "needs-review-adaptation"}
_SPACE = re.compile(r"\s+")


def pieces_of(xml: Xml, events: list[Event], around: set[str] = AROUND) -> list[Piece]:
    """The content of an element as text and tags."""
    pieces: list[Piece] = []
    position = 0
    while position < len(events):
        event = events[position]
        if event.kind == "text":
            pieces.append(Piece("text", event.text))
        elif event.kind == "start":
            opaque = event.local not in around or event.attributes.get("translate") == "no" or event.attributes.get("mtype") == "protected"
            if opaque or not events[inner(events, position)].raw:
                end = inner(events, position)
                pieces.append(Piece("void", xml.decode(raw_of(events[position : end + 1]))))
                position = end
            else:
                pieces.append(Piece("open", xml.decode(event.raw)))
        elif event.kind == "end":
            pieces.append(Piece("close", xml.decode(event.raw)))
        elif event.raw.strip() and not event.raw.startswith(b"<![CDATA[") and event.raw != b"]]>":
            pieces.append(Piece("void", xml.decode(event.raw)))
        position += 1
    return joined(pieces)


def translated(
    xml: Xml, events: list[Event], place: str, has_translation: bool, visitor: UnitVisitor, around: set[str] = AROUND, keep_space: bool = True
) -> tuple[bytes, Replacement] | None:
    """An element's content translated; None where there is nothing to translate, or no translation. `keep_space`: white space in it means something."""
    pieces_of_content = pieces_of(xml, events, around)
    line = line_of(pieces_of_content, visitor, place)
    if line is None:
        return None
    text = line.text if keep_space else _SPACE.sub(" ", line.text)
    replacement = visitor.visit(Unit(text, place, has_translation, line.tagged))
    if replacement is None or replacement.failed:
        return None
    if replacement.text == text:
        return raw_of(events), replacement
    pieces, placed = line.placed(replacement.text)
    if not placed:
        visitor.warn(place, "tags inside the text lost their places")
    content = (escaped(p.value) if p.kind == "text" else p.value for p in (*line.before, *pieces, *line.after))
    return xml.encode("".join(content)), replacement


def _child(events: list[Event], name: str) -> tuple[int, int] | None:
    """(start, end) of the first child with this local name of the element that `events` are."""
    position = 1
    while position < len(events) - 1:
        if events[position].kind == "start":
            end = inner(events, position)
            if events[position].local == name:
                return position, end
            position = end
        position += 1
    return None


def _segments(content: list[Event]) -> list[tuple[int, int]]:
    """(start, end) of the marked segments in a source, seg-source or target."""
    segments: list[tuple[int, int]] = []
    position = 0
    while position < len(content):
        if content[position].kind == "start" and content[position].local == "mrk" and content[position].attributes.get("mtype") == "seg":
            segments.append((position, inner(content, position)))
            position = segments[-1][1]
        position += 1
    return segments


# The content of a target, and the replacement that it was made of.
_Content = tuple[bytes, Replacement]


def _template(
    xml: Xml, content: list[Event], old: list[Event], place: str, has_translation: bool, is_open: bool, visitor: UnitVisitor, keep_space: bool
) -> _Content | None:
    """The content of source or seg-source as that of a target: each marked segment translated by itself, or the whole where none is marked.

    `old` is the content of the target that is there: its segments with text stay, unless the unit `is_open`.
    """
    segments = _segments(content)
    if not segments:
        return translated(xml, content, place, has_translation, visitor, keep_space=keep_space)
    old_segments = {old[start].attributes.get("mid", ""): old[start + 1 : end] for start, end in _segments(old)}
    # Not segmented, or in another way: it is one translation.
    apart = bool(old_segments) and not is_open and old_segments.keys() <= {content[start].attributes.get("mid", "") for start, _ in segments}
    target, position, last_replacement = [], 0, None
    missing = False
    for start, end in segments:
        target.append(raw_of(content[position : start + 1]))
        old_segment = old_segments.get(content[start].attributes.get("mid", ""), []) if apart else []
        kept = bool(text_inside(old_segment).strip())
        if any(map(str.isalpha, text_inside(content[start + 1 : end]))):
            has_own = has_translation and kept if apart else has_translation
            translated_segment = translated(xml, content[start + 1 : end], place, has_own, visitor, keep_space=keep_space)
            missing = missing or (translated_segment is None and not kept)
            last_replacement = translated_segment[1] if translated_segment else last_replacement
            target.append(translated_segment[0] if translated_segment else raw_of(old_segment))
        else:
            target.append(raw_of(old_segment) if kept else raw_of(content[start + 1 : end]))
        position = end
    return None if missing or last_replacement is None else (b"".join([*target, raw_of(content[position:])]), last_replacement)


def _locked(event: Event) -> bool:
    """Whether a tool says that nobody may change the unit, in an attribute of its own (memoQ: mq:locked="locked")."""
    return any(name.endswith(" locked") and value.lower() in ("locked", "true", "yes", "1") for name, value in event.attributes.items())


def _state_attributes(version: int, state: str, replacement: Replacement) -> dict[str, str | None]:
    """What the target (1.2) or the segment (2) says of itself from now on; None: the attribute goes."""
    from_corpus = replacement.origin == "corpus"
    if version == 1:
        new_state = "needs-review-l10n" if state in ALSO_NOT_TEXT else "needs-review-translation"
        return {"state": new_state, "state-qualifier": "exact-match" if from_corpus else "mt-suggestion"}
    # By its subState `corpus build` tells a segment from what a person has translated. One that goes with another state goes with it.
    return {"state": "translated", "subState": None if from_corpus else f"{MACHINE}:mt"}


def _unit(xml: Xml, events: list[Event], place: str, visitor: UnitVisitor, version: int, keep_space: bool) -> bytes:
    """A trans-unit of 1.2, or a segment of 2, with its target."""
    source, target = _child(events, "source"), _child(events, "target")
    if source is None or events[source[1]].raw == b"":
        return raw_of(events)
    if damage := xml.damaged(events):
        visitor.unreadable(place, f"a character that XML forbids: {damage}")
        return raw_of(events)
    old_translation = text_inside(events[target[0] : target[1]]).strip() if target else ""
    state = (events[target[0]].attributes if target and version == 1 else events[0].attributes).get("state", "").lower()
    copied = state in COPIED and old_translation == text_inside(events[source[0] : source[1]]).strip()
    is_open = state in OPEN or copied
    has_translation = events[0].attributes.get("approved") == "yes" or _locked(events[0]) or (bool(old_translation) and not is_open)
    seg_source = _child(events, "seg-source") if version == 1 else None
    # A seg-source that holds nothing is no segmentation.
    segmented = seg_source if seg_source and events[seg_source[1]].raw else source
    content, old = events[segmented[0] + 1 : segmented[1]], events[target[0] + 1 : target[1]] if target else []
    translated_content = _template(xml, content, old, place, has_translation, is_open, visitor, keep_space)
    if translated_content is None:
        return raw_of(events)
    # In the file's own prefix and with the namespace that it declares.
    prefix = xml.prefix_of(events[source[0]].raw)
    state_attributes = _state_attributes(version, state, translated_content[1])
    target_tag = events[target[0]].raw if target else xml.encode(f"<{prefix}target>")
    if target and not events[target[1]].raw:
        target_tag = xml.encode(xml.decode(target_tag).removesuffix("/>").rstrip() + ">")
    new_target = xml.with_attributes(target_tag, state_attributes if version == 1 else {}) + translated_content[0] + xml.encode(f"</{prefix}target>")
    unit_tag = xml.with_attributes(events[0].raw, state_attributes) if version == 2 else events[0].raw
    if target:
        return unit_tag + raw_of(events[1 : target[0]]) + new_target + raw_of(events[target[1] + 1 :])
    insert_after = segmented[1] if segmented[0] > source[0] else source[1]
    return unit_tag + raw_of(events[1 : insert_after + 1]) + indent_of(events, source[0]) + new_target + raw_of(events[insert_after + 1 :])


def indent_of(events: list[Event], position: int) -> bytes:
    """The white space before an element, so that an element added after it has the same indentation."""
    start = position
    while start and events[start - 1].kind == "text":
        start -= 1
    space = raw_of(events[start:position])
    return space if not text_inside(events[start:position]).strip() else b""


class _Languages:
    """The languages that a file's labels name, for each file in it: whether they are those of the pair, and the labels that are to be written."""

    def __init__(self, options: Options, visitor: UnitVisitor):
        self.options, self.visitor = options, visitor
        self.taken, self.others = 0, list[CorpusError]()
        # Whether the part that is read is of the pair.
        self.mine = True

    def take(self, event: Event, version: int) -> dict[str, str | None]:
        """Look at the labels of a <file>, or of the whole. Returns those that it gets: the target's, where it is missing, a template's, or overruled."""
        source, target = ("source-language", "target-language") if version == 1 else ("srcLang", "trgLang")
        pair = self.options.pair
        if pair is None:
            return {}
        label = event.attributes.get(target, "")
        other = other_languages(self.options, self.visitor, source=event.attributes.get(source, ""), target=label, place=f"<{event.local}>")
        self.mine = other is None
        if other is not None:
            self.others.append(other)
            return {}
        self.taken += 1
        overruled = self.options.force and is_of(label, pair.target) is False
        return {target: pair.target.tag} if is_template(label) or overruled else {}

    def check(self) -> None:
        """Raises CorpusError where all of it is of other languages, and warns of a part."""
        for other in self.others if self.taken else ():
            self.visitor.warn(other.place or "file", f"{other.thing}, and stays as it is: {other.found}")
        if self.others and not self.taken:
            raise self.others[0]


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    xml = Xml(source, options.bounds, forbidden=Forbidden())
    version = 0
    # For each element that is open: whether it is translated, and whether white space in it means something.
    open_elements: list[tuple[bool, bool]] = []
    languages = _Languages(options, visitor)
    number = 0

    def is_unit(event: Event) -> bool:
        return bool(open_elements) and event.local == ("trans-unit" if version == 1 else "segment")

    for events in xml.units(is_unit):
        event = events[0]
        raw = event.raw
        if event.kind == "start":
            if not open_elements:
                if event.local != "xliff":
                    raise CorpusError("this is not XLIFF", place="file", found=f"<{event.local}>", valid="<xliff>")
                version = 2 if event.attributes.get("version", "1.2").startswith("2") else 1
            translate, keep_space = open_elements[-1] if open_elements else (True, False)
            translate = {"no": False, "yes": True}.get(event.attributes.get("translate", ""), translate)
            keep_space = {"preserve": True, "default": False}.get(event.attributes.get(XML_SPACE, ""), keep_space)
            if len(events) > 1:
                number += 1
                place = f"unit {event.attributes.get('id') or number}"
                mine = translate and languages.mine
                out.write(_unit(xml, events, place, visitor, version, keep_space) if mine else raw_of(events))
                continue
            open_elements.append((translate, keep_space))
            if event.local == ("file" if version == 1 else "xliff"):
                raw = xml.with_attributes(raw, languages.take(event, version))
        elif event.kind == "end":
            open_elements.pop()
        out.write(raw)
    languages.check()
