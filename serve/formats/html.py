"""HTML files: text between tags, a stretch between two blocks as one. Tags, attributes, comments, scripts and white space stay byte for byte.

The page is divided at its tags, in place; a tree (serve.translation.markup_html) would write the page anew, and the standard library's parser takes hours
for a mebibyte of `<a `.
Code, scripts, styles, and elements with translate="no" or the class notranslate stay as they are. `lang` of <html> becomes the target's where it was the
source's.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections import Counter
from collections.abc import Set
from typing import IO

from serve.formats.html_elements import ENDED_BY, INLINE, KEPT, OPAQUE, VOID
from serve.formats.inline_tags import Piece, line_of
from serve.formats.units import BOM, Bounds, Options, Unit, UnitVisitor
from tell.errors import CorpusError, LanguageError
from tell.languages import distance, language
from tell.text.charsets import charset_name

# Characters in which <html> is looked for.
_HEAD = 20_000
_SPACES = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
_LANG = re.compile(r"(\slang\s*=\s*[\"']?)([A-Za-z][\w-]*)", re.I)


# Elements whose content ends only at their own end tag: nothing in it is a tag.
RAW = frozenset(["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes", "noscript", "plaintext"])
_TAG = re.compile(r"<(?:[!?]|/?[A-Za-z])")
_TAG_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.I) for name in sorted(RAW)}
_LINE_END = re.compile(r"(\r?\n)")
_HTML = re.compile(r"<html\b", re.I)
_QUOTE_OR_END = re.compile("[\"'>]")
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=<>`]+)))?""")


@dataclasses.dataclass(slots=True)
class _Event:
    kind: str
    name: str
    start: int
    kept: bool = False


def _tag_end(text: str, position: int) -> int:
    """Where a tag ends; -1 where it does not. A `>` in a quoted value is none."""
    while quote_or_end := _QUOTE_OR_END.search(text, position):
        if quote_or_end.group() == ">":
            return quote_or_end.end()
        position = quote_or_end.end()
        if text[max(0, position - 50) : position - 1].rstrip().endswith("="):
            position = text.find(quote_or_end.group(), position) + 1
            if not position:
                return -1
    return -1


def _is_kept(tag: str) -> bool:
    if "translate" not in tag.lower():
        return False
    attributes = {m.group(1).lower(): next(filter(None, m.groups()[1:]), "") for m in _ATTRIBUTE.finditer(tag)}
    return attributes.get("translate", "").lower() == "no" or "notranslate" in attributes.get("class", "").split()


def _events(text: str) -> list[_Event]:
    """The tags, comments and texts of a page, with their places. Every character is looked at once or twice, however broken the page is."""
    events: list[_Event] = []
    position = search_from = 0
    while position < len(text):
        start = text.find("<", max(position, search_from))
        follows = text[start + 1 : start + 2] if start >= 0 else ""
        if start >= 0 and not _TAG.match(text, start):
            # A less-than sign, not a tag.
            search_from = start + 1
            continue
        if start != position:
            events.append(_Event("text", "", position))
        if start < 0:
            break
        if text.startswith("<!--", start):
            end = text.find("-->", start + 4) + 3
            events.append(_Event("comment", "", start))
            position = end if end > 2 else len(text)
        elif follows in ("!", "?"):
            end = text.find(">", start) + 1
            events.append(_Event("block" if text[start : start + 9].lower() == "<!doctype" else "comment", "", start))
            position = end or len(text)
        else:
            is_end_tag = follows == "/"
            tag_name = _TAG_NAME.match(text, start + 1 + is_end_tag)
            name = tag_name.group().lower() if tag_name else ""
            position = _tag_end(text, start + 1)
            if position < 0:
                # To a browser, too, an unclosed tag is no text.
                events.append(_Event("comment", "", start))
                break
            is_void = name in VOID or text[position - 2] == "/"
            is_kept = not is_end_tag and (name in OPAQUE or _is_kept(text[start:position]))
            events.append(_Event("close" if is_end_tag else "void" if is_void else "open", name, start, is_kept and not is_void))
            if name in RAW and not is_end_tag and not is_void:
                close = _RAW_END[name].search(text, position)
                end = close.start() if close else len(text)
                if end > position:
                    events.append(_Event("text", "", position))
                position = end
        search_from = position
    return events


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("\u00a0", "&nbsp;")


def _markup(piece: Piece) -> str:
    return _escaped(piece.value) if piece.kind == "text" else piece.value


