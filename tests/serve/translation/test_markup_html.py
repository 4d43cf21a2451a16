"""HTML to lines and back: tags and attributes stay, text stays text, what is broken comes back as browsers read it."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.translation.markup_html import parse_html, plain_text
from tests.support.scripted_engine import ScriptedEngine
from tests.support.serving import Published, Running, error, running

pytest_plugins = ["tests.support.serving_fixtures"]


def shouted(text: str) -> str:
    """A translation that keeps placeholders: every word in capitals."""
    return "".join(part if part.startswith("<") and re.fullmatch(r"</?[a-z]\d+/?>", part) else part.upper() for part in re.split(r"(<[^<>]*>)", text))


CASES = [
    ("Halló", "HALLÓ"),
    ("<p>Halló <b class='x'>heimur</b>.</p>\n", '<p>HALLÓ <b class="x">HEIMUR</b>.</p>\n'),
    ('<a href="/a?b=1&amp;c=2" title="Hæ &quot;þú&quot;">Hér</a>', '<a href="/a?b=1&amp;c=2" title="Hæ &quot;þú&quot;">HÉR</a>'),
    ("<ul>\n  <li>eitt</li>\n  <li>tvö <i>og</i> þrjú</li>\n</ul>", "<ul>\n  <li>EITT</li>\n  <li>TVÖ <i>OG</i> ÞRJÚ</li>\n</ul>"),
    # Text stays text.
    ("a &lt;b&gt; &amp;amp; c", "A &lt;B&gt; &amp;AMP; C"),
    ("&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;SCRIPT&gt;ALERT(1)&lt;/SCRIPT&gt;"),
    ("&lt;x1&gt; og <b>x</b>, &lt;/x1&gt;", "&lt;x1&gt; OG <b>X</b>, &lt;/x1&gt;"),
    # Nodes that are neither text nor an element, and parts of tables.
    ("<p>a<?php echo 'b' ?></p>", "<p>A<?php echo 'b' ?></p>"),
    ("<?import namespace='x'><p>a</p>", "<?import namespace='x'?><p>A</p>"),
    ("<tr><td>a<td class=b>c</tr>\n<tr><th>d", '<tr><td>A</td><td class="b">C</td></tr>\n<tr><th>D</th></tr>'),
    ("<td>a</td><td>b <i>c</i></td>", "<td>A</td><td>B <i>C</i></td>"),
    ("<thead><tr><th>a</th></tr></thead>", "<thead><tr><th>A</th></tr></thead>"),
    ("<caption>a</caption>", "<caption>A</caption>"),
    # What is no part of a table alone is not lost.
    ("<td>a</td> b", "A B"),
    ("<td>a</td></tr><tr><td>b", "AB"),
    # Untouched.
    ("<p>a <code>let x</code> b</p>", "<p>A <code>let x</code> B</p>"),
    ("<script>if (a<b) c()</script><style>p>b{}</style>", "<script>if (a<b) c()</script><style>p>b{}</style>"),
    ('<p translate="no">Halló</p>', '<p translate="no">Halló</p>'),
    ('<p>a <span class="k notranslate">b <b>c</b></span> d</p>', '<p>A <span class="k notranslate">b <b>c</b></span> D</p>'),
    ("<!-- hér --><p>a<!-- þar -->b</p>", "<!-- hér --><p>A<!-- þar -->B</p>"),
    ('<img src="a.png" alt="mynd"> <br>12,5 🙂<hr>', '<img src="a.png" alt="mynd"> <br>12,5 🙂<hr>'),
    ('<p>sjá <img src="a.png" alt="mynd"> hér<br>og <input disabled> þar</p>', '<p>SJÁ <img src="a.png" alt="mynd"> HÉR<br>OG <input disabled> ÞAR</p>'),
    ('<div translate="no">a <p translate="yes">b <i translate="no">c</i> d</p> e</div>f',
     '<div translate="no">a <p translate="yes">B <i translate="no">c</i> D</p> e</div>F'),
    ('<p>a <span class="notranslate">b <b translate="">c</b> d</span> e</p>', '<p>A <span class="notranslate">b <b translate="">C</b> d</span> E</p>'),
    ('<code translate="yes">a</code> <ul translate="no"><li>b<li translate="yes">c</ul>d',
     '<code translate="yes">A</code> <ul translate="no"><li>b</li><li translate="yes">C</li></ul>D'),
    # Code of templates.
    ("<p>a <%= b > 'c' && d %> e</p>", "<p>A <%= b > 'c' && d %> E</p>"),
    ('<a href="<?= f("g") ?>" {% if h > i %}class=j{% endif %} title="{{ k && l }}">m {{ n && o }}</a>',
     '<a href="<?= f("g") ?>" {% if h > i %} class="j" {% endif %} title="{{ k && l }}">M {{ n && o }}</a>'),
    ("<table>{% for r in s %}<tr><td>a</td></tr>{% endfor %}</table>", "<table>{% for r in s %}<tbody><tr><td>A</td></tr>{% endfor %}</tbody></table>"),
    ("{% if a %}<tr><td>b</td></tr>{% endif %}", "{% if a %}<tr><td>B</td></tr>{% endif %}"),
    ("<html><head><title>{{ a && b }} c</title></head><body>{{ d<e }} f</body></html>",
        "<html><head><title>{{ a && b }} c</title></head><body>{{ d<e }} F</body></html>"),
    # White space.
    ("<p>\n  eitt\n  tvö&nbsp;þrjú\n</p>", "<p>\n  EITT TVÖ&nbsp;ÞRJÚ\n</p>"),
    ("<pre>eitt\n  tvö\n\n<b>þrjú</b>\n</pre>", "<pre>EITT\n  TVÖ\n\n<b>ÞRJÚ</b>\n</pre>"),
    (" \n ", " \n "),
    ("", ""),
    # Broken.
    ("<p>a <b>b <i>c</b> d</i>", "<p>A <b>B <i>C</i></b><i> D</i></p>"),
    ("a </b> b < c <", "A B &lt; C &lt;"),
    ("<div><p>a<div>b</p>c", "<div><p>A</p><div>B<p></p>C</div></div>"),
    ('<a href="x>opið', ""),
    ("<td>a</td>", "<td>A</td>"),
    ("<a>eitt <p>tvö</a> þrjú</p>", "<a>EITT </a><p><a>TVÖ</a> ÞRJÚ</p>"),
    # Whole pages.
    (
        '<!DOCTYPE html>\n<html lang="is"><head><title>Hæ</title></head><body class="a"><p>b</p></body></html>',
        '<!DOCTYPE html>\n<html lang="is"><head><title>Hæ</title></head><body class="a"><p>B</p></body></html>',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_html_comes_back_with_its_tags(source: str, expected: str) -> None:
    page = parse_html(source)
    assert page.filled(shouted(page.text)) == (expected, True)


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("a <b>b</b> c", "A B C", "A B C<b></b>"),
        ("<b>b</b> c", "B C", "<b>B C</b>"),
        ("a <b>b</b> c", "A </x1>B<x1> C", "A B C<b></b>"),
        ("a <b>b</b> c", "<x1>A</x1> <x1>B</x1> C", "A B C<b></b>"),
        ("a <b>b</b> <i>c</i> d", "<x1>A <x5>B</x1></x5>", "A B<b></b><i></i>"),
        ("a <b>b</b> c", "<i onclick=x>A</i> <x1>B</x1> C", "&lt;i onclick=x&gt;A&lt;/i&gt; <b>B</b> C"),
    ],
)
def test_tags_that_were_lost_or_crossed_stand_by_their_line(source: str, text: str, expected: str) -> None:
    page = parse_html(source)
    translated, all_placed = page.filled(text)
    assert translated == expected and all_placed is ("onclick" in text)


def test_lines_are_what_lies_between_blocks_without_what_is_all_around_them() -> None:
    page = parse_html("<div><p><b> Halló <a href=x>þú</a></b></p>12<p><i>Hæ</i>\n<i>þið</i></p></div>")
    assert page.text.split("\n") == ["Halló <x1>þú</x1>", "<x0>Hæ</x0> <x4>þið</x4>"]
    assert plain_text("<p>Halló <b>þú</b></p><script>x</script>").split() == ["Halló", "þú"]
    with pytest.raises(ValueError, match="1 translations for 2 lines"):
        page.filled("x")


PIECES = st.lists(
    st.sampled_from(["<b>", "</b>",
                     "<p>", "</p>", "<a href='x'>", "</a>", "<br>", "<pre>", "</pre>", "<td>", "<", ">", "&lt;", "&amp;", "&", "Halló ", "a", " ", "\n",
                     "<!--", "-->", "<x1>", "</x1>", "<code>", "</code>", "<svg>", "<script>", "</script>",
                     "\u00a0", "🙂", "<table>", "<p translate=no>", "<html>", "<!doctype html>"]), max_size=20
)  # fmt: skip


@given(PIECES, st.text(alphabet="<>/&x1 ab\"'=;script", max_size=30))
@settings(max_examples=300)
def test_what_a_model_writes_never_becomes_markup(pieces: list[str], written: str) -> None:
    page = parse_html("".join(pieces))
    lines = page.text.split("\n")
    translated_markup, _ = page.filled("\n".join([written.replace("\n", " ")] * len(lines)))
    tags = [sorted(re.findall(r"<[a-z!][^<>]*>", markup)) for markup in (page.filled(page.text)[0], translated_markup)]
    assert tags[0] == tags[1]


@pytest.mark.parametrize("unit", ["<b>", "<div>", "</p>", "<a ", "<!--", "&", "<b>a", "<p>a", "<x1>", "<pre>a\n", "<!---->"])
def test_no_page_takes_long(unit: str) -> None:
    text = (unit * 100_000)[:60_000]
    began = time.thread_time()
    page = parse_html(text)
    page.filled(page.text)
    assert time.thread_time() - began < 10


# Over HTTP


def translate_html(service: Running, text: Any, **more: Any) -> list[tuple[str, list[str]]]:
    answer = service.http.post("/api/v1/translate", json={"source": "is", "target": "en", "text": text, "format": "html", **more})
    assert answer.status_code == 200, answer.text
    return [(t["text"], t["flags"]) for t in answer.json()["translations"]]


def test_html_over_http(published: Published) -> None:
    script = {
        "Halló <x1>heimur</x1>!": "Hello <x1>world</x1>!",
        "Hæ <x1>þú</x1>": "Hi you",
        "Hæ Q1þúQ2": "Hi you",
        "Hæ": "Hi",
        "þú": "you",
        "Gott": "Good & <b>",
    }
    with running(published.base, published.registry, lambda options: ScriptedEngine(options, lambda source, _: script.get(source))) as service:
        assert translate_html(service, ["<p>Halló <b id=a>heimur</b>!</p>", "Gott", "🙂 <br>"]) == [
            ('<p>Hello <b id="a">world</b>!</p>', []), ("Good &amp; &lt;b&gt;", []), ("🙂 <br>", []),
        ]  # fmt: skip
        # Lost tags are brought back between what is translated by itself.
        assert translate_html(service, "<p>Hæ <b>þú</b></p>") == [("<p>Hi <b>you</b></p>", [])]
        translation = service.translate("<p>Gott</p>").json()["translations"][0]
        assert "<p>" in translation["text"]


def test_streams_and_other_formats_are_refused(service: Running) -> None:
    body = {"source": "is", "target": "en", "text": "<p>a</p>"}
    assert "format: HTML is not sent in parts" in error(service.http.post("/api/v1/translate/stream", json={**body, "format": "html"}), 400)
    assert "format: not usable; valid: text, or html" in error(service.http.post("/api/v1/translate", json={**body, "format": "xml"}), 400)
