"""Android, .resx and Qt: right values of each. A pass that writes in capitals, and one that repeats its input."""

from __future__ import annotations

import pytest

from serve.formats.units import Replacement
from tell.errors import BadInput, CorpusError
from tests.support.formats_fixture import loud, nothing, same, through

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
# What is in <resources> to (pair, texts, what comes out, what is said).
ANDROID: dict[str, tuple[str, str, list[str], str, list[str]]] = {
    "strings that stay": (
        '<!-- a --><string name="a" translatable="false">b</string>\n<string name="c">@string/a</string><string name="d"/><integer name="e">1</integer>',
        "en-is",
        [],
        '<!-- a --><string name="a" translatable="false">b</string>\n<string name="c">@string/a</string><string name="d"/><integer name="e">1</integer>',
        [],
    ),
    "escapes": (
        r"""<string name="a">Don\'t \"go\"\n\u00e1 \@home \\ &amp; &lt;b&gt; &#160;x\u0020</string><string name="b">\@b</string>""",
        "en-is",
        ['Don\'t "go"\ná @home \\ & <b> \xa0x ', "@b"],
        r"""<string name="a">DON\'T \"GO\"\nÁ @HOME \\ &amp; &lt;b&gt; &#160;X\u0020</string><string name="b">\@B</string>""",
        [],
    ),
    "white space and quotes": (
        '<string name="a">\n    one\n    two   three\n  </string><string name="b">"it\'s  two "</string>',
        "en-is",
        ["one two three", "it's  two "],
        '<string name="a">\n    ONE TWO THREE\n  </string><string name="b">"IT\'S  TWO "</string>',
        [],
    ),
    "tags inside": (
        '<string name="a">Hi <b>you</b>, it\\\'s <xliff:g id="n" example="3">%1$s</xliff:g> o\\\'clock</string>',
        "en-is",
        ["Hi <x1>you</x1>, it's <x5/> o'clock"],
        '<string name="a">HI <b>YOU</b>, IT\\\'S <xliff:g id="n" example="3">%1$s</xliff:g> O\\\'CLOCK</string>',
        [],
    ),
    "CDATA": (
        '<string name="a"><![CDATA[<b>Hi</b> & it\\\'s]]></string>',
        "en-is",
        ["<b>Hi</b> & it's"],
        '<string name="a"><![CDATA[<b>HI</b> & IT\\\'S]]></string>',
        [],
    ),
    "surrogates, controls, quotes and comments": (
        r'<string name="a">\ud83d\ude00 x \u0007</string><string name="b">\ud83d y</string><string name="c">one "two"<!-- z --> three</string>',
        "en-is",
        ["\U0001f600 x \x07", "one two<x1/> three"],
        r'<string name="a">' + "\U0001f600" + r' X \u0007</string><string name="b">\ud83d y</string><string name="c">ONE TWO<!-- z --> THREE</string>',
        ["bad string b: half a character (a lone surrogate)"],
    ),
    "a string by its type": (
        '<item type="string" name="a">b</item><item type="id" name="c">d</item>',
        "en-is",
        ["b"],
        '<item type="string" name="a">B</item><item type="id" name="c">d</item>',
        [],
    ),
    "arrays": (
        '<string-array name="a">\n  <item>b</item>\n  <!-- c --><item>d</item></string-array>',
        "en-is",
        ["b", "d"],
        '<string-array name="a">\n  <item>B</item>\n  <!-- c --><item>D</item></string-array>',
        [],
    ),
    "plurals": (
        '<plurals name="a">\n  <item quantity="one">%d day</item>\n  <item quantity="other">%d days</item>\n</plurals>',
        "en-pl",
        ["%d day", "%d days", "%d days", "%d days"],
        '<plurals name="a">\n  <item quantity="one">%d DAY</item>\n  <item quantity="few">%d DAYS</item>\n  <item quantity="many">%d DAYS</item>\n'
        '  <item quantity="other">%d DAYS</item>\n</plurals>',
        [],
    ),
    "fewer plurals, in the order that they have": (
        '<plurals name="a"><item quantity="other">%d days</item><!-- c --><item quantity="one">a day</item></plurals>',
        "en-ja",
        ["%d days"],
        '<plurals name="a"><item quantity="other">%d DAYS</item></plurals>',
        [],
    ),
    "plurals in another order": (
        '<plurals name="a"><item quantity="other">%d days</item><!-- c --><item quantity="one">%d day</item></plurals>',
        "en-de",
        ["%d days", "%d day"],
        '<plurals name="a"><item quantity="other">%d DAYS</item><!-- c --><item quantity="one">%d DAY</item></plurals>',
        [],
    ),
}


@pytest.mark.parametrize("name", ANDROID)
def test_android(name: str) -> None:
    body, pair, texts, expected, messages = ANDROID[name]
    whole = HEAD + '<resources xmlns:xliff="urn:oasis:names:tc:xliff:document:1.2">\r\n{}</resources>\n'
    output, visitor = through("android", whole.format(body), loud, pair=pair)
    assert (visitor.texts, output.decode(), visitor.messages) == (texts, whole.format(expected), messages)
    for answer in (nothing, same):
        assert through("android", whole.format(body), answer, pair="en-de")[0].decode() in (whole.format(body), whole.format(body))


