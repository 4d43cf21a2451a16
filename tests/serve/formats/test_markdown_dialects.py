"""Dialects of Markdown: what each has beside CommonMark stays, line by line, and its text is found."""

from __future__ import annotations

import time

import pytest

from serve.formats.markdown_dialects import read_dialects
from serve.formats.markdown_marks import is_formula
from serve.formats.units import Replacement
from tests.support.formats_fixture import loud, same, through

# Name to (file, its texts, what comes out in capitals)
CASES: dict[str, tuple[str, list[str], str]] = {
    "a container of Docusaurus": (
        "Before.\n:::note Your title\nSome text\nof two lines.\n:::\nAfter.\n",
        ["Before.", "Your title", "Some text of two lines.", "After."],
        "BEFORE.\n:::note YOUR TITLE\nSOME TEXT OF\nTWO LINES.\n:::\nAFTER.\n",
    ),
    "containers with labels and attributes": (
        ":::tip[A *good* title]{.x}\n\ntext\n\n:::\n\n::: {.note #a}\nb\n:::\n\n::: details Click me {open}\nc\n::::\n",
        ["A <x1>good</x1> title", "text", "b", "Click me {open}", "c"],
        ":::tip[A *GOOD* TITLE]{.x}\n\nTEXT\n\n:::\n\n::: {.note #a}\nB\n:::\n\n::: details CLICK ME {open}\nC\n::::\n",
    ),
    "an image of Microsoft": (':::image type="content" source="a.png" alt-text="b":::\n\n> [!INCLUDE [a](b.md)]\n', [],
                              ':::image type="content" source="a.png" alt-text="b":::\n\n> [!INCLUDE [a](b.md)]\n'),
    "alerts of GitHub": ("> [!NOTE]\n> Take care\n> of it.\n\n> [!tip]- Own title\n> b\n", ["Take care of it.", "Own title", "b"],
                         "> [!NOTE]\n> TAKE CARE\n> OF IT.\n\n> [!tip]- OWN TITLE\n> B\n"),
    "notes of MkDocs": (
        '!!! note "The title"\n    first\n    second\n\n    third\n\n    ```js\n    let a\n    ```\n\n    ??? warning\n        inner\n\nafter\n',
        ["The title", "first second", "third", "inner", "after"],
        '!!! note "THE TITLE"\n    FIRST\n    SECOND\n\n    THIRD\n\n    ```js\n    let a\n    ```\n\n    ??? warning\n        INNER\n\nAFTER\n',
    ),
    "a note in an item": ('- item\n\n    !!! tip inline end "T"\n        body\n\n    more\n', ["item", "T", "body", "more"],
                          '- ITEM\n\n    !!! tip inline end "T"\n        BODY\n\n    MORE\n'),
    "no note": ("!!! Watch out for this\nand that.\n", ["!!! Watch out for this and that."], "!!! WATCH OUT FOR\nTHIS AND THAT.\n"),
    "tabs": ('=== "One tab"\n\n    - a\n    - b\n\n=== "Two"\n\n    c\n', ["One tab", "a", "b", "Two", "c"], '=== "ONE TAB"\n\n    - A\n    - B\n\n'
                                                                                                             '=== "TWO"\n\n    C\n'),
    "blocks of PyMdown": ("/// note | Some title\n    type: warning\n\ntext\n///\n\n/// html | div.x\ny\n///\n", ["Some title", "text", "y"],
                          "/// note | SOME TITLE\n    type: warning\n\nTEXT\n///\n\n/// html | div.x\nY\n///\n"),
    "ids of headings": ("## A title {#the-id}\n\n### B {: .c #d }\n\nE {.f}\n===\n", ["A title ", "B ", "E "], "## A TITLE {#the-id}\n\n"
                                                                                                               "### B {: .c #d }\n\nE {.f}\n===\n"),
    "lists of attributes": ('a\n{: .b }\n\n[c d](e){: target="_blank" } f **g**{.h} i\n\n{:toc}\n', ["a", "<x0>c d</x0><x3/> f <x5>g</x5><x8/> i"],
                            'A\n{: .b }\n\n[C D](e){: target="_blank" } F **G**{.h} I\n\n{:toc}\n'),
    "blocks of formulas": ("a\n$$\nx = \\text{b}\n$$\nc\n\n\\[\nd\n\\]\n\n\\begin{align}\ne &= f\n\\end{align}\n\n$$ g $$ {#eq:h}\n\n\\[see below\\] i\n",
                           ["a", "c", "\\[see below\\] i"],
                           "A\n$$\nx = \\text{b}\n$$\nC\n\n\\[\nd\n\\]\n\n\\begin{align}\ne &= f\n\\end{align}\n\n$$ g $$ {#eq:h}\n\n\\[SEE BELOW\\] I\n"),
    "formulas in a text": ("Let $x_i$ and $n$ be \\(y^2\\) or $$z$$ for $5 and $10, \\[not that\\].\n",
                           ["Let <x1/> and <x3/> be <x5/> or <x7/> for $5 and $10, \\[not that\\]."],
                           "LET $x_i$ AND $n$ BE \\(y^2\\) OR $$z$$ FOR $5 AND $10, \\[NOT THAT\\].\n"),
    "shortcodes of Hugo": ('{{< figure src="a.png"\n  title="b" >}}\n\n{{% notice tip %}}\ntext {{< x "y" >}} z\n{{% /notice %}}\n\n'
                           '{{< highlight go >}}\nvar a\n{{< /highlight >}}\n',
                           ["text <x1/> z"],
                           '{{< figure src="a.png"\n  title="b" >}}\n\n{{% notice tip %}}\nTEXT {{< x "y" >}} Z\n{{% /notice %}}\n\n'
                           '{{< highlight go >}}\nvar a\n{{< /highlight >}}\n'),
    "Liquid": ("{% if a %}\nyes\n{% else %}\nno\n{% endif %}\n{% raw %}\ncode\n{% endraw %}\n\n{% a %} b {% c %}\n\n"
               "[d e]({% link f.md %}) g\n", ["yes", "no", " b ", "<x0>d e</x0> g"],
               "{% if a %}\nYES\n{% else %}\nNO\n{% endif %}\n{% raw %}\ncode\n{% endraw %}\n\n{% a %} B {% c %}\n\n[D E]({% link f.md %}) G\n"),
    "definitions": ("Term one\nTerm two\n:   It is\n    long.\n\n    More.\n: Second\n\nafter\n", ["Term one", "Term two", "It is long.", "More.", "Second",
        "after"],
                    "TERM ONE\nTERM TWO\n:   IT IS\n    LONG.\n\n    MORE.\n: SECOND\n\nAFTER\n"),
    "footnotes": ("a[^1] b\n\n[^1]: word\n[^b]: first\n    and on.\n\n    Second paragraph.\n\n        code\n", ["a<x1/> b", "word", "first and on.",
        "Second paragraph."],
                  "A[^1] B\n\n[^1]: WORD\n[^b]: FIRST\n    AND ON.\n\n    SECOND PARAGRAPH.\n\n        code\n"),
    "tasks": ("- [ ] to do\n- [x] done\n", ["to do", "done"], "- [ ] TO DO\n- [x] DONE\n"),
    "abbreviations": ("*[HTML]: Hyper Text\n*[W3C]: World Wide\n", ["Hyper Text", "World Wide"], "*[HTML]: HYPER TEXT\n*[W3C]: WORLD WIDE\n"),
    "MDX": (
        "import A, {b} from './c'\nimport './d.css'\n\nexport const e = {\n  f: 'g h',\n}\n\n<Tabs>\n<TabItem value=\"x\"\n  label={y > 1}>\n\nText\n"
        "here\n\n</TabItem>\n</Tabs>\n"
        "\n{/* a note */}\n\n<B>in it</B> c\n",
        ["Text here", "<x0>in it</x0> c"],
        "import A, {b} from './c'\nimport './d.css'\n\nexport const e = {\n  f: 'g h',\n}\n\n<Tabs>\n<TabItem value=\"x\"\n  label={y > 1}>\n\nTEXT\n"
        "HERE\n\n</TabItem>\n</Tabs>\n"
        "\n{/* a note */}\n\n<B>IN IT</B> C\n",
    ),
    "text right after a component": ("<Note>\ntext\n</Note>\n", ["text"], "<Note>\nTEXT\n</Note>\n"),
    "prose that begins as code does": ("import duties from 'there' rise\n\nexport is up\n", ["import duties from 'there' rise", "export is up"],
                                       "IMPORT DUTIES FROM 'THERE' RISE\n\nEXPORT IS UP\n"),
    "links of wikis": ("See [[Some page]] and ![[pic.png]] or [[a|b]].\n", ["See <x1/> and <x3/> or <x5/>."],
        "SEE [[Some page]] AND ![[pic.png]] OR [[a|b]].\n"),
    "definitions of links": ('[a]: <b c> "d"\n[e f]: http://g\n\n[H i][a] and [e f] j\n', ["<x0>H i</x0> and <x4>e f</x4> j"],
                             '[a]: <b c> "d"\n[e f]: http://g\n\n[H I][a] AND [E F][e f] J\n'),
    "snippets": ('--8<-- "a.md"\n\n--8<--\nb.md\nc.md\n--8<--\n\n[TOC]\n\n<<< @/d.js{1,2}\n\n(label)=\n# e\n', ["e"],
                 '--8<-- "a.md"\n\n--8<--\nb.md\nc.md\n--8<--\n\n[TOC]\n\n<<< @/d.js{1,2}\n\n(label)=\n# E\n'),
    "destinations of links": ("[a b](<c d(e>) [f [g] h](i) [j](k(l)m 'n') [`o]` p](q) r\n",
                              ["<x0>a b</x0> <x4>f [g] h</x4> <x8>j</x8> <x12><x13/> p</x12> r"], "[A B](<c d(e>) [F [G] H](i) [J](k(l)m 'n') [`o]` P](q) R\n"),
    "code stays": ("```md\n:::note Title\n!!! note \"T\"\n    a\n```\n\n    $$ b\n    : c\n\n- d\n\n  ~~~\n  *[E]: f\n  ~~~\n", ["d"],
                   "```md\n:::note Title\n!!! note \"T\"\n    a\n```\n\n    $$ b\n    : c\n\n- D\n\n  ~~~\n  *[E]: f\n  ~~~\n"),
    "directives of MyST": (
        "```{admonition} The *title*\n:class: tip\n\nText\nof it.\n\n~~~{note}\ninner\n~~~\n```\n\n```{code-block} python\na = 1\n```\n\n:::{tip} T\n"
        ":name: x\nb\n:::\n",
        ["The <x1>title</x1>", "Text of it.", "inner", "T", "b"],
        "```{admonition} THE *TITLE*\n:class: tip\n\nTEXT\nOF IT.\n\n~~~{note}\nINNER\n~~~\n```\n\n```{code-block} python\na = 1\n```\n\n:::{tip} T\n"
        ":name: x\nB\n:::\n",
    ),
    "blocks of lines": ("| One line\n|   and two\n\n| a |\n|---|\n| b |\n", ["One line", "and two", "a", "b"], "| ONE LINE\n|   AND TWO\n\n| A |\n"
                                                                                                               "|---|\n| B |\n"),
    "keys and highlights": ("Press ++ctrl+del++ to ==see it== at ^^once^^, a == b.\n", ["Press <x1/> to <x3>see it</x3> at <x7>once</x7>, a == b."],
                            "PRESS ++ctrl+del++ TO ==SEE IT== AT ^^ONCE^^, A == B.\n"),
    "elements that hold no text": ("Press <kbd>Ctrl</kbd> at <code>npm *i*</code> or <b>see</b> <i translate=\"no\">Acme <i>x</i></i> and <var>a.\n",
                                   ["Press <x1/> at <x3/> or <x5>see</x5> <x9/> and <x11/>a."],
                                   "PRESS <kbd>Ctrl</kbd> AT <code>npm *i*</code> OR <b>SEE</b> <i translate=\"no\">Acme <i>x</i></i> AND <var>A.\n"),
    "comments of Obsidian": ("a\n\n%% not this %%\n", ["a"], "A\n\n%% not this %%\n"),
    "an alert in an item": ("- a\n\n    - b\n\n      > [!NOTE]\n      > c\n      > d\n", ["a", "b", "c d"], "- A\n\n    - B\n\n      > [!NOTE]\n"
                                                                                                            "      > C\n      > D\n"),
    "a quotation in a note": ('!!! a\n    > b\n    > [!TIP] c\n\n    d\n\n> !!! e\n>     f\n', ["b", "c", "d", "f"], '!!! a\n    > B\n    > [!TIP] C\n'
                                                                                                                     '\n    D\n\n> !!! e\n>     F\n'),
    "comments and elements that hold no Markdown": ("<!--\n:::note a\n!!! b \"c\"\n-->\n\n<pre>\n=== \"d\"\n</pre>\n\n"
                                                    "<Foo a={1 > 0} b={{c: 1}}>d</Foo> e\n", ["<x0>d</x0> e"],
        "<!--\n:::note a\n!!! b \"c\"\n-->\n\n<pre>\n=== \"d\"\n</pre>\n\n<Foo a={1 > 0} b={{c: 1}}>D</Foo> E\n"),
    "marks of Docsify": ("!> Take care\n\n?> A tip\n", ["Take care", "A tip"], "!> TAKE CARE\n\n?> A TIP\n"),
    "ends of lines": ("::: tip A b\r\nc\r\nd\r\n:::\r\n", ["A b", "c d"], "::: tip A B\r\nC\r\nD\r\n:::\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_dialects(name: str) -> None:
    source, texts, expected = CASES[name]
    assert through("markdown", source, same)[0].decode() == source
    output, visitor = through("markdown", source, loud)
    assert (visitor.texts, output.decode(), visitor.messages) == (texts, expected, [])


@pytest.mark.parametrize(
    "table",
    [
        "+-----+-----+\n| a b | c   |\n+=====+=====+\n| d   | e   |\n+-----+-----+\n",
        "  One    Two\n-----  -----\n    a      b\n    c      d\n",
        "-------------\n One    Two\n-----  -----\n  a      b\n-------------\n".replace("-------------", "----- ------"),
    ],
)
def test_tables_that_are_drawn_stay_with_a_warning(table: str) -> None:
    source = f"before\n\n{table}\nafter\n"
    output, visitor = through("markdown", source, loud)
    assert output.decode() == f"BEFORE\n\n{table}\nAFTER\n" and visitor.texts == ["before", "after"]
    assert visitor.messages == ["warn line 3: a table that is drawn with lines is not translated"]


def test_a_quote_in_a_title_does_not_end_it() -> None:
    output, _ = through("markdown", '!!! note "A b"\n    c\n', lambda unit: Replacement('Á "b"' if unit.text == "A b" else unit.text))
    assert output.decode() == '!!! note "Á ”b”"\n    c\n'


@pytest.mark.parametrize(
    "markup", ['{{< figure src="a b" alt="c d" >}}', "[[Some long page]]", "$a + b + c$", '[x](<y z> "t u")', "`a b c d e`", "*f*{ .g .h #i }"]
)
def test_no_line_is_broken_inside_markup(markup: str) -> None:
    source = f"One two three four\nfive {markup} six.\n"
    for words in range(1, 12):
        text = " ".join(["orð"] * words)
        output, _ = through("markdown", source, lambda unit, text=text: Replacement(unit.text.replace("One two three four five", text)))
        assert markup in output.decode() and output.decode().count("\n") == 2


def test_no_broken_line_begins_a_block() -> None:
    output, _ = through("markdown", "one two\nthree four\n", lambda unit: Replacement("einn tveir ::: fjórir"))
    assert output.decode() == "einn tveir :::\nfjórir\n"


@pytest.mark.parametrize(
    ("source", "translation", "expected"),
    [
        ("May 3 is free\n", "3. maí er frídagur", "3\\. maí er frídagur\n"), ("> May 3\n", "3. maí", "> 3\\. maí\n"), ("- May 3\n", "3) maí", "- 3\\) maí\n"),
        ("# May 3\n", "3. maí", "# 3. maí\n"), ("May 3\n===\n", "3. maí", "3\\. maí\n===\n"), ("a\n", "- b", "\\- b\n"), ("a\n", "# b", "\\# b\n"),
        ("a\n", "> b", "\\> b\n"), ("a\n", "---", "\\---\n"), ("a\n", "```", "\\```\n"), ("a\n", "-b", "-b\n"), ("a\n", "3.5", "3.5\n"),
        ("1986\\. a\n", "1986. b", "1986\\. b\n"), ("a  \nb\n", "-", "\\-  \n\\-\n"), ("| a |\n|---|\n| May 3 |\n", "3. b", "| 3. b |\n|---|\n| 3. b |\n"),
    ],
)  # fmt: skip
def test_no_translation_begins_a_block(source: str, translation: str, expected: str) -> None:
    assert through("markdown", source, lambda unit: Replacement(translation))[0].decode() == expected


def test_a_shadow_has_as_many_lines() -> None:
    for unit in ("$$\n", ":::a\n", "{{<\n", "{% raw %}\n", "<A\n", "!!! a\n", "> [!a]\n", ": a\n", "\\[\n", "[^a]: b\n", "export {\n", "--8<--\n",
        "    === \"a\"\n", "{% a", "```{note}\n", "<!-- a\n", "<pre>\n", "+--+\n", "-- --\n", "| a\n"):  # fmt: skip
        lines = [unit] * 2000
        began = time.thread_time()
        assert len(read_dialects(lines).shadow) == len(lines)
        assert time.thread_time() - began < 2, unit


@pytest.mark.parametrize(
    ("text", "formula"), [("x", True), ("5 and ", False), ("10", True), ("5x+1", True), ("see below", False), ("\\text{see below}", True), ("f(x)", True)]
)
def test_formulas(text: str, formula: bool) -> None:
    assert is_formula(text) is formula
