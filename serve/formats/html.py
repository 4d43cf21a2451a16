"""HTML files: text between tags, a stretch between two blocks as one. Tags, attributes, comments, scripts and white space stay byte for byte.

Divided at its tags, in place; a tree (serve.translation.markup_html) would write the page anew, and the standard library's parser takes hours for a
mebibyte of `<a `.
Kept as they are: code, scripts, styles, elements with translate="no" or the class notranslate. `lang` of <html> becomes the target's where it was the source's.
"""

from __future__ import annotations

import codecs
import dataclasses
import html
import re
from typing import IO

from serve.formats.html_elements import INLINE, KEPT, OPAQUE, VOID
from serve.formats.inline_tags import Piece, line_of
from serve.formats.units import BOM, Options, Unit, UnitVisitor
from tell.errors import CorpusError, LanguageError
from tell.languages import distance, language

_SPACES = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
_LANG = re.compile(r"(\slang\s*=\s*[\"']?)([A-Za-z][\w-]*)", re.I)


# Whose content ends at their own end tag alone: no tag is one in there.
RAW = frozenset(["script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes", "noscript", "plaintext"])
_TAG = re.compile(r"<(?:[!?]|/?[A-Za-z])")
_TAG_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_QUOTE_OR_END = re.compile("[\"'>]")
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=<>`]+)))?""")


@dataclasses.dataclass(slots=True)
class _Event:
    kind: str
    name: str
    start: int
    kept: bool = False


def _tag_end(text: str, at: int) -> int:
    """Where a tag ends; -1 where it does not. A `>` in a quoted value is none."""
    while found := _QUOTE_OR_END.search(text, at):
        if found.group() == ">":
            return found.end()
        at = found.end()
        if text[max(0, at - 50) : at - 1].rstrip().endswith("="):
            at = text.find(found.group(), at) + 1
            if not at:
                return -1
    return -1


def _is_kept(tag: str) -> bool:
    if "translate" not in tag.lower():
        return False
    own = {m.group(1).lower(): next(filter(None, m.groups()[1:]), "") for m in _ATTRIBUTE.finditer(tag)}
    return own.get("translate", "").lower() == "no" or "notranslate" in own.get("class", "").split()


def _events(text: str) -> list[_Event]:
    """What the page is made of, with the place of each. Every character is looked at once or twice, whatever is broken."""
    out: list[_Event] = []
    at = searched = 0
    while at < len(text):
        start = text.find("<", max(at, searched))
        follows = text[start + 1 : start + 2] if start >= 0 else ""
        if start >= 0 and not _TAG.match(text, start):
            # A sign and no tag.
            searched = start + 1
            continue
        if start != at:
            out.append(_Event("text", "", at))
        if start < 0:
            break
        if text.startswith("<!--", start):
            end = text.find("-->", start + 4) + 3
            out.append(_Event("comment", "", start))
            at = end if end > 2 else len(text)
        elif follows in ("!", "?"):
            end = text.find(">", start) + 1
            out.append(_Event("block" if text[start : start + 9].lower() == "<!doctype" else "comment", "", start))
            at = end or len(text)
        else:
            closes = follows == "/"
            found = _TAG_NAME.match(text, start + 1 + closes)
            name = found.group().lower() if found else ""
            at = _tag_end(text, start + 1)
            if at < 0:
                # To a browser, too, this is no text.
                out.append(_Event("comment", "", start))
                break
            void = name in VOID or text[at - 2] == "/"
            kept = not closes and (name in OPAQUE or _is_kept(text[start:at]))
            out.append(_Event("close" if closes else "void" if void else "open", name, start, kept and not void))
            if name in RAW and not closes and not void:
                close = re.compile(rf"</{re.escape(name)}(?=[\s/>])", re.I).search(text, at)
                end = close.start() if close else len(text)
                if end > at:
                    out.append(_Event("text", "", at))
                at = end
        searched = at
    return out


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("\u00a0", "&nbsp;")


def _markup(piece: Piece) -> str:
    return _escaped(piece.value) if piece.kind == "text" else piece.value


def _flushed(run: list[tuple[Piece, str]], place: str, raw: bool, visitor: UnitVisitor) -> str:
    """A stretch between two ends of sentences; each piece comes with what stands in the file."""
    original = "".join(own for _, own in run)
    line = line_of([piece for piece, _ in run])
    if line is None:
        return original
    core = line.text.strip(" \t\n\r\f")
    start = line.text.index(core)
    text = core if raw else _SPACES.sub(" ", core)
    made = visitor.visit(Unit(text, place, tagged=line.tagged))
    if made is None or made.failed or made.text == text:
        return original
    pieces, placed = line.placed(made.text)
    if not placed:
        visitor.warn(place, "tags inside the text lost their places")
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


def _converted(text: str, visitor: UnitVisitor) -> str:
    events = _events(text)
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
                    out += [_flushed(run, f"line {line}", True, visitor), part]
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
            out += [_flushed(run, f"line {line}", bool(preserved), visitor), own]
            run = []
            if event.name in KEPT and not event.kept:
                preserved = max(0, preserved + (event.kind == "open") - (event.kind == "close"))
    return "".join([*out, _flushed(run, f"line {line}", bool(preserved), visitor)])


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


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
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
    made = _converted(text, visitor)
    out.write(raw if made == text else bom + _in_target(made, options).encode(encoding, "xmlcharrefreplace"))
