"""Subtitles, SRT and WebVTT: the text of each cue. Numbers, times, settings, notes and styles stay byte for byte.

The lines of a cue are one sentence that was broken to fit, so they are translated as one and broken again into as many, at the spaces that make them most
alike in length. What several people say is translated one by one: a dash, a voice, a name or a note begins what another one says. A cue of SRT goes on until
the next one begins, over blank lines; one of WebVTT ends at a blank line.
"""

from __future__ import annotations

import html
import re
from typing import IO

from serve.formats.inline_tags import Piece, line_of
from serve.formats.tag_placeholders import matches
from serve.formats.units import LINE_BORDER, Options, UnitVisitor
from tell.errors import CorpusError

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
# What is no cue of WebVTT: its header, notes, styles and regions, up to a blank line.
_ASIDE = re.compile(r"\ufeff?(?:WEBVTT|NOTE|STYLE|REGION)(?=[ \t\r\n]|$)")
# The number of a cue, as programs and hands write it.
_NUMBER = re.compile(r"[#№(\[]?\d{1,7}[.):\]]?")
_TIMES = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}")
# Formatting of SRT and its players, and of WebVTT.
_TAG = re.compile(r"<(/?)[a-zA-Z][^<>\n]{0,200}>|</?\d[\d:.]{0,20}>|\{[\\/][^{}\n]{0,80}\}")
# What is not cut at the end of a line: a word, with whole tags.
_UNIT = re.compile(r"(?:<[^<>]*>|[^\s<]|<)+")
_DASH = re.compile(r"\s*(?:[-–—‐](?!\s*$)|>>)")
# Another person on the same line: "- Hi. - Hello."
_NEXT_DASH = re.compile(r"(?<=[.?!…\"”»)\]])[ \t]+(?=[-–—‐][ \t]?[^\W\d_])")
_VOICE = re.compile(r"\s*<v[ .\t][^<>\n]{0,200}>")
_NEXT_VOICE = re.compile(r"(?<![ \t])[ \t]*(?=<v[ .\t][^<>\n]{0,200}>)")
# "ANNA:", "Dr. Berg 2:" and "[ANNA]" where they begin a line; a small letter of a name counts only where other lines have one too.
_CAPITALS = re.compile(r"\s*(?:[\[(])?[^\W\d_a-zß-öø-ÿ][^\Wa-zß-öø-ÿ]*(?:[ .'’#&-]{1,2}[^\Wa-zß-öø-ÿ]+){0,4}(?:[\])]:?|:)(?=\s|$)")
_NAME = re.compile(r"\s*[^\W\d_a-zß-öø-ÿ][\w.'’-]{0,30}(?: [^\W\d_a-zß-öø-ÿ][\w.'’-]{0,30}){0,2}:[ \t]+\S")
# What is heard, or sung: a line by itself.
_NOTE = re.compile(r"\s*(?:\[[^\[\]]*\]|\([^()a-zß-öø-ÿ]*\)|[♪♫#]\s[^♪♫]*[♪♫#])\s*$")
_SONG = re.compile(r"\s*[♪♫]")
_ENDS = re.compile(r"[.?!…:;\"”»)\]♪♫-]\s*$")


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
    # A tag that another line closes, or none, goes along by itself.
    closing, opened = matches([p.kind for p in pieces])
    pieces = [p if p.kind in ("text", "void") or i in closing or i in opened else Piece("void", p.value) for i, p in enumerate(pieces)]
    return [Piece(p.kind, html.unescape(p.value)) if entities and p.kind == "text" else p for p in pieces if p.value]


def _written(pieces: list[Piece], entities: bool) -> str:
    return "".join(html.escape(p.value, quote=False) if entities and p.kind == "text" else p.value for p in pieces)


def _cue(lines: list[str], place: str, visitor: UnitVisitor, entities: bool) -> list[str]:
    """The lines of a cue, without their ends, translated."""
    return [line for group in _speakers(lines) for line in _group(group, place, visitor, entities)]


def _speakers(lines: list[str]) -> list[list[str]]:
    """The lines of a cue in groups, each of which one person says."""
    bare = [_TAG.sub("", line) for line in lines]
    are_named = sum(_NAME.match(line) is not None for line in bare) > 1
    groups: list[list[str]] = []
    for number, line in enumerate(lines):
        text = bare[number]
        before = bare[number - 1] if number else ""
        begins = (
            not number
            or _VOICE.match(line)
            or _CAPITALS.match(text)
            or (are_named and _NAME.match(text))
            # A dash in the middle of a sentence is one of it.
            or (_DASH.match(text) and (_DASH.match(bare[0]) or _ENDS.search(before)))
            or _SONG.match(text)
            or _NOTE.match(text)
            or (_NOTE.match(before) and len(groups[-1]) == 1)
            # Two people on the line before: what follows would be the second one's, and is not put together with the first one's.
            or _NEXT_DASH.search(before)
        )
        if begins:
            groups.append([])
        groups[-1].append(line)
    return groups


