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
        return _catalogue(before) == _catalogue(after)
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


def _catalogue(data: bytes) -> bytes | None:
    """What programs read of a PO file: msgfmt leaves fuzzy entries out."""
    if not shutil.which("msgfmt"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.po", Path(folder) / "a.mo"
        source.write_bytes(data)
        subprocess.run(["msgfmt", "-o", str(target), str(source)], check=True, capture_output=True)
        return target.read_bytes()


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
            if element.get("{http://www.w3.org/XML/1998/namespace}lang") == "is":
                element.getparent().remove(element)
    for element in tree.iter():
        if isinstance(element.tag, str) and element.tail and not element.tail.strip():
            element.tail = None
        if isinstance(element.tag, str) and element.text and not element.text.strip() and len(element):
            element.text = None
    return bytes(etree.tostring(tree, method="c14n"))
