#!/usr/bin/env bash
# openpyxl 3.1.5, on shared strings as Excel writes them: `_xHHHH_` stands for a character, and `_x005F_` for the underline that keeps such a text literal.
#
# Guess (written down after it was first seen, not before): openpyxl either decodes these escapes or leaves the text as it is in the file.
# Seen: it does neither. `x005F_` is cut out of any text, and nothing is decoded. A carriage return (`_x000D_`) and the seven characters `_x000D_` written as a text
# (`_x005F_x000D_`) are the same after reading, and a text that happens to hold `x005F_` loses it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check 'openpyxl==3.1.5'
cat > "$folder/check.py" <<'PYTHON'
"""Writes a workbook, gives it shared strings as Excel does, and prints what is read back."""

import re
import sys
import zipfile
from pathlib import Path

from openpyxl import Workbook, load_workbook

folder = Path(sys.argv[1])
texts = ["line_x000D_end", "line_x005F_x000D_end", "x005F_a", "b_x0041_"]
book = Workbook()
for number in range(len(texts)):
    book.active.append([number])
book.save(folder / "plain.xlsx")
main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings"
media = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
strings = f'<sst xmlns="{main}">' + "".join(f"<si><t>{text}</t></si>" for text in texts) + "</sst>"
with zipfile.ZipFile(folder / "plain.xlsx") as plain, zipfile.ZipFile(folder / "escaped.xlsx", "w") as escaped:
    for name in plain.namelist():
        data = plain.read(name).decode()
        if name == "xl/worksheets/sheet1.xml":
            data = re.sub(r'<c r="(A\d)"(?: t="n")?>', r'<c r="\1" t="s">', data)
        if name == "xl/_rels/workbook.xml.rels":
            data = data.replace("</Relationships>", f'<Relationship Type="{kind}" Target="/xl/sharedStrings.xml" Id="rId99"/></Relationships>')
        if name == "[Content_Types].xml":
            data = data.replace("</Types>", f'<Override PartName="/xl/sharedStrings.xml" ContentType="{media}"/></Types>')
        escaped.writestr(name, data)
    escaped.writestr("xl/sharedStrings.xml", strings)
for text, (cell,) in zip(texts, load_workbook(folder / "escaped.xlsx").active.iter_rows()):
    print(text, "->", repr(cell.value))
PYTHON
seen=$("$folder/env/bin/python" "$folder/check.py" "$folder")
echo "openpyxl 3.1.5, the text in the file and the value of the cell:"
echo "$seen"
expected="line_x000D_end -> 'line_x000D_end'
line_x005F_x000D_end -> 'line_x000D_end'
x005F_a -> 'a'
b_x0041_ -> 'b_x0041_'"
if [ "$seen" != "$expected" ]; then
    echo "the behaviour has changed" >&2
    exit 1
fi
