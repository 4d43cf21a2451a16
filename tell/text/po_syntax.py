"""The syntax of gettext's PO files: entries with their strings and the lines they stand in, and the fields of the header.

Reads every layout that msgfmt reads: strings broken anywhere, several on a line, keywords alone, blank lines inside an entry, a header that is not the first
entry. Reads lines, writes nothing; joined, the lines of the entries are the file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator

BOM = b"\xef\xbb\xbf"
LINE_BORDER = re.compile(r"(?<=\n)")
_KEYWORD = r"msgctxt|msgid_plural|msgid|msgstr(?:[ \t]*\[[ \t]*(\d{1,3})[ \t]*\])?"
_STRING = r'"((?:[^"\\]|\\.)*)"'
# A line as most are, and the parts of all others.
_USUAL = re.compile(rf"(?:({_KEYWORD})[ \t]*)?{_STRING}[ \t]*")
_TOKEN = re.compile(rf"({_KEYWORD})|{_STRING}|[ \t]+")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPED = re.compile(r"((?:\\(?:[0-7]{1,3}|x[0-9a-fA-F]{1,2}))+)|\\(.)", re.S)
_BYTE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2}))")
_BACK = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
_FIELD = re.compile(r"[ \t]*([A-Za-z][\w-]{1,40})[ \t]*:(.*)", re.S)
# Fields that gettext writes; where a string that lacks its line end is followed by one of them, a line ends there.
_KNOWN_FIELD = re.compile(
    r"(?:Project-Id-Version|Report-Msgid-Bugs-To|POT-Creation-Date|PO-Revision-Date|Last-Translator|Language-Team|Language|MIME-Version|Content-Type"
    r"|Content-Transfer-Encoding|Plural-Forms|X-[\w-]{1,40})[ \t]*:",
    re.I,
)
_CHARSET = re.compile(r"charset[ \t]*=[ \t\"']*([^\s\"';\\]{1,60})", re.I)
_CHARSET_IN_BYTES = re.compile(rb"^[ \t]{0,20}\"Content-Type:[^\n\"\\]{0,80}?charset=([\w.:-]{1,40})", re.I | re.M)
# What a template has where a charset goes.
NO_CHARSET = "CHARSET"


@dataclasses.dataclass(slots=True)
class Entry:
    """`lines` with their ends, the first of which is line `number` of the file; a line that holds several strings' keywords is parted.

    `strings`: by msgid, msgstr[1] and so on, the text's parts and the range of its lines; `at`: the line of the file that a string begins in.
    """

    number: int
    lines: list[str]
    strings: dict[str, tuple[list[str], int, int]] = dataclasses.field(default_factory=dict)
    at: dict[str, int] = dataclasses.field(default_factory=dict)
    problem: str = ""

    def text(self, name: str) -> str:
        return "".join(self.strings[name][0]) if name in self.strings else ""

    @property
    def forms(self) -> list[str]:
        return [n for n in self.strings if n.startswith("msgstr")]

    @property
    def is_header(self) -> bool:
        return "msgid" in self.strings and not self.text("msgid") and "msgctxt" not in self.strings and "msgstr" in self.strings

    @property
    def comments(self) -> list[str]:
        """The lines of comments, without those of obsolete entries and of previous texts."""
        return [line.strip() for line in self.lines if line.lstrip().startswith("#") and not line.lstrip().startswith(("#~", "#|"))]

    @property
    def flags(self) -> set[str]:
        return {flag.strip() for line in self.comments if line.startswith("#,") for flag in line[2:].split(",")}


def unescape(text: str, encoding: str = "utf-8") -> str:
    """The text of a string as it is written. Escapes of bytes are bytes of the file's charset, as msgfmt takes them."""

    def back(escape: re.Match[str]) -> str:
        if escape.group(2):
            return _ESCAPES.get(escape.group(2), escape.group(2))
        numbers = [int(octal, 8) if octal else int(hexadecimal, 16) for octal, hexadecimal in _BYTE.findall(escape.group(1))]
        return bytes(number & 255 for number in numbers).decode(encoding, "replace")

    return _ESCAPED.sub(back, text) if "\\" in text else text


def quoted(name: str, text: str, end: str) -> list[str]:
    """An entry's string as lines of a file: as one line, or broken after each line end in it."""
    parts = [p for p in LINE_BORDER.split(text) if p]
    written = ['"' + "".join(_BACK.get(c, c) for c in part) + '"' + end for part in parts]
    if len(written) <= 1:
        return [f"{name} {written[0] if written else chr(34) * 2 + end}"]
    return [f'{name} ""{end}', *written]


# A part of a line: as it is written, the keyword at its beginning, and its strings. None for strings: it is no part of a PO file.
_Fragment = tuple[str, str, list[str] | None]


