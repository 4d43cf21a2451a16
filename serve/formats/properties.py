"""Java's .properties: values alone change. Keys, separators, comments, blank lines and the way characters are written stay.

UTF-8 where the file is, else ISO-8859-1; a file in ASCII gets `\\uXXXX`, which every reader takes. A value over several lines stays as it is where it is not
changed; a changed one is one line, broken after each `\\n` where the old one was.
"""

from __future__ import annotations

import re
from typing import IO

from serve.formats.claims import check_name
from serve.formats.edits import Edits
from serve.formats.units import BOM, Options, Unit, UnitVisitor, changed
from tell.text.normalise import halves_joined

# A line with those that a backslash at its end continues; what is before the value: the key, and `=`, `:` or white space.
_LINE = re.compile(r"[^\n\r]*(?:\r\n|\n|\r|\Z)")
_KEY = re.compile(r"[ \t\f]*(?:[^\\ \t\f=:\n\r]|\\(?:(?:\r\n|\n|\r)[ \t\f]*|[^\n\r]))+")
_SEPARATOR = re.compile(r"(?:[ \t\f]|\\(?:\r\n|\n|\r)[ \t\f]*)*(?:[=:](?:[ \t\f]|\\(?:\r\n|\n|\r)[ \t\f]*)*)?")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(\r\n|\n|\r)[ \t\f]*|(u)|(.)|\Z)", re.S)
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
_BACK = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\f": "\\f"}
# Keys of letters that open a menu, which are no texts.
_ACCESS = re.compile(r"(?:access|command|shortcut)\.?key\Z", re.I)
# Characters before which a backslash is allowed and not needed in a value.
_OPTIONAL = ":=#!\"'"
# A value that MessageFormat reads: there an apostrophe is written twice.
_ARGUMENT = re.compile(r"\{\d{1,3}[,}]")
_LONE = re.compile(r"(?<!')'(?!')")
# After a written line end, a value that goes on in the next line of the file.
_BROKEN = re.compile(r"\\n\\(\r\n|\n|\r)([ \t\f]*)")
_SMALL = re.compile(r"\\u[0-9a-f]{0,3}[a-f]")


def unescape(raw: str) -> str | None:
    """The text of a value; None where an escape is cut short."""
    bad = False

    def back(escape: re.Match[str]) -> str:
        nonlocal bad
        code, line_end, cut, character = escape.groups()
        bad = bad or cut is not None
        return chr(int(code, 16)) if code else "" if line_end else _CONTROL.get(character, character) if character else ""

    text = _ESCAPE.sub(back, raw) if "\\" in raw else raw
    # Characters beyond the first plane are two escapes.
    text = halves_joined(text)
    return None if bad or (text and "\ufffd" in text and "\ufffd" not in raw) else text


def _written(text: str, raw: str, encoding: str, small: bool) -> str:
    """A text as a value, with the escapes that the old value has where none are needed."""
    optional = {c for c in _OPTIONAL if "\\" + c in raw}
    new = "".join(_BACK.get(c, "\\" + c if c in optional else c) for c in text)
    if new[:1] in (" ", "#", "!") and raw[:1] not in ("#", "!"):
        new = "\\" + new
    if broken := _BROKEN.search(raw):
        new = new.replace("\\n", "\\n\\" + broken.group(1) + broken.group(2), max(0, new.count("\\n") - new.endswith("\\n")))
    return "".join(c if _holds(c, encoding) else _unicode(c, small) for c in new)


def _holds(character: str, encoding: str) -> bool:
    return character < "\x80" or encoding == "utf-8" or (encoding == "latin-1" and character < "\u0100")


def _unicode(character: str, small: bool) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04{'x' if small else 'X'}}" for i in range(0, len(units), 2))


def logical_lines(text: str) -> list[tuple[int, int]]:
    """(start, end) of each line with those that continue it, without its end. A comment is never continued."""
    lines = []
    position = 0
    while position < len(text):
        start = position
        first = True
        while True:
            line = _LINE.match(text, position)
            assert line is not None
            position = line.end()
            content = line.group().rstrip("\r\n")
            comment = first and content.lstrip(" \t\f")[:1] in ("#", "!")
            first = False
            if comment or (len(content) - len(content.rstrip("\\"))) % 2 == 0 or position >= len(text):
                break
        lines.append((start, line.start() + len(content)))
    return lines


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    check_name(visitor, options)
    raw = source.read()
    bom = BOM if raw.startswith(BOM) else b""
    try:
        text, encoding = raw[len(bom) :].decode(), "utf-8" if bom or not raw.isascii() else "ascii"
    except UnicodeDecodeError:
        text, encoding = raw.decode("latin-1"), "latin-1"
    edits, small = Edits(text), bool(_SMALL.search(text))
    lines = logical_lines(text)
    options.bounds.check("tokens", len(lines))
    for start, end in lines:
        if text[start:end].lstrip(" \t\f")[:1] in ("", "#", "!"):
            continue
        key = _KEY.match(text, start, end)
        separator = _SEPARATOR.match(text, key.end() if key else start, end)
        assert separator is not None
        value_start = separator.end()
        raw_value = text[value_start:end]
        place = f"line {edits.line(start)}"
        if not raw_value or (key and _ACCESS.search(key.group())):
            continue
        value = unescape(raw_value)
        if value is None:
            visitor.unreadable(place, "an escape that is cut short: \\u needs four digits")
            continue
        message = bool(_ARGUMENT.search(value)) and "''" in value and not _LONE.search(value)
        shown = value.replace("''", "'") if message else value
        new = changed(visitor, Unit(shown, place))
        if new is None:
            continue
        doubled = message or (bool(_ARGUMENT.search(value)) and "'" not in value)
        edits.put(value_start, end, _written(new.replace("'", "''") if doubled else new, raw_value, encoding, small))
    out.write(bom + edits.result().encode("latin-1" if encoding == "latin-1" else "utf-8"))
