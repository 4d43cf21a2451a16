"""What a lexicon offers for a text, what training leaves out, and what becomes of a damaged file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.data.bench_lexicon import PlainLookUp
from tell.alignment.pruning import pruned
from tell.errors import BadInput
from tell.languages import parse_pair
from tell.lexicon import lexicon as lexicon_module
from tell.lexicon.lexicon import CANDIDATES, Hint, Lexicon
from tell.lexicon.words import Keying

PAIR = parse_pair("is-en")
ENTRIES = {
    "hesturinn": {"horse": 3, "the": 2},
    "hestu*": {"horse": 9, "the": 6, "pony": 4},
    "og": {"and": 90, "the": 3},
    "skjal": {"document": 2},
    "fellibylur=": {"hurricane": 10, "cyclone": 5},
}
TOTALS = {"horse": 12, "the": 400, "and": 100, "document": 2}


def small(**more: object) -> Lexicon:
    return Lexicon.of(PAIR, Keying(), ["og", "hesturinn"], {**ENTRIES, **more}, TOTALS)  # type: ignore[dict-item]


def ask(lexicon: Lexicon, text: str, candidates: int = 3, **options: object) -> dict[str, tuple[str, ...]]:
    options.setdefault("skip_common", 0)
    hints = lexicon.hints(text, candidates=candidates, **options)  # type: ignore[arg-type]
    return {text[h.start : h.end]: h.candidates for h in hints}


def test_hints_are_in_the_order_of_the_text() -> None:
    assert small().hints("Skjal og hesturinn.", candidates=1, skip_common=1) == [Hint(0, 5, ("document",)), Hint(9, 18, ("horse",))]


def test_articles_come_after_what_is_meant() -> None:
    assert ask(small(), "hestunum og Hesturinn") == {"hestunum": ("horse", "pony", "the"), "og": ("and", "the"), "Hesturinn": ("horse", "the", "pony")}


def test_the_commonest_words_get_none() -> None:
    assert list(ask(small(), "hesturinn og skjal", skip_common=2)) == ["skjal"]
    assert list(ask(small(), "hesturinn og skjal", skip_common=1)) == ["hesturinn", "skjal"]
    assert (small().rank("OG"), small().rank("skjal")) == (0, None)


def test_a_share_may_be_asked_for() -> None:
    assert ask(small(), "hesturinn", min_share=0.5) == {"hesturinn": ("horse",)}
    assert ask(small(), "hesturinn", candidates=0) == {}


def test_an_example_is_left_out_of_its_own_hints() -> None:
    own = {"hesturinn": {"horse": 3, "the": 2}, "hestu*": {"horse": 9, "the": 6}, "skjal": {"document": 2}}
    assert ask(small(), "hesturinn og skjal", without=own) == {"hesturinn": ("pony",), "og": ("and", "the")}
    # It is the example's alone: the lexicon stays as it is.
    assert ask(small(), "skjal") == {"skjal": ("document",)}


def test_what_is_left_out_is_known_in_any_case() -> None:
    assert ask(small(rósa={"Rosa": 1}), "Rósa", without={"rósa": {"rosa": 1}}) == {}


@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("Fellibylur", ("hurricane", "cyclone")),
        ("fellibylnum", ("hurricane", "cyclone")),
        ("fellibylunum", ("hurricane", "cyclone")),
        ("fellibylsinsins", ()),
        ("fella", ()),
        ("fel", ()),
        ("zzz", ()),
    ],
)
def test_a_dictionarys_word_is_found_by_its_first_letters(word: str, offered: tuple[str, ...]) -> None:
    assert ask(small(), word).get(word, ()) == offered


def test_placeholders_and_numbers_get_none() -> None:
    assert ask(small(skja={"x": 1}), "{skjal} %s 12 <skjal> https://skjal.is skjal") == {"skjal": ("document",)}


def test_ten_candidates_are_kept() -> None:
    many = small(orð={f"word{chr(97 + i)}": i + 1 for i in range(26)})
    assert len(many.candidates("orð")) == CANDIDATES and "wordz" in many.candidates("orð")


def test_the_file_is_the_same_each_time() -> None:
    data = small().dump()
    again = Lexicon.parse(data)
    assert again == small() and again.dump() == data == Lexicon.of(PAIR, Keying(), ["og", "hesturinn"], dict(reversed(ENTRIES.items())), TOTALS).dump()
    first = data.split(b"\n")[0].decode()
    assert first.startswith("# tellmt lexicon\t") and json.loads(first.partition("\t")[2])["format"] == 1


def test_an_empty_lexicon_has_no_hints() -> None:
    empty = Lexicon.parse(Lexicon.of(PAIR, Keying(), [], {}, {}).dump())
    assert len(empty) == 0 and ask(empty, "hesturinn og skjal") == {}


def _other(data: bytes, **header: object) -> bytes:
    first, _, body = data.partition(b"\n")
    return b"# tellmt lexicon\t" + json.dumps({**json.loads(first.partition(b"\t")[2]), **header}).encode() + b"\n" + body


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: b"", "not a lexicon"),
        (lambda d: b"\xff\xfe" + d, "not a lexicon"),
        (lambda d: b"source\ttarget\n", "not a lexicon"),
        (lambda d: d[:-1], "damaged or was altered"),
        (lambda d: d.replace(b"horse\t9", b"horse\t8"), "damaged or was altered"),
        (lambda d: _other(d, format=2), "another format"),
        (lambda d: _other(d, keying={"stems": 1}), "cannot be read"),
        (lambda d: _other(d, pair="nonsense"), "not a language pair"),
        (lambda d: _other(d, common=None), "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused(damage: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Lexicon.parse(damage(small().dump()), "here.tsv")  # type: ignore[operator]


def test_a_place_without_a_lexicon_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no lexicon here.*lexicon build"):
        Lexicon.read(tmp_path)


def name(n: int) -> str:
    return "orð" + "".join(chr(97 + int(digit)) for digit in str(n))


def large(keys: int) -> Lexicon:
    entries = {name(i): {f"candidate{name((i * 7 + n) % 5000)}": i % 9 + 1 - n for n in range(min(i % 9 + 1, 4))} for i in range(keys)}
    totals: dict[str, int] = {}
    for counts in entries.values():
        for text, n in counts.items():
            totals[text] = totals.get(text, 0) + n
    return Lexicon.of(PAIR, Keying(prefix=0), [], entries, totals)


def test_the_rarest_go_until_it_is_small_enough() -> None:
    lexicon = large(2000)
    smaller, left_out = pruned(lexicon, 40_000)
    assert len(smaller.dump()) <= 40_000 < len(lexicon.dump())
    assert left_out["keys"] == len(lexicon) - len(smaller) > 0 and left_out["candidates"] > left_out["keys"]
    # What is left occurred at least as often as what went.
    gone = max(sum(lexicon.candidates(k).values()) for k in lexicon.lines if k not in smaller.lines)
    assert all(sum(lexicon.candidates(k).values()) >= gone / 4 for k in smaller.lines)
    assert pruned(lexicon) == (lexicon, {"keys": 0, "candidates": 0})


@pytest.mark.clock
def test_it_loads_and_looks_up_fast() -> None:
    lines = {name(i): "\t".join(f"candidate{name((i * 7 + n) % 5000)}\t{5 - n}" for n in range(4)) for i in range(46_000)}
    data = Lexicon(PAIR, Keying(prefix=0), (), lines, {f"candidate{name(n)}": n for n in range(5000)}).dump()
    assert len(data) > 4_000_000
    start = time.process_time()
    lexicon = Lexicon.parse(data)
    loaded = time.process_time() - start
    text = " ".join(name(i * 13) for i in range(1000))
    lexicon.hints(text[:100], candidates=3, skip_common=0)
    start = time.process_time()
    hints = lexicon.hints(text, candidates=3, skip_common=0)
    assert (loaded < 0.3, time.process_time() - start < 0.05, len(hints)) == (True, True, 1000), loaded


def test_what_was_looked_up_before_is_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"orðið{i}": {f"word{j}": i % (j + 2) + 1 for j in range(i % 5)} for i in range(30)} | {f"orðin{i}=": {f"head{i}": i} for i in range(9)}
    text = "OG hesturinn, fellibylnum og orðinu; " + " ".join(f"orðið{'a' * i} orðinn{i}. Hestum skjal" for i in range(12))
    for room in (lexicon_module.READY, 2):
        monkeypatch.setattr(lexicon_module, "READY", room)
        lexicon = small(**many)
        plain = PlainLookUp(lexicon)
        for options in ((1, 0, 0.0), (3, 1, 0.3), (10, 2, 0.0), (1, 0, 0.9), (0, 0, 0.0)):
            candidates, skip_common, min_share = options
            for _ in range(2):
                hints = lexicon.hints(text, candidates=candidates, skip_common=skip_common, min_share=min_share)
                assert hints == plain.hints(text, candidates, skip_common, min_share) and len(lexicon._ready) <= room
    # What was kept is not what an example is offered without its own part.
    without = {"hesturinn": {"horse": 3, "the": 2}, "hestu*": {"horse": 9, "the": 6}}
    assert ask(lexicon, "hesturinn") == {"hesturinn": ("horse", "the", "pony")} and ask(lexicon, "hesturinn", without=without) == {"hesturinn": ("pony",)}
    assert ask(lexicon, "hesturinn") == {"hesturinn": ("horse", "the", "pony")}
