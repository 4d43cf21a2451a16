"""Sentences for a translator to fill in: a spreadsheet, and XLIFF for translation tools. Both are read back by `corpus build`.

Gives bytes, the same for the same sentences; writes nothing itself.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence

from tell.extras import need
from tell.languages import LanguagePair

# A date that says nothing: files that are alike stay alike.
_WHEN = (1980, 1, 1, 0, 0, 0)
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT[\d:]+Z")
_XLIFF = "urn:oasis:names:tc:xliff:document:1.2"


def xlsx(sentences: Sequence[str], pair: LanguagePair) -> bytes:
    """A sheet with a number, the source and an empty column for the target in each row; its header has the codes of the two languages."""
    openpyxl = need("openpyxl", "files")
    from openpyxl.styles import Alignment, Font, PatternFill

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = str(pair).replace(":", " ")
    sheet.freeze_panes = "A2"
    sheet.append(["number", pair.source.tag, pair.target.tag])
    for column, width in (("A", 9), ("B", 70), ("C", 70)):
        sheet.column_dimensions[column].width = width
    for cell in sheet[1]:
        cell.font, cell.fill = Font(bold=True), PatternFill("solid", fgColor="DDEBE9")
    for row, sentence in enumerate(sentences, 2):
        sheet.cell(row, 1, row - 1)
        for at, side in ((2, pair.source), (3, pair.target)):
            cell = sheet.cell(row, at)
            # Order 2 is right to left.
            cell.alignment = Alignment(wrap_text=True, vertical="top", readingOrder=2 if side.rtl else 1)
        text = sheet.cell(row, 2, sentence)
        # As text, whatever it begins with: "=" would be computed.
        text.data_type = "s"
    workbook_file = io.BytesIO()
    book.save(workbook_file)
    return _undated(workbook_file.getvalue())


def _undated(data: bytes) -> bytes:
    """The same archive without the time at which it was made."""
    repacked = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(repacked, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            part = old.read(info)
            if info.filename == "docProps/core.xml":
                part = _TIME.sub(b"1980-01-01T00:00:00Z", part)
            new.writestr(zipfile.ZipInfo(info.filename, _WHEN), part, zipfile.ZIP_DEFLATED)
    return repacked.getvalue()


def xliff(sentences: Sequence[str], pair: LanguagePair) -> bytes:
    """XLIFF 1.2, which every tool reads, with a unit without a target for each sentence."""
    etree = need("lxml.etree", "files")
    root = etree.Element(f"{{{_XLIFF}}}xliff", nsmap={None: _XLIFF}, version="1.2")
    languages = {"source-language": pair.source.tag, "target-language": pair.target.tag}
    file = etree.SubElement(root, f"{{{_XLIFF}}}file", {"original": "sentences", "datatype": "plaintext", **languages})
    body = etree.SubElement(file, f"{{{_XLIFF}}}body")
    for number, sentence in enumerate(sentences, 1):
        unit = etree.SubElement(body, f"{{{_XLIFF}}}trans-unit", id=str(number))
        etree.SubElement(unit, f"{{{_XLIFF}}}source").text = sentence
    document: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
    return document
