"""Gettext's PO and POT: untranslated entries get their translation, marked fuzzy. Every other line stays byte for byte.

Contexts, plural forms, wrapped strings and comments are kept; obsolete entries are left alone. Plural forms come from the header's `Plural-Forms`: the form
for one is made of msgid, the others of msgid_plural, and a form that also stands for other numbers (21 in Icelandic) too where msgid does not say the number.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import IO

from serve.formats.units import BOM, LINE_BORDER, Options, Replacement, Unit, UnitVisitor
from tell.errors import CorpusError
from tell.text.charsets import charset_name, is_other_codec
from tell.text.placeholders import find_placeholders

# The most forms that any language has; a broken header may claim more.
MOST = 10
# Numbers for which a language's form is asked; all rules that are in use repeat within 100.
NUMBERS = 200
_STRING = re.compile(r'^(?:(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d{1,3})\])?)[ \t]*)?"((?:[^"\\]|\\.)*)"[ \t]*$')
_CHARSET = re.compile(rb'"Content-Type:[^"\n]*charset=([^\s\\";]+)', re.I)
_CHARSET_IN_HEADER = re.compile(r'("Content-Type:[^"\n]*charset=)[^\s\\";]+', re.I)
_PLURAL_FORMS = re.compile(r"^Plural-Forms:\s*nplurals\s*=\s*(\d{1,3})\s*;\s*plural\s*=\s*([^;\n]+)", re.M | re.I)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPED = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.S)
_BACK = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


@dataclasses.dataclass(slots=True)
class Entry:
    """`lines` with their ends, the first being line `number` of the file. `strings`: by msgid, msgstr[1] and so on, the text's parts and the range of its
    lines."""

    number: int
    lines: list[str]
    strings: dict[str, tuple[list[str], int, int]] = dataclasses.field(default_factory=dict)
    problem: str = ""

    def text(self, name: str) -> str:
        return "".join(self.strings[name][0]) if name in self.strings else ""

    @property
    def forms(self) -> list[str]:
        return [n for n in self.strings if n.startswith("msgstr")]


def unescape(text: str) -> str:
    def back(escape: re.Match[str]) -> str:
        if escape.group(3):
            return _ESCAPES.get(escape.group(3), escape.group(3))
        return chr(int(escape.group(1), 8) if escape.group(1) else int(escape.group(2), 16))

    return _ESCAPED.sub(back, text) if "\\" in text else text


def entries(lines: list[str]) -> Iterator[Entry]:
    """The entries with the lines between them, in order: joined, their lines are the file."""
    entry = Entry(1, [])
    current_name, complete = "", False
    for number, line in enumerate(lines, 1):
        stripped = line.rstrip("\r\n").strip(" \t")
        match = _STRING.match(stripped)
        name = match.group(1) if match else None
        # After an entry's last msgstr the next entry begins.
        if complete and (stripped.startswith("#") or not stripped or name in ("msgctxt", "msgid")):
            yield entry
            entry, complete, current_name = Entry(number, []), False, ""
        index = len(entry.lines)
        entry.lines.append(line)
        if not stripped or stripped.startswith("#"):
            current_name = "" if not stripped or stripped.startswith("#~") else current_name
            continue
        if not match:
            entry.problem = entry.problem or f"line {number}: not a line of a PO file"
            current_name = ""
            continue
        text = unescape(match.group(3))
        if name:
            current_name = "msgstr[0]" if match.group(2) == "0" else name
            if current_name in entry.strings:
                entry.problem = entry.problem or f"line {number}: {name} a second time"
            entry.strings[current_name] = ([text], index, index + 1)
            complete = complete or current_name.startswith("msgstr")
        elif current_name:
            parts, start, _ = entry.strings[current_name]
            parts.append(text)
            entry.strings[current_name] = (parts, start, index + 1)
        else:
            entry.problem = entry.problem or f"line {number}: a string that belongs to nothing"
    yield entry


def quoted(name: str, text: str, end: str) -> list[str]:
    """An entry's string as lines of a file: as one line, or broken after each line end in it."""
    parts = [p for p in LINE_BORDER.split(text) if p]
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
    content_type = _CHARSET.search(raw[:65536])
    name = content_type.group(1).decode("ascii", "replace") if content_type else ""
    if name in ("", "CHARSET"):
        if not content_type:
            visitor.warn("header", "no charset in the header: read as UTF-8")
        return "utf-8"
    if known := charset_name(name):
        return known
    if is_other_codec(name):
        raise CorpusError("this is the name of no charset", place="header", found=name[:40], valid="UTF-8")
    visitor.warn("header", f"unknown charset {name[:40]}: read as UTF-8")
    return "utf-8"


