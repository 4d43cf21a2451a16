"""The rules of cleaning, shifted files, the report, what the base knows: each rule has its case, its switch and its place in the report."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from tell.corpus.misalignment import Stretch, shifted
from tell.corpus.rules import RULES, clean_pair, switched_on_rules
from tell.corpus.segment_table import FirstSeen
from tell.languages import language, name_in, parse_pair
from tests.conftest import SHARED, Ran
from tests.support import corpora

CLI = Callable[..., Ran]
PAIR = parse_pair("is-en")
A, B = "Gamli maðurinn sá hest hjá húsinu okkar.", "The old man saw a horse near our house."
FRENCH = "La situation est très grave et le gouvernement doit agir."

# name: (source, target, the reason or None, what it is mended to, rule)
CASES: dict[str, tuple[str, str, str | None, str, str]] = {
    "right": (A, B, None, A, ""),
    "a decomposed letter": ("Kaffi\u0301 og te\u0301 handa okkur", B, None, "Kaffí og té handa okkur", "unicode"),
    "a byte order mark": (f"\ufeff{A}", B, None, A, "unicode"),
    "an override": (A.replace("sá", "\u202esá\u202c"), B, None, A, "bidi"),
    "a mark of right to left is a letter's": ("שלום\u200f (לך)", B, None, "שלום\u200f (לך)", ""),
    "read in the wrong encoding": (A.encode().decode("cp1252"), B, None, A, "mojibake"),
    "read so twice": (A.encode().decode("latin-1").encode().decode("latin-1"), B, None, A, "mojibake"),
    "a letter that is lost": (A.replace("ð", "\ufffd"), B, "garbled encoding", "", "mojibake"),
    "an escape": (A, f"{B}\x1b[31m", "control characters", "", "control"),
    "100,000 characters": ("a b " * 25_000, B, "too long", "", "long"),
    "both sides the same": (B, B, "identical sides", "", "identical"),
    "a word and a sentence": ("Nei", B, "length ratio", "", "ratio"),
    "a short side of signs for words": (
        "我们的老房子旁边有一匹马。", "The old man saw a horse near our house, and that is all he saw.", None, "我们的老房子旁边有一匹马。", "",
    ),
    "numbers": ("12:30 14:00 (5)", "12:30 14:00 (6)", "mostly not letters", "", "letters"),
    "a placeholder": ("Skráin %s fannst ekki hér", "The file %d was not found here", "tags or placeholders differ", "", "markup"),
    "a tag": (f"<b>{A}</b>", B, "tags or placeholders differ", "", "markup"),
    "tags in another order": ("Skráin {a} og <b>{b}</b> er hér", "Here is <b>{b}</b> and the file {a}", None, "Skráin {a} og <b>{b}</b> er hér", ""),
    "an address on one side": (f"{A} www.til.is/a", B, None, f"{A} www.til.is/a", ""),
    "two addresses": ("www.til.is/a/hestur", "www.til.is/en/horse", "no words", "", "words"),
    "two ids": ("ABC-1234 skra_nafn", "ABC-1235 file_name", "no words", "", "words"),
    "a word with an address": (f"{A} www.til.is", f"{B} www.til.is", None, f"{A} www.til.is", ""),
    "references of HTML": (A.replace("sá", "&quot;sá&quot;"), B, None, A.replace("sá", '"sá"'), "entities"),
    "references on one side": (A + " &amp;#39;a&amp;#39;", B, None, A + " 'a'", "entities"),
    "references that a tokenizer tore": (A + " & quot ; nei & quot ;", B, None, A + ' " nei "', "entities"),
    "no reference": ("Bræðurnir AT&T; og R&D eru hér", "The brothers AT&T; and R&D are here", None, "Bræðurnir AT&T; og R&D eru hér", ""),
    "references in markup": ("<b>Tumi &amp; Jenni</b> eru hér", "<b>Tom &amp; Jerry</b> are here", None, "<b>Tumi &amp; Jenni</b> eru hér", ""),
    "a third language": (FRENCH, B, "source in another language", "", "language"),
    "not translated": (A, "Gamli maðurinn sá hund hjá húsinu þeirra.", "target in another language", "", "language"),
    "the other way round": (B, A, "sides swapped", "", "language"),
    "names of the other language": ("Þar var Arnór Ísfjörð.", "The angler was Arnór Ísfjörð Guðmundsson.", None, "Þar var Arnór Ísfjörð.", ""),
    "half a character": ("a\ud83d", B, "invalid characters", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_rule(name: str) -> None:
    source, target, reason, mended, rule = CASES[name]
    rules = switched_on_rules(PAIR, () if name != "a short side of signs for words" and "right to left" not in name else ("language",))
    cleaned = clean_pair(source, target, rules)
    assert cleaned.reason == reason
    assert reason or (cleaned.source, cleaned.mended) == (mended, (rule,) if rule else ())
    if rule:
        off = clean_pair(source, target, switched_on_rules(PAIR, (rule,)))
        assert off.reason is None or off.reason not in RULES[rule][1]
        assert off.mended == ()


TEXTS = st.one_of(st.text(max_size=60), st.text("aþðé \u0301\u202e\ufeffÃ¾Â\x85<b>%s{}1.", max_size=40), st.sampled_from([A, B, FRENCH]))


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
@example("Ã\u202e©", "\ufeff a")
def test_cleaning_again_changes_nothing(a: str, b: str) -> None:
    rules = switched_on_rules(PAIR)
    once = clean_pair(a, b, rules)
    if once.reason is None:
        again = clean_pair(once.source, once.target, rules)
        assert (again.source, again.target, again.reason, again.mended) == (once.source, once.target, None, ())


# --- shifted files


@pytest.mark.parametrize(("offset", "first", "last"), [(1, 60, 120), (-2, 60, 120), (3, 0, 139), (1, 100, 139)])
def test_a_shifted_stretch_is_found_and_named(offset: int, first: int, last: int) -> None:
    rows = [(f"{corpora.pairs(1, i)[0][0]} {i * 37 % 1000}", f"{corpora.pairs(1, i)[0][1]} {i * 37 % 1000}") for i in range(140)]
    source = [a for a, _ in rows]
    target = [rows[max(0, min(139, i - offset))][1] if first <= i <= last else b for i, (_, b) in enumerate(rows)]
    assert shifted(source, [b for _, b in rows]) == []
    shifts = shifted(source, target)
    assert [s.offset for s in shifts] == [offset]
    assert abs(shifts[0].first - first) <= 5 and abs(shifts[0].last - last) <= 5


def test_no_line_of_real_data_looks_shifted() -> None:
    if not SHARED.exists():
        pytest.skip("the real data is not beside this checkout")
    sides = [(SHARED / "ntrex" / f"ntrex.{x}.txt").read_text(encoding="utf-8").split("\n")[:1997] for x in ("isl", "eng", "eus")]
    assert shifted(sides[0], sides[1]) == [] == shifted(sides[2], sides[1])
    assert [s.offset for s in shifted(sides[0][:900], sides[1][:400] + sides[1][401:901])] == [-1]
    assert shifted([], []) == [] and isinstance(shifted(sides[0][:50], sides[1][1:51])[0], Stretch)


# --- a whole corpus


def messy(path: str = "t.tsv") -> Path:
    """150 pairs, and one or more for each rule."""
    rows = [(f"{a[:-1]} {i * 37 % 1000}.", f"{b[:-1]} {i * 37 % 1000}.") for i, (a, b) in enumerate(corpora.pairs(250))]
    # Thirty lines whose target is one line behind.
    rows[60:90] = [(rows[i][0], rows[i - 1][1]) for i in range(60, 90)]
    rows += [(a, b) for a, b, *_ in list(CASES.values())[1:-1] if (a, b) != (B, A) and "\n" not in a]
    rows += [rows[0], (rows[1][0].upper(), rows[1][1] + "!!")]
    rows += [("<script>alert(1)</script> gamli maðurinn", "<script>alert(1)</script> the old man"), ("<img src=x onerror=alert(1)>", "%s")]
    out = Path(path)
    out.write_bytes("".join(f"{a}\t{b}\n" for a, b in rows).encode("utf-8", "replace"))
    return out


def test_every_rule_counts_shows_and_can_be_turned_off(here: CLI) -> None:
    messy()
    args = ("corpus", "build", "t.tsv", "--pair", "is-en", "--dev", 0, "--test", 0, "--json")
    done = here(*args, "-o", "c").json
    assert done["kept"] + sum(done["dropped"].values()) == done["read"]
    assert {r for _, reasons in RULES.values() for r in reasons} - {"sides swapped"} <= set(done["dropped"])
    assert set(done["mended"]) == {"unicode", "bidi", "entities", "mojibake"}
    assert any("shifted from line 61 to" in n for n in done["notes"])
    page = Path("c/report.html").read_text(encoding="utf-8")
    for name, (description, reasons) in RULES.items():
        assert f"--off {name}" in page and escape(description) in page
        assert all(r in page for r in reasons if r in done["dropped"])
    assert [x for x in ("<script", "<img", "http", "\u202e") if x in page] == []
    assert "&lt;script&gt;alert(1)" in page or "&lt;img src=x" in page
    assert "U+202E" in page and 'dir="auto"' in page and "prefers-color-scheme: dark" in page
    # What was kept is kept again, whole.
    again = here("corpus", "build", "c/pairs.jsonl", *args[3:], "-o", "d").json
    assert (again["read"], again["kept"], again["dropped"], again["mended"]) == (done["kept"], done["kept"], {}, {})
    assert (again["notes"], here(*args, "-o", "e", "--jobs", 1).json["kept"]) == ([], done["kept"])
    off = here(*args, "-o", "f", *(x for name in RULES for x in ("--off", name))).json
    assert set(off["dropped"]) <= {"empty source", "empty target", "invalid characters"} and off["mended"] == {} and off["off"] == sorted(RULES)


def test_several_processes_make_the_same_corpus(here: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    messy()
    corpora = []
    for jobs, batch, first in ((1, 4096, 4), (2, 64, 1), (1, 64, 4)):
        monkeypatch.setattr("tell.corpus.ingest.BATCH", batch)
        monkeypatch.setattr("tell.corpus.clean.FIRST", first)
        here("corpus", "build", "t.tsv", "--pair", "is-en", "--jobs", jobs, "-o", f"c{jobs}{batch}", "--off", "misaligned", "language")
        corpora.append([Path(f"c{jobs}{batch}", name).read_bytes() for name in ("pairs.jsonl", "dropped.jsonl", "split.json")])
    assert corpora[0] == corpora[1] == corpora[2]


def test_a_disk_that_fills_up_leaves_nothing_behind(here: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    messy()
    here("corpus", "build", "t.tsv", "--pair", "is-en", "-o", "c")
    before = {p.name: p.read_bytes() for p in Path("c").iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "c/pairs.jsonl")

    for where in ("tell.corpus.segment_table.SegmentTable.add", "tell.corpus.build._write_texts", "tell.corpus.build._write_report"):
        with monkeypatch.context() as m:
            m.setattr(where, full)
            for out in ("c", "new"):
                ran = here("corpus", "build", "t.tsv", "--pair", "is-en", "-o", out, "--force", ok=False)
                assert ran.code == 1 and "No space left on device; free some space" in ran.err
        assert {p.name: p.read_bytes() for p in Path("c").iterdir()} == before
        assert sorted(p.name for p in Path().iterdir() if p.name != "cache") == ["c", "t.tsv"]


def test_hashes_are_found_again() -> None:
    table = FirstSeen()
    keys = [(i * 0x9E3779B97F4A7C15) % (1 << 64) or 1 for i in range(5000)]
    assert all(table.first(k, i) is None for i, k in enumerate(keys))
    assert [table.first(k, 0) for k in keys] == list(range(5000))


def test_the_base_says_how_well_it_knows_the_languages(here: CLI, tiny: Any) -> None:
    messy()
    ran = here("corpus", "build", "t.tsv", "--pair", "is-en", "--base", "tiny", "-o", "c", "--json")
    by_language = {row["language"]: row for row in ran.json["base"]["languages"]}
    # A random model of 1,024 tokens of about two bytes is far worse than 8 bits a byte would be; both languages are alike to it.
    assert set(by_language) == {"is", "en"} and all(2 < row["bits_per_byte"] < 40 for row in by_language.values())
    assert by_language["is"]["tokens_per_word"] > 1 and "tokens per word" in Path("c/report.html").read_text(encoding="utf-8")
    done = here("corpus", "build", "t.tsv", "--pair", "is-fo", "--off", "language", "--base", "tiny", "-o", "d", "--json").json
    assert [row["name"] for row in done["base"]["languages"]][2] == "English, to compare with"


def test_advice() -> None:
    from tell.model.perplexity import advice

    icelandic = language("is")
    assert advice(icelandic, 1.2) is None
    assert "knows Icelandic a little: it is 2.4 times as surprised" in (advice(icelandic, 2.4) or "")
    assert "barely knows Icelandic" in (advice(icelandic, 3.0) or "")


def test_names_for_the_reader() -> None:
    assert [name_in(language("fo"), language(x)) for x in ("is", "en", "de")] == ["færeyska", "Faroese", "Färöisch"]
    assert name_in(language("qaa"), language("is")) == language("qaa").name
    assert [language(x).rtl for x in ("ckb", "he", "sr-Latn", "az-Arab", "dv")] == [True, True, False, True, True]


def test_a_message_turns_no_text_around(here: CLI) -> None:
    Path("t.tsv").write_text("a\u202eb\tc\n", encoding="utf-8")
    ran = here("corpus", "build", "t.tsv", "--pair", "is-en", "--source-column", "x\u202ey", "-o", "c", ok=False)
    assert ran.code == 2 and "\u202e" not in ran.err and "x\ufffdy" in ran.err
    assert json.dumps("a\ufffdb")[1:-1].encode().decode("unicode_escape") in ran.err
