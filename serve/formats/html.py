"""HTML and XHTML files: text between tags, a stretch between two blocks as one. Tags, attributes, comments, scripts and white space stay byte for byte.

The page is divided at its tags, in place; a tree (serve.translation.markup_html) would write the page anew, and the standard library's parser takes hours
for a mebibyte of `<a `.
Code, scripts, styles, elements with translate="no" or the class notranslate, and code of templates stay as they are. `lang` of <html> becomes the target's
where it was the source's. What is well-formed XML stays so: text is written with no entity but those of XML, or of the page.
"""

from __future__ import annotations

import bisect
import dataclasses
import html
import html.entities
import re
from collections.abc import Callable
from typing import IO

from serve.formats.html_elements import INLINE, KEPT, OPAQUE, SPELLED
from serve.formats.html_events import Event, events_of
from serve.formats.html_templates import LINES
from serve.formats.inline_tags import Kind, Piece, line_of
from serve.formats.units import BOM, Bounds, Options, Unit, UnitVisitor, changed
from serve.formats.xml_events import NOT_XML
from tell.errors import CorpusError, LanguageError
from tell.languages import distance, language
from tell.text.charsets import charset_name

# Characters in which <html> is looked for.
_HEAD = 20_000
_SPACES = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
_LANG = re.compile(r"(\s(?:xml:)?lang\s*=\s*[\"']?)([A-Za-z][\w-]*)", re.I)


_LINE_END = re.compile(r"(\r?\n)")
_HTML = re.compile(r"<html\b", re.I)
# Marks of a page that is XML too.
_XML = re.compile(r"<\?xml\s|<!doctype[^>]{0,300}xhtml|\sxmlns\s*=\s*[\"']http://www\.w3\.org/1999/xhtml", re.I)
_XML_ENCODING = re.compile(rb"\s*<\?xml[^>]{0,100}?\sencoding\s*=\s*[\"']([\w.:-]+)", re.I)
_NO_BREAK = re.compile("&nbsp;", re.I)
# Signs that begin code in templates, spelled so that they do not.
_BRACES = r"(?:&(?:#0{0,5}12[35]|#[xX]0{0,5}7[bBdD]|[lr]brace|[lr]cub);)+"
_ENTITY = re.compile(rf"{_BRACES}|&([A-Za-z_][\w.-]{{0,60}};)")
_SPELLED_AT = re.compile(r"&(?:#0*64|#x0*40|commat);", re.I)


def _translated(stretch: list[tuple[Piece, str]], place: str, raw: bool, visitor: UnitVisitor, written: Callable[[Piece], str]) -> str:
    """A stretch between two ends of sentences, translated; each piece comes with its markup in the file."""
    unchanged = "".join(markup for _, markup in stretch)
    line = line_of([piece for piece, _ in stretch], visitor, place)
    if line is None:
        return unchanged
    core = line.text.strip(" \t\n\r\f")
    start = line.text.index(core)
    text = core if raw else _SPACES.sub(" ", core)
    translation = changed(visitor, Unit(text, place, tagged=line.tagged))
    if translation is None:
        return unchanged
    pieces, placed = line.placed(translation)
    if not placed:
        visitor.warn(place, "tags inside the text lost their places")
    edges = Piece("text", line.text[:start]), Piece("text", line.text[start + len(core) :])
    return "".join(map(written, (*line.before, edges[0], *pieces, edges[1], *line.after)))


@dataclasses.dataclass(slots=True)
class _Stretch:
    """What stands between two ends of sentences: pieces with their markup in the file."""

    pieces: list[tuple[Piece, str]] = dataclasses.field(default_factory=list)

    def add(self, kind: Kind, value: str, markup: str) -> None:
        self.pieces.append((Piece(kind, value), markup))

    def text(self, markup: str) -> None:
        """Text of the file. An entity that HTML has not is declared by the page, and stays, and so does a brace that is spelled as one."""
        position = 0
        for entity in _ENTITY.finditer(markup):
            if entity[1] is None or entity[1] not in html.entities.html5:
                before = markup[position : entity.start()]
                self.add("text", html.unescape(before), before)
                self.add("void", entity.group(), entity.group())
                position = entity.end()
        self.add("text", html.unescape(markup[position:]), markup[position:])


