"""Markdown: paragraphs, headings, items, quotations and cells of tables. Code, links' addresses, HTML blocks, front matter and all marks stay byte for byte.

Blocks are found by markdown-it-py (CommonMark with tables). A paragraph's lines are one text, which is broken again into as many; a hard line break ends one.
Emphasis, links and code in a text go along as tags.
"""

from __future__ import annotations

import re
from typing import IO

from serve.formats.inline_tags import Piece, line_of
from serve.formats.subtitles import broken
from serve.formats.units import BOM, Options, Replacement, Unit, UnitVisitor, decoded
from tell.extras import need

_FRONT = re.compile(r"\A(---|\+\+\+)[ \t]*\r?\n.*?^(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S | re.M)
_CODE = r"(?P<code>(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))"
_TARGET = r"\((?:[^()\s\\]|\\.|\([^()]*\))*(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*\)"
_INLINE = re.compile(
    rf"(?P<escape>\\[!-/:-@\[-`{{-~])|{_CODE}"
    rf"|(?P<void>!\[[^\[\]]*\](?:{_TARGET}|\[[^\[\]]*\])|\[\^[^\[\]\s]+\]|<[A-Za-z][A-Za-z0-9+.-]{{1,31}}:[^<>\s]*>|<[^<>\s@]+@[^<>\s]+>|<!--.*?-->)"
    r"|(?P<tag></?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>)"
    r"|(?P<mark>\*\*\*|\*\*|\*|___|__|_|~~)"
)
_LINK = re.compile(rf"(?<![!\\])\[(?P<text>(?:[^\[\]\\`]|\\.|`[^`]*`|!\[[^\[\]]*\]{_TARGET})+)\](?P<to>{_TARGET}|\[[^\[\]]*\])?")
# Begins a block where it stands at the beginning of a line.
_BLOCK = re.compile(r"(?:[-+*>]|#{1,6}|\d{1,9}[.)]|[=~`|:]+)(?:\s|$)|[-=]+$|```|~~~")
_NOTE = re.compile(r"\[\^[^\]\s]+\]:[ \t]+")
# Characters of a block: a longer one is no paragraph, and stays as it is.
LONGEST = 20_000
_VOID_TAGS = {"br", "img", "hr", "wbr", "input"}


def _marks(text: str) -> list[Piece]:
    """Text without links as pieces. An emphasis that is not closed is text."""
    pieces: list[Piece] = []
    open_marks: list[tuple[str, int]] = []
    position = 0
    for inline in _INLINE.finditer(text):
        if inline.start() < position or inline.group("escape"):
            continue
        markup, kind = inline.group(), "void"
        if inline.group("mark"):
            before, after = text[inline.start() - 1 : inline.start()] if inline.start() else " ", text[inline.end() : inline.end() + 1] or " "
            is_underscore = markup[0] == "_"
            opens = not after.isspace() and not (is_underscore and before.isalnum())
            closes = not before.isspace() and not (is_underscore and after.isalnum())
            if closes and any(mark == markup for mark, _ in open_marks):
                while open_marks[-1][0] != markup:
                    mark, index = open_marks.pop()
                    pieces[index] = Piece("text", mark)
                open_marks.pop()
                kind = "close"
            elif opens:
                kind = "open"
            else:
                continue
        elif inline.group("tag"):
            name = re.sub(r"[^\w].*", "", markup.lstrip("</")).lower()
            kind = "void" if markup.endswith("/>") or name in _VOID_TAGS else "close" if markup.startswith("</") else "open"
        pieces.append(Piece("text", text[position : inline.start()]))
        if inline.group("mark") and kind == "open":
            open_marks.append((markup, len(pieces)))
        pieces.append(Piece(kind, markup))  # type: ignore[arg-type]
        position = inline.end()
    for mark, index in open_marks:
        pieces[index] = Piece("text", mark)
    return [*pieces, Piece("text", text[position:])]


def inline_pieces(text: str, references: set[str]) -> list[Piece]:
    """The text of a block as pieces: text, code, addresses of links, and marks."""
    pieces: list[Piece] = []
    position = 0
    code_spans = [(m.start(), m.end()) for m in re.finditer(_CODE, text)]
    for link in _LINK.finditer(text):
        target, label = link.group("to") or "", link.group("text")
        inside = any(a <= link.start() < b for a, b in code_spans)
        is_reference = " ".join(label.split()).upper() in references
        if inside or link.start() < position or label.startswith("^") or (not target.startswith("(") and not (target and target != "[]") and not is_reference):
            continue
        pieces += [*_marks(text[position : link.start()]), Piece("open", "["), *_marks(label)]
        # A link that is found by its own text needs a name when that changes.
        pieces.append(Piece("close", f"]{target}" if target not in ("", "[]") else f"][{label}]"))
        position = link.end()
    pieces += _marks(text[position:])
    joined: list[Piece] = []
    for piece in pieces:
        if piece.kind == "text" and joined and joined[-1].kind == "text":
            joined[-1] = Piece("text", joined[-1].value + piece.value)
        elif piece.kind != "text" or piece.value:
            joined.append(piece)
    return joined


def _translated(text: str, place: str, references: set[str], visitor: UnitVisitor) -> str | None:
    if len(text) > LONGEST:
        return None
    line = line_of(inline_pieces(text, references))
    if line is None:
        return None
    replacement = visitor.visit(Unit(line.text, place, tagged=line.tagged))
    if replacement is None or replacement.failed or replacement.text == line.text:
        return None
    pieces, placed = line.placed(replacement.text)
    if not placed:
        visitor.warn(place, "marks inside the text lost their places")
    return "".join(p.value for p in (*line.before, *pieces, *line.after))


def _block(lines: list[str], first_line: int, contents: list[str], references: set[str], visitor: UnitVisitor) -> None:
    """Translate a block's lines, from `first` on, in place; `contents` are the lines' texts without marks of blocks."""
    spans = []
    for number, content in enumerate(contents):
        body, core = lines[first_line + number], content.strip()
        column = body.rfind(core) if core else -1
        if column < 0:
            return
        note = _NOTE.match(core) if number == 0 else None
        column += note.end() if note else 0
        spans.append((column, column + len(core) - (note.end() if note else 0)))
    start = 0
    for number, (_, end) in enumerate(spans):
        ending = lines[first_line + number][end:].rstrip("\r\n")
        core = lines[first_line + number][spans[number][0] : end]
        hard = ending.startswith("  ") or core.endswith("\\")
        if not (hard or number == len(spans) - 1):
            continue
        # A group of lines up to a hard break.
        group = range(start, number + 1)
        cores = [lines[first_line + i][spans[i][0] : spans[i][1]] for i in group]
        backslash = "\\" if cores[-1].endswith("\\") and number < len(spans) - 1 else ""
        translation = _translated(" ".join([*cores[:-1], cores[-1].removesuffix(backslash)]), f"line {first_line + start + 1}", references, visitor)
        if translation is not None:
            new_lines = broken(translation, len(cores))
            # No line may begin as a block does.
            for n in range(len(new_lines) - 1, 0, -1):
                if _BLOCK.match(new_lines[n]):
                    new_lines[n - 1 : n + 1] = [f"{new_lines[n - 1]} {new_lines[n]}"]
            for n, i in enumerate(group):
                start_column, end_column = spans[i]
                body = lines[first_line + i]
                is_last = n == len(new_lines) - 1
                if n < len(new_lines):
                    tail = lines[first_line + group[-1]][spans[group[-1]][1] :] if is_last else body[end_column:]
                    lines[first_line + i] = body[:start_column] + new_lines[n] + (backslash if is_last else "") + tail
                else:
                    lines[first_line + i] = ""
        start = number + 1


def _cells(row: str) -> list[tuple[int, int]]:
    """(start, end) of the texts in the cells of a row."""
    cells = []
    for cell in re.finditer(r"(?:\\.|`[^`|]*`|[^|\\])+", row):
        core = cell.group().strip()
        if core:
            start = cell.start() + cell.group().index(core)
            cells.append((start, start + len(core)))
    return cells


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    MarkdownIt = need("markdown_it", "files").MarkdownIt
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    for number, line in enumerate(raw[len(bom) :].split(b"\n"), 1):
        decoded(line, number, 0)
    text = raw[len(bom) :].decode()
    front_matter = _FRONT.match(text)
    front_text = front_matter.group() if front_matter else ""
    skipped = front_text.count("\n")
    body = text[len(front_text) :]
    lines = re.split(r"(?<=\n)", body)
    original_lines = list(lines)
    env: dict[str, dict[str, object]] = {}
    # The line ends are those of markdown-it, and no others.
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body, env)
    references = set(env.get("references", {}))
    visitor_of_body = _LineOffset(visitor, skipped)
    for i, token in enumerate(tokens):
        if token.type == "tr_open" and token.map:
            row = token.map[0]
            row_parts, position = [], 0
            for start, end in _cells(lines[row].rstrip("\r\n")):
                translation = _translated(lines[row][start:end], f"line {row + 1}", references, visitor_of_body)
                if translation is not None:
                    row_parts += [lines[row][position:start], re.sub(r"(?<!\\)\|", r"\\|", translation)]
                    position = end
            lines[row] = "".join([*row_parts, lines[row][position:]])
        elif token.type == "inline" and token.map and tokens[i - 1].type in ("paragraph_open", "heading_open"):
            _block(lines, token.map[0], token.content.split("\n"), references, visitor_of_body)
    out.write(raw if lines == original_lines else bom + (front_text + "".join(lines)).encode())


class _LineOffset:
    """Passes units on to a visitor, with line numbers counted from the file's beginning instead of the end of its front matter."""

    def __init__(self, visitor: UnitVisitor, lines: int):
        self.visitor, self.lines = visitor, lines

    def _place(self, place: str) -> str:
        return f"line {int(place.removeprefix('line ')) + self.lines}"

    def visit(self, unit: Unit) -> Replacement | None:
        return self.visitor.visit(Unit(unit.text, self._place(unit.place), unit.translated, unit.tagged))

    def unreadable(self, place: str, reason: str) -> None:
        self.visitor.unreadable(self._place(place), reason)

    def warn(self, place: str, warning: str) -> None:
        self.visitor.warn(self._place(place), warning)
