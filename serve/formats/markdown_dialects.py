"""What dialects of Markdown have beside CommonMark, line by line: containers, notes, tabs, definitions, templates, formulas and components.

Reads lines, and gives as many for a parser of CommonMark, which takes no offence at them: a line that is markup alone is blank there, bodies that are indented
for their container are not, and what begins an entry (a definition, a footnote, an abbreviation) is an item. Titles on lines of markup are told by their place.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

from serve.formats import markdown_marks as marks


@dataclasses.dataclass(slots=True)
class Dialects:
    """`shadow`: the lines as a parser of CommonMark gets them. `titles`: (line, start, end) of the texts on lines of markup, in order. `own`: lines of
    which each is a text of its own, such as the terms before a definition."""

    shadow: list[str]
    titles: list[tuple[int, int, int]]
    own: set[int]
    # The first lines of tables that stay as they are.
    kept: list[int]


@dataclasses.dataclass(slots=True)
class _Line:
    """`quote` and `end`: the marks of quotations before it and the line end; `core`: its text, from `column` on; `indent` in columns, of which `outer` stand
    before the marks."""

    quote: str
    core: str
    end: str
    column: int
    indent: int
    outer: int


def _line(raw: str) -> _Line:
    text = raw.rstrip("\r\n")
    quote = marks.QUOTE.match(text)
    quoted = quote.group() if quote else ""
    outer = len(quoted[: len(quoted) - len(quoted.lstrip())].expandtabs(marks.TABS))
    inner = text[len(quoted) :]
    core = inner.strip()
    lead = inner[: len(inner) - len(inner.lstrip())]
    return _Line(quoted.lstrip(), core, raw[len(text) :], len(quoted) + len(lead), outer + len(lead.expandtabs(marks.TABS)), outer)


class _Reader:
    def __init__(self, lines: Sequence[str]):
        self.lines = [_line(raw) for raw in lines]
        self.raw = lines
        self.shadow: list[str] = []
        self.titles: list[tuple[int, int, int]] = []
        self.own: set[int] = set()
        # The columns at which containers begin whose bodies are indented.
        self.containers: list[int] = []
        self.in_list = False
        # Templates that hold code and elements of HTML that are not closed any more.
        self.unclosed: set[str] = set()
        # Fences that hold text, and the lines of tables that stay.
        self.directives: list[str] = []
        self.kept: list[int] = []

    def read(self) -> Dialects:
        fence = ""
        in_quote = False
        number = 0
        while number < len(self.lines):
            line = self.lines[number]
            if not line.core:
                self._write(number, self.raw[number])
                number += 1
                continue
            while self.containers and line.indent < self.containers[-1] + marks.TABS:
                self.containers.pop()
                fence = ""
            indent = line.indent - marks.TABS * len(self.containers)
            if fence:
                if in_quote and not line.quote:
                    fence = ""
                    continue
                if in_quote == bool(line.quote) and line.core.startswith(fence) and not line.core.strip(fence[0]):
                    fence = ""
                self._text(number)
                number += 1
                continue
            if end := self._html(number):
                for skipped in range(number, end):
                    self._text(skipped)
                number = end
                continue
            if indent < 4 or self.in_list:
                if directive := self._fenced_directive(number):
                    for skipped in range(number, directive):
                        self._blank(skipped)
                    number = directive
                    continue
                if opening := marks.FENCE.match(line.core):
                    fence, in_quote = opening[1], bool(line.quote)
                elif end := self._markup(number):
                    for skipped in range(number, end):
                        self._blank(skipped)
                    number = end
                    continue
                elif self._entry(number):
                    number += 1
                    continue
            if indent <= 0 or marks.ITEM.match(line.core):
                self.in_list = marks.ITEM.match(line.core) is not None
            self._text(number)
            number += 1
        return Dialects(self.shadow, self.titles, self.own, self.kept)

    def _write(self, number: int, text: str) -> None:
        assert number == len(self.shadow)
        self.shadow.append(text)

    def _blank(self, number: int) -> None:
        line = self.lines[number]
        self._write(number, self._dedented(line)[0] + line.quote.rstrip() + line.end if line.quote else line.end)

    def _dedented(self, line: _Line) -> tuple[str, str]:
        """The space before the marks of quotations, and after them, less what containers take."""
        taken = marks.TABS * len(self.containers)
        return " " * max(0, line.outer - taken), " " * max(0, line.indent - max(line.outer, taken))

    def _text(self, number: int, core: str | None = None) -> None:
        """A line of text, less indented by what its containers take."""
        line = self.lines[number]
        if core is None and not self.containers:
            self._write(number, self.raw[number])
            return
        text = self.raw[number][line.column :] if core is None else core + line.end
        outer, inner = self._dedented(line)
        self._write(number, outer + line.quote + inner + text)

    def _html(self, number: int) -> int:
        """The line after a comment or an element that holds no Markdown and ends on a later line; 0 where none begins."""
        core = self.lines[number].core
        block = marks.HTML.match(core)
        if block is None:
            return 0
        closer = f"</{block[1].lower()}" if block[1] else "-->"
        if closer in core[block.end() :].lower() or closer in self.unclosed:
            return 0
        for ahead in range(number + 1, len(self.lines)):
            if closer in self.lines[ahead].core.lower():
                return ahead + 1
        self.unclosed.add(closer)
        return 0

    def _title(self, number: int, match: re.Match[str], group: str = "title") -> None:
        if (match[group] or "").strip():
            start, end = match.span(group)
            self.titles.append((number, self.lines[number].column + start, self.lines[number].column + end))

    def _fenced_directive(self, number: int) -> int:
        """The line after the beginning of a directive of MyST that holds text, with its options, or after its end; 0 for any other line."""
        core = self.lines[number].core
        if self.directives and core.startswith(self.directives[-1]) and not core.strip(core[0]):
            self.directives.pop()
            return number + 1
        directive = marks.FENCED_DIRECTIVE.fullmatch(core) if core[0] in "`~" else None
        if directive is None or directive["name"] not in marks.DIRECTIVE_NAMES:
            return 0
        self.directives.append(directive[1])
        if directive["name"] not in ("div", "grid", "tab-set"):
            self._title(number, directive)
        return self._after_options(number)

    def _after_options(self, number: int) -> int:
        number += 1
        while number < len(self.lines) and marks.OPTION.fullmatch(self.lines[number].core):
            number += 1
        return number

    def _table(self, number: int) -> int:
        """The line after a table that is drawn; 0 where none begins."""
        core = self.lines[number].core
        if marks.GRID.fullmatch(core):
            end = self._until_blank(number)
        elif marks.COLUMNS.fullmatch(core) or (number + 1 < len(self.lines) and marks.COLUMNS.fullmatch(self.lines[number + 1].core)):
            # Around the columns, over blank lines, or under their heads.
            end = self._until_blank(number)
            closing = next((i for i in range(end, min(end + marks.AHEAD, len(self.lines))) if marks.COLUMNS.fullmatch(self.lines[i].core)), None)
            end = end if closing is None or not core.startswith("--") else closing + 1
        else:
            return 0
        self.kept.append(number)
        return end

    def _entry(self, number: int) -> bool:
        """Whether the line begins an entry, of which the text goes on after the mark; written as an item."""
        line = self.lines[number]
        entry, marked = marks.ENTRY.match(line.core), marks.MARKED.match(line.core)
        if marked:
            self._text(number, line.core[marked.end() :])
            return True
        if entry is None or (line.core[0] == ":" and not self._terms(number)) or (line.core[0] == "|" and self._in_table(number)):
            return False
        self._text(number, f"- {line.core[entry.end() :]}")
        self.in_list = True
        return True

    def _in_table(self, number: int) -> bool:
        """Whether a line with one bar is a row, and none of a block of lines."""
        before = itertools.takewhile(bool, (self.lines[i].core for i in range(number - 1, max(-1, number - 4), -1)))
        around = [*before, *itertools.takewhile(bool, (line.core for line in self.lines[number : number + 3]))]
        return any(core.count("|") > 1 or ("|" in core and marks.DASHES.fullmatch(core)) for core in around)

    def _terms(self, number: int) -> bool:
        """Whether there is a term before a definition, or another definition; each of several lines is a term."""
        before = number - 1
        if before >= 0 and not self.lines[before].core:
            before -= 1
        if before < 0 or not self.lines[before].core:
            return False
        first = before
        while first >= 0 and number - first < marks.AHEAD and self.lines[first].core and self.shadow[first] == self.raw[first]:
            first -= 1
        if first < 0 or not self.lines[first].core:
            self.own.update(range(first + 1, before + 1))
        return True

    def _markup(self, number: int) -> int:
        """The line after the markup that begins on a line; 0 where the line is text."""
        line = self.lines[number]
        core, sign = line.core, line.core[0]
        if sign in "$\\" and (end := self._formula(number)):
            return end
        if sign == "{" and (end := self._template(number)):
            return end
        if marks.MARKUP.fullmatch(core) or marks.DIRECTIVE.fullmatch(core):
            return self._snippets(number) if marks.SNIPPETS.fullmatch(core) else number + 1
        if sign == ":" and (colons := marks.COLONS.fullmatch(core)) and (len(colons[1]) > 2 or colons["label"] is not None):
            self._title(number, colons, "label")
            if not marks.ATTRIBUTES.match(colons["title"]):
                self._title(number, colons)
            return self._after_options(number) if "{" in core else number + 1
        if sign == "[" and line.quote and (alert := marks.ALERT.fullmatch(core)):
            self._title(number, alert)
            return number + 1
        indented = (sign in "!?" and marks.INDENTED.fullmatch(core)) or (sign == "=" and marks.TAB.fullmatch(core))
        if indented and (indented["title"] is not None or self._has_body(number)):
            self._title(number, indented)
            self.containers.append(line.indent)
            return number + 1
        if sign == "/" and (slashes := marks.SLASHES.fullmatch(core)):
            if slashes["name"] not in marks.NO_TITLE:
                self._title(number, slashes)
            return self._options(number) if slashes["name"] else number + 1
        if end := self._table(number):
            return end
        if sign in "ie" and not line.column and marks.IMPORT.match(core) and (number == 0 or not self.shadow[number - 1].strip()):
            return self._until_blank(number)
        if sign in "<{" and marks.COMPONENT.match(core):
            return self._component(number)
        return 0

    def _has_body(self, number: int) -> bool:
        following = next((line for line in self.lines[number + 1 : number + 4] if line.core), None)
        return following is not None and following.indent >= self.lines[number].indent + marks.TABS

    def _until_blank(self, number: int) -> int:
        while number < len(self.lines) and self.lines[number].core:
            number += 1
        return number

    def _options(self, number: int) -> int:
        """The line after the options of a block, which are indented."""
        start = self.lines[number].indent + marks.TABS
        number += 1
        while number < len(self.lines) and self.lines[number].core and self.lines[number].indent >= start:
            number += 1
        return number

    def _snippets(self, number: int) -> int:
        """The line after a list of files that are put in."""
        for ahead in range(number + 1, min(number + marks.AHEAD, len(self.lines))):
            if marks.SNIPPETS.fullmatch(self.lines[ahead].core):
                return ahead + 1
        return number + 1

    def _found(self, number: int, closer: str, column: int, over_blanks: bool = False) -> tuple[int, int]:
        """(line, column in its core) of what closes, from a column of a line's core on; (-1, -1) where it is not there."""
        for ahead in range(number, min(number + marks.AHEAD, len(self.lines))):
            core = self.lines[ahead].core
            if not core and not over_blanks:
                break
            found = core.find(closer, column)
            if found >= 0:
                return ahead, found
            column = 0
        return -1, -1

    def _formula(self, number: int) -> int:
        core = self.lines[number].core
        begin = marks.BEGIN.match(core)
        if begin:
            opener, closer = begin.group(), f"\\end{{{begin[1]}}}"
        elif core.startswith("$$"):
            opener = closer = "$$"
        elif core.startswith(("\\[", "\\\\[")):
            opener = core[: core.index("[") + 1]
            closer = opener.replace("[", "]")
        else:
            return 0
        line, column = self._found(number, closer, len(opener))
        after = self.lines[line].core[column + len(closer) :].strip() if line >= 0 else "text"
        # A label of an equation may stand after it.
        if after and not marks.MARKUP.fullmatch(after) and not (after.startswith("(") and after.endswith(")")):
            return 0
        # Brackets may be escaped for their own sake.
        escaped = line == number and not begin and closer[0] == "\\"
        return 0 if escaped and not marks.is_formula(core[len(opener) : column]) else line + 1

    def _template(self, number: int) -> int:
        """The line after tags of templates that fill whole lines."""
        line, column, name = number, 0, ""
        while True:
            core = self.lines[line].core
            opening = marks.TEMPLATE.match(core, column)
            if opening is None:
                return 0
            named = marks.TEMPLATE_NAME.match(core, opening.end())
            name = named[1] if named else ""
            closer = marks.TEMPLATE_END[opening.group()]
            line, column = self._found(line, closer, opening.end(), over_blanks=True)
            if line < 0:
                return 0
            rest = self.lines[line].core[column + len(closer) :]
            if not rest.strip():
                break
            column = len(self.lines[line].core) - len(rest.lstrip())
        if name in marks.CODE and name not in self.unclosed:
            for ahead in range(line + 1, len(self.lines)):
                core = self.lines[ahead].core
                if core.startswith("{") and (f"end{name}" in core or f"/{name}" in core or f"/ {name}" in core):
                    return ahead + 1
            self.unclosed.add(name)
        return line + 1

    def _component(self, number: int) -> int:
        """The line after a component's tag that fills whole lines, or a comment of MDX."""
        if self.lines[number].core.startswith("{/*"):
            line, column = self._found(number, "*/}", 0, over_blanks=True)
            return line + 1 if line >= 0 and column + 3 == len(self.lines[line].core) else 0
        depth, quote = 0, ""
        for ahead in range(number, min(number + marks.AHEAD, len(self.lines))):
            core = self.lines[ahead].core
            for sign in marks.TAG_SIGN.finditer(core):
                if quote:
                    quote = "" if sign.group() == quote else quote
                elif sign.group() in "\"'":
                    quote = sign.group()
                elif sign.group() == ">" and not depth:
                    # More tags may follow on the line, but no text.
                    rest = core[sign.end() :].strip()
                    return ahead + 1 if not rest or (rest.startswith("<") and rest.endswith(">") and not marks.BETWEEN.search(rest)) else 0
                elif sign.group() in "{}":
                    depth += 1 if sign.group() == "{" else -1
        return 0


def read_dialects(lines: Sequence[str]) -> Dialects:
    """The lines of a text, each with its end, as CommonMark has them."""
    return _Reader(lines).read()
