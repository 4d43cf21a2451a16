"""DOCX: the paragraphs of a document, its tables, headers, footers, footnotes, endnotes and text boxes. Everything else stays byte for byte.

Which parts of the archive these are, relationships tell, whatever the parts are called.

A paragraph is a text, whatever runs Word has cut it into; runs that differ in formatting from most of it go along as tags and come back. Tabs and line breaks
part a paragraph. Codes of fields, formulas, deleted text, pictures and charts stay as they are. Comments are not translated.
"""

from __future__ import annotations

import bisect
import functools
import io
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import IO

from serve.formats.inline_tags import Line, Piece, joined, line_of
from serve.formats.relationships import main_part, parts
from serve.formats.units import Options, Unit, UnitVisitor, changed
from serve.formats.xml_events import Event, Xml, children, escaped, inner, raw_of
from serve.formats.zipped_xml import archive_members, open_archive, read, repack

_KINDS = {"header", "footer", "footnotes", "endnotes"}
# Their usual names, for a document without relationships.
_PARTS = re.compile(r"word/(?:document|header\d*|footer\d*|footnotes|endnotes)\.xml")
# Elements around runs, and what may stand first in them.
_AROUND = {"hyperlink", "ins", "smartTag", "customXml", "moveTo", "dir", "bdo"}
_PROPERTIES = {"smartTagPr", "customXmlPr"}
# Marks without width; they stand before or after a text as well as in it.
_RANGES = ("bookmark", "commentRange", "perm", "moveToRange", "moveFromRange", "customXmlInsRange", "customXmlDelRange", "customXmlMoveFromRange",
           "customXmlMoveToRange")  # fmt: skip
_STARTS, _ENDS = ({f"{name}{side}" for name in _RANGES} for side in ("Start", "End"))
# Notes that Word makes for itself, and writes anew.
_DROPPED = {"proofErr", "lastRenderedPageBreak"}
# Where a text ends.
_BORDERS = {"tab", "ptab", "br", "cr"}
# Formatting of a run that no reader sees.
_UNSEEN = re.compile(r"<(?:\w{1,20}:)?(?:lang|noProof|rFonts (?:\w{1,20}:)?hint)\b[^<>]*/>")
_NO_FORMAT = re.compile(r"<((?:\w{1,20}:)?rPr)></\1>")
# What is seen of white space.
_SEEN_IN_SPACE = re.compile(r"<(?:\w{1,20}:)?(?:u|highlight)\s")
# Text boxes inside text boxes.
DEEPEST = 8
# Bytes by which a run grows at most when it is cut, since each of its parts has all of its formatting. What would grow more stays whole.
MOST_FORMATTING = 128 << 10


