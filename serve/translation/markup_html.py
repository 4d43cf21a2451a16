"""HTML in, HTML out: its texts as lines to translate, and the page with their translations in it.

Reads and writes strings; asks no engine. Parsed by selectolax (lexbor) as browsers do, so what is broken comes back as they would read it. Text is
written escaped, whatever it spells: markup that was text stays text. Elements and attributes are those of the source.
"""

from __future__ import annotations

import asyncio
import dataclasses
import html
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence, Set
from typing import Any

from serve.formats import html_elements
from serve.formats.html_elements import INLINE, KEPT, VOID
from serve.formats.tag_placeholders import TOKEN, free_letter, matches, split_at_tags, without_tags
from serve.translation.request import Translation
from tell.text.flags import union

# Beside what is opaque anywhere: a page's head, which a part of a page has not.
OPAQUE = html_elements.OPAQUE | {"head"}
_SPACES = re.compile(r"[ \t\n\r\f]+")
_LINE_END = re.compile(r"(\r\n|\n|\r)")
_COMMENTS = r"(?:[ \t\n\r\f]*<!--(?:(?!-->).)*-->)*[ \t\n\r\f]*"
# What stands before the first element of a whole page; a part of one has none.
_PAGE = re.compile(rf"({_COMMENTS}<!doctype[^>]{{0,500}}>{_COMMENTS})|({_COMMENTS})(?=<(?:html|head|body)\b)", re.I | re.S)
# Characters that are parsed where they are; more go to a thread.
IN_PLACE = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """What stands for a tag in a line, and the tag."""

    text: str
    markup: str


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A stretch of text between two ends of sentences. `before` and `after` are markup: white space, and tags that are all around the text."""

    before: str
    text: str
    after: str
    tokens: tuple[Token, ...]
    xml: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Markup:
    """A page or a part of one: markup as it stands, and lines."""

    parts: tuple[str | Line, ...]

    @property
    def text(self) -> str:
        """The lines to translate, with line breaks between them."""
        return "\n".join(p.text for p in self.parts if isinstance(p, Line))

    def filled(self, text: str) -> tuple[str, bool]:
        """The markup with its lines translated, and whether each tag in them has its place: where they were lost, they stand around their line."""
        wanted, lines = sum(isinstance(p, Line) for p in self.parts), text.split("\n")
        if wanted > 1 and len(lines) != wanted:
            raise ValueError(f"{len(lines)} translations for {wanted} lines")
        lines.reverse()
        out: list[str] = []
        whole = True
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
                continue
            made, placed = _placed(part, lines.pop())
            whole = whole and placed
            out += [part.before, made, part.after]
        return "".join(out), whole


def _escaped(text: str, xml: bool = False) -> str:
    escaped = html.escape(text, quote=False)
    # XML knows no entity for it.
    return escaped if xml else escaped.replace("\u00a0", "&nbsp;")


def _start(node: Any) -> str:
    given = (f' {name}="{html.escape(value)}"' if value is not None else f" {name}" for name, value in node.attributes.items())
    return f"<{node.tag}{''.join(given)}>".replace("\u00a0", "&nbsp;").replace("&#x27;", "'")


def _kept(node: Any, ignored: Set[str]) -> bool:
    """Whether a whole element stays as it is."""
    own = node.attributes
    return node.tag in OPAQUE or node.tag in ignored or (own.get("translate") or "").lower() == "no" or "notranslate" in (own.get("class") or "").split()


# What a walk over the tree comes by: text, a tag inside a sentence, or markup that ends one.
Piece = tuple[str, str]
# Kinds of text: in which white space is one space, and in which it stays.
TEXT = ("text", "raw")


def _own(node: Any, first: Any) -> str:
    """An element or comment as markup. Of the first one the parser writes those that follow it too."""
    text = node.html or ""
    if node is not first:
        return text
    rest, other = [], node.next
    while other is not None:
        rest.append(other.html or "")
        other = other.next
    return text.removesuffix("".join(rest))


def _walk(first: Any, ignored: Set[str]) -> Iterator[Piece]:
    """("text", decoded), ("raw", text of <pre>), ("open" | "close" | "void", tag) and ("block", markup), in order.

    Not recursive: pages nest deeper than Python does.
    """
    stack: list[Any] = [first]
    kept = 0
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            kept -= node[1]
            yield node[0]
            continue
        if node is None:
            continue
        stack.append(node.next)
        if node.tag == "-text":
            yield ("raw" if kept else "text"), node.text_content or ""
        elif node.tag.startswith("-"):
            yield "block" if node.tag != "-comment" else "void", _own(node, first)
        elif _kept(node, ignored):
            yield ("void" if node.tag in INLINE else "block"), _own(node, first)
        elif node.tag in VOID:
            yield ("void" if node.tag in INLINE else "block"), _start(node)
        else:
            inline = node.tag in INLINE
            # The parser has taken the line break that follows <pre>, and would take the next one.
            broken = node.tag in KEPT and (node.text() or "").startswith("\n")
            yield ("open" if inline else "block"), _start(node) + "\n" * broken
            kept += node.tag in KEPT
            stack += [((("close" if inline else "block"), f"</{node.tag}>"), int(node.tag in KEPT)), node.first_child]


def parse_html(text: str, ignored: Set[str] = frozenset()) -> Markup:
    """A page, or a part of one; `ignored` elements stay as they are. Never raises: to an HTML parser nothing is an error."""
    from selectolax.lexbor import LexborHTMLParser

    page = _PAGE.match(text)
    root = LexborHTMLParser(text, is_fragment=not page).root if text.strip() else None
    if root is None:
        # Nothing but white space, which has no tree.
        return Markup((text,) if text and not text.strip() else ())
    parts: list[str | Line] = [page.group() if page else ""]
    letter = free_letter(html.unescape(text))
    run: list[Piece] = []
    for kind, value in _walk(root, ignored):
        if kind == "block":
            parts += lines_of(run, letter)
            parts.append(value)
            run = []
        elif kind == "raw":
            for line in _LINE_END.split(value):
                if line in ("\n", "\r", "\r\n"):
                    parts += [*lines_of(run, letter), line]
                    run = []
                elif line:
                    run.append(("raw", line))
        elif kind == "text" and run and run[-1][0] == "text":
            run[-1] = ("text", run[-1][1] + value)
        else:
            run.append((kind, value))
    parts += lines_of(run, letter)
    return Markup(tuple(p for p in parts if p))


def lines_of(run: list[Piece], letter: str, xml: bool = False) -> list[str | Line]:
    """A stretch between two ends of sentences as a line, or as markup where it holds no letter."""
    if not any(kind in TEXT and any(map(str.isalpha, value)) for kind, value in run):
        return ["".join(_markup(piece, xml) for piece in run)] if run else []
    before, run, after = _peeled(run, xml)
    tokens: list[Token] = []
    out: list[str] = []
    closed, opened = matches([kind for kind, _ in run])
    for number, (kind, value) in enumerate(run):
        if kind in TEXT:
            # White space at the ends is taken off before it becomes one space.
            start = len(value) - len(value.lstrip()) if number == 0 else 0
            end = len(value.rstrip()) if number == len(run) - 1 else len(value)
            before, after = before + _escaped(value[:start], xml), _escaped(value[end:], xml) + after
            out.append(value[start:end] if kind == "raw" else _SPACES.sub(" ", value[start:end]))
            continue
        token = f"<{letter}{number}/>"
        if number in closed:
            token = f"<{letter}{number}>"
        elif number in opened:
            token = f"</{letter}{opened[number]}>"
        tokens.append(Token(token, value))
        out.append(token)
    return [Line(before, "".join(out), after, tuple(tokens), xml)]


def _peeled(run: list[Piece], xml: bool) -> tuple[str, list[Piece], str]:
    """A stretch without the tags and the space all around it: what a model does not see it cannot lose."""
    before, after = "", ""
    while True:
        if run[0][0] == "void" or (run[0][0] in TEXT and not run[0][1].strip()):
            before += _markup(run[0], xml)
            run = run[1:]
        elif run[-1][0] == "void" or (run[-1][0] in TEXT and not run[-1][1].strip()):
            after = _markup(run[-1], xml) + after
            run = run[:-1]
        elif matches([kind for kind, _ in run])[0].get(0) == len(run) - 1:
            before, after, run = before + run[0][1], run[-1][1] + after, run[1:-1]
        else:
            return before, run, after


def _markup(piece: Piece, xml: bool) -> str:
    return _escaped(piece[1], xml) if piece[0] in TEXT else piece[1]


def _placed(line: Line, made: str) -> tuple[str, bool]:
    """A line's translation as markup, and whether its tags were all there, each once and inside each other as elements must be."""
    known = {t.text: t.markup for t in line.tokens}
    found, whole = split_at_tags(made, known)
    if whole:
        return "".join(known[value] if i % 2 else _escaped(value, line.xml) for i, value in enumerate(found)), True
    # All of the text where the first of it was, and the tags as they came, empty or not.
    plain = _escaped(_SPACES.sub(" ", without_tags(made, known)).strip(), line.xml)
    first = line.text.startswith(line.tokens[0].text) if line.tokens else False
    tags = [t.markup for t in line.tokens]
    return (tags[0] + plain + "".join(tags[1:]) if first else plain + "".join(tags)), False


