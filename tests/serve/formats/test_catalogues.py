"""Catalogues of keys and texts: right values of each format. A pass that writes in capitals, and one that repeats its input, which changes no byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tell.errors import BadInput
from tests.support.formats_fixture import loud, nothing, same, through

# (format, pair, file) to (texts, what comes out where capitals are written, what is said).
CASES: dict[str, tuple[str, str, str, list[str], str, list[str]]] = {
    "JSON inside one another, with its escapes": (
        "json",
        "en-is",
        '{"a": "Hi", "n": {"k": ["x y", 1, {"z": "q"}], "e": ""},\r\n\t"b\\u00e1" : "\\u00e1 \\/ \\"b\\"\\n"}\n',
        ["Hi", "x y", "q", "", 'á / "b"\n'],
        '{"a": "HI", "n": {"k": ["X Y", 1, {"z": "Q"}], "e": ""},\r\n\t"b\\u00e1" : "\\u00c1 \\/ \\"B\\"\\n"}\n',
        [],
    ),
    "i18next's plurals": (
        "json",
        "en-pl",
        '{\n  "a": "b",\n  "i_one": "{{count}} item",\n  "i_other": "{{count}} items"\n}',
        ["b", "{{count}} item", "{{count}} items", "{{count}} items", "{{count}} items"],
        '{\n  "a": "B",\n  "i_one": "{{count}} ITEM",\n  "i_few": "{{count}} ITEMS",\n  "i_many": "{{count}} ITEMS",\n  "i_other": "{{count}} ITEMS"\n}',
        [],
    ),
    "fewer forms": (
        "json",
        "en-ja",
        '{"item_zero": "No item", "item_one": "One item", "item_other": "{{count}} items", "c": "d"}',
        ["No item", "{{count}} items", "d"],
        '{"item_zero": "NO ITEM", "item_other": "{{count}} ITEMS", "c": "D"}',
        [],
    ),
    "one form stands for 21 too": (
        "json",
        "en-is",
        '{"i_one": "One item", "i_other": "{{count}} items"}',
        ["{{count}} items"] * 2,
        '{"i_one": "{{count}} ITEMS", "i_other": "{{count}} ITEMS"}',
        [],
    ),
    "forms in an object": (
        "json",
        "en-pl",
        '{"i": {"one": "x", "other": "y"}, "o": {"other": "Other"}}',
        ["x", "y", "y", "y", "Other"],
        '{"i": {"one": "X", "few": "Y", "many": "Y", "other": "Y"}, "o": {"other": "OTHER"}}',
        [],
    ),
    "ordinals and contexts keep their keys": (
        "json",
        "en-pl",
        '{"p_ordinal_one": "{{count}}st", "p_ordinal_other": "{{count}}th", "f_male": "his"}',
        ["{{count}}st", "{{count}}th", "his"],
        '{"p_ordinal_one": "{{count}}ST", "p_ordinal_other": "{{count}}TH", "f_male": "HIS"}',
        [],
    ),
    "ARB": (
        "json",
        "en:pt-BR",
        '{"@@locale": "en_US", "@@x-a": "b", "hi": "Hi {n}", "@hi": {"description": "Said first", "placeholders": {"n": {"example": "Jo"}}}}',
        ["Hi {n}"],
        '{"@@locale": "pt_BR", "@@x-a": "b", "hi": "HI {n}", "@hi": {"description": "Said first", "placeholders": {"n": {"example": "Jo"}}}}',
        [],
    ),
    "Chrome": (
        "json",
        "en-is",
        '{"hi": {"message": "Hi $N$", "description": "d", "placeholders": {"n": {"content": "$1", "example": "Jo"}}}}',
        ["Hi $N$"],
        '{"hi": {"message": "HI $N$", "description": "d", "placeholders": {"n": {"content": "$1", "example": "Jo"}}}}',
        [],
    ),
    "go-i18n": (
        "json",
        "en-is",
        '[{"id": "a", "translation": "b"}, {"id": "c", "translation": {"one": "d", "other": "e"}}]',
        ["b", "d", "e"],
        '[{"id": "a", "translation": "B"}, {"id": "c", "translation": {"one": "D", "other": "E"}}]',
        [],
    ),
    "FormatJS, Transifex and Angular": (
        "json",
        "en-is",
        '{"locale": "en", "translations": {"a": {"defaultMessage": "b", "id": "c"}, "d": {"string": "e", "context": "f"}}}',
        ["b", "e"],
        '{"locale": "is", "translations": {"a": {"defaultMessage": "B", "id": "c"}, "d": {"string": "E", "context": "f"}}}',
        [],
    ),
    "a root that is the language": ("json", "en-is", '{"en": {"app": "b"}}', ["b"], '{"is": {"app": "B"}}', []),
    "half a character, and a key twice": (
        "json",
        "en-is",
        '{"a": "\\ud800",\n"b": "c", "b": "d"}',
        ["c", "d"],
        '{"a": "\\ud800",\n"b": "C", "b": "D"}',
        ["bad line 1: half a character (a lone surrogate)"],
    ),
    "properties": (
        "properties",
        "en-is",
        "# c\\\n a.b = Hello \\\n   there\n!x\nc:It''s {0}\nd Two\\nlines\\n\\\n    more\ne=\nf\ng\\ h\\:=\\u00e1 b\r\nk\\\n  l=m\\:n\r\n",
        ["Hello there", "It's {0}", "Two\nlines\nmore", "á b", "m:n"],
        "# c\\\n a.b = HELLO THERE\n!x\nc:IT''S {0}\nd TWO\\n\\\n    LINES\\n\\\n    MORE\ne=\nf\ng\\ h\\:=\\u00c1 B\r\nk\\\n  l=M\\:N\r\n",
        [],
    ),
    "properties in UTF-8, an escape cut short, a space first": (
        "properties",
        "en-is",
        "a=á\na.accesskey=T\nb=\\u12\nc=\\ d\n\ne=don't {0}",
        ["á", " d", "don't {0}"],
        "a=Á\na.accesskey=T\nb=\\u12\nc=\\ D\n\ne=DON'T {0}",
        ["bad line 3: an escape that is cut short: \\u needs four digits"],
    ),
}

CASES[".strings"] = (
    "strings",
    "en-is",
    '/* Said "first" */\n"hi %@" = "Hi \\"%@\\"\\nyou \\U00e1";\n// "a" = "b";\nkey.two = "two\n lines" ;\n"k";\nNSName = Name;\n',
    ['Hi "%@"\nyou á', "two\n lines"],
    '/* Said "first" */\n"hi %@" = "HI \\"%@\\"\\nYOU Á";\n// "a" = "b";\nkey.two = "TWO\n LINES" ;\n"k";\nNSName = Name;\n',
    [],
)


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    format, pair, source, texts, expected, messages = CASES[name]
    output, visitor = through(format, source, loud, pair=pair)
    assert (visitor.texts, output.decode(), visitor.messages) == (texts, expected, messages)
    for answer in (nothing, same):
        assert through(format, source, answer, pair=None)[0].decode() == source


def test_strings_in_utf_16_and_what_is_none() -> None:
    source = '"a" = "á";\r\n'.encode("utf-16")
    output, visitor = through("strings", source)
    assert visitor.texts == ["á"] and output.decode("utf-16") == '"a" = "Á";\r\n' and output[:2] == source[:2]
    for data, message in (('"a" = "b"\n"c" = "d";', 'line 2: this is not .strings; found "c" = "d";'), (b"bplist00", "a compiled list"), ("=", "line 1")):
        with pytest.raises(BadInput, match=message):
            through("strings", data)
    with pytest.raises(BadInput, match=r"de.lproj: this is translated from another language; found de"):
        through("strings", '"a" = "b";', name="de.lproj/Localizable.strings")
    assert through("strings", '"a" = "b";', name="Base.lproj/Localizable.strings")[1].units


def _catalogue(strings: dict[str, object], **layout: Any) -> str:
    return json.dumps({"sourceLanguage": "en", "strings": strings, "version": "1.0"}, ensure_ascii=False, **layout)


def test_string_catalogues() -> None:
    unit = {"stringUnit": {"state": "translated", "value": "Hi"}}
    strings: dict[str, object] = {
        "a": {"localizations": {"en": unit, "is": {"stringUnit": {"state": "needs_review", "value": "hæ"}}}},
        "b": {"localizations": {"en": unit, "sv": unit}}, "c d": {"comment": "x"}, "e": {"extractionState": "stale"}, "f": {"shouldTranslate": False}, "g": {},
        "h": {"localizations": {"en": {"variations": {"device": {"mac": unit}}}}},
    }  # fmt: skip
    for layout in ({"indent": 2, "separators": (",", " : ")}, {"separators": (",", ":")}, {}):
        output, visitor = through("xcstrings", _catalogue(strings, **layout))
        result = json.loads(output)["strings"]
        machine = [{"stringUnit": {"state": "needs_review", "value": text}} for text in ("HI", "C D", "G")]
        assert [result[key]["localizations"]["is"] for key in ("b", "c d", "g")] == machine and list(result["b"]["localizations"]) == ["en", "is", "sv"]
        assert all(result[key] == strings[key] for key in "aefh") and visitor.texts == ["Hi", "Hi", "c d", "g"]
        assert visitor.messages[0].endswith("variations by device and substitutions stay") and through("xcstrings", output)[0] == output
        assert through("xcstrings", _catalogue(strings, **layout), nothing)[0].decode() == _catalogue(strings, **layout)
    assert list(json.loads(through("xcstrings", _catalogue(strings), pair="en-de")[0])["strings"]["b"]["localizations"]) == ["de", "en", "sv"]
    with pytest.raises(BadInput, match="sourceLanguage: this is translated from another language; found en; valid: de"):
        through("xcstrings", _catalogue(strings), pair="de-is")
    with pytest.raises(BadInput, match=r"this is not \.xcstrings"):
        through("xcstrings", "{}")


def test_plurals_of_string_catalogues() -> None:
    forms = {name: {"stringUnit": {"state": "translated", "value": text}} for name, text in (("one", "%d day"), ("other", "%d days"))}
    source = _catalogue({"x": {"localizations": {"en": {"variations": {"plural": forms}}}}}, indent=2)
    output, visitor = through("xcstrings", source, pair="en-pl")
    made = json.loads(output)["strings"]["x"]["localizations"]["pl"]["variations"]["plural"]
    assert {name: form["stringUnit"]["value"] for name, form in made.items()} == {"one": "%d DAY", "few": "%d DAYS", "many": "%d DAYS", "other": "%d DAYS"}
    again, visitor = through("xcstrings", output, pair="en-pl")
    assert again == output and not visitor.units


# (format, file): a file that says it is German, to be translated from English.
GERMAN = [
    ("json", '{"@@locale": "de", "a": "b"}'),
    ("json", '{"locale": "de_AT", "translations": {"a": "b"}}'),
    ("json", '{"de": {"a": "b", "c": "d"}}'),
    ("yaml", "de:\n  a: b\n"),
    ("qt", '<TS sourcelanguage="de" language="is"><context><message><source>a</source></message></context></TS>'),
    ("qt", '<TS sourcelanguage="en" language="de"><context><message><source>a</source></message></context></TS>'),
    ("android", '<resources><string name="a">b</string></resources>'),
]


@pytest.mark.parametrize(("format", "source"), GERMAN)
def test_another_language_is_refused(format: str, source: str) -> None:
    name = "res/values-de/strings.xml" if format == "android" else ""
    with pytest.raises(BadInput, match=r"another language; found (values-)?de.*; valid: (en|is); --force fills"):
        through(format, source, name=name, force_hint="; --force fills it all the same")
    output, visitor = through(format, source, name=name, force=True)
    assert visitor.units and output != source.encode()
    # What it says is true, of the texts that are read or of the file that is made.
    for pair in ("de-is", "en-de"):
        if format != "qt":
            assert through(format, source, name=name, pair=pair)[1].units


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("i18n/de.json", True), ("messages.de.json", True), ("app_de_AT.json", True), ("en.json", False), ("is.json", False), ("en-GB.json", False),
        ("messages.json", False), ("user_no.json", False), ("ok.json", False), ("a.min.json", False), ("de/common.json", False), ("", False),
    ],
)  # fmt: skip
def test_names_of_files(name: str, refused: bool) -> None:
    if refused:
        with pytest.raises(BadInput, match="the file's name: this is translated from another language; found de"):
            through("json", '{"a": "b"}', name=name)
    through("json", '{"a": "b"}', name=name, force=refused)
