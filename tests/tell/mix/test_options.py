"""Amounts, sources with shares, granularity, orders and the report of `tellmt mix`, and that tokens counted by words are the tokenizer's own."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tell.mix.order import arrange
from tell.model.base import MANIFEST, Base
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example, read_examples, read_pairs
from tests.conftest import SHARED, Ran
from tests.support.mixing import check, corpus, general, recipe, words

CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")


def tasks(out: str) -> list[Example]:
    return [e for e in read_examples(Path(out, "mixed.jsonl")) if e.kind == "task"]


def test_an_absolute_amount_and_a_flag_over_a_ratio(cli: CLI, tiny: Base) -> None:
    c, g = corpus(cli, "c"), general("g.jsonl")
    args = ("mix", "--corpus", c, "--general", g)
    cli(*args, "--recipe", recipe("[mix]\nratio = 2"), "--general-tokens", 1500, "-o", "m")
    report, _ = check(Path("m"), tiny)
    assert (report["ratio"], report["general_tokens"]) == (None, 1500)
    cli(*args, "--recipe", recipe("[mix]\ngeneral_tokens = 1500"), "-o", "n")
    assert Path("n/mixed.jsonl").read_bytes() == Path("m/mixed.jsonl").read_bytes()
    cli(*args, "--recipe", recipe("[mix]\ngeneral_tokens = 1500"), "--ratio", 0.1, "-o", "o")
    assert check(Path("o"), tiny)[0]["ratio"] == 0.1


def test_sources_get_their_shares(cli: CLI, tiny: Base) -> None:
    general("g.jsonl")
    rows = [{"q": words(i, "Name a thing such as"), "a": words(i, "One is")} for i in range(200)]
    Path("h.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    text = '[mix]\ngeneral_tokens = 4000\n[[mix.sources]]\npath = "g.jsonl"\nshare = 3\n[[mix.sources]]\npath = "h.jsonl"\nprompt = "q"\ncompletion = "a"'
    cli("mix", "--recipe", recipe(text), "--corpus", corpus(cli, "c"), "-o", "m")
    report, examples = check(Path("m"), tiny)
    g, h = report["general_sources"]
    longest = max(len(i) for i, _ in BaseTokenizer(tiny).example_ids(examples))
    assert 3000 <= g["tokens"] < 3000 + longest and 1000 <= h["tokens"] < 1000 + longest
    assert g["tokens"] + h["tokens"] == report["counts"]["general"]["tokens"]
    assert sum(e.id.startswith("general:h.jsonl:") for e in examples) == h["used"]


@pytest.mark.parametrize("order", ["shuffled", "task-last", "task-first", "interleave", "none"])
def test_every_order_has_every_example_once(cli: CLI, tiny: Base, order: str) -> None:
    c, g = corpus(cli, "c"), general("g.jsonl")
    cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "--order", order, "-o", "m")
    cli("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "s")
    report, examples = check(Path("m"), tiny)
    assert report["order"] == order
    assert sorted(e.id for e in examples) == sorted(e.id for e in read_examples(Path("s/mixed.jsonl")))
    kinds = [e.kind for e in examples]
    places = [i for i, k in enumerate(kinds) if k == "task"]
    corpus_order = [e for e in (f"task:c/{p.doc}:{p.line}" for p in read_pairs(c / "pairs.jsonl", "train"))]
    found = [e.id for e in examples if e.kind == "task"]
    assert (found == corpus_order) == (order == "none")
    if order in ("task-first", "none"):
        assert places == list(range(len(places)))
    elif order == "task-last":
        assert places == list(range(len(kinds) - len(places), len(kinds)))
    else:
        gaps = {b - a for a, b in pairwise(places)}
        assert (max(gaps) - min(gaps) <= 1) == (order == "interleave")
    if order == "none":
        pool = [int(e.id.rsplit(":", 1)[1]) for e in examples if e.kind == "general"]
        assert pool == sorted(pool)


SHARED_OUT = "[mix]\nratio = 0\nmax_tokens = {limit}\ngranularity = {{ sentence = 1, paragraph = 1, document = 1 }}"


@pytest.mark.parametrize("limit", [120, 512])
def test_each_segment_is_in_one_example_and_none_is_cut(cli: CLI, tiny: Base, limit: int) -> None:
    c = corpus(cli, "c", n=300)
    cli("mix", "--recipe", recipe(SHARED_OUT.format(limit=limit)), "--corpus", c, "-o", "m")
    report, examples = check(Path("m"), tiny)
    pairs = read_pairs(c / "pairs.jsonl", "train")
    for side, texts in (("source", [e.prompt.split("\n\n", 1)[1].removesuffix("\n\n") for e in examples]), ("target", [e.response for e in examples])):
        assert sorted(line for text in texts for line in text.split("\n")) == sorted(getattr(p, side) for p in pairs)
    assert all(len(e.prompt.split("\n\n")[1].split("\n")) == len(e.response.split("\n")) for e in examples)
    found = report["granularity"]
    whole = report["counts"]["task"]["tokens"]
    assert sum(k["tokens"] for k in found.values()) == whole and sum(k["segments"] for k in found.values()) == len(pairs)
    # To a document of either side.
    assert all(abs(k["tokens"] - whole / 3) < 1000 for k in found.values())
    assert found["sentence"]["examples"] == found["sentence"]["segments"]
    if limit == 512:
        # Ten segments in paragraphs of like size, four at most.
        assert (found["paragraph"]["examples"], found["document"]["examples"]) == (3 * found["paragraph"]["documents"], found["document"]["documents"])
        assert all(k["split"] == 0 for k in found.values())
    else:
        assert found["document"]["split"] == found["document"]["documents"] < found["document"]["examples"]


def test_budgets_nest_in_every_granularity(cli: CLI) -> None:
    c, found = corpus(cli, "c", n=300), []
    for budget in (3000, 6000, 100_000):
        cli("mix", "--recipe", recipe(SHARED_OUT.format(limit=512)), "--corpus", c, "--task-tokens", budget, "-o", f"m{budget}")
        report = json.loads(Path(f"m{budget}/mix.json").read_text())
        assert report["counts"]["task"]["tokens"] <= budget
        assert sum(k["segments"] for k in report["granularity"].values()) + report["left_out"].get("task: beyond task_tokens", 0) == 240
        found.append({e.id for e in tasks(f"m{budget}")})
    assert found[0] < found[1] < found[2]


def test_lines_without_documents_give_sentences_alone(cli: CLI) -> None:
    rows = [f"{words(i, 'This is the English sentence')}\t{words(i, 'Þetta er íslenska setningin')}" for i in range(100)]
    Path("p.tsv").write_text("\n".join(["en\tis", *rows]) + "\n", encoding="utf-8")
    cli("corpus", "build", "p.tsv", "--pair", "is-en", "-o", "p")
    recipe_file = recipe("[mix]\nratio = 0\ngranularity = { document = 1 }")
    ran = cli("mix", "--recipe", recipe_file, "--corpus", "p", "-o", "m", ok=False)
    assert ran.code == 2 and "can only give sentences" in ran.err and "sentence = 1.0" in ran.err
    report = cli("mix", "--recipe", recipe_file, "--corpus", "p", corpus(cli, "c", start=500), "-o", "m", "--json").json
    found = report["granularity"]
    assert (found["sentence"]["no_other_way"], found["sentence"]["segments"], found["document"]["segments"]) == (8, 80, 80)


def test_the_report(cli: CLI, tiny: Base) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib draws the picture: the extra `train`")
    c, g = corpus(cli, "c"), general("g.jsonl")
    args = ("mix", "--recipe", recipe(), "--corpus", c, "--general", g, "-o", "m")
    cli(*args)
    ran = cli(*args, "--report")
    assert "reused" in ran.err and "tokens per word" in ran.out and "order.png" in ran.out
    report, examples = check(Path("m"), tiny)
    told: dict[str, Any] = json.loads(Path("m/report.json").read_text())
    pairs = read_pairs(c / "pairs.jsonl", "train")
    tokenizer = BaseTokenizer(tiny)
    for side in ("source", "target"):
        texts = [getattr(p, side) for p in pairs]
        n, w = sum(len(tokenizer.encode(t)) for t in texts), sum(len(t.split()) for t in texts)
        assert told["fertility"][side] == {"words": w, "tokens": n, "tokens_per_word": round(n / w, 3)}
    places = [i for i, e in enumerate(examples) if e.kind == "task"]
    gaps = sorted(b - a for a, b in pairwise(places))
    assert {k: told["spacing"][k] for k in ("min", "max")} == {"min": gaps[0], "max": gaps[-1]}
    assert told["spacing"]["median"] in gaps and sum(x <= told["spacing"]["p95"] for x in gaps) >= 0.95 * len(gaps)
    assert told["counts"] == report["counts"] and told["general"][0]["tokens"] == report["counts"]["general"]["tokens"]
    assert Path("m/order.png").read_bytes().startswith(b"\x89PNG")
    # Another mix has no report until one is asked for.
    cli(*args, "--seed", 5)
    assert {p.name for p in Path("m").iterdir()} == {"mix.json", "mixed.jsonl"}


def test_a_report_says_what_it_needs(cli: CLI) -> None:
    Path("hide").mkdir()
    Path("hide/matplotlib.py").write_text("raise ModuleNotFoundError(\"No module named 'matplotlib'\", name='matplotlib')\n")
    ran = cli("mix", "--recipe", recipe("[mix]\nratio = 0"), "--corpus", corpus(cli, "c"), "-o", "m", "--report", ok=False, PYTHONPATH="hide")
    assert ran.code == 1 and "matplotlib" in ran.err and "tellmt[train]" in ran.err and not Path("m").exists()


def test_a_base_without_a_bos(cli: CLI, tiny: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as Qwen: nothing stands before the prompt, and one token less is counted."""
    c = corpus(cli, "c")
    cli("mix", "--recipe", recipe("[mix]\nratio = 0"), "--corpus", c, "-o", "m")
    before, _ = check(Path("m"), tiny)
    shutil.copytree(tiny.path, "cache/bases/tiny")
    bare = tiny.model_copy(update={"bos_id": None, "path": Path("cache/bases/tiny").absolute()})
    Path("cache/bases/tiny", MANIFEST).write_text(bare.model_dump_json())
    monkeypatch.setenv("TELLMT_CACHE", str(Path("cache").absolute()))
    cli("mix", "--recipe", recipe("[mix]\nratio = 0"), "--corpus", c, "-o", "n")
    after, _ = check(Path("n"), bare)
    assert before["counts"]["task"]["tokens"] - after["counts"]["task"]["tokens"] == after["counts"]["task"]["examples"]


