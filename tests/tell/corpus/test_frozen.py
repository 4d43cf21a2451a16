"""`tellmt corpus build`: which documents are dev and test for good, and when a corpus is reused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran
from tests.support.parallel_files import check, docs_of, rows, sentence, texts, tsv, write

CLI = Callable[..., Ran]


@pytest.fixture
def cli(here: CLI) -> CLI:
    return here


def test_the_split_stays_when_data_is_added(cli: CLI) -> None:
    one = tsv("one.tsv", 200)
    cli("corpus", "build", one, "--pair", "is-en", "-o", "c")
    before = docs_of(Path("c"))
    old = {s: [p["source"] for p in rows(Path("c/pairs.jsonl")) if p["split"] == s] for s in ("dev", "test")}
    # A second file, before the first, and more documents in the first.
    zero = tsv("zero.tsv", 100, start=300)
    one.write_text(one.read_text() + "".join(f"new\t{sentence(i, 'en')}\t{sentence(i, 'is')}\n" for i in range(500, 520)))
    done = cli("corpus", "build", zero, one, "--pair", "is-en", "-o", "c", "--json").json
    after = docs_of(Path("c"))
    assert {s: after[s] for s in ("dev", "test")} == {s: {f"one.tsv/{d}" for d in before[s]} for s in ("dev", "test")}
    assert {s: [p["source"] for p in rows(Path("c/pairs.jsonl")) if p["split"] == s] for s in ("dev", "test")} == old
    assert done["splits"]["train"]["pairs"] == 200 + 100 + 20 - len(old["dev"]) - len(old["test"])
    check(Path("c"))


def test_a_frozen_split_refuses_other_sizes_until_told(cli: CLI) -> None:
    path = tsv("one.tsv", 200)
    cli("corpus", "build", path, "--pair", "is-en", "--seed", 3, "-o", "c")
    refused = cli("corpus", "build", path, "--pair", "is-en", "--dev", 50, "-o", "c", ok=False)
    assert refused.code == 2 and "--dev 50" in refused.err and "--new-split" in refused.err
    before = docs_of(Path("c"))
    assert cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json").json["seed"] == 3
    assert docs_of(Path("c")) == before
    done = cli("corpus", "build", path, "--pair", "is-en", "--dev", 50, "--new-split", "-o", "c", "--json").json
    assert done["splits"]["dev"]["pairs"] == 50


def test_frozen_documents_under_other_names_are_not_made_training_data(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    before = {p["source"]: p["split"] for p in rows(Path("c/pairs.jsonl"))}
    path.rename("renamed.tsv")
    done = cli("corpus", "build", "renamed.tsv", "--pair", "is-en", "-o", "c", "--json").json
    assert {p["source"]: p["split"] for p in rows(Path("c/pairs.jsonl"))} == before and done["missing_frozen"] == []
    # Under a new name, and nothing of it is known.
    refused = cli("corpus", "build", tsv("other.tsv", 100, start=500), "--pair", "is-en", "-o", "c", ok=False)
    assert refused.code == 2 and "frozen" in refused.err


def test_a_frozen_document_that_went_is_mentioned(cli: CLI) -> None:
    path = tsv("one.tsv", 200)
    cli("corpus", "build", path, "--pair", "is-en", "--dev", 20, "-o", "c")
    dropped_doc = min(docs_of(Path("c"))["dev"])
    write("one.tsv", *(x for x in path.read_text().split("\n") if x and not x.startswith(dropped_doc)))
    ran = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json")
    assert ran.json["missing_frozen"] == [f"one.tsv/{dropped_doc}"] and "1 frozen" in ran.err
    assert f"one.tsv/{dropped_doc}" in json.loads(Path("c/split.json").read_text())["documents"]


def test_the_seed_decides_and_the_same_seed_repeats(cli: CLI) -> None:
    path = tsv("one.tsv", 200)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cli("corpus", "build", path, "--pair", "is-en", "--seed", seed, "-o", name)
    assert Path("a/pairs.jsonl").read_bytes() == Path("b/pairs.jsonl").read_bytes()
    assert docs_of(Path("a"))["dev"] != docs_of(Path("c"))["dev"]


def test_unchanged_input_is_reused(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    first = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json")
    pairs_file = Path("c/pairs.jsonl").stat()
    again = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json")
    assert "unchanged, reused" in again.err and "reused" not in first.err
    assert again.json == first.json and Path("c/pairs.jsonl").stat().st_ino == pairs_file.st_ino
    forced = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json", "--force")
    assert "reused" not in forced.err and forced.json == first.json
    # What was built must still be there as it was built.
    pairs = Path("c/pairs.jsonl").read_bytes()
    Path("c/pairs.jsonl").write_bytes(pairs[:-10])
    assert "reused" not in cli("corpus", "build", path, "--pair", "is-en", "-o", "c").err and Path("c/pairs.jsonl").read_bytes() == pairs
    path.write_text(path.read_text() + "new\tA new one\tEin ný\n")
    assert cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json").json["read"] == 101


def test_zero_sizes_leave_all_for_training(cli: CLI) -> None:
    a, b = texts(3)
    done = cli("corpus", "build", a, b, "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "c", "--json").json
    assert {k: v["pairs"] for k, v in done["splits"].items()} == {"train": 3, "dev": 0, "test": 0}


def test_the_table_for_people(cli: CLI) -> None:
    out = cli("corpus", "build", tsv("one.tsv", 200), "--pair", "is-en", "-o", "c").out
    assert [line for line in out.split("\n") if "kept: train" in line and "160" in line and "16 documents" in line]
