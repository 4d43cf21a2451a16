"""Formats of files: golden files in and out, everything but the units byte for byte, and what is refused. No engine: a pass that writes in capitals."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from serve.formats import FORMATS, check_start, format_of
from serve.formats.inline_tags import Piece, line_of
from serve.formats.subtitles import broken
from serve.formats.units import OWN, UNBOUNDED, UPLOADED, Bounds
from tell.errors import BadInput, TooLarge
from tests.conftest import ROOT
from tests.support.formats_fixture import RecordingVisitor, loud, members, nothing, same, through

GOLDEN = ROOT / "tests" / "golden" / "files"
FILES = sorted(p.name for p in GOLDEN.iterdir() if p.is_file())
# Options that a file needs.
OPTIONS: dict[str, dict[str, Any]] = {"table.tsv": {"into": "is"}}
# A translation goes beside its source there, so that one that equals it changes the file.
BESIDE = {"menu.po", "Localizable.xcstrings", "pool_is.ts", "memory.tmx", "segments.xlf", "units2.xlf", "table.tsv"}


def test_there_is_a_golden_file_of_every_format() -> None:
    assert {format_of(name).name for name in FILES} == set(FORMATS)


@pytest.mark.parametrize("name", FILES)
def test_golden(name: str) -> None:
    raw, options = (GOLDEN / name).read_bytes(), OPTIONS.get(name, {})
    format = format_of(name)
    check_start(format, raw[:8])
    assert through(format.name, raw, nothing, pair=None if format.name == "xliff" else "en-is", **options)[0] == raw, "nothing is translated"
    output = through(format.name, raw, same, **options)[0]
    assert output == raw or name in BESIDE, "an engine that repeats its input"
    output, visitor = through(format.name, raw, loud, **options)
    expected = (GOLDEN / "translated" / name).read_bytes()
    assert (members(output) == members(expected)) if format.zipped else (output == expected)
    assert visitor.units and not [s for s in visitor.messages if s.startswith("bad")]
    # What is translated is not translated again.
    if name in BESIDE:
        assert through(format.name, output, loud, **options)[0] == output


@pytest.mark.skipif(not shutil.which("msgfmt"), reason="gettext is not installed (apt-get install gettext)")
def test_msgfmt_accepts_the_po(tmp_path: Path) -> None:
    po = GOLDEN / "translated" / "menu.po"
    for args in (["-c"], ["-c", "--use-fuzzy"]):
        checked = subprocess.run(["msgfmt", *args, "-o", str(tmp_path / "menu.mo"), str(po)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0 and not checked.stderr, checked.stderr
    import gettext

    with (tmp_path / "menu.mo").open("rb") as f:
        catalogue = gettext.GNUTranslations(f)
    assert catalogue.ngettext("%d letter", "%d letters", 21) == "%d LETTER" and catalogue.ngettext("%d letter", "%d letters", 2) == "%d LETTERS"
    assert catalogue.pgettext("month", "May") == "MAY"


def test_other_readers_read_what_is_written() -> None:
    import polib
    import pysubs2
    from lxml import etree
    from openpyxl import load_workbook

    translated = GOLDEN / "translated"
    po = polib.pofile(str(translated / "menu.po"))
    assert len(po.fuzzy_entries()) == len(po) == 6 and all(e.msgstr or e.msgstr_plural for e in po)
    subtitles = [pysubs2.load(str(folder / name)) for folder in (GOLDEN, translated) for name in ("film.srt", "film.vtt")]
    assert [[(e.start, e.end) for e in s] for s in subtitles[:2]] == [[(e.start, e.end) for e in s] for s in subtitles[2:]]
    for name in ("segments.xlf", "units2.xlf", "memory.tmx"):
        etree.parse(str(translated / name), etree.XMLParser(load_dtd=False, no_network=True))
    sheet = load_workbook(translated / "prices.xlsx", rich_text=True).active
    assert [str(c.value) for row in sheet.iter_rows() for c in row] == [
        "THING", "PRICE OF IT", "A VERY WARM SWEATER", "12000", "WOOLLEN SOCKS & GLOVES", "=B2*2",
    ]  # fmt: skip
    assert sheet["A2"].value[1].font.b


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed (apt-get install libreoffice-writer-nogui)")
def test_libreoffice_opens_the_document(tmp_path: Path) -> None:
    command = ["soffice", f"-env:UserInstallation=file://{tmp_path}/profile", "--headless", "--convert-to", "txt:Text (encoded):UTF8"]
    subprocess.run([*command, "--outdir", str(tmp_path), str(GOLDEN / "translated" / "letter.docx")], check=True, capture_output=True, timeout=120)
    text = (tmp_path / "letter.txt").read_text(encoding="utf-8-sig")
    for sentence in ("THE POOL WAS OPENED IN 1958 AND IS STILL THE WARMEST", "TO 22:00, BUT NOT ON HOLIDAYS", "SECOND LINE OF IT", "42 & A SIGN <here>"):
        assert sentence in text


def _docx(body: str) -> bytes:
    """A document of these paragraphs."""
    out = io.BytesIO()
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", f'<?xml version="1.0"?>\r\n<w:document {space}><w:body>{body}</w:body></w:document>')
    return out.getvalue()


RUN = "<w:r><w:rPr>{}</w:rPr><w:t>{}</w:t></w:r>"
DOCX = {
    "runs that look alike are one text": (
        "<w:p>" + RUN.format('<w:lang w:val="en"/>', "Hel") + '<w:proofErr w:type="spellStart"/>' + RUN.format("", "lo world") + "</w:p>",
        ["Hello world"], "HELLO WORLD",
    ),
    "formatting in the middle": (
        "<w:p>" + RUN.format("", "All of it is ") + RUN.format("<w:b/>", "bold") + RUN.format("", " here") + "</w:p>",
        ["All of it is <x1>bold</x1> here"], "ALL OF IT IS BOLD HERE",
    ),
    "a bookmark in a word": (
        "<w:p>" + RUN.format("", "Hel") + '<w:bookmarkStart w:id="0" w:name="a"/><w:bookmarkEnd w:id="0"/>' + RUN.format("", "lo there") + "</w:p>",
        ["Hello there"], "HELLO THERE",
    ),
    "deleted text": ("<w:p>" + RUN.format("", "Kept") + "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>", ["Kept"], "KEPT"),
    "inserted text": ('<w:p><w:ins w:id="1">' + RUN.format("", "New words") + "</w:ins></w:p>", ["New words"], "NEW WORDS"),
    "a content control": ("<w:p><w:sdt><w:sdtPr/><w:sdtContent>" + RUN.format("", "Inside") + "</w:sdtContent></w:sdt></w:p>", ["Inside"], "INSIDE"),
    "a page number": (
        '<w:p><w:r><w:t xml:space="preserve">Page </w:t></w:r><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>PAGE</w:instrText></w:r>'
        '<w:r><w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>3</w:t></w:r><w:r><w:fldChar w:fldCharType="end"/></w:r><w:r><w:t> of it</w:t></w:r></w:p>',
        ["Page <x1/> of it"], "PAGE 3 OF IT",
    ),
    "no text": ("<w:p><w:r><w:t>42</w:t></w:r></w:p><w:p/>", [], "42"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCX)
def test_paragraphs_of_word(name: str) -> None:
    body, texts, expected = DOCX[name]
    output, visitor = through("docx", _docx(body))
    assert visitor.texts == texts and not visitor.messages
    from lxml import etree

    tree = etree.fromstring(members(output)["word/document.xml"])
    assert "".join(tree.xpath("//*[local-name()='t']/text()")) == expected
    for element in ("bookmarkStart", "bookmarkEnd", "instrText", "ins", "delText", "sdtPr", "b"):
        assert len(tree.findall(f".//{{*}}{element}")) == body.count(f"<w:{element}>") + body.count(f"<w:{element}/") + body.count(f"<w:{element} ")


def test_tags_that_do_not_come_back() -> None:
    visitor = RecordingVisitor(nothing)
    line = line_of([Piece("text", "One "), Piece("open", "<b>"), Piece("text", "two"), Piece("close", "</b>"), Piece("text", " three.")], visitor, "")
    assert line is not None and line.text == "One <x1>two</x1> three."
    table = [
        ("Einn <x1>tveir</x1> þrír.", "Einn <b>tveir</b> þrír.", True),
        ("<x1>Tveir</x1> á undan.", "<b>Tveir</b> á undan.", True),
        ("Einn tveir þrír.", "Einn tveir þrír.<b></b>", False),
        ("Einn </x1>tveir<x1> þrír.", "Einn tveir þrír.<b></b>", False),
        ("Einn <x1>tveir<x1></x1> þrír.", "Einn tveir þrír.<b></b>", False),
        ("<x9>a</x9> <x1>b</x1>", "<x9>a</x9> <b>b</b>", True),
    ]
    for translation, expected, all_placed in table:
        pieces, placed = line.placed(translation)
        assert ("".join(p.value for p in pieces), placed) == (expected, all_placed)
    run = [Piece("open", "<a>"), Piece("void", "<1/>"), Piece("text", " "), Piece("text", "whole"), Piece("close", "</a>")]
    inner = line_of(run, visitor, "")
    assert inner is not None and inner.text == "whole" and [p.value for p in inner.before] == ["<a>", "<1/>", " "]


def test_a_sentence_in_too_many_pieces_is_named() -> None:
    many = "<b>a</b> " * 1500
    for format, raw, place in (
        ("html", f"<p>{many}</p><p>Word</p>", ""),
        ("markdown", "**a** " * 4000 + "\n\nWord\n", "line 1"),
    ):
        output, visitor = through(format, raw)
        assert len(visitor.messages) == 1 and visitor.messages[0].startswith(f"bad {place}") and "are translated" in visitor.messages[0]
        assert output.decode() == raw.replace("Word", "WORD")


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        ("one two three four", 2, ["one two", "three four"]),
        ("a verylongwordthatfillsaline b", 2, ["a", "verylongwordthatfillsaline b"]),
        ("<i>one two</i> three", 3, ["<i>one", "two</i>", "three"]),
        ("one", 3, ["one"]),
        ("one two", 1, ["one two"]),
    ],
)
def test_lines_of_a_cue(text: str, lines: int, expected: list[str]) -> None:
    assert broken(text, lines) == expected


# (format, file, options) to (texts, what comes out where capitals are written, what is said)
CASES: dict[str, tuple[str, str, dict[str, Any], list[str], str, list[str]]] = {
    "invalid JSON on a line": ("jsonl", '{"text":"a b"}\n{"text": \n[1]\n{"text":"c"}', {}, ["a b", "c"], '{"text":"A B"}\n{"text": \n[1]\n{"text":"C"}',
        ["bad line 2: not JSON: Expecting value", "bad line 3: not a JSON object: found list"]),
    "a field inside others": ("jsonl", '{"m": [{"t": "a"}, {"t": ["b", 1]}], "t": "c"}\n', {"fields": ("m.t",)}, ["a", "b"],
        '{"m": [{"t": "A"}, {"t": ["B", 1]}], "t": "c"}\n', []),
    "into a new field": ("jsonl", '{"text": "a"}\n{"text":"b","out":"x"}\n', {"into": "out"}, ["a", "b"],
        '{"text": "a", "out": "A"}\n{"text":"b","out":"x"}\n', []),
    "half a character": ("jsonl", '{"text": "\\ud800"}\n{"text": "\\u00e1"}\n', {}, ["á"], '{"text": "\\ud800"}\n{"text": "\\u00c1"}\n',
        ["bad line 1: half a character (a lone surrogate)"]),
    "a row too short": ("csv", "text,n\r\na,1\r\nb\r\n\r\nc,2", {}, ["a", "c"], "text,n\r\nA,1\r\nb\r\n\r\nC,2", ["bad line 3: too few columns: 1 of 2"]),
    "semicolons and a new column": ("csv", "en;n\na;1\n", {"into": "is"}, ["a"], "en;n;is\na;1;A\n", []),
    "a line that names the separator": ("csv", 'sep=;\r\nen;n\r\na, b;1\r\n', {"into": "is"}, ["a, b"], 'sep=;\r\nen;n;is\r\na, b;1;A, B\r\n', []),
    "one in quotes": ("csv", '"sep=|"\nen|n\na|1\n', {}, ["a"], '"sep=|"\nen|n\nA|1\n', []),
    "separators in a header's quotes": ("csv", '"id; nr; no",en\n1,a\n', {}, ["a"], '"id; nr; no",en\n1,A\n', []),
    "commas in a header's quotes": ("csv", '"a, b, c";en\n1;a\n', {}, ["a"], '"a, b, c";en\n1;A\n', []),
    "a cell that comes to need quotes": ("csv", 'en\n"a, ""b"""\n', {}, ['a, "b"'], 'en\n"A, ""B"""\n', []),
    "a quote inside a cell": ("csv", 'en,n\n5" pipe,1\nb,2\n', {}, ['5" pipe', "b"], 'en,n\n"5"" PIPE",1\nB,2\n', []),
    "columns by number": ("tsv", "x\ty\na\tb\n", {"columns": ("2", "x")}, ["b", "a"], "x\ty\nA\tB\n", []),
    "times that overlap": ("srt", "1\n00:00:01,000 --> 00:00:09,000\na\n\n2\n00:00:02,000 --> 00:00:01,000\nb", {}, ["a", "b"],
        "1\n00:00:01,000 --> 00:00:09,000\nA\n\n2\n00:00:02,000 --> 00:00:01,000\nB",
        ["warn cue 2, line 6: begins before the one before it ends", "warn cue 2, line 6: ends before it begins"]),
    "cues without blank lines": ("srt", "1\n0:00:01,000 --> 0:00:02,000\na\n2\n0:00:03,000 --> 0:00:04,000\nb\n", {}, ["a", "b"],
        "1\n0:00:01,000 --> 0:00:02,000\nA\n2\n0:00:03,000 --> 0:00:04,000\nB\n", []),
    "no header": ("po", 'msgid "a b"\nmsgstr ""\n', {}, ["a b"], '#, fuzzy\nmsgid "a b"\nmsgstr "A B"\n',
        ["warn header: no charset in the header: read as UTF-8", "warn header: there is no header"]),
    # Its plural forms are CLDR's, of which Icelandic has the first for 21 too: so it is made of the plural. The template's language is filled in.
    "a broken header": ("po", 'msgid ""\nmsgstr "Content-Type: text/plain; charset=klingon\\nPlural-Forms: nplurals=INTEGER; plural=EXPRESSION;\\n"\n\n'
        'msgid "one"\nmsgid_plural "%d"\nmsgstr[0] ""\nmsgstr[1] ""\n', {}, ["%d", "%d"],
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=klingon\\n"\n"Plural-Forms: nplurals=2; plural=(n%10==1 && n%100!=11 ? 0 : 1);\\n"\n'
        '"Language: is\\n"\n\n#, fuzzy\nmsgid "one"\nmsgid_plural "%d"\nmsgstr[0] "%d"\nmsgstr[1] "%d"\n',
        ["warn header: unknown charset klingon: read as UTF-8"]),
    "a line that is none of PO's": ("po", 'msgid "a"\nmsgstr ""\n\nmsgid "b"\nrubbish\nmsgstr ""\n', {}, ["a"],
        '#, fuzzy\nmsgid "a"\nmsgstr "A"\n\nmsgid "b"\nrubbish\nmsgstr ""\n',
        ["warn header: no charset in the header: read as UTF-8", "warn header: there is no header", "bad line 5: not a line of a PO file"]),
    "obsolete entries, and one form for all": ("po", 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\nPlural-Forms: nplurals=1; plural=0;\\n"\n\n'
        'msgid "a"\nmsgid_plural "%d b"\nmsgstr[0] ""\n#~ msgid "c"\n#~ msgstr ""\n', {}, ["%d b"],
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Plural-Forms: nplurals=1; plural=0;\\n"\n"Language: is\\n"\n\n'
        '#, fuzzy\nmsgid "a"\nmsgid_plural "%d b"\nmsgstr[0] "%d B"\n#~ msgid "c"\n#~ msgstr ""\n', []),
    "states and what is protected": ("xliff",
        '<xliff version="1.2"><file target-language="is"><trans-unit id="1"><source>a <mrk mtype="protected">B c</mrk> d</source>'
        '<target state="new">a</target></trans-unit>'
        '<group translate="no"><trans-unit id="2"><source>e</source></trans-unit></group></file></xliff>', {}, ["a <x1/> d"],
        '<xliff version="1.2"><file target-language="is"><trans-unit id="1"><source>a <mrk mtype="protected">B c</mrk> d</source>'
        '<target state="needs-review-translation" state-qualifier="mt-suggestion">A <mrk mtype="protected">B c</mrk> D</target></trans-unit>'
        '<group translate="no"><trans-unit id="2"><source>e</source></trans-unit></group></file></xliff>', []),
    "signs that XML escapes": ("tmx", '<tmx><body><tu><tuv xml:lang="EN"><seg>a &lt; b &amp; <![CDATA[c > d]]></seg></tuv></tu></body></tmx>', {},
        ["a < b & c > d"], '<tmx><body><tu><tuv xml:lang="EN"><seg>a &lt; b &amp; <![CDATA[c > d]]></seg></tuv>'
        '<tuv xml:lang="is" creationid="tellmt"><seg>A &lt; B &amp; C &gt; D</seg></tuv></tu></body></tmx>', []),
    # An element that is never closed keeps the rest of the page as it is.
    "HTML that stays": ("html", "<ul><li>one\n  line</ul><p>two &amp;</p><div class=notranslate>no <p>no", {}, ["one line", "two &"],
        "<ul><li>ONE LINE</ul><p>TWO &amp;</p><div class=notranslate>no <p>no", []),
    "HTML without end tags": ("html",
        "<div><p translate=no>no <b>no<p>one</div>two<ul><li translate=no>no<ul><li>no</ul><li>three</ul><tr translate=no><td>no<td>no<tr><td>four", {},
        ["one", "two", "three", "four"],
        "<div><p translate=no>no <b>no<p>ONE</div>TWO<ul><li translate=no>no<ul><li>no</ul><li>THREE</ul><tr translate=no><td>no<td>no<tr><td>FOUR", []),
    "marks of Markdown": ("markdown", "1. snake_case *a **b*\n\nb\n\n    code\n\n[c](d_e) and [f] `g`\n", {},
        ["snake_case <x1>a **b</x1>", "b", "<x0>c</x0> and [f] "], "1. SNAKE_CASE *A **B*\n\nB\n\n    code\n\n[C](d_e) AND [F] `g`\n", []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    format, source, options, texts, expected, messages = CASES[name]
    output, visitor = through(format, source, **options)
    assert (visitor.texts, output.decode(), visitor.messages) == (texts, expected, messages)


def _zip(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "/").replace("/xml", ".xml"), data)
    return out.getvalue()