def test_the_language_of_android_resources() -> None:
    tag = '<resources xmlns:tools="http://schemas.android.com/tools" tools:locale="{}"><string name="a">b</string></resources>'
    for old, new in (("en", "is"), ("en-US", "is"), ("is", "is")):
        assert through("android", tag.format(old))[0].decode() == tag.format(new).replace(">b<", ">B<")
    with pytest.raises(CorpusError, match="tools:locale: this is translated from another language; found de"):
        through("android", tag.format("de"))


RESX = {
    '<data name="a"><value>&#35;1 &quot;it&#39;s&quot; &#34;59&#34;</value></data>': (
        ['#1 "it\'s" "59"'],
        '<data name="a"><value>&#35;1 &quot;IT&#39;S&quot; &quot;59&quot;</value></data>',
    ),
    '<data name="a" type="System.String, mscorlib"><value>b</value></data>': (["b"], '<data name="a" type="System.String, mscorlib"><value>B</value></data>'),
    '<data name="a" xml:space="preserve">\r\n    <value>Hi {0}</value>\r\n    <comment>c</comment>\r\n  </data>': (
        ["Hi {0}"],
        '<data name="a" xml:space="preserve">\r\n    <value>HI {0}</value>\r\n    <comment>c</comment>\r\n  </data>',
    ),
    '<resheader name="version"><value>two</value></resheader><data name="i" type="System.Drawing.Bitmap" mimetype="x/y"><value>AA</value></data>'
    '<data name="&gt;&gt;b.Name"><value>b</value></data><metadata name="m"><value>c</value></metadata>': ([], ""),
    '<data name="a"><value>one\r\ntwo &amp; "three" &quot;</value></data>': (
        ['one\ntwo & "three" "'],
        '<data name="a"><value>ONE\r\nTWO &amp; &quot;THREE&quot; &quot;</value></data>',
    ),
}


@pytest.mark.parametrize("body", RESX)
def test_resx(body: str) -> None:
    texts, expected = RESX[body]
    output, visitor = through("resx", HEAD + f"<root>{body}</root>")
    assert (visitor.texts, output.decode(), visitor.messages) == (texts, HEAD + f"<root>{expected or body}</root>", [])
    assert through("resx", HEAD + f"<root>{body}</root>", same)[0].decode() == HEAD + f"<root>{body}</root>"


TS = HEAD + '<!DOCTYPE TS>\n<TS version="2.1" language="{}" sourcelanguage="en">\n<context>\n    <name>Main</name>\n{}\n</context>\n</TS>\n'
QT = {
    "an open message": (
        "en-is",
        '<message>\n        <location filename="a.cpp" line="1"/>\n        <source>Open &amp;file</source>\n        <comment>c</comment>\n'
        '        <translation type="unfinished"></translation>\n    </message>',
        ["Open &file"],
        '<message>\n        <location filename="a.cpp" line="1"/>\n        <source>Open &amp;file</source>\n        <comment>c</comment>\n'
        '        <translation type="unfinished">OPEN &amp;FILE</translation>\n    </message>',
    ),
    "translations that stay": (
        "en-is",
        '<message><source>a</source><translation>b</translation></message><message><source>a</source><translation type="vanished"></translation></message>'
        '<message><source>a</source><translation type="unfinished">c</translation></message>',
        ["a", "a"],
        "",
    ),
    "forms of a number": (
        "en-pl",
        '<message numerus="yes">\n        <source>%n file(s)</source>\n        <translation type="unfinished">\n            <numerusform></numerusform>\n'
        "        </translation>\n    </message>",
        ["%n file(s)"],
        '<message numerus="yes">\n        <source>%n file(s)</source>\n        <translation type="unfinished">\n'
        + 3 * "            <numerusform>%N FILE(S)</numerusform>\n"
        + "        </translation>\n    </message>",
    ),
    "no translation, and bytes": (
        "en-is",
        '<message><source>a<byte value="x9"/>b</source></message><message><source>c</source><translation/></message>',
        ["a<x1/>b", "c"],
        '<message><source>a<byte value="x9"/>b</source><translation type="unfinished">A<byte value="x9"/>B</translation></message>'
        '<message><source>c</source><translation type="unfinished">C</translation></message>',
    ),
}


@pytest.mark.parametrize("name", QT)
def test_qt(name: str) -> None:
    pair, body, texts, expected = QT[name]
    target = pair.rpartition("-")[2]
    output, visitor = through("qt", TS.format(target, body), pair=pair)
    assert (visitor.texts, output.decode().replace("%N", "%n"), visitor.messages) == (texts, TS.format(target, expected or body).replace("%N", "%n"), [])
    assert through("qt", TS.format(target, body), nothing, pair=pair)[0].decode() == TS.format(target, body)
    assert through("qt", output, loud, pair=pair)[0] == output


