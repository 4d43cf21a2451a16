"""Text of an XML element written again as the old text was: as CDATA, with its line ends, and with references for the characters that had them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import IO

from serve.formats.xml_events import NOT_XML, Event, Xml, escaped, raw_of, text_inside

_REFERENCE = re.compile(r"&#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}));|&(quot|apos|gt);")
_NAMED = {"quot": '"', "apos": "'", "gt": ">"}
_CDATA = b"<![CDATA["


def begins_as_xml(source: IO[bytes]) -> bool:
    """Whether a file's first sign is `<`. The file is at its beginning afterwards."""
    start = source.read(1024).lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")
    source.seek(0)
    return start.startswith(b"<")


def is_cdata(content: Sequence[Event]) -> bool:
    """Whether all text of an element but white space is in one CDATA section."""
    started = [i for i, e in enumerate(content) if e.raw.startswith(_CDATA)]
    if len(started) != 1 or any(e.kind in ("start", "end") for e in content):
        return False
    ended = next((i for i, e in enumerate(content) if i > started[0] and e.raw == b"]]>"), None)
    return ended is not None and not text_inside([*content[: started[0]], *content[ended + 1 :]]).strip()


def written(xml: Xml, content: Sequence[Event], text: str) -> bytes:
    """The content of an element without elements inside, with another text."""
    if is_cdata(content):
        start = next(i for i, e in enumerate(content) if e.raw.startswith(_CDATA))
        end = next(i for i, e in enumerate(content) if i > start and e.raw == b"]]>")
        inside = NOT_XML.sub("\ufffd", text).replace("]]>", "]]]]><![CDATA[>")
        return raw_of(list(content[: start + 1])) + xml.encode(_line_ends(inside, content)) + raw_of(list(content[end:]))
    return xml.encode(as_before(xml, content, text))


def as_before(xml: Xml, content: Sequence[Event], text: str) -> str:
    """A text escaped as it was: `&#160;` and `&quot;` stay where the old text has them."""
    old = xml.decode(raw_of(list(content)))
    new = escaped(text)
    for reference in set(_REFERENCE.findall(old)) if "&" in old else ():
        code, number, name = reference
        character = _NAMED[name] if name else chr(min(int(code, 16) if code else int(number), 0x10FFFF))
        whole = f"&{name};" if name else f"&#x{code};" if code else f"&#{number};"
        if character not in "&<\n\t" and character != " ":
            new = new.replace("&gt;" if character == ">" else character, whole)
    return _line_ends(new, content)


def _line_ends(text: str, content: Sequence[Event]) -> str:
    """CRLF where the old text had it: readers of XML take it for a line feed."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n") if any(b"\r\n" in e.raw or e.raw == b"\r" for e in content) else text
