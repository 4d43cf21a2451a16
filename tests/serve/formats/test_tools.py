"""Catalogues as real tools write them: an engine that repeats its input changes nothing but what is said beside each file."""

from __future__ import annotations

import pytest

from tests.support.formats_fixture import same, through

MT = 'state="needs-review-translation" state-qualifier="mt-suggestion"'
NS = 'xmlns="urn:oasis:names:tc:xliff:document:1.2"'
# Format, file, and what changes in it, in order.
FILES: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "Weblate's PO": ("po", r"""# Icelandic translations for menu.
msgid ""
msgstr ""
"Project-Id-Version: menu 2\n"
"Language-Team: Icelandic <https://hosted.weblate.org/projects/menu/is/>\n"
"Language: is\n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Content-Transfer-Encoding: 8bit\n"
"Plural-Forms: nplurals=2; plural=n % 10 != 1 || n % 100 == 11;\n"
"X-Generator: Weblate 5.4\n"

#. Translators: shown first
#: ../src/a.c:1 ../src/b.c:22
#, c-format
msgid "%d page"
msgid_plural "%d pages"
msgstr[0] ""
msgstr[1] ""

#: ../src/a.c:9
#, fuzzy, c-format
#| msgid "Open %s"
msgid "Open the %s"
msgstr "Opna %s"

msgctxt "menu|File"
msgid "Quit"
msgstr ""

#~| msgid "Old"
#~ msgid "Older"
#~ msgstr "Eldra"
""", [("#, c-format\nmsgid", "#, fuzzy, c-format\nmsgid"), ('[0] ""', '[0] "%d page"'), ('[1] ""', '[1] "%d pages"'),
        ("\nmsgctxt", "\n#, fuzzy\nmsgctxt"), ('"Quit"\nmsgstr ""', '"Quit"\nmsgstr "Quit"')]),
    "Poedit's PO": ("po", '\ufeffmsgid ""\r\nmsgstr ""\r\n"POT-Creation-Date: 2020-01-01 10:00+0000\\n"\r\n"Language: is_IS\\n"\r\n'
        '"Content-Type: text/plain; charset=UTF-8\\n"\r\n"X-Generator: Poedit 3.4\\n"\r\n"X-Poedit-Basepath: ..\\n"\r\n'
        '"X-Poedit-KeywordsList: _;ngettext:1,2;pgettext:1c,2\\n"\r\n"X-Poedit-SearchPath-0: .\\n"\r\n\r\n#: a.php:1\r\nmsgid ""\r\n"Two "\r\n"lines"\r\n'
        'msgstr ""\r\n', [("#: a.php:1\r\n", "#: a.php:1\r\n#, fuzzy\r\n"), ('"lines"\r\nmsgstr ""', '"lines"\r\nmsgstr "Two lines"')]),
    "Django's PO": ("po", r"""# SOME DESCRIPTIVE TITLE.
#, fuzzy
msgid ""
msgstr ""
"Project-Id-Version: PACKAGE VERSION\n"
"Report-Msgid-Bugs-To: \n"
"Language-Team: LANGUAGE <LL@li.org>\n"
"Language: \n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Content-Transfer-Encoding: 8bit\n"

#: templates/a.html:3
#, python-format
msgid "Hello %(name)s"
msgstr ""
""", [("#, fuzzy\n", ""), ("Language: \\n", "Language: is\\n"), ("#, python", "#, fuzzy, python"), ('msgstr ""\n$', 'msgstr "Hello %(name)s"\n')]),
    "GlotPress's PO": ("po", r"""# Translation of Plugins in Icelandic
msgid ""
msgstr ""
"PO-Revision-Date: 2024-01-01 10:00:00+0000\n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=n % 10 != 1 || n % 100 == 11;\n"
"X-Generator: GlotPress/4.0.1\n"
"Language: is\n"
"Project-Id-Version: Plugins\n"

#. translators: %s: name.
#: inc/a.php:12
msgctxt "noun"
msgid "Post"
msgstr ""
""", [("\nmsgctxt", "\n#, fuzzy\nmsgctxt"), ('msgstr ""\n$', 'msgstr "Post"\n')]),
    "Xcode's XLIFF": ("xliff", f"""<?xml version="1.0" encoding="UTF-8"?>
<xliff {NS} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" version="1.2" xsi:schemaLocation="urn:oasis:names:tc:xliff:document:1.2 x.xsd">
  <file original="App/is.lproj/Localizable.strings" source-language="en" target-language="is" datatype="plaintext">
    <header>
      <tool tool-id="com.apple.dt.xcode" tool-name="Xcode" tool-version="15.0" build-num="15A240d"/>
    </header>
    <body>
      <trans-unit id="greeting" xml:space="preserve">
        <source>Hello %@</source>
        <note>No comment provided by engineer.</note>
      </trans-unit>
      <trans-unit id="done" xml:space="preserve">
        <source>Done</source>
        <target>Búið</target>
        <note/>
      </trans-unit>
    </body>
  </file>
</xliff>
""", [("%@</source>\n", f"%@</source>\n        <target {MT}>Hello %@</target>\n")]),
    "Angular's XLIFF": ("xliff", f"""<?xml version="1.0" encoding="UTF-8" ?>
<xliff version="1.2" {NS}>
  <file source-language="en-US" datatype="plaintext" original="ng2.template">
    <body>
      <trans-unit id="123" datatype="html">
        <source>Hi <x id="INTERPOLATION" equiv-text="{{{{name}}}}"/>, <x id="START_BOLD" ctype="x-b"/>now<x id="CLOSE_BOLD"/></source>
        <context-group purpose="location">
          <context context-type="sourcefile">app.html</context>
        </context-group>
      </trans-unit>
    </body>
  </file>
</xliff>""", [('original="ng2.template"', 'original="ng2.template" target-language="is"'), ("</source>\n", f"""</source>
        <target {MT}>Hi <x id="INTERPOLATION" equiv-text="{{{{name}}}}"/>, <x id="START_BOLD" ctype="x-b"/>now<x id="CLOSE_BOLD"/></target>
""")]),
    "Angular's XLIFF 2": ("xliff", """<?xml version="1.0" encoding="UTF-8" ?>
<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en-US">
  <file id="ngi18n" original="ng.template">
    <unit id="123">
      <notes><note category="location">app.html:1,3</note></notes>
      <segment>
        <source>Hi <ph id="0" equiv="INTERPOLATION" disp="{{name}}"/> and <pc id="1" dispStart="&lt;b&gt;" dispEnd="&lt;/b&gt;">all</pc></source>
      </segment>
    </unit>
  </file>
</xliff>
""", [('srcLang="en-US"', 'srcLang="en-US" trgLang="is"'), ("<segment>", '<segment state="translated" subState="tellmt:mt">'), ("</source>\n", """</source>
        <target>Hi <ph id="0" equiv="INTERPOLATION" disp="{{name}}"/> and <pc id="1" dispStart="&lt;b&gt;" dispEnd="&lt;/b&gt;">all</pc></target>
""")]),
    "Symfony's XLIFF": ("xliff", f"""<?xml version="1.0" encoding="utf-8"?>
<xliff {NS} version="1.2">
  <file source-language="en" target-language="is" datatype="plaintext" original="file.ext">
    <header><tool tool-id="symfony" tool-name="Symfony"/></header>
    <body>
      <trans-unit id="UBAzUOk" resname="a.b">
        <source><![CDATA[Read <b>this</b> & that]]></source>
        <target></target>
      </trans-unit>
    </body>
  </file>
</xliff>
""", [("<target></target>", f"<target {MT}><![CDATA[Read <b>this</b> & that]]></target>")]),
    "Okapi's XLIFF": ("xliff", f"""<?xml version="1.0" encoding="UTF-8"?>
<xliff version="1.2" {NS} xmlns:okp="okapi-framework:xliff-extensions" xmlns:its="http://www.w3.org/2005/11/its" its:version="2.0">
<file original="a.html" source-language="en-us" target-language="is-is" datatype="html" okp:inputEncoding="UTF-8">
<body>
<trans-unit id="tu1">
<source xml:lang="en-us">One. <g id="1">Two</g>.</source>
<seg-source><mrk mid="0" mtype="seg">One.</mrk> <mrk mid="1" mtype="seg"><g id="1">Two</g>.</mrk></seg-source>
<target xml:lang="is-is"><mrk mid="0" mtype="seg">Eitt.</mrk> <mrk mid="1" mtype="seg"></mrk></target>
<alt-trans match-quality="70" origin="memory"><source>One</source><target>Einn</target></alt-trans>
</trans-unit>
</body></file></xliff>
""", [('<target xml:lang="is-is">', f'<target xml:lang="is-is" {MT}>'), ('"seg"></mrk></target>', '"seg"><g id="1">Two</g>.</mrk></target>')]),
    "memoQ's XLIFF": ("xliff", f"""<?xml version="1.0" encoding="UTF-8"?>\r
<xliff version="1.2" {NS} xmlns:mq="MQXliff">\r
<file original="a.docx" source-language="en" target-language="is" datatype="x-docx">\r
<body>\r
<trans-unit id="1" mq:status="NotStarted" mq:segmentguid="a-b">\r
<source xml:space="preserve">A <bpt id="1" ctype="bold">{{}}</bpt>big<ept id="1">{{}}</ept> dog.</source>\r
<target xml:space="preserve"></target>\r
<mq:minorversions><mq:historical-unit><target>x</target></mq:historical-unit></mq:minorversions>\r
</trans-unit>\r
<trans-unit id="2" mq:status="ManuallyConfirmed"><source>Yes</source><target>Já</target></trans-unit>\r
</body></file></xliff>\r
""", [('<target xml:space="preserve"></target>',
        f'<target xml:space="preserve" {MT}>A <bpt id="1" ctype="bold">{{}}</bpt>big<ept id="1">{{}}</ept> dog.</target>')]),
    "Trados' XLIFF": ("xliff", f"""\ufeff<?xml version="1.0" encoding="utf-8"?><xliff xmlns:sdl="http://sdl.com/FileTypes/SdlXliff/1.0" {NS} version="1.2"\
 sdl:version="1.0"><file original="a.docx" datatype="x-sdlfilterframework2" source-language="en-US" target-language="is-IS"><header><file-info xmlns="http://sdl.com/x"/></header>\
<body><trans-unit translate="no" id="0"><source><x id="0"/></source></trans-unit><trans-unit id="8d"><source><g id="4">One. Two.</g></source>\
<seg-source><g id="4"><mrk mtype="seg" mid="1">One.</mrk> <mrk mtype="seg" mid="2">Two.</mrk></g></seg-source>\
<target><g id="4"><mrk mtype="seg" mid="1">Eitt.</mrk> <mrk mtype="seg" mid="2" /></g></target>\
<sdl:seg-defs><sdl:seg id="1" conf="Translated"/><sdl:seg id="2"/></sdl:seg-defs></trans-unit></body></file></xliff>""",
        [("<target>", f"<target {MT}>"), ('<mrk mtype="seg" mid="2" /></g></target>', '<mrk mtype="seg" mid="2">Two.</mrk></g></target>')]),
    "Phrase's XLIFF": ("xliff", f"""<?xml version="1.0" encoding="UTF-8"?>
<xliff {NS} xmlns:m="http://www.memsource.com/mxlf/2.0" version="1.2" m:version="2.4">
<file original="a.txt" source-language="en" target-language="is" datatype="x-plaintext"><body>
<group id="0"><trans-unit id="x:0" m:confirmed="0" m:locked="false"><source>One {{1}}two</source><target></target></trans-unit></group>
<group id="1"><trans-unit id="x:1" m:confirmed="0" m:locked="true"><source>Two</source><target></target></trans-unit></group>
</body></file></xliff>
""", [("<target></target>", f"<target {MT}>One {{1}}two</target>")]),
    "OmegaT's TMX": ("tmx", """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx11.dtd">
<tmx version="1.1">
  <header creationtool="OmegaT" o-tmf="OmegaT TMX" adminlang="EN-US" datatype="plaintext" creationtoolversion="6.0" segtype="sentence" srclang="EN-US"/>
  <body>
    <tu>
      <note>x</note>
      <tuv lang="EN-US" changeid="me" changedate="20240101T100000Z">
        <seg>A &lt;f0&gt;big&lt;/f0&gt; dog &amp; cat</seg>
      </tuv>
    </tu>
    <tu>
      <tuv lang="EN-US"><seg>Yes</seg></tuv>
      <tuv lang="IS"><seg>Já</seg></tuv>
    </tu>
  </body>
</tmx>
""", [("      </tuv>\n    </tu>", """      </tuv>
      <tuv lang="is" creationid="tellmt"><seg>A &lt;f0&gt;big&lt;/f0&gt; dog &amp; cat</seg></tuv>
    </tu>""")]),
    "Trados' TMX": ("tmx", """\ufeff<?xml version="1.0" encoding="utf-16"?>\r
<tmx version="1.4">\r
<header creationtool="SDL Language Platform" srclang="en-US" datatype="xml"><prop type="x-Recognizers">RecognizeAll</prop></header>\r
<body>\r
<tu creationid="me"><prop type="x-LastUsedBy">me</prop>\r
<tuv xml:lang="en-US"><seg>A <bpt i="1" type="2" x="1" />big<ept i="1" /> <ph x="2" type="7" />dog.</seg></tuv>\r
<tuv xml:lang="de-DE"><seg>Ein Hund.</seg></tuv>\r
</tu></body></tmx>\r
""", [('dog.</seg></tuv>\r\n',
        'dog.</seg></tuv>\r\n<tuv xml:lang="is" creationid="tellmt"><seg>A <bpt i="1" type="2" x="1" />big<ept i="1" /> '
        '<ph x="2" type="7" />dog.</seg></tuv>\r\n')]),
}  # fmt: skip


def changed(text: str, changes: list[tuple[str, str]]) -> str:
    """The text with each change at the first place after the one before it; `$` at the end stands for the end of the text."""
    position = 0
    for old, new in changes:
        old, end = old.removesuffix("$"), old.endswith("$")
        position = text.rindex(old) if end else text.index(old, position)
        text = text[:position] + new + text[position + len(old) :]
        position += len(new)
    return text


@pytest.mark.parametrize("name", FILES)
def test_an_engine_that_repeats_its_input(name: str) -> None:
    format, text, changes = FILES[name]
    encoding = "utf-16-le" if "utf-16" in text else "utf-8"
    output, visitor = through(format, text.encode(encoding), same)
    assert output.decode(encoding) == changed(text, changes) and not [m for m in visitor.messages if not m.startswith("warn header: no charset")]
    # Nothing is left to fill.
    assert through(format, output, same)[0] == output
