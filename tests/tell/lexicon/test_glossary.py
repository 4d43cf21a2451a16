"""What is a glossary and what is none, where its terms are found in a segment, and whether a translation has them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tell.errors import BadInput
from tell.languages import parse_pair
from tell.lexicon.glossary import MOST_BYTES, MOST_TERMS, Glossary
from tell.lexicon.hints import replaced
from tell.lexicon.terms import TermHint, Terms, honoured
from tell.lexicon.words import Keying


def terms(of: dict[str, str], pair: str = "en-is", prefix: int = 5) -> Terms:
    return Glossary.inline(of).ready(parse_pair(pair), Keying(prefix))


def found(known: Terms, segment: str) -> list[tuple[str, str]]:
    return [(segment[hint.start : hint.end], hint.target) for hint in known.find(segment)]


# Content


def test_the_order_of_terms_is_no_content() -> None:
    one, other = Glossary.inline({"file": "skrá", "save": "vista"}), Glossary.inline({"save": "vista", "file": "skrá"})
    assert one.digest == other.digest and len(one.digest) == 32
    assert one.digest != Glossary.inline({"file": "skrá", "save": "geyma"}).digest
    # Written apart or in other code points, it is the same term.
    assert Glossary.inline({" two  words": "é"}).digest == Glossary.inline({"two words": "e\u0301"}).digest


def test_files_are_read(tmp_path: Path) -> None:
    tsv, csv = tmp_path / "a.tsv", tmp_path / "a.csv"
    tsv.write_bytes(b'\xef\xbb\xbffile\tskr\xc3\xa1\r\n\nsay, "hello"\thall\xc3\xb3\n')
    csv.write_text('file,skrá\n"say, ""hello""",halló\n\n', encoding="utf-8")
    assert dict(Glossary.read(tsv).terms) == {"file": "skrá", 'say, "hello"': "halló"}
    assert Glossary.read(csv).digest == Glossary.read(tsv).digest
    assert Glossary.read(tsv).tsv() == 'file\tskrá\nsay, "hello"\thalló\n'


