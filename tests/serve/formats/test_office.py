"""DOCX and XLSX: parts by their relationships, elements around runs, and the escapes of spreadsheets."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from serve.formats.units import Replacement
from tell.errors import BadInput
from tell.text.xstring import decoded, encoded
from tests.support.formats_fixture import loud, members, same, through

TRANSITIONAL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships", "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/officeDocument/relationships", "http://purl.oclc.org/ooxml/wordprocessingml/main"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def archive(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, text in files.items():
            zipped.writestr(name, text)
    return out.getvalue()


def relationships(base: str, *targets: tuple[str, str], more: str = "") -> str:
    listed = "".join(f'<Relationship Id="r{i}" Type="{base}/{kind}" Target="{target}"/>' for i, (kind, target) in enumerate(targets))
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{listed}{more}</Relationships>'


def paragraphs(namespace: str, root: str, body: str) -> str:
    return f'<w:{root} xmlns:w="{namespace}">{body}</w:{root}>'


def word(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


@pytest.mark.parametrize("form", [TRANSITIONAL, STRICT])
@pytest.mark.parametrize("main", ["word/document2.xml", "Doc/main.xml", "/doc.xml"])
def test_parts_of_word_by_their_relationships(form: tuple[str, str], main: str) -> None:
    base, space = form
    folder, _, file = main.lstrip("/").rpartition("/")
    inside = f"{folder}/" if folder else ""
    external = f'<Relationship Id="x" Type="{base}/header" Target="http://tellmt.example/h.xml" TargetMode="External"/>'
    files = {
        "_rels/.rels": relationships(base, ("officeDocument", main), ("metadata", "docProps/core.xml")),
        f"{inside}_rels/{file}.rels": relationships(
            base, ("header", "top%20of.xml"), ("footnotes", "/notes/f.xml"), ("footer", "gone.xml"), ("comments", "c.xml"), more=external
        ),
        f"{inside}{file}": paragraphs(space, "document", f"<w:body>{word('main text')}</w:body>"),
        f"{inside}top of.xml": paragraphs(space, "hdr", word("head")),
        "notes/f.xml": paragraphs(space, "footnotes", word("note")),
        f"{inside}c.xml": paragraphs(space, "comments", word("comment")),
        # A part of the usual name that nothing refers to is no part of the document.
        "word/document.xml": paragraphs(space, "document", word("left over")),
    }
    raw = archive(files)
    assert through("docx", raw, same)[0] == raw
    output, visitor = through("docx", raw, loud)
    assert sorted(visitor.texts) == ["head", "main text", "note"]
    changed = members(output)
    assert {n for n in files if changed[n].decode() != files[n]} == {f"{inside}{file}", f"{inside}top of.xml", "notes/f.xml"}


def test_parts_of_excel_by_their_relationships() -> None:
    base = TRANSITIONAL[0]
    raw = archive({
        "_rels/.rels": relationships(base, ("officeDocument", "/book/b.xml")),
        "book/_rels/b.xml.rels": relationships(base, ("worksheet", "one.xml"), ("sharedStrings", "texts.xml")),
        "book/_rels/one.xml.rels": relationships(base, ("table", "../t.xml")),
        "book/b.xml": f'<workbook xmlns="{SHEET}"/>',
        "book/one.xml": f'<worksheet xmlns="{SHEET}"><c r="A1" t="inlineStr"><is><t>in its cell</t></is></c></worksheet>',
        "book/texts.xml": f'<sst xmlns="{SHEET}"><si><t>shared text</t></si><si><t>Column_x000A_name</t></si></sst>',
        "t.xml": f'<table xmlns="{SHEET}"><tableColumn name="Column_x000a_name"/></table>',
        "xl/sharedStrings.xml": f'<sst xmlns="{SHEET}"><si><t>left over</t></si></sst>',
    })  # fmt: skip
    assert through("xlsx", raw, same)[0] == raw
    assert through("xlsx", raw, loud)[1].texts == ["in its cell", "shared text"]


@pytest.mark.parametrize(("format", "root", "found"), [("docx", "workbook", "xlsx"), ("docx", "presentation", "pptx"), ("xlsx", "document", "docx")])
def test_a_document_of_another_format_is_refused(format: str, root: str, found: str) -> None:
    raw = archive({"_rels/.rels": relationships(TRANSITIONAL[0], ("officeDocument", "a/b.xml")), "a/b.xml": f"<{root}/>"})
    with pytest.raises(BadInput, match=f"this is not a {format}; found a {found}"):
        through(format, raw)


RUN = '<w:r><w:t xml:space="preserve">{}</w:t></w:r>'
# What is around runs: (paragraph, its text, elements that are there once in what comes out)
AROUND = {
    "customXml": ('<w:customXml w:element="x"><w:customXmlPr><w:attr w:name="a" w:val="b"/></w:customXmlPr>' + RUN.format("two") + "</w:customXml>",
                  "one <x1>two</x1> three", ["customXml", "customXmlPr", "attr"]),
    "smartTag": ('<w:smartTag w:element="place"><w:smartTagPr/>' + RUN.format("two") + "</w:smartTag>", "one <x1>two</x1> three", ["smartTag", "smartTagPr"]),
    "customXml in a smartTag": ('<w:smartTag w:element="p"><w:customXml w:element="x">' + RUN.format("two") + "</w:customXml></w:smartTag>",
        "one <x1>two</x1> three",
                                ["smartTag", "customXml"]),
    "sdt": ("<w:sdt><w:sdtPr><w:tag/></w:sdtPr><w:sdtContent>" + RUN.format("two") + "</w:sdtContent></w:sdt>", "one <x1>two</x1> three", ["sdt", "sdtPr",
        "tag", "sdtContent"]),
    "hyperlink": ('<w:hyperlink w:anchor="a">' + RUN.format("two") + "</w:hyperlink>", "one <x1>two</x1> three", ["hyperlink"]),
    "ins": ('<w:ins w:id="1">' + RUN.format("two") + "</w:ins>", "one <x1>two</x1> three", ["ins"]),
    "del": ('<w:del w:id="1"><w:r><w:delText>gone</w:delText></w:r></w:del>' + RUN.format("two"), "one <x1/>two three", ["del", "delText"]),
    "moved from": ('<w:moveFromRangeStart w:id="1"/><w:moveFrom w:id="2"><w:r><w:t>gone</w:t></w:r></w:moveFrom><w:moveFromRangeEnd w:id="1"/>' + RUN.format(
        "two"),
                   "one <x1/>two three", ["moveFrom", "moveFromRangeStart", "moveFromRangeEnd"]),
    "marks of changes": ('<w:customXmlInsRangeStart w:id="1"/>' + RUN.format("two") + '<w:customXmlInsRangeEnd w:id="1"/>', "one two three",
                         ["customXmlInsRangeStart", "customXmlInsRangeEnd"]),
}  # fmt: skip


@pytest.mark.parametrize("name", AROUND)
def test_what_is_around_runs(name: str) -> None:
    inside, text, elements = AROUND[name]
    body = f"<w:p>{RUN.format('one ')}{inside}{RUN.format(' three')}</w:p>"
    raw = archive({"word/document.xml": paragraphs(TRANSITIONAL[1], "document", body)})
    output, visitor = through("docx", raw, loud)
    assert visitor.texts == [text]
    tree = etree.fromstring(members(output)["word/document.xml"])
    assert all(len(tree.findall(f".//{{*}}{element}")) == 1 for element in elements)
    assert "".join(tree.xpath("//*[local-name()='t']/text()")).replace("gone", "") == "ONE TWO THREE"


@pytest.mark.parametrize(
    ("plain", "written"),
    [
        ("a\rb", "a_x000D_b"), ("_x0041_", "_x005F_x0041_"), ("_x0041_x0042_", "_x005F_x0041_x005F_x0042_"), ("a_x00_", "a_x00_"), ("_xyzw_", "_xyzw_"),
        ("a\tb\nc", "a\tb\nc"), ("\x07", "_x0007_"), ("__x000d__", "__x005F_x000d__"), ("_", "_"), ("_x0041\r", "_x005F_x0041_x000D_"), ("_x005F_",
            "_x005F_x005F_"),
    ],
)  # fmt: skip
def test_escapes_of_spreadsheets(plain: str, written: str) -> None:
    assert encoded(plain) == written and decoded(written) == plain


@given(st.lists(st.sampled_from(["_x", "0041", "_", "x005F_", "\r", "a", "\x01", "_x000D_", "\uffff", "😀"]), max_size=12).map("".join))
def test_what_is_escaped_is_read_back(text: str) -> None:
    assert decoded(encoded(text)) == text


def test_half_characters_of_spreadsheets() -> None:
    assert decoded("_xD83D__xDE00_") == "😀" and decoded("a_xD83D_") == "a\ufffd"


def test_a_cell_with_escapes() -> None:
    raw = archive({
        "xl/workbook.xml": f'<workbook xmlns="{SHEET}"/>',
        "xl/sharedStrings.xml": f'<sst xmlns="{SHEET}"><si><t>one_x000D_\ntwo</t></si><si><t>say _x005F_x0041_ now</t></si></sst>',
    })  # fmt: skip
    assert through("xlsx", raw, same)[0] == raw
    output, visitor = through("xlsx", raw, lambda unit: Replacement(f"{unit.text} _x0042_\x0b"))
    assert visitor.texts == ["one\r\ntwo", "say _x0041_ now"]
    assert b">one_x000D_\ntwo _x005F_x0042__x000B_<" in members(output)["xl/sharedStrings.xml"]
    assert b">say _x005F_x0041_ now _x005F_x0042__x000B_<" in members(output)["xl/sharedStrings.xml"]
