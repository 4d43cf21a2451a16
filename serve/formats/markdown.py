"""Markdown: paragraphs, headings, items, quotations and cells of tables. Code, links' addresses, HTML blocks, front matter and all marks stay byte for byte.

Blocks are found by markdown-it-py (CommonMark with tables), and what dialects have beside them by serve.formats.markdown_dialects.
A paragraph's lines are one text, which is broken again into as many; a hard line break ends one.
Emphasis, links and code in a text go along as tags.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from typing import IO, Any

from serve.formats.inline_tags import line_of
from serve.formats.markdown_dialects import read_dialects
from serve.formats.markdown_inline import inline_pieces
from serve.formats.subtitles import broken
from serve.formats.units import BOM, LINE_BORDER, Options, Replacement, Unit, UnitVisitor, decoded
from tell.extras import need

_FRONT = re.compile(r"\A(---|\+\+\+)[ \t]*\r?\n.*?^(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S | re.M)
# Begins a block where it stands at the beginning of a line.
_BLOCK = re.compile(
    r"(?:[-+*>]|#{1,6}|\d{1,9}[.)]|[=~`|:]+)(?:\s|$)|[-=]+$|```|~~~|:::|!!!|\?\?\?|===|///|\[\^[^\[\]\s]+\]:|\*\[|\$\$|\\\[|\{[%:#.]|\{\{[<%]|[!?]>"
    r"|import\s|export\s"
)
# Begins one even as the first words of a paragraph: a list, a quotation, a heading, a rule, code.
_OPENING = re.compile(r"(\d{1,9})[.)](?:\s|$)|[-+*](?:\s|$)|>|#{1,6}(?:\s|$)|([-*_])(?: ?\2){2,}$|```|~~~")
# What a block may begin with, and is no text: the name of a footnote, the box of a task.
_NOTE = re.compile(r"\[\^[^\[\]\s]+\]:[ \t]+|\[[ xX]\][ \t]+")
_CELL = re.compile(r"(?:\\.|`[^`|]*`|[^|\\])+")
# Marks of quotations and items, in which a table may lie.
_BEFORE_TABLE = " \t>*+-.)0123456789"
_BAR = re.compile(r"(?<!\\)\|")
# Characters of a block: a longer one is no paragraph, and stays as it is.
LONGEST = 20_000


# Stands for a space in markup, at which a line is not broken.
_UNBROKEN = "\ue010"


def _translated(text: str, place: str, references: set[str], visitor: UnitVisitor, space: str = " ") -> str | None:
    """The translation with its markup, in which `space` is written for a space; None where nothing changes."""
    if len(text) > LONGEST:
        visitor.unreadable(place, f"a paragraph of {len(text):,} characters; at most {LONGEST:,} are translated")
        return None
    line = line_of(inline_pieces(text, references), visitor, place)
    pieces = line.translated(visitor, place, "marks") if line else None
    return None if pieces is None else "".join(p.value if p.kind == "text" else p.value.replace(" ", space) for p in pieces)


def _title(lines: list[str], place: tuple[int, int, int], references: set[str], visitor: UnitVisitor) -> None:
    """Translate the title on a line of markup, in place."""
    number, start, end = place
    line = lines[number]
    title = line[start:end].rstrip()
    translation = _translated(title, f"line {number + 1}", references, visitor)
    if translation is not None:
        # What ends a title where it stands would end it there.
        translation = translation.replace('"', "”") if '"' not in title and line[end : end + 1] == '"' else translation
        lines[number] = line[:start] + translation + line[start + len(title) :]


def _block(lines: list[str], first_line: int, contents: list[str], own: set[int], references: set[str], visitor: UnitVisitor) -> None:
    """Translate a block's lines, from `first` on, in place; `contents` are the lines' texts without marks of blocks. Each line of `own` is a text by itself."""
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
        hard = ending.startswith("  ") or core.endswith("\\") or first_line + number in own
        if not (hard or number == len(spans) - 1):
            continue
        # A group of lines up to a hard break.
        group = range(start, number + 1)
        cores = [lines[first_line + i][spans[i][0] : spans[i][1]] for i in group]
        backslash = "\\" if cores[-1].endswith("\\") and number < len(spans) - 1 else ""
        core = " ".join([*cores[:-1], cores[-1].removesuffix(backslash)])
        space = " " if _UNBROKEN in core else _UNBROKEN
        translation = _translated(core, f"line {first_line + start + 1}", references, visitor, space)
        if translation is not None:
            new_lines = broken(translation, len(cores))
            # No line may begin as a block does: the word that would goes to the line before.
            for n in range(len(new_lines) - 1, 0, -1):
                while _BLOCK.match(new_lines[n]):
                    word, _, new_lines[n] = new_lines[n].partition(" ")
                    new_lines[n - 1] += f" {word}"
            if not _OPENING.match(core) and not lines[first_line + start][: spans[start][0]].rstrip().endswith("#") and (mark := _OPENING.match(new_lines[0])):
                # `3. maí` would be an item of a list.
                at = mark.end(1) if mark.group(1) else 0
                new_lines[0] = f"{new_lines[0][:at]}\\{new_lines[0][at:]}"
            new_lines = [new_line.replace(space, " ") for new_line in (new_lines[0], *filter(None, new_lines[1:]))]
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
    dialects = read_dialects(lines)
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
    tokens = parser.parse("".join(dialects.shadow), env)
    references = set(env.get("references", {}))
    visitor_of_body = _LineOffset(visitor, skipped)
    for number in dialects.kept:
        visitor_of_body.warn(f"line {number + 1}", "a table that is drawn with lines is not translated")
    titles = collections.deque(dialects.titles)
    for i, token in enumerate(tokens):
        while titles and token.map and token.type in ("tr_open", "inline") and titles[0][0] < token.map[0]:
            _title(lines, titles.popleft(), references, visitor_of_body)
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
            _block(lines, token.map[0], token.content.split("\n"), dialects.own, references, visitor_of_body)
    for title in titles:
        _title(lines, title, references, visitor_of_body)
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
