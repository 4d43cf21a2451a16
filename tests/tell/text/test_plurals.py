"""Plural rules: right values of languages that have more forms than English, or other ones, and gettext's rule against CLDR's for every language."""

from __future__ import annotations

import shutil
import subprocess
from decimal import Decimal
from gettext import c2py
from pathlib import Path

import pytest

from tell.text.plurals import categories, category, gettext_categories, gettext_rule, samples

# By language: numbers of each form of a gettext catalogue, form by form.
FORMS: dict[str, tuple[tuple[int, ...], ...]] = {
    "is": ((1, 21, 31, 101, 121), (0, 2, 5, 11, 12, 20, 111)),
    "mk": ((1, 21, 101), (0, 2, 11, 111)),
    "fo": ((1,), (0, 2, 21)),
    "en": ((1,), (0, 2, 21)),
    "fr": ((0, 1), (2, 21, 1_000_000)),
    "es": ((1,), (0, 2, 1_000_000)),
    "it": ((1,), (0, 2, 1_000_000)),
    "ca": ((1,), (0, 2, 1_000_000)),
    # Portugal's, as in gettext's own table.
    "pt": ((1,), (0, 2, 1_000_000)),
    "pt-BR": ((0, 1), (2, 1_000_000)),
    "pt_PT": ((1,), (0, 2, 1_000_000)),
    "cy": ((0,), (1,), (2,), (3,), (6,), (4, 5, 7, 13, 16)),
    "ar": ((0,), (1,), (2,), (3, 10, 103, 110), (11, 99, 111), (100, 101, 102, 200)),
    "se": ((1,), (2,), (0, 3, 21)),
    "smj": ((1,), (2,), (0, 3, 21)),
    "ga": ((1,), (2,), (3, 6), (7, 10), (0, 11, 21)),
    "gd": ((1, 11), (2, 12), (3, 10, 13, 19), (0, 20, 21)),
    "gv": ((1, 11, 21), (2, 12, 22), (0, 20, 40, 60, 80, 100), (3, 9, 10, 30)),
    "br": ((1, 21, 81), (2, 22), (3, 4, 9, 23), (1_000_000,), (0, 5, 11, 71, 91, 12, 72)),
    "mt": ((1,), (2,), (0, 3, 10, 103), (11, 19, 111), (20, 100, 102)),
    "sl": ((1, 101, 201), (2, 102), (3, 4, 103), (0, 5, 11, 100)),
    "lt": ((1, 21, 101), (2, 9, 22), (0, 10, 11, 19, 20)),
    "lv": ((0, 10, 11, 19, 20, 111), (1, 21, 101), (2, 9, 22)),
    "ru": ((1, 21, 101), (2, 4, 22), (0, 5, 11, 12, 14, 111)),
    "uk": ((1, 21), (2, 24), (0, 5, 11, 14)),
    "pl": ((1,), (2, 4, 22), (0, 5, 12, 14, 21, 112)),
    "cs": ((1,), (2, 4), (0, 5, 21)),
    "hr": ((1, 21), (2, 22), (0, 5, 11, 12)),
    "ro": ((1,), (0, 2, 19, 101, 119), (20, 100, 120)),
    "he": ((1,), (2,), (0, 3, 20)),
    "ja": ((0, 1, 2, 21),),
    "zh_TW": ((0, 1, 2, 21),),
}


@pytest.mark.parametrize("language", FORMS)
def test_forms_of_a_catalogue(language: str) -> None:
    rule = gettext_rule(language) or ""
    forms, names = FORMS[language], gettext_categories(language)
    form_of = c2py(rule.partition("plural=")[2].rstrip(";"))
    assert rule.startswith(f"nplurals={len(forms)}; ") and names is not None and len(names) == len(forms)
    assert [[form_of(n) for n in numbers] for numbers in forms] == [[form] * len(numbers) for form, numbers in enumerate(forms)]


