"""Plural rules of languages, by CLDR: the categories of a language, the one of a number, and the rule as gettext writes it.

Asks Babel for CLDR's rules; reads and writes nothing itself. A language that CLDR has no rule for is None, not a guess.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from tell.extras import need

ORDER = ("zero", "one", "two", "few", "many", "other")
# gettext's rule for languages that are not known: two forms, the first for one.
GERMANIC = "nplurals=2; plural=(n != 1);"
# What a language's name means in gettext's own table, where CLDR takes it for another region's: pt is Portugal's there, whose zero is plural.
_IN_GETTEXT = {"pt": "pt_PT"}
# The most forms that any language has; a broken header may claim more.
MOST_FORMS = 10
# Numbers for which a catalogue's form is asked; all rules that are in use repeat within 100.
NUMBERS = 200
_FORMS = re.compile(r"nplurals\s*=\s*(\d{1,3})", re.I)
_EXPRESSION = re.compile(r"\bplural\s*=\s*([^;\n]+)", re.I)
# Integers that meet every rule of CLDR's: all rests of a division by 100, and round numbers, of which Breton, Cornish and French know their own.
_INTEGERS = (*range(1, 201), 0, *(10**k * n for k in range(2, 7) for n in (1, 2, 3, 10, 20, 21, 40)))
_FRACTIONS = tuple(map(Decimal, ("0.5", "1.5", "0.1", "1.1", "0.2", "2.0", "0.0", "1.0", "0.3", "0.4", "10.1", "0.01", "0.11", "0.10", "0.25")))
_RELATION = re.compile(r"(?P<operand>[nivwftec])(?: mod (?P<divisor>\d{1,9}))? (?P<negated>not )?in (?P<ranges>[\d.,]{1,200})")


def _locale_names(code: str) -> list[str]:
    """Names that CLDR may have the language under, the most special first: with script and region, without, and that of the macrolanguage."""
    import langcodes

    try:
        parsed = langcodes.Language.get(code.strip().partition(".")[0].partition("@")[0].replace("_", "-"))
        macro = langcodes.Language.get(langcodes.standardize_tag(parsed.language or "und", macro=True)).language
    except ValueError:
        return []
    extensions = [[e for e in parts if e] for parts in ((parsed.script, parsed.territory), (parsed.territory,), (parsed.script,), ())]
    names = ["_".join([language, *parts]) for language in (parsed.language, macro) if language for parts in extensions]
    return list(dict.fromkeys(names))


# Bounded: codes come from requests as well.
@functools.lru_cache(maxsize=512)
def _rule(code: str) -> tuple[Callable[[Decimal | int], str], Mapping[str, str]] | None:
    """The category of a number, and CLDR's conditions by category; None for a language without a rule."""
    localedata = need("babel.localedata", "files")
    name = next((name for name in _locale_names(code) if localedata.exists(name)), None)
    if name is None:
        return None
    rule: Any = localedata.load(name)["plural_form"]
    # A language that Babel has a file of, and CLDR no plural rule, has the root's: one form for all numbers.
    return None if rule is localedata.load("root")["plural_form"] else (rule, dict(rule.rules))


def categories(language: str) -> tuple[str, ...] | None:
    """The categories of a language in CLDR's order, `other` the last, also those that only fractions have. None where CLDR has no rule for it.

    `language` is a BCP 47 tag, or a name as pt_BR and isl_Latn. Raises MissingExtra without Babel.
    """
    found = _rule(language)
    return None if found is None else tuple(name for name in ORDER if name in found[1] or name == "other")


def category(language: str, number: int | Decimal) -> str | None:
    """The category of a number, whose digits after the point count (1.0 is not 1). None where CLDR has no rule for the language."""
    found = _rule(language)
    return None if found is None else found[0](number)


def samples(language: str) -> dict[str, int | Decimal] | None:
    """A number of each category, in their order: the least integer above zero, else zero, else a fraction. None where CLDR has no rule for the language."""
    found = _rule(language)
    if found is None:
        return None
    first: dict[str, int | Decimal] = {}
    for number in itertools.chain(_INTEGERS, _FRACTIONS):
        first.setdefault(found[0](number), number)
    return {name: first[name] for name in categories(language) or () if name in first}