def test_tokens_counted_by_words_are_the_tokenizers_own(tiny: Base) -> None:
    tokenizer = BaseTokenizer(tiny)
    hostile = SHARED / "hostile" / "blns.json"
    texts = json.loads(hostile.read_text(encoding="utf-8")) if hostile.exists() else []
    rng = random.Random(1)
    pieces = [*" \n\t▁abé.9'\u0301\u3000\r\u0085", "  ", "\n\n", "the ", " of", " 10", "<eos>", "> </", "日本", "x" * 60]
    texts += ["".join(rng.choices(pieces, k=rng.randint(0, 16))) for _ in range(5000)]
    examples = [Example("", "task", a, b, c) for a, b, c in zip(texts, ["", "English:\n"] * len(texts), reversed(texts), strict=False)]
    assert tokenizer._counted._kind == "bytes"
    for _ in range(2):
        assert tokenizer.lengths(examples) == [len(ids) for ids, _ in tokenizer.example_ids(examples)]


def test_a_tokenizer_of_an_unknown_kind_is_asked_itself(tiny: Base) -> None:
    from tokenizers import Tokenizer, pre_tokenizers

    from tell.model.token_lengths import word_boundaries

    # One of its own: those of `BaseTokenizer` are shared.
    tokenizer = Tokenizer.from_file(str(tiny.path / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert word_boundaries(tokenizer) == (None, None)


def dataset(name: str, rows: list[dict[str, Any]]) -> Path:
    Path(name).mkdir()
    Path(name, "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return Path(name)


DATASET = '[mix]\ngeneral_tokens = 1000\n[[mix.sources]]\ndataset = "d"\nprompt = "q"\ncompletion = "a"\nrows = 80'


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the extra `hub`")
def test_a_dataset_is_read_once(cli: CLI, tiny: Base, isolated: Path) -> None:
    dataset("d", [{"q": words(i, "Name a thing such as"), "a": words(i, "One is")} for i in range(100)])
    args = ("mix", "--recipe", recipe(DATASET), "--corpus", corpus(cli, "c"), "-o", "m", "--json")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(isolated / "hf")}
    first = cli(*args, **offline)
    report, examples = check(Path("m"), tiny)
    assert (report["general_sources"][0]["dataset"], report["general_sources"][0]["lines"]) == ("d", 80)
    assert any(e.id.startswith("general:d:train:") for e in examples) and "reading it into" in first.err
    again = cli(*args, "--force", **offline)
    assert again.json == first.json and "reading it into" not in again.err
    bad = cli("mix", "--recipe", recipe(DATASET.replace('"q"', '"question"')), "--corpus", "c", "-o", "n", ok=False, **offline)
    assert bad.code == 2 and "no such column" in bad.err and "question" in bad.err


def test_a_dataset_needs_its_library(cli: CLI) -> None:
    dataset("d", [{"q": "x", "a": "y"}])
    Path("hide").mkdir()
    Path("hide/datasets.py").write_text("raise ModuleNotFoundError(\"No module named 'datasets'\", name='datasets')\n")
    ran = cli("mix", "--recipe", recipe(DATASET), "--corpus", corpus(cli, "c"), "-o", "m", ok=False, PYTHONPATH="hide")
    assert ran.code == 1 and "datasets" in ran.err and "tellmt[hub]" in ran.err


@pytest.mark.parametrize("order", ["shuffled", "interleave", "task-last", "task-first", "none"])
def test_task_passes_repeat_the_task_and_spread_the_general_data(order: Any) -> None:
    task, pool = list(range(10)), list(range(100, 131))
    arranged = list(arrange(order, task, pool, 1, 3))
    assert sorted(arranged) == sorted(task * 3 + pool) and arranged == list(arrange(order, task, pool, 1, 3))
    passes = [[i for i in arranged if i < 100][n : n + 10] for n in (0, 10, 20)]
    assert all(sorted(p) == task for p in passes) and (order == "none" or passes[0] != passes[1] != passes[2])
    inside = [i >= 100 for i in arranged]
    if order in ("shuffled", "interleave"):
        assert all(abs(sum(inside[: len(inside) * n // 3]) - 31 * n / 3) <= 2 for n in (1, 2))
    else:
        assert all(inside[:31] if order == "task-last" else inside[-31:])
    # One pass is what it was before there were several.
    assert list(arrange(order, task, pool, 1, 1)) == list(arrange(order, task, pool, 1))


def test_a_mix_with_passes_counts_each_example_once(cli: CLI) -> None:
    c, g = corpus(cli, "c"), general("g.jsonl")
    reports = [
        cli("mix", "--corpus", c, "--general", g, "--recipe", recipe(f"[mix]\nratio = 0.5\ntask_passes = {n}"), "-o", f"m{n}", "--json").json for n in (1, 2)
    ]
    assert reports[0]["counts"] == reports[1]["counts"] and reports[1]["task_passes"] == 2 and "task_passes" not in reports[0]
    assert len(tasks("m2")) == 2 * len(tasks("m1")) == 2 * reports[0]["counts"]["task"]["examples"]
    # Said or left out, one pass is the same mix.
    assert cli("mix", "--corpus", c, "--general", g, "--recipe", recipe("[mix]\nratio = 0.5"), "-o", "m", "--json").json["key"] == reports[0]["key"]
