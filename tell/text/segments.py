"""Splits a text into the pieces that are translated and the layout between them. Nothing is lost: `join(split(text)) == text`.

Reads nothing and writes nothing. A line is a paragraph, and its text is one piece; indentation, list marks, trailing spaces, line ends, blank lines and
what has no letters are layout. A line longer than an engine's context is split further, at sentence borders (sentencex) where it has any.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from tell.text.icu import icu_parts
from tell.text.placeholders import bare, find_placeholders
from tell.text.sentence_borders import LOOKED_AT, goes_on, language_of

# How many tokens each text has. Called with many texts at once, since tokenizers are fastest so.
Measure = Callable[[list[str]], list[int]]
# A text in parts that, joined, are the text.
Cut = Callable[[str], list[str]]

# Where a sentence that is too long may be cut, best place first. Each pattern matches the end of a part, its trailing space included. A run of signs is
# looked at from its end alone: from each of its beginnings it would take the square of its length.
CLAUSE = re.compile(r"(?<=[,;:–—])\s+|[、，；：]\s*")
WORD = re.compile(r"\s+")
_LINE_END = re.compile(r"\r\n|\n|\r")
# What has no width stands at a text's edge for its editor's sake; a model loses it.
_WIDTHLESS = "\ufeff\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069"
_EDGE = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + _WIDTHLESS
# Ends that need no space after them.
_FULL = "。！？｡」』”’）"
# What begins a line of a list, a heading, a quotation or a dialogue. Letters only with a bracket: "J. Smith" is a name.
_MARKS = re.compile(r"(?:(?:>+|(?:[-*+•◦▪▫●○■□‣⁃–—·]|#{1,6}|\[[ xX]?\]|\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{2,5})\))(?=\s))\s*)+")
# A number before a full stop is a list's only where other lines have one too, and never before a small letter: "17. júní" is a date.
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,3})*\.[^\S\r\n]+(?=\S)")
_NUMBERED = re.compile(rf"^[^\S\r\n]*{_NUMBER.pattern}", re.M)
# Scripts that put no spaces between words: in them a line of any length is a text.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1980-\u19df\u1a20-\u1aaf\ua980-\ua9df\u3000-\u30ff\u3400-\u9fff\uf900-\uffef\U00020000-\U0003ffff"
)
# So many characters without a space are no word of any other language but data, such as base64: they are kept as they are.
_DATA = re.compile(rf"(?<![^\s{_UNSPACED}])[^\s{_UNSPACED}]{{500,}}")


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A part of a text: a piece to translate, or layout that stays as it is."""

    text: str
    translate: bool


def words_in(text: str) -> bool:
    """Whether the text has a letter of any script. Text without letters is the same, or nearly the same, in every language."""
    return any(map(str.isalpha, text))


def _around(text: str) -> list[Span]:
    """The white space before a piece, the piece, and the white space after."""
    piece = text.strip(_EDGE)
    if not words_in(bare(piece)):
        return [Span(text, False)] if text else []
    start = text.index(piece)
    parts = (Span(text[:start], False), Span(piece, True), Span(text[start + len(piece) :], False))
    return [s for s in parts if s.text]


def spans_of(text: str, is_layout: bool = False) -> list[Span]:
    """A part of a line: as it is where it is `kept`, and else as a piece with the white space around it."""
    return [Span(text, False)] if is_layout and text else _around(text)


def _line(text: str, numbered: bool) -> list[Span]:
    """A line with its end: its marks, and what is between the data in it."""
    start = len(text) - len(text.lstrip())
    while (mark := _MARKS.match(text, start)) or (numbered and (mark := _NUMBER.match(text, start)) and not text[mark.end()].islower()):
        start = mark.end()
    spans = [Span(text[:start], False)] if start else []
    for data in _DATA.finditer(text, start):
        spans += [*_around(text[start : data.start()]), Span(data.group(), False)]
        start = data.end()
    return spans + _around(text[start:])


def _plain(text: str, numbered: bool) -> list[Span]:
    return [s for line in _lines(text) for s in _line(line, numbered)]


def _lines(text: str) -> list[str]:
    """The lines with their ends on."""
    return _divided(text, _LINE_END)


def _divided(text: str, border: re.Pattern[str]) -> list[str]:
    """The parts that end with a match of `border`."""
    parts, start = [], 0
    for end in border.finditer(text):
        parts.append(text[start : end.end()])
        start = end.end()
    return [*parts, text[start:]] if start < len(text) else parts


def sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a line, each with the space after it; joined, they are the line. `language` is a BCP 47 tag."""
    import sentencex

    # It takes no lone surrogates. Of what stands in their place only the length counts.
    raw_sentences = sentencex.segment(language_of(language), text.encode("utf-8", "replace").decode())
    parts: list[str] = []
    start = position = 0
    for length in _mended(text, [len(part) for part in raw_sentences]):
        if position and not _goes_on(text[max(start, position - LOOKED_AT) : position], text[position : position + length], language):
            parts.append(text[start:position])
            start = position
        position += length
    parts += [text[start:position]] if position else []
    return [*parts, text[position:]] if position < len(text) else parts


def _outside(text: str, border: re.Pattern[str]) -> list[str]:
    """`_divided`, but never inside a placeholder."""
    parts, position = [], 0
    for length in _mended(text, [len(part) for part in _divided(text, border)]):
        parts.append(text[position : position + length])
        position += length
    return parts


def _mended(text: str, lengths: Sequence[int]) -> list[int]:
    """The lengths of a text's parts; parts that a placeholder spans are joined."""
    places = iter(find_placeholders(text))
    place = next(places, None)
    mended_lengths: list[int] = []
    position = joined_length = 0
    for length in lengths:
        position += length
        joined_length += length
        while place and place.end <= position:
            place = next(places, None)
        if not (place and place.start < position):
            mended_lengths.append(joined_length)
            joined_length = 0
    return [*mended_lengths, joined_length] if joined_length else mended_lengths


def _goes_on(sentence: str, part: str, language: str) -> bool:
    """Whether `part` belongs to the sentence before it: it begins with a small letter, also in a bracket, no space parts them, or the full stop ends none."""
    if not part.strip() or part.lstrip("([")[:1].islower() or not (sentence[-1].isspace() or sentence.endswith(tuple(_FULL))):
        return True
    return goes_on(sentence, part, language)


def cut(text: str, measure: Measure, limit: int, language: str = "en") -> list[str]:
    """`text` in parts of at most `limit` tokens, cut at the best borders it has; a single character is never cut."""
    cuts: tuple[Cut, ...] = (partial(sentences, language=language), partial(_outside, border=CLAUSE), partial(_outside, border=WORD))
    return _cut(text, measure, limit, cuts)


def _cut(text: str, measure: Measure, limit: int, cuts: Sequence[Cut]) -> list[str]:
    """Neighbouring parts are put together again while they fit, so that a sentence keeps the context the engine can hold."""
    if not cuts:
        return _halve(text, measure, limit)
    parts = cuts[0](text)
    counts = measure(parts)
    cut_texts: list[str] = []
    joined, room = "", 0
    for part, count in zip(parts, counts, strict=True):
        if joined and count <= room:
            joined, room = joined + part, room - count
            continue
        if joined:
            cut_texts.append(joined)
        joined, room = "", 0
        if count <= limit:
            joined, room = part, limit - count
        else:
            cut_texts += _cut(part, measure, limit, cuts[1:])
    return [*cut_texts, joined] if joined else cut_texts


def _halve(text: str, measure: Measure, limit: int) -> list[str]:
    if len(text) <= 1 or measure([text])[0] <= limit:
        return [text]
    middle = len(text) // 2
    return _halve(text[:middle], measure, limit) + _halve(text[middle:], measure, limit)


def split(text: str, measure: Measure | None = None, limit: int = 0, language: str = "en") -> list[Span]:
    """The pieces and the layout of `text`, in order. With `measure`, no piece has more than `limit` tokens. `language` is the text's.

    Tokens of a whole can be more than those of its parts, so put-together parts are measured again, and halved if need be.
    """
    numbered = sum(1 for _ in zip(_NUMBERED.finditer(text), range(2), strict=False)) == 2
    spans = [s for part, is_layout in icu_parts(text) or [(text, False)] for s in ([Span(part, False)] if is_layout else _plain(part, numbered))]
    if measure is None:
        return spans
    translatable = pieces(spans)
    long = {i for i, n in zip(translatable, measure([spans[i].text for i in translatable]), strict=True) if n > limit}
    divided: list[Span] = []
    for i, span in enumerate(spans):
        if i not in long:
            divided.append(span)
            continue
        for part in cut(span.text, measure, limit, language):
            divided += [s for half in _halve(part, measure, limit) for s in _around(half)]
    return divided


def pieces(spans: Sequence[Span]) -> list[int]:
    """The positions of the pieces in `spans`."""
    return [i for i, s in enumerate(spans) if s.translate]


def join(spans: Iterable[Span]) -> str:
    return "".join(s.text for s in spans)


def fill(spans: Sequence[Span], translations: Sequence[str]) -> str:
    """The text with its pieces replaced by their translations, one for each, in order."""
    if len(translatable := pieces(spans)) != len(translations):
        raise ValueError(f"{len(translations)} translations for {len(translatable)} pieces")
    remaining = iter(translations)
    return "".join(next(remaining) if s.translate else s.text for s in spans)
