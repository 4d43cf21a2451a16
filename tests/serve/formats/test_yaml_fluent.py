"""YAML and Fluent: right values of each. A pass that writes in capitals, and one that repeats its input."""

from __future__ import annotations

import pytest

from tell.errors import BadInput
from tests.support.formats_fixture import loud, nothing, same, through

# name to (pair, file, texts, what comes out, what is said).
YAML: dict[str, tuple[str, str, list[str], str, list[str]]] = {
    "Rails": (
        "en-is",
        "# The texts\nen:\n  hi: Hi there # said first\n  a: &x \"It's \\\"b\\\"\\n\"\n  b: *x\n  c: 'It''s'\n  n: 12\n  t: yes\n  e:\n  s: ''\n"
        '  date:\n    order:\n    - :year\n    formats:\n      long: "%B %d, %Y"\n    days:\n    - Monday\n    - "Tuesday"\n',
        ["Hi there", 'It\'s "b"\n', "It's", "", "Monday", "Tuesday"],
        "# The texts\nis:\n  hi: HI THERE # said first\n  a: &x \"IT'S \\\"B\\\"\\n\"\n  b: *x\n  c: 'IT''S'\n  n: 12\n  t: yes\n  e:\n  s: ''\n"
        '  date:\n    order:\n    - :year\n    formats:\n      long: "%B %d, %Y"\n    days:\n    - MONDAY\n    - "TUESDAY"\n',
        [],
    ),
    "blocks": (
        "en-is",
        "en:\n  a: |\n    one\n\n      two\n  b: >-\n    three\n    four\n\n    five\n  # c\n  c: |-\r\n    six\r\n    seven\r\n  d: eight\n    nine",
        ["one\n\n  two\n", "three four\nfive", "six\nseven", "eight nine"],
        "is:\n  a: |\n    ONE\n\n      TWO\n  b: >-\n    THREE FOUR\n\n    FIVE\n  # c\n  c: |-\r\n    SIX\r\n    SEVEN\r\n  d: EIGHT NINE",
        [],
    ),
    "plurals": (
        "en-pl",
        'en:\n  days:\n    zero: none\n    one: a day # one\n    # more\n    other: "%{count} days"\n  x: z\n',
        ["none", "a day", "%{count} days", "%{count} days", "%{count} days", "z"],
        "pl:\n  days:\n    zero: NONE\n    one: A DAY # one\n    # more\n"
        '    few: "%{COUNT} DAYS"\n    many: "%{COUNT} DAYS"\n    other: "%{COUNT} DAYS"\n  x: Z\n',
        [],
    ),
    "fewer plurals, and in one line": (
        "en-ja",
        "en:\n  a:\n    one: a\n    other: b\n  c: {one: d, other: e}\n",
        ["b", "d", "e"],
        "ja:\n  a:\n    other: B\n  c: {one: D, other: E}\n",
        ["warn line 5: plural forms that are written in one line stay as many"],
    ),
    "Hugo": (
        "en-is",
        "- id: a\n  translation: b\n- id: c\n  translation:\n    one: d\n    other: e\n",
        ["b", "d", "e"],
        "- id: a\n  translation: B\n- id: c\n  translation:\n    one: D\n    other: E\n",
        [],
    ),
    "go-i18n and Symfony": (
        "en-is",
        'a:\n  description: x\n  other: b\nc.d: \'e\'\n"f": {"g": h}\n',
        ["b", "e", "h"],
        'a:\n  description: x\n  other: B\nc.d: \'E\'\n"f": {"g": H}\n',
        [],
    ),
    "a root that is read as a truth value": ("en-no", "en:\n  a: b\n", ["b"], '"no":\n  a: B\n', []),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml(name: str) -> None:
    pair, source, texts, expected, messages = YAML[name]
    output, visitor = through("yaml", source, loud, pair=pair)
    assert (visitor.texts, output.decode().replace("COUNT", "count"), visitor.messages) == (texts, expected.replace("COUNT", "count"), messages)
    for answer in (nothing, same):
        assert through("yaml", source, answer, pair=None)[0].decode() == source
    import yaml

    assert yaml.safe_load(output) is not None


# What an engine may answer for a plain scalar `x y`, to what is written.
SCALARS = {
    "a: b": '"a: b"',
    "no": '"no"',
    "12": '"12"',
    "- a": '"- a"',
    "a #b": '"a #b"',
    "a, b [c]": "a, b [c]",
    "Já, «þetta»": "Já, «þetta»",
    "@a": '"@a"',
    "{a}": '"{a}"',
    'a "b"': 'a "b"',
    "%{a}": '"%{a}"',
    "2020-01-01": '"2020-01-01"',
    "a:": '"a:"',
    " a": '" a"',
    "": '""',
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_that_need_quotes(text: str) -> None:
    import yaml

    from serve.formats.units import Replacement

    for source, read in (
        ("a: x y\n", lambda v: v["a"]),
        ("a: 'x y'\n", lambda v: v["a"]),
        ('a: "x y"\n', lambda v: v["a"]),
        ("a: [x y]\n", lambda v: v["a"][0]),
    ):
        output = through("yaml", source, lambda unit: Replacement(text))[0].decode()
        assert read(yaml.safe_load(output)) == text
        if source == "a: x y\n":
            assert output == f"a: {SCALARS[text]}\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a: b\n c: d\n", "line 2: this is not YAML; found mapping values are not allowed in this context"),
        ("apiVersion: v1\nkind: Pod\n", "this YAML is no catalogue of texts"),
        ("- a\n- b\n", "this YAML is no catalogue of texts; found a list"),
        ("en:\n  a: b\nis:\n  a: b\n", "the file has texts of several languages; found en, is"),
        ("".join(f"k{i}: value{i}\n" for i in range(9)), "this file has settings, and no texts; found 9 of 9 values that are paths, numbers or names"),
        ("[" * 200, "nested too deep"),
        ("a: \x01\n", "line 1: this is not YAML"),
    ],
)
def test_yaml_that_is_refused(data: str, message: str) -> None:
    from serve.formats.units import UPLOADED

    with pytest.raises(BadInput) as e:
        through("yaml", data, bounds=UPLOADED)
    assert message in str(e.value)


