"""Tells which segment pairs are worth training on, and when two texts are the same sentence."""

from __future__ import annotations

import functools
import re
import unicodedata

# Characters. Longer "sentences" are nearly always failed segmentation.
MAX_CHARS = 2000
# A pair whose longer side has more than RATIO_FROM characters and more than RATIO times those of the other is misaligned.
# A character of a script that writes words or syllables counts as three: it says as much.
RATIO, RATIO_FROM, DENSE = 5, 20, 3


class _Letters(dict[int, str | None]):
    """For str.translate: letters and the marks on them stay, all else goes. Filled as characters are met."""

    def __missing__(self, point: int) -> str | None:
        char = chr(point)
        self[point] = kept = char if unicodedata.category(char)[0] in "LM" else None
        return kept


_LETTERS = _Letters()
# Tab aside; U+0085 is text here, as in `tell.files.read_lines`.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DENSE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


_NO_LETTERS = bytes(c for c in range(128) if not chr(c).isalpha())
_NO_LETTERS_OR_FEEDS = _NO_LETTERS.replace(b"\n", b"")


def letters(text: str) -> str:
    """`normalised` without its cache, for texts that are each looked at once."""
    if text.isascii():
        return text.lower().encode().translate(None, _NO_LETTERS).decode()
    only_letters = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).translate(_LETTERS)
    # Marks that something stood between may be in another order than marks side by side.
    return unicodedata.normalize("NFC", only_letters)


def lines_of_letters(text: str) -> list[str]:
    """`letters` of each line of a text, parted at line feeds."""
    if text.isascii():
        return text.lower().encode().translate(None, _NO_LETTERS_OR_FEEDS).decode().split("\n")
    return [letters(line) for line in text.split("\n")]


@functools.lru_cache(maxsize=1 << 16)
def normalised(text: str) -> str:
    """The letters of a text, in NFC and case-folded, by which copies of a sentence are recognised. Empty for a text without letters."""
    return letters(text)


def tidy(text: str) -> str:
    """The text as it is kept: NFC, without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def storable(text: str) -> bool:
    """Whether UTF-8 can hold the text: JSON can spell half a character (a lone surrogate)."""
    return text.isascii() or not _SURROGATE.search(text)


def halves_joined(text: str) -> str:
    """The text with characters that are written as two halves (surrogates, as escapes of UTF-16 give them) as one; a lone half becomes U+FFFD."""
    return text if storable(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def spelled(text: str) -> str:
    """The text with what UTF-8 cannot hold spelled out, as in a file name of another encoding."""
    return text.encode(errors="backslashreplace").decode()


def weight(text: str) -> int:
    """The length of a text in characters, those of unsegmented scripts counted for what they say."""
    return len(text) if text.isascii() else len(text) + (DENSE - 1) * len(_DENSE.findall(text))


def uneven(source: str, target: str) -> bool:
    """Whether one side is too long to be a translation of the other."""
    a, b = weight(source), weight(target)
    longer, shorter = max(a, b), min(a, b)
    return longer > RATIO_FROM and longer > RATIO * shorter


def controls(text: str) -> bool:
    return bool(_CONTROL.search(text))


def fault(source: str, target: str) -> str | None:
    """The reason why a tidied pair is not worth training on, judged by its characters; None when there is none."""
    if not source:
        return "empty source"
    if not target:
        return "empty target"
    if controls(source) or controls(target):
        return "control characters"
    if not (storable(source) and storable(target)):
        return "invalid characters"
    if max(len(source), len(target)) > MAX_CHARS:
        return "too long"
    if source == target and normalised(source):
        return "identical sides"
    if uneven(source, target):
        return "length ratio"
    return None
