"""TMX: translation units that lack the target language get it, beside the language they are translated from. Every other byte stays."""

from __future__ import annotations

from typing import IO

from serve.formats.units import Options, Pass
from serve.formats.xliff import indent_of, translated
from serve.formats.xml_events import XML_LANG, Event, Xml, inner, raw_of, text_of
from tell.errors import BadInput, CorpusError, LanguageError
from tell.languages import Language, distance, language

# With text of the sentence in it; bpt, ept, it, ph and ut hold codes of another program.
AROUND = {"hi"}


def _language(event: Event) -> Language | None:
    try:
        return language(event.attributes.get(XML_LANG) or event.attributes.get("lang") or "")
    except LanguageError:
        return None


def _near(found: Language | None, wanted: Language) -> bool:
    return found is not None and distance(wanted, found) is not None


def _unit(xml: Xml, events: list[Event], place: str, todo: Pass, options: Options) -> bytes:
    pair = options.pair
    assert pair is not None
    sides: dict[str, tuple[int, int]] = {}
    at = 1
    while at < len(events) - 1:
        if events[at].kind == "start":
            end = inner(events, at)
            if events[at].local == "tuv":
                found = _language(events[at])
                for name, wanted in (("source", pair.source), ("target", pair.target)):
                    if _near(found, wanted):
                        sides.setdefault(name, (at, end))
            at = end
        at += 1
    if "source" not in sides:
        return raw_of(events)
    first, last = sides["source"]
    seg = next((i for i in range(first, last) if events[i].kind == "start" and events[i].local == "seg"), None)
    if seg is None:
        return raw_of(events)
    end = inner(events, seg)
    there = sides.get("target")
    done = bool(there and text_of(events[there[0] : there[1]]).strip())
    made = translated(xml, events[seg + 1 : end], place, done, todo, AROUND)
    if made is None:
        return raw_of(events)
    name = "xml:lang" if XML_LANG in events[first].attributes else "lang"
    # The source's own notes and dates are not the translation's.
    new = xml.encode(f'<tuv {name}="{pair.target.tag}"><seg>') + made[0] + xml.encode("</seg></tuv>")
    if there:
        return raw_of(events[: there[0]]) + new + raw_of(events[there[1] + 1 :])
    return raw_of(events[: last + 1]) + indent_of(events, first) + new + raw_of(events[last + 1 :])


def convert(source: IO[bytes], out: IO[bytes], todo: Pass, options: Options) -> None:
    if options.pair is None:
        raise BadInput("a TMX is translated from one of its languages into another", valid="--from and --to")
    xml = Xml(source)
    held: list[Event] = []
    depth = number = 0
    root = ""
    for event in xml:
        if event.kind == "start" and not root:
            root = event.local
            if root != "tmx":
                raise CorpusError("this is not TMX", place="file", found=f"<{root}>", valid="<tmx>")
        if held:
            held.append(event)
            depth += (event.kind == "start") - (event.kind == "end")
            if not depth:
                out.write(_unit(xml, held, f"unit {number}", todo, options))
                held = []
        elif event.kind == "start" and event.local == "tu":
            number += 1
            held, depth = [event], 1
        else:
            out.write(event.raw)
