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
# What begins a block, at the beginning of a line that was broken anew.
_BLOCK = re.compile(r"(?:[-+*>]|#{1,6}|\d{1,9}[.)]|[=~`|:]+)(?:\s|$)|[-=]+$|```|~~~")
_NOTE = re.compile(r"\[\^[^\]\s]+\]:[ \t]+")
# Characters of a block: a longer one is no paragraph, and stays as it is.
LONGEST = 20_000
_VOID_TAGS = {"br", "img", "hr", "wbr", "input"}


def _marks(text: str) -> list[Piece]:
    """Text without links as pieces. An emphasis that is not closed is text."""
    out: list[Piece] = []
    waiting: list[tuple[str, int]] = []
    at = 0
    for found in _INLINE.finditer(text):
        if found.start() < at or found.group("escape"):
            continue
        own, kind = found.group(), "void"
        if found.group("mark"):
            before, after = text[found.start() - 1 : found.start()] if found.start() else " ", text[found.end() : found.end() + 1] or " "
            word = own[0] == "_"
            opens = not after.isspace() and not (word and before.isalnum())
            closes = not before.isspace() and not (word and after.isalnum())
            if closes and any(mark == own for mark, _ in waiting):
                while waiting[-1][0] != own:
                    mark, place = waiting.pop()
                    out[place] = Piece("text", mark)
                waiting.pop()
                kind = "close"
            elif opens:
                kind = "open"
            else:
                continue
        elif found.group("tag"):
            name = re.sub(r"[^\w].*", "", own.lstrip("</")).lower()
            kind = "void" if own.endswith("/>") or name in _VOID_TAGS else "close" if own.startswith("</") else "open"
        out.append(Piece("text", text[at : found.start()]))
        if found.group("mark") and kind == "open":
            waiting.append((own, len(out)))
        out.append(Piece(kind, own))  # type: ignore[arg-type]
        at = found.end()
    for mark, place in waiting:
        out[place] = Piece("text", mark)
    return [*out, Piece("text", text[at:])]


def pieces_of(text: str, references: set[str]) -> list[Piece]:
    """The text of a block as pieces: text, and what is code, a link's address, or a mark."""
    out: list[Piece] = []
    at = 0
    code = [(m.start(), m.end()) for m in re.finditer(_CODE, text)]
    for link in _LINK.finditer(text):
        to, label = link.group("to") or "", link.group("text")
        inside = any(a <= link.start() < b for a, b in code)
        named = " ".join(label.split()).upper() in references
        if inside or link.start() < at or label.startswith("^") or (not to.startswith("(") and not (to and to != "[]") and not named):
            continue
        out += [*_marks(text[at : link.start()]), Piece("open", "["), *_marks(label)]
        # A link that is found by its own text needs a name when that changes.
        out.append(Piece("close", f"]{to}" if to not in ("", "[]") else f"][{label}]"))
        at = link.end()
    out += _marks(text[at:])
    joined: list[Piece] = []
    for piece in out:
        if piece.kind == "text" and joined and joined[-1].kind == "text":
            joined[-1] = Piece("text", joined[-1].value + piece.value)
        elif piece.kind != "text" or piece.value:
            joined.append(piece)
    return joined


def _translated(text: str, place: str, references: set[str], visitor: UnitVisitor) -> str | None:
    if len(text) > LONGEST:
        return None
    line = line_of(pieces_of(text, references))
    if line is None:
        return None
    made = visitor.visit(Unit(line.text, place, tagged=line.tagged))
    if made is None or made.failed or made.text == line.text:
        return None
    pieces, placed = line.placed(made.text)
    if not placed:
        visitor.warn(place, "marks inside the text lost their places")
    return "".join(p.value for p in (*line.before, *pieces, *line.after))


