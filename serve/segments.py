"""A text as the pieces that are translated and the layout between them: nothing is lost, `join(split(text)) == text`.

Lines are the pieces; their indentation, trailing spaces, line ends and blank lines are layout. A line longer than an engine's
context is split further, at sentence borders where it has any.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence

# How many tokens each text has. Called with many texts at once, since tokenizers are fastest so.
Measure = Callable[[list[str]], list[int]]

# Where a line that is too long may be cut, best place first. Each pattern matches the end of a part, its trailing space included.
BORDERS = (
    # A sentence's end, its closing quotes or brackets, and the space after; or a full-width stop, which needs no space.
    re.compile(r"[.!?…]+[\"'”’“»)\]]*\s+|[。！？｡]+[」』”’）]*\s*"),
    # A clause's end.
    re.compile(r"[,;:–—]+\s+|[、，；：]\s*"),
    # A word's end.
    re.compile(r"\s+"),
)
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A part of a text: a piece to translate, or layout that stays as it is."""

    text: str
    translate: bool


def _around(text: str) -> list[Span]:
    """The white space before a piece, the piece, and the white space after."""
    piece = text.strip()
    if not piece:
        return [Span(text, False)] if text else []
    start = text.index(piece)
    parts = (Span(text[:start], False), Span(piece, True), Span(text[start + len(piece) :], False))
    return [s for s in parts if s.text]


def _lines(text: str) -> list[str]:
    """The lines with their ends on."""
    out, start = [], 0
    for end in _LINE_END.finditer(text):
        out.append(text[start : end.end()])
        start = end.end()
    return [*out, text[start:]] if start < len(text) else out


def _parts(text: str, border: re.Pattern[str]) -> list[str]:
    out, start = [], 0
    for end in border.finditer(text):
        # A full stop before a small letter ends an abbreviation, not a sentence.
        if border is not BORDERS[0] or not text[end.end() : end.end() + 1].islower():
            out.append(text[start : end.end()])
            start = end.end()
    return [*out, text[start:]] if start < len(text) else out


def cut(text: str, measure: Measure, limit: int, borders: Sequence[re.Pattern[str]] = BORDERS) -> list[str]:
    """`text` in parts of at most `limit` tokens, cut at the best borders it has; a single character is never cut.

    Neighbouring parts are put together again while they fit, so that a sentence keeps the context the engine can hold.
    """
    if not borders:
        return _halve(text, measure, limit)
    parts = _parts(text, borders[0])
    counts = measure(parts)
    out: list[str] = []
    held, room = "", 0
    for part, count in zip(parts, counts, strict=True):
        if held and count <= room:
            held, room = held + part, room - count
            continue
        if held:
            out.append(held)
        held, room = "", 0
        if count <= limit:
            held, room = part, limit - count
        else:
            out += cut(part, measure, limit, borders[1:])
    return [*out, held] if held else out


def _halve(text: str, measure: Measure, limit: int) -> list[str]:
    if len(text) <= 1 or measure([text])[0] <= limit:
        return [text]
    middle = len(text) // 2
    return _halve(text[:middle], measure, limit) + _halve(text[middle:], measure, limit)


def split(text: str, measure: Measure | None = None, limit: int = 0) -> list[Span]:
    """The pieces and the layout of `text`, in order. With `measure`, no piece has more than `limit` tokens.

    Tokens of a whole can be more than those of its parts, so put-together parts are measured again, and halved if need be.
    """
    spans = [s for line in _lines(text) for s in _around(line)]
    if measure is None:
        return spans
    wanted = pieces(spans)
    long = {i for i, n in zip(wanted, measure([spans[i].text for i in wanted]), strict=True) if n > limit}
    out: list[Span] = []
    for i, span in enumerate(spans):
        if i not in long:
            out.append(span)
            continue
        for part in cut(span.text, measure, limit):
            out += [s for half in _halve(part, measure, limit) for s in _around(half)]
    return out


def pieces(spans: Sequence[Span]) -> list[int]:
    """Where in `spans` the pieces are."""
    return [i for i, s in enumerate(spans) if s.translate]


def join(spans: Iterable[Span]) -> str:
    return "".join(s.text for s in spans)


def fill(spans: Sequence[Span], translations: Sequence[str]) -> str:
    """The text with its pieces replaced by their translations, one for each, in order."""
    if len(wanted := pieces(spans)) != len(translations):
        raise ValueError(f"{len(translations)} translations for {len(wanted)} pieces")
    given = iter(translations)
    return "".join(next(given) if s.translate else s.text for s in spans)
