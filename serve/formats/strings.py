"""Apple's .strings: values are translated. Keys, comments, escapes and every other byte stay; UTF-8, or UTF-16 where the file has its mark."""

from __future__ import annotations

import codecs
import re
from typing import IO

from serve.formats.claims import check_name, claim_of_path, new_code
from serve.formats.edits import Edits
from serve.formats.units import BOM, Options, Unit, UnitVisitor, changed
from tell.errors import CorpusError
from tell.text.normalise import halves_joined

_BLANK = re.compile(r"(?:[\s\ufeff]|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\w./$:-]+', re.S)
_SIGN = re.compile(r"[=;]")
_ESCAPE = re.compile(r"\\(?:[Uu]([0-9a-fA-F]{4})|([0-7]{3})|(.))", re.S)
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_BACK = {"\\": "\\\\", '"': '\\"', "\t": "\\t", "\r": "\\r"}
_ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be", BOM: "utf-8"}


def unescape(raw: str) -> str:
    def back(escape: re.Match[str]) -> str:
        code, octal, character = escape.groups()
        return chr(int(code, 16)) if code else chr(int(octal, 8)) if octal else _CONTROL.get(character, character)

    text = _ESCAPE.sub(back, raw) if "\\" in raw else raw
    # Characters beyond the first plane are two escapes.
    return halves_joined(text)


def _written(text: str, raw: str) -> str:
    """A text between quotes: a line end as the old value has it, `\\n` or itself."""
    new = "".join(_BACK.get(c, c) for c in text)
    return new if "\n" in raw and "\\n" not in raw else new.replace("\n", "\\n")


def _next(text: str, position: int, pattern: re.Pattern[str], edits: Edits, valid: str) -> re.Match[str]:
    """What comes after white space and comments. Raises CorpusError with the line where it is something else."""
    blank = _BLANK.match(text, position)
    position = blank.end() if blank else position
    found = pattern.match(text, position)
    if found is None:
        raise CorpusError("this is not .strings", place=f"line {edits.line(position)}", found=text[position : position + 20] or "the end", valid=valid)
    return found


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    check_name(visitor, options)
    if claim := claim_of_path(options.name):
        new_code(claim, visitor, options)
    raw = source.read()
    if raw.startswith(b"bplist"):
        raise CorpusError("this is not .strings", place="file", found="a compiled list of properties", valid="text; plutil -convert strings makes it")
    mark, encoding = next(((mark, name) for mark, name in _ENCODINGS.items() if raw.startswith(mark)), (b"", "utf-8"))
    try:
        text = raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, len(mark) + e.start) + 1
        raise CorpusError(f"not {encoding.upper()}", place=f"line {line}", found=f"0x{raw[len(mark) + e.start]:02x}", valid="UTF-8 or UTF-16 text") from None
    edits = Edits(text)
    position, count = 0, 0
    while True:
        blank = _BLANK.match(text, position)
        position = blank.end() if blank else position
        if position >= len(text):
            break
        count += 1
        options.bounds.check("tokens", count)
        key = _next(text, position, _TOKEN, edits, '"key" = "value";')
        sign = _next(text, key.end(), _SIGN, edits, "= after a key")
        position = sign.end()
        if sign.group() == ";":
            # A key alone is its own value.
            continue
        value = _next(text, position, _TOKEN, edits, 'a "value" after =')
        if value.group().startswith('"'):
            raw_value = value.group()[1:-1]
            if (new := changed(visitor, Unit(unescape(raw_value), f"line {edits.line(value.start())}"))) is not None:
                edits.put(value.start() + 1, value.end() - 1, _written(new, raw_value))
        end = _next(text, value.end(), _SIGN, edits, "; after a value")
        position = end.end()
    out.write(mark + edits.result().encode(encoding))