RULES = {
    "is": "nplurals=2; plural=(n%10==1 && n%100!=11 ? 0 : 1);",
    "nb": "nplurals=2; plural=(n != 1);",
    "hi": "nplurals=2; plural=(n > 1);",
    "ko": "nplurals=1; plural=0;",
    "se": "nplurals=3; plural=(n==1 ? 0 : n==2 ? 1 : 2);",
    "pl": "nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2);",
}


@pytest.mark.parametrize("language", RULES)
def test_rules_as_they_are_written(language: str) -> None:
    assert gettext_rule(language) == RULES[language]


def test_categories_with_those_of_fractions_and_of_millions() -> None:
    assert categories("cy") == ("zero", "one", "two", "few", "many", "other")
    assert categories("cs") == ("one", "few", "many", "other") and gettext_categories("cs") == ("one", "few", "other")
    assert categories("ru") == ("one", "few", "many", "other") and gettext_categories("ru") == ("one", "few", "many")
    assert categories("fr") == ("one", "many", "other") and gettext_categories("fr") == ("one", "other")
    assert samples("cs") == {"one": 1, "few": 2, "many": Decimal("0.5"), "other": 5}
    assert samples("is") == {"one": 1, "other": 2} and samples("fr") == {"one": 1, "many": 1_000_000, "other": 2}
    assert category("pt", 0) == category("pt-BR", 0) == "one" and category("pt-PT", 0) == "other"
    assert [category("is", n) for n in (1, 11, 21, Decimal("1.0"), Decimal("2.1"))] == ["one", "other", "one", "one", "one"]


def test_names_of_languages() -> None:
    """As catalogues, folders and data sets write them; members of a macrolanguage have its rule."""
    for same in (("pt_BR", "pt-br"), ("is", "is_IS", "isl_Latn", "is_IS.UTF-8"), ("sr", "sr@latin", "sh"), ("lv", "lvs"), ("he", "iw"), ("no", "nb")):
        assert len({(gettext_rule(name), categories(name)) for name in same}) == 1 and gettext_rule(same[0])


def test_what_cldr_has_no_rule_for_is_not_guessed() -> None:
    """Babel has files of some of these languages, with one form for all numbers where CLDR gives none."""
    for name in ("oc", "mi", "co", "tlh", "x-klingon", "", "C", "../is", "und"):
        assert categories(name) is gettext_rule(name) is gettext_categories(name) is samples(name) is category(name, 1) is None, name


def all_rules() -> dict[str, str]:
    """A language of each rule there is."""
    from babel import localedata

    return {rule: name for name in sorted(localedata.locale_identifiers()) if "_" not in name and (rule := gettext_rule(name))}


def test_every_language_has_cldrs_form_for_every_number_and_msgfmt_reads_it(tmp_path: Path) -> None:
    rules = all_rules()
    assert len(rules) > 25
    for rule, name in rules.items():
        names, form_of = gettext_categories(name) or (), c2py(rule.partition("plural=")[2].rstrip(";"))
        for number in (*range(130), 200, 1000, 20_000, 100_000, 1_000_000):
            expected = category(name, number)
            assert names[form_of(number)] == (expected if expected in names else "other"), (name, number)
        if shutil.which("msgfmt"):
            header = f'"Content-Type: text/plain; charset=UTF-8\\n"\n"Plural-Forms: {rule}\\n"\n'
            entry = 'msgid "a"\nmsgid_plural "b"\n' + "".join(f'msgstr[{i}] "c"\n' for i in range(len(names)))
            (tmp_path / "a.po").write_text(f'msgid ""\nmsgstr ""\n{header}\n{entry}', encoding="utf-8")
            checked = subprocess.run(["msgfmt", "--check-format", "-o", "/dev/null", str(tmp_path / "a.po")], capture_output=True, text=True, check=False)
            assert not checked.returncode, (name, rule, checked.stderr)