class _Part:
    """One XML file of a document."""

    def __init__(self, xml: Xml, name: str, visitor: UnitVisitor):
        self.xml, self.name, self.visitor = xml, PurePosixPath(name).stem, visitor
        self.paragraphs = self.changes = 0

    def convert(self, out: IO[bytes]) -> None:
        for events in self.xml.units(_is_paragraph):
            out.write(self.paragraph(events, 0) if len(events) > 1 else events[0].raw)

    def paragraph(self, events: list[Event], level: int) -> bytes:
        """A paragraph with its texts translated; those of text boxes in it first."""
        self.paragraphs += 1
        place = f"{self.name}, paragraph {self.paragraphs}"
        changes = self.changes
        atoms = self._atoms(events[1:-1], level)
        output = [events[0].raw]
        stretch: list[_Atom] = []
        for atom in atoms:
            if atom.kind == "border":
                output += [self._stretch(stretch, place), atom.raw]
                stretch = []
            else:
                stretch.append(atom)
        translated = b"".join([*output, self._stretch(stretch, place), events[-1].raw])
        # Runs that were cut for nothing are not cut.
        return raw_of(events) if self.changes == changes else translated

    def _atoms(self, events: list[Event], level: int) -> list[_Atom]:
        atoms: list[_Atom] = []
        index = 0
        # Where the content of a control ends, and where the control does.
        ends_of_controls: dict[int, int] = {}
        while index < len(events):
            event = events[index]
            if (control_end := ends_of_controls.pop(index, None)) is not None:
                atoms.append(_Atom("close", raw_of(events[index : control_end + 1])))
                index = control_end + 1
                continue
            if event.kind != "start":
                atoms.append(_Atom("close" if event.kind == "end" else "raw", event.raw))
                index += 1
                continue
            end = inner(events, index)
            if event.local == "r":
                atoms += self._run(events[index : end + 1], level)
            elif event.local in _AROUND and events[end].raw:
                # What is inside comes next, and then the end by itself.
                first = next((i for i in range(index + 1, end) if events[i].kind == "start"), end)
                last = inner(events, first) if events[first].local in _PROPERTIES and first < end else index
                atoms.append(_Atom("open", raw_of(events[index : last + 1])))
                index = last + 1
                continue
            elif event.local == "sdt" and (content := _content_of_control(events, index)) is not None:
                # Its properties are an opening tag, and its content is text like any other.
                atoms.append(_Atom("open", raw_of(events[index : content + 1])))
                ends_of_controls[inner(events, content)] = end
                index = content + 1
                continue
            elif event.local in _STARTS | _ENDS:
                atoms.append(_Atom("before" if event.local in _STARTS else "after", raw_of(events[index : end + 1])))
            elif event.local in _DROPPED:
                atoms.append(_Atom("dropped", raw_of(events[index : end + 1])))
            elif event.local in ("pPr", "sectPr"):
                atoms.append(_Atom("border", raw_of(events[index : end + 1])))
            elif event.local == "sdt":
                atoms.append(_Atom("void", raw_of(events[index : end + 1])))
            else:
                atoms.append(_Atom("void", self._nested(events[index : end + 1], level)))
            index = end + 1
        return atoms

    def _nested(self, events: list[Event], level: int) -> bytes:
        """An element that is no text of the paragraph; paragraphs of text boxes in it are translated."""
        if level >= DEEPEST or not any(e.kind == "start" and e.local == "txbxContent" for e in events):
            return raw_of(events)
        parts, index = [], 0
        while index < len(events):
            if events[index].kind == "start" and _is_paragraph(events[index]):
                end = inner(events, index)
                parts.append(self.paragraph(events[index : end + 1], level + 1))
                index = end + 1
            else:
                parts.append(events[index].raw)
                index += 1
        return b"".join(parts)

    def _run(self, run: list[Event], level: int) -> list[_Atom]:
        """A run as atoms, each with the run's own tag and formatting around it."""
        head, style, index = run[0].raw, b"", 1
        atoms: list[_Atom] = []
        formatting = sum(len(raw_of(run[start : end + 1])) for start, end in children(run, "rPr"))
        if (len(head) + formatting) * len(children(run)) > MOST_FORMATTING:
            return [_Atom("void", raw_of(run))]
        while index < len(run) - 1:
            event = run[index]
            if event.kind != "start":
                index += 1
                continue
            end = inner(run, index)
            element = run[index : end + 1]
            if event.local == "rPr":
                style = raw_of(element)
            elif event.local == "t":
                atoms.append(_Atom("text", self._in_run(head, style, raw_of(element)), "".join(e.text for e in element), head, style))
            elif event.local == "noBreakHyphen":
                atoms.append(_Atom("text", self._in_run(head, style, raw_of(element)), "\u2011", head, style))
            elif event.local == "softHyphen":
                atoms.append(_Atom("text", self._in_run(head, style, raw_of(element)), "\u00ad", head, style))
            elif event.local in _DROPPED:
                atoms.append(_Atom("dropped", self._in_run(head, style, raw_of(element))))
            else:
                kind = "border" if event.local in _BORDERS else "void"
                atoms.append(_Atom(kind, self._in_run(head, style, self._nested(element, level))))
            index = end + 1
        # A run that needs no cutting keeps its very bytes.
        if len(atoms) == 1 and atoms[0].kind in ("text", "dropped"):
            atoms[0].raw = raw_of(run)
        elif not atoms:
            atoms.append(_Atom("raw", raw_of(run)))
        return atoms

    def _in_run(self, head: bytes, style: bytes, content: bytes) -> bytes:
        return head + style + content + self.xml.encode(f"</{self.xml.prefix_of(head)}r>")

    def _stretch(self, atoms: list[_Atom], place: str) -> bytes:
        """The atoms between two borders, translated where they have text."""
        unchanged = b"".join(a.raw for a in atoms)
        atoms = _whole_fields(atoms)
        pieces_of_stretch, styles = self._pieces(atoms)
        line = line_of(pieces_of_stretch, self.visitor, place)
        if line is None:
            return unchanged
        translation = changed(self.visitor, Unit(line.text, place, tagged=line.tagged))
        if translation is None:
            return unchanged
        self.changes += 1
        pieces, placed = line.placed(translation)
        if not placed:
            self.visitor.warn(place, "tags inside the text lost their places")
        marks = (b"".join(a.raw for a in atoms if a.kind == kind) for kind in ("before", "after"))
        return next(marks) + self._written(line, pieces, styles) + next(marks)

    def _pieces(self, atoms: list[_Atom]) -> tuple[list[Piece], dict[str, tuple[bytes, bytes]]]:
        """The stretch as text and tags; and the runs' beginnings by the names that their tags have. `""` is that of most of the text."""
        characters_by_format: Counter[str] = Counter()
        styles: dict[str, tuple[bytes, bytes]] = {}
        for atom in atoms:
            if atom.kind == "text":
                characters_by_format[atom.visible_format] += len(atom.text)
                styles.setdefault(atom.visible_format, (atom.head, atom.style))
        common = characters_by_format.most_common(1)[0][0] if characters_by_format else ""
        names = {visible_format: "" if visible_format == common else f"run{number}" for number, visible_format in enumerate(styles, 1)}
        pieces: list[Piece] = []
        current_run = ""
        for atom in atoms:
            if atom.kind in ("before", "after", "dropped", "raw"):
                continue
            name = names[atom.visible_format] if atom.kind == "text" else ""
            # White space looks the same in most formats.
            if atom.kind == "text" and not atom.text.strip() and not _SEEN_IN_SPACE.search(atom.visible_format):
                name = current_run
            if name != current_run:
                pieces += [Piece("close", "run")] * bool(current_run) + [Piece("open", name)] * bool(name)
                current_run = name
            if atom.kind == "text":
                pieces.append(Piece("text", atom.text))
            else:
                pieces.append(Piece("void" if atom.kind == "void" else "open" if atom.kind == "open" else "close", self.xml.decode(atom.raw)))
        pieces += [Piece("close", "run")] * bool(current_run)
        return joined(pieces), {names[visible_format]: style for visible_format, style in styles.items()}

    def _written(self, line: Line, pieces: list[Piece], styles: dict[str, tuple[bytes, bytes]]) -> bytes:
        parts: list[bytes] = []
        open_runs = [""]
        for piece in (*line.before, *pieces, *line.after):
            if piece.kind == "text":
                head, style = styles[open_runs[-1]]
                name = f"{self.xml.prefix_of(head)}t"
                parts.append(self._in_run(head, style, self.xml.encode(f'<{name} xml:space="preserve">{escaped(piece.value)}</{name}>')))
            elif piece.kind == "open" and piece.value in styles:
                open_runs.append(piece.value)
            elif piece.kind == "close" and piece.value == "run":
                if len(open_runs) > 1:
                    open_runs.pop()
            else:
                parts.append(self.xml.encode(piece.value))
        return b"".join(parts)


