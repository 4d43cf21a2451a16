"""Character references in plain text, and what is no text."""

from __future__ import annotations

import pytest

from tell.text.entities import decoded
from tell.text.identifiers import is_key, is_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [("Tom &amp; Jerry", "Tom & Jerry"), ("it&#39;s", "it's"), ("it&#x27;s", "it's"), ("&amp;quot;hi&amp;quot;", '"hi"'), ("&amp;amp;amp;lt;", "<"),
     ("&Aacute;rni &ndash; &THORN;&oacute;r", "Árni – Þór"), ("a&nbsp;b", "a\u00a0b"), ("a&#10;b", "a b"), ("& quot ; x & quot ;", '" x "'),
     ("& #39 ;", "'"), ("a &lt;b&gt; c", "a <b> c"), ("<b>Tom &amp; J&#39;s</b>", "<b>Tom &amp; J's</b>"), ("AT&T; R&D;", "AT&T; R&D;"), ("&foo;", "&foo;"),
     ("a & b; c", "a & b; c"),
     ("a &gt b", "a &gt b"), ("https://a.is/?a=1&lang=2;", "https://a.is/?a=1&lang=2;")],
)  # fmt: skip
def test_references(text: str, plain: str) -> None:
    assert decoded(text) == plain == decoded(plain)


@pytest.mark.parametrize(
    "text",
    ["https://a.is/b", "www.a.is, b@c.is", "menu.file.open", "550e8400-e29b-41d4-a716-446655440000", "2024-01-02 10:00", "IMG_2034.JPG", "FILE_NOT_FOUND",
     "12.5", "ABC-1234", "v1.2.3", "/usr/share/doc", "example.com/a", "fileMenuOpen", "§ 5", ""],
)  # fmt: skip
def test_what_is_no_text(text: str) -> None:
    assert not is_text(text)


@pytest.mark.parametrize(
    "text", ["Halló", "see https://a.is", "and/or", "e.g.", "kl. 12", "12.5 kg", "COVID-19", "我们的", "A1", "og/eða", "decade", "Ísland", "á"]
)
def test_what_is_a_text(text: str) -> None:
    assert is_text(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [("menu.file.open", True), ("FILE_OPEN", True), ("fileOpen", True), ("home:title", True), ("Open", False), ("Open file", False), ("open", False)],
)
def test_keys(text: str, key: bool) -> None:
    assert is_key(text) is key