def _block(lines: list[str], first: int, contents: list[str], references: set[str], visitor: UnitVisitor) -> None:
    """A block's lines, from `first` on, in place; `contents` are what they say without marks of blocks."""
    spans = []
    for number, content in enumerate(contents):
        body, core = lines[first + number], content.strip()
        at = body.rfind(core) if core else -1
        if at < 0:
            return
        note = _NOTE.match(core) if number == 0 else None
        at += note.end() if note else 0
        spans.append((at, at + len(core) - (note.end() if note else 0)))
    start = 0
    for number, (_, end) in enumerate(spans):
        ending = lines[first + number][end:].rstrip("\r\n")
        core = lines[first + number][spans[number][0] : end]
        hard = ending.startswith("  ") or core.endswith("\\")
        if not (hard or number == len(spans) - 1):
            continue
        # A group of lines up to a hard break.
        group = range(start, number + 1)
        cores = [lines[first + i][spans[i][0] : spans[i][1]] for i in group]
        slash = "\\" if cores[-1].endswith("\\") and number < len(spans) - 1 else ""
        made = _translated(" ".join([*cores[:-1], cores[-1].removesuffix(slash)]), f"line {first + start + 1}", references, visitor)
        if made is not None:
            new = broken(made, len(cores))
            # No line may begin as a block does.
            for k in range(len(new) - 1, 0, -1):
                if _BLOCK.match(new[k]):
                    new[k - 1 : k + 1] = [f"{new[k - 1]} {new[k]}"]
            for k, i in enumerate(group):
                a, b = spans[i]
                body = lines[first + i]
                last = k == len(new) - 1
                if k < len(new):
                    tail = lines[first + group[-1]][spans[group[-1]][1] :] if last else body[b:]
                    lines[first + i] = body[:a] + new[k] + (slash if last else "") + tail
                else:
                    lines[first + i] = ""
        start = number + 1


def _cells(row: str) -> list[tuple[int, int]]:
    """(start, end) of what the cells of a row say."""
    out = []
    for found in re.finditer(r"(?:\\.|`[^`|]*`|[^|\\])+", row):
        core = found.group().strip()
        if core:
            start = found.start() + found.group().index(core)
            out.append((start, start + len(core)))
    return out


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    MarkdownIt = need("markdown_it", "files").MarkdownIt
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    for number, line in enumerate(raw[len(bom) :].split(b"\n"), 1):
        decoded(line, number, 0)
    text = raw[len(bom) :].decode()
    front = _FRONT.match(text)
    head = front.group() if front else ""
    skipped = head.count("\n")
    body = text[len(head) :]
    lines = re.split(r"(?<=\n)", body)
    before = list(lines)
    env: dict[str, dict[str, object]] = {}
    # What markdown-it takes for a line's end, and nothing else.
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body, env)
    references = set(env.get("references", {}))
    moved = _Moved(visitor, skipped)
    for i, token in enumerate(tokens):
        if token.type == "tr_open" and token.map:
            row = token.map[0]
            new, at = [], 0
            for start, end in _cells(lines[row].rstrip("\r\n")):
                made = _translated(lines[row][start:end], f"line {row + 1}", references, moved)
                if made is not None:
                    new += [lines[row][at:start], re.sub(r"(?<!\\)\|", r"\\|", made)]
                    at = end
            lines[row] = "".join([*new, lines[row][at:]])
        elif token.type == "inline" and token.map and tokens[i - 1].type in ("paragraph_open", "heading_open"):
            _block(lines, token.map[0], token.content.split("\n"), references, moved)
    out.write(raw if lines == before else bom + (head + "".join(lines)).encode())


class _Moved:
    """A pass that counts lines from the file's beginning, not from the front matter's end."""

    def __init__(self, visitor: UnitVisitor, lines: int):
        self.visitor, self.lines = visitor, lines

    def _place(self, place: str) -> str:
        return f"line {int(place.removeprefix('line ')) + self.lines}"

    def visit(self, unit: Unit) -> Replacement | None:
        return self.visitor.visit(Unit(unit.text, self._place(unit.place), unit.done, unit.tagged))

    def unreadable(self, place: str, reason: str) -> None:
        self.visitor.unreadable(self._place(place), reason)

    def warn(self, place: str, what: str) -> None:
        self.visitor.warn(self._place(place), what)
