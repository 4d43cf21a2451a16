"""Fields of JSON lines: strings are translated where they are, or into another field of the same object. All else in a line stays byte for byte.

A field is a key, or keys with dots between them (`message.text`); of a list, every string. A line that is not JSON is reported and stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from serve.formats.units import BOM, Options, Unit, UnitVisitor, decoded
from tell.errors import BadInput
from tell.text.normalise import storable
from tell.text.segments import words_in

_SPACED = re.compile(r"[:,]\s")
_SPACE = re.compile(r"[ \t\n\r]*")
_value = json.JSONDecoder().raw_decode


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def members(text: str, position: int) -> Iterator[tuple[str, int, int]]:
    """(key, start, end) of the values of the object that begins at `position`, in a text that is known to be JSON."""
    position = _skip(text, position + 1)
    while text[position] != "}":
        key, position = _value(text, position)
        position = _skip(text, _skip(text, position) + 1)
        _, end = _value(text, position)
        yield key, position, end
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)


def _elements(text: str, position: int) -> Iterator[tuple[int, int]]:
    position = _skip(text, position + 1)
    while text[position] != "]":
        _, end = _value(text, position)
        yield position, end
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)


def spans(text: str, path: list[str], position: int = 0) -> Iterator[tuple[int, int]]:
    """(start, end) of the strings that a path leads to."""
    position = _skip(text, position)
    if not path:
        if text[position] == '"':
            yield position, _value(text, position)[1]
        elif text[position] == "[":
            for start, end in _elements(text, position):
                if text[start] == '"':
                    yield start, end
        return
    if text[position] == "[":
        for start, _ in _elements(text, position):
            yield from spans(text, path, start)
    if text[position] != "{":
        return
    # Of a key that is there twice, JSON's readers take the last.
    starts = {key: start for key, start, _ in members(text, position)}
    if path[0] in starts:
        yield from spans(text, path[1:], starts[path[0]])


def _fields(first: dict[str, Any], options: Options) -> list[str]:
    if options.fields:
        return list(options.fields)
    for name in ([options.pair.source.tag] if options.pair else []) + ["source", "text"]:
        if isinstance(first.get(name), str):
            return [name]
    valid = ", ".join(k for k, v in first.items() if isinstance(v, str)) or "a field of text"
    raise BadInput("which field is to be translated?", place="--field", found=options.name or None, valid=valid)


def _with_field(text: str, name: str, translation: str, ascii_only: bool) -> str:
    """The object with a field set: where it is, or after the last one."""
    places = {key: (start, end) for key, start, end in members(text, _skip(text, 0))}
    value = json.dumps(translation, ensure_ascii=ascii_only)
    if name in places:
        start, end = places[name]
        return text[:start] + value + text[end:]
    close = text.rindex("}")
    body = text[:close].rstrip()
    comma = ("," if body.endswith(("{", ",")) is False else "") + (" " if _SPACED.search(text) and places else "")
    return f"{body}{comma}{json.dumps(name, ensure_ascii=ascii_only)}:{' ' if ': ' in text else ''}{value}{text[len(body) :]}"


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    fields: list[str] = []
    any_string = False
    offset = 0
    keys: list[str] = []
    for number, raw in enumerate(source, 1):
        place = f"line {number}"
        bom = BOM if number == 1 and raw.startswith(BOM) else b""
        line = decoded(raw[len(bom) :], number, offset + len(bom))
        offset += len(raw)
        if not line.strip():
            out.write(raw)
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            visitor.unreadable(place, f"not JSON: {e.msg if isinstance(e, json.JSONDecodeError) else 'too deep'}")
            out.write(raw)
            continue
        if not isinstance(value, dict):
            visitor.unreadable(place, f"not a JSON object: found {type(value).__name__}")
            out.write(raw)
            continue
        if not fields:
            fields, keys = _fields(value, options), list(value)
            if options.into is not None and len(fields) > 1:
                raise BadInput("one field goes into another", place="--into", found=f"{len(fields)} fields", valid="one --field")
        # Written as the line is: with escapes where it has only those.
        ascii_only = line.isascii() and "\\u" in line
        strings = sorted({span for field in fields for span in spans(line, field.split("."))})
        any_string = any_string or bool(strings)
        output, written_to, into_text = [], 0, None
        for start, end in strings:
            text = json.loads(line[start:end])
            has_translation = options.into is not None and bool(value.get(options.into))
            if not storable(text):
                visitor.unreadable(place, "half a character (a lone surrogate)")
                continue
            translation = visitor.visit(Unit(text, place, has_translation))
            if translation is None or not words_in(text):
                continue
            if options.into is not None:
                into_text = translation.text
            elif translation.text != text:
                output += [line[written_to:start], json.dumps(translation.text, ensure_ascii=ascii_only)]
                written_to = end
        text = "".join([*output, line[written_to:]])
        out.write(bom + (_with_field(text, options.into, into_text, ascii_only) if into_text is not None and options.into else text).encode())
    if fields and not any_string:
        raise BadInput("no line has this field with a text", place="--field", found=", ".join(fields), valid=", ".join(keys))
