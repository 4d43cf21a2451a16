"""HTML in, HTML out: its texts as lines to translate, and the page with their translations in it.

Reads and writes strings; asks no engine. Parsed by selectolax (lexbor) as browsers do, so what is broken comes back as they would read it. Text is
written escaped, whatever it spells: markup that was text stays text. Elements and attributes are those of the source.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence, Set
from typing import Any

from serve.formats import html_elements
from serve.formats.html_elements import INLINE, KEPT, SPELLED, VOID
from serve.formats.tag_placeholders import TOKEN, free_letter, matches, split_at_tags, without_tags
from serve.threads import TEXTS
from serve.translation.markup_lines import MarkupLine, Token
from serve.translation.markup_templates import with_code, without_code
from serve.translation.request import Translation
from tell.text.flags import union

# A page's head is opaque too; a part of a page has none.
OPAQUE = html_elements.OPAQUE | {"head"}
_SPACES = re.compile(r"[ \t\n\r\f]+")
_LINE_END = re.compile(r"(\r\n|\n|\r)")
_COMMENTS = r"(?:[ \t\n\r\f]*<!--(?:(?!-->).)*-->)*[ \t\n\r\f]*"
# Stands before the first element of a whole page; a part of one has none.
_PAGE = re.compile(rf"({_COMMENTS}<!doctype[^>]{{0,500}}>{_COMMENTS})|({_COMMENTS})(?=<(?:html|head|body)\b)", re.I | re.S)
# Elements that only stand in a table, and what is around them there.
_TABLE_PARTS = {
    **dict.fromkeys(("caption", "colgroup", "thead", "tbody", "tfoot"), ("table",)),
    "col": ("table", "colgroup"),
    "tr": ("table", "tbody"),
    **dict.fromkeys(("td", "th"), ("table", "tbody", "tr")),
}
_TABLE_PART = re.compile(rf"{_COMMENTS}<({'|'.join(_TABLE_PARTS)})(?=[\s/>])", re.I | re.S)
# Characters that are parsed where they are; more go to a thread.
IN_PLACE = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Markup:
    """A page or a part of one: markup as it stands, and lines."""

    parts: tuple[str | MarkupLine, ...]

    @property
    def text(self) -> str:
        """The lines to translate, with line breaks between them."""
        return "\n".join(p.text for p in self.parts if isinstance(p, MarkupLine))

    def filled(self, text: str) -> tuple[str, bool]:
        """The markup with its lines translated, and whether each tag in them has its place: where they were lost, they stand around their line."""
        line_count, lines = sum(isinstance(p, MarkupLine) for p in self.parts), text.split("\n")
        if line_count > 1 and len(lines) != line_count:
            raise ValueError(f"{len(lines)} translations for {line_count} lines")
        lines.reverse()
        output: list[str] = []
        all_placed = True
        for part in self.parts:
            if isinstance(part, str):
                output.append(part)
                continue
            translation, placed = _placed(part, lines.pop())
            all_placed = all_placed and placed
            output += [part.before, translation, part.after]
        return "".join(output), all_placed


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("\u00a0", "&nbsp;")


def _start(node: Any) -> str:
    attributes = (f' {name}="{html.escape(value)}"' if value is not None else f" {name}" for name, value in node.attributes.items())
    return f"<{node.tag}{''.join(attributes)}>".replace("\u00a0", "&nbsp;").replace("&#x27;", "'")


def _stays(node: Any, ignored: Set[str]) -> bool:
    """Whether an element with all its content stays as it is."""
    attributes = node.attributes
    said = (attributes.get("translate") or "").strip().lower() if "translate" in attributes else None
    if node.tag in ignored or (node.tag in OPAQUE and not (said == "yes" and node.tag in SPELLED)):
        return True
    return said == "no" if said is not None else "notranslate" in (attributes.get("class") or "").split()


def _around_wanted(root: Any) -> set[int]:
    """The elements that hold one with translate="yes", by their places in memory."""
    around: set[int] = set()
    first = root
    while first is not None:
        for node in first.css("[translate]") if not (first.tag or "-").startswith("-") else ():
            parent = node.parent if (node.attributes.get("translate") or "").strip().lower() in ("", "yes") else None
            while parent is not None and parent.mem_id not in around:
                around.add(parent.mem_id)
                parent = parent.parent
        first = first.next
    return around


# A step of the walk over a tree: text, a tag inside a sentence, or markup that ends one.
Piece = tuple[str, str]
# Kinds of text: in which white space is one space, and in which it stays.
TEXT = ("text", "raw")


def _markup_of_node(node: Any, first: Any) -> str:
    """An element or comment as markup. For the first one the parser also writes the siblings that follow it; they are taken off."""
    text = node.html or ""
    if node is not first:
        return text
    following, sibling = [], node.next
    while sibling is not None:
        following.append(sibling.html or "")
        sibling = sibling.next
    return text.removesuffix("".join(following))


def _walk(first: Any, ignored: Set[str], around_wanted: Set[int] = frozenset()) -> Iterator[Piece]:
    """("text", decoded), ("raw", text of <pre>), ("open" | "close" | "void", tag) and ("block", markup), in order.

    Not recursive: pages nest deeper than Python does.
    """
    stack: list[Any] = [first]
    preformatted = 0
    # Whether text stays as it is, inside an element that holds one whose text does not.
    stays = False
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            preformatted -= node[1]
            stays = node[2]
            yield node[0]
            continue
        if node is None:
            continue
        stack.append(node.next)
        if node.tag is None:
            # A processing instruction, such as <?php ... ?>: the parser's tree has it without a name.
            yield "void", _markup_of_node(node, first)
        elif node.tag == "-text":
            text = node.text_content or ""
            yield ("void", _escaped(text)) if stays else ("raw" if preformatted else "text", text)
        elif node.tag.startswith("-"):
            yield "block" if node.tag != "-comment" else "void", _markup_of_node(node, first)
        elif (kept := _stays(node, ignored)) and not (node.mem_id in around_wanted and node.tag not in OPAQUE - SPELLED and node.tag not in ignored):
            yield ("void" if node.tag in INLINE else "block"), _markup_of_node(node, first)
        elif node.tag in VOID:
            yield ("void" if node.tag in INLINE else "block"), _start(node)
        else:
            inline = node.tag in INLINE
            # The parser has taken the line break that follows <pre>, and would take the next one.
            starts_with_break = node.tag in KEPT and (node.text() or "").startswith("\n")
            yield ("open" if inline else "block"), _start(node) + "\n" * starts_with_break
            preformatted += node.tag in KEPT
            stack += [((("close" if inline else "block"), f"</{node.tag}>"), int(node.tag in KEPT), stays), node.first_child]
            stays = kept or (stays and (node.attributes.get("translate", "no") or "").strip().lower() not in ("", "yes"))


def _in_table(text: str, first_tag: str) -> Any | None:
    """The first node of a part of a table, which only a parser that is inside one keeps; None where the text does not stay within that part."""
    from selectolax.lexbor import LexborHTMLParser

    around = _TABLE_PARTS[first_tag]
    root = LexborHTMLParser("".join(f"<{name}>" for name in around) + text, is_fragment=True).root
    if root is None:
        return None
    node: Any = root
    for name in around:
        # Text that stands between rows or cells is moved before the table, and what closes an element goes on beside it.
        if node is None or node.tag != name or node.next is not None:
            return None
        node = node.first_child
    return node


def parse_html(text: str, ignored: Set[str] = frozenset()) -> Markup:
    """A page, or a part of one; `ignored` elements and code of templates stay as they are. Never raises: to an HTML parser nothing is an error."""
    text, codes = without_code(text)
    markup = _parsed(text, ignored)
    return Markup(tuple(with_code(part, codes) for part in markup.parts)) if codes else markup


def _parsed(text: str, ignored: Set[str]) -> Markup:
    from selectolax.lexbor import LexborHTMLParser

    prologue = _PAGE.match(text)
    root = LexborHTMLParser(text, is_fragment=not prologue).root if text.strip() else None
    if not prologue and root is not None and (table_part := _TABLE_PART.match(text)):
        root = _in_table(text, table_part[1].lower()) or root
    if root is None:
        # Nothing but white space, which has no tree.
        return Markup((text,) if text and not text.strip() else ())
    parts: list[str | MarkupLine] = [prologue.group() if prologue else ""]
    letter = free_letter(html.unescape(text))
    stretch: list[Piece] = []
    for kind, value in _walk(root, ignored, _around_wanted(root) if "translate" in text else frozenset()):
        if kind == "block":
            parts += lines_of_stretch(stretch, letter)
            parts.append(value)
            stretch = []
        elif kind == "raw":
            for line in _LINE_END.split(value):
                if line in ("\n", "\r", "\r\n"):
                    parts += [*lines_of_stretch(stretch, letter), line]
                    stretch = []
                elif line:
                    stretch.append(("raw", line))
        elif kind == "text" and stretch and stretch[-1][0] == "text":
            stretch[-1] = ("text", stretch[-1][1] + value)
        else:
            stretch.append((kind, value))
    parts += lines_of_stretch(stretch, letter)
    return Markup(tuple(p for p in parts if p))


def lines_of_stretch(stretch: list[Piece], letter: str, escape: Callable[[str], str] = _escaped) -> list[str | MarkupLine]:
    """A stretch between two ends of sentences as a line, or as markup where it holds no letter. `escape` writes text as markup."""
    if not any(kind in TEXT and any(map(str.isalpha, value)) for kind, value in stretch):
        return ["".join(_markup(piece, escape) for piece in stretch)] if stretch else []
    before, stretch, after = _peeled(stretch, escape)
    tokens: list[Token] = []
    text_parts: list[str] = []
    closing, opening = matches([kind for kind, _ in stretch])
    for number, (kind, value) in enumerate(stretch):
        if kind in TEXT:
            # White space at the ends is taken off before it becomes one space.
            start = len(value) - len(value.lstrip()) if number == 0 else 0
            end = len(value.rstrip()) if number == len(stretch) - 1 else len(value)
            before, after = before + escape(value[:start]), escape(value[end:]) + after
            text_parts.append(value[start:end] if kind == "raw" else _SPACES.sub(" ", value[start:end]))
            continue
        token = f"<{letter}{number}/>"
        if number in closing:
            token = f"<{letter}{number}>"
        elif number in opening:
            token = f"</{letter}{opening[number]}>"
        tokens.append(Token(token, value))
        text_parts.append(token)
    return [MarkupLine(before, "".join(text_parts), after, tuple(tokens), escape)]


def _peeled(stretch: list[Piece], escape: Callable[[str], str]) -> tuple[str, list[Piece], str]:
    """A stretch without the tags and the space all around it: a model cannot lose what it does not see."""
    closing = matches([kind for kind, _ in stretch])[0]
    first, last = 0, len(stretch) - 1
    before: list[str] = []
    after: list[str] = []
    while True:
        if stretch[first][0] == "void" or (stretch[first][0] in TEXT and not stretch[first][1].strip()):
            before.append(_markup(stretch[first], escape))
            first += 1
        elif stretch[last][0] == "void" or (stretch[last][0] in TEXT and not stretch[last][1].strip()):
            after.append(_markup(stretch[last], escape))
            last -= 1
        elif closing.get(first) == last:
            before.append(stretch[first][1])
            after.append(stretch[last][1])
            first, last = first + 1, last - 1
        else:
            return "".join(before), stretch[first : last + 1], "".join(reversed(after))


def _markup(piece: Piece, escape: Callable[[str], str]) -> str:
    return escape(piece[1]) if piece[0] in TEXT else piece[1]


def _placed(line: MarkupLine, translation: str) -> tuple[str, bool]:
    """A line's translation as markup, and whether its tags were all there, each once and inside each other as elements must be."""
    markup_of = {t.text: t.markup for t in line.tokens}
    parts, well_nested = split_at_tags(translation, markup_of)
    if well_nested:
        return "".join(markup_of[value] if i % 2 else line.escape(value) for i, value in enumerate(parts)), True
    # The whole text in one stretch, where its first word was, and all tags in their order, empty or not.
    text = line.escape(_SPACES.sub(" ", without_tags(translation, markup_of)).strip())
    tag_first = line.text.startswith(line.tokens[0].text) if line.tokens else False
    tags = [t.markup for t in line.tokens]
    return (tags[0] + text + "".join(tags[1:]) if tag_first else text + "".join(tags)), False


