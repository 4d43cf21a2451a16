"""JSON catalogues: i18next and others with keys inside one another, ARB, Chrome's messages.json, go-i18n, FormatJS and Transifex. Texts alone change.

All strings are translated, but for keys and what describes a text: `@key` and `@@x` of ARB, `description`, `placeholders` and `comment` beside a `message`.
Plural forms by CLDR (`key_one`, `key_other`, or an object of `one` and `other`) become those of the target language. `@@locale` and a root that is the
source's code become the target's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import IO

from serve.formats import plural_forms
from serve.formats.claims import Claim, check_name, claimed, new_code
from serve.formats.edits import Edits, read_utf8
from serve.formats.json_tree import Member, Node, parse, written
from serve.formats.structure import check_catalogue
from serve.formats.units import Options, Unit, UnitVisitor, changed
from tell.errors import CorpusError
from tell.text.normalise import storable

_PLURAL_KEY = re.compile(r"(.*)_(zero|one|two|few|many|other)", re.S)
# The key of a text in an object, and keys that may stand beside it and describe it.
_DESCRIBED = {
    "message": {"description", "placeholders", "comment", "hash", "meaning"},
    "defaultMessage": {"id", "description", "file", "start", "end"},
    "string": {"context", "developer_comment", "character_limit", "instructions"},
    "translation": plural_forms.BESIDE,
}
# Where the language of a whole file is said.
_LOCALE_KEYS = ("@@locale", "locale", "@locale")


class _Catalogue:
    def __init__(self, text: str, visitor: UnitVisitor, options: Options):
        self.edits, self.visitor, self.options = Edits(text), visitor, options
        # Written as the file is: with escapes where it has only those.
        self.ascii_only = text.isascii() and "\\u" in text

    def place(self, node: Node) -> str:
        return f"line {self.edits.line(node.start)}"

    def replaced(self, node: Node, text: str) -> str:
        return written(text, self.edits.text[node.start : node.end], self.ascii_only)

    def string(self, node: Node) -> None:
        if not storable(node.text):
            self.visitor.unreadable(self.place(node), "half a character (a lone surrogate)")
            return
        if (new := changed(self.visitor, Unit(node.text, self.place(node)))) is not None:
            self.edits.put(node.start, node.end, self.replaced(node, new))

    def value(self, node: Node) -> None:
        """A value with all that is in it; nesting is bounded."""
        if node.kind == "string":
            self.string(node)
        elif node.kind == "list":
            for member in node.members:
                self.value(member.value)
        elif node.kind == "object":
            self.object(node)

    def object(self, node: Node, skipped: frozenset[str] = frozenset()) -> None:
        names = {m.key for m in node.members}
        described = _described(names)
        if described:
            self.value(next(m.value for m in reversed(node.members) if m.key == described))
            return
        strings = {m.key: m.value.text for m in node.members if m.value.kind == "string"}
        if plural_forms.is_group(names - plural_forms.BESIDE, self.options) and set(strings) == names:
            self.group([m for m in node.members if m.key not in plural_forms.BESIDE], "", node)
            return
        if "other" in names and names <= plural_forms.BESIDE | plural_forms.CATEGORIES:
            # go-i18n describes a text beside its forms.
            skipped = skipped | plural_forms.BESIDE
        groups = _suffixed(node)
        done: set[int] = set()
        for member in node.members:
            if member.key in skipped or member.key == "$schema" or id(member) in done or _describes(member):
                continue
            found = _PLURAL_KEY.fullmatch(member.key)
            group = groups.get(found.group(1)) if found else None
            if found and group and plural_forms.is_group({m.key[len(found.group(1)) + 1 :] for m in group}, self.options):
                done |= {id(m) for m in group}
                self.group(group, found.group(1) + "_", node)
            else:
                self.value(member.value)

    def group(self, members: list[Member], prefix: str, parent: Node) -> None:
        """The forms of a plural, which stand beside each other in an object: written again as those of the target's."""
        by_name = {m.key[len(prefix) :]: m for m in members}
        texts = {name: m.value.text for name, m in by_name.items()}
        ordinal = prefix.endswith("ordinal_")
        first = parent.members.index(members[0])
        together = parent.members[first : first + len(members)] == members and len(by_name) == len(members)
        if ordinal or not together or not all(map(storable, texts.values())):
            for member in members:
                self.string(member.value)
            return
        places = {name: self.place(m.value) for name, m in by_name.items()}
        translations = plural_forms.translations(texts, places, self.visitor, self.options, frozenset(["zero"]))
        if translations is None or translations == texts:
            return
        if list(translations) == list(texts):
            for name, text in translations.items():
                self.edits.put(by_name[name].value.start, by_name[name].value.end, self.replaced(by_name[name].value, text))
            return
        text = self.edits.text
        # What stands between two members: of the forms, or of the others in the object, or a comma alone.
        position = next((i for i in (first + 1, first, 1) if 0 < i < len(parent.members)), None)
        between = text[parent.members[position - 1].value.end : parent.members[position].key_start] if position else ", "
        other = by_name["other"]
        colon = text[other.key_end : other.value.start]
        lines = []
        for name, translation in translations.items():
            member = by_name.get(name, other)
            key = text[member.key_start : member.key_end] if name in by_name else _quoted_key(text[other.key_start : other.key_end], name)
            unchanged = name in by_name and translation == member.value.text
            lines.append(key + colon + (text[member.value.start : member.value.end] if unchanged else self.replaced(member.value, translation)))
        self.edits.put(members[0].key_start, members[-1].value.end, between.join(lines))