class _Atom:
    """The smallest thing that a paragraph is cut into: text of one run, a tag around runs, a mark, a border, or anything else. `raw` stands by itself."""

    def __init__(self, kind: str, raw: bytes, text: str = "", head: bytes = b"", style: bytes = b""):
        self.kind, self.raw, self.text, self.head, self.style = kind, raw, text, head, style
        self.visible_format = _visible(style)


@functools.lru_cache(maxsize=256)
def _visible(style: bytes) -> str:
    """The formatting of a run, as markup, without what no reader sees."""
    return _NO_FORMAT.sub("", _UNSEEN.sub("", style.decode("utf-8", "replace")))


def _is_paragraph(event: Event) -> bool:
    return event.local == "p" and "wordprocessingml" in event.name


def _content_of_control(events: list[Event], start: int) -> int | None:
    """Where the content of the control begins that starts at `start`; None for a control without content."""
    content = next((i for i in range(start + 1, inner(events, start)) if events[i].kind == "start" and events[i].local == "sdtContent"), None)
    return content if content is not None and events[inner(events, content)].raw else None


def _whole_fields(atoms: list[_Atom]) -> list[_Atom]:
    """Fields that Word computes, such as the number of the page, as one thing each; the text of a link that is a field stays text."""
    whole: list[_Atom] = []
    # How many fields are open before each atom, and after which atoms there are so many.
    depths = [0]
    for atom in atoms:
        depths.append(depths[-1] + atom.raw.count(b'fldCharType="begin"') - atom.raw.count(b'fldCharType="end"'))
    ends_at_depth: dict[int, list[int]] = {}
    for i, depth in enumerate(depths[1:]):
        ends_at_depth.setdefault(depth, []).append(i)
    index = 0
    while index < len(atoms):
        end = index
        if atoms[index].kind == "void" and b'fldCharType="begin"' in atoms[index].raw:
            ends = ends_at_depth.get(depths[index], [])
            first = bisect.bisect_left(ends, index)
            end = ends[first] if first < len(ends) else index
        field = atoms[index : end + 1]
        raw = b"".join(a.raw for a in field)
        if end > index and b"HYPERLINK" not in raw and all(a.kind not in ("open", "close") for a in field):
            whole.append(_Atom("void", raw))
        else:
            whole += field
        index = end + 1
    return whole


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    with open_archive(source, "docx", options.bounds) as archive:
        main = main_part(archive, "docx", "word/document.xml", options.bounds)
        of_main = parts(archive, main, _KINDS, options.bounds)
        changed: dict[str, bytes] = {}
        for name in archive_members(archive, lambda n: n == main or (_PARTS.fullmatch(n) is not None if of_main is None else n in of_main)):
            raw, converted = read(archive, name), io.BytesIO()
            _Part(Xml(io.BytesIO(raw), options.bounds, name), name, visitor).convert(converted)
            if converted.getvalue() != raw:
                changed[name] = converted.getvalue()
        repack(source, archive, out, changed)
