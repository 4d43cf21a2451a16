"""Markdown: paragraphs, headings, items, quotations and cells of tables. Code, links' addresses, HTML blocks, front matter and all marks stay byte for byte.

Blocks are found by markdown-it-py (CommonMark with tables). A paragraph's lines are one text, which is broken again into as many; a hard line break ends one.
Emphasis, links and code in a text go along as tags.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Sequence
from typing import IO, Any

from serve.formats.inline_tags import Piece, joined, line_of
from serve.formats.subtitles import broken
from serve.formats.units import BOM, LINE_BORDER, Options, Replacement, Unit, UnitVisitor, decoded
from tell.extras import need

_FRONT = re.compile(r"\A(---|\+\+\+)[ \t]*\r?\n.*?^(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S | re.M)
_TARGET = r"\((?:[^()\s\\]|\\.|\([^()]*\))*(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*\)"
# What ends a text, or goes along as a tag. Of code and comments the beginning alone, since a pattern would look for their ends again and again.
_INLINE = re.compile(
    rf"(?P<escape>\\[!-/:-@\[-`{{-~])|(?P<ticks>`+)|(?P<comment><!--)"
    rf"|(?P<void>!\[[^\[\]]*\](?:{_TARGET}|\[[^\[\]]*\])|\[\^[^\[\]\s]+\]|<[A-Za-z][A-Za-z0-9+.-]{{1,31}}:[^<>\s]*>|<[^<>\s@]+@[^<>\s]+>)"
    r"|(?P<tag></?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>)"
    r"|(?P<mark>\*\*\*|\*\*|\*|___|__|_|~~)"
)
_TICKS = re.compile("`+")
_NOT_NAME = re.compile(r"[^\w].*")
_LINK = re.compile(rf"(?<![!\\])\[(?P<text>(?:[^\[\]\\`]|\\.|`[^`]*`|!\[[^\[\]]*\]{_TARGET})+)\](?P<to>{_TARGET}|\[[^\[\]]*\])?")
# Begins a block where it stands at the beginning of a line.
_BLOCK = re.compile(r"(?:[-+*>]|#{1,6}|\d{1,9}[.)]|[=~`|:]+)(?:\s|$)|[-=]+$|```|~~~")
_NOTE = re.compile(r"\[\^[^\[\]\s]+\]:[ \t]+")
_CELL = re.compile(r"(?:\\.|`[^`|]*`|[^|\\])+")
# Marks of quotations and items, in which a table may lie.
_BEFORE_TABLE = " \t>*+-.)0123456789"
_BAR = re.compile(r"(?<!\\)\|")
# Characters of a block: a longer one is no paragraph, and stays as it is.
LONGEST = 20_000
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
    return joined([*pieces, *_marks(text[position:])])


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
    for cell in _CELL.finditer(row):
        core = cell.group().strip()
        if core:
            start = cell.start() + cell.group().index(core)
            cells.append((start, start + len(core)))
    return cells


def _cells_at_most(lines: Sequence[str]) -> int:
    """The cells that a parser would make of the tables: each row gets as many as the row of dashes has, however short it is. Counted by line, before that."""
    cells = columns = 0
    for line in lines:
        if not line.strip("> \t\r\n"):
            columns = 0
        elif "|" in line and "-" in line and not line.lstrip(_BEFORE_TABLE).strip(" \t|:-\r\n"):
            columns = max(columns, line.count("|") + 1)
        cells += columns
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
    lines = LINE_BORDER.split(body)
    original_lines = list(lines)
    env: dict[str, dict[str, object]] = {}
    options.bounds.check("cells", _cells_at_most(lines))
    parser = MarkdownIt("commonmark").enable("table")
    # Only the blocks are asked for: what is inside them is found here.
    parser.disable("inline")

    def check(state: Any, *_: object) -> bool:
        options.bounds.check("blocks", len(state.tokens))
        return False

    parser.block.ruler.before("table", "bound", check)
    # The line ends are those of markdown-it, and no others.
    tokens = parser.parse(body, env)
    references = set(env.get("references", {}))
    visitor_of_body = _LineOffset(visitor, skipped)
    for i, token in enumerate(tokens):
        if token.type == "tr_open" and token.map:
            row = token.map[0]
            row_parts, position = [], 0
            for start, end in _cells(lines[row].rstrip("\r\n")):
                translation = _translated(lines[row][start:end], f"line {row + 1}", references, visitor_of_body)
                if translation is not None:
                    row_parts += [lines[row][position:start], _BAR.sub(r"\\|", translation)]
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
