"""Whether two files are equal to the tools of their format, what a translator wrote beside a source left out. Reads bytes."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from tell.extras import need

_OPEN = {"new", "needs-translation", "needs-l10n", "needs-adaptation"}
_XML = {"xliff", "tmx", "qt", "android", "resx"}


def equal(form: str, before: bytes, after: bytes) -> bool:
    if form == "po":
        return _catalogue(before) == _catalogue(after.replace(b"charset=UTF-8", b"charset=CHARSET") if b"charset=CHARSET" in before else after)
    if form == "json":
        return bool(json.loads(before) == json.loads(after))
    if form == "yaml":
        yaml: Any = need("yaml", "files")
        return bool(yaml.safe_load(before) == yaml.safe_load(after))
    if form in ("docx", "xlsx"):
        return _members(before) == _members(after)
    if form in _XML:
        return _canonical(form, before) == _canonical(form, after)
    return False


def _catalogue(data: bytes) -> object:
    """What programs read of a PO file: msgfmt leaves fuzzy entries out. Of a template, whose header is to be filled in, its entries alone."""
    if b"charset=CHARSET" not in data and shutil.which("msgfmt"):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "a.po", Path(folder) / "a.mo"
            source.write_bytes(data)
            if subprocess.run(["msgfmt", "-o", str(target), str(source)], check=False, capture_output=True).returncode == 0:
                return target.read_bytes()
    polib: Any = need("polib", "files")
    entries = polib.pofile(data.decode("utf-8", "replace"))
    return {(e.msgctxt, e.msgid, e.msgid_plural): (e.comment, e.tcomment, e.occurrences) for e in entries}


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _canonical(form: str, data: bytes) -> bytes:
    """Canonical XML without the translations that are marked as a machine's, and without the label of the language that a file lacks."""
    from lxml import etree

    tree: Any = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True))
    for element in list(tree.iter("{*}target")):
        # What had no translation, or one that is to be made anew, and what was written there.
        if element.get("state-qualifier") == "mt-suggestion" or element.get("state") in _OPEN or not (element.text or len(element)):
            element.getparent().remove(element)
    for element in list(tree.iter("{*}segment")):
        if element.get("state") == "translated":
            del element.attrib["state"]
            for target in element.findall("{*}target"):
                element.remove(target)
    for element in list(tree.iter("{*}translation")) if form == "qt" else []:
        if element.get("type") == "unfinished" or not (element.text or len(element)):
            element.getparent().remove(element)
    if form == "tmx":
        for element in list(tree.iter("{*}tuv")):
            if "is" in (element.get("{http://www.w3.org/XML/1998/namespace}lang"), element.get("lang")):
                element.getparent().remove(element)
    for element in tree.iter():
        if isinstance(element.tag, str) and element.tail and not element.tail.strip():
            element.tail = None
        if isinstance(element.tag, str) and element.text and not element.text.strip() and len(element):
            element.text = None
    return bytes(etree.tostring(tree, method="c14n"))
