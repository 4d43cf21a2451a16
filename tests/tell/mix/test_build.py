"""`tellmt mix`: exact counts, one order by seed, nothing repeated from dev and test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.languages import parse_pair
from tell.mix.build import BATCH, MixConfig
from tell.mix.general_examples import repeats_segment
from tell.model.anchor import AnchorConfig, render
from tell.model.base import Base
from tell.records import read_examples, read_pairs
from tell.text.entities import known_letters
from tests.conftest import ROOT, SHARED, Ran
from tests.support.mixing import check, corpus, general, recipe, words

CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")


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
    reports = [
        cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "--seed", 4, "-o", "a", "--json").json,
        cli("mix", "--recipe", recipe().rename("s.toml"), "--corpus", c, "--general", g, "--seed", 4, "-o", "b", "--json").json,
    ]
    Path("t.toml").write_text('seed = 4\nbase = "tiny"\n')
    reports.append(cli("mix", "--recipe", "t.toml", "--corpus", c, "--general", g, "-o", "d", "--json").json)
    assert len({m["sha256"] for m in reports}) == 1 and {m["seed"] for m in reports} == {4}
    assert reports[2]["pair"] == "is-en"


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
    recipe_file = recipe('[mix]\ngeneral = ["pool/g.jsonl.gz", "pool/h.jsonl"]\nratio = 2', "recipes/r.toml")
    Path("recipes/pool").mkdir()
    general("recipes/pool/g.jsonl.gz", 200)
    general("recipes/pool/h.jsonl", 0, [{"prompt": words(i, "Name a thing such as"), "completion": words(i, "One is")} for i in range(200)])
    cli("mix", "--recipe", recipe_file, "--corpus", corpus(cli, "c"), "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert [(s["lines"], s["used"] > 0) for s in report["general_sources"]] == [(200, True), (200, True)]


def test_the_wording_and_parts_of_the_recipe_are_used(cli: CLI, tiny: Base) -> None:
    recipe_file = recipe('[anchor]\nwording = "paper"\nparts = "prefix"\n[mix]\nratio = 0')
    cli("mix", "--recipe", recipe_file, "--corpus", corpus(cli, "c"), "-o", "m")
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


def test_a_segment_is_known_however_its_characters_are_spelled() -> None:
    known = {known_letters("It's where the boats' owners ate & slept")}
    for text in ("It&#39;s where the boats&#x27; owners ate &amp; slept", "A line\nit&apos;s where the boats&rsquo; owners ate &amp;amp; slept"):
        assert repeats_segment((text, ""), known)
    assert not repeats_segment(("It&#39;s where the boats were", ""), known)


def test_general_data_that_holds_a_test_segment_in_a_longer_line_is_left_out(cli: CLI, tiny: Base) -> None:
    c = corpus(cli, "c")
    held = next(p for p in read_pairs(c / "pairs.jsonl") if p.split != "train" and len(p.target.split()) > 3)
    registered = "Fundurinn verður haldinn í ráðhúsinu á morgun klukkan tíu og allir eru velkomnir."
    Path("t.is.txt").write_text(registered + "\n", encoding="utf-8")
    Path("t.en.txt").write_text("The meeting is tomorrow.\n", encoding="utf-8")
    cli("testset", "add", "newstest", "--source", "t.is.txt", "--target", "t.en.txt", "--pair", "is-en")
    leaks = [{"prompt": f"{i} Translate into Icelandic: {held.target} Thank you!", "completion": "no"} for i in range(300)]
    leaks += [{"prompt": f"Say {i}", "completion": f"Hér segir: {registered.upper()} Og svo."} for i in range(300)]
    g = general("g.jsonl", 200, leaks)
    cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "m")
    report, examples = check(Path("m"), tiny)
    assert report["left_out"].keys() == {f"general: holds a segment of {held.split}", "general: holds a segment of the test set newstest"}
    assert all(int(e.id.rsplit(":", 1)[1]) <= 200 for e in examples if e.kind == "general")
    assert "reused" not in cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "other").err
    assert "unchanged, reused" in cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "m").err
    cli("testset", "remove", "newstest")
    assert "reused" not in cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "m").err


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
    # "... number N, which stops on the other side of the ..." is in both.
    assert report["left_out"] == {"general: holds a segment of test": 1}


def test_the_real_general_data(cli: CLI, tiny: Base) -> None:
    if not SHARED.exists():
        pytest.skip("the real data is not beside this checkout")
    pool = SHARED / "general" / "p3-train.jsonl.gz"
    cli("corpus", "build", SHARED / "en-is/tell-paper/dev-is-en.jsonl", "--pair", "is-en", "-o", "c")
    cli("mix", "--recipe", recipe(), "--corpus", "c", "--general", pool, "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert (report["general_sources"][0]["lines"], report["general_sources"][0]["usable"]) == (42530, 42530)
