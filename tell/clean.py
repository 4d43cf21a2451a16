"""What a segment pair must be to be worth training on, and when two texts are the same sentence."""

from __future__ import annotations

import functools
import unicodedata

# Characters. Longer "sentences" are nearly always failed segmentation.
MAX_CHARS = 2000
# A pair whose longer side has more than RATIO_FROM characters and more than RATIO times those of the other is misaligned.
RATIO, RATIO_FROM = 5, 20


class _Letters(dict[int, str | None]):
    """For str.translate: letters and the marks on them stay, all else goes. Filled as characters are met."""

    def __missing__(self, point: int) -> str | None:
        char = chr(point)
        self[point] = found = char if unicodedata.category(char)[0] in "LM" else None
        return found


_LETTERS = _Letters()


@functools.lru_cache(maxsize=1 << 16)
def normalised(text: str) -> str:
    """What two copies of a sentence have in common: NFC, case folded, letters only. Empty for a text without letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).translate(_LETTERS)


def tidy(text: str) -> str:
    """The text as it is kept: NFC, without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def storable(text: str) -> bool:
    """Whether UTF-8 can hold the text: JSON can spell half a character (a lone surrogate)."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _control(text: str) -> bool:
    return any((c < " " and c != "\t") or c == "\x7f" for c in text)


def fault(source: str, target: str) -> str | None:
    """Why a tidied pair is not worth training on, or None."""
    if not source:
        return "empty source"
    if not target:
        return "empty target"
    if _control(source + target):
        return "control characters"
    if not storable(source + target):
        return "invalid characters"
    longer, shorter = max(len(source), len(target)), min(len(source), len(target))
    if longer > MAX_CHARS:
        return "too long"
    if source == target and normalised(source):
        return "identical sides"
    if longer > RATIO_FROM and longer > RATIO * shorter:
        return "length ratio"
    return None
