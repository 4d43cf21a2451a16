"""The text of a block of Markdown as pieces: text, and what goes along as tags, such as emphasis, code, links, formulas and attributes. Reads nothing."""

from __future__ import annotations

import bisect
import re
from collections import Counter

from serve.formats.html_elements import OPAQUE
from serve.formats.inline_tags import Piece, joined
from serve.formats.markdown_marks import is_formula

# An address may stand in <>, or be given by a template.
_TARGET = r"\((?:\s*<[^<>\n]*>|(?:(?!\{[{%])[^()\s\\]|\\.|\([^()]*\)|\{\{[^{}\n]*\}\}|\{%[^%\n]*%\})*)(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*\)"
# {#id}, {: .class }, {width=50%}, {:toc}
_ATTRIBUTE = r"(?:[#.][\w:-]+|[\w:-]+=(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s{}\"']+))"
_ATTRIBUTES = rf"\{{:?[ \t]?{_ATTRIBUTE}(?:[ \t]+{_ATTRIBUTE})*[ \t]?\}}|\{{::?/?[a-z_]+/?\}}"
# What ends a text, or goes along as a tag. Of code and comments the beginning alone, since a pattern would look for their ends again and again.
_INLINE = re.compile(
    r"(?P<formula>\$\$[^$\n]{1,500}\$\$|(?<![\\$\w])\$(?=[^\s$])[^$\n]{1,300}\$(?![\w$])|\\{1,2}\((?:[^\\\n]|\\(?![\\)])){1,300}\\{1,2}\)"
    r"|\\{1,2}\[(?:[^\\\n]|\\(?![\\\]])){1,300}\\{1,2}\])"
    rf"|(?P<escape>\\[!-/:-@\[-`{{-~])|(?P<ticks>`+)|(?P<comment><!--)"
    r"|(?P<template>\{\{[<%][^\n]{1,500}?[%>]\}\}|\{%(?:[^%\n]|%(?!\})){1,500}%\}|\{/\*[^\n]{0,300}?\*/\})"
    rf"|(?P<void>!\[(?:[^\[\]]|\[[^\[\]]*\])*\](?:{_TARGET}|\[[^\[\]]*\])|\[\^[^\[\]\s]+\]|<[A-Za-z][A-Za-z0-9+.-]{{1,31}}:[^<>\s]*>|<[^<>\s@]+@[^<>\s]+>"
    rf"|!?\[\[[^\[\]\n]{{1,200}}\]\]|\[@[^\[\]\n]{{1,200}}\](?![(\[])|\+\+[\w\"+-]{{1,60}}\+\+|{_ATTRIBUTES})"
    r"|(?P<tag></?[A-Za-z][\w:.-]*(?:\s(?:[^<>{}]|\{(?:[^{}\n]|\{[^{}\n]{0,100}\}){0,200}\})*)?/?>|</?[A-Za-z][\w:.-]*(?:\s[^<>]*)?/?>|</?>)"
    r"|(?P<mark>\*\*\*|\*\*|\*|___|__|_|~~|==|\^\^)"
)
# What sets a formula in escaped brackets apart from a word in them.
_SIGN = re.compile(r"[\\^_={}+*/<>|\d]|^\w$")
_TICKS = re.compile("`+")
_NOT_NAME = re.compile(r"[^\w].*")
# In the label there may be brackets inside one another, once.
_LINK = re.compile(rf"(?<![!\\\[])\[(?P<text>(?:[^\[\]\\`]|\\.|`[^`]*`|!\[[^\[\]]*\]{_TARGET}|(?<!!)\[[^\[\]]*\])+)\](?P<to>{_TARGET}|\[[^\[\]]*\])?")
# Tags of elements whose content is no text, as in HTML.
_OPAQUE = re.compile(rf"<(?:({'|'.join(sorted(OPAQUE))})(?=[\s>])|([A-Za-z][\w.-]*)(?=\s[^>]*(?:translate=[\"']?no\b|class=[\"']?(?:[\w -]* )?notranslate\b)))")
_VOID_TAGS = {"br", "img", "hr", "wbr", "input"}


class _Code:
    """Where code ends that begins with backticks: at the next run of just as many. Each text is looked through once, however many runs do not close."""

    def __init__(self, text: str):
        self._starts: dict[int, list[int]] = {}
        for run in _TICKS.finditer(text):
            self._starts.setdefault(run.end() - run.start(), []).append(run.start())

    def end(self, start: int, ticks: int) -> int | None:
        """The end of the code that begins with so many backticks at `start`; None where it has none."""
        starts = self._starts.get(ticks, [])
        index = bisect.bisect_left(starts, start + ticks)
        return starts[index] + ticks if index < len(starts) else None


