"""XML of strangers: read as a stream, nothing resolved, nothing fetched."""

from __future__ import annotations

import io

import pytest

from tell.errors import CorpusError
from tell.text.safe_xml import elements

BOMB = b'<!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><t><s>&b;</s></t>'
BAD = {
    "a bomb": (BOMB, "defines entities.*a, b"),
    "a file of this machine": (b'<!DOCTYPE t [<!ENTITY e SYSTEM "file:///etc/passwd">]><t><s>&e;</s></t>', "defines entities.*found e"),
    "a parameter entity": (b'<!DOCTYPE t [<!ENTITY % p "x">]><t><s>1</s></t>', "defines entities"),
    "an entity nobody defined": (b"<t><s>a &nbsp; b</s></t>", "not well-formed"),
    "one that a DTD elsewhere would define": (b'<!DOCTYPE t SYSTEM "t.dtd"><t><s>a &e; b</s></t>', "entity"),
    "cut off": (b"<t><s>one</s><s>tw", "f.xml, line 1.*not well-formed"),
    "nothing at all": (b"", "not well-formed"),
    "no XML": (b"PK\x03\x04", "not well-formed"),
    "a NUL": (b"<t><s>a\x00b</s></t>", "not well-formed"),
    "too deep": (b"<t>" + b"<s>" * 5000 + b"</s>" * 5000 + b"</t>", "not well-formed"),
}


@pytest.mark.parametrize(("data", "says"), BAD.values(), ids=BAD)
def test_what_is_refused_by_the_stream(data: bytes, says: str) -> None:
    with pytest.raises(CorpusError, match=says):
        list(elements(io.BytesIO(data), ["s"], place="f.xml", error=CorpusError))


def test_a_document_type_and_other_names_are_let_pass() -> None:
    data = b'<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd"><t xmlns="urn:x"><s>one &amp; two</s><u/><s>three</s></t>'
    assert [element.text for _, element in elements(io.BytesIO(data), ["{*}s"], place="f.xml")] == ["one & two", "three"]


def test_what_is_done_with_is_let_go() -> None:
    data = io.BytesIO(b"<t>" + b"<s><a>some text that is long enough</a></s>" * 5_000 + b"</t>")
    seen = 0
    for _, element in elements(data, ["s"], place="f.xml"):
        before = element.getprevious()
        assert before is None or (len(before) == 0 and before.getprevious() is None)
        seen += 1
    assert seen == 5_000