# What reads a text that is marked up. Raises RequestError where it cannot.
Parse = Callable[[str], Markup]


def plain_text(text: str, parse: Parse = parse_html) -> str:
    """The text of HTML without its tags, such as is asked for its language."""
    return TOKEN.sub(" ", parse(text).text)


async def translate_marked(
    texts: Sequence[str], translate: Callable[[list[str]], Awaitable[list[Translation]]], parse: Parse = parse_html
) -> list[Translation]:
    """Texts that are marked up translated by what translates plain ones, one for each and in order; raises what that and `parse` raise.

    Lines whose tags did not come back in their places have the flag `placeholder`.
    """
    if sum(map(len, texts)) > IN_PLACE:
        pages = await asyncio.to_thread(lambda: [parse(text) for text in texts])
    else:
        pages = [parse(text) for text in texts]
    made = await translate([page.text for page in pages])
    out = []
    for page, translation in zip(pages, made, strict=True):
        others = {o.text: o for o in (_written(page, other) for other in translation.alternatives)}
        whole = _written(page, translation)
        others.pop(whole.text, None)
        middle = translation.middle and _written(page, translation.middle)
        out.append(dataclasses.replace(whole, alternatives=tuple(others.values()), middle=middle))
    return out


def _written(page: Markup, made: Translation) -> Translation:
    text, whole = page.filled(made.text)
    return dataclasses.replace(made, text=text, flags=made.flags if whole else union([made.flags, ("placeholder",)]))
