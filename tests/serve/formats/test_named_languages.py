"""Catalogues of another language are refused, not filled: whatever names the language, in whichever way. Labels that are missing or templates are written."""

from __future__ import annotations

from typing import Any

import pytest

from serve.formats.named_languages import is_of, is_template, posix_name
from tell.errors import CorpusError
from tell.languages import language
from tests.support.formats_fixture import through

PO = 'msgid ""\nmsgstr ""\n{}"Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "a"\nmsgstr ""\n'
XLIFF = '<xliff version="1.2"><file {}><body><trans-unit id="1"><source>a</source></trans-unit></body></file></xliff>'
XLIFF2 = '<xliff version="2.0" {}><file id="f"><unit id="u"><segment><source>a</source></segment></unit></file></xliff>'


def po(*fields: str) -> str:
    return PO.format("".join(f'"{field}\\n"\n' for field in fields))


INTO, FROM = "this is a translation into another language", "this is translated from another language"
# Format, file, options: what is said.
REFUSED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "PO": ("po", po("Language: de"), {}, f"header, Language: {INTO}; found de; valid: is"),
    "PO in its source language": ("po", po("Language: en_US"), {}, f"{INTO}; found en_US; valid: is"),
    "PO by X-Language": ("po", po("X-Language: de_DE"), {}, f"{INTO}; found de_DE"),
    "PO by Poedit's name": ("po", po("X-Poedit-Language: Faroese"), {}, f"{INTO}; found Faroese"),
    "PO of another original": ("po", po("Language: is", "X-Source-Language: de"), {}, f"{FROM}; found de; valid: en"),
    "PO by its name": ("po", po(), {"name": "po/de.po"}, f"the file's name: {INTO}; found de"),
    "PO by its folder": ("po", po("Language: "), {"name": "fo/LC_MESSAGES/app.po"}, f"the file's name: {INTO}; found fo"),
    "PO of another region": ("po", po("Language: pt_PT"), {"pair": "en:pt-BR"}, f"{INTO}; found pt_PT; valid: pt-BR"),
    "PO in another script": ("po", po("Language: sr@latin"), {"pair": "en-sr"}, f"{INTO}; found sr@latin; valid: sr"),
    "Nynorsk is not Bokmål": ("po", po("Language: nn"), {"pair": "en-nb"}, f"{INTO}; found nn; valid: nb"),
    "XLIFF 1.2": ("xliff", XLIFF.format('source-language="en" target-language="de"'), {}, f"<file>: {INTO}; found de; valid: is"),
    "XLIFF 1.2 from another": ("xliff", XLIFF.format('source-language="de"'), {}, f"{FROM}; found de; valid: en"),
    "XLIFF 2": ("xliff", XLIFF2.format('srcLang="en" trgLang="fr-CA"'), {}, f"<xliff>: {INTO}; found fr-CA; valid: is"),
    "XLIFF 2 from another": ("xliff", XLIFF2.format('srcLang="fr" trgLang="is"'), {}, f"{FROM}; found fr"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_of_another_language_is_refused(name: str) -> None:
    format, source, options, message = REFUSED[name]
    with pytest.raises(CorpusError) as e:
        through(format, source, **options)
    assert message in str(e.value) and "--force" not in str(e.value)
    with pytest.raises(CorpusError, match="; --force fills it all the same"):
        through(format, source, **options, force_hint="; --force fills it all the same")
    output, visitor = through(format, source, **options, force=True)
    assert (visitor.texts == ["a"] and ">A<" in output.decode()) or 'msgstr "A"' in output.decode()


# Format, file, options: the labels that come out.
TAKEN: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "PO": ("po", po("Language: is"), {}, "Language: is\\n"),
    "PO with a region": ("po", po("Language: is_IS"), {}, "Language: is_IS\\n"),
    "PO with a locale": ("po", po("Language: is_IS.UTF-8"), {}, "Language: is_IS.UTF-8\\n"),
    "PO with a name": ("po", po("Language: Icelandic"), {}, "Language: Icelandic\\n"),
    "PO with a tag": ("po", po("Language: pt-BR"), {"pair": "en:pt-BR"}, "Language: pt-BR\\n"),
    "PO without the region": ("po", po("Language: pt"), {"pair": "en:pt-BR"}, "Language: pt\\n"),
    "nb for no": ("po", po("Language: nb_NO"), {"pair": "en-no"}, "Language: nb_NO\\n"),
    "no for nb": ("po", po("Language: no"), {"pair": "en-nb"}, "Language: no\\n"),
    "lvs for lv": ("po", po("Language: lvs"), {"pair": "en-lv"}, "Language: lvs\\n"),
    "PO without a language": ("po", po(), {}, "Language: is\\n"),
    "PO with an empty one": ("po", po("Language: "), {"pair": "en:pt-BR"}, "Language: pt_BR\\n"),
    "PO of a template": ("po", po("Language: LL_CC"), {"pair": "en:sr-Latn"}, "Language: sr@latin\\n"),
    "the header before the name": ("po", po("Language: is"), {"name": "de.po"}, "Language: is\\n"),
    "forced": ("po", po("Language: de"), {"force": True}, "Language: is\\n"),
    "XLIFF 1.2": ("xliff", XLIFF.format('source-language="en-US" target-language="is-IS"'), {}, 'source-language="en-US" target-language="is-IS"'),
    "XLIFF 1.2 without": ("xliff", XLIFF.format('source-language="en"'), {}, 'source-language="en" target-language="is"'),
    "XLIFF 1.2 with an empty one": ("xliff", XLIFF.format('target-language="" original="a"'), {}, 'target-language="is" original="a"'),
    "XLIFF 1.2 of a template": ("xliff", XLIFF.format('target-language="${lang}"'), {}, 'target-language="is"'),
    "XLIFF 1.2 forced": ("xliff", XLIFF.format('source-language="en" target-language="en"'), {"force": True}, 'source-language="en" target-language="is"'),
    "XLIFF 2": ("xliff", XLIFF2.format('srcLang="en" trgLang="is"'), {}, 'srcLang="en" trgLang="is"'),
    "XLIFF 2 without": ("xliff", XLIFF2.format('srcLang="en"'), {}, 'srcLang="en" trgLang="is"'),
}


