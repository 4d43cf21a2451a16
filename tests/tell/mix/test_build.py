"""`tellmt mix`: exact counts, one order by seed, nothing repeated from dev and test, and what each bad input is told."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.languages import parse_pair
from tell.mix.build import BATCH, MixConfig
from tell.model.anchor import AnchorConfig, render
from tell.model.base import Base
from tell.model.tokenizer import Tokens
from tell.records import Example, read_examples, read_pairs
from tests.conftest import ROOT, SHARED, Ran

CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")


def words(i: int, stem: str) -> str:
    return f"{stem} " + "".join(chr(ord("a") + int(d)) for d in f"{i:05}")


_built: dict[tuple[Any, ...], dict[str, bytes]] = {}


def corpus(cli: CLI, name: str, start: int = 0, n: int = 100, pair: str = "is-en", extra: tuple[str, ...] = ()) -> Path:
    """A built corpus of `n` pairs in documents of ten, a tenth each in dev and test. Built once, and then laid out again."""
    if files := _built.get((name, start, n, pair, extra)):
        Path(name).mkdir()
        for file, data in files.items():
            Path(file).write_bytes(data)
        return Path(name)
    tsv = Path(f"{name}.tsv")
    rows = [f"d{i // 10:03}\t{words(i, 'This is the English sentence')}\t{words(i, 'Þetta er íslenska setningin')}" for i in range(start, start + n)]
    tsv.write_text("\n".join(["document\ten\tis", *rows, *extra]) + "\n", encoding="utf-8")
    cli("corpus", "build", tsv, "--pair", pair, "-o", name)
    _built[name, start, n, pair, extra] = {str(p): p.read_bytes() for p in (tsv, *Path(name).iterdir())}
    return Path(name)


def general(name: str, n: int = 300, rows: list[Any] | None = None) -> Path:
    """A pool of `n` general examples of many lengths, then `rows` as they are."""
    pool = [(words(i, "Explain briefly the meaning of"), words(i, "It is " + "rather " * (i % 7) + "like")) for i in range(n)]
    out = [json.dumps({"prompt": p, "completion": c}) for p, c in pool]
    out += [r if isinstance(r, str) else json.dumps(r) for r in rows or []]
    raw = ("\n".join(out) + "\n").encode()
    Path(name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return Path(name)


def recipe(text: str = "", name: str = "r.toml", pair: str = "is-en") -> Path:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(f'pair = "{pair}"\nbase = "tiny"\n{text}\n')
    return Path(name)


def check(out: Path, base: Base) -> tuple[dict[str, Any], list[Example]]:
    """Everything that holds for every mix: the counts in mix.json are those of mixed.jsonl, token by token."""
    report: dict[str, Any] = json.loads((out / "mix.json").read_text())
    examples = read_examples(out / "mixed.jsonl")
    lengths = [len(ids) for ids, _ in Tokens(base).example_ids(examples)]
    for kind in ("task", "general"):
        mine = [n for e, n in zip(examples, lengths, strict=True) if e.kind == kind]
        assert report["counts"][kind] == {"examples": len(mine), "tokens": sum(mine)}
    assert max(lengths) <= report["max_tokens"]
    assert report["sha256"] == hashlib.sha256((out / "mixed.jsonl").read_bytes()).hexdigest()
    assert sum(s["used"] for s in report["general_sources"]) == report["counts"]["general"]["examples"]
    assert len({e.id for e in examples}) == len(examples)
    task, other = (report["counts"][k]["tokens"] for k in ("task", "general"))
    # At least what was asked, and the last example, of each source that has a share, is the only one beyond.
    wanted = round(report["ratio"] * task) if report["general_tokens"] is None else report["general_tokens"]
    assert wanted <= other
    if other:
        draws = max(1, sum("share" in s for s in report["general_sources"]))
        assert other - draws * max(n for e, n in zip(examples, lengths, strict=True) if e.kind == "general") < wanted
    return report, examples


# --- what is made


def test_a_mix_end_to_end(cli: CLI, tiny: Base) -> None:
    c = corpus(cli, "c")
    g = general("g.jsonl")
    done = cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "m", "--json").json
    report, examples = check(Path("m"), tiny)
    assert done == report
    train = {f"task:c/{p.doc}:{p.line}": p for p in read_pairs(c / "pairs.jsonl", "train")}
    anchor = render(AnchorConfig(), parse_pair("is-en"))
    assert report["anchor"] == anchor.model_dump()
    tasks = {e.id: e for e in examples if e.kind == "task"}
    assert tasks.keys() == train.keys()
    for id, e in tasks.items():
        assert (e.prompt, e.opening, e.response) == (f"{anchor.prefix}{train[id].source}\n\n", anchor.opening, train[id].target)
    pool = [json.loads(line) for line in g.read_text().split("\n") if line]
    for e in examples:
        if e.kind == "general":
            number = int(e.id.removeprefix("general:g.jsonl:"))
            assert (e.prompt, e.opening, e.response) == (pool[number - 1]["prompt"] + "\n\n", "", pool[number - 1]["completion"])
    assert report["left_out"] == {}
    digest = json.loads((c / "corpus.json").read_text())["pairs_sha256"]
    assert report["corpora"] == [
        {"path": "c", "name": "c", "pairs": len(train), "examples": len(train), "tokens": report["counts"]["task"]["tokens"], "pairs_sha256": digest}
    ]
    assert (report["pair"], report["seed"], report["ratio"], report["base"]) == ("is-en", 0, 1.0, {"id": "tiny", "revision": tiny.revision})
    assert {k: report["general_sources"][0][k] for k in ("lines", "usable")} == {"lines": 300, "usable": 300}
    # Shuffled through each other: no long run of one kind, as there would be were they laid end to end.
    kinds = "".join(e.kind[0] for e in examples)
    assert "t" * 25 not in kinds and "g" * 25 not in kinds


def test_a_recipe_without_general_data_is_plain_fine_tuning(cli: CLI) -> None:
    corpus(cli, "c")
    report = cli("mix", "--recipe", recipe(), "--corpus", "c", "-o", "m", "--json").json
    assert report["ratio"] == 0 and report["counts"]["general"] == {"examples": 0, "tokens": 0} and report["counts"]["task"]["examples"] == 80


def test_the_seed_decides_and_the_same_seed_repeats(cli: CLI) -> None:
    c, g = corpus(cli, "c"), general("g.jsonl")
    for name, seed in (("a", 1), ("b", 1), ("d", 2)):
        cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "--seed", seed, "-o", name)
    one, same, other = (Path(n, "mixed.jsonl").read_bytes() for n in "abd")
    assert one == same != other
    drawn = [{e.id for e in read_examples(Path(n, "mixed.jsonl")) if e.kind == "general"} for n in "ad"]
    assert drawn[0] != drawn[1]


def test_the_seed_of_the_recipe_holds_unless_a_flag_says_otherwise(cli: CLI) -> None:
    c, g = corpus(cli, "c"), general("g.jsonl")
    made = [
        cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "--seed", 4, "-o", "a", "--json").json,
        cli("mix", "--recipe", recipe().rename("s.toml"), "--corpus", c, "--general", g, "--seed", 4, "-o", "b", "--json").json,
    ]
    Path("t.toml").write_text('seed = 4\nbase = "tiny"\n')
    made.append(cli("mix", "--recipe", "t.toml", "--corpus", c, "--general", g, "-o", "d", "--json").json)
    assert len({m["sha256"] for m in made}) == 1 and {m["seed"] for m in made} == {4}
    assert made[2]["pair"] == "is-en"


@pytest.mark.parametrize("ratio", [0, 0.25, 1.5])
def test_the_ratio_is_kept_in_tokens(cli: CLI, tiny: Base, ratio: float) -> None:
    cli("mix", "--recipe", recipe(), "--corpus", corpus(cli, "c"), "--general", general("g.jsonl"), "--ratio", ratio, "-o", "m")
    report, examples = check(Path("m"), tiny)
    assert report["ratio"] == ratio
    assert any(e.kind == "general" for e in examples) == (ratio > 0)


def test_no_general_data_is_needed_for_ratio_zero(cli: CLI, tiny: Base) -> None:
    cli("mix", "--recipe", recipe("[mix]\nratio = 0"), "--corpus", corpus(cli, "c"), "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert report["counts"]["general"] == {"examples": 0, "tokens": 0} and report["general_sources"] == []


def test_general_files_of_a_recipe_are_relative_to_it(cli: CLI, tiny: Base) -> None:
    made = recipe('[mix]\ngeneral = ["pool/g.jsonl.gz", "pool/h.jsonl"]\nratio = 2', "recipes/r.toml")
    Path("recipes/pool").mkdir()
    general("recipes/pool/g.jsonl.gz", 200)
    general("recipes/pool/h.jsonl", 0, [{"prompt": words(i, "Name a thing such as"), "completion": words(i, "One is")} for i in range(200)])
    cli("mix", "--recipe", made, "--corpus", corpus(cli, "c"), "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert [(s["lines"], s["used"] > 0) for s in report["general_sources"]] == [(200, True), (200, True)]


def test_the_wording_and_parts_of_the_recipe_are_used(cli: CLI, tiny: Base) -> None:
    made = recipe('[anchor]\nwording = "paper"\nparts = "prefix"\n[mix]\nratio = 0')
    cli("mix", "--recipe", made, "--corpus", corpus(cli, "c"), "-o", "m")
    report, examples = check(Path("m"), tiny)
    assert examples[0].opening == "" == report["anchor"]["opening"]
    assert examples[0].prompt.startswith("This text is in Icelandic and needs to be translated into English.")


def test_unusable_lines_are_counted(cli: CLI, tiny: Base) -> None:
    bad: list[Any] = [
        "",
        "not JSON",
        "[" * 100_000,
        "[1]",
        {"prompt": "alone"},
        {"prompt": "", "completion": "x"},
        {"prompt": "x", "completion": "  "},
        {"prompt": 1, "completion": "x"},
        '{"prompt": "\\ud83d", "completion": "x"}',
        {"prompt": "x", "completion": None},
    ]
    cli("mix", "--recipe", recipe(), "--corpus", corpus(cli, "c"), "--general", general("g.jsonl", 300, bad), "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert {k: report["general_sources"][0][k] for k in ("lines", "usable")} == {"lines": 310, "usable": 300}


def test_long_examples_are_left_out_and_counted_never_cut(cli: CLI, tiny: Base) -> None:
    c = corpus(cli, "c", extra=(f"z\t{'very ' * 300}x\t{'mjög ' * 300}y",))
    split = next(p.split for p in read_pairs(c / "pairs.jsonl") if p.doc == "z")
    assert split == "train"
    g = general(
        "g.jsonl",
        20,
        [{"prompt": words(i, "tell " * 600), "completion": "x"} for i in range(400)]
        + [{"prompt": words(i, "Describe quickly"), "completion": words(i, "Such is")} for i in range(300)],
    )
    cli("mix", "--recipe", recipe("[mix]\nmax_tokens = 200"), "--corpus", c, "--general", g, "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert report["left_out"]["task: longer than max_tokens"] == 1
    assert report["left_out"]["general: longer than max_tokens"] > 0
    assert report["counts"]["task"]["examples"] == 80


def test_budgets_hold_whole_documents_and_nest(cli: CLI, tiny: Base) -> None:
    c, g = corpus(cli, "c", n=300), general("g.jsonl")
    found = []
    for budget in (2_000, 5_000, 10_000, 10_000_000):
        cli("mix", "--recipe", recipe(f"[mix]\ntask_tokens = {budget}\nratio = 0.1"), "--corpus", c, "--general", g, "-o", f"m{budget}")
        report, examples = check(Path(f"m{budget}"), tiny)
        assert report["counts"]["task"]["tokens"] <= budget
        ids = {e.id for e in examples if e.kind == "task"}
        docs = {i.rsplit(":", 1)[0] for i in ids}
        assert len(ids) == 10 * len(docs)
        total = sum(p.split == "train" for p in read_pairs(c / "pairs.jsonl"))
        assert report["left_out"].get("task: beyond task_tokens", 0) + len(ids) == total
        found.append(ids)
    assert all(a < b for a, b in itertools.pairwise(found))


def test_several_corpora_never_train_on_each_others_test_sets(cli: CLI, tiny: Base) -> None:
    a = corpus(cli, "a")
    held = [p for p in read_pairs(a / "pairs.jsonl") if p.split != "train"]
    same = next(p for p in read_pairs(a / "pairs.jsonl", "train"))
    repeated = tuple(f"e{i}\t{p.target.upper()}!\t{words(i, 'Önnur setning')}" for i, p in enumerate(held))
    b = corpus(cli, "b", start=500, extra=(*repeated, f"f\t{same.target}\t{same.source}"))
    cli("mix", "--recipe", recipe("[mix]\nratio = 0"), "--corpus", a, "--corpus", b, "-o", "m")
    report, examples = check(Path("m"), tiny)
    # Those of b's own dev and test are not training data in the first place.
    train_b = {p.target for p in read_pairs(b / "pairs.jsonl", "train")}
    assert report["left_out"] == {
        "task: in another corpus too": int(same.target in train_b),
        "task: in dev or test of another corpus": sum(f"{p.target.upper()}!" in train_b for p in held),
    }
    assert report["left_out"]["task: in dev or test of another corpus"] > 0 and report["left_out"]["task: in another corpus too"] == 1
    assert not {e.response.casefold().rstrip("!") for e in examples} & {p.target.casefold() for p in held}
    assert [x["name"] for x in report["corpora"]] == ["a", "b"]


def test_general_data_that_repeats_the_corpus_is_refused(cli: CLI, tiny: Base) -> None:
    c = corpus(cli, "c")
    pairs = read_pairs(c / "pairs.jsonl")
    test = next(p for p in pairs if p.split == "test")
    leaks = [{"prompt": f"Repeat: {words(i, 'x')}\n{test.source.upper()}", "completion": "no"} for i in range(1000)]
    leaks += [{"prompt": words(i, "Say"), "completion": f"«{test.target}»"} for i in range(1000)]
    g = general("g.jsonl", 200, leaks)
    cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "m")
    report, examples = check(Path("m"), tiny)
    assert report["left_out"].keys() == {"general: repeats a segment of the corpus"}
    assert all(int(e.id.rsplit(":", 1)[1]) <= 200 for e in examples if e.kind == "general")


def test_a_short_segment_is_not_a_leak(cli: CLI, tiny: Base) -> None:
    c = corpus(cli, "c", extra=("z\tYes, of course.\tJá.",))
    g = general("g.jsonl", 0, [{"prompt": words(i, "Is this so, I ask you, that it is called"), "completion": "Yes, of course."} for i in range(300)])
    cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert report["left_out"] == {}


def test_more_examples_than_one_batch(cli: CLI, tiny: Base) -> None:
    n = BATCH + 1000
    cli("mix", "--recipe", recipe("[mix]\nratio = 0.9"), "--corpus", corpus(cli, "c", n=n), "--general", general("g.jsonl", 2 * n), "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert report["counts"]["task"]["examples"] == n - 400 > BATCH < report["counts"]["general"]["examples"]


def test_unchanged_input_is_reused(cli: CLI) -> None:
    c, g = corpus(cli, "c"), general("g.jsonl")
    args = ("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "m", "--json")
    first = cli(*args)
    inode = Path("m/mixed.jsonl").stat().st_ino
    again = cli(*args)
    assert "unchanged, reused" in again.err and "reused" not in first.err
    assert again.json == first.json and Path("m/mixed.jsonl").stat().st_ino == inode
    forced = cli(*args, "--force")
    assert "reused" not in forced.err and forced.json == first.json
    for change in (("--seed", 1), ("--ratio", 0.5)):
        assert "reused" not in cli(*args, *change).err
    general("g.jsonl", 299)
    assert "reused" not in cli(*args).err


def test_the_table_for_people(cli: CLI) -> None:
    out = cli("mix", "--recipe", recipe(), "--corpus", corpus(cli, "c"), "--general", general("g.jsonl"), "-o", "m").out
    report = json.loads(Path("m/mix.json").read_text())
    for kind in ("task", "general"):
        line = next(x for x in out.split("\n") if f"│ {kind} " in x)
        assert all(f" {n:,} " in line for n in report["counts"][kind].values())


# --- bad input


def bad_corpus(cli: CLI) -> None:
    corpus(cli, "c")
    general("g.jsonl")


def altered(cli: CLI) -> None:
    bad_corpus(cli)
    path = Path("c/pairs.jsonl")
    path.write_text(path.read_text().replace("English", "Scottish", 1))


def halved(cli: CLI) -> None:
    bad_corpus(cli)
    Path("c/pairs.jsonl").unlink()


def reverse(cli: CLI) -> None:
    corpus(cli, "c", pair="en-is")
    general("g.jsonl")


def occupied(cli: CLI) -> None:
    bad_corpus(cli)
    Path("m").mkdir()
    Path("m/thesis.txt").write_text("years of work")


def unusable(cli: CLI) -> None:
    corpus(cli, "c")
    general("g.jsonl", 0, [{"question": "x", "answer": "y"}])


def not_utf8(cli: CLI) -> None:
    corpus(cli, "c")
    general("g.jsonl", 3)
    Path("g.jsonl").write_bytes(Path("g.jsonl").read_bytes() + b"\xff\n")


def small(cli: CLI) -> None:
    corpus(cli, "c")
    general("g.jsonl", 10)


def two_pools(cli: CLI) -> None:
    corpus(cli, "c")
    general("g.jsonl")
    general("h.jsonl", 10)


def long_pool(cli: CLI) -> None:
    corpus(cli, "c")
    general("g.jsonl", 0, [{"prompt": words(i, "tell " * 600), "completion": "x"} for i in range(20)])


def empty_pool(cli: CLI) -> None:
    corpus(cli, "c")
    Path("g.jsonl").write_text("")


def empty_corpus(cli: CLI) -> None:
    """Only dev and test pairs, as a selection of nothing would leave."""
    bad_corpus(cli)
    pairs = Path("c/pairs.jsonl")
    pairs.write_text("".join(line + "\n" for line in pairs.read_text().split("\n") if '"split": "dev"' in line))
    report = json.loads(Path("c/corpus.json").read_text())
    Path("c/corpus.json").write_text(json.dumps({**report, "pairs_sha256": hashlib.sha256(pairs.read_bytes()).hexdigest()}))


SHARES = '[[mix.sources]]\npath = "g.jsonl"\n[[mix.sources]]\npath = "h.jsonl"\nshare = {}'
USUAL = ("--corpus", "c", "--general", "g.jsonl")
BAD: dict[str, tuple[Callable[[CLI], None], str, tuple[str, ...], int, list[str]]] = {
    # what is wrong: (files, recipe tables, arguments, exit code, what is said)
    "a mistyped key": (bad_corpus, "[mix]\nratoi = 2", USUAL, 2, ["r.toml, [mix]", "ratoi", "ratio (did you mean this?)"]),
    "a mistyped table": (bad_corpus, "[mxi]\nratio = 2", USUAL, 2, ["r.toml", "mxi", "mix"]),
    "a mistyped anchor": (bad_corpus, '[anchor]\nwording = "long"', USUAL, 2, ["[anchor]", "wording", "'long'"]),
    "a negative ratio": (bad_corpus, "[mix]\nratio = -1", USUAL, 2, ["ratio", "-1"]),
    "no number": (bad_corpus, "", (*USUAL, "--ratio", "nan"), 2, ["ratio", "nan"]),
    "an endless ratio": (bad_corpus, "", (*USUAL, "--ratio", "inf"), 2, ["ratio", "inf"]),
    "a ratio in words": (bad_corpus, "", (*USUAL, "--ratio", "much"), 2, ["--ratio", "much"]),
    "mix that is no table": (bad_corpus, "mix = 3", (*USUAL, "--ratio", "1"), 2, ["not a table"]),
    "a budget of nothing": (bad_corpus, "[mix]\ntask_tokens = 0", USUAL, 2, ["task_tokens"]),
    "a budget below one document": (bad_corpus, "[mix]\ntask_tokens = 5", USUAL, 2, ["task_tokens", "found 5", "at least"]),
    "everything too long": (bad_corpus, "[mix]\nmax_tokens = 16", USUAL, 2, ["no task examples left", "80 task: longer than max_tokens"]),
    "no recipe": (bad_corpus, "", (*USUAL, "--recipe", "nowhere.toml"), 2, ["nowhere.toml", "no such recipe"]),
    "no corpus": (bad_corpus, "", ("--corpus", "nowhere", "--general", "g.jsonl"), 2, ["nowhere", "not a corpus"]),
    "a file for a corpus": (bad_corpus, "", ("--corpus", "c.tsv", "--general", "g.jsonl"), 2, ["c.tsv", "not a corpus"]),
    "a corpus twice": (bad_corpus, "", (*USUAL, "--corpus", "./c"), 2, ["given twice"]),
    "a corpus of another pair": (reverse, "", USUAL, 2, ["another pair", "en-is", "is-en"]),
    "an altered corpus": (altered, "", USUAL, 2, ["c: pairs.jsonl", "altered"]),
    "a halved corpus": (halved, "", USUAL, 2, ["c: pairs.jsonl", "missing"]),
    "no general data": (bad_corpus, "[mix]\nratio = 1", ("--corpus", "c"), 2, ["no general data", "--ratio 0"]),
    "no general data, flag": (bad_corpus, "", ("--corpus", "c", "--general-tokens", "100"), 2, ["no general data", "--ratio 0"]),
    "a pool that is not there": (bad_corpus, "", ("--corpus", "c", "--general", "nowhere.jsonl"), 2, ["nowhere.jsonl", "no such file"]),
    "a pool twice": (bad_corpus, "", (*USUAL, "--general", "./g.jsonl"), 2, ["given twice"]),
    "a pool without prompts": (unusable, "", USUAL, 2, ["g.jsonl", "no usable line", "1 lines", '"prompt"']),
    "a pool not in UTF-8": (not_utf8, "", USUAL, 2, ["g.jsonl, line 4, byte"]),
    "a ratio beyond the pool": (small, "", USUAL, 2, ["not enough general data", "usable tokens", "missing", "a ratio of 0."]),
    "a base that is not there": (bad_corpus, "", (*USUAL, "--base", "tinny"), 1, ["no such base", "tinny"]),
    "an unknown order": (bad_corpus, '[mix]\norder = "random"', USUAL, 2, ["r.toml, [mix]", "order", "'random'", "'shuffled'", "'task-last'"]),
    "an unknown order by flag": (bad_corpus, "", (*USUAL, "--order", "last"), 2, ["--order", "last", "task-last"]),
    "an unknown granularity": (bad_corpus, "[mix]\ngranularity = { sentences = 1 }", USUAL, 2, ["granularity", "'sentences'", "sentence (did you mean"]),
    "a granularity of nothing": (bad_corpus, "[mix]\ngranularity = { sentence = 0 }", USUAL, 2, ["granularity", "no share is more than 0"]),
    "a share below nothing": (bad_corpus, "[mix]\ngranularity = { sentence = -1 }", USUAL, 2, ["granularity", "0 or more"]),
    "a granularity's share of nothing": (
        bad_corpus,
        "[mix]\nratio = 0\ngranularity = { sentence = 1, document = 0.001 }",
        USUAL,
        2,
        ["rounds to no example", "document = 0.000999"],
    ),
    "a seed that is not a number": (bad_corpus, 'seed = "seven"', USUAL, 2, ["r.toml", "seed", "'seven'"]),
    "a seed in words": (bad_corpus, "", (*USUAL, "--seed", "seven"), 2, ["--seed", "seven"]),
    "a ratio and an amount": (bad_corpus, "[mix]\nratio = 1\ngeneral_tokens = 5", USUAL, 2, ["[mix]", "ratio and general_tokens are both given"]),
    "a ratio and an amount by flag": (bad_corpus, "", (*USUAL, "--ratio", "1", "--general-tokens", "5"), 2, ["--ratio and --general-tokens"]),
    "an amount below nothing": (bad_corpus, "", (*USUAL, "--general-tokens", "-1"), 2, ["general_tokens", "-1"]),
    "a budget below nothing": (bad_corpus, "", (*USUAL, "--task-tokens", "0"), 2, ["task_tokens", "0"]),
    "an amount beyond the pool": (small, "", (*USUAL, "--general-tokens", "100000"), 2, ["not enough general data", "missing", "general_tokens = "]),
    "two kinds of general data": (
        bad_corpus,
        '[mix]\ngeneral = ["g.jsonl"]\n[[mix.sources]]\npath = "g.jsonl"',
        ("--corpus", "c"),
        2,
        ["general and sources are both given"],
    ),
    "a source without a place": (bad_corpus, "[[mix.sources]]\nshare = 1", ("--corpus", "c"), 2, ["sources.0", "either path or dataset"]),
    "a source with a mistyped key": (bad_corpus, '[[mix.sources]]\npth = "g.jsonl"', ("--corpus", "c"), 2, ["sources.0", "'pth'", "path (did you mean"]),
    "a source with a share of nothing": (bad_corpus, '[[mix.sources]]\npath = "g.jsonl"\nshare = 0', ("--corpus", "c"), 2, ["sources.0.share", "0"]),
    "a source whose share rounds to nothing": (two_pools, SHARES.format(0.0001), ("--corpus", "c"), 2, ["h.jsonl", "rounds to no example", "larger share"]),
    "a source too small for its share": (two_pools, SHARES.format(5), ("--corpus", "c"), 2, ["h.jsonl", "not enough", "missing", "smaller share"]),
    "a source without such columns": (two_pools, '[[mix.sources]]\npath = "g.jsonl"\nprompt = "q"', ("--corpus", "c"), 2, ["g.jsonl", "no usable line", '"q"']),
    "prompts all too long": (long_pool, "[mix]\nmax_tokens = 300", USUAL, 2, ["found 0 usable tokens", "20 general: longer than max_tokens"]),
    "examples beyond the context": (bad_corpus, "[mix]\nmax_tokens = 4096", USUAL, 2, ["max_tokens", "4096", "2048 at most"]),
    "an empty pool": (empty_pool, "", USUAL, 2, ["g.jsonl", "no usable line", "0 lines"]),
    "an empty corpus": (empty_corpus, "", USUAL, 2, ["no task examples left", "nothing read"]),
    "an occupied directory": (occupied, "", USUAL, 2, ["thesis.txt"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(cli: CLI, name: str) -> None:
    files, tables, args, code, said = BAD[name]
    files(cli)
    before = sorted(Path("m").glob("*"))
    made = recipe(tables)
    ran = cli("mix", *(() if "--recipe" in args else ("--recipe", made)), *args, "-o", "m", ok=False)
    assert ran.code == code, ran.err
    assert not [part for part in said if part not in ran.err], ran.err
    assert ran.out == "" and sorted(Path("m").glob("*")) == before
    assert not list(Path().glob(".m.*"))


def test_the_missing_tokens_are_exact(cli: CLI, tiny: Base) -> None:
    small(cli)
    ran = cli("mix", "--recipe", recipe(), "--corpus", "c", "--general", "g.jsonl", "-o", "m", ok=False)
    pool = [json.loads(line) for line in Path("g.jsonl").read_text().split("\n") if line]
    tokens = Tokens(tiny)
    have = sum(len(i) for i, _ in tokens.example_ids([Example("", "general", f"{r['prompt']}\n\n", "", r["completion"]) for r in pool]))
    cli("mix", "--recipe", recipe(), "--corpus", "c", "--ratio", 0, "-o", "m")
    wanted = json.loads(Path("m/mix.json").read_text())["counts"]["task"]["tokens"]
    assert f"found {have} usable tokens, {wanted - have} missing" in ran.err
    # The ratio that the message offers works.
    offered = ran.err.rstrip().split("a ratio of ")[1].split(" ")[0]
    cli("mix", "--recipe", recipe(), "--corpus", "c", "--general", "g.jsonl", "--ratio", offered, "-o", "m")


def test_a_damaged_mix_is_told(cli: CLI) -> None:
    bad_corpus(cli)
    args = ("mix", "--recipe", recipe(), "--corpus", "c", "--general", "g.jsonl", "-o", "m")
    cli(*args)
    Path("m/mix.json").write_text("{")
    ran = cli(*args, ok=False)
    assert ran.code == 2 and "mix.json" in ran.err and "--force" in ran.err
    cli(*args, "--force")
    assert cli(*args).err.endswith("unchanged, reused\n")


def test_a_mixed_file_that_went_or_changed_is_made_again(cli: CLI) -> None:
    bad_corpus(cli)
    args = ("mix", "--recipe", recipe(), "--corpus", "c", "--general", "g.jsonl", "-o", "m", "--json")
    digest = cli(*args).json["sha256"]
    Path("m/mixed.jsonl").unlink()
    assert cli(*args).json["sha256"] == digest == hashlib.sha256(Path("m/mixed.jsonl").read_bytes()).hexdigest()
    Path("m/mixed.jsonl").write_text("")
    cli(*args)
    assert hashlib.sha256(Path("m/mixed.jsonl").read_bytes()).hexdigest() == digest


def test_the_defaults_and_the_shipped_recipes() -> None:
    config = MixConfig()
    assert (config.ratio, config.general, config.task_tokens, config.max_tokens) == (1.0, [], None, 512)
    import tomllib

    for path in sorted((ROOT / "train" / "recipes").glob("*.toml")):
        MixConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")).get("mix", {}))


def test_the_shipped_examples(cli: CLI, tiny: Base) -> None:
    files = sorted((ROOT / "examples" / "en-is").glob("*.tsv"))
    cli("corpus", "build", *files, "--pair", "is-en", "-o", "c")
    cli("mix", "--recipe", recipe(), "--corpus", "c", "--general", ROOT / "examples" / "general.jsonl", "--ratio", 0.5, "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert report["left_out"] == {}


def test_the_real_general_data(cli: CLI, tiny: Base) -> None:
    if not SHARED.exists():
        pytest.skip("the real data is not beside this checkout")
    pool = SHARED / "general" / "p3-train.jsonl.gz"
    cli("corpus", "build", SHARED / "en-is/tell-paper/dev-is-en.jsonl", "--pair", "is-en", "-o", "c")
    cli("mix", "--recipe", recipe(), "--corpus", "c", "--general", pool, "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert (report["general_sources"][0]["lines"], report["general_sources"][0]["usable"]) == (42530, 42530)
