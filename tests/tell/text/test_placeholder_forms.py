"""Placeholders of frameworks: each is found whole and missed where it is changed; prose has none."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tell.languages import parse_pair
from tell.text.flags import flags_of
from tell.text.placeholders import around, find_placeholders, lost, mask
from tests.conftest import SHARED

# (framework, placeholders)
FORMS = [
    ("Qt", ["%1", "%L1", "%n", "%Ln", "%99"]),
    ("i18next", ["{{x}}", "{{- x}}", "{{x, format}}", "{{count, number(minimumFractionDigits: 2)}}", "$t(key)", '$t(ns:key, {"n": {{n}} })', "<0>", "</0>",
                 "<1/>"]),
    ("Vue", ["{{ $t('a.b') }}", "@:message.hello", "@.lower:message.hello", "@:(a.b)"]),
    ("Angular", ["{{ 'x' | translate:{n: 1} }}", "{{ a ?? b }}"]),
    ("Handlebars", ["{{{html}}}", "{{#if x}}", "{{/if}}", "{{else}}"]),
    ("Rails", ["%{x}", "%{user.name}", "%<x>s", "%<total>.2f", "#{x}", "#{user.name(1)}"]),
    ("Laravel", [":name", ":Name", ":NAME", ":max_count", "{!! $x !!}", "{{ $x->y }}"]),
    ("ERB, EJS and PHP", ["<%= user.name %>", "<%- x > 1 %>", "<% if x %>", "<%# note %>", "<?= $a->b ?>", "<?php echo $x; ?>"]),
    ("FreeMarker", ["<#if x gt 1>", "</#if>", "<@x y=1/>", "${x?html}", "${a.b}"]),
    ("Jinja and Twig", ["{{ x }}", "{% if a != '%' %}", "{# note #}", "%name%", "{% trans with {'%n%': n} %}"]),
    ("ICU", ["{count, number}", "{d, date, short}", "{0,number,#.##}", "{n,number,::currency/EUR}", "{ t, time, HH:mm }", "{n, spellout}", "{ count }",
             "{0, choice, 0#none|1#one}"]),
    ("Fluent", ["{$count}", "{ $count }", "{ -brand }", '{ -brand(case: "gen") }', "{ NUMBER($n, maximumFractionDigits: 1) }", '{ "}" }']),
    ("MessageFormat 2", ["{$count :number}", "{$d :datetime dateStyle=long}"]),
    ("Objective-C", ["%@", "%1$@", "%lu", "%ld", "%2$lld", "%lf", "%S", "%C"]),
    ("stringsdict", ["%#@x@", "%1$#@files@"]),
    ("Swift", [r"\(x)", r"\(user.name)", r"\(count + 1)", r"\(name(of: x))"]),
    ("C", ["%s", "%d", "%5d", "%-10s", "%'d", "%zu", "%.*f", "%*d", "%I64d", "%#x", "%p", "%<PRIu64>", "%%"]),
    ("Java and Android", ["%1$s", "%2$d", "%1$.2f", "%,d", "%,.2f", "%1$tF", "%tY", "%b"]),
    ("Python", ["%(x)s", "%(x)03.1f", "{0!r:>10}", "{x!s}", "{x:{width}.{n}f}", "{:%Y-%m-%d}", "{a.b[0]}", "$name"]),
    ("C#", ["{0:N2}", "{0,10:C2}", "{0,-5}", "{0:dd MMM yyyy}", "{0:#,##0.00}"]),
    ("shells", ["$VAR", "${VAR}", "${VAR:-/tmp}", "$(HOME)", "$HOME", "%PATH%", "@PACKAGE@"]),
    ("others", ["%0:s", "{!Contact.Name}", "*|FNAME|*", "{x|upper}", "{user-name}", ":smile:", ":ref:"]),
]  # fmt: skip
ALL = [form for _, forms in FORMS for form in forms]


@pytest.mark.parametrize("form", ALL)
def test_each_is_found_whole_and_missed_where_it_is_lost(form: str) -> None:
    lead = "%1 " if form == "%99" else ""
    for text in ("Opna {} núna", "{} er opið", "Sjá ({}).", "„{}“", "Það er {}"):
        source = lead + text.replace("{}", form)
        assert [p.text for p in find_placeholders(source)][bool(lead) :] == [form]
        assert not lost(source, lead + f"It is {form}.") and lost(source, lead + "It is."), source
        assert lost(source, lead + f"It is {form.upper() if form != form.upper() else form.lower()}.") or form.upper() == form.lower()
        masked = mask(source)
        assert masked is not None and form not in masked.text and masked.restore(masked.text) == source


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("%dMB of %sGB", ["%d", "%s"]),
        ("%lldpx, %.1fx and %1$skm", ["%lld", "%.1f", "%1$s"]),
        ("%d%% of %s's", ["%d", "%%", "%s"]),
        ("%d%s", ["%d", "%s"]),
        ("%1/%2, %1MB, %L2%, %3%", ["%1", "%2", "%1", "%L2", "%3"]),
        ("<0>Read</0> the <1>terms</1>", ["<0>", "</0>", "<1>", "</1>"]),
        (":min–:max, (:count)", [":min", ":max", ":count"]),
        ("{$a}{ -b }{c}", ["{$a}", "{ -b }", "{c}"]),
        ("$t(a) and $HOME/x", ["$t(a)", "$HOME"]),
        ("${a}/${b || '{x}'}", ["${a}", "${b || '{x}'}"]),
        (":ref:`text`", [":ref:"]),
        (":attributeは、:min文字以上です", [":attribute", ":min"]),
        ("こんにちは$nameさん、%name%さん", ["$name", "%name%"]),
        ("%1$sを%2件、%@が", ["%1$s", "%2", "%@"]),
        ("%-5s|%5.1f", ["%-5s", "%5.1f"]),
        ("%@ér", ["%@"]),
    ],
)
def test_where_each_ends(text: str, forms: list[str]) -> None:
    assert [p.text for p in find_placeholders(text)] == forms


PROSE = [
    "50% discount", "100 % discount", "100 %discount", "5 %drop", "50%-60% of it", "12:30", "kl. 12:30", "a:b", "Note: this", "He said: yes", "1:1",
    "Ratio 3:2",
    "EU:s regler", "It is 100 % done.", "100 % sure", "20%", "%20 indirim", "Fiyat %5,5 arttı", "5%d", "a 10%ige Lösung", "$5 and $6", "US$5m", "$US5 billion",
    "$A10", "$million", "cost $ 5", "{not this, but that}", "{ the cat }", "a < b and c > d", "<3", "AT&T", "C:\\temp", "Hi :) and :D", ";:x",
    "me @home", "50 (%)", "Why?! #1", "[see below]", "(a) and (b)", "a\\(b", "R:s", "well::known", "3 @ 5", "the %age of", "作者:John",
    "* a * b", "#1 and #two",
]  # fmt: skip


@pytest.mark.parametrize("text", PROSE)
def test_prose_has_none(text: str) -> None:
    assert find_placeholders(text) == []


@pytest.mark.parametrize(
    ("pair", "source", "translation", "flagged"),
    [
        ("en-tr", "Prices rose by 5% in May.", "Fiyatlar mayısta %5 arttı.", False),
        ("tr-en", "Fiyatlar mayısta %5 arttı.", "Prices rose by 5 percent in May.", False),
        ("en-eu", "It is 20% of the price.", "Prezioaren %20 da.", False),
        ("en-is", "Copying %1 of %2 files.", "Afrita %1 af %2 skrám.", False),
        ("en-is", "Copying %1 of %2 files.", "Afrita 1% af %2 skrám.", False),
        ("en-is", "Copying %1 of %2 files.", "Afrita 1 af %2 skrám.", True),
        ("en-is", "Copying %1 of %2 files.", "Afrita %2 af skrám.", True),
        ("en-is", "%dMB are free on the disk.", "%d MB eru laus á diskinum.", False),
        ("en-is", "%dMB are free on the disk.", "%MB eru laus á diskinum.", True),
        ("en-is", "Hello %{name}, welcome.", "Halló {name}, velkomin.", True),
        ("en-is", "The :attribute is needed here.", "Það þarf :eigind hér.", True),
        ("en-is", "Hello, this is all there is.", "Halló, <%= name %>, þetta er allt og sumt.", True),
        ("en-is", "Hello, this is all there is.", "Halló, <0>þetta</0> er allt og sumt.", True),
        ("en-is", "It costs 50% less at 12:30.", "Það kostar 50 % minna klukkan 12.30.", False),
    ],
)
def test_flags(pair: str, source: str, translation: str, flagged: bool) -> None:
    assert ("placeholder" in flags_of(parse_pair(pair), source, translation)) is flagged


@given(st.lists(st.one_of(st.sampled_from(ALL), st.sampled_from(["a ", "b", " ", "1", "%", ":", "{", "}", "$", "<", "\\", "X1 "])), max_size=10).map("".join))
def test_masked_and_restored_a_text_is_itself(text: str) -> None:
    assert not lost(text, text) and "".join(part for part, _ in around(text)) == text
    masked = mask(text)
    assert masked is None or masked.restore(masked.text) == text


@pytest.mark.parametrize(
    "unit",
    [
        "{{",
        "{%",
        "{#",
        "{!!",
        "${",
        "#{",
        "$t(",
        "%(a",
        "%<a",
        ":a ",
        "\\(a",
        "{ a",
        "{a,",
        "{1:",
        "<%",
        "<?=",
        "*|A",
        "%a",
        "%1$",
        "%1.",
        "@:a.",
        "{a:{b}",
        "<#a ",
    ],
)
def test_no_text_takes_long_to_look_through(unit: str) -> None:
    began = time.thread_time()
    find_placeholders((unit * 20_000)[:20_000])
    assert time.thread_time() - began < 1


def test_false_alarms_on_references_are_below_one_in_a_hundred() -> None:
    """docs/text.md has the figure."""
    news = SHARED / "en-is" / "newstest2021"
    if not news.is_dir():
        pytest.skip("no newstest2021 under shared/data")
    for source, target in (("is", "en"), ("en", "is")):
        names = f"newstest2021.{source}-{target}.src.{source}", f"newstest2021.{source}-{target}.ref.A.{target}"
        sources, references = ((news / name).read_text(encoding="utf-8").rstrip("\n").split("\n") for name in names)
        assert sum(lost(s, r) for s, r in zip(sources, references, strict=True)) < 0.01 * len(sources)
