"""DeepL's `tag_handling: xml`: texts are translated, everything else of the XML stands as it did; and XML of strangers does no harm."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial
from typing import Any

import deepl
import pytest

from serve.translation.markup_html import translate_marked
from serve.translation.markup_xml import XmlRules, parse_xml
from serve.translation.request import Translation
from tell.errors import RequestError
from tests.support.serving import Running

pytest_plugins = ["tests.support.serving_fixtures"]
IGNORED = XmlRules(ignored=frozenset({"x", "t:keep"}))

# What comes in, and what goes out with every translated line in brackets and in capitals; its tags stay.
CASES: dict[str, tuple[str, XmlRules, str]] = {
    "a sentence": ("hann <b>fór</b> heim", XmlRules(), "[HANN <b>FÓR</b> HEIM]"),
    "a document": (
        '<?xml version="1.0"?>\n<doc id="1">\n  <p>einn <i>tveir</i></p>\n  <p>þrír</p>\n</doc>\n', XmlRules(),
        '<?xml version="1.0"?>\n<doc id="1">\n  <p>[EINN <i>TVEIR</i>]</p>\n  <p>[ÞRÍR]</p>\n</doc>\n',
    ),
    "escapes": ("a &lt;b&gt; &amp;nbsp; \u00a0 &#38; c", XmlRules(), "[A &lt;B&gt; &amp;NBSP; \u00a0 &amp; C]"),
    "attributes": ("<p a=\"1 &lt; 2\" xml:lang='is'>orð<br/></p>", XmlRules(), "<p a=\"1 &lt; 2\" xml:lang='is'>[ORÐ]<br/></p>"),
    "prefixes": ('<t:p>orð <u:b u:c="d">e</u:b></t:p>', XmlRules(), '<t:p>[ORÐ <u:b u:c="d">E</u:b>]</t:p>'),
    "namespaces": ('<r xmlns="urn:r" xmlns:t="urn:t"><t:p>orð</t:p></r>', XmlRules(), '<r xmlns="urn:r" xmlns:t="urn:t"><t:p>[ORÐ]</t:p></r>'),
    "ignored": ("<p>hæ <x>Nafn <b>hér</b></x> þú</p><t:keep a='b'>ekki</t:keep>", IGNORED, "<p>[HÆ <x>Nafn <b>hér</b></x> ÞÚ]</p><t:keep a='b'>ekki</t:keep>"),
    "splitting": ("einn<s>tveir</s>þrír", XmlRules(splitting=frozenset({"s"})), "[EINN]<s>[TVEIR]</s>[ÞRÍR]"),
    "inside": ("<p><s>einn</s><s>tveir</s></p>", XmlRules(inside=frozenset({"s"})), "<p>[<s>EINN</s><s>TVEIR</s>]</p>"),
    "no outline": ("<p><s>einn</s><s>tveir</s></p>", XmlRules(outline=False), "<p>[<s>EINN</s><s>TVEIR</s>]</p>"),
    "comments": ("<p>a <!-- ekki --> b<?pi c?></p>", XmlRules(), "<p>[A <!-- ekki --> B]<?pi c?></p>"),
    "empty": ("<p></p><p/> <p> </p>", XmlRules(), "<p></p><p/> <p> </p>"),
    "an empty element in a sentence": ('hæ <x id="7"></x> þú <y  a = "b" /> bæ', XmlRules(), '[HÆ <x id="7"></x> ÞÚ <y  a = "b" /> BÆ]'),
    "CDATA": ("<p><![CDATA[a < b]]></p>", XmlRules(), "<p><![CDATA[[A < B]]]></p>"),
    "CDATA with an end in it": ("<p>\n<![CDATA[a ]] ]]>\n</p>", XmlRules(), "<p>\n<![CDATA[[A ]]] ]]>\n</p>"),
    "CDATA in a sentence": ("<p>a <![CDATA[< b]]></p>", XmlRules(), "<p>[A &lt; B]</p>"),
    "entities and quotes": (
        "<p>a &quot;b&quot; it&apos;s &#160; > c</p><p>'a' \"b\" &gt;</p>", XmlRules(),
        "<p>[A &quot;B&quot; IT&apos;S &#160; > C]</p><p>['A' \"B\" &gt;]</p>",
    ),
    "entities alone": ("<p>&#x2014; &quot;&#10;</p>", XmlRules(), "<p>&#x2014; &quot;&#10;</p>"),
    "a tag's end in an attribute": ("<p a='>' b=\"</p>\">a</p>".replace("</p>\"", "/p>\""), XmlRules(), "<p a='>' b=\"/p>\">[A]</p>"),
    "plain": ("orð", XmlRules(), "[ORÐ]"),
    "nothing": ("", XmlRules(), ""),
}  # fmt: skip


async def shouted(lines: list[str]) -> list[Translation]:
    def one(line: str) -> str:
        return "[" + "".join(p if p.startswith("<") else p.upper() for p in re.split(r"(</?[a-z]\d+/?>)", line)) + "]" if line else ""

    return [Translation("\n".join(map(one, text.split("\n"))), False) for text in lines]


@pytest.mark.parametrize("case", CASES)
def test_what_comes_back(case: str) -> None:
    source, rules, expected = CASES[case]
    [translation] = asyncio.run(translate_marked([source], shouted, partial(parse_xml, rules=rules)))
    assert (translation.text, translation.flags) == (expected, ())


BAD = {
    "not closed": "<p>Leyndarmál",
    "crossed": "<a><b>Leyndarmál</a></b>",
    "an entity": "Leyndarmál &nbsp;",
    "an ampersand": "Leyndarmál & co",
    "a document type": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>Leyndarmál &b;</a>',
    "out of what is around it": "Leyndarmál</tellmt><tellmt>",
    "an escape by a comment": "Leyndarmál</tellmt><!--",
    "a NUL": "Leyndar\0mál",
    "too deep": "<a>" * 5000 + "Leyndarmál" + "</a>" * 5000,
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_and_not_repeated(service: Running, case: str) -> None:
    with pytest.raises(RequestError):
        parse_xml(BAD[case], XmlRules())
    answer = service.http.post("/v2/translate", json={"text": ["hæ", BAD[case]], "source_lang": "IS", "target_lang": "EN-US", "tag_handling": "xml"})
    assert answer.status_code == 400 and "XML" in answer.json()["message"] and "Leyndar" not in answer.text and "passwd" not in answer.text


def test_deepls_client(service: Running, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepl.http_client.max_network_retries", 0)
    client = deepl.DeepLClient("any", server_url=service.url)

    def translated(text: Any, **more: Any) -> str:
        return str(client.translate_text(text, source_lang="IS", target_lang="EN-US", **more).text)

    escaped_mark = mark.replace("<", "&lt;").replace(">", "&gt;")
    xml = "<p>hæ <x>Jón</x></p><p>bæ</p>"
    assert translated(xml, tag_handling="xml") == f"<p>{escaped_mark}hæ <x>Jón</x></p><p>{escaped_mark}bæ</p>"
    # A model is not shown what is in an element that is ignored: the fake marks what it is shown.
    assert translated("<p>hæ</p><x>Jón</x>", tag_handling="xml", ignore_tags=["x", "y"]) == f"<p>{escaped_mark}hæ</p><x>Jón</x>"
    assert translated("<p>hæ</p><x>Jón</x>", tag_handling="xml", ignore_tags="y,x") == f"<p>{escaped_mark}hæ</p><x>Jón</x>"
    assert translated("<p>hæ</p><x>Jón</x>", tag_handling="html", ignore_tags="X") == f"<p>{escaped_mark}hæ</p><x>Jón</x>"
    assert translated("a<s>b</s>", tag_handling="xml", splitting_tags=["s"], outline_detection=False) == f"{escaped_mark}a<s>{escaped_mark}b</s>"
    assert translated("<s>a</s><s>b</s>", tag_handling="xml", non_splitting_tags=["s"]) == f"{escaped_mark}<s>a</s><s>b</s>"
    refused = service.http.post("/v2/translate", json={"text": ["a"], "source_lang": "IS", "target_lang": "EN-US", "ignore_tags": [{"a": 1}]})
    assert refused.status_code == 400 and "ignore_tags: not usable; valid: names of elements" in refused.json()["message"]


def test_no_xml_takes_long() -> None:
    began = time.thread_time()
    for text in ("<a/>" * 20_000, "<a>b</a>" * 12_000, "a:b " * 20_000, "<a b:c='d'/>" * 8000, "<a " + " ".join(f"x{i}='y'" for i in range(9000)) + "/>"):
        parse_xml(text, XmlRules())
    assert time.thread_time() - began < 10
