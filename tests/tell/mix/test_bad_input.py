"""`tellmt mix`: what each bad input is told, and that a mix which was altered is made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example
from tests.conftest import Ran
from tests.support.mixing import corpus, general, recipe, words

CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")


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
    recipe_file = recipe(tables)
    ran = cli("mix", *(() if "--recipe" in args else ("--recipe", recipe_file)), *args, "-o", "m", ok=False)
    assert ran.code == code, ran.err
    assert not [part for part in said if part not in ran.err], ran.err
    assert ran.out == "" and sorted(Path("m").glob("*")) == before
    assert not list(Path().glob(".m.*"))


def test_the_missing_tokens_are_exact(cli: CLI, tiny: Base) -> None:
    small(cli)
    ran = cli("mix", "--recipe", recipe(), "--corpus", "c", "--general", "g.jsonl", "-o", "m", ok=False)
    pool = [json.loads(line) for line in Path("g.jsonl").read_text().split("\n") if line]
    tokenizer = BaseTokenizer(tiny)
    have = sum(len(i) for i, _ in tokenizer.example_ids([Example("", "general", f"{r['prompt']}\n\n", "", r["completion"]) for r in pool]))
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