def _marks(text: str) -> list[Piece]:
    """Text without links as pieces. An emphasis that is not closed is text."""
    pieces: list[Piece] = []
    open_marks: list[tuple[str, int]] = []
    open_counts: Counter[str] = Counter()
    position = search_from = 0
    code, last_comment_end = _Code(text), text.rfind("-->")
    while inline := _INLINE.search(text, search_from):
        search_from = inline.end()
        if inline.group("escape"):
            continue
        if formula := inline.group("formula"):
            content = formula.strip("\\$()[]")
            if not is_formula(content) or content[-1:].isspace() or (formula[0] != "$" and not _SIGN.search(content)):
                # Signs of money, or escaped brackets.
                search_from = inline.start() + (1 if formula[0] == "$" else 2)
                continue
        markup, kind = inline.group(), "void"
        if inline.group("ticks"):
            end = code.end(inline.start(), len(markup))
            if end is None:
                continue
            markup, search_from = text[inline.start() : end], end
        elif inline.group("comment"):
            if last_comment_end < inline.end():
                continue
            search_from = text.index("-->", inline.end()) + 3
            markup = text[inline.start() : search_from]
        elif inline.group("mark"):
            before, after = text[inline.start() - 1 : inline.start()] if inline.start() else " ", text[inline.end() : inline.end() + 1] or " "
            is_underscore = markup[0] == "_"
            opens = not after.isspace() and not (is_underscore and before.isalnum())
            closes = not before.isspace() and not (is_underscore and after.isalnum())
            if closes and open_counts[markup]:
                while open_marks[-1][0] != markup:
                    mark, index = open_marks.pop()
                    open_counts[mark] -= 1
                    pieces[index] = Piece("text", mark)
                open_marks.pop()
                open_counts[markup] -= 1
                kind = "close"
            elif opens:
                kind = "open"
            else:
                continue
        elif inline.group("tag"):
            name = _NOT_NAME.sub("", markup.lstrip("</")).lower()
            kind = "void" if markup.endswith("/>") or name in _VOID_TAGS else "close" if markup.startswith("</") else "open"
        pieces.append(Piece("text", text[position : inline.start()]))
        if inline.group("mark") and kind == "open":
            open_marks.append((markup, len(pieces)))
            open_counts[markup] += 1
        pieces.append(Piece(kind, markup))  # type: ignore[arg-type]
        position = search_from
    for mark, index in open_marks:
        pieces[index] = Piece("text", mark)
    return [*pieces, Piece("text", text[position:])]


def _step(markup: str, name: str) -> int:
    """1 for markup that begins an element of this name, -1 for one that ends it, 0 for any other."""
    before = f"<{name}"
    if markup.startswith(before):
        after = markup[len(before) : len(before) + 1]
        return int(after == ">" or after.isspace())
    before = f"</{name}"
    return -int(markup.startswith(before) and markup[len(before) :].lstrip().startswith(">"))


def _whole(pieces: list[Piece]) -> list[Piece]:
    """The pieces with each element whose content is no text (`<code>`, `<kbd>`, `translate="no"`) as one."""
    whole: list[Piece] = []
    never_closed: set[str] = set()
    position = 0
    while position < len(pieces):
        piece, end = pieces[position], position + 1
        tag = _OPAQUE.match(piece.value) if piece.kind == "open" else None
        name = (tag.group(1) or tag.group(2)) if tag else ""
        if tag and name not in never_closed:
            depth = 1
            while depth and end < len(pieces):
                depth += _step(pieces[end].value, name)
                end += 1
            if depth:
                never_closed.add(name)
                end = position + 1
        whole.append(Piece("void", "".join(p.value for p in pieces[position:end])) if end > position + 1 else piece)
        position = end
    return whole


def _code_spans(text: str) -> tuple[list[int], list[int]]:
    """Where code begins in a text, and where it ends."""
    starts: list[int] = []
    ends: list[int] = []
    code, position = _Code(text), 0
    while run := _TICKS.search(text, position):
        end = code.end(run.start(), run.end() - run.start())
        position = end or run.end()
        if end:
            starts.append(run.start())
            ends.append(end)
    return starts, ends


def inline_pieces(text: str, references: set[str]) -> list[Piece]:
    """The text of a block as pieces: text, code, addresses of links, and marks."""
    pieces: list[Piece] = []
    position = 0
    starts, ends = _code_spans(text)
    for link in _LINK.finditer(text):
        target, label = link.group("to") or "", link.group("text")
        code = bisect.bisect_right(starts, link.start()) - 1
        inside = code >= 0 and link.start() < ends[code]
        is_reference = " ".join(label.split()).upper() in references
        if inside or link.start() < position or label.startswith("^") or (not target.startswith("(") and not (target and target != "[]") and not is_reference):
            continue
        pieces += [*_marks(text[position : link.start()]), Piece("open", "["), *_marks(label)]
        # A link that is found by its own text needs a name when that changes.
        pieces.append(Piece("close", f"]{target}" if target not in ("", "[]") else f"][{label}]"))
        position = link.end()
    return joined(_whole([*pieces, *_marks(text[position:])]))
