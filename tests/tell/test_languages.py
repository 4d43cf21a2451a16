"""Which codes are names of one language: by CLDR's macrolanguages, IANA's replaced codes, FLORES's names."""

from __future__ import annotations

import pytest

from tell.errors import LanguageError
from tell.languages import base_language, canonical_tag, distance, language, locale_tag, names, nearest_pair, parse_pair, same_language

# Individual languages that stand for their macrolanguage.
MEMBERS = """nb-no lvs-lv ekk-et zsm-ms swh-sw pes-fa quy-qu quz-qu npi-ne arb-ar cmn-zh plt-mg uzn-uz khk-mn azj-az als-sq gaz-om pbt-ps pbu-ps
ydd-yi kmr-ku ory-or ayr-ay gug-gn dik-din kng-kg src-sc ike-iu twi-ak"""
# What a code was called, or what ISO 639-2 and -3 call it.
NAMES = "iw-he in-id ji-yi mo-ro tl-fil nor-no nob-nb isl-is ice-is fao-fo zho-zh chi-zh ara-ar fas-fa per-fa est-et msa-ms ger-de"
# Languages and scripts that people keep apart.
APART = """nn-no nn-nb nno-nob yue-zh wuu-zh lzh-zh yue-cmn arz-ar arz-arb apc-ar ckb-ku ckb-kmr ltg-lv azb-az zlm-ms id-ms uzs-uz
quy-quz fat-twi vro-et gsw-als
bs-hr sr-hr fo-is"""


@pytest.mark.parametrize(("a", "b"), [tuple(pair.split("-")) for pair in (MEMBERS + " " + NAMES).split()])
def test_one_language(a: str, b: str) -> None:
    assert same_language(a, b) and same_language(b, a)
    assert base_language(a) == base_language(b)
    assert canonical_tag(a) == canonical_tag(b)
    assert language(a).rtl == language(b).rtl
    with pytest.raises(LanguageError, match="same language"):
        parse_pair(f"{a}:{b}")


@pytest.mark.parametrize(("a", "b"), [tuple(pair.split("-")) for pair in APART.split()])
def test_two_languages(a: str, b: str) -> None:
    assert not same_language(a, b) and not same_language(b, a)
    parse_pair(f"{a}:{b}")


@pytest.mark.parametrize(
    ("flores", "tag"),
    [("ekk_Latn", "et"), ("lvs_Latn", "lv"), ("isl_Latn", "is"), ("nob_Latn", "no"), ("arb_Arab", "ar"), ("cmn_Hans", "zh"), ("zho_Hans", "zh"),
     ("zho_Hant", "zh-Hant"), ("srp_Cyrl", "sr"), ("pes_Arab", "fa"), ("npi_Deva", "ne"), ("kmr_Latn", "ku"), ("pbt_Arab", "ps"), ("uzn_Latn", "uz")],
)  # fmt: skip
def test_names_of_flores(flores: str, tag: str) -> None:
    assert same_language(flores, tag)
    assert canonical_tag(flores) == tag


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("pt", "pt-BR", True), ("pt-PT", "pt-BR", False), ("nb-NO", "no", True), ("nb-NO", "no-NO", True), ("zh-Hans", "zh-Hant", False), ("zh", "zh-TW", False),
     ("zh-CN", "cmn-Hans", True), ("sr-Latn", "sr-Cyrl", False), ("sr-Latn", "sr", False), ("sh", "sr-Latn", True), ("zz", "zz", False), ("", "is", False)],
)  # fmt: skip
def test_scripts_and_regions(a: str, b: str, same: bool) -> None:
    assert same_language(a, b) is same_language(b, a) is same


@pytest.mark.parametrize(
    ("requested", "offered", "found"),
    [("nb-en", "no-en", "no-en"), ("nb-en", "no-en nb-en", "nb-en"), ("no-en", "no-en nb-en", "no-en"), ("nb-NO:en", "no-en nb-en", "nb-en"),
     ("en-cmn", "en-yue en-zh", "en-zh"), ("en:zh-TW", "en-zh", None), ("nn-en", "no-en nb-en", None), ("ekk_Latn-eng_Latn", "et-en", "et-en"),
     ("iw-en", "he-en", "he-en"), ("pt-en", "pt-BR:en", "pt-BR:en"), ("en-US:nb", "en-no", "en-no")],
)  # fmt: skip
def test_an_exact_name_wins_over_its_equal(requested: str, offered: str, found: str | None) -> None:
    nearest = nearest_pair(parse_pair(requested), map(parse_pair, offered.split()))
    assert found == (nearest and str(nearest))


def test_the_distance_of_a_name_is_less_than_that_of_a_region() -> None:
    offered = [language(tag) for tag in ("no", "nb", "no-NO", "nb-NO", "nn")]
    assert [distance(language("no"), tag) for tag in offered] == [0, 1, 6, 7, None]
    assert [distance(language("nb-NO"), tag) for tag in offered] == [4, 3, 1, 0, None]


@pytest.mark.parametrize(
    ("name", "tag"), [("is_IS.UTF-8", "is-IS"), ("sr@latin", "sr-Latn"), ("uz_UZ@cyrillic", "uz-Cyrl-UZ"), ("de_DE@euro", "de-DE"), ("nb", "nb"), ("C", "C")]
)
def test_names_of_locales(name: str, tag: str) -> None:
    assert locale_tag(name) == tag


def test_a_language_is_called_by_the_names_of_its_equals() -> None:
    assert {"norwegian", "norsk bokmål"} <= names(language("nb")) & names(language("no"))
    assert "estonian" in names(language("ekk"))
    assert "norwegian nynorsk" not in names(language("no"))


def test_tags_for_private_use() -> None:
    """As memories of translators have them for languages that have no code."""
    known = language("x-klingon")
    assert known.tag == base_language("x-klingon") == canonical_tag("x-klingon") == "x-klingon" and str(parse_pair("en:x-klingon")) == "en:x-klingon"
    assert same_language("x-klingon", "x-klingon") and not same_language("x-klingon", "x-sindarin") and not same_language("x-klingon", "en") and names(known)