def _group(lines: list[str], place: str, visitor: UnitVisitor, entities: bool) -> list[str]:
    joined = " ".join(line.strip() for line in lines)
    parts, gaps = _on_one_line(joined) if len(lines) == 1 else ([joined], [])
    if gaps:
        translated = [" ".join(_group([part], place, visitor, entities)) for part in parts]
        edge = len(lines[0]) - len(lines[0].lstrip())
        return lines if translated == parts else [lines[0][:edge] + "".join(a + b for a, b in zip(translated, [*gaps, ""], strict=True))]
    line = line_of(_pieces(joined, entities), visitor, place)
    if line is None:
        return lines
    pieces = line.translated(visitor, place)
    return lines if pieces is None else broken(_written(pieces, entities), len(lines))


def _on_one_line(text: str) -> tuple[list[str], list[str]]:
    """What several people say on one line, and the space between."""
    borders = [m.span() for m in _NEXT_VOICE.finditer(text) if m.start()]
    if not borders and _DASH.match(_TAG.sub("", text)):
        borders = [m.span() for m in _NEXT_DASH.finditer(text)]
    starts, ends = [0, *(end for _, end in borders)], [*(start for start, _ in borders), len(text)]
    return [text[a:b] for a, b in zip(starts, ends, strict=True)], [text[a:b] for a, b in borders]


def _paragraphs(texts: list[str], place: str, visitor: UnitVisitor, entities: bool) -> list[str]:
    """The lines of a cue, translated between its blank lines; those that are no longer needed are left out."""
    output: list[str] = []
    paragraph: list[str] = []
    for text in [*texts, None]:
        if text is not None and text.strip():
            paragraph.append(text)
            continue
        output += _cue(paragraph, place, visitor, entities) if paragraph else []
        output += [text] if text is not None else []
        paragraph = []
    return output


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = groups
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction}")


def _end_of_cue(lines: list[str], position: int, ends_at_blank: bool) -> int:
    """The line after the text of a cue: the number and the times of the next one are none of it, nor are blank lines before them."""
    end = position
    while position < len(lines) and not _TIMES.match(lines[position]):
        text = lines[position].strip()
        if not text and ends_at_blank:
            break
        if _NUMBER.fullmatch(text) and _times_follow(lines, position + 1):
            break
        position += 1
        end = position if text else end
    return end


def _times_follow(lines: list[str], position: int) -> bool:
    """Whether times come next, over a blank line or two."""
    for line in lines[position : position + 3]:
        if line.strip():
            return _TIMES.match(line) is not None
    return False


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
    # Whether the lines are those of a header, a note or styles.
    aside = False
    while position < len(lines):
        line = lines[position]
        output.append(line)
        position += 1
        times = _TIMES.match(line)
        if times is None:
            aside = bool(line.strip()) and (aside or _ASIDE.match(line) is not None)
            if not aside and any(map(str.isalpha, line)) and not (position < len(lines) and _TIMES.match(lines[position])):
                visitor.warn(f"line {position}", "stands in no cue, and is not translated")
            continue
        cues += 1
        place = f"cue {cues}, line {position}"
        begin, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
        if begin < latest_end - 0.0005:
            visitor.warn(place, "begins before the one before it ends")
        if end < begin:
            visitor.warn(place, "ends before it begins")
        latest_end = max(latest_end, end)
        body_end = _end_of_cue(lines, position, entities)
        body, position = lines[position:body_end], body_end
        if not body:
            continue
        texts = [b.rstrip("\r\n") for b in body]
        translated = _paragraphs(texts, place, visitor, entities)
        if translated == texts:
            output += body
            continue
        line_end = body[0][len(texts[0]) :] or "\n"
        output += [text_line + line_end for text_line in translated[:-1]] + [translated[-1] + body[-1][len(texts[-1]) :]]
    if not cues:
        raise CorpusError("no cue in the file", place="file", valid="cues with times such as 00:00:01,000 --> 00:00:02,500")
    out.write("".join(output).encode(encoding) if output != lines else raw)
