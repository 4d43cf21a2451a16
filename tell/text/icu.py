"""Messages in ICU's MessageFormat: `{n, plural, one {# day} other {# days}}`, and `select` and `selectordinal` alike. Which of it is text, and which not.

Reads strings, writes nothing. The argument, the keywords, the braces and `#` stay; what stands in the innermost braces is text, and so is what is around it.
What does not parse is no such message, and is text like any other.
"""

from __future__ import annotations

import re

_OPEN = re.compile(r"\{\s*[\w.-]+\s*,\s*(plural|selectordinal|select)\s*,\s*(?:offset:\s*\d+\s*)?")
_CASE = re.compile(r"\s*(=\d+|[\w-]+)\s*\{")
_END = re.compile(r"\s*\}")
# Messages within messages: deeper ones are nobody's.
_DEEPEST = 8
# Characters of a message, so that braces which nobody closes are not looked through again and again.
_LONGEST = 10_000

# A stretch of a text, and whether it stays as it is.
Part = tuple[str, bool]


def icu_parts(text: str) -> list[Part] | None:
    """The text in parts, which joined give the text again; None when there is no such message in it."""
    if "{" not in text:
        return None
    parts: list[Part] = []
    at = done = 0
    while opening := _OPEN.search(text, at):
        inner: list[Part] = []
        if (end := _message(text[: opening.start() + _LONGEST], opening, inner, 1)) is None:
            at = opening.end()
            continue
        parts += [(text[done : opening.start()], False), *inner]
        at = done = end
    return [part for part in [*parts, (text[done:], False)] if part[0]] if parts else None


def _message(text: str, opened: re.Match[str], out: list[Part], depth: int) -> int | None:
    """The end of a message that was opened, its parts added to `out`; None where it is none: a case is not closed, or there is no `other`."""
    out.append((opened.group(), True))
    at, cases = opened.end(), set()
    while case := _CASE.match(text, at):
        cases.add(case.group(1))
        out.append((case.group(), True))
        if (end := _case(text, case.end(), out, opened.group(1) != "select", depth)) is None:
            return None
        out.append(("}", True))
        at = end + 1
    closed = _END.match(text, at)
    if closed is None or "other" not in cases:
        return None
    out.append((closed.group(), True))
    return closed.end()


def _case(text: str, start: int, parts: list[Part], number: bool, depth: int) -> int | None:
    """Where the brace is that ends a case. `number`: whether `#` is the number there."""
    at = done = start
    while at < len(text):
        sign = text[at]
        if sign == "'" and text[at + 1 : at + 2] in ("{", "}", "#", "'"):
            # Quoted up to the next apostrophe; two are one.
            quoted = text.find("'", at + 1)
            at = len(text) if quoted < 0 else quoted + 1
        elif sign == "}":
            parts.append((text[done:at], False))
            return at
        elif sign == "{" and (opening := _OPEN.match(text, at)) and depth < _DEEPEST:
            inner: list[Part] = []
            if (end := _message(text, opening, inner, depth + 1)) is None:
                return None
            parts += [(text[done:at], False), *inner]
            at = done = end
        elif sign == "{":
            # A plain argument is a placeholder of the text.
            if (closing := text.find("}", at)) < 0:
                return None
            at = closing + 1
        elif sign == "#" and number:
            parts += [(text[done:at], False), ("#", True)]
            at = done = at + 1
        else:
            at += 1
    return None