def test_languages_of_qt() -> None:
    message = '<TS><context><message numerus="yes"><source>a</source><translation type="unfinished"><numerusform/></translation></message></context></TS>'
    # As Qt's own table has them, where gettext's has more or fewer.
    for pair, count in {"en-hu": 1, "en-tr": 1, "en-ga": 3, "en-mk": 3, "en-ca": 3, "en-fil": 3, "en-mt": 4, "en-cy": 5, "en-is": 2, "en-ar": 6}.items():
        assert through("qt", message, pair=pair)[0].count(b"<numerusform>A</numerusform>") == count, pair
    lengths = '<TS><context><message><source>a</source><translation type="unfinished"><lengthvariant/></translation></message></context></TS>'
    assert through("qt", lengths)[1].messages == ["warn message 1: a translation in several lengths stays empty"]
    assert b'<TS language="pt_BR">' in through("qt", "<TS></TS>", pair="en:pt-BR")[0]
    assert b'language="is"' in through("qt", '<TS language="en_US"/>', pair="en-is")[0]
    assert b'language="is"' in through("qt", '<TS language="" sourcelanguage="en"/>')[0]


STRINGSDICT = (
    '<plist version="1.0">\n<dict>\n  <key>n files</key>\n  <dict>\n    <key>NSStringLocalizedFormatKey</key>\n    <string>You have %#@files@</string>\n'
    "    <key>files</key>\n    <dict>\n      <key>NSStringFormatSpecTypeKey</key>\n      <string>NSStringPluralRuleType</string>\n"
    "      <key>NSStringFormatValueTypeKey</key>\n      <string>d</string>\n{}    </dict>\n  </dict>\n</dict>\n</plist>\n"
)


def _forms(**texts: str) -> str:
    return "".join(f"      <key>{name}</key>\n      <string>{text}</string>\n" for name, text in texts.items())


@pytest.mark.parametrize(
    ("pair", "texts", "expected"),
    [
        ("en-de", ["%d file", "%d &amp; files"], {"one": "%d FILE", "other": "%d &amp; FILES"}),
        ("en-pl", ["%d file", *["%d &amp; files"] * 3], {"one": "%d FILE", "few": "%d &amp; FILES", "many": "%d &amp; FILES", "other": "%d &amp; FILES"}),
        ("en-ja", ["%d &amp; files"], {"other": "%d &amp; FILES"}),
    ],
)
def test_stringsdict(pair: str, texts: list[str], expected: dict[str, str]) -> None:
    source = HEAD + STRINGSDICT.format(_forms(one="%d file", other="%d &amp; files"))
    output, visitor = through("stringsdict", source, pair=pair)
    assert visitor.texts[-len(texts) :] == [t.replace("&amp;", "&") for t in texts] and not visitor.messages
    changed = HEAD + STRINGSDICT.replace("You have", "YOU HAVE").format(_forms(**expected))
    assert output.decode().replace("%#@FILES@", "%#@files@") == changed
    assert through("stringsdict", source, same, pair=None)[0].decode() == source


def test_stringsdict_for_devices_and_widths() -> None:
    rows = "<key>{}</key><dict><key>{}</key><string>a</string><key>{}</key><dict><key>NSStringLocalizedFormatKey</key><string>b %#@n@</string></dict></dict>"
    widths, devices = rows.format("NSStringVariableWidthRuleType", 20, 50), rows.format("NSStringDeviceSpecificRuleType", "mac", "other")
    source = f"<plist><dict><key>k</key><dict>{widths}{devices}</dict></dict></plist>"
    output, visitor = through("stringsdict", source)
    assert output.decode() == source.replace(">a<", ">A<").replace(">b ", ">B ") and visitor.texts == ["a", "b %#@n@"] * 2


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        ("android", "<manifest/>", "this XML is no Android strings.xml; found <manifest>"),
        ("resx", "<resources/>", "this is not .resx; found <resources>"),
        ("qt", "export const a = 1;\n", "line 1: this is not Qt's .ts; found no XML; perhaps TypeScript; valid: <TS>; --format text"),
        ("stringsdict", "<resources/>", "this is not .stringsdict; found <resources>"),
        ("qt", "<resources/>", "this is not Qt's .ts; found <resources>"),
        ("android", '<!DOCTYPE resources [<!ENTITY a "b">]><resources/>', "the XML defines entities"),
    ],
)
def test_what_cannot_be_read(format: str, data: str, message: str) -> None:
    with pytest.raises(BadInput) as e:
        through(format, data)
    assert message in str(e.value)


def test_cdata_takes_what_xml_may_hold() -> None:
    output, _ = through("android", '<resources><string name="a"><![CDATA[b]]></string></resources>', lambda unit: Replacement("c\x07]]>d"))
    assert output == b'<resources><string name="a"><![CDATA[c\\u0007]]]]><![CDATA[>d]]></string></resources>'
