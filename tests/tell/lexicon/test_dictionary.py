"""Dictionaries in the formats that are read, and what in them cannot be used."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tell.alignment import dictionary as module
from tell.alignment.dictionary import Dictionary, foreign, plain, read_dictionary, turned_round
from tell.errors import CorpusError
from tell.languages import parse_pair

PAIR = parse_pair("is-en")
TBX = """<?xml version="1.0"?><tbx xmlns="urn:iso:std:iso:30042:ed-2" type="TBX-Basic"><text><body><conceptEntry id="1">
<langSec xml:lang="en"><termSec><term>horse</term></termSec><termSec><term>steed</term></termSec></langSec>
<langSec xml:lang="is-IS"><termSec><term>hestur</term></termSec></langSec></conceptEntry></body></text></tbx>"""
OLD_TBX = """<?xml version="1.0"?><martif type="TBX"><text><body><termEntry><langSet xml:lang="is"><tig><term>hestur</term></tig></langSet>
<langSet xml:lang="en"><tig><term>horse</term></tig></langSet></termEntry></body></text></martif>"""
TMX = """<?xml version="1.0"?><tmx version="1.4"><header srclang="en"/><body><tu><tuv xml:lang="en"><seg>horse</seg></tuv>
<tuv xml:lang="is"><seg>hestur</seg></tuv></tu></body></tmx>"""
DIX = """<?xml version="1.0"?><dictionary><section id="main" type="standard">
<e><p><l>hestur<s n="n"/></l><r>horse<s n="n"/></r></p></e><e r="LR"><p><l>fákur<s n="n"/></l><r>horse<s n="n"/></r></p></e>
<e r="RL"><p><l>klár<s n="n"/></l><r>steed<s n="n"/></r></p></e><e><p><l>bíll<s n="n"/></l><r>motor<b/>car<s n="n"/></r></p></e></section></dictionary>"""


# What pyglossary 5.1.1 writes of a StarDict dictionary as "Tabfile" and as CSV.
TABFILE = r"""##name	Test (is-en)
##version	3.0.0
##sourceLang	Icelandic
##targetLang	English
a\|b	pipe\\word\ttab
hestur|hesturinn	<b>horse</b>; steed
hús	house\nbuilding
og & svo	and & so <then>
orð|orðin, orðanna	<div>/ɔrð/ <i>n</i> <ol><li>word</li><li>promise</li></ol></div>
bók	<i>book</i>
R&D	research &amp; development
"""
CSV_FILE = """"#name","Test (is-en)"\r
"#sourceLang","Icelandic"\r
"#targetLang","English"\r
"a|b","pipe\\word	tab"\r
"hestur","<b>horse</b>; steed","hesturinn"\r
"hús","house
building"\r
"og & svo","and & so <then>"\r
"orð","<div><i>n</i> <ol><li>word</li><li>promise</li></ol></div>","orðin, orðanna"\r
"bók","<i>book</i>"\r
"R&D","research &amp; development"\r
"""
CONVERTED = {
    "bók": ["book"], "hestur": ["horse", "steed"], "hesturinn": ["horse", "steed"], "hús": ["house", "building"],
    "orð": ["word", "promise"], "orðin": ["word", "promise"], "orðanna": ["word", "promise"],
}  # fmt: skip


def listed(path: Path, backward: bool = False) -> dict[str, list[str]]:
    return {head: list(translations) for head, translations in read_dictionary(path, PAIR, backward).entries.items()}


def entries(path: Path, text: str, backward: bool = False) -> dict[str, list[str]]:
    path.write_text(text, encoding="utf-8")
    return listed(path, backward)


def test_ranks_of_senses_decide_the_order(tmp_path: Path) -> None:
    text = "setning\tposition\tn\t1\nsetning\tsentence\tn\t0\nSetning\tsentence\tn\t0\n"
    assert entries(tmp_path / "d.tsv", text) == {"setning": ["sentence", "position"]}


def test_without_ranks_the_file_decides(tmp_path: Path) -> None:
    assert entries(tmp_path / "d.tsv", "hús\thouse\nhús\tbuilding; home, dwelling\n") == {"hús": ["house", "building", "home", "dwelling"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.tsv", "is\ten\nhestur\thorse\n"), ("b.tsv", "en\tis\nhorse\thestur\n"), ("c.TMX", TMX), ("d.tbx", OLD_TBX), ("e.tsv", "\ufeffhestur\thorse\r\n")],
)
def test_files_that_say_their_direction(tmp_path: Path, name: str, text: str) -> None:
    assert entries(tmp_path / name, text) == {"hestur": ["horse"]}


def test_terms_of_one_concept(tmp_path: Path) -> None:
    assert entries(tmp_path / "d.tbx", TBX) == {"hestur": ["horse", "steed"]}


def test_apertium(tmp_path: Path) -> None:
    assert entries(tmp_path / "d.dix", DIX) == {"hestur": ["horse"], "fákur": ["horse"], "bíll": ["motor car"]}
    (tmp_path / "en-is.dix").write_text(DIX.replace("<l>", "<x>").replace("</l>", "</x>").replace("<r>", "<l>").replace("</r>", "</l>")
                                        .replace("<x>", "<r>").replace("</x>", "</r>"), encoding="utf-8")  # fmt: skip
    turned = listed(tmp_path / "en-is.dix", backward=True)
    assert turned == {"hestur": ["horse"], "klár": ["steed"]} | {"bíll": ["motor car"]}


def test_the_other_way_round(tmp_path: Path) -> None:
    assert entries(tmp_path / "d.tsv", "horse\thestur\nsteed\thestur\n", backward=True) == {"hestur": ["horse", "steed"]}


def test_what_pyglossary_writes(tmp_path: Path) -> None:
    found = entries(tmp_path / "d.txt", TABFILE)
    assert found == CONVERTED and read_dictionary(tmp_path / "d.txt", PAIR).left_out == {"not one word": 3}
    found = entries(tmp_path / "d.csv", CSV_FILE)
    # There `|` is no sign of another headword.
    assert {head: found[head] for head in CONVERTED} == CONVERTED
    # It names the languages, and so the columns.
    turned = "##sourceLang\tEnglish\n##targetLang\tIcelandic\nhorse|steed\thestur\n"
    assert entries(tmp_path / "t.txt", turned) == {"hestur": ["horse", "steed"]}


def test_csv(tmp_path: Path) -> None:
    assert entries(tmp_path / "d.csv", '\ufeffen,is\n"horse","hestur, jór"\n') == {"hestur": ["horse"], "jór": ["horse"]}
    assert entries(tmp_path / "e.csv", "hestur,steed,n,1\nhestur,horse,n,0\n") == {"hestur": ["horse", "steed"]}


def test_compressed(tmp_path: Path) -> None:
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(b"hestur\thorse\n"))
    assert listed(tmp_path / "d.tsv.gz") == {"hestur": ["horse"]}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<b>horse</b>", "horse"),
        ("horse &amp; cart", "horse & cart"),
        ("horse (animal) [zool.]", "horse"),
        ("<div><i>n</i> horse<br/></div>", "n horse"),
        ("  a \u00a0 b ", "a b"),
        ("5 < 6", "5 < 6"),
    ],
)
def test_html_and_remarks_go(text: str, clean: str) -> None:
    assert plain(text) == clean


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    rows = ["hestur\thorse", "\thorse", "hestur\t", "taxi\ttaxi", "að lokum\tfinally", "x\ta long and winding definition of a thing", "y\t12", "z\t<br>"]
    (tmp_path / "d.tsv").write_text("\n".join(rows) + "\n\n", encoding="utf-8")
    found = read_dictionary(tmp_path / "d.tsv", PAIR)
    assert found.entries == {"hestur": {"horse": 0}} and found.read == 8
    assert found.left_out == {"empty": 3, "the same on both sides": 1, "not one word": 1, "a definition, or no word": 2}


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.tsv", b"hestur\nhorse\n", "one column.*found hestur"),
        ("b.tsv", b"", "nothing in this dictionary"),
        ("c.tsv", b"taxi\ttaxi\n", "1 the same on both sides"),
        ("d.tsv", b"fo\ten\nhestur\thorse\n", "another pair; found fo-en"),
        ("e.tsv", b"hestur\t\xff\n", "not UTF-8"),
        ("f.tbx", TBX.replace("is-IS", "fo").encode(), "no terms of this pair; found en, fo"),
        ("g.tmx", TMX.replace('"is"', '"fo"').encode(), "fo"),
        ("h.tbx", b"<tbx>", "not well-formed"),
        ("i.tbx", b'<!DOCTYPE x [<!ENTITY a "b">]><x><conceptEntry>&a;</conceptEntry></x>', "entities"),
        ("j.dix", b"<dictionary/>", "nothing in this dictionary"),
        ("k.csv", b"hestur\n", "line 1: one column.*found hestur"),
        ("l.csv", b"hestur,h\xff\n", "not CSV; found not UTF-8"),
        ("m.csv", b'hestur,"horse\n', "not CSV; found unexpected end of data"),
        ("n.csv", b"fo,en\nhestur,horse\n", "another pair; found fo-en"),
    ],
)
def test_a_file_that_is_no_dictionary_of_the_pair(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError, match=said):
        read_dictionary(tmp_path / name, PAIR)


def test_no_more_than_a_bound_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 100)
    (tmp_path / "d.tsv").write_text("hestur\thorse\n" * 1000, encoding="utf-8")
    with pytest.raises(CorpusError, match="more than 100"):
        read_dictionary(tmp_path / "d.tsv", PAIR)


def test_a_dictionary_of_another_language_is_doubted(tmp_path: Path) -> None:
    letters = "abcdefghij"
    sources = [f"orð{a}{b}{c}" for a in letters for b in letters for c in letters]
    entries(tmp_path / "d.tsv", "".join(f"{s}\tword{letters[n % 7]}\n" for n, s in enumerate(sources)))
    found = read_dictionary(tmp_path / "d.tsv", PAIR)
    assert foreign(found, sources) is None and foreign(found, [f"annað{s}" for s in sources]) == 0
    # A few terms, or a few sentences, say nothing.
    assert foreign(found, ["annað"]) is None


def test_sides_that_are_exchanged_are_noticed(tmp_path: Path) -> None:
    nouns = [(f"orð{a}{b}", f"word{a}{b}") for a in "abcdefgh" for b in "abcdefgh"]
    entries(tmp_path / "d.tsv", "".join(f"{target}\t{source}\n" for source, target in nouns))
    wrong = read_dictionary(tmp_path / "d.tsv", PAIR)
    sources, targets = [s for s, _ in nouns], [t for _, t in nouns]
    assert turned_round(wrong, sources, targets)
    assert not turned_round(read_dictionary(tmp_path / "d.tsv", PAIR, backward=True), sources, targets)
    assert not turned_round(wrong, ["eitthvað"], ["something"])


def test_a_small_dictionary_is_judged_by_first_letters(tmp_path: Path) -> None:
    """None of its words is in the corpus as it is written there."""
    stems = [f"{a}{b}{c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwxyz"]
    sources, targets = [f"ið{s}um" for s in stems], [f"th{s}ly" for s in stems]
    rows = [(f"ið{s}", f"th{s}") for s in stems[:120]]

    def read(rows: list[tuple[str, str]]) -> Dictionary:
        (tmp_path / "d.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
        return read_dictionary(tmp_path / "d.tsv", PAIR)

    right, wrong = read(rows), read([(target, source) for source, target in rows])
    assert not turned_round(right, sources, targets) and foreign(right, sources) is None
    assert turned_round(wrong, sources, targets) and turned_round(read([(t, s) for s, t in rows[:12]]), sources, targets)
    other = read([(f"zz{s}", f"th{s}") for s in stems[:120]])
    assert foreign(other, sources) == 0 and not turned_round(other, sources, targets)
    # What is too little to judge by: a handful of words that are not there, and a corpus of a few sentences.
    assert foreign(read([(f"zz{s}", f"th{s}") for s in stems[:60]]), sources) is None
    assert foreign(other, sources[:400]) is None and not turned_round(wrong, sources[:400], targets[:400])