@pytest.mark.parametrize("name", TAKEN)
def test_labels_of_what_is_taken(name: str) -> None:
    format, source, options, label = TAKEN[name]
    output, visitor = through(format, source, **options)
    assert label in output.decode() and visitor.texts == ["a"] and not visitor.messages


def test_a_language_that_nobody_knows_is_a_warning() -> None:
    output, visitor = through("po", po("Language: no such"))
    assert visitor.messages == ["warn header, Language: unknown language no such"] and b"Language: no such" in output


def test_files_of_several_languages() -> None:
    """Only those of the pair are filled; what is of no other language than that is refused as a whole."""
    one = '<file original="{0}" source-language="en" target-language="{0}"><body><trans-unit id="{0}"><source>a</source></trans-unit></body></file>'
    source = '<xliff version="1.2">' + "".join(map(one.format, ("de", "is", "fr"))) + "</xliff>"
    output, visitor = through("xliff", source)
    assert output.decode().count("<target") == 1 and visitor.texts == ["a"]
    assert visitor.messages == [f"warn <file>: {INTO}, and stays as it is: {tag}" for tag in ("de", "fr")]
    with pytest.raises(CorpusError, match="found de; valid: fo"):
        through("xliff", source, pair="en-fo")
    assert len(through("xliff", source, pair="en-fo", force=True)[1].texts) == 3


@pytest.mark.parametrize(
    "label", ["", " ", "LL", "ll_CC", "xx", "xx-XX", "LANGUAGE", "Lang", "C", "POSIX", "und", "mul", "@LANG@", "${locale}", "{{ lang }}", "%s", "*"]
)
def test_templates(label: str) -> None:
    assert is_template(label)


@pytest.mark.parametrize(
    ("label", "tag", "expected"),
    [
        ("is", "is", True), ("isl_Latn", "is", True), ("íslenska", "is", True), ("Icelandic", "is", True), ("zh-TW", "zh", False), ("zh_CN", "zh", True),
        ("cmn-Hans", "zh", True), ("en-GB", "en", True), ("en-GB", "en-US", False), ("sh", "sr-Latn", True), ("iw", "he", True), ("?", "is", None),
    ],
)  # fmt: skip
def test_labels(label: str, tag: str, expected: bool | None) -> None:
    assert is_of(label, language(tag)) is expected and not is_template("is")


def test_names_as_gettext_has_them() -> None:
    assert list(map(posix_name, ("is", "pt-BR", "sr-Latn", "zh-Hant", "zh-Hans", "zh-TW", "uz-Cyrl-UZ"))) == [
        "is", "pt_BR", "sr@latin", "zh_TW", "zh_CN", "zh_TW", "uz_UZ@cyrillic",
    ]  # fmt: skip