class _Page:
    def __init__(self, text: str, visitor: UnitVisitor, bounds: Bounds):
        self.text, self.visitor = text, visitor
        self.is_xml = _XML.search(text, 0, _HEAD) is not None
        self.events = events_of(text, self.is_xml)
        bounds.check("tokens", len(self.events))
        self.starts = [*(e.start for e in self.events), len(text)]
        self.no_break = "&nbsp;" if _NO_BREAK.search(text) else "&#160;"
        at = _SPELLED_AT.search(text)
        self.at = at.group() if at else "@"
        self.output = [text[: self.starts[0]]]
        self.stretch = _Stretch()
        self.preformatted = 0
        self.line = 1

    def _written(self, piece: Piece) -> str:
        if piece.kind != "text":
            return piece.value
        text = NOT_XML.sub("\ufffd", piece.value) if self.is_xml else piece.value
        return html.escape(text, quote=False).replace("\u00a0", self.no_break).replace("@", self.at)

    def _flush(self, *markup: str) -> None:
        """End a stretch, translated, and write what follows it."""
        stretch, self.stretch = self.stretch.pieces, _Stretch()
        self.output += [_translated(stretch, f"line {self.line}", bool(self.preformatted), self.visitor, self._written), *markup]

    def converted(self) -> str:
        wanted = [number for number, event in enumerate(self.events) if event.wanted]
        # Elements of which the content stays, but for elements in them; where they end, and whether it does.
        modes: list[tuple[int, bool]] = []
        index = counted_to = 0
        while index < len(self.events):
            event = self.events[index]
            while modes and index > modes[-1][0]:
                modes.pop()
            stays = bool(modes) and modes[-1][1]
            holds_wanted = event.kept and event.name not in OPAQUE - SPELLED and bisect.bisect(wanted, event.end) > bisect.bisect(wanted, index)
            whole = event.kind == "open" and event.kept and not holds_wanted
            end = event.end if whole else index
            markup = self.text[event.start : self.starts[end + 1]]
            self.line, counted_to = self.line + self.text.count("\n", counted_to, event.start), event.start
            index = end + 1
            if event.kind == "open" and not whole and (event.kept or event.wanted):
                modes.append((event.end, event.kept))
            self._event(event, markup, stays, whole)
        self._flush()
        return "".join(self.output)

    def _event(self, event: Event, markup: str, stays: bool, whole: bool) -> None:
        inline = event.name in INLINE
        if event.kind == "cdata" and not stays:
            self.stretch.add("text", markup[9:].removesuffix("]]>"), markup)
        elif event.kind == "text" and not stays:
            self._text(markup)
        elif event.kind in ("comment", "template", "text", "cdata") or (inline and (whole or event.kind == "void")):
            self.stretch.add("void", markup, markup)
        elif inline:
            self.stretch.add("open" if event.kind == "open" else "close", markup, markup)
        else:
            self._flush(markup)
            if event.name in KEPT and not whole:
                self.preformatted = max(0, self.preformatted + (event.kind == "open") - (event.kind == "close"))

    def _text(self, markup: str) -> None:
        if self.preformatted:
            for line in _LINE_END.split(markup):
                if line in ("\n", "\r\n"):
                    self._flush(line)
                elif line:
                    self.stretch.text(line)
            return
        position = 0
        for code in LINES.finditer(markup) if "@" in markup or "#" in markup else ():
            self.stretch.text(markup[position : code.start()])
            self._flush(code.group())
            position = code.end()
        if position < len(markup):
            self.stretch.text(markup[position:])


def _in_target(page: str, options: Options) -> str:
    """The page with the target as the language of <html>, where that was the source."""
    tag = _HTML.search(page, 0, _HEAD)
    if options.pair is None or tag is None:
        return page
    pair, end = options.pair, page.find(">", tag.end(), _HEAD) + 1

    def replaced(lang: re.Match[str]) -> str:
        try:
            is_source = distance(pair.source, language(lang.group(2))) is not None
        except LanguageError:
            is_source = False
        return lang.group(1) + pair.target.tag if is_source else lang.group()

    return page[: tag.start()] + _LANG.sub(replaced, page[tag.start() : end]) + page[end:] if end else page


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    declared = _XML_ENCODING.match(raw[:4096]) or _CHARSET.search(raw[:4096])
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
    converted = _Page(text, visitor, options.bounds).converted()
    out.write(raw if converted == text else bom + _in_target(converted, options).encode(encoding, "xmlcharrefreplace"))
