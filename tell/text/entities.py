"""Character references of HTML (`&amp;`, `&#39;`) in plain text, also escaped twice (`&amp;quot;`) and torn by a tokenizer (`& quot ;`).

Reads and writes strings alone.
"""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5

from tell.text import xstring
from tell.text.normalise import letters

_REFERENCE = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_TORN = re.compile(r"&\s?(amp|quot|apos|lt|gt|nbsp|#\s?[0-9]{2,5})\s?;")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]{0,20}(?:\s[^<>]*)?/?>")
# In a text with tags these are markup.
_OF_MARKUP = re.compile(r"&(?:amp|lt|gt|#38|#60|#62|#x26|#x3c|#x3e);", re.I)
# How often a text may have been escaped.
_TIMES = 4


def _character(match: re.Match[str]) -> str:
    reference = match.group()
    if reference[1] != "#" and reference[1:] not in html5:
        return reference
    # A segment is one line.
    return " " if (text := unescape(reference)) in "\n\r\t\f\v\x85\u2028\u2029" else text


def decoded(text: str) -> str:
    """The text with the characters that its references stand for, until none is left. In a text with tags those for `&`, `<` and `>` stay: they are markup."""
    for _ in range(_TIMES if "&" in text and ";" in text else 0):
        before = text
        text = _TORN.sub(lambda match: "&" + match.group(1).replace(" ", "") + ";", text)
        if _TAG.search(text):
            text = _REFERENCE.sub(lambda match: match.group() if _OF_MARKUP.fullmatch(match.group()) else _character(match), text)
        else:
            text = _REFERENCE.sub(_character, text)
        if text == before:
            break
    return text


def as_characters(text: str) -> str:
    """The text by which it is known whether two are the same: without references, in a text with tags too, and without a spreadsheet's escapes (`_x000D_`),
    which were read as text once."""
    for _ in range(_TIMES if "_x" in text or "&" in text else 0):
        before = text
        text = _REFERENCE.sub(_character, xstring.decoded(decoded(text)))
        if text == before:
            break
    return text


def known_letters(text: str) -> str:
    """The letters by which a text is known wherever it must not be twice: those of `as_characters`."""
    return letters(as_characters(text))