def _described(names: set[str]) -> str | None:
    """The key of the text in an object that says something about it; None where the keys are texts'."""
    return next((key for key, others in _DESCRIBED.items() if key in names and names <= others | {key} and (len(names) > 1 or key == "message")), None)


def _quoted_key(other: str, name: str) -> str:
    """The key of another form, by the key of `other` in quotes."""
    return other[: -len('other"')] + name + '"'


def _describes(member: Member) -> bool:
    """Whether a member says something about the file or a text, as in ARB and MediaWiki."""
    return member.key.startswith("@@") or (member.key.startswith("@") and member.value.kind == "object")


def _suffixed(node: Node) -> Mapping[str, list[Member]]:
    """The members whose keys end in a category, by what is before it."""
    groups: dict[str, list[Member]] = {}
    for member in node.members:
        found = _PLURAL_KEY.fullmatch(member.key)
        if found and member.value.kind == "string":
            groups.setdefault(found.group(1), []).append(member)
    return groups


def _texts(node: Node) -> Iterator[str]:
    if node.kind == "string":
        yield node.text
    for member in node.members:
        if not _describes(member):
            yield from _texts(member.value)


def _claims(root: Node, options: Options) -> Iterator[tuple[Claim, int, int]]:
    """What the file says of its language, and where the code stands."""
    for key in _LOCALE_KEYS:
        value = root.member(key)
        # `locale` is a text's key elsewhere: Angular has it beside `translations`.
        if value and value.kind == "string" and value.text and (key.startswith("@") or root.member("translations")):
            yield Claim("source", value.text, key), value.start + 1, value.end - 1
    member = root.members[0] if len(root.members) == 1 and root.kind == "object" else None
    if member and member.value.kind == "object" and claimed(member.key, options) and not _described({m.key for m in member.value.members}):
        yield Claim("source", member.key, "the key of the whole file"), member.key_start + 1, member.key_end - 1


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    bom, text = read_utf8(source)
    check_name(visitor, options)
    root = parse(text, options.bounds)
    if root.kind not in ("object", "list"):
        raise CorpusError("this JSON is no catalogue of texts", place="line 1", found=text.strip()[:40], valid="an object of keys and texts")
    if root.kind == "list" and any(m.value.kind == "object" and m.value.text_of("id") is None for m in root.members):
        raise CorpusError(
            "this JSON is no catalogue of texts", place="line 1", found="a list of objects", valid="an object of keys and texts, or go-i18n's list"
        )
    catalogue = _Catalogue(text, visitor, options)
    for claim, start, end in _claims(root, options):
        if code := new_code(claim, visitor, options):
            catalogue.edits.put(start, end, code)
    if len(root.members) > 1 and sum(1 for m in root.members if m.value.kind == "object" and claimed(m.key, options)) == len(root.members):
        raise CorpusError(
            "the file has texts of several languages", place="line 1", found=", ".join(m.key for m in root.members), valid="a file of one language"
        )
    try:
        _translate(catalogue, root)
    except RecursionError:
        raise CorpusError("this JSON is nested too deep", place="file") from None
    out.write(bom + catalogue.edits.result().encode())


def _translate(catalogue: _Catalogue, root: Node) -> None:
    translated = root.member("translations")
    if translated is not None and translated.kind == "object" and root.text_of("locale"):
        catalogue.object(translated)
    elif root.kind == "list":
        check_catalogue(list(_texts(root)))
        catalogue.value(root)
    else:
        check_catalogue(list(_texts(root)))
        catalogue.object(root, frozenset(_LOCALE_KEYS) if root.text_of("@locale") else frozenset())
