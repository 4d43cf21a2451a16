"""Memories with a damaged unit: it is left out and counted, the others are read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tell.text.safe_xml import Forbidden, WithoutForbidden, elements, forbidden_in
from tests.support import corpora
from tests.support.mixing import CLI

ROWS = corpora.pairs(40)


@pytest.mark.parametrize("damage", ["&#x0;", "&#11;", "&#xFFFF;", "\x0c"])
@pytest.mark.parametrize("name", ["m.tmx", "m.xlf"])
def test_one_damaged_unit(name: str, damage: str, here: CLI) -> None:
    raw = corpora.tmx(ROWS) if name == "m.tmx" else corpora.xliff(ROWS)
    Path(name).write_bytes(raw.replace(ROWS[7][0].encode(), f"{ROWS[7][0]} {damage}".encode(), 1))
    done = here("corpus", "build", name, "--pair", "is-en", "--off", "near-duplicate", "--dev", 0, "--test", 0, "-o", "c", "--json").json
    assert (done["read"], done["kept"]) == (40, 39) and sum(done["dropped"].values()) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_streams_in_blocks_of_any_size(encoding: str, size: int) -> None:
    bom = "" if encoding == "utf-8" else "\ufeff"
    text = bom + "<a>&#x0;b&amp;&#225;&#xB;c\x01ሀ\u2600\u2300\x02&#65;<![CDATA[ & ]]></a>"
    stream = WithoutForbidden(io.BytesIO(text.encode(encoding)))
    output = b"".join(iter(lambda: stream.read(size), b""))
    mark = "&#xFFFD;"
    expected = text.replace("&#x0;", mark).replace("&#xB;", mark).replace("\x01", mark).replace("\x02", mark)
    assert output.decode(encoding) == expected
    _, element = next(elements(WithoutForbidden(io.BytesIO(text.encode(encoding))), place="x"))
    assert element.text == "\ufffdb&á\ufffdc\ufffdሀ\u2600\u2300\ufffdA & "


def test_as_many_bytes_as_before() -> None:
    for encoding in ("utf-8", "utf-16-le"):
        text = ("" if encoding == "utf-8" else "\ufeff") + "<a>&#x0;b\x1f</a>"
        forbidden = Forbidden()
        assert forbidden.feed(text.encode(encoding), True).decode(encoding) == text.replace("&#x0;", "     ").replace("\x1f", " ") and forbidden.count == 2
        assert forbidden_in(text.encode(encoding), encoding) == "&#x0;" and forbidden_in("&#65;a\n".encode(encoding), encoding) is None


def test_letters_of_iso_2022_stay() -> None:
    raw = b"<?xml version='1.0' encoding='ISO-2022-JP'?><a>\x1b$B$\"\x1b(B</a>"
    assert Forbidden().feed(raw, True) == raw
