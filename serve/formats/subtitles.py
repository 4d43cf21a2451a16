"""Subtitles, SRT and WebVTT: the text of each cue. Numbers, times, settings, notes and styles stay byte for byte.

The lines of a cue are one sentence that was broken to fit, so they are translated as one and broken again into as many, at the spaces that make them most
alike in length; where each line begins with a dash, they are what several people say, and are translated one by one.
"""

from __future__ import annotations

import html
import re
from typing import IO

from serve.formats.inline_tags import Piece, line_of
from serve.formats.units import LINE_BORDER, Options, Unit, UnitVisitor
from tell.errors import CorpusError

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_TIMES = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}")
# Formatting of SRT and its players, and of WebVTT.
_TAG = re.compile(r"<(/?)[a-zA-Z][^<>\n]{0,200}>|</?\d[\d:.]{0,20}>|\{[\\/][^{}\n]{0,80}\}")
# What is not cut at the end of a line: a word, with whole tags.
_UNIT = re.compile(r"(?:<[^<>]*>|[^\s<]|<)+")
_DASH = re.compile(r"^\s*[-–—‐]")


def _text(raw: bytes) -> tuple[str, str]:
    """The text and its encoding. UTF-16 has a BOM, or it is not recognised."""
    for bom, name in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if raw.startswith(bom):
            try:
                return raw.decode(name), name
            except UnicodeDecodeError:
                raise CorpusError("not UTF-16", place="file", valid="UTF-8 or UTF-16") from None
    try:
        return raw.decode(), "utf-8"
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        raise CorpusError("not UTF-8", place=f"line {line}, byte {e.start}", found=f"0x{raw[e.start]:02x}", valid="UTF-8 or UTF-16 with a BOM") from None


def broken(text: str, lines: int) -> list[str]:
    """A text in so many lines, or fewer, as alike in length as its spaces allow; nothing is cut inside a tag."""
    words = _UNIT.findall(text)
    if lines < 2 or len(words) < 2:
        return [text]
    total = sum(len(_TAG.sub("", w)) + 1 for w in words)
    broken_lines: list[str] = []
    words_of_line = [words[0]]
    size = len(_TAG.sub("", words[0])) + 1
    for word in words[1:]:
        length = len(_TAG.sub("", word)) + 1
        # The line ends where that brings it nearer to its share.
        share = total * (len(broken_lines) + 1) / lines
        if len(broken_lines) < lines - 1 and abs(size - share) <= abs(size + length - share):
            broken_lines.append(" ".join(words_of_line))
            words_of_line = []
        words_of_line.append(word)
        size += length
    return [*broken_lines, " ".join(words_of_line)]


def _pieces(text: str, entities: bool) -> list[Piece]:
    pieces: list[Piece] = []
    position = 0
    for tag in _TAG.finditer(text):
        pieces.append(Piece("text", text[position : tag.start()]))
        markup = tag.group()
        standalone = markup.startswith("{") or markup[1:2].isdigit()
        pieces.append(Piece("void" if standalone else "close" if tag.group(1) else "open", markup))
        position = tag.end()
    pieces.append(Piece("text", text[position:]))
    return [Piece(p.kind, html.unescape(p.value)) if entities and p.kind == "text" else p for p in pieces if p.value]


def _written(pieces: list[Piece], entities: bool) -> str:
    return "".join(html.escape(p.value, quote=False) if entities and p.kind == "text" else p.value for p in pieces)


def _cue(lines: list[str], place: str, visitor: UnitVisitor, entities: bool) -> list[str]:
    """The lines of a cue, without their ends, translated."""
    if len(lines) > 1 and all(_DASH.match(_TAG.sub("", line)) for line in lines):
        return [translated_line for line in lines for translated_line in _cue([line], place, visitor, entities)]
    joined = " ".join(line.strip() for line in lines)
    line = line_of(_pieces(joined, entities))
    if line is None:
        return lines
    translation = visitor.visit(Unit(line.text, place, tagged=line.tagged))
    if translation is None or translation.failed or translation.text == line.text:
        return lines
    pieces, placed = line.placed(translation.text)
    if not placed:
        visitor.warn(place, "tags inside the text lost their places")
    return broken(_written([*line.before, *pieces, *line.after], entities), len(lines))


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = groups
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction}")


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    raw = source.read()
    text, encoding = _text(raw)
    entities = text.lstrip("\ufeff").startswith("WEBVTT")
    lines = LINE_BORDER.split(text)
    if lines[-1] == "":
        lines.pop()
    options.bounds.check("tokens", len(lines))
    output: list[str] = []
    position, cues, latest_end = 0, 0, 0.0
    while position < len(lines):
        line = lines[position]
        output.append(line)
        position += 1
        times = _TIMES.match(line)
        if times is None:
            continue
        cues += 1
        place = f"cue {cues}, line {position}"
        begin, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
        if begin < latest_end - 0.0005:
            visitor.warn(place, "begins before the one before it ends")
        if end < begin:
            visitor.warn(place, "ends before it begins")
        latest_end = max(latest_end, end)
        body = []
        while position < len(lines) and lines[position].strip() and not _TIMES.match(lines[position]):
            # A number and times without a blank line before them: the next cue.
            if lines[position].strip().isdigit() and position + 1 < len(lines) and _TIMES.match(lines[position + 1]):
                break
            body.append(lines[position])
            position += 1
        if not body:
            continue
        texts = [b.rstrip("\r\n") for b in body]
        translated = _cue(texts, place, visitor, entities)
        if translated == texts:
            output += body
            continue
        line_end = body[0][len(texts[0]) :] or "\n"
        output += [text_line + line_end for text_line in translated[:-1]] + [translated[-1] + body[-1][len(texts[-1]) :]]
    if not cues:
        raise CorpusError("no cue in the file", place="file", valid="cues with times such as 00:00:01,000 --> 00:00:02,500")
    out.write("".join(output).encode(encoding) if output != lines else raw)
