"""`tellmt lexicon`: built from a corpus, reused, looked into, struck and merged."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tell.alignment import links
from tell.alignment.align import Alignment, symmetrised
from tell.corpus.directory import open_corpus
from tell.languages import parse_pair
from tell.lexicon.lexicon import Lexicon
from tests.conftest import Ran
from tests.support.corpora import ENGLISH, WORDS, pairs
from tests.tell.lexicon.conftest import write_corpus

CLI = Callable[..., Ran]


def test_every_noun_finds_its_translation(learned: Path) -> None:
    lexicon = Lexicon.read(learned)
    assert {w: next(iter(lexicon.ranked(w))) for w in WORDS} == dict(zip(WORDS, ENGLISH, strict=True))
    report = json.loads((learned / "build.json").read_text())
    assert report["pair"] == "is-en" and report["counts"]["pairs"] == report["counts"]["linked"] > 200 and report["notes"] == []
    assert report["counts"]["bytes"] == (learned / "lexicon.tsv").stat().st_size


def test_dev_segments_are_in_no_link(corpus: Path, learned: Path) -> None:
    own = links.Links(learned)
    opened = open_corpus(corpus)
    assert all(own.of(p.source, p.target) for p in opened.pairs("train"))
    assert not any(own.of(p.source, p.target) for p in opened.pairs("dev"))
    assert len(own) == sum(1 for _ in opened.pairs("train"))


def test_leaving_out_all_pairs_leaves_nothing(corpus: Path, learned: Path) -> None:
    lexicon, own = Lexicon.read(learned), links.Links(learned)
    given: dict[str, dict[str, int]] = {}
    for p in open_corpus(corpus).pairs("train"):
        for key, counts in own.of(p.source, p.target).items():
            for candidate, n in counts.items():
                given.setdefault(key, {})[candidate] = given.get(key, {}).get(candidate, 0) + n
    sentence = pairs(1)[0][0]
    assert lexicon.hints(sentence, candidates=3, skip_common=0)
    assert lexicon.hints(sentence, candidates=3, skip_common=0, without=given) == []


def test_equal_corpora_give_equal_bytes_and_are_reused(here: CLI, corpus: Path, learned: Path) -> None:
    here("lexicon", "build", corpus, "-o", "again")
    assert all((Path("again") / f).read_bytes() == (learned / f).read_bytes() for f in ("lexicon.tsv", "links.jsonl.gz", "build.json"))
    assert "unchanged, reused" in here("lexicon", "build", corpus, "-o", "again").err
    assert "reused" not in here("lexicon", "build", corpus, "-o", "again", "--force").err
    Path("again/lexicon.tsv").write_bytes(b"")
    assert "reused" not in here("lexicon", "build", corpus, "-o", "again").err


def test_shown(here: CLI, learned: Path) -> None:
    done = here("lexicon", "show", learned, "hestur", "Fjallið", "óþekkt", "--json").json
    assert (done["pair"], [e["word"] for e in done["entries"]]) == ("is-en", ["hestur", "Fjallið", "óþekkt"])
    assert [e["candidates"][:1] and e["candidates"][0]["text"] for e in done["entries"]] == ["horse", "mountain", []]
    first = here("lexicon", "show", learned, "--most", 3, "--skip-common", 2, "--json").json["entries"]
    assert len(first) == 3 and all(e["times"] > 0 and e["candidates"] for e in first)
    # In the order of the column that says so; and a word that is none of the commonest has no rank.
    assert 3 <= first[0]["rank"] < first[1]["rank"] < first[2]["rank"] and done["entries"][2]["rank"] is None
    assert "hestur" in here("lexicon", "show", learned, "hestur").out


def test_shown_by_the_pair(here: CLI, learned: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tellmt.pair.workspace import Workspace

    monkeypatch.setenv("TELLMT_PAIRS", str(tmp_path))
    pair = parse_pair("is-en")
    shutil.copytree(learned, Workspace(tmp_path / "en-is", pair.reverse).directory_of(pair) / "lexicon")
    assert here("lexicon", "show", "is-en", "hestur", "--json").json["entries"][0]["candidates"][0]["text"] == "horse"
    assert "this pair has no lexicon" in here("lexicon", "show", "en-is", ok=False).err
    assert here("lexicon", "show", "nowhere", ok=False).code == 1


def test_what_is_struck_stays_out(here: CLI, corpus: Path, learned: Path) -> None:
    shutil.copytree(learned, "l")
    here("lexicon", "strike", "l", "Hestur")
    here("lexicon", "strike", "l", "fjall", "Mountain")
    Path("more.tsv").write_text("klukk*\n\nbók\tbook\n", encoding="utf-8")
    done = here("lexicon", "build", corpus, "-o", "l", "--strike", "more.tsv", "--json").json
    assert done["struck"] == 4 and Path("l/struck.tsv").read_text() == "bók\tbook\nfjall\tmountain\nhestur\nklukk*\n"
    lexicon = Lexicon.read(Path("l"))
    assert lexicon.ranked("hestur") == {} and "mountain" not in lexicon.ranked("fjall") and "book" not in lexicon.ranked("bók")
    assert "klukk*" not in lexicon.lines and next(iter(lexicon.ranked("penni"))) == "pen"
    # What was struck once is struck in the next build too.
    assert here("lexicon", "build", corpus, "-o", "l", "--force", "--json").json["struck"] == 4
    Path("bad.tsv").write_text("a\tb\tc\n")
    assert "bad.tsv, line 1" in here("lexicon", "build", corpus, "-o", "l", "--strike", "bad.tsv", ok=False).err


def test_dictionaries_stand_beside_the_corpus(here: CLI, corpus: Path) -> None:
    Path("d.tsv").write_text("fellibylur\thurricane\nhestur\tsteed\n", encoding="utf-8")
    done = here("lexicon", "build", corpus, "-o", "l", "--dictionary", "d.tsv", "--json").json
    assert done["dictionaries"] == [{"path": "d.tsv", "read": 2, "words": 2, "translations": 2, "left_out": {}}]
    lexicon = Lexicon.read(Path("l"))
    assert list(lexicon.ranked("Fellibylnum")) == ["hurricane"]
    assert {"horse", "steed"} <= set(lexicon.ranked("hestur"))
    turned = "".join(f"{b}\t{a}\n" for a, b in zip(WORDS, ENGLISH, strict=True))
    Path("r.tsv").write_text(turned + "old\tgamli\nman\tmaðurinn\nsaw\tsá\nnear\thjá\nour\tokkar\n", encoding="utf-8")
    wrong = here("lexicon", "build", corpus, "-o", "w", "--dictionary", "r.tsv", ok=False)
    assert wrong.code == 2 and "the other way round" in wrong.err and not Path("w").exists()
    assert here("lexicon", "build", corpus, "-o", "w", "--reversed", "r.tsv", "--json").json["dictionaries"][0]["words"] == 25


def test_merged(here: CLI, corpus: Path, learned: Path) -> None:
    done = here("lexicon", "merge", learned, learned, "--weight", 1, 0.5, "-o", "m", "--json").json
    one, both = Lexicon.read(learned), Lexicon.read(Path("m"))
    assert (done["counts"]["keys"], len(both), both.common) == (len(one), len(one), one.common)
    assert both.candidates("hestur")["horse"] == 1.5 * one.candidates("hestur")["horse"]
    assert "unchanged, reused" in here("lexicon", "merge", learned, learned, "--weight", 1, 0.5, "-o", "m").err
    # What a pair gave is left out for that pair in the union too; an adapter's lexicon, a file alone, has no such links.
    pair = next(open_corpus(corpus).pairs("train"))
    alone, united = (links.Links(path).of(pair.source, pair.target) for path in (learned, Path("m")))
    assert alone and united == {key: Counter({name: 1.5 * n for name, n in counts.items()}) for key, counts in alone.items()}
    here("lexicon", "merge", learned, learned / "lexicon.tsv", "-o", "m")
    assert links.Links(Path("m")).of(pair.source, pair.target) == alone
    here("corpus", "reverse", corpus, "-o", "reverse")
    here("lexicon", "build", "reverse", "-o", "other")
    assert "of another pair" in here("lexicon", "merge", learned, "other", "-o", "m", ok=False).err
    assert "not a weight for each" in here("lexicon", "merge", learned, learned, "--weight", 1, "-o", "m", ok=False).err


def test_words_of_another_lexicon_of_the_pair(here: CLI, corpus: Path, learned: Path, tmp_path: Path) -> None:
    """As of an adapter, whose training pairs are not known; or of a corpus, whose pairs give nothing to their own hints."""
    few = write_corpus(tmp_path, pairs(60), dev=0)
    alone, own = here("lexicon", "build", few, "-o", "l", "--json").json, Lexicon.read(Path("l"))
    done = here("lexicon", "build", few, "--lexicon", learned / "lexicon.tsv", "-o", "l", "--json")
    assert "is not known" in done.json["notes"][0] and "unchanged" not in done.err
    other, both = Lexicon.read(learned), Lexicon.read(Path("l"))
    assert both.candidates("hestur")["horse"] == own.candidates("hestur")["horse"] + other.candidates("hestur")["horse"]
    assert set(other.lines) <= set(both.lines) and len(links.Links(Path("l"))) == done.json["counts"]["pairs"]
    # What is struck is struck of the other one's words too, at each later build.
    here("lexicon", "strike", "l", "hestur")
    again = here("lexicon", "build", few, "--lexicon", learned, "-o", "l", "--json").json
    assert again["struck"] == 1 and Lexicon.read(Path("l")).ranked("hestur") == {} and again["notes"] == []
    pair = next(open_corpus(corpus).pairs("train"))
    assert links.Links(Path("l")).of(pair.source, pair.target) and len(links.Links(Path("l"))) > alone["counts"]["pairs"]
    assert "unchanged, reused" in here("lexicon", "build", few, "--lexicon", learned, "-o", "l").err
    here("corpus", "reverse", corpus, "-o", "reverse")
    here("lexicon", "build", "reverse", "-o", "other")
    for bad, said in (("other", "of another pair; found en-is; valid: is-en"), ("gone", "there is no lexicon here")):
        ran = here("lexicon", "build", few, "--lexicon", bad, "-o", "n", ok=False)
        assert ran.code == 2 and said in ran.err and not Path("n").exists()


def test_too_small_a_corpus_gives_an_empty_lexicon(here: CLI, tmp_path: Path) -> None:
    small = write_corpus(tmp_path, pairs(30), dev=0)
    done = here("lexicon", "build", small, "-o", "l", "--json")
    assert done.json["counts"]["keys"] == 0 and "too few to align words" in done.err
    assert Lexicon.read(Path("l")).hints("Gamli maðurinn", candidates=3, skip_common=0) == []
    Path("d.tsv").write_text("maðurinn\tthe man\n", encoding="utf-8")
    here("lexicon", "build", small, "-o", "l", "--dictionary", "d.tsv")
    assert list(Lexicon.read(Path("l")).ranked("maðurinn")) == ["the man"]


def test_a_language_without_spaces_gives_none_and_says_so(here: CLI, tmp_path: Path) -> None:
    rows = [
        (f"ฉันชอบ{chr(0x0E01 + n % 40)}{chr(0x0E01 + n // 40)}มาก", f"I like {a} and {b}")
        for n, (a, b) in enumerate(zip(ENGLISH * 4, ENGLISH[1:] * 5, strict=False))
    ]
    thai = write_corpus(tmp_path, rows, pair="th-en", dev=0)
    done = here("lexicon", "build", thai, "-o", "l", "--json")
    assert done.json["counts"]["keys"] == 0 and "Thai is written without spaces" in done.err


def test_segments_held_out_by_one_corpus_are_not_learned_from_in_another(here: CLI, corpus: Path, tmp_path: Path) -> None:
    other = write_corpus(tmp_path, pairs(240), dev=0)
    done = here("lexicon", "build", corpus, other, "-o", "l", "--json").json
    held = sum(1 for _ in open_corpus(corpus).pairs("dev"))
    assert done["left_out"] == {"dev or test of another corpus": held} and held >= 20


def test_bad_input(here: CLI, corpus: Path, tmp_path: Path) -> None:
    assert here("lexicon", "build", tmp_path, "-o", "l", ok=False).code == 2
    assert "given twice" in here("lexicon", "build", corpus, corpus, "-o", "l", ok=False).err
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds other files" in here("lexicon", "build", corpus, "-o", tmp_path, ok=False).err
    assert "--dictionary: no such file; found none.tsv" in here("lexicon", "build", corpus, "-o", "l", "--dictionary", "none.tsv", ok=False).err
    assert not Path("l").exists()


def test_without_the_aligner_one_sentence(here: CLI, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "thot", None)
    monkeypatch.setitem(sys.modules, "thot.alignment", None)
    done = here("lexicon", "build", corpus, "-o", "l", ok=False)
    assert done.code == 1 and 'pip install "tellmt[train]"' in done.err and not Path("l").exists()


def test_links_are_grown_along_the_diagonal() -> None:
    forward, backward = {(0, 0), (1, 1), (2, 1)}, {(0, 0), (1, 1), (1, 2), (3, 3)}
    assert symmetrised(forward, backward, 4, 4) == {(0, 0), (1, 1), (2, 1), (1, 2), (3, 3)}
    assert symmetrised(set(), {(0, 1)}, 2, 2) == {(0, 1)}
    assert symmetrised({(0, 0)}, {(0, 1)}, 1, 2) == {(0, 0)}


def test_names_are_linked_and_long_pairs_left_out(tmp_path: Path) -> None:
    rows = [(["a", "b"], ["x", "y"]), (["a"], ["x"]), (["b", "qq"], ["y", "qq"]), ([], ["x"]), (["a"] * 2000, ["x"])]
    alignment = Alignment(rows, tmp_path)
    found = alignment.links()
    alignment.close()
    assert found[0] == [(0, 0), (1, 1)] and (1, 1) in found[2] and found[3:] == [[], []] and list(tmp_path.iterdir()) == []


def test_what_cannot_be_struck_or_merged_is_refused(cli: CLI, learned: Path, tmp_path: Path) -> None:
    lexicon, other = (Path(shutil.copytree(learned, tmp_path / name)) for name in ("lexicon", "other"))
    for word in ("a\tb\tc", "a\nb", "*", "", "two words"):
        ran = cli("lexicon", "strike", lexicon, word, ok=False)
        assert ran.code == 2 and "not a word" in ran.err and not (lexicon / "struck.tsv").exists()
    assert "the lexicon has nothing for xyz now" in cli("lexicon", "strike", lexicon, "xyz").err
    for words, said in (
        (("--weight", "nan"), "not a weight"),
        (("--weight", "inf"), "not a weight"),
        (("--weight", "1e300"), "not a weight"),
        (("-o", lexicon), "cannot be merged into itself"),
        (("-o", other), "holds other files"),
    ):
        out = () if "-o" in words else ("-o", tmp_path / "merged")
        ran = cli("lexicon", "merge", lexicon, *words, *out, ok=False)
        assert ran.code == 2 and said in ran.err and not (tmp_path / "merged").exists()
    assert {p.name for p in other.iterdir()} == {p.name for p in learned.iterdir()}