BAD = {
    "one column": ("file\n", "a.tsv, line 1: not two columns; found 1"),
    "three columns": ("file\tskrá\n\nsave\tvista\tgeyma", "a.tsv, line 3: not two columns; found 3"),
    "no target": ("file\t \n", "a.tsv, line 1: the target term: empty"),
    "no source": ("\tskrá", "a.tsv, line 1: the source term: empty"),
    "two targets": ("file\tskrá\nfile\tskjal", "a.tsv, line 2: a source term has two target terms; valid: one line"),
    "a line end": ("file\tskrá\u2028skjal", "the target term: a term has a control character or a line end; found U+2028"),
    "no terms": ("\n \n", "the glossary has no terms"),
    "a long term": ("x" * 201 + "\tskrá", "a.tsv, line 1: the source term: too long; found 201 characters; valid: at most 200"),
    "many terms": ("".join(f"a{i}\tb\n" for i in range(MOST_TERMS + 1)), "the glossary is too large; valid: at most 10,000 terms"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_glossary_is_told_with_its_line(tmp_path: Path, case: str) -> None:
    file = tmp_path / "a.tsv"
    file.write_text(BAD[case][0], encoding="utf-8")
    with pytest.raises(BadInput) as e:
        Glossary.read(file)
    assert BAD[case][1] in str(e.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('file,"skrá\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"a\.csv, line \d: not CSV"):
        Glossary.read(file)
    file.write_bytes(b"caf\xe9,x\n")
    with pytest.raises(BadInput, match="not UTF-8"):
        Glossary.read(file)
    with file.open("wb") as f:
        f.truncate(MOST_BYTES + 1)
    with pytest.raises(BadInput, match="too large"):
        Glossary.read(file)
    with pytest.raises(BadInput, match="cannot be read"):
        Glossary.read(tmp_path / "none.tsv")


# Finding

WORDS = {"save": "vista", "save as": "vista sem", "as a file": "sem skrá", "sign in": "innskráning", "e-mail": "tölvupóstur", "IT": "tölvudeild", "it": "það",
         "C++": "C++", "Windows 10": "Windows tíu", "document": "skjal", "example": "dæmi", "other": "annar", "50 % off": "helmingsafsláttur"}  # fmt: skip


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("SAVE the saver, unsaved, saves", [("SAVE", "vista")]),
        ("Save as you like", [("Save as", "vista sem")]),
        # Of two terms over each other, the longer one; what is left is looked at too.
        ("Save as a file", [("Save", "vista"), ("as a file", "sem skrá")]),
        ("Sign-in, sign\u2011in, sign in", [("Sign-in", "innskráning"), ("sign\u2011in", "innskráning"), ("sign in", "innskráning")]),
        ("E-Mail and mail, email", [("E-Mail", "tölvupóstur")]),
        ("IT has it", [("IT", "tölvudeild"), ("it", "það")]),
        ("C++ and C", [("C++", "C++")]),
        ("Windows 10, Windows 11", [("Windows 10", "Windows tíu")]),
        ("now 50 % off", [("50 % off", "helmingsafsláttur")]),
        ("documents, a document's, documentation", [("documents", "skjal"), ("document's", "skjal")]),
        ("{save} <b title='save'>save</b> $save$ &save; example.com x@save.is", [("save", "vista")]),
        ("{n, select, other {other # saves}}", [("other", "annar")]),
        ("", []),
    ],
)
def test_terms_are_found(segment: str, expected: list[tuple[str, str]]) -> None:
    assert found(terms(WORDS), segment) == expected


def test_terms_that_differ_in_case_alone() -> None:
    either = {"File": "Skrá", "file": "skrá", "FILE": "SKRÁ"}
    for known in (terms(either), terms(dict(reversed(either.items())))):
        assert found(known, "File file FILE fILE") == [("File", "Skrá"), ("file", "skrá"), ("FILE", "SKRÁ"), ("fILE", "Skrá")]


def test_hints_of_terms_replace_those_of_their_words() -> None:
    lexicon = [TermHint(0, 4, "", ("a",)), TermHint(5, 7, "", ("b",)), TermHint(8, 12, "", ("c",)), TermHint(13, 15, "", ("d",))]
    known = terms({"save as": "vista sem", "it": "það"})
    assert [h.candidates[0] for h in replaced(lexicon, known.find("Save as file it"))] == ["vista sem", "c", "það"]
    assert replaced(lexicon, []) == lexicon and replaced([], known.find("it")) == known.find("it")


def test_forms_are_those_of_the_lexicon() -> None:
    words = {"hundurinn": "the dog", "hundakofi": "kennel", "rauður hundur": "red dog"}
    known = terms(words, "is-en")
    assert found(known, "hundurinn, hundurinnar, hundakofanum") == [("hundurinn", "the dog"), ("hundurinnar", "the dog"), ("hundakofanum", "kennel")]
    assert found(known, "rauður hundurinn") == [("rauður hundurinn", "red dog")]
    # A lexicon that keeps whole words has no forms.
    assert found(terms(words, "is-en", 0), "hundakofanum hundakofi") == [("hundakofi", "kennel")]


def test_languages_with_other_words() -> None:
    assert found(terms({"日本": "Japan", "東京": "Tokyo"}, "ja-en"), "東京は日本です") == [("東京", "Tokyo"), ("日本", "Japan")]
    assert found(terms({"homme": "man"}, "fr-en"), "L’homme") == [("homme", "man")]
    assert found(terms({"bean": "woman", "athair": "father"}, "ga-en"), "an bhean, a n-athair") == [("bhean", "woman"), ("n-athair", "father")]
    assert honoured("cath", "y gath", "cy") and not honoured("cath", "y gât", "cy")


@pytest.mark.parametrize(
    ("target", "translation", "language", "expected"),
    [
        ("skrá", "Vistaðu SKRÁNA.", "is", True),
        ("tölva", "í tölvunni", "is", True),
        ("hurð", "dyr hurðarinnar", "is", True),
        ("skjal", "skjár", "is", False),
        ("vista sem", "Vistaðu sem", "is", True),
        ("vista sem", "Vista og geyma sem", "is", False),
        ("car", "the cars", "en", True),
        ("car", "cardboard", "en", False),
        ("sign-in", "Sign in", "en", True),
        ("C++", "with C ++", "en", True),
        ("Windows 10", "Windows 11", "en", False),
        ("&", "a & b", "en", True),
        ("日本", "東京は日本です", "ja", True),
        ("x", "", "en", False),
    ],
)
def test_whether_a_translation_has_a_term(target: str, translation: str, language: str, expected: bool) -> None:
    assert honoured(target, translation, language) is expected


def test_terms_that_did_not_come_out() -> None:
    known = Glossary.inline({"file": "skrá", "save": "vista"}).segment_terms(parse_pair("en-is"))
    assert known.digest_for("Save the file") and not known.digest_for("Close it")
    assert known.missing("Save the file", "Vistaðu skrána") == []
    assert known.missing("Save the file", "Geymdu skjalið") == ["save", "file"]
    assert known.missing("Close it", "") == []


@pytest.mark.clock
def test_many_terms_take_no_longer() -> None:
    # Of one first word, of one key, and of one beginning: none of them is gone through one by one.
    many = {f"the word{i}": f"orð{i}" for i in range(1500)} | {"the " * 40 + str(i): "x" for i in range(200)}
    many |= {f"alike{chr(97 + i // 676)}{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}": "y" for i in range(1500)}
    known = Glossary.inline(many).ready(parse_pair("en-is"), Keying())
    few = Glossary.inline({"the word7": "orð"}).ready(parse_pair("en-is"), Keying())
    text = "the word7 and alikexyzzy " * 100

    def seconds(given: Terms) -> float:
        began = time.process_time()
        given.find(text)
        return time.process_time() - began

    assert min(seconds(known) for _ in range(3)) < 20 * min(seconds(few) for _ in range(3)) + 0.05
    assert known.find("a" * 10_000) == []
