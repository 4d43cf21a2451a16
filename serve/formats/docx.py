"""DOCX: the paragraphs of a document, its tables, headers, footers, footnotes, endnotes and text boxes. Everything else stays byte for byte.

A paragraph is a text, whatever runs Word has cut it into; runs that differ in formatting from most of it go along as tags and come back. Tabs and line breaks
part a paragraph. Left as they are: codes of fields, formulas, deleted text, what is in pictures and charts. Comments are not translated.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import IO

from serve.formats.inline_tags import Line, Piece, line_of
from serve.formats.units import Options, Unit, UnitVisitor
from serve.formats.xml_events import Event, Xml, escaped, inner, raw_of
from serve.formats.zipped_xml import members, opened, read, repack

_PARTS = re.compile(r"word/(?:document|header\d*|footer\d*|footnotes|endnotes)\.xml")
# Elements around runs.
_AROUND = {"hyperlink", "ins", "smartTag", "moveTo", "dir", "bdo"}
# Marks without width; they stand before or after a text as well as in it.
_STARTS = {"bookmarkStart", "commentRangeStart", "permStart", "moveToRangeStart", "moveFromRangeStart"}
_ENDS = {"bookmarkEnd", "commentRangeEnd", "permEnd", "moveToRangeEnd", "moveFromRangeEnd"}
# What Word notes for itself, and writes anew.
_DROPPED = {"proofErr", "lastRenderedPageBreak"}
# Where a text ends.
_BORDERS = {"tab", "ptab", "br", "cr"}
# Of a run's formatting, what no reader sees.
_UNSEEN = re.compile(r"<w:(?:lang|noProof|rFonts w:hint)\b[^<>]*/>")
# Text boxes inside text boxes.
DEEPEST = 8


class _Part:
    """One XML file of a document."""

    def __init__(self, xml: Xml, name: str, visitor: UnitVisitor):
        self.xml, self.name, self.visitor = xml, name.removeprefix("word/").removesuffix(".xml"), visitor
        self.paragraphs = self.changes = 0

    def convert(self, out: IO[bytes]) -> None:
        held: list[Event] = []
        depth = 0
        for event in self.xml:
            if held:
                held.append(event)
                depth += (event.kind == "start") - (event.kind == "end")
                if not depth:
                    out.write(self.paragraph(held, 0))
                    held = []
            elif event.kind == "start" and event.local == "p" and "wordprocessingml" in event.name:
                held, depth = [event], 1
            else:
                out.write(event.raw)

    def paragraph(self, events: list[Event], level: int) -> bytes:
        """A paragraph with its texts translated; those of text boxes in it first."""
        self.paragraphs += 1
        place = f"{self.name}, paragraph {self.paragraphs}"
        changes = self.changes
        atoms = self._atoms(events[1:-1], level)
        out = [events[0].raw]
        stretch: list[_Atom] = []
        for atom in atoms:
            if atom.kind == "border":
                out += [self._stretch(stretch, place), atom.raw]
                stretch = []
            else:
                stretch.append(atom)
        new = b"".join([*out, self._stretch(stretch, place), events[-1].raw])
        # Runs that were cut for nothing are not cut.
        return raw_of(events) if self.changes == changes else new

    def _atoms(self, events: list[Event], level: int) -> list[_Atom]:
        out: list[_Atom] = []
        at = 0
        while at < len(events):
            event = events[at]
            if event.kind != "start":
                out.append(_Atom("close" if event.kind == "end" else "raw", event.raw))
                at += 1
                continue
            end = inner(events, at)
            own = events[at : end + 1]
            if event.local == "r":
                out += self._run(own, level)
            elif event.local in _AROUND and own[-1].raw:
                out += [_Atom("open", event.raw), *self._atoms(own[1:-1], level), _Atom("close", own[-1].raw)]
            elif event.local == "sdt":
                out += self._control(own, level)
            elif event.local in _STARTS | _ENDS:
                out.append(_Atom("before" if event.local in _STARTS else "after", raw_of(own)))
            elif event.local in _DROPPED:
                out.append(_Atom("dropped", raw_of(own)))
            elif event.local in ("pPr", "sectPr"):
                out.append(_Atom("border", raw_of(own)))
            else:
                out.append(_Atom("void", self._nested(own, level)))
            at = end + 1
        return out

    def _control(self, own: list[Event], level: int) -> list[_Atom]:
        """A content control: what is said of it opens, its content is text like any other."""
        start = next((i for i in range(1, len(own)) if own[i].kind == "start" and own[i].local == "sdtContent"), None)
        if start is None or not own[inner(own, start)].raw:
            return [_Atom("void", raw_of(own))]
        end = inner(own, start)
        return [_Atom("open", raw_of(own[: start + 1])), *self._atoms(own[start + 1 : end], level), _Atom("close", raw_of(own[end:]))]

    def _nested(self, events: list[Event], level: int) -> bytes:
        """What is no text of the paragraph, with the paragraphs of the text boxes in it translated."""
        if level >= DEEPEST or not any(e.kind == "start" and e.local == "txbxContent" for e in events):
            return raw_of(events)
        out, at = [], 0
        while at < len(events):
            if events[at].kind == "start" and events[at].local == "p" and "wordprocessingml" in events[at].name:
                end = inner(events, at)
                out.append(self.paragraph(events[at : end + 1], level + 1))
                at = end + 1
            else:
                out.append(events[at].raw)
                at += 1
        return b"".join(out)

    def _run(self, own: list[Event], level: int) -> list[_Atom]:
        """A run as atoms, each with the run's own tag and formatting around it."""
        head, style, at = own[0].raw, b"", 1
        out: list[_Atom] = []
        while at < len(own) - 1:
            event = own[at]
            if event.kind != "start":
                at += 1
                continue
            end = inner(own, at)
            part = own[at : end + 1]
            if event.local == "rPr":
                style = raw_of(part)
            elif event.local == "t":
                out.append(_Atom("text", self._in_run(head, style, raw_of(part)), "".join(e.text for e in part), head, style))
            elif event.local == "noBreakHyphen":
                out.append(_Atom("text", self._in_run(head, style, raw_of(part)), "\u2011", head, style))
            elif event.local == "softHyphen":
                out.append(_Atom("text", self._in_run(head, style, raw_of(part)), "\u00ad", head, style))
            elif event.local in _DROPPED:
                out.append(_Atom("dropped", self._in_run(head, style, raw_of(part))))
            else:
                kind = "border" if event.local in _BORDERS else "void"
                out.append(_Atom(kind, self._in_run(head, style, self._nested(part, level))))
            at = end + 1
        # A run that needs no cutting keeps its very bytes.
        if len(out) == 1 and out[0].kind in ("text", "dropped"):
            out[0].raw = raw_of(own)
        elif not out:
            out.append(_Atom("raw", raw_of(own)))
        return out

    def _in_run(self, head: bytes, style: bytes, content: bytes) -> bytes:
        return head + style + content + self.xml.encode(f"</{self._prefix(head)}r>")

    def _prefix(self, tag: bytes) -> str:
        found = re.match(r"<([\w.-]+:)?", self.xml.decode(tag))
        return (found.group(1) or "") if found else ""

    def _stretch(self, atoms: list[_Atom], place: str) -> bytes:
        """What stands between two borders, translated where it has text."""
        original = b"".join(a.raw for a in atoms)
        atoms = _whole_fields(atoms)
        run, styles = self._pieces(atoms)
        line = line_of(run)
        if line is None:
            return original
        made = self.visitor.visit(Unit(line.text, place, tagged=line.tagged))
        if made is None or made.failed or made.text == line.text:
            return original
        self.changes += 1
        pieces, placed = line.placed(made.text)
        if not placed:
            self.visitor.warn(place, "tags inside the text lost their places")
        marks = (b"".join(a.raw for a in atoms if a.kind == kind) for kind in ("before", "after"))
        return next(marks) + self._written(line, pieces, styles) + next(marks)

    def _pieces(self, atoms: list[_Atom]) -> tuple[list[Piece], dict[str, tuple[bytes, bytes]]]:
        """The stretch as text and tags; and the runs' beginnings by the names that their tags have. `""` is that of most of the text."""
        amount: Counter[str] = Counter()
        styles: dict[str, tuple[bytes, bytes]] = {}
        for atom in atoms:
            if atom.kind == "text":
                amount[atom.seen] += len(atom.text)
                styles.setdefault(atom.seen, (atom.head, atom.style))
        common = amount.most_common(1)[0][0] if amount else ""
        names = {seen: "" if seen == common else f"run{number}" for number, seen in enumerate(styles, 1)}
        run: list[Piece] = []
        current = ""
        for atom in atoms:
            if atom.kind in ("before", "after", "dropped", "raw"):
                continue
            name = names[atom.seen] if atom.kind == "text" else ""
            # White space looks the same in most formats.
            if atom.kind == "text" and not atom.text.strip() and "<w:u " not in atom.seen and "<w:highlight" not in atom.seen:
                name = current
            if name != current:
                run += [Piece("close", "run")] * bool(current) + [Piece("open", name)] * bool(name)
                current = name
            if atom.kind == "text" and run and run[-1].kind == "text":
                run[-1] = Piece("text", run[-1].value + atom.text)
            elif atom.kind == "text":
                run.append(Piece("text", atom.text))
            else:
                run.append(Piece("void" if atom.kind == "void" else "open" if atom.kind == "open" else "close", self.xml.decode(atom.raw)))
        run += [Piece("close", "run")] * bool(current)
        return run, {names[seen]: style for seen, style in styles.items()}

    def _written(self, line: Line, pieces: list[Piece], styles: dict[str, tuple[bytes, bytes]]) -> bytes:
        out: list[bytes] = []
        now = [""]
        for piece in (*line.before, *pieces, *line.after):
            if piece.kind == "text":
                head, style = styles[now[-1]]
                name = f"{self._prefix(head)}t"
                out.append(self._in_run(head, style, self.xml.encode(f'<{name} xml:space="preserve">{escaped(piece.value)}</{name}>')))
            elif piece.kind == "open" and piece.value in styles:
                now.append(piece.value)
            elif piece.kind == "close" and piece.value == "run":
                if len(now) > 1:
                    now.pop()
            else:
                out.append(self.xml.encode(piece.value))
        return b"".join(out)


