"""PO catalogues: headers in every layout, templates and their labels, plural forms that are missing or partly there. msgfmt reads what is written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serve.formats.po_header import language_in_name
from serve.formats.units import Replacement
from tell.errors import CorpusError
from tests.support.formats_fixture import same, through

OLD = '#~ msgid ""\n#~ msgstr "Content-Type: text/plain; charset=KOI8-R\\n"\n'
LATIN = r"Content-Type: text/plain; charset=ISO-8859-1\n"
ENTRY = '\nmsgid "á b"\nmsgstr ""\n'
# Headers that msgfmt 0.21 reads, but for the last five, which other programs write; each before or after the entry, or with it.
LAYOUTS = {
    "a line a field": f'msgid ""\nmsgstr ""\n"Language: is\\n"\n"{LATIN}"\n{ENTRY}',
    "one line": f'msgid ""\nmsgstr "Language: is\\n{LATIN}Content-Transfer-Encoding: 8bit\\n"\n{ENTRY}',
    "broken inside words": f'msgid ""\nmsgstr ""\n"Language: is\\nContent-Type: text/plain; "\n"char"\n"set=ISO-8859-1\\n"\n{ENTRY}',
    "blank lines inside": f'msgid ""\n\nmsgstr ""\n\n"Language: is\\n"\n\n"{LATIN}"\n{ENTRY}',
    "not the first entry": f'{ENTRY}\nmsgid ""\nmsgstr ""\n"Language: is\\n"\n"{LATIN}"\n',
    "comments and flags": f'# Content-Type: text/plain; charset=KOI8-R\n#, fuzzy\n#| msgid "x"\nmsgid ""\nmsgstr ""\n"Language: is\\n"\n"{LATIN}"\n{ENTRY}',
    "many on a line": f'msgid "" msgstr "Language: is\\n" "Content-Type: text/plain; " "charset=ISO-8859-1\\n" {ENTRY}',
    "keywords alone": f'msgid\n""\nmsgstr\n"Language: is\\n"\n"{LATIN}"\n{ENTRY}',
    "no spaces": f'msgid""\nmsgstr"Language: is\\n{LATIN}"\n{ENTRY}',
    "charset in small letters": f'msgid ""\nmsgstr ""\n"Language: is\\n"\n"content-type: text/plain; charset=iso-8859-1\\n"\n{ENTRY}',
    "CRLF": f'msgid ""\nmsgstr ""\n"Language: is\\n"\n"{LATIN}"\n{ENTRY}'.replace("\n", "\r\n"),
    "spaces before": f'  msgid ""\n\tmsgstr ""\n  "Language: is\\n"\n  "{LATIN}"\n{ENTRY}',
    "no line end at the end": f'msgid ""\nmsgstr ""\n"Language: is\\n"\n"Content-Type: text/plain; charset=ISO-8859-1"\n{ENTRY}',
    "an old one among the obsolete": f'msgid ""\nmsgstr ""\n"Language: is\\n"\n"{LATIN}"\n{ENTRY}\n{OLD}',
    "no line ends": f'msgid ""\nmsgstr ""\n"Language: is"\n"Content-Type: text/plain; charset=ISO-8859-1"\n"Content-Transfer-Encoding: 8bit"\n{ENTRY}',
    "capitals": f'msgid ""\nmsgstr ""\n"LANGUAGE: is\\n"\n"CONTENT-TYPE: TEXT/PLAIN; CHARSET=ISO-8859-1\\n"\n{ENTRY}',
    "spaces around the charset": f'msgid ""\nmsgstr ""\n"Language : is\\n"\n" Content-Type:text/plain;charset = ISO-8859-1\\n"\n{ENTRY}',
    "a comment inside": f'msgid ""\nmsgstr ""\n"Language: is\\n"\n# hello\n"Content-Type: text/plain; charset=ISO-8859-1\\n"\n{ENTRY}',
    "an obsolete one before": f'{OLD}\nmsgid ""\nmsgstr ""\n"Language: is\\n"\n"{LATIN}"\n{ENTRY}',
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_headers_in_every_layout(name: str) -> None:
    raw = LAYOUTS[name].encode("latin-1")
    output, visitor = through("po", raw)
    problems = [m for m in visitor.messages if "belongs to nothing" not in m]
    assert visitor.texts == ["á b"] and not problems
    end = b"\r\n" if b"\r" in raw else b"\n"
    # Nothing else changes: the entry alone is marked and filled.
    old, new = ENTRY.replace("\n", end.decode()).encode("latin-1"), (b'\n#, fuzzy\nmsgid "\xe1 b"\nmsgstr "\xc1 B"\n').replace(b"\n", end)
    assert output == raw.replace(old, new)


@pytest.mark.parametrize("name", LAYOUTS)
def test_corpora_read_the_same_layouts(name: str, tmp_path: Path) -> None:
    from tell.corpus.readers.gettext import read_po
    from tell.corpus.readers.segment import ReadOptions, ReadReport
    from tell.languages import parse_pair

    raw = LAYOUTS[name].encode("latin-1").replace(b'msgstr ""\n\n#~', b'msgstr "\xe9"\n\n#~').replace(b'\xe1 b"\nmsgstr ""', b'\xe1 b"\nmsgstr "\xe9"')
    raw = raw.replace(b'\xe1 b"\r\nmsgstr ""', b'\xe1 b"\r\nmsgstr "\xe9"')
    path = tmp_path / "a.po"
    path.write_bytes(raw)
    reading = ReadReport((path,), "a", "po")
    if name == "a comment inside":
        with pytest.raises(CorpusError, match="line 5: this is not a PO file"):
            list(read_po(path, ReadOptions(parse_pair("en-is")), reading))
        return
    segments = [s for s in read_po(path, ReadOptions(parse_pair("en-is")), reading) if s.reason is None]
    assert [(s.source, s.target) for s in segments] == [("á b", "é")] and reading.encodings[str(path)].lower().startswith("iso-8859-1")


@pytest.mark.parametrize(
    ("rule", "forms", "pairs"),
    [
        ("nplurals=2; plural=(n != 1);", "ab", {"x": "a", "ys": "b"}),
        ("nplurals=3; plural=(n%10==0 || n%100>=11 && n%100<=19 ? 0 : n%10==1 && n%100!=11 ? 1 : 2);", "abc", {"x": "b", "ys": "c"}),
        ("nplurals=6; plural=(n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n==3 ? 3 : n==6 ? 4 : 5);", "abcdef", {"x": "b", "ys": "f"}),
        ("nplurals=2; plural=(n == 1);", "ab", {"x": "b", "ys": "a"}),
        ("nplurals=1; plural=0;", "a", {"x": "a", "ys": "a"}),
        ("nplurals=INTEGER; plural=EXPRESSION;", "ab", {"x": "a", "ys": "b"}),
    ],
)
def test_corpora_pair_the_singular_with_the_form_for_one(rule: str, forms: str, pairs: dict[str, str], tmp_path: Path) -> None:
    from tell.corpus.readers.gettext import read_po
    from tell.corpus.readers.segment import ReadOptions, ReadReport
    from tell.languages import parse_pair

    text = catalogue(rule, "".join(f'msgstr[{i}] "{form}"\n' for i, form in enumerate(forms))).replace("%d cats", "ys").replace("%d cat", "x")
    (tmp_path / "is.po").write_text(text, encoding="utf-8")
    read = read_po(tmp_path / "is.po", ReadOptions(parse_pair("en-is")), ReadReport((tmp_path / "is.po",), "a", "po"))
    assert {s.source: s.target for s in read} == pairs


def test_a_bom_and_bytes_as_escapes() -> None:
    raw = '\ufeffmsgid ""\nmsgstr ""\n"Language: is\\n"\n"Content-Type: text/plain; charset=ISO-8859-1\\n"\n\nmsgid "\\303\\241 \\xc3\\xa9 \\x41"\nmsgstr ""\n'
    output, visitor = through("po", raw)
    assert visitor.texts == ["á é A"] and output.decode().endswith('msgstr "Á É A"\n') and output.startswith(b"\xef\xbb\xbf")


POT = """# SOME DESCRIPTIVE TITLE.
#, fuzzy
msgid ""
msgstr ""
"Project-Id-Version: menu 1.0\\n"
"PO-Revision-Date: YEAR-MO-DA HO:MI+ZONE\\n"
"Last-Translator: FULL NAME <EMAIL@ADDRESS>\\n"
"Language-Team: LANGUAGE <LL@li.org>\\n"
"Language: \\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=CHARSET\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;\\n"

