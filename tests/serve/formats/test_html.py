"""HTML and XHTML: what is well-formed stays so, what is not translated stays, and code of templates is none of the page's text."""

from __future__ import annotations

import time

import pytest
from lxml import etree

from serve.formats.units import Replacement
from tests.support.formats_fixture import loud, same, through

# Name to (file, its texts, what comes out in capitals)
CASES: dict[str, tuple[str, list[str], str]] = {
    # What stays
    "list without end tags": ("<ul translate=no><li>no<li>no</ul><p>one", ["one"], "<ul translate=no><li>no<li>no</ul><p>ONE"),
    "item without end tag": ("<ul><li translate=no>no<p>no<li>one</ul>", ["one"], "<ul><li translate=no>no<p>no<li>ONE</ul>"),
    "span that its parent ends": ("<div><span translate=no>no</div><p>one", ["one"], "<div><span translate=no>no</div><p>ONE"),
    "table without end tags": (
        "<table translate=no><tr><td>no<tr><td>no</table>one<table><thead translate=no><tr><th>no<tbody><tr><td>two</table>", ["one", "two"],
        "<table translate=no><tr><td>no<tr><td>no</table>ONE<table><thead translate=no><tr><th>no<tbody><tr><td>TWO</table>"),
    "cell with a table": ("<tr><td translate=no>no<table><tr><td>no</table>no<td>one", ["one"], "<tr><td translate=no>no<table><tr><td>no</table>no<td>ONE"),
    "terms, choices and rubies": (
        "<dl><dt translate=no>no<dd>one</dl><select><option translate=no>no<option>two</select><ruby>a<rt translate=no>no<rp>b</ruby>",
        ["one", "two", "<x0/>a<x2/><x3>b</x3>"],
        "<dl><dt translate=no>no<dd>ONE</dl><select><option translate=no>no<option>TWO</select><ruby>A<rt translate=no>no<rp>B</ruby>"),
    "paragraph that a heading ends": ("<p translate=no>no <i>no<h2>one</h2>", ["one"], "<p translate=no>no <i>no<h2>ONE</h2>"),
    "body without end tag": ("<body translate=no><p>no", [], "<body translate=no><p>no"),
    "wanted inside": ("<div translate=no>no <p translate=yes>one <b translate=no>no</b> two</p> no</div>three", ["one <x1/> two", "three"],
                      "<div translate=no>no <p translate=yes>ONE <b translate=no>no</b> TWO</p> no</div>THREE"),
    "wanted inside a sentence": ("<p>A <span translate='no'>no <b translate=''>one</b> no</span> c", ["A <x1><x2/><x3>one</x3><x6/></x1> c"],
                                 "<p>A <span translate='no'>no <b translate=''>ONE</b> no</span> C"),
    "wanted, without end tags": ("<ul translate=no><li>no<li translate=yes>one<li>no</ul>two", ["one", "two"],
        "<ul translate=no><li>no<li translate=yes>ONE<li>no</ul>TWO"),
    "code that is wanted": ("<p><code>no</code> one <code translate=yes>two</code>", [" one <x1>two</x1>"],
        "<p><code>no</code> ONE <code translate=yes>TWO</code>"),
    "no more wanted than that": ("<script translate=yes>no</script><svg><text translate=yes>no</text></svg>", [],
        "<script translate=yes>no</script><svg><text translate=yes>no</text></svg>"),
    # Templates
    "PHP": ("<p><?php if ($a->b > 1): ?>one<?php endif; ?></p><?= $x ? '<b>' : 'c' ?>", ["one"],
        "<p><?php if ($a->b > 1): ?>ONE<?php endif; ?></p><?= $x ? '<b>' : 'c' ?>"),
    "PHP to the end": ("<p>one</p>\n<?php echo '<p>no</p>';", ["one"], "<p>ONE</p>\n<?php echo '<p>no</p>';"),
    "ERB in a sentence": ("<p>Hello <%= user.name > 'a' ? '&' : \"b\" %>, welcome</p>", ["Hello <x1/>, welcome"],
        "<p>HELLO <%= user.name > 'a' ? '&' : \"b\" %>, WELCOME</p>"),
    "in attributes": (
        "<a href=\"<%= url(\"x\") %>\" title='{{ a > \"b\" }}' <?php if (1 > 0) echo 'c'; ?> {% if d > e %}f{% endif %} class={{g}}>one</a>", ["one"],
        "<a href=\"<%= url(\"x\") %>\" title='{{ a > \"b\" }}' <?php if (1 > 0) echo 'c'; ?> {% if d > e %}f{% endif %} class={{g}}>ONE</a>"),
    "between rows": ("<table>{% for r in rows %}<tr><td>{{ r.a && b }}</td><td>one</td></tr>{% endfor %}</table>", ["one"],
                     "<table>{% for r in rows %}<tr><td>{{ r.a && b }}</td><td>ONE</td></tr>{% endfor %}</table>"),
    "steps on lines of their own": ("<p>\n{% if a < b %}\n  one\n{% else %}\n  two\n{% endif %}\n{{#if c}}\nthree\n{{/if}}</p>", ["one", "two", "three"],
                                    "<p>\n{% if a < b %}\n  ONE\n{% else %}\n  TWO\n{% endif %}\n{{#if c}}\nTHREE\n{{/if}}</p>"),
    "in a title": ("<title>{{ a && b }} - one</title>", [" - one"], "<title>{{ a && b }} - ONE</title>"),
    "FreeMarker": ("<#if (a > b) && c?has_content>one<#else>two</#if><#-- <p>no --><@x y=\"a>b\"/>${z?html} three", ["one<x1/>two<x3/> three"],
                   "<#if (a > b) && c?has_content>ONE<#else>TWO</#if><#-- <p>no --><@x y=\"a>b\"/>${z?html} THREE"),
    "Handlebars and Blade": ("<p>{{{html}}} one {!! $x->y !!} {{-- no & no --}}</p>\n@if($a > 1)\ntwo\n@endif\n", ["one", "two"],
                             "<p>{{{html}}} ONE {!! $x->y !!} {{-- no & no --}}</p>\n@if($a > 1)\nTWO\n@endif\n"),
    "a tag that code names": ("<{{ tag }} class='x'>one</{{ tag }}>", ["one"], "<{{ tag }} class='x'>ONE</{{ tag }}>"),
    "Thymeleaf": ('<p th:text="#{a.b}" th:if="${c > 1}">one [[${d && e}]] two</p>', ["one <x1/> two"],
                  '<p th:text="#{a.b}" th:if="${c > 1}">ONE [[${d && e}]] TWO</p>'),
    "no code": ("<p>a < b {{ and 50% > c { d</p>", ["a < b {{ and 50% > c { d"], "<p>A &lt; B {{ AND 50% &gt; C { D</p>"),
    # XHTML
    "entities of the page": ("<!DOCTYPE html [<!ENTITY me 'x>y'>]><p>&me; is &eacute;n &lt; &amp;</p>", [" is én < &"],
                             "<!DOCTYPE html [<!ENTITY me 'x>y'>]><p>&me; IS ÉN &lt; &amp;</p>"),
    "CDATA": ('<html xmlns="http://www.w3.org/1999/xhtml"><script><![CDATA[ "</script>" ]]></script><p><![CDATA[a < b]]> c</p></html>', ["a < b c"],
              '<html xmlns="http://www.w3.org/1999/xhtml"><script><![CDATA[ "</script>" ]]></script><p>A &lt; B C</p></html>'),
    "ends of lines": ("<p>\r\n  one\r\n  two\r\n</p>", ["one two"], "<p>\r\n  ONE TWO\r\n</p>"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pages(name: str) -> None:
    source, texts, expected = CASES[name]
    assert through("html", source, same)[0].decode() == source
    output, visitor = through("html", source, loud)
    assert (visitor.texts, output.decode(), visitor.messages) == ([t.strip() for t in texts], expected, [])


XHTML = """<?xml version="1.0" encoding="{}"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en-US"><head><title>A &amp; b</title><script src="c.js"/><link rel="d" href="e?f&amp;g"/></head>
<body><p>One&#160;two \u00e9<br/>three &lt;b&gt; <img src="h" alt=""/></p><div/><p xml:lang="de">vier <i>f\u00fcnf</i></p></body></html>
"""


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1"])
def test_xhtml_stays_well_formed(encoding: str) -> None:
    raw = XHTML.format(encoding).encode(encoding)
    assert through("html", raw, same)[0] == raw
    output, _ = through("html", raw, lambda unit: Replacement(unit.text.upper().replace("<X", "<x").replace("</X", "</x") + "\u00a0\u0119\x01&<"))
    tree = etree.fromstring(output, etree.XMLParser(resolve_entities=False))
    assert (
        tree.get("lang") == "is"
        and tree.get("{http://www.w3.org/XML/1998/namespace}lang") == "is"
        and tree[1][2].get("{http://www.w3.org/XML/1998/namespace}lang") == "de"
    )
    text = "".join(tree[1][0].itertext())
    assert text.startswith("ONE\u00a0TWO \u00c9\u00a0\u0119\ufffd&<THREE <B>") and b"&nbsp;" not in output
    for tag in (b"<br/>", b'<script src="c.js"/>', b"<div/>", b'<img src="h" alt=""/>', b"e?f&amp;g", b"&#160;"):
        assert tag in output
    # A page that declares it may have the name of the space, and has it already.
    assert b"&nbsp;" in through("html", b"<p>a&nbsp;b</p>", loud)[0]


def test_no_page_takes_long() -> None:
    for unit in (
        "{{",
        "{%",
        "<%",
        "<?php ",
        "<#if (",
        "${a",
        "<b>",
        "<li>",
        "<td><b>",
        "<p translate=no>",
        "<a b='{{",
        '<a b="<%',
        "{{#",
        "\n{% a %}",
        "&a;",
        "<option><caption>",
    ):
        page = (unit * 40_000)[:40_000]
        began = time.thread_time()
        through("html", page, same)
        assert time.thread_time() - began < 3, unit