def header_of(text: str, encoding: str, visitor: UnitVisitor, max_forms: int) -> Header:
    """From the msgstr of the entry without a msgid. `most` forms are those that entries of the file have, for a header that does not say."""
    from gettext import c2py

    rule_line = _PLURAL_FORMS.search(text)
    if rule_line and 1 <= int(rule_line.group(1)) <= MOST:
        forms = int(rule_line.group(1))
        try:
            rule = c2py(rule_line.group(2).strip())
            numbers_by_form: list[set[int]] = [set() for _ in range(forms)]
            for n in range(NUMBERS):
                numbers_by_form[rule(n)].add(n)
            return Header(encoding, forms, tuple(1 in f for f in numbers_by_form), tuple(f == {1} for f in numbers_by_form))
        except (ValueError, IndexError, ZeroDivisionError, RecursionError, OverflowError):
            pass
    if max_forms:
        visitor.warn("header", f"no usable Plural-Forms in the header: {max_forms} forms, the first for one")
    return Header(encoding, max_forms or 2, (True, *[False] * ((max_forms or 2) - 1)), (True, *[False] * ((max_forms or 2) - 1)))


def _form(entry: Entry, header: Header, number: int) -> str:
    """The string that a plural form is translated from."""
    singular, plural = entry.text("msgid"), entry.text("msgid_plural")
    if not header.singular[number]:
        return plural
    number_is_said = sorted(p.text for p in find_placeholders(singular)) == sorted(p.text for p in find_placeholders(plural))
    return singular if header.only[number] or number_is_said else plural


def _marked(lines: list[str], first_string: int, end: str) -> list[str]:
    """An entry's lines with the flag fuzzy: among the flags it has, or in a line of its own before line `at`, its first that is no comment."""
    for i, line in enumerate(lines[:first_string]):
        if line.startswith("#,"):
            if "fuzzy" in [f.strip() for f in line[2:].split(",")]:
                return lines
            return [*lines[:i], "#, fuzzy," + line[2:], *lines[i + 1 :]]
    # Before the previous msgid, as gettext writes it.
    insert_at = next((i for i, line in enumerate(lines[:first_string]) if line.startswith("#|")), first_string)
    return [*lines[:insert_at], "#, fuzzy" + end, *lines[insert_at:]]


def _translated(entry: Entry, header: Header, visitor: UnitVisitor) -> list[str]:
    """The entry's lines with its translation; unchanged where there is none."""
    end = "\r\n" if entry.lines[-1].endswith("\r\n") else "\n"
    place = f"line {entry.number + entry.strings['msgid'][1]}"
    has_translation = any(entry.text(f) for f in entry.forms)
    replacements: dict[str, Replacement | None] = {}
    if "msgid_plural" in entry.strings:
        for number in range(header.forms):
            replacements[f"msgstr[{number}]"] = visitor.visit(Unit(_form(entry, header, number), place, has_translation))
    else:
        replacements["msgstr"] = visitor.visit(Unit(entry.text("msgid"), place, has_translation))
    if any(r is None or r.failed for r in replacements.values()):
        return entry.lines
    first = min(entry.strings[f][1] for f in entry.forms)
    last = max(entry.strings[f][2] for f in entry.forms)
    msgstr_lines = [line for name, replacement in replacements.items() if replacement for line in quoted(name, replacement.text, end)]
    lines = [*entry.lines[:first], *msgstr_lines, *entry.lines[last:]]
    if not entry.lines[last - 1].endswith("\n"):
        lines[len(entry.lines[:first]) + len(msgstr_lines) - 1] = msgstr_lines[-1].removesuffix(end)
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
    lines = LINE_BORDER.split(text)
    options.bounds.check("tokens", len(lines))
    all_entries = list(entries(lines))
    usable_entries = [e for e in all_entries if "msgid" in e.strings and e.forms and not e.problem]
    if not usable_entries and any(e.problem for e in all_entries):
        raise CorpusError("this is not a PO file", place=next(e.problem for e in all_entries if e.problem), valid='msgid "..." and msgstr "..."')
    headers = [e for e in usable_entries if not e.text("msgid") and "msgctxt" not in e.strings]
    if not headers:
        visitor.warn("header", "there is no header")
    max_forms = max((len(e.forms) for e in usable_entries if "msgid_plural" in e.strings), default=0)
    header = header_of(headers[0].text("msgstr") if headers else "", encoding, visitor, min(max_forms, MOST))
    output: list[str] = []
    for entry in all_entries:
        if entry.problem:
            visitor.unreadable(entry.problem.partition(":")[0], entry.problem.partition(": ")[2])
        usable = not entry.problem and entry.forms and entry.text("msgid")
        output += _translated(entry, header, visitor) if usable else entry.lines
    new_text = "".join(output)
    if new_text == text:
        out.write(raw)
        return
    out.write(bom + _encoded(new_text, encoding))


def _encoded(text: str, encoding: str) -> bytes:
    """The text in the file's own encoding; in UTF-8, with its header changed, where that encoding lacks a letter or the template names none."""
    header_charset = _CHARSET_IN_HEADER.search(text)
    if header_charset and header_charset.group().endswith("=CHARSET"):
        text = _CHARSET_IN_HEADER.sub(lambda m: m.group(1) + "UTF-8", text, count=1)
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return _CHARSET_IN_HEADER.sub(lambda m: m.group(1) + "UTF-8", text, count=1).encode()