# Reads a text with markup. Raises RequestError where it cannot.
Parse = Callable[[str], Markup]


def plain_text(text: str, parse: Parse = parse_html) -> str:
    """The text without its tags, for example to detect its language."""
    return TOKEN.sub(" ", parse(text).text)


async def translate_marked(
    texts: Sequence[str], translate: Callable[[list[str]], Awaitable[list[Translation]]], parse: Parse = parse_html
) -> list[Translation]:
    """The translations of texts with markup, in order; `translate` translates their plain lines. Raises what `translate` and `parse` raise.

    A translation whose tags did not all come back in their places has the flag `placeholder`.
    """
    if sum(map(len, texts)) > IN_PLACE:
        pages = await TEXTS.run(lambda: [parse(text) for text in texts])
    else:
        pages = [parse(text) for text in texts]
    translations = await translate([page.text for page in pages])
    marked = []
    for page, translation in zip(pages, translations, strict=True):
        alternatives = {alternative.text: alternative for alternative in (_written(page, plain) for plain in translation.alternatives)}
        main = _written(page, translation)
        alternatives.pop(main.text, None)
        middle = translation.middle and _written(page, translation.middle)
        marked.append(dataclasses.replace(main, alternatives=tuple(alternatives.values()), middle=middle))
    return marked


def _written(page: Markup, translation: Translation) -> Translation:
    text, all_placed = page.filled(translation.text)
    return dataclasses.replace(translation, text=text, flags=translation.flags if all_placed else union([translation.flags, ("placeholder",)]))