def _flushed(stretch: list[tuple[Piece, str]], place: str, raw: bool, visitor: UnitVisitor) -> str:
    """A stretch between two ends of sentences, translated; each piece comes with its markup in the file."""
    unchanged = "".join(markup for _, markup in stretch)
    line = line_of([piece for piece, _ in stretch])
    if line is None:
        return unchanged
    core = line.text.strip(" \t\n\r\f")
    start = line.text.index(core)
    text = core if raw else _SPACES.sub(" ", core)
    replacement = visitor.visit(Unit(text, place, tagged=line.tagged))
    if replacement is None or replacement.failed or replacement.text == text:
        return unchanged
    pieces, placed = line.placed(replacement.text)
    if not placed:
        visitor.warn(place, "tags inside the text lost their places")
    edges = Piece("text", line.text[:start]), Piece("text", line.text[start + len(core) :])
    return "".join(map(_markup, (*line.before, edges[0], *pieces, edges[1], *line.after)))


def _end_of(events: list[_Event], start: int) -> int:
    """Where the element that opens at `start` ends: at its end tag, elements of its name inside it closing first, or, where it needs none, as HTML says."""
    if (enders := ENDED_BY.get(events[start].name)) is not None:
        return _end_without_tag(events, start, enders)
    depth = 0
    for i in range(start, len(events)):
        if events[i].name == events[start].name:
            depth += (events[i].kind == "open") - (events[i].kind == "close")
            if not depth:
                return i
    return len(events) - 1


def _end_without_tag(events: list[_Event], start: int, enders: Set[str]) -> int:
    """`_end_of` an element that may have no end tag: a start tag that ends it, or the end of what it stands in, is no longer part of it."""
    inside: Counter[str] = Counter()
    # Elements inside it in which a start tag is their matter, such as the list in an item of a list.
    depth = 0
    for i in range(start + 1, len(events)):
        kind, name = events[i].kind, events[i].name
        holds = name not in INLINE and name not in ENDED_BY
        if kind in ("open", "void") and not depth and name in enders:
            return i - 1
        if kind == "open":
            inside[name] += 1
            depth += holds
        elif kind == "close" and inside[name]:
            inside[name] -= 1
            depth -= holds
        elif kind == "close" and name == events[start].name:
            return i
        elif kind == "close" and name not in INLINE:
            return i - 1
    return len(events) - 1


def _converted(text: str, visitor: UnitVisitor, bounds: Bounds) -> str:
    events = _events(text)
    bounds.check("tokens", len(events))
    starts = [*(e.start for e in events), len(text)]
    output = [text[: starts[0]]]
    stretch: list[tuple[Piece, str]] = []
    index = in_preformatted = 0
    line, counted_to = 1, 0
    while index < len(events):
        event = events[index]
        end = _end_of(events, index) if event.kind == "open" and event.kept else index
        markup = text[event.start : starts[end + 1]]
        line, counted_to = line + text.count("\n", counted_to, event.start), event.start
        inline = event.name in INLINE
        index = end + 1
        if event.kind == "text" and in_preformatted:
            for text_line in _LINE_END.split(markup):
                if text_line in ("\n", "\r\n"):
                    output += [_flushed(stretch, f"line {line}", True, visitor), text_line]
                    stretch = []
                elif text_line:
                    stretch.append((Piece("text", html.unescape(text_line)), text_line))
        elif event.kind == "text":
            stretch.append((Piece("text", html.unescape(markup)), markup))
        elif event.kind == "comment" or (inline and (event.kept or event.kind == "void")):
            stretch.append((Piece("void", markup), markup))
        elif inline:
            stretch.append((Piece("open" if event.kind == "open" else "close", markup), markup))
        else:
            output += [_flushed(stretch, f"line {line}", bool(in_preformatted), visitor), markup]
            stretch = []
            if event.name in KEPT and not event.kept:
                in_preformatted = max(0, in_preformatted + (event.kind == "open") - (event.kind == "close"))
    return "".join([*output, _flushed(stretch, f"line {line}", bool(in_preformatted), visitor)])


def _in_target(page: str, options: Options) -> str:
    """The page with the target as the language of <html>, where that was the source."""
    tag = _HTML.search(page, 0, _HEAD)
    lang = _LANG.search(page, tag.start(), page.find(">", tag.end(), _HEAD) + 1) if tag else None
    if options.pair is None or lang is None:
        return page
    try:
        is_source = distance(options.pair.source, language(lang.group(2))) is not None
    except LanguageError:
        is_source = False
    return page[: lang.start(2)] + options.pair.target.tag + page[lang.end(2) :] if is_source else page


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    declared = _CHARSET.search(raw[:4096])
    encoding = "utf-8" if bom or not declared else declared.group(1).decode()
    known = charset_name(encoding)
    if known is None:
        raise CorpusError("unknown charset", place="file", found=encoding[:40], valid="UTF-8")
    encoding = known
    try:
        text = raw[len(bom) :].decode(encoding)
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        byte = f"0x{raw[len(bom) + e.start]:02x}"
        raise CorpusError(f"not {encoding.upper()}", place=f"line {line}", found=byte, valid="the charset that it names") from None
    converted = _converted(text, visitor, options.bounds)
    out.write(raw if converted == text else bom + _in_target(converted, options).encode(encoding, "xmlcharrefreplace"))
