"""Nearest pairs in the training examples of a mix: from the corpora to the prompts, through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example, Pair, read_examples, read_pairs
from tell.retrieval.memory import Memory
from tests.support.fake_eval_engine import light_base
from tests.support.mixing import CLI, check, recipe

LINE = re.compile(r"^【(.*?)】 (.*)$", re.M)
ACTIONS = {"Opnaðu": "Open", "Lokaðu": "Close", "Vistaðu": "Save", "Eyddu": "Delete", "Prentaðu": "Print", "Sendu": "Send"}
THINGS = {"skrána": "the file", "skjalið": "the document", "möppuna": "the folder", "gluggann": "the window", "myndina": "the picture"}


@pytest.fixture
def base(isolated: Path) -> Base:
    return light_base(isolated / "cache", "tiny")


_built: dict[str, bytes] = {}


@pytest.fixture
def pairs(cli: CLI, base: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Pair]:
    """The corpus `c`, of 60 sentences that are much alike, one with brackets among them, and one like no other. Built once, and then laid out again."""
    monkeypatch.chdir(tmp_path)
    if not _built:
        rows = [f"{v} {o} {w}.\t{a} {b} {n}." for v, a in ACTIONS.items() for o, b in THINGS.items() for w, n in (("í dag", "today"), ("núna", "now"))]
        rows += ["Kvíslarveitan fraus.\tThe tributary froze.", "Opnaðu 【gluggann】 í dag.\tOpen 【the window】 today."]
        Path("c.tsv").write_text("\n".join(["is\ten", *rows, ""]), encoding="utf-8")
        cli("corpus", "build", "c.tsv", "--pair", "is-en", "--dev", 6, "--test", 6, "-o", "c")
        _built.update({str(p): p.read_bytes() for p in (Path("c.tsv"), *Path("c").iterdir())})
    for name, data in _built.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    return read_pairs(Path("c/pairs.jsonl"))


def source_of(example: Example) -> str:
    """What stands in the prompt for the source, without the anchor."""
    return example.prompt.split("\n\n")[1]


def test_the_nearest_pair_stands_before_the_source(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    ran = cli("mix", "--recipe", recipe("[retrieval]\npairs = 2\nmin_score = 0.4\ndropout = 0"), "--corpus", "c", "-o", "m", "--json")
    report, examples = check(Path("m"), base)
    row = report["retrieval"]
    assert ran.json["retrieval"] == row and {name: row[name] for name in ("pairs", "min_score", "dropout")} == {"pairs": 2, "min_score": 0.4, "dropout": 0}
    train = {p.source.translate(str.maketrans("【】", "〖〗")): p for p in pairs if p.split == "train"}
    translations = {s: p.target.translate(str.maketrans("【】", "〖〗")) for s, p in train.items()}
    written = {(text := source_of(e)).rpartition("\n")[2]: LINE.findall(text) for e in examples}
    assert written.keys() == train.keys()
    for source, near in written.items():
        # Each is a training pair, none is the example's own, and nothing of dev and test is among them.
        assert len(near) <= 2 and all(translations[s] == t and s != source for s, t in near)
        # They are alike, but for the one sentence that is like no other.
        assert bool(near) == (source != "Kvíslarveitan fraus.") and all(set(s.split()) & set(source.split()) for s, _ in near)
    counts = row["counts"]
    assert counts == {"retrieved": sum(map(bool, written.values())), "pairs": sum(map(len, written.values())), "dropped": 0, "too_long": 0}
    memory = Memory.read(Path("m/memory.tsv"))
    assert len(memory.pairs) == row["memory"]["pairs"] == len(train) and row["memory"]["left_out"] == 0
    assert "unchanged, reused" in cli("mix", "--recipe", "r.toml", "--corpus", "c", "-o", "m").err
    cli("mix", "--recipe", "r.toml", "--corpus", "c", "-o", "again")
    assert [Path(f"again/{n}").read_bytes() for n in ("mixed.jsonl", "memory.tsv")] == [Path(f"m/{n}").read_bytes() for n in ("mixed.jsonl", "memory.tsv")]


def test_exact_duplicates_of_an_example_are_left_out_too(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    """Two corpora have the same pair with other white space in it; with another target the same source is another pair, and near."""
    for name, rows in (("a", ["Vistaðu allt.\tSave all.", "Sjá hér.\tSee here."]), ("b", ["Vistaðu \tallt.\tSave all.", "Sjá hér.\tLook here."])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(dict(zip(("is", "en"), r.rsplit("\t", 1), strict=True))) + "\n" for r in rows))
        cli("corpus", "build", f"{name}.jsonl", "--pair", "is-en", "--dev", 0, "--test", 0, "-o", name)
    cli("mix", "--recipe", recipe("[retrieval]\ndropout = 0\nmin_score = 0.9"), "--corpus", "a", "b", "-o", "m")
    _, examples = check(Path("m"), base)
    lines = {(source_of(e).rpartition("\n")[2], e.response): LINE.findall(source_of(e)) for e in examples}
    assert all(not near for (source, _), near in lines.items() if source.startswith("Vistaðu"))
    assert lines["Sjá hér.", "Look here."] == [("Sjá hér.", "See here.")] and lines["Sjá hér.", "See here."] == []


def test_the_threshold_and_the_dropout(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    cli("mix", "--recipe", recipe(), "--corpus", "c", "-o", "plain")
    plain, before = check(Path("plain"), base)
    assert "retrieval" not in plain and not Path("plain/memory.tsv").exists()
    retrieved = []
    for min_score in (0.3, 1.0):
        cli("mix", "--recipe", recipe(f"[retrieval]\nmin_score = {min_score}"), "--corpus", "c", "-o", f"m{min_score}")
        report, examples = check(Path(f"m{min_score}"), base)
        retrieved.append(report["retrieval"]["counts"]["retrieved"])
        assert 0 < report["retrieval"]["counts"]["dropped"] < len(examples) / 2 and report["key"] != plain["key"]
    assert len(before) * 0.9 >= retrieved[0] > retrieved[1] == 0
    # The flag does what an empty table does.
    cli("mix", "--recipe", recipe(), "--corpus", "c", "--retrieval", "-o", "flag")
    cli("mix", "--recipe", recipe("[retrieval]"), "--corpus", "c", "-o", "table")
    assert Path("flag/mix.json").read_bytes() == Path("table/mix.json").read_bytes()
    cli("mix", "--recipe", recipe("[retrieval]\ndropout = 1"), "--corpus", "c", "-o", "dropped")
    _, examples = check(Path("dropped"), base)
    # But for the brackets of a text, which stand as their twins.
    assert [e.prompt for e in examples] == [e.prompt.translate(str.maketrans("【】", "〖〗")) for e in before]


def test_what_was_kept_before_is_kept_with_pairs(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    """Hints come first: where there is no room for both, pairs go."""
    cli("lexicon", "build", "c", "-o", "lex")
    hints = "[hints]\nlexicon = 'lex'\nskip_common = 0\ndropout = 0"
    cli("mix", "--recipe", recipe(hints), "--corpus", "c", "-o", "hinted")
    longest = max(len(ids) for ids, _ in BaseTokenizer(base).example_ids(read_examples(Path("hinted/mixed.jsonl"))))
    for max_tokens, too_long in ((longest, True), (512, False)):
        table = f"[mix]\nmax_tokens = {max_tokens}\n{hints}\n[retrieval]\ndropout = 0\nmin_score = 0.3"
        cli("mix", "--recipe", recipe(table, "both.toml"), "--corpus", "c", "-o", f"m{max_tokens}")
        (_, before), (report, examples) = check(Path("hinted"), base), check(Path(f"m{max_tokens}"), base)
        assert {e.id: source_of(e) for e in before} == {e.id: source_of(e).rpartition("\n")[2] for e in examples} and not report["left_out"]
        assert (report["retrieval"]["counts"]["too_long"] > 0) == too_long and report["hints"]["counts"]["too_long"] == 0
        assert Path(f"m{max_tokens}/lexicon.tsv").exists() and Path(f"m{max_tokens}/memory.tsv").exists()


def test_joined_segments_have_no_pairs(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    rows = [f"d{i // 4}\t{p.source}\t{p.target}" for i, p in enumerate(p for p in pairs if p.split == "train")]
    Path("d.tsv").write_text("\n".join(["document\tis\ten", *rows, ""]), encoding="utf-8")
    cli("corpus", "build", "d.tsv", "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "d")
    table = "[mix]\ngranularity = { paragraph = 0.5, sentence = 0.5 }\n[retrieval]\ndropout = 0\nmin_score = 0.3"
    cli("mix", "--recipe", recipe(table), "--corpus", "d", "-o", "m")
    _, examples = check(Path("m"), base)
    joined, alone = [e for e in examples if "\n" in e.response], [e for e in examples if "\n" not in e.response]
    assert joined and not any("【" in e.prompt for e in joined) and any("【" in e.prompt for e in alone)


def test_bad_values(cli: CLI, base: Base, pairs: list[Pair]) -> None:
    for table, said in (
        ("[retrieval]\nmin_scor = 0.5", "unknown key; found min_scor; valid: min_score"),
        ("[retrieval]\nmin_score = 0", "min_score: Input should be greater than or equal to 0.1; found 0"),
        ("[retrieval]\nmin_score = 'half'", "min_score: Input should be a valid number"),
        ("[retrieval]\npairs = 9", "pairs: Input should be less than or equal to 8; found 9"),
        ("[retrieval]\ndropout = 1.5", "dropout: Input should be less than or equal to 1; found 1.5"),
        ("retrieval = true", "not a table; found True"),
    ):
        ran = cli("mix", "--recipe", recipe(table), "--corpus", "c", "-o", "m", ok=False)
        assert ran.code == 2 and said in ran.err and not Path("m").exists()
