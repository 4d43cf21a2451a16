"""XML of strangers, read as a stream: no entity is resolved, no DTD or schema is loaded, nothing is fetched.

Reads an open binary file, writes nothing. A document type is let pass (TMX names one), a definition of an entity in it is not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import IO, Any

from tell.errors import BadInput
from tell.extras import need

# What lxml is told for every document. `huge_tree` off is libxml2's own bound on depth, names, entities and text (10 MB a node).
SAFE = {"resolve_entities": False, "load_dtd": False, "no_network": True, "huge_tree": False}

# References to characters, and characters that XML cannot hold.
_REFERENCE_OR_CONTROL = re.compile(r"&#(?:x([0-9A-Fa-f]{1,8})|([0-9]{1,10}));|[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
# The bytes of the longest reference that is looked for, in UTF-16.
_LONGEST = 28


def xml_encoding(start: bytes) -> str:
    """Which UTF-16 a document's first bytes are; empty for all encodings that write ASCII as ASCII."""
    if start.startswith((b"\xff\xfe", b"<\0")):
        return "utf-16-le"
    return "utf-16-be" if start.startswith((b"\xfe\xff", b"\0<")) else ""


def _is_character(point: int) -> bool:
    return point in (9, 10, 13) or 0x20 <= point < 0xD800 or 0xE000 <= point < 0xFFFE or 0x10000 <= point < 0x110000


def _forbidden(match: re.Match[str]) -> bool:
    """Whether a reference or a character is no character of XML."""
    hexadecimal, decimal = match.groups()
    return not _is_character(int(hexadecimal, 16) if hexadecimal else int(decimal) if decimal else ord(match.group()))


class Forbidden:
    """Takes the blocks of a document and gives them back without what is no character of XML, which one unit of a memory of thousands may hold.

    `count` says how many there were. In their place stand spaces, as many bytes, or the `marker`.
    """

    def __init__(self, marker: str = ""):
        self.marker, self.count = marker, 0
        # UTF-16, or one that writes ASCII as ASCII: what is looked for is ASCII, so it need not be known which.
        self._encoding = ""
        self._rest = b""
        self._escapes = False

    def feed(self, block: bytes, last: bool) -> bytes:
        """What can be given back of the blocks so far: a reference may go on in the next one."""
        data = self._rest + block
        if not self._encoding and data:
            if len(data) < 4 and not last:
                self._rest = data
                return b""
            self._encoding = xml_encoding(data) or "latin-1"
            # ISO 2022 writes its letters after control characters.
            self._escapes = b"iso-2022" in data[:200].lower()
        end = len(data)
        if not last:
            # UTF-16 is parted between characters.
            end -= end % 2 if self._encoding != "latin-1" else 0
            begun = data.rfind(b"&", max(0, end - _LONGEST), end)
            end = begun if begun >= 0 and b";" not in data[begun:end] else end
            end -= end % 2 if self._encoding != "latin-1" else 0
        data, self._rest = data[:end], data[end:]
        text = data.decode(self._encoding or "latin-1", "surrogatepass")
        if "&#" not in text and not _CONTROL.search(text):
            return data
        return _REFERENCE_OR_CONTROL.sub(self._instead, text).encode(self._encoding, "surrogatepass")

    def _instead(self, match: re.Match[str]) -> str:
        if not _forbidden(match) or (self._escapes and len(match.group()) == 1):
            return match.group()
        self.count += 1
        return self.marker or " " * len(match.group())


def forbidden_in(raw: bytes, encoding: str) -> str | None:
    """The first of what is no character of XML in a part of a document, as a reference; None where there is nothing."""
    match = next(filter(_forbidden, _REFERENCE_OR_CONTROL.finditer(raw.decode(encoding, "replace"))), None)
    return match and (match.group() if len(match.group()) > 1 else f"&#{ord(match.group())};")


class WithoutForbidden:
    """A stream of a document without what is no character of XML: in its place stands U+FFFD."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self._forbidden = stream, Forbidden("&#xFFFD;")

    def read(self, size: int = -1) -> bytes:
        """At least a byte, until the end."""
        while True:
            block = self._stream.read(size)
            data = self._forbidden.feed(block, not block)
            if data or not block:
                return data


def elements(
    stream: IO[bytes] | WithoutForbidden, tags: Collection[str] | None = None, *, place: str, error: type[BadInput] = BadInput, start: bool = False
) -> Iterator[tuple[str, Any]]:
    """("end", element) of each element with one of these tags ({namespace}name, `{*}name` for any), in the order of the file.

    With `start`, ("start", element) too. Once the caller asks for more, an ended element is emptied and what came before it beside it is let go,
    so that memory does not grow with the file. Raises `error` where the file is not well-formed, defines entities or uses one.
    """
    etree = need("lxml.etree", "files")
    events = ("start", "end") if start else ("end",)
    walk = etree.iterparse(stream, events=events, tag=list(tags) if tags is not None else None, **SAFE)
    first = True
    try:
        for event, element in walk:
            if first:
                first = False
                refuse_entities(element.getroottree(), place=place, error=error)
            if event == "end" and any(node.tag is etree.Entity for node in element.iter(etree.Entity)):
                raise error(
                    "an XML entity that the file itself would have to define",
                    place=f"{place}, line {element.sourceline}",
                    valid="characters, or &amp; &lt; &gt; &quot; &apos;",
                )
            yield event, element
            if event == "end":
                element.clear(keep_tail=False)
                while (before := element.getprevious()) is not None:
                    before.getparent().remove(before)
    except etree.XMLSyntaxError as e:
        line = getattr(e, "lineno", None)
        raise error(
            "this is not well-formed XML", place=f"{place}, line {line}" if line else place, found=_one_line(e), valid="an XML file that is whole"
        ) from None


def _one_line(e: Any) -> str:
    """What libxml2 says, which ends some of its sentences with a line break and the place."""
    return str(e.msg or e).partition("\n")[0]


def refuse_entities(tree: Any, *, place: str, error: type[BadInput] = BadInput) -> None:
    """Raises `error` where the document type defines entities: expanding them is how a small file fills a memory or reads another file."""
    dtd = tree.docinfo.internalDTD
    names = [entity.name for entity in dtd.iterentities()] if dtd is not None else []
    if names:
        raise error("the XML defines entities, which are not read", place=place, found=", ".join(names[:5]), valid="a file without <!ENTITY ...>")