# name to (pair, file, texts, what comes out, what is said).
FLUENT: dict[str, tuple[str, str, list[str], str, list[str]]] = {
    "messages, attributes and terms": (
        "en-is",
        "# Hi\n### c\na = Hi { $n }, you\n    .title = T of { -brand }\n    .accesskey = T\n-brand = Bird\n    .gender = x\nb = { a }\n",
        ["Hi <x1/>, you", "T of ", "Bird", "x"],
        "# Hi\n### c\na = HI { $n }, YOU\n    .title = T OF { -brand }\n    .accesskey = T\n-brand = BIRD\n    .gender = X\nb = { a }\n",
        [],
    ),
    "blocks and escapes": (
        "en-is",
        'a =\n    one two\n    three { "" }\n    four\n\n    five\nb = .x {"{"} y\n',
        ["one two three <x1/> four\nfive", ".x <x1/> y"],
        'a =\n    ONE TWO THREE { "" } FOUR\n\n    FIVE\nb = .X {"{"} Y\n',
        [],
    ),
    "plurals": (
        "en-pl",
        "a = You have { $n ->\n        [0] none\n        [one] { $n } day\n       *[other] { $n } days\n    } left\n",
        ["none", " day", " days", " days", " days", "You have <x1/> left"],
        "a = YOU HAVE { $n ->\n        [0] NONE\n        [one] { $n } DAY\n        [few] { $n } DAYS\n        [many] { $n } DAYS\n       *[other] { $n } DAYS\n"
        "    } LEFT\n",
        [],
    ),
    "fewer plurals, and other selectors": (
        "en-ja",
        "a =\n    { NUMBER($n) ->\n        [one] a day\n       *[other] { $n } days\n    }\nb = { PLATFORM() ->\n    [macos] x\n   *[other] y\n}\n",
        [" days", "x", "y"],
        "a =\n    { NUMBER($n) ->\n       *[other] { $n } DAYS\n    }\nb = { PLATFORM() ->\n    [macos] X\n   *[other] Y\n}\n",
        [],
    ),
    "what is not Fluent": ("en-is", "a = b\njunk here\nc = d\r\n", ["b", "d"], "a = B\njunk here\nc = D\r\n", ['bad line 2: not Fluent: Expected token: "="']),
}


@pytest.mark.parametrize("name", FLUENT)
def test_fluent(name: str) -> None:
    pair, source, texts, expected, messages = FLUENT[name]
    output, visitor = through("fluent", source, loud, pair=pair)
    assert (visitor.texts, output.decode(), visitor.messages) == (texts, expected, messages)
    for answer in (nothing, same):
        assert through("fluent", source, answer, pair=None)[0].decode() == source
    with pytest.raises(BadInput, match="nested too deep"):
        through("fluent", "a = " + "{" * 5000)
