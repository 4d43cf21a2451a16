"""Hints in the training examples of a mix: from the lexicon to the prompts, through the command line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example, Pair, read_examples, read_pairs
from tests.support.mixing import CLI, check, corpus, recipe
from tests.support.tiny import make_tiny_base

HINT = re.compile(r" 【 ([^】]*)】")
NOUNS = {"hestur": "horse", "kind": "sheep", "hundur": "dog", "refur": "fox", "selur": "seal", "hvalur": "whale", "ugla": "owl", "lóa": "plover"}
VERBS = {"sefur": "sleeps", "hleypur": "runs", "borðar": "eats", "syndir": "swims", "situr": "sits", "talar": "talks"}
PLACES = {"heima": "at home", "úti": "outside", "hérna": "here", "alltaf": "always", "stundum": "sometimes"}


@pytest.fixture
def base(isolated: Path) -> Base:
    return make_tiny_base(isolated / "cache")


_built: dict[str, bytes] = {}


@pytest.fixture
def pairs(cli: CLI, base: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Pair]:
    """The corpus `c`, of 240 sentences of which each word occurs many times, and one sentence of a word that occurs nowhere else; its lexicon is in `lex`.
    Built once, and then laid out again."""
    monkeypatch.chdir(tmp_path)
    if not _built:
        rows = [f"{n} {v} {p}.\tThe {a} {b} {c}." for n, a in NOUNS.items() for v, b in VERBS.items() for p, c in PLACES.items()]
        rows += ["kvíslarveita hleypur úti.\tThe tributary runs outside."]
        Path("c.tsv").write_text("\n".join(["is\ten", *rows, ""]), encoding="utf-8")
        cli("corpus", "build", "c.tsv", "--pair", "is-en", "--dev", 20, "--test", 20, "-o", "c")
        cli("lexicon", "build", "c", "-o", "lex")
        _built.update({str(p): p.read_bytes() for p in (Path("c.tsv"), *Path("c").iterdir(), *Path("lex").iterdir())})
    for name, data in _built.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    return read_pairs(Path("c/pairs.jsonl"))


def prompts(examples: list[Example]) -> str:
    return "\n".join(e.prompt for e in examples)


def test_words_have_their_translations_behind_them(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    table = "[hints]\nlexicon = 'lex'\ncandidates = 1\nskip_common = 0\ndropout = 0.2"
    ran = cli("mix", "--recipe", recipe(table), "--corpus", "c", "-o", "m", "--json")
    report, examples = check(Path("m"), base)
    counts = report["hints"]["counts"]
    assert ran.json["hints"] == report["hints"] and counts["too_long"] == 0
    hinted = [e for e in examples if HINT.search(e.prompt)]
    assert counts["hinted"] == len(hinted) and counts["hints"] == len(HINT.findall(prompts(examples)))
    # A fifth is left without: of 200, 40 +- 3 standard deviations.
    assert counts["dropped"] == len(examples) - len(hinted) and 23 <= counts["dropped"] <= 57
    assert report["hints"]["lexicon_sha256"] == json.loads(Path("lex/build.json").read_text())["sha256"]["lexicon.tsv"]
    assert Path("m/lexicon.tsv").read_bytes() == Path("lex/lexicon.tsv").read_bytes()
    right = wrong = 0
    for example in hinted:
        for word, hint in re.findall(r"(\w+) 【 ([^】]*)】", example.prompt):
            truth = (NOUNS | VERBS | PLACES).get(word, "")
            right, wrong = right + (hint in truth.split()), wrong + (hint not in truth.split())
    assert right > 20 * wrong


def test_an_example_gets_no_hint_that_it_alone_gave_rise_to(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    (rare,) = [p for p in pairs if "kvíslarveita" in p.source]
    shown = cli("lexicon", "show", "lex", "kvíslarveita", "--json").out
    assert (rare.split == "train") == ("tributary" in shown)
    cli("mix", "--recipe", recipe("[hints]\nlexicon = 'lex'\nskip_common = 0\ndropout = 0"), "--corpus", "c", "-o", "m")
    _, examples = check(Path("m"), base)
    assert "tributary" not in prompts(examples) and "horse" in prompts(examples)
    # Nor where another lexicon, such as an adapter's, was joined with the one that was learned from the examples; what the other has is offered.
    Path("d.tsv").write_text("kvíslarveita\taqueduct\n", encoding="utf-8")
    Path("o.tsv").write_text("is\ten\n" + "".join(f"{p.source}\t{p.target}\n" for p in pairs if p != rare), encoding="utf-8")
    cli("corpus", "build", "o.tsv", "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "o")
    cli("lexicon", "build", "o", "--dictionary", "d.tsv", "-o", "rich")
    cli("lexicon", "merge", "lex", "rich/lexicon.tsv", "-o", "both")
    cli("mix", "--recipe", recipe("[hints]\nlexicon = 'both'\nskip_common = 0\ndropout = 0\ncandidates = 4"), "--corpus", "c", "-o", "joined")
    _, examples = check(Path("joined"), base)
    assert "tributary" not in prompts(examples) and ("aqueduct" in prompts(examples)) == (rare.split == "train")


def test_a_mix_without_hints_is_what_it_was(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    cli("mix", "--recipe", recipe(), "--corpus", "c", "-o", "plain")
    report, examples = check(Path("plain"), base)
    assert "hints" not in report and "【" not in prompts(examples) and not Path("plain/lexicon.tsv").exists()
    dropped = recipe("[hints]\ndropout = 1", "dropped.toml")
    cli("mix", "--recipe", dropped, "--corpus", "c", "--lexicon", "lex", "-o", "dropped")
    assert Path("dropped/mixed.jsonl").read_bytes() == Path("plain/mixed.jsonl").read_bytes()
    assert json.loads(Path("dropped/mix.json").read_text())["key"] != report["key"]
    assert "unchanged, reused" in cli("mix", "--recipe", dropped, "--corpus", "c", "--lexicon", "lex", "-o", "dropped").err


def test_what_was_kept_before_is_kept_with_hints(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    cli("mix", "--recipe", recipe(), "--corpus", "c", "-o", "plain")
    longest = max(len(ids) for ids, _ in BaseTokenizer(base).example_ids(read_examples(Path("plain/mixed.jsonl"))))
    table = f"[mix]\nmax_tokens = {longest}\n[hints]\nlexicon = 'lex'\ncandidates = 2\nskip_common = 0\ndropout = 0"
    cli("mix", "--recipe", recipe(table, "tight.toml"), "--corpus", "c", "-o", "m")
    (plain, before), (report, examples) = check(Path("plain"), base), check(Path("m"), base)
    assert {e.id for e in before} == {e.id for e in examples} and plain["left_out"] == report["left_out"]
    assert 0 < report["hints"]["counts"]["too_long"] <= len(examples)


def test_joined_segments_keep_their_hints(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    rows = [f"d{i // 4}\t{p.source}\t{p.target}" for i, p in enumerate(p for p in pairs if p.split == "train")]
    Path("d.tsv").write_text("\n".join(["document\tis\ten", *rows, ""]), encoding="utf-8")
    cli("corpus", "build", "d.tsv", "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "d")
    table = "[mix]\ngranularity = { paragraph = 1.0 }\n[hints]\nskip_common = 0\ndropout = 0"
    cli("mix", "--recipe", recipe(table), "--corpus", "d", "--lexicon", "lex", "-o", "m")
    _, examples = check(Path("m"), base)
    joined = [e for e in examples if "\n" in e.response]
    assert joined and all(len(HINT.findall(e.prompt)) > e.response.count("\n") for e in joined)


def test_bad_hints(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    cli("lexicon", "merge", "lex/lexicon.tsv", "-o", "bare")
    for table, arguments, said in (
        ("[hints]\ndropout = 0.1", (), "[hints] without a lexicon; valid: lexicon = DIRECTORY of tellmt lexicon build, or --lexicon"),
        ("[hints]\nlexikon = 'lex'", (), "unknown key; found lexikon; valid: lexicon"),
        ("[hints]\nlexicon = 'lex'\ncandidates = 9", (), "candidates: Input should be less than or equal to 8; found 9"),
        ("", ("--lexicon", "nowhere"), "--lexicon nowhere: there is no lexicon here; valid: a directory made by tellmt lexicon build, or a pair"),
        ("", ("--lexicon", "is-fo"), "--lexicon is-fo: this pair has no lexicon; valid: tellmt pair add"),
        ("", ("--lexicon", "c"), "there is no lexicon here"),
        ("", ("--lexicon", "bare"), "bare: a lexicon without the links of its pairs cannot be trained with"),
    ):
        ran = cli("mix", "--recipe", recipe(table), "--corpus", "c", *arguments, "-o", "m", ok=False)
        assert ran.code == 2 and said in ran.err and not Path("m").exists()


def test_the_lexicon_of_a_pair(cli: CLI, base: Base, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TELLMT_PAIRS", str(tmp_path / "pairs"))
    shutil.copytree("lex", tmp_path / "pairs/is-en/is-en/lexicon")
    ran = cli("mix", "--recipe", recipe("[hints]\nskip_common = 0"), "--corpus", "c", "--lexicon", "is-en", "-o", "m", "--json")
    assert ran.json["hints"]["counts"]["hints"] > 0 and "note" not in ran.json["hints"]


def test_a_vocabulary_of_common_words_alone_gives_no_hints_and_is_told(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    table = recipe("[hints]\nlexicon = 'lex'\nskip_common = 1000")
    for _ in range(2):
        ran = cli("mix", "--recipe", table, "--corpus", "c", "-o", "m", "--json")
        assert ran.json["hints"]["counts"]["hints"] == 0
        assert re.search(r"note: no example has a hint: the lexicon's corpus has \d+ different words, and the 1,000 commonest get none", ran.err)


def test_a_lexicon_of_another_pair_or_of_held_out_pairs_is_refused(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    corpus(cli, "other", n=60, pair="en-is")
    ran = cli("mix", "--recipe", recipe(pair="en-is"), "--corpus", "other", "--lexicon", "lex", "-o", "m", ok=False)
    assert ran.code == 2 and "this lexicon is of another pair than the mix; found is-en; valid: en-is" in ran.err
    cli("corpus", "build", "c.tsv", "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "everything")
    cli("lexicon", "build", "everything", "-o", "leaky")
    ran = cli("mix", "--recipe", recipe(), "--corpus", "c", "--lexicon", "leaky", "-o", "m", ok=False)
    assert ran.code == 2 and "the lexicon was learned from a pair of this corpus's" in ran.err and "split" in ran.err