class _Atom:
    """The smallest thing that a paragraph is cut into: text of one run, a tag around runs, a mark, a border, or anything else. `raw` stands by itself."""

    def __init__(self, kind: str, raw: bytes, text: str = "", head: bytes = b"", style: bytes = b""):
        self.kind, self.raw, self.text, self.head, self.style = kind, raw, text, head, style
        self.seen = _UNSEEN.sub("", style.decode("utf-8", "replace")).replace("<w:rPr></w:rPr>", "")


def _whole_fields(atoms: list[_Atom]) -> list[_Atom]:
    """Fields that Word computes, such as the number of the page, as one thing each; the text of a link that is a field stays text."""
    out: list[_Atom] = []
    at = 0
    while at < len(atoms):
        end = at
        if atoms[at].kind == "void" and b'fldCharType="begin"' in atoms[at].raw:
            depth = 0
            for i in range(at, len(atoms)):
                depth += atoms[i].raw.count(b'fldCharType="begin"') - atoms[i].raw.count(b'fldCharType="end"')
                if not depth:
                    end = i
                    break
        own = atoms[at : end + 1]
        raw = b"".join(a.raw for a in own)
        if end > at and b"HYPERLINK" not in raw and all(a.kind not in ("open", "close") for a in own):
            out.append(_Atom("void", raw))
        else:
            out += own
        at = end + 1
    return out


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    with opened(source, "docx", "word/document.xml", options.expanded) as archive:
        changed: dict[str, bytes] = {}
        for name in members(archive, lambda n: _PARTS.fullmatch(n) is not None):
            raw, made = read(archive, name), io.BytesIO()
            _Part(Xml(io.BytesIO(raw), name), name, visitor).convert(made)
            if made.getvalue() != raw:
                changed[name] = made.getvalue()
        repack(source, archive, out, changed)
