"""How spreadsheets write characters that XML lacks: `_x000D_` for a carriage return, and `_x005F_` for the underscore of a text that looks like that.

Reads and writes strings (ST_Xstring of ECMA-376, part 1, 22.9.2.19).
"""

from __future__ import annotations

import re

from tell.text.normalise import halves_joined

_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
# What is no character of XML or is not read back as it was; an underscore that would begin an escape, of which the end may come from another one.
_CONTROL = "[\x00-\x08\x0b-\x1f\ufffe\uffff]"
_TO_ESCAPE = re.compile(rf"{_CONTROL}|_(?=x[0-9A-Fa-f]{{4}}(?:_|{_CONTROL}))")


def decoded(text: str) -> str:
    """A text of a file as it is shown. Half a character, which nothing shows, becomes U+FFFD."""
    if "_x" not in text:
        return text
    return halves_joined(_ESCAPE.sub(lambda m: chr(int(m[1], 16)), text))


def encoded(text: str) -> str:
    """A text as a file has it: decoded, it is the text again."""
    return _TO_ESCAPE.sub(lambda m: f"_x{ord(m.group()):04X}_", text)