def gettext_categories(language: str) -> tuple[str, ...] | None:
    """The categories that the forms of a gettext catalogue stand for, in the order of msgstr[0], [1] and so on: those that integers have.

    Without `many` of the Romance languages, which only whole millions have ("1 000 000 de jours"): gettext's own table, and the catalogues in use, have two
    forms there. None where CLDR has no rule for the language.
    """
    found = _rule(language)
    if found is None:
        return None
    used = {found[0](number) for number in _INTEGERS}
    return tuple(name for name in ORDER if name in used and not _is_of_millions(found[1].get(name, "")))


def _is_of_millions(condition: str) -> bool:
    """Whether the condition asks for the exponent of compact numbers (1M), as CLDR's `many` of French, Spanish, Italian, Portuguese and Catalan does."""
    return any(relation.startswith("e ") for relation in condition.replace(" or ", " and ").split(" and "))


def gettext_rule(language: str) -> str | None:
    """The value of Plural-Forms for a language, such as `nplurals=2; plural=(n != 1);`. None where CLDR has no rule for it."""
    found = _rule(_IN_GETTEXT.get(language.lower(), language))
    if found is None:
        return None
    names = (gettext_categories(language) or ("other",))[:-1]
    conditions = [_in_c(found[1][name]) for name in names]
    if not conditions:
        return "nplurals=1; plural=0;"
    opposite = {"n==1": "n != 1", "n<=1": "n > 1", "n==0 || n==1": "n > 1"}.get(conditions[0])
    expression = opposite if opposite and len(conditions) == 1 else " ".join(f"{c} ? {i} :" for i, c in enumerate(conditions)) + f" {len(conditions)}"
    return f"nplurals={len(conditions) + 1}; plural=({expression});"


def _in_c(condition: str) -> str:
    """A condition of CLDR's as an expression in C, for integers: of them n and i are the number itself, and what describes a fraction is 0."""
    alternatives = []
    for alternative in condition.split(" or "):
        parts = [_relation_in_c(relation, " and " in alternative) for relation in alternative.split(" and ")]
        if "0" not in parts:
            alternatives.append([part for part in parts if part != "1"])
    return " || ".join(f"({' && '.join(parts)})" if len(alternatives) > 1 and len(parts) > 1 else " && ".join(parts) for parts in alternatives)


def _relation_in_c(relation: str, joined: bool) -> str:
    """One relation; `1` or `0` where it holds for all integers or for none. `joined`: others stand beside it, so that alternatives need parentheses."""
    match = _RELATION.fullmatch(relation)
    assert match, relation
    ranges = [(int(low), int(high or low)) for low, _, high in (part.partition("..") for part in match["ranges"].split(","))]
    if match["operand"] not in "ni":
        return str(int(any(low == 0 for low, _ in ranges) != bool(match["negated"])))
    left = f"n%{match['divisor']}" if match["divisor"] else "n"
    if match["negated"]:
        return " && ".join(f"{left}!={low}" if low == high else f"({left}<{low} || {left}>{high})" if low else f"{left}>{high}" for low, high in ranges)
    parts = [f"{left}=={low}" if low == high else f"{left}>={low} && {left}<={high}" if low else f"{left}<={high}" for low, high in ranges]
    if len(parts) == 1:
        return parts[0]
    text = " || ".join(f"({part})" if "&&" in part else part for part in parts)
    return f"({text})" if joined else text


def parsed_rule(value: str) -> tuple[int, Callable[[int], int]] | None:
    """How many forms a value of Plural-Forms names, and the form of a number; None where it cannot be used: not C, no form for a number, or too many."""
    from gettext import c2py

    count, rule = _FORMS.search(value), _EXPRESSION.search(value)
    if not count or not rule or not 1 <= int(count.group(1)) <= MOST_FORMS:
        return None
    try:
        form_of: Callable[[int], int] = c2py(rule.group(1).strip())
        if all(0 <= form_of(n) < int(count.group(1)) for n in range(NUMBERS)):
            return int(count.group(1)), form_of
    except (ValueError, ZeroDivisionError, RecursionError, OverflowError):
        pass
    return None
