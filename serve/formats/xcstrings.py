"""Apple's string catalogues (.xcstrings): strings without the target language get it, with the state `needs_review`. Every other byte stays.

A string's text is that of the source language, or else its key. Plural variations become the target's by CLDR; strings that are not for translating, stale
ones, and variations by device or with substitutions stay.
"""

from __future__ import annotations

import json
from typing import IO, Any

from serve.formats import plural_forms
from serve.formats.edits import Edits, read_utf8
from serve.formats.json_tree import Node, parse
from serve.formats.named_languages import check_languages, is_of
from serve.formats.units import Options, Unit, UnitVisitor
from tell.errors import CorpusError


def _unit(text: str) -> dict[str, Any]:
    return {"stringUnit": {"state": "needs_review", "value": text}}


def _at(node: Node | None, *keys: str) -> Node | None:
    for key in keys:
        node = node.member(key) if node else None
    return node


def _plural(localization: Node | None) -> dict[str, str] | None:
    """The forms of a plural, where a localization is one and nothing else."""
    plural = _at(localization, "variations", "plural")
    if localization is None or plural is None or len(localization.members) != 1 or len(_at(localization, "variations").members) != 1:  # type: ignore[union-attr]
        return None
    texts = {m.key: unit.text_of("value") for m in plural.members if (unit := m.value.member("stringUnit"))}
    return {name: text for name, text in texts.items() if text is not None} if len(texts) == len(plural.members) else None


class _Catalogue:
    def __init__(self, text: str, source: str, visitor: UnitVisitor, options: Options):
        self.edits, self.source, self.visitor, self.options = Edits(text), source, visitor, options

    def entry(self, key: str, entry: Node) -> None:
        if entry.text_of("extractionState") == "stale" or self.raw(entry.member("shouldTranslate")) == "false":
            return
        localizations = entry.member("localizations")
        place = f"line {self.edits.line(entry.start)}"
        source = localizations.member(self.source) if localizations else None
        target = next((m for m in localizations.members if self.options.pair and is_of(m.key, self.options.pair.target)), None) if localizations else None
        state, value = _at(target.value if target else None, "stringUnit"), ""
        value = (state.text_of("value") or "") if state else ""
        done = target is not None and (state is None or (state.text_of("state") != "new" and bool(value.strip())))
        forms, text = _plural(source), None
        if forms is None:
            unit = _at(source, "stringUnit")
            text = unit.text_of("value") if unit else None if source else key
            if text is None or (source and len(source.members) != 1):
                self.visitor.warn(place, "variations by device and substitutions stay")
                return
        new = self.translation(text, forms, place, done)
        if new is None or self.options.pair is None:
            return
        if target is not None:
            self.edits.put(target.value.start, target.value.end, self.written(new, target.value))
        elif localizations is not None:
            self.insert(localizations, self.options.pair.target.tag, new)
        else:
            self.insert(entry, "localizations", {self.options.pair.target.tag: new})

    def raw(self, node: Node | None) -> str:
        return self.edits.text[node.start : node.end] if node else ""

    def translation(self, text: str | None, forms: dict[str, str] | None, place: str, done: bool) -> dict[str, Any] | None:
        """The localization in the target language; None where there is none."""
        if forms is not None:
            # Forms that are there are no unit: they are several texts, of which none is the translation of one.
            if done and not self.options.retranslate:
                return None
            new = plural_forms.translations(forms, dict.fromkeys(forms, place), self.visitor, self.options, frozenset(["zero"]))
            return {"variations": {"plural": {name: _unit(form) for name, form in new.items()}}} if new else None
        replacement = self.visitor.visit(Unit(text, place, done)) if text else None
        return None if replacement is None or replacement.failed else _unit(replacement.text)

    def written(self, value: object, near: Node) -> str:
        """A value in the file's layout, below the line that `near` begins in."""
        text = self.edits.text
        colon = " : " if '" : ' in text else ": "
        if "\n" not in text:
            return json.dumps(value, ensure_ascii=False, separators=(",", colon.strip() if '": ' not in text else colon))
        indent = self.indent(near)
        return json.dumps(value, ensure_ascii=False, indent=2, separators=(",", colon)).replace("\n", "\n" + indent)

    def indent(self, node: Node) -> str:
        """The white space that the line of a node begins with."""
        before = self.edits.text[self.edits.text.rfind("\n", 0, node.start) + 1 : node.start]
        return before[: len(before) - len(before.lstrip())]

    def insert(self, parent: Node, key: str, value: object) -> None:
        """A member more, among the others in the order of their keys, as Xcode writes them."""
        text = self.edits.text
        colon = " : " if '" : ' in text else ": "
        name = json.dumps(key, ensure_ascii=False) + colon
        if not parent.members:
            indent = self.indent(parent)
            written = json.dumps(value, ensure_ascii=False, indent=2, separators=(",", colon)).replace("\n", "\n" + indent + "  ")
            self.edits.put(parent.start, parent.end, f"{{\n{indent}  {name}{written}\n{indent}}}")
            return
        before = [m for m in parent.members if m.key < key]
        if before:
            between = text[parent.start + 1 : parent.members[0].key_start]
            last = before[-1]
            self.edits.put(last.value.end, last.value.end, "," + between + name + self.written(value, last.value))
        else:
            first = parent.members[0]
            between = text[parent.start + 1 : first.key_start]
            self.edits.put(first.key_start, first.key_start, name + self.written(value, first.value) + "," + between)


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    bom, text = read_utf8(source)
    root = parse(text, options.bounds)
    strings = root.member("strings")
    language = root.text_of("sourceLanguage")
    if strings is None or strings.kind != "object" or language is None:
        raise CorpusError("this is not .xcstrings", place="file", found="no sourceLanguage and strings", valid="a string catalogue of Xcode")
    check_languages(options, visitor, source=language, place="sourceLanguage")
    catalogue = _Catalogue(text, language, visitor, options)
    for member in strings.members:
        catalogue.entry(member.key, member.value)
    out.write(bom + catalogue.edits.result().encode())
