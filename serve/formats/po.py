"""Gettext's PO and POT: untranslated entries get their translation, marked fuzzy. Every other line stays byte for byte.

Contexts, plural forms, wrapped strings and comments are kept; obsolete entries are left alone. Plural forms come from the header's `Plural-Forms`: the form
for one is made of msgid, the others of msgid_plural, and a form that also stands for other numbers (21 in Icelandic) too where msgid does not say the number.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from collections.abc import Iterator
from typing import IO

from serve.formats.units import BOM, Options, Replacement, Unit, UnitVisitor
from tell.errors import CorpusError
from tell.text.placeholders import find

# Forms in languages that have most, and what a broken header may claim.
MOST = 10
# Numbers for which a language's form is asked; all rules that are in use repeat within 100.
NUMBERS = 200
_STRING = re.compile(r'^(?:(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d{1,3})\])?)[ \t]*)?"((?:[^"\\]|\\.)*)"[ \t]*$')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPED = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.S)
_BACK = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


@dataclasses.dataclass(slots=True)
class Entry:
    """`lines` with their ends, the first being line `number` of the file. `strings`: by msgid, msgstr[1] and so on, the text and the range of its lines."""

    number: int
    lines: list[str]
    strings: dict[str, tuple[str, int, int]] = dataclasses.field(default_factory=dict)
    problem: str = ""

    def text(self, name: str) -> str:
        return self.strings[name][0] if name in self.strings else ""

    @property
    def forms(self) -> list[str]:
        return [n for n in self.strings if n.startswith("msgstr")]


def unescape(text: str) -> str:
    def back(found: re.Match[str]) -> str:
        if found.group(3):
            return _ESCAPES.get(found.group(3), found.group(3))
        return chr(int(found.group(1), 8) if found.group(1) else int(found.group(2), 16))

    return _ESCAPED.sub(back, text) if "\\" in text else text


def entries(lines: list[str]) -> Iterator[Entry]:
    """The entries with the lines between them, in order: joined, their lines are the file."""
    held = Entry(1, [])
    current, closed = "", False
    for number, line in enumerate(lines, 1):
        body = line.rstrip("\r\n").strip(" \t")
        found = _STRING.match(body)
        name = found.group(1) if found else None
        # What comes after an entry's last msgstr begins the next one.
        if closed and (body.startswith("#") or not body or name in ("msgctxt", "msgid")):
            yield held
            held, closed, current = Entry(number, []), False, ""
        at = len(held.lines)
        held.lines.append(line)
        if not body or body.startswith("#"):
            current = "" if not body or body.startswith("#~") else current
            continue
        if not found:
            held.problem = held.problem or f"line {number}: not a line of a PO file"
            current = ""
            continue
        text = unescape(found.group(3))
        if name:
            current = "msgstr[0]" if found.group(2) == "0" else name
            if current in held.strings:
                held.problem = held.problem or f"line {number}: {name} a second time"
            held.strings[current] = (text, at, at + 1)
            closed = closed or current.startswith("msgstr")
        elif current:
            before, start, _ = held.strings[current]
            held.strings[current] = (before + text, start, at + 1)
        else:
            held.problem = held.problem or f"line {number}: a string that belongs to nothing"
    yield held


def quoted(name: str, text: str, end: str) -> list[str]:
    """An entry's string as the lines of a file: in one, or broken after its line ends."""
    parts = [p for p in re.split(r"(?<=\n)", text) if p]
    written = ['"' + "".join(_BACK.get(c, c) for c in part) + '"' + end for part in parts]
    if len(written) <= 1:
        return [f"{name} {written[0] if written else chr(34) * 2 + end}"]
    return [f'{name} ""{end}', *written]


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """`encoding` of the file; `singular`: for each plural form whether it is made of msgid, `only`: whether it stands for one number alone."""

    encoding: str
    forms: int
    singular: tuple[bool, ...]
    only: tuple[bool, ...]


def charset(raw: bytes, visitor: UnitVisitor) -> str:
    found = re.search(rb'"Content-Type:[^"\n]*charset=([^\s\\";]+)', raw[:65536], re.I)
    name = found.group(1).decode("ascii", "replace") if found else ""
    if name in ("", "CHARSET"):
        if not found:
            visitor.warn("header", "no charset in the header: read as UTF-8")
        return "utf-8"
    try:
        return codecs.lookup(name).name
    except LookupError:
        visitor.warn("header", f"unknown charset {name}: read as UTF-8")
        return "utf-8"


