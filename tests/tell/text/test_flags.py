"""The flags of a segment: what each is for, how many loops are found, and how rarely a good translation has one."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from benchmarks.quality.flags import looping
from tell.languages import parse_pair
from tell.text.flags import FLAGS, Checked, flags_of, union
from tell.text.repetition import loops
from tests.conftest import ROOT, SHARED

NEWS = SHARED / "en-is" / "newstest2021"
IS_EN, EN_IS = parse_pair("is-en"), parse_pair("en-is")
SOURCE = "Ríkisstjórnin hefur samþykkt að veita styrki til fyrirtækja sem urðu illa úti í faraldrinum."
GOOD = "The government has agreed to give grants to companies that were hit hard in the pandemic."


@pytest.mark.parametrize(
    ("source", "translation", "flags"),
    [
        (SOURCE, GOOD, []),
        (SOURCE, "", ["empty"]),
        (SOURCE, " …", ["empty"]),
        (SOURCE, SOURCE, ["language", "copied"]),
        (SOURCE, "The government has agreed " + "to give grants " * 9, ["loop"]),
        (SOURCE, "The government hahahahahahahahahaha agreed to it.", ["loop"]),
        ("Nei, nei, nei, nei, nei, nei!", "No, no, no, no, no, no!", []),
        (SOURCE, "Правительство согласилось предоставить гранты компаниям.", ["language"]),
        (SOURCE, "Die Regierung hat beschlossen, Unternehmen Zuschüsse zu gewähren.", ["language"]),
        (SOURCE, "The government has agreed to give 補助金を給付する grants to companies.", ["language"]),
        # Names are copied, quotations stay, and who writes שלום may read it in the answer.
        ("Angela Merkel, Emmanuel Macron", "Angela Merkel, Emmanuel Macron", []),
        ("Il faut bien le faire avant de partir.", "Il faut bien le faire avant de partir.", []),
        ("Hann sagði שלום við mig.", "He said שלום to me.", []),
        # What is in the target language already may stay as it is.
        (GOOD, GOOD, []),
        ("Halló {name}", "Hello", ["placeholder"]),
        ("Árið 1944 varð landið lýðveldi.", "In 1994 the country became a republic.", ["number"]),
        ("Þar búa 376.248 manns.", "376,248 people live there.", []),
        ("Kl. 19.30, um 40 mílur héðan, 1.500 manns.", "At 7:30 pm, some 64 km from here, 1.5 thousand people.", []),
        ("Hún er 34 ára.", "She is 43 years old.", ["number"]),
        (SOURCE, "Yes.", ["length"]),
        ("Já.", GOOD, ["length"]),
        ("Hún kom. Hann fór. Þau hittust aldrei. Síðan leið ár.", "She came and he left, and they never met, and then a year went by.", ["sentences"]),
    ],
)  # fmt: skip
def test_what_is_flagged(source: str, translation: str, flags: list[str]) -> None:
    assert list(flags_of(IS_EN, source, translation)) == flags


def test_what_is_cut_is_flagged_and_the_worst_comes_first() -> None:
    assert flags_of(IS_EN, "Árið 1944 varð {x}.", "In 1994 " + "it was so " * 9, truncated=True) == ("loop", "truncated", "placeholder", "number", "length")
    assert union([("number",), (), ("loop", "number")]) == ("loop", "number")
    assert Checked("", 0, False, ("empty",)).cost > Checked("a", 0, True, ("truncated", "number")).cost > Checked("a", 0, False).cost == 0


def test_languages_that_are_not_known_are_told_by_their_script_alone() -> None:
    pair = parse_pair("is-chr")
    assert flags_of(pair, SOURCE, "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᎢᎩ") == ("length",)
    assert flags_of(parse_pair("en-ru"), GOOD, GOOD) == ("language", "copied")
    assert flags_of(parse_pair("en-ja"), "I came, I saw, I won.", "来た、見た、勝った。") == ()


def test_every_flag_has_its_line_in_the_page() -> None:
    page = (ROOT / "docs" / "text.md").read_text(encoding="utf-8")
    assert [f for f in FLAGS if f"| `{f}` |" not in page] == []


# Loops


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def news() -> list[tuple[str, list[str], list[str]]]:
    if not NEWS.is_dir():
        pytest.skip("no newstest2021 under shared/data")
    return [
        (f"{s}-{t}", lines(NEWS / f"newstest2021.{s}-{t}.src.{s}"), lines(NEWS / f"newstest2021.{s}-{t}.ref.A.{t}")) for s, t in (("is", "en"), ("en", "is"))
    ]


def examples() -> list[tuple[str, list[str], list[str]]]:
    rows = [line.split("\t") for path in sorted((ROOT / "examples" / "en-is").glob("*.tsv")) for line in lines(path)[1:]]
    en, is_ = [r[1] for r in rows], [r[2] for r in rows]
    return [("en-is", en, is_), ("is-en", is_, en)]


@pytest.mark.parametrize("texts", [news, examples])
def test_of_loops_99_in_100_are_found(texts: object) -> None:
    draw, all_made = random.Random(5), 0
    for pair, sources, references in texts():  # type: ignore[operator]
        detected = [loops(source, looping(reference, draw)) for source, reference in zip(sources, references, strict=True)]
        assert sum(detected) >= 0.99 * len(detected), (pair, sum(detected), len(detected))
        all_made += len(detected)
    assert all_made > 1000


@pytest.mark.parametrize("texts", [news, examples])
def test_of_references_at_most_one_in_100_is_flagged(texts: object) -> None:
    for pair, sources, references in texts():  # type: ignore[operator]
        flagged = [i for i, (s, r) in enumerate(zip(sources, references, strict=True)) if flags_of(parse_pair(pair), s, r)]
        assert len(flagged) <= 0.01 * len(sources), (pair, flagged)


def test_sources_given_back_are_flagged() -> None:
    for pair, sources, _ in news():
        kept = [s for s in sources if len(s) > 20 and not {"copied", "language"} & set(flags_of(parse_pair(pair), s, s))]
        assert len(kept) <= 0.01 * len(sources), (pair, len(kept))


@pytest.mark.parametrize("unit", ["a", "ab ", "nei ", "a b c d e f g ", "x1 ", "..", "今日", "word{i} "])
def test_no_text_takes_long_to_look_at(unit: str) -> None:
    text = "".join(unit.replace("{i}", str(i % 700)) for i in range(8000))[:8000]
    began = time.thread_time()
    flags_of(IS_EN, text, text)
    assert time.thread_time() - began < 3
