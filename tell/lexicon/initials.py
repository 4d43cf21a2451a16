"""Undoes what Celtic languages do to the first letters of words, so that all mutations of a word have one key.

Reads and writes strings alone. Irish and Scottish Gaelic write the mutation beside the letter (bean, bhean, mbean). In Welsh letters change (cath, gath, chath,
nghath): all that can come of one sound becomes one letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tell.languages import base_language

_GAELIC_VOWEL = re.compile(r"^(?:[nth]-|h)(?=[aeiouàèìòùáéíóú])")
_GAELIC_LENITED = re.compile(r"^([bcdfgmpst])h")
_ECLIPSED = (("bhf", "f"), ("mb", "b"), ("gc", "c"), ("nd", "d"), ("ng", "g"), ("bp", "p"), ("dt", "t"), ("ts", "s"))
_WELSH_PAIRS = "ngh g, mh b, nh d, ng g, ph b, th d, ch g, dd d, ll l, rh r, p b, t d, c g, f b, m b, n d"
_WELSH = tuple((pair.split()[0], pair.split()[1]) for pair in _WELSH_PAIRS.split(","))


def _gaelic(word: str) -> str:
    without = _GAELIC_VOWEL.sub("", word)
    if without != word:
        return without
    for written, sound in _ECLIPSED:
        if word.startswith(written):
            return sound + word[len(written) :]
    return _GAELIC_LENITED.sub(r"\1", word)


def _welsh(word: str) -> str:
    for written, sound in _WELSH:
        if word.startswith(written):
            word = sound + word[len(written) :]
            break
    # Soft mutation drops a g.
    return word[1:] if len(word) > 3 and word.startswith("g") else word


RULES: dict[str, Callable[[str], str]] = {"gaelic": _gaelic, "welsh": _welsh}
_OF = {"ga": "gaelic", "gd": "gaelic", "cy": "welsh"}


def rule_for(language: str) -> str:
    """The name of the rule for a language (a BCP 47 tag); empty where none is known."""
    return _OF.get(base_language(language), "")


def radical(word: str, rule: str) -> str:
    """The folded word with its first letters as the rule has them; unchanged under the empty rule."""
    return RULES[rule](word) if rule else word