BAD: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("docx", b"PK\x03\x04 rubbish", {}, "this is not a docx"),
    ("docx", b"hello", {}, "this is not a docx; found no zip archive"),
    ("docx", _zip(a=b"b"), {}, "a zip archive without word/document.xml"),
    ("docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), {}, "a password, or the format of an older Office"),
    ("docx", _zip(word_document_xml=bytes(2 << 20)), {}, "unpacks to more than the limit"),
    ("docx", _zip(word_document_xml=os.urandom(5000)), {"bounds": dataclasses.replace(OWN, unpacked=4000)}, "unpacks to more than the limit"),
    ("docx", _zip(word_document_xml=b"<a><b></a>"), {}, "word/document.xml, line 1: this is not well-formed XML"),
    ("docx", _zip(word_document_xml=b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'), {}, "the XML defines entities"),
    ("xlsx", _zip(word_document_xml=b"<a/>"), {}, "a zip archive without xl/workbook.xml"),
    ("tmx", b"<a>" * 2000, {}, "nested too deep"),
    ("tmx", b"<xliff/>", {}, "this is not TMX; found <xliff>"),
    ("tmx", b"<tmx/>", {"pair": None}, "valid: --from and --to"),
    ("xliff", b"<html/>", {}, "this is not XLIFF"),
    ("xliff", b'<?xml version="1.0" encoding="klingon"?><xliff/>', {}, "this encoding is not supported; found klingon"),
    ("po", b"hello\n", {}, "line 1: not a line of a PO file: this is not a PO file"),
    ("po", b'msgid "\xe1"\nmsgstr ""\n', {}, "line 1: not UTF-8; found 0xe1"),
    ("srt", b"hello\n", {}, "no cue in the file"),
    ("srt", b"1\n00:00:01,000 --> 00:00:02,000\n\xfd\n", {}, "line 3, byte 32: not UTF-8; found 0xfd"),
    ("csv", b'en\n"open\nand open', {}, "line 2: a quote is not closed"),
    ("csv", b"a,b\n1,2\n", {}, "--column: which column is to be translated?; valid: a, b"),
    ("csv", b"a,b\n1,2\n", {"columns": ("c",)}, "no such column; found c"),
    ("csv", b"a,b\n1,2\n", {"columns": ("a", "b"), "into": "c"}, "one column goes into another; found 2 columns"),
    ("jsonl", b'{"a": "b"}\n', {}, "--field: which field is to be translated?; valid: a"),
    ("jsonl", b'{"a": "b"}\n', {"fields": ("x",)}, "no line has this field with a text; found x; valid: a"),
    ("html", b"<meta charset=klingon>a", {}, "unknown charset; found klingon"),
    *(
        ("po", f'msgid ""\nmsgstr "Content-Type: text/plain; charset={name}\\n"\n'.encode(), {}, f"header: this is the name of no charset; found {name}")
        for name in ("zip", "hex", "rot13", "idna")
    ),
    ("html", b"<p>a\n\xff", {}, "line 2: not UTF-8; found 0xff"),
    ("markdown", b"a\n\xff", {}, "line 2, byte 0: not UTF-8"),
]


@pytest.mark.parametrize(("format", "data", "options", "message"), BAD)
def test_what_cannot_be_read(format: str, data: bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as e:
        through(format, data, **options)
    assert message in str(e.value)


TMX = "<tmx><tu>{}</tu></tmx>"
# (format, file, the bound that it is just above)
OVER: list[tuple[str, str | bytes, str, int]] = [
    ("tmx", TMX.format("<a><b/></a>"), "nesting", 3),
    ("tmx", TMX.format("<a/><a/>"), "elements", 4),
    ("xliff", '<xliff><file><trans-unit id="1"><source>a<g>b</g>c</source></trans-unit></file></xliff>', "elements", 8),
    ("docx", _docx("<w:p>" + RUN.format("", "a") + "</w:p>"), "elements", 8),
    ("docx", _docx("<w:p/>"), "tokens", 5),
    ("docx", _docx("<w:p/>"), "unpacked", 50),
    ("tmx", TMX.format(f'<a b="{"c" * 140_000}"/>'), "tag", 100_000),
    ("html", "<b>a</b>", "tokens", 2),
    ("po", 'msgid "a"\nmsgstr ""\n', "tokens", 2),
    ("srt", "1\n00:00:01,000 --> 00:00:02,000\na\n", "tokens", 2),
    ("markdown", "|a|b|\n|-|-|\n|c\n", "cells", 3),
    ("markdown", "> 1. |a|b|\n>    |-|-|\n>    |c\n", "cells", 3),
    ("markdown", "a\n\nb\n\nc\n", "blocks", 5),
]


def with_bound(bounds: Bounds, kind: str, limit: int) -> Bounds:
    values: dict[str, Any] = {kind: limit}
    return dataclasses.replace(bounds, **values)


@pytest.mark.parametrize(("format", "data", "kind", "limit"), OVER)
def test_bounds(format: str, data: str | bytes, kind: str, limit: int) -> None:
    """Of each bound: a file just above it is refused with the bound's value, the same file is read where it is not above it."""
    with pytest.raises(TooLarge, match=f"at most {limit:,}|MiB") as e:
        through(format, data, bounds=with_bound(UPLOADED, kind, limit))
    assert "--no-limits" not in str(e.value)
    through(format, data, bounds=with_bound(UPLOADED, kind, limit + 100_000))
    with pytest.raises(TooLarge, match="--no-limits reads it all the same"):
        through(format, data, bounds=with_bound(OWN, kind, limit))
    through(format, data, bounds=UNBOUNDED)
    # Nor does growth matter then.
    through("docx", _zip(word_document_xml=b"<a>" + b" " * (2 << 20) + b"</a>"), bounds=UNBOUNDED)
    assert getattr(OWN, kind) == 10 * getattr(UPLOADED, kind)


def test_names_and_first_bytes() -> None:
    assert [format_of(n).name for n in ("a.PO", "b/c.jsonl.gz", "letter.fo", "a.docx", "noending")] == ["po", "jsonl", "text", "docx", "text"]
    for name in ("a.pdf", "b.doc", "c.odt"):
        with pytest.raises(BadInput, match="files of this format are not translated"):
            format_of(name)
    with pytest.raises(BadInput, match="this is not text; found a zip archive"):
        check_start(FORMATS["text"], b"PK\x03\x04abcd")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_stay(encoding: str) -> None:
    declared = {"utf-16": "UTF-16", "latin-1": "ISO-8859-1"}.get(encoding, "UTF-8")
    tmx = f'<?xml version="1.0" encoding="{declared}"?><tmx version="1.4"><body><tu><tuv xml:lang="en"><seg>á bók</seg></tuv></tu></body></tmx>'
    output, visitor = through("tmx", tmx.encode(encoding))
    assert visitor.texts == ["á bók"] and output.decode(encoding).endswith("<seg>Á BÓK</seg></tuv></tu></body></tmx>")
    po = f'msgid ""\nmsgstr "Content-Type: text/plain; charset={declared}\\n"\n\nmsgid "á"\nmsgstr ""\n'
    if encoding != "utf-16":
        output, _ = through("po", po.encode(encoding))
        assert output.decode(encoding).endswith('msgid "á"\nmsgstr "Á"\n')
