"""The parts of an Office document by their relationships, as the Open Packaging Conventions have them (ECMA-376, part 2): a part's name says nothing.

Reads the archive of a document, in its transitional and in its strict form.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Set
from urllib.parse import unquote

from serve.formats.units import Bounds
from serve.formats.xml_events import Xml
from serve.formats.zipped_xml import read
from tell.errors import CorpusError

# The first elements of the main parts of documents, of which a file has one.
_ROOTS = {"document": "docx", "workbook": "xlsx", "presentation": "pptx"}


def related(archive: zipfile.ZipFile, part: str, bounds: Bounds) -> list[tuple[str, str]] | None:
    """(kind, part) of each relationship of a part within the archive, such as ("header", "word/header1.xml"); of the whole archive where `part` is empty.
    None where it has no list of them. Raises CorpusError where that cannot be read."""
    folder, name = posixpath.split(part)
    names = {n.casefold(): n for n in archive.namelist()}
    listed = names.get(posixpath.join(folder, "_rels", f"{name}.rels").casefold())
    if listed is None:
        return None
    found = []
    for event in Xml(io.BytesIO(read(archive, listed)), bounds, listed):
        if event.kind != "start" or event.local != "Relationship" or event.attributes.get("TargetMode") == "External":
            continue
        target = unquote(event.attributes.get("Target", ""))
        path = posixpath.normpath(target.lstrip("/") if target.startswith("/") else posixpath.join(folder, target))
        if path.casefold() in names:
            # The kind is the end of a name that differs between the transitional and the strict form.
            found.append((event.attributes.get("Type", "").rpartition("/")[2], names[path.casefold()]))
    return found


def main_part(archive: zipfile.ZipFile, format: str, usual: str, bounds: Bounds) -> str:
    """The part that is the document itself; the one with the usual name where no relationship tells. Raises CorpusError where it is that of another format."""
    targets = [target for kind, target in related(archive, "", bounds) or () if kind == "officeDocument"]
    name = targets[0] if targets else usual
    if name not in archive.namelist():
        raise CorpusError(f"this is not a {format}", place="file", found=f"a zip archive without {usual}", valid=f"a .{format}")
    root = next((event.local for event in Xml(io.BytesIO(read(archive, name)), bounds, name) if event.kind == "start"), "")
    if _ROOTS.get(root, format) != format:
        raise CorpusError(f"this is not a {format}", place="file", found=f"a {_ROOTS[root]}", valid=f"a .{format}")
    return name


def parts(archive: zipfile.ZipFile, part: str, kinds: Set[str], bounds: Bounds) -> set[str] | None:
    """The parts to which a part has a relationship of these kinds; None where it has no list of them."""
    found = related(archive, part, bounds)
    return None if found is None else {target for kind, target in found if kind in kinds}
