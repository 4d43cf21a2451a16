"""YAML catalogues: Rails, Hugo (go-i18n), Symfony and others with keys inside one another. Texts alone change.

Keys, comments, anchors, aliases, quotes and block styles stay. A root that is the source's code (`en:`) becomes the target's. Plural forms by CLDR (`one:`,
`other:`) become those of the target language. Symbols (`:day`), patterns of dates and what is no text (numbers, truth values, tagged values) stay.
"""

from __future__ import annotations

import re
from typing import IO

from serve.formats import plural_forms
from serve.formats.claims import Claim, check_name, claimed, new_code
from serve.formats.edits import Edits, read_utf8
from serve.formats.structure import check_catalogue
from serve.formats.units import Options, Unit, UnitVisitor, changed
from serve.formats.yaml_tree import Node, double_quoted, is_plain, parse, written
from tell.errors import CorpusError
from tell.text.plurals import ORDER

_SYMBOL = re.compile(r":\w+")
_DIRECTIVE = re.compile(r"%[-_0^#]?\d*[A-Za-z%]")
# Roots of files that are no catalogues, all of which a file has.
_OTHERS = (
    {"apiVersion", "kind"},
    {"openapi", "paths"}, {"swagger", "paths"}, {"jobs", "on"}, {"services", "version"}, {"services", "volumes"},
    {"services", "networks"},
    {"site_name", "nav"}, {"repos"}, {"runs", "inputs"}, {"stages", "script"}, {"dependencies", "name"}, {"AWSTemplateFormatVersion"}, {"$schema", "type"},
)  # fmt: skip


class _Catalogue:
    def __init__(self, text: str, visitor: UnitVisitor, options: Options):
        self.edits, self.visitor, self.options = Edits(text), visitor, options
        self.ascii_only = text.isascii() and "\\u" in text

    def place(self, node: Node) -> str:
        return f"line {self.edits.line(node.start)}"

    def scalar(self, node: Node) -> None:
        if not _is_translated(node):
            return
        if (new := changed(self.visitor, Unit(node.value, self.place(node)))) is not None:
            self.edits.put(node.start, node.end, written(node, self.edits.text, new, self.ascii_only))

    def value(self, node: Node) -> None:
        """A value with all that is in it; nesting is bounded."""
        if node.kind == "scalar":
            self.scalar(node)
        elif node.kind == "sequence":
            for _, value in node.members:
                self.value(value)
        elif node.kind == "mapping":
            self.mapping(node)

    def mapping(self, node: Node) -> None:
        names = {key.value for key, _ in node.members}
        if "translation" in names and names <= plural_forms.BESIDE | {"translation"}:
            self.value(next(value for key, value in node.members if key.value == "translation"))
            return
        forms = [(key, value) for key, value in node.members if key.value not in plural_forms.BESIDE]
        are_texts = all(key.kind == "scalar" and _is_translated(value) for key, value in forms)
        if are_texts and plural_forms.is_group({key.value for key, _ in forms}, self.options):
            self.group(node, forms)
            return
        # go-i18n describes a text beside its forms.
        kept = plural_forms.BESIDE if "other" in names and names <= plural_forms.BESIDE | plural_forms.CATEGORIES else {"<<"}
        for key, value in node.members:
            if key.value not in kept:
                self.value(value)

    def group(self, parent: Node, members: list[tuple[Node, Node]]) -> None:
        """The forms of a plural: changed in place, with lines for those that the target has besides, and without those that it has not."""
        texts = {key.value: value.value for key, value in members}
        places = {key.value: self.place(value) for key, value in members}
        spans = {key.value: self.lines_of(key, value) for key, value in members}
        made = plural_forms.forms(texts, self.options, frozenset(["zero"]))
        if set(made) != set(texts) and (parent.flow or any(span is None for span in spans.values()) or len(texts) != len(members)):
            self.visitor.warn(self.place(parent), "plural forms that are written in one line stay as many")
            for _, value in members:
                self.scalar(value)
            return
        new = plural_forms.translations(texts, places, self.visitor, self.options, frozenset(["zero"]))
        if new is None:
            return
        by_name = {key.value: (key, value) for key, value in members}
        for name, (_, value) in by_name.items():
            span = spans[name]
            if name not in new and span:
                self.edits.put(*span, "")
            elif name in new and new[name] != value.value:
                self.edits.put(value.start, value.end, written(value, self.edits.text, new[name], self.ascii_only))
        for name in new:
            if name not in by_name:
                following = next(n for n in ORDER[ORDER.index(name) + 1 :] if n in by_name and n in new)
                at = spans[following]
                assert at is not None
                self.edits.put(at[0], at[0], self.new_line(*by_name["other"], name, new[name]))

    def lines_of(self, key: Node, value: Node) -> tuple[int, int] | None:
        """The lines of a member; None where they have something else too."""
        text = self.edits.text
        start = text.rfind("\n", 0, key.start) + 1
        if text[start : key.start].strip():
            return None
        if text[value.end - 1 : value.end] == "\n" and value.style in ("|", ">"):
            return start, value.end
        end = text.find("\n", value.end)
        rest = text[value.end : end if end >= 0 else len(text)].strip()
        return None if rest and not rest.startswith("#") else (start, end + 1 if end >= 0 else len(text))

    def new_line(self, key: Node, value: Node, name: str, new: str) -> str:
        """The lines of another form, written as those of `other` are."""
        text = self.edits.text
        start = text.rfind("\n", 0, key.start) + 1
        quote = text[key.start] if text[key.start] in "\"'" else ""
        colon = text[key.end : value.start] if not value.anchored else ": "
        body = written(value, text, new, self.ascii_only) if new != value.value else text[value.start : value.end]
        return f"{text[start : key.start]}{quote}{name}{quote}{colon}{body}" + ("" if body.endswith("\n") else "\r\n" if "\r\n" in text else "\n")