def header_of(text: str, encoding: str, visitor: UnitVisitor, most: int) -> Header:
    """From the msgstr of the entry without a msgid. `most` forms are those that entries of the file have, for a header that does not say."""
    from gettext import c2py

    found = re.search(r"^Plural-Forms:\s*nplurals\s*=\s*(\d{1,3})\s*;\s*plural\s*=\s*([^;\n]+)", text, re.M | re.I)
    if found and 1 <= int(found.group(1)) <= MOST:
        number = int(found.group(1))
        try:
            rule = c2py(found.group(2).strip())
            of: list[set[int]] = [set() for _ in range(number)]
            for n in range(NUMBERS):
                of[rule(n)].add(n)
            return Header(encoding, number, tuple(1 in f for f in of), tuple(f == {1} for f in of))
        except (ValueError, IndexError, ZeroDivisionError, RecursionError, OverflowError):
            pass
    if most:
        visitor.warn("header", f"no usable Plural-Forms in the header: {most} forms, the first for one")
    return Header(encoding, most or 2, (True, *[False] * ((most or 2) - 1)), (True, *[False] * ((most or 2) - 1)))


def _form(entry: Entry, header: Header, number: int) -> str:
    """What a plural form is made of."""
    one, many = entry.text("msgid"), entry.text("msgid_plural")
    if not header.singular[number]:
        return many
    said = sorted(p.text for p in find(one)) == sorted(p.text for p in find(many))
    return one if header.only[number] or said else many


def _marked(lines: list[str], at: int, end: str) -> list[str]:
    """An entry's lines with the flag fuzzy: among the flags it has, or in a line of its own before line `at`, its first that is no comment."""
    for i, line in enumerate(lines[:at]):
        if line.startswith("#,"):
            if "fuzzy" in [f.strip() for f in line[2:].split(",")]:
                return lines
            return [*lines[:i], "#, fuzzy," + line[2:], *lines[i + 1 :]]
    # Before the previous msgid, as gettext writes it.
    place = next((i for i, line in enumerate(lines[:at]) if line.startswith("#|")), at)
    return [*lines[:place], "#, fuzzy" + end, *lines[place:]]


def _translated(entry: Entry, header: Header, visitor: UnitVisitor) -> list[str]:
    """The entry's lines with its translation in; they are its own where there is none."""
    end = "\r\n" if entry.lines[-1].endswith("\r\n") else "\n"
    place = f"line {entry.number + entry.strings['msgid'][1]}"
    done = any(entry.text(f) for f in entry.forms)
    made: dict[str, Replacement | None] = {}
    if "msgid_plural" in entry.strings:
        for number in range(header.forms):
            made[f"msgstr[{number}]"] = visitor.visit(Unit(_form(entry, header, number), place, done))
    else:
        made["msgstr"] = visitor.visit(Unit(entry.text("msgid"), place, done))
    if any(m is None or m.failed for m in made.values()):
        return entry.lines
    first = min(entry.strings[f][1] for f in entry.forms)
    last = max(entry.strings[f][2] for f in entry.forms)
    new = [line for name, one in made.items() if one for line in quoted(name, one.text, end)]
    lines = [*entry.lines[:first], *new, *entry.lines[last:]]
    if not entry.lines[last - 1].endswith("\n"):
        lines[len(entry.lines[:first]) + len(new) - 1] = new[-1].removesuffix(end)
    begin = min(start for _, start, _ in entry.strings.values())
    return _marked(lines, begin, end)


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    encoding = charset(raw, visitor)
    try:
        text = raw[len(bom) :].decode(encoding)
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        byte = f"0x{raw[len(bom) + e.start]:02x}"
        raise CorpusError(f"not {encoding.upper()}", place=f"line {line}", found=byte, valid="the charset that its header names") from None
    found = list(entries(re.split(r"(?<=\n)", text)))
    whole = [e for e in found if "msgid" in e.strings and e.forms and not e.problem]
    if not whole and any(e.problem for e in found):
        raise CorpusError("this is not a PO file", place=next(e.problem for e in found if e.problem), valid='msgid "..." and msgstr "..."')
    heads = [e for e in whole if not e.text("msgid") and "msgctxt" not in e.strings]
    if not heads:
        visitor.warn("header", "there is no header")
    most = max((len(e.forms) for e in whole if "msgid_plural" in e.strings), default=0)
    header = header_of(heads[0].text("msgstr") if heads else "", encoding, visitor, min(most, MOST))
    new: list[str] = []
    for entry in found:
        if entry.problem:
            visitor.unreadable(entry.problem.partition(":")[0], entry.problem.partition(": ")[2])
        usable = not entry.problem and entry.forms and entry.text("msgid")
        new += _translated(entry, header, visitor) if usable else entry.lines
    after = "".join(new)
    if after == text:
        out.write(raw)
        return
    out.write(bom + _encoded(after, encoding))


def _encoded(text: str, encoding: str) -> bytes:
    """In the file's own encoding, or in UTF-8, said in its header, where that lacks a letter or the template names none."""
    named = re.compile(r'("Content-Type:[^"\n]*charset=)[^\s\\";]+', re.I)
    found = named.search(text)
    if found and found.group().endswith("=CHARSET"):
        text = named.sub(lambda m: m.group(1) + "UTF-8", text, count=1)
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return named.sub(lambda m: m.group(1) + "UTF-8", text, count=1).encode()