#: menu.c:1
msgid "pagé"
msgstr ""

#: menu.c:2
#, c-format
msgid "%d letter"
msgid_plural "%d letters"
msgstr[0] ""
msgstr[1] ""
"""
# By target: the label, and the forms with the text that each is made of.
TEMPLATES = {
    "is": ("is", "nplurals=2; plural=(n%10==1 && n%100!=11 ? 0 : 1);", ["%d LETTER", "%d LETTERS"]),
    "pt-BR": ("pt_BR", "nplurals=2; plural=(n > 1);", ["%d LETTER", "%d LETTERS"]),
    "cy": ("cy", "nplurals=6; plural=(n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n==3 ? 3 : n==6 ? 4 : 5);", ["%d LETTERS", "%d LETTER", *["%d LETTERS"] * 4]),
    "se": ("se", "nplurals=3; plural=(n==1 ? 0 : n==2 ? 1 : 2);", ["%d LETTER", "%d LETTERS", "%d LETTERS"]),
    "ja": ("ja", "nplurals=1; plural=0;", ["%d LETTER"]),
    "sr-Latn": ("sr@latin", "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2);",
        ["%d LETTER", "%d LETTERS", "%d LETTERS"]),
    # CLDR has no rule for Occitan.
    "oc": ("oc", "nplurals=2; plural=(n != 1);", ["%d LETTER", "%d LETTERS"]),
}  # fmt: skip
# Headers that are templates too, or lack what msgfmt asks for.
HEADERS: dict[str, tuple[str, str]] = {
    "as xgettext writes it": ("", ""),
    "the rule of English": ("nplurals=INTEGER; plural=EXPRESSION;", "nplurals=2; plural=(n != 1);"),
    "a rule that is none": ("nplurals=INTEGER; plural=EXPRESSION;", "nplurals=2; plural=n % 0;"),
    "without a rule": ('"Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;\\n"\n', ""),
    "without a language": ('"Language: \\n"\n', ""),
    "a language to fill in": ('"Language: \\n"', '"Language: LL_CC\\n"'),
    "without a charset": ('"Content-Type: text/plain; charset=CHARSET\\n"\n', ""),
    "without a header": (POT[: POT.index("#: menu.c:1")], ""),
}


def msgfmt(tmp_path: Path, output: bytes) -> Any:
    """The catalogue as a program reads it."""
    import gettext

    (tmp_path / "a.po").write_bytes(output)
    command = ["msgfmt", "-c", "--use-fuzzy", "-o", str(tmp_path / "a.mo"), str(tmp_path / "a.po")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not checked.returncode, checked.stderr
    with (tmp_path / "a.mo").open("rb") as f:
        return gettext.GNUTranslations(f)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("target", TEMPLATES)
def test_templates_become_catalogues(target: str, header: str, tmp_path: Path) -> None:
    import polib

    label, rule, forms = TEMPLATES[target]
    output, visitor = through("po", POT.replace(*HEADERS[header]), pair=f"en:{target}")
    catalogue = polib.pofile(output.decode())
    assert {name: catalogue.metadata[name] for name in ("Language", "Content-Type", "Plural-Forms")} == {
        "Language": label, "Content-Type": "text/plain; charset=UTF-8", "Plural-Forms": rule,
    }  # fmt: skip
    assert not catalogue.metadata_is_fuzzy and len(catalogue.fuzzy_entries()) == 2
    assert list(catalogue[1].msgstr_plural.values()) == forms
    assert (target == "oc" and header != "the rule of English") == any("CLDR has no rule for oc" in m for m in visitor.messages)
    if shutil.which("msgfmt"):
        assert msgfmt(tmp_path, output).ngettext("%d letter", "%d letters", 1) == "%d LETTER"
    # Filled, it is a catalogue like others: what is added is translated in the forms that it has.
    again = through("po", output, pair=f"en:{target}")[0]
    assert again == output


def test_only_the_labels_of_a_template_change() -> None:
    expected = (
        POT.replace("#, fuzzy\n", "").replace("Language: \\n", "Language: is\\n").replace("CHARSET", "UTF-8")
        .replace("nplurals=INTEGER; plural=EXPRESSION;", "nplurals=2; plural=(n%10==1 && n%100!=11 ? 0 : 1);").replace("#, c-format", "#, fuzzy, c-format")
        .replace('msgid "pagé"\nmsgstr ""', '#, fuzzy\nmsgid "pagé"\nmsgstr "PAGÉ"').replace('[0] ""', '[0] "%d LETTER"').replace('[1] ""', '[1] "%d LETTERS"')
    )  # fmt: skip
    assert through("po", POT, pair="en:is")[0].decode() == expected
    # Where nothing can be translated, nothing changes.
    assert through("po", POT, lambda unit: Replacement("", "failed"))[0] == POT.encode()


def catalogue(rule: str, forms: str) -> str:
    return (
        f'msgid ""\nmsgstr ""\n"Language: is\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Plural-Forms: {rule}\\n"\n\n'
        f'msgid "%d cat"\nmsgid_plural "%d cats"\n{forms}'
    )


TWO, THREE = "nplurals=2; plural=(n != 1);", "nplurals=3; plural=(n==1 ? 0 : n==2 ? 1 : 2);"
# By the header's rule and the forms that are there: the texts that are new, and the forms that come out.
PARTLY: dict[str, tuple[str, str, list[str], str]] = {
    "the second is empty": (TWO, 'msgstr[0] "eitt"\nmsgstr[1] ""\n', ["%d cats"], 'msgstr[0] "eitt"\nmsgstr[1] "%d CATS"\n'),
    "the first is empty": (TWO, 'msgstr[0] ""\nmsgstr[1] ""\n"tvö "\n"eða fleiri"\n', ["%d cat"], 'msgstr[0] "%d CAT"\nmsgstr[1] ""\n"tvö "\n"eða fleiri"\n'),
    "one is missing": (THREE, 'msgstr[0] "eitt"\nmsgstr[1] "tvö"\n', ["%d cats"], 'msgstr[0] "eitt"\nmsgstr[1] "tvö"\nmsgstr[2] "%d CATS"\n'),
    "all are there": (TWO, 'msgstr[0] "eitt"\nmsgstr[1] "tvö"\n', [], 'msgstr[0] "eitt"\nmsgstr[1] "tvö"\n'),
    "none is there": (TWO, 'msgstr[0] ""\nmsgstr[1] ""\n', ["%d cat", "%d cats"], 'msgstr[0] "%d CAT"\nmsgstr[1] "%d CATS"\n'),
    "an empty one too many": (TWO, 'msgstr[0] "eitt"\nmsgstr[1] ""\nmsgstr[2] ""\n', ["%d cats"], 'msgstr[0] "eitt"\nmsgstr[1] "%d CATS"\n'),
    "more than the rule has": (TWO, 'msgstr[0] "eitt"\nmsgstr[1] ""\nmsgstr[2] "þrjú"\n', [], 'msgstr[0] "eitt"\nmsgstr[1] ""\nmsgstr[2] "þrjú"\n'),
    "no rule, and CLDR's forms": ("nplurals=INTEGER; plural=EXPRESSION;", 'msgstr[0] "eitt"\nmsgstr[1] ""\n', ["%d cats"],
        'msgstr[0] "eitt"\nmsgstr[1] "%d CATS"\n'),
    "no rule, and other forms": ("nplurals=INTEGER; plural=EXPRESSION;", 'msgstr[0] "eitt"\nmsgstr[1] "tvö"\nmsgstr[2] ""\n', ["%d cats"],
        'msgstr[0] "eitt"\nmsgstr[1] "tvö"\nmsgstr[2] "%d CATS"\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTLY)
def test_plural_forms_that_are_partly_there(name: str) -> None:
    rule, forms, new, expected = PARTLY[name]
    output, visitor = through("po", catalogue(rule, forms))
    assert [u.text for u in visitor.units if not u.translated] == new and output.decode().endswith(f'msgid_plural "%d cats"\n{expected}')
    assert ("#, fuzzy" in output.decode()) == bool(new)
    if rule.startswith("nplurals=INTEGER"):
        cldr = "nplurals=2; plural=(n%10==1 && n%100!=11 ? 0 : 1);"
        assert (cldr in output.decode()) == (name == "no rule, and CLDR's forms") == (not visitor.messages)
    # A form that fails leaves the entry as it was.
    assert through("po", catalogue(rule, forms), lambda unit: Replacement("", "failed"))[0].decode() == catalogue(rule, forms)
    assert through("po", output, same)[0] == output


NAMES = {
    "is.po": "is", "po/pt_BR.po": "pt_BR", "sr@latin.po": "sr@latin", "locale/de/LC_MESSAGES/django.po": "de", "plugin-de_DE.po": "de_DE",
    "messages.de.po": "de", "zh_Hant_TW.po": "zh_Hant_TW", "kok.po.gz": "", "app.po": "", "web.po": "", "menu.po": "", "en.pot": "", "de.txt": "", "": "",
    "my-app.po": "", "is.po.gz": "is", "C:\\po\\fo.po": "fo",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_languages_in_names(name: str) -> None:
    assert language_in_name(name) == NAMES[name]


def test_the_names_of_the_translators_stay_to_be_filled_in() -> None:
    entries = 'msgid "translator-credits"\nmsgstr ""\n\nmsgctxt "NAME OF TRANSLATORS"\nmsgid "Your names"\nmsgstr ""\n\nmsgid "Your names"\nmsgstr ""\n'
    output, visitor = through("po", 'msgid ""\nmsgstr "Language: is\\nContent-Type: text/plain; charset=UTF-8\\n"\n\n' + entries)
    assert visitor.texts == ["Your names"] and output.decode().endswith(
        entries[: entries.rindex("msgid")] + '#, fuzzy\nmsgid "Your names"\nmsgstr "YOUR NAMES"\n'
    )
    assert visitor.messages == [f"warn line {line}: the names of the translators stay to be filled in" for line in (4, 8)]
