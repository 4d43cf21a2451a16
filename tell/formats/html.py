"""HTML files: text between tags, a stretch between two blocks as one. Tags, attributes, comments, scripts and white space stay byte for byte.

Parsed by the standard library, which tells where each tag stands; a tree (serve.markup) would write the page anew. Kept as they are: code, scripts, styles,
elements with translate="no" or the class notranslate. `lang` of <html> becomes the target's where it was the source's.
"""

from __future__ import annotations

import codecs
import dataclasses
import html
import re
from html.parser import HTMLParser
from typing import IO

from tell.errors import CorpusError, LanguageError
from tell.formats.inline import Piece, line_of
from tell.formats.units import BOM, Options, Pass, Unit
from tell.languages import distance, language


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elements that are part of a sentence. All others, <br> among them, end one.
INLINE = _names(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp small span strike strong sub sup time tt u"
    " var wbr"
)
# Whose content is no text, or not one to translate.
OPAQUE = _names("script style template noscript iframe object embed svg math code kbd samp var textarea audio video canvas noembed noframes xmp plaintext")
VOID = _names("area base br col embed hr img input link meta source track wbr")
# Where white space is not layout alone: each line is one of its own.
KEPT = frozenset({"pre", "listing"})
_SPACES = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
_LANG = re.compile(r"(\slang\s*=\s*[\"']?)([A-Za-z][\w-]*)", re.I)


@dataclasses.dataclass(slots=True)
class _Event:
    kind: str
    name: str
    start: int
    kept: bool = False


class _Events(HTMLParser):
    """What the page is made of, with the place of each."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.events: list[_Event] = []
        self._lines = [0, *(m.end() for m in re.finditer("\n", text))]
        self.feed(text)
        self.close()

    def _note(self, kind: str, name: str = "", kept: bool = False) -> None:
        line, offset = self.getpos()
        self.events.append(_Event(kind, name, self._lines[line - 1] + offset, kept))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        kept = (own.get("translate") or "").lower() == "no" or "notranslate" in (own.get("class") or "").split()
        self._note("void" if tag in VOID else "open", tag, kept or tag in OPAQUE)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note("void", tag)

    def handle_endtag(self, tag: str) -> None:
        self._note("close", tag)

    def handle_data(self, data: str) -> None:
        self._note("text")

    def handle_comment(self, data: str) -> None:
        self._note("comment")

    def handle_decl(self, decl: str) -> None:
        self._note("block")

    def unknown_decl(self, data: str) -> None:
        self._note("comment")

    def handle_pi(self, data: str) -> None:
        self._note("comment")


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("\u00a0", "&nbsp;")


def _markup(piece: Piece) -> str:
    return _escaped(piece.value) if piece.kind == "text" else piece.value


def _flushed(run: list[tuple[Piece, str]], place: str, raw: bool, todo: Pass) -> str:
    """A stretch between two ends of sentences; each piece comes with what stands in the file."""
    original = "".join(own for _, own in run)
    line = line_of([piece for piece, _ in run])
    if line is None:
        return original
    core = line.text.strip(" \t\n\r\f")
    start = line.text.index(core)
    text = core if raw else _SPACES.sub(" ", core)
    made = todo.unit(Unit(text, place, tagged=line.tagged))
    if made is None or made.failed or made.text == text:
        return original
    pieces, placed = line.placed(made.text)
    if not placed:
        todo.warn(place, "tags inside the text lost their places")
    around = Piece("text", line.text[:start]), Piece("text", line.text[start + len(core) :])
    return "".join(map(_markup, (*line.before, around[0], *pieces, around[1], *line.after)))


def _end_of(events: list[_Event], at: int) -> int:
    """Where the element that opens at `at` closes; elements of its name inside it close first."""
    depth = 0
    for i in range(at, len(events)):
        if events[i].name == events[at].name:
            depth += (events[i].kind == "open") - (events[i].kind == "close")
            if not depth:
                return i
    return len(events) - 1


def _converted(text: str, todo: Pass) -> str:
    events = _Events(text).events
    starts = [*(e.start for e in events), len(text)]
    out = [text[: starts[0]]]
    run: list[tuple[Piece, str]] = []
    at = preserved = 0
    line, counted = 1, 0
    while at < len(events):
        event = events[at]
        end = _end_of(events, at) if event.kind == "open" and event.kept else at
        own = text[event.start : starts[end + 1]]
        line, counted = line + text.count("\n", counted, event.start), event.start
        inline = event.name in INLINE
        at = end + 1
        if event.kind == "text" and preserved:
            for part in re.split(r"(\r?\n)", own):
                if part in ("\n", "\r\n"):
                    out += [_flushed(run, f"line {line}", True, todo), part]
                    run = []
                elif part:
                    run.append((Piece("text", html.unescape(part)), part))
        elif event.kind == "text":
            run.append((Piece("text", html.unescape(own)), own))
        elif event.kind == "comment" or (inline and (event.kept or event.kind == "void")):
            run.append((Piece("void", own), own))
        elif inline:
            run.append((Piece("open" if event.kind == "open" else "close", own), own))
        else:
            out += [_flushed(run, f"line {line}", bool(preserved), todo), own]
            run = []
            if event.name in KEPT and not event.kept:
                preserved = max(0, preserved + (event.kind == "open") - (event.kind == "close"))
    return "".join([*out, _flushed(run, f"line {line}", bool(preserved), todo)])


def _in_target(page: str, options: Options) -> str:
    """The page with the target as the language of <html>, where that was the source."""
    tag = re.search(r"<html\b[^>]*>", page[:20_000], re.I)
    found = _LANG.search(page, tag.start(), tag.end()) if tag else None
    if options.pair is None or found is None:
        return page
    try:
        same = distance(options.pair.source, language(found.group(2))) is not None
    except LanguageError:
        same = False
    return page[: found.start(2)] + options.pair.target.tag + page[found.end(2) :] if same else page


def convert(source: IO[bytes], out: IO[bytes], todo: Pass, options: Options) -> None:
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    named = _CHARSET.search(raw[:4096])
    encoding = "utf-8" if bom or not named else named.group(1).decode()
    try:
        encoding = codecs.lookup(encoding).name
        text = raw[len(bom) :].decode(encoding)
    except LookupError:
        raise CorpusError("unknown charset", place="file", found=encoding, valid="UTF-8") from None
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        found = f"0x{raw[len(bom) + e.start]:02x}"
        raise CorpusError(f"not {encoding.upper()}", place=f"line {line}", found=found, valid="the charset that it names") from None
    made = _converted(text, todo)
    out.write(raw if made == text else bom + _in_target(made, options).encode(encoding, "xmlcharrefreplace"))
