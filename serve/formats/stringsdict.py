"""Apple's .stringsdict: the forms of plurals and the texts around them. Keys, types, formats and every other byte stay; forms become the target's by CLDR."""

from __future__ import annotations

import re
from typing import IO

from serve.formats import plural_forms
from serve.formats.claims import check_name, claim_of_path, new_code
from serve.formats.units import Options, Unit, UnitVisitor, changed
from serve.formats.xliff import indent_of
from serve.formats.xml_events import Event, Xml, children, raw_of, text_inside
from serve.formats.xml_text import written
from tell.text.plurals import ORDER

_FORMAT = "NSStringLocalizedFormatKey"
_TYPE, _PLURAL = "NSStringFormatSpecTypeKey", "NSStringPluralRuleType"
_VARIANTS = ("NSStringDeviceSpecificRuleType", "NSStringVariableWidthRuleType")
_VARIABLE = re.compile(r"%(?:\d{1,2}\$)?#@\w{1,60}@")
# A stretch of the events, and what is put in its place.
_Splice = tuple[int, int, bytes]


class _Dictionary:
    def __init__(self, xml: Xml, events: list[Event], visitor: UnitVisitor, options: Options):
        self.xml, self.events, self.visitor, self.options = xml, events, visitor, options
        self.splices: list[_Splice] = []

    def pairs(self, start: int, end: int) -> list[tuple[str, tuple[int, int], tuple[int, int]]]:
        """(key, where it is, where its value is) of the dictionary whose events these are."""
        found = [(start + a, start + b) for a, b in children(self.events[start : end + 1])]
        return [(text_inside(self.events[k[0] : k[1]]), k, v) for k, v in zip(found[::2], found[1::2], strict=False) if self.events[k[0]].local == "key"]

    def text(self, span: tuple[int, int]) -> str:
        return text_inside(self.events[span[0] : span[1]])

    def entry(self, name: str) -> bytes:
        self.dictionary((0, len(self.events) - 1), name)
        parts, position = [], 0
        for start, end, new in sorted(self.splices):
            parts += [raw_of(self.events[position:start]), new]
            position = end
        return b"".join([*parts, raw_of(self.events[position:])])

    def dictionary(self, span: tuple[int, int], name: str) -> None:
        """What is said in one way, with the plurals in it, or in several ways."""
        for key, _, value in self.pairs(*span):
            if key == _FORMAT and self.events[value[0]].local == "string" and self.events[value[1]].raw:
                if any(map(str.isalpha, _VARIABLE.sub("", self.text(value)))):
                    self.string(value, name)
            elif self.events[value[0]].local == "dict":
                (self.variants if key in _VARIANTS else self.forms)(value, f"{name}, {key}")

    def variants(self, span: tuple[int, int], name: str) -> None:
        """Texts for devices or widths, each by itself."""
        for key, _, value in self.pairs(*span):
            if self.events[value[0]].local == "dict":
                self.dictionary(value, f"{name}, {key}")
            elif self.events[value[0]].local == "string" and self.events[value[1]].raw:
                self.string(value, f"{name}, {key}")

    def string(self, span: tuple[int, int], place: str) -> None:
        if (new := changed(self.visitor, Unit(self.text(span), place))) is not None:
            self.put(span, new)

    def put(self, span: tuple[int, int], text: str) -> None:
        inside = self.events[span[0] + 1 : span[1]]
        self.splices.append((span[0] + 1, span[1], written(self.xml, inside, text)))

    def forms(self, span: tuple[int, int], place: str) -> None:
        """A plural: its forms changed in place, those that the target has besides after the one before them, and without those that it has not."""
        pairs = self.pairs(*span)
        if not any(key == _TYPE and self.text(value) == _PLURAL for key, _, value in pairs):
            return
        forms = {key: (k, v) for key, k, v in pairs if key in plural_forms.CATEGORIES and self.events[v[0]].local == "string" and self.events[v[1]].raw}
        if "other" not in forms:
            return
        texts = {key: self.text(value) for key, (_, value) in forms.items()}
        # iOS asks for `zero` whatever the language.
        new = plural_forms.translations(texts, dict.fromkeys(texts, place), self.visitor, self.options, frozenset(["zero"]))
        if new is None:
            return
        for name, (key, value) in forms.items():
            if name in new:
                if new[name] != texts[name]:
                    self.put(value, new[name])
                continue
            start = key[0]
            while start and self.events[start - 1].kind == "text" and not self.events[start - 1].text.strip():
                start -= 1
            self.splices.append((start, value[1] + 1, b""))
        key, value = forms["other"]
        for name in new:
            if name not in forms:
                following = next(n for n in ORDER[ORDER.index(name) + 1 :] if n in forms and n in new)
                at = forms[following][0][0]
                body = written(self.xml, self.events[value[0] + 1 : value[1]], new[name]) if new[name] != texts["other"] else None
                content = body if body is not None else raw_of(self.events[value[0] + 1 : value[1]])
                between = raw_of(self.events[key[1] + 1 : value[0]])
                row = [self.events[key[0]].raw, name.encode(), self.events[key[1]].raw, between, self.events[value[0]].raw, content, self.events[value[1]].raw]
                self.splices.append((at, at, b"".join(row) + indent_of(self.events, at)))


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    check_name(visitor, options)
    if claim := claim_of_path(options.name):
        new_code(claim, visitor, options)
    xml = Xml(source, options.bounds)
    number, name = 0, ""
    for events, _ in xml.units_under("plist", lambda event, depth: depth == 2 and event.local in ("dict", "key"), "this is not .stringsdict", "<plist>"):
        if len(events) > 1 and events[0].local == "dict":
            number += 1
            out.write(_Dictionary(xml, events, visitor, options).entry(f"entry {name or number}"))
            continue
        if len(events) > 1:
            name = text_inside(events)
        out.write(raw_of(events))
