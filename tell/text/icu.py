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
    position = copied_to = 0
    while opening := _OPEN.search(text, position):
        inner: list[Part] = []
        if (message_end := _message(text, opening, inner, 1, min(len(text), opening.start() + _LONGEST))) is None:
            position = opening.end()
            continue
        parts += [(text[copied_to : opening.start()], False), *inner]
        position = copied_to = message_end
    return [part for part in [*parts, (text[copied_to:], False)] if part[0]] if parts else None


def _message(text: str, opened: re.Match[str], parts: list[Part], depth: int, limit: int) -> int | None:
    """The end of a message that was opened, its parts added to `parts`; None where it is none: a case is not closed before `limit`, or there is no `other`."""
    parts.append((opened.group(), True))
    position, cases = opened.end(), set()
    while case := _CASE.match(text, position, limit):
        cases.add(case.group(1))
        parts.append((case.group(), True))
        if (case_end := _case(text, case.end(), parts, opened.group(1) != "select", depth, limit)) is None:
            return None
        parts.append(("}", True))
        position = case_end + 1
    closed = _END.match(text, position, limit)
    if closed is None or "other" not in cases:
        return None
    parts.append((closed.group(), True))
    return closed.end()


def _case(text: str, start: int, parts: list[Part], number: bool, depth: int, limit: int) -> int | None:
    """Where the brace is, before `limit`, that ends a case. `number`: whether `#` is the number there."""
    position = copied_to = start
    while position < limit:
        sign = text[position]
        if sign == "'" and text[position + 1 : position + 2] in ("{", "}", "#", "'"):
            # Quoted up to the next apostrophe; two are one.
            quoted = text.find("'", position + 1, limit)
            position = limit if quoted < 0 else quoted + 1
        elif sign == "}":
            parts.append((text[copied_to:position], False))
            return position
        elif sign == "{" and (opening := _OPEN.match(text, position, limit)) and depth < _DEEPEST:
            inner: list[Part] = []
            if (message_end := _message(text, opening, inner, depth + 1, limit)) is None:
                return None
            parts += [(text[copied_to:position], False), *inner]
            position = copied_to = message_end
        elif sign == "{":
            # A plain argument is a placeholder of the text.
            if (closing := text.find("}", position, limit)) < 0:
                return None
            position = closing + 1
        elif sign == "#" and number:
            parts += [(text[copied_to:position], False), ("#", True)]
            position = copied_to = position + 1
        else:
            position += 1
    return None
