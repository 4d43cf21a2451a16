"""XML of strangers, read as a stream: no entity is resolved, no DTD or schema is loaded, nothing is fetched.

Reads an open binary file, writes nothing. A document type is let pass (TMX names one), a definition of an entity in it is not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import IO, Any

from tell.errors import BadInput
from tell.extras import need

# What lxml is told for every document. `huge_tree` off is libxml2's own bound on depth, names, entities and text (10 MB a node).
SAFE = {"resolve_entities": False, "load_dtd": False, "no_network": True, "huge_tree": False}


def elements(
    stream: IO[bytes], tags: Collection[str] | None = None, *, place: str, error: type[BadInput] = BadInput, start: bool = False
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
