"""Code of templates in a text of HTML, put out of the parser's sight and back: what is PHP, ERB, Jinja or Handlebars comes back byte for byte.

Reads and writes strings. A comment stands for code between tags, since a parser leaves comments where they are, also between the rows of a table; inside a tag
it is a character of private use.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from serve.formats.html_events import Event, events_of
from serve.formats.html_templates import CODE, STEP, Templates
from serve.translation.markup_lines import MarkupLine, Token

_OPEN, _CLOSE = "\ue000", "\ue001"
_QUOTE = re.compile("[\"']")
# What stands for code; a parser gives an attribute that is a name alone an empty value.
_STAND_IN = re.compile(f'<!--{_OPEN}([0-9]{{1,7}}){_CLOSE}-->|{_OPEN}([0-9]{{1,7}}){_CLOSE}(?:="")?')


def without_code(text: str) -> tuple[str, list[str]]:
    """The text with stand-ins for its code, and the code; the very text where there is none."""
    if not CODE.search(text) or _OPEN in text or _CLOSE in text:
        return text, []
    codes: list[str] = []
    parts: list[str] = []
    templates = Templates(text)

    def stand_in(code: str) -> str:
        codes.append(code)
        return f"{_OPEN}{len(codes) - 1}{_CLOSE}"

    events = events_of(text, False)
    raw_name = ""
    for event, following in zip(events, [*events[1:], Event("end", "", len(text))], strict=True):
        markup = text[event.start : following.start]
        if event.kind in ("template", "border"):
            # In a title a comment would be text.
            parts.append(stand_in(markup) if raw_name == "title" else f"<!--{stand_in(markup)}-->")
        elif event.kind in ("open", "close", "void") and CODE.search(markup):
            position, quote = event.start, ""
            while code := CODE.search(text, position, following.start):
                before, end = text[position : code.start()], templates.end(code.start())
                if not 0 < end <= following.start:
                    parts.append(text[position : code.end()])
                    position = code.end()
                    continue
                for sign in _QUOTE.findall(before):
                    quote = "" if sign == quote else quote or sign
                # A step between attributes is one by itself, and no part of a value without quotes.
                space = " " if not quote and STEP.match(text, code.start()) else ""
                parts += [before, space, stand_in(text[code.start() : end]), space]
                position = end
            parts.append(text[position : following.start])
        else:
            parts.append(markup)
        raw_name = event.name if event.kind == "open" else raw_name if event.kind != "close" else ""
    return "".join([text[: events[0].start] if events else text, *parts]), codes


def with_code(part: str | MarkupLine, codes: Sequence[str]) -> str | MarkupLine:
    """Markup, or a line, with the code in the places of its stand-ins."""

    def back(markup: str) -> str:
        return _STAND_IN.sub(lambda m: codes[int(m[1] or m[2])] if int(m[1] or m[2]) < len(codes) else m.group(), markup)

    if isinstance(part, str):
        return back(part)
    tokens = tuple(Token(token.text, back(token.markup)) for token in part.tokens)
    return dataclasses.replace(part, before=back(part.before), after=back(part.after), tokens=tokens)
