"""Plural forms of a catalogue whose forms are called by CLDR's categories: which the target language has, and which form of the source each is made from.

Android, i18next, Rails, go-i18n and Fluent name them so. Reads and writes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from serve.formats.units import Options, Replacement, Unit, UnitVisitor
from tell.text.placeholders import find_placeholders
from tell.text.plurals import ORDER, categories, category

CATEGORIES = frozenset(ORDER)
# Keys beside a plural's forms in go-i18n.
BESIDE = frozenset(["id", "description", "hash", "leftDelim", "rightDelim"])
# Numbers whose category is asked; the rules repeat within 100.
_NUMBERS = 200


def is_group(names: Mapping[str, str] | set[str], options: Options) -> bool:
    """Whether these names are a plural's forms: categories alone, with `other`, and more than it where the source language has more."""
    found = set(names)
    if "other" not in found or not found <= CATEGORIES:
        return False
    return len(found) > 1 or (options.pair is not None and categories(options.pair.source.tag) == ("other",))


def forms(texts: Mapping[str, str], options: Options, extra: frozenset[str] = frozenset()) -> dict[str, str]:
    """The target's categories in CLDR's order, or in the source's where they are the same, each with the category of the source that it is made
    from; those of the source where the target's are not known.

    A category that the source lacks is made of its `other`. So is `one` where the target also uses it for other numbers (21 in Icelandic), and the source's
    does not say the number ("One file"). `extra`: categories that a program asks for whatever the language, and that stay where the source has them.
    """
    target = categories(options.pair.target.tag) if options.pair else None
    if target is None or not any(name in texts for name in target):
        return {name: name for name in texts}
    wanted = [name for name in ORDER if name in target or (name in extra and name in texts)]
    if set(wanted) == set(texts):
        wanted = list(texts)
    made = {name: name if name in texts else "other" for name in wanted}
    if made.get("one") == "one" and "other" in texts and options.pair and not _only_one(options.pair.target.tag):
        said, of_all = (sorted(p.text for p in find_placeholders(texts[name])) for name in ("one", "other"))
        if said != of_all:
            made["one"] = "other"
    return made


@functools.lru_cache(maxsize=512)
def _only_one(language: str) -> bool:
    """Whether the category `one` is for the number 1 alone."""
    return not any(n != 1 and category(language, n) == "one" for n in range(_NUMBERS))


def translations(
    texts: Mapping[str, str], places: Mapping[str, str], visitor: UnitVisitor, options: Options, extra: frozenset[str] = frozenset()
) -> dict[str, str] | None:
    """The text of each of the target's forms, in order; None where all of them stay. A form without a translation has its source's text."""
    made = forms(texts, options, extra)
    result, changed = {}, False
    for name, base in made.items():
        replacement: Replacement | None = visitor.visit(Unit(texts[base], places[base]))
        if replacement is not None:
            changed = True
        result[name] = texts[base] if replacement is None or replacement.failed else replacement.text
    return result if changed else None