def _is_translated(node: Node) -> bool:
    """Whether a value is a text for readers: no symbol, and no pattern of a date or number alone."""
    if node.kind != "scalar" or not node.is_text or _SYMBOL.fullmatch(node.value):
        return False
    return not ("%" in node.value and _DIRECTIVE.search(node.value) and not any(map(str.isalpha, _DIRECTIVE.sub("", node.value))))


def _check_root(root: Node, options: Options) -> None:
    """Raises CorpusError for a file that is no catalogue, or one of several languages."""
    names = {key.value for key, _ in root.members} if root.kind == "mapping" else set()
    if root.kind == "sequence" and not all(value.kind == "mapping" and value.member("translation") for _, value in root.members):
        raise CorpusError("this YAML is no catalogue of texts", place="line 1", found="a list", valid="keys and texts, or go-i18n's list of translations")
    if (root.kind == "scalar" and root.value) or any(other <= names for other in _OTHERS):
        raise CorpusError("this YAML is no catalogue of texts", place="line 1", found=", ".join(sorted(names)) or "a text", valid="keys and texts")
    if len(root.members) > 1 and root.kind == "mapping" and all(value.kind == "mapping" and claimed(key.value, options) for key, value in root.members):
        raise CorpusError("the file has texts of several languages", place="line 1", found=", ".join(sorted(names)), valid="a file of one language")


def _texts(node: Node) -> list[str]:
    if node.kind == "scalar":
        return [node.value] if _is_translated(node) else []
    return [text for _, value in node.members for text in _texts(value)]


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    bom, text = read_utf8(source)
    check_name(visitor, options)
    catalogue = _Catalogue(text, visitor, options)
    try:
        for root in parse(text, options.bounds):
            _check_root(root, options)
            if len(root.members) == 1 and root.kind == "mapping" and root.members[0][1].kind == "mapping" and claimed(root.members[0][0].value, options):
                key, value = root.members[0]
                if code := new_code(Claim("source", key.value, "the root of the file"), visitor, options):
                    # `no` would be read as a truth value.
                    quoted = f"{key.style}{code}{key.style}" if key.style else code if is_plain(code, False) else double_quoted(code)
                    catalogue.edits.put(key.start, key.end, quoted)
                catalogue.value(value)
            else:
                check_catalogue(_texts(root))
                catalogue.value(root)
    except RecursionError:
        raise CorpusError("this YAML is nested too deep", place="file") from None
    out.write(bom + catalogue.edits.result().encode())