def _fragments(line: str) -> list[_Fragment]:
    """A line that is neither blank nor a comment, parted before each keyword in it but the first."""
    stripped = line.rstrip("\r\n")
    usual = _USUAL.fullmatch(stripped.strip(" \t"))
    if usual:
        return [(line, _name(usual.group(1) or "", usual.group(2)), [usual.group(3)])]
    found: list[_Fragment] = []
    position = start = 0
    name, strings = "", list[str]()
    while position < len(stripped):
        token = _TOKEN.match(stripped, position)
        if token is None:
            return [(line, "", None)]
        if token.group(1):
            if name or strings:
                found.append((line[start:position], name, strings))
                start, strings = position, []
            name = _name(token.group(1), token.group(2))
        elif token.group(3) is not None:
            strings.append(token.group(3))
        position = token.end()
    return [*found, (line[start:], name, strings)]


def _name(keyword: str, index: str | None) -> str:
    if index is None:
        return keyword
    return f"msgstr[{int(index)}]"


def entries(lines: Iterable[str], encoding: str = "utf-8") -> Iterator[Entry]:
    """The entries with the lines between them, in order: joined, their lines are the file. What is no line of a PO file is an entry's `problem`."""
    entry = Entry(1, [])
    current = ""
    complete = blank = False
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        comment = stripped.startswith("#")
        for raw, name, strings in [(line, "", [])] if comment or not stripped else _fragments(line):
            # After an entry's last msgstr the next one begins; blank lines may stand between its strings.
            done = complete or (blank and bool(entry.problem))
            if done and (comment or name in ("msgctxt", "msgid") or (strings is None and blank)):
                yield entry
                entry, complete, current = Entry(number, []), False, ""
            index = len(entry.lines)
            entry.lines.append(raw)
            if comment or not stripped:
                current = "" if stripped.startswith("#~") else current
                continue
            if strings is None:
                entry.problem = entry.problem or f"line {number}: not a line of a PO file"
                current = ""
                continue
            texts = [unescape(text, encoding) for text in strings]
            if name:
                if name in entry.strings:
                    entry.problem = entry.problem or f"line {number}: {name} a second time"
                current, entry.at[name] = name, number
                entry.strings[name] = (texts, index, index + 1)
                complete = complete or name.startswith("msgstr")
            elif current:
                parts, start, _ = entry.strings[current]
                parts += texts
                entry.strings[current] = (parts, start, index + 1)
            else:
                entry.problem = entry.problem or f"line {number}: a string that belongs to nothing"
        blank = not stripped
    yield entry


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field of the header: its name as it is written, its value, and the range of the string's parts that it covers; `whole`: it has them for itself.

    A line that is no field has no name, and is the value.
    """

    name: str
    value: str
    start: int
    end: int
    whole: bool


def header_fields(parts: list[str]) -> list[Field]:
    """The fields of a header's msgstr, whose text is in these parts. A field may run through several parts, and a part hold several fields."""
    fields: list[Field] = []
    # The pieces of the line that is read, the part in which it begins, and whether it begins there.
    line: list[str] = []
    start, clean = 0, True

    def end_line(number: int, at_border: bool) -> None:
        text = "".join(line).removesuffix("\n")
        match = _FIELD.fullmatch(text)
        name, value = (match.group(1), match.group(2).strip()) if match else ("", text)
        fields.append(Field(name, value, start, number + 1, clean and at_border))
        line.clear()

    for number, part in enumerate(parts):
        if line and _KNOWN_FIELD.match(part):
            end_line(number - 1, True)
        pieces = [piece for piece in LINE_BORDER.split(part) if piece]
        for i, piece in enumerate(pieces):
            if not line:
                start, clean = number, i == 0
            line.append(piece)
            if piece.endswith("\n"):
                end_line(number, i == len(pieces) - 1)
    if line:
        end_line(len(parts) - 1, True)
    return fields


def field_value(fields: list[Field], name: str) -> str | None:
    """The value of the first field of this name, in any case."""
    return next((field.value for field in fields if field.name.lower() == name.lower()), None)


def header_charset(parts: list[str]) -> str | None:
    """The charset that a header's msgstr names, as it is written there."""
    value = field_value(header_fields(parts), "Content-Type")
    match = _CHARSET.search(value or "") or _CHARSET.search("".join(parts))
    return match.group(1) if match else None


def named_charset(raw: bytes) -> str | None:
    """The charset that a file's header names, as it is written there; None where no header does. The header stands in the file's own charset, but its
    words in ASCII, so it is looked for in the bytes."""
    header = next((entry for entry in entries(LINE_BORDER.split(raw.removeprefix(BOM).decode("latin-1"))) if entry.is_header), None)
    if header is not None and (name := header_charset(header.strings["msgstr"][0])):
        return name
    # A header that is broken, by a comment in it.
    found = _CHARSET_IN_BYTES.search(raw)
    return found.group(1).decode("ascii", "replace") if found else None
