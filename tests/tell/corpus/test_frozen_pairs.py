"""`tellmt corpus build`: each pair stays in its split by its source text, wherever its line moves, and the command says what changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Ran
from tests.support.parallel_files import docs_of, rows, sentence, texts, tsv, write

CLI = Callable[..., Ran]
NONE = {"train": 0, "dev": 0, "test": 0}


@pytest.fixture
def cli(here: CLI) -> CLI:
    return here


def split_of(corpus: str = "c") -> dict[str, str]:
    """Source -> split."""
    return {p["source"]: p["split"] for p in rows(Path(corpus, "pairs.jsonl"))}


def plain(path: str, numbers: list[int]) -> Path:
    """A table without documents."""
    return write(path, "is\ten", *(f"{sentence(i, 'is')}\t{sentence(i, 'en')}" for i in numbers))


def build(cli: CLI, *args: Any, out: str = "c") -> Any:
    return cli("corpus", "build", *args, "--pair", "is-en", "-o", out, "--json").json


def body(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[1:-1]


def test_rows_on_top_move_nothing(cli: CLI) -> None:
    path = plain("t.tsv", [*range(700)])
    first = build(cli, path)
    assert first["changes"] == {"moved": NONE, "appeared": NONE, "went": NONE} and first["splits"]["test"]["pairs"] == 70
    before = split_of()
    plain("t.tsv", [900, 901, 902, *range(700)])
    ran = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json")
    assert ran.json["changes"] == {"moved": NONE, "appeared": {**NONE, "train": 3}, "went": NONE}
    assert split_of() == {**before, **{sentence(i, "is"): "train" for i in (900, 901, 902)}}
    assert "pairs since the build before: 0 moved, 3 appeared (3 train), 0 went" in ran.err
    # The same rows again, without the last file's.
    removed = [i for i in range(700) if before[sentence(i, "is")] == "test"][:2]
    plain("t.tsv", [i for i in range(700) if i not in removed])
    rebuilt = cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    assert "0 moved, 0 appeared, 5 went (3 train, 2 test)" in rebuilt.err
    assert split_of() == {s: x for s, x in before.items() if s not in {sentence(i, "is") for i in removed}}
    # What was test once is test when it comes back.
    plain("t.tsv", [*range(700)])
    assert build(cli, path)["changes"]["appeared"] == {**NONE, "test": 2} and split_of() == before
    assert "report.html" in rebuilt.out and "2 appeared (2 test)" in Path("c/report.html").read_text(encoding="utf-8")


def test_a_sorted_file_moves_nothing(cli: CLI) -> None:
    path = plain("t.tsv", [(i * 7) % 200 for i in range(200)])
    build(cli, path)
    before, splits = split_of(), json.loads(Path("c/split.json").read_text())
    header, *lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    write("t.tsv", header, *sorted(lines))
    assert build(cli, path)["changes"] == {"moved": NONE, "appeared": NONE, "went": NONE}
    assert split_of() == before and json.loads(Path("c/split.json").read_text()) == splits


def test_mended_targets_and_second_targets_stay_with_their_source(cli: CLI) -> None:
    path = plain("t.tsv", [*range(200)])
    build(cli, path)
    before = split_of()
    test = next(s for s, x in before.items() if x == "test")
    train = next(s for s, x in before.items() if x == "train")
    lines = [f"{line} by another hand" if line.split("\t")[0] in (test, train) else line for line in body(path)]
    write("t.tsv", "is\ten", *lines, f"{test.upper()}!\tThis has a second translation", f"{train}\tThis too has another translation")
    done = build(cli, path)
    assert done["changes"] == {"moved": NONE, "appeared": {"train": 1, "dev": 0, "test": 1}, "went": NONE}
    assert split_of() == {**before, f"{test.upper()}!": "test"} and done["dropped"] == {}
    assert {p["target"] for p in rows(Path("c/pairs.jsonl")) if p["source"] == test} == {f"{next(x for x in lines if x.startswith(test)).split(chr(9))[1]}"}


def test_what_was_dropped_as_a_repeat_of_test_stays_dropped(cli: CLI) -> None:
    # The same source with two targets, far apart: whichever is not in test is dropped.
    lines = [f"{sentence(i, 'is')}\t{sentence(i, 'en')}" for i in range(100)]
    path = write("t.tsv", "is\ten", *lines, *(f"{sentence(i, 'is')}\tAnother way of saying it {sentence(i, 'en')}" for i in range(100)))
    first = build(cli, path)
    assert first["dropped"]["in test"] and first["dropped"]["in dev"]
    pairs = Path("c/pairs.jsonl").read_bytes()
    forced = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json", "--force").json
    assert forced == first and Path("c/pairs.jsonl").read_bytes() == pairs


def test_docs_that_come_later_and_go_again_move_nothing(cli: CLI) -> None:
    a, b = texts(200)
    build(cli, a, b)
    before = split_of()
    docs = write("docs.txt", *(f"text-{i // 25}" for i in range(200)))
    done = build(cli, a, b, "--docs", docs)
    assert (done["documents"], done["missing_frozen"]) == (["--docs"], []) and done["changes"] == {"moved": NONE, "appeared": NONE, "went": NONE}
    assert split_of() == before
    assert build(cli, a, b)["changes"]["moved"] == NONE and split_of() == before
    # The other way round.
    build(cli, a, b, "--docs", docs, out="d")
    whole = split_of("d")
    assert build(cli, a, b, out="d")["missing_frozen"] == [] and split_of("d") == whole
    assert build(cli, a, b, "--docs", docs, out="d")["changes"] == {"moved": NONE, "appeared": NONE, "went": NONE} and split_of("d") == whole


def test_new_lines_go_with_their_document(cli: CLI) -> None:
    path = tsv("one.tsv", 200)
    build(cli, path)
    before, docs = split_of(), docs_of(Path("c"))
    grown = {split: min(docs[split]) for split in docs}
    test = next(s for s, x in before.items() if x == "test")
    new = [f"{doc}\t{sentence(500 + i, 'en')}\t{sentence(500 + i, 'is')}" for i, doc in enumerate(grown.values())]
    # A new document that repeats a test pair does not become test.
    new += [f"new\tA second one of {test}\t{test}", *(f"new\t{sentence(i, 'en')}\t{sentence(i, 'is')}" for i in range(600, 604))]
    write("one.tsv", "document\ten\tis", *new, *body(path))
    done = build(cli, path)
    assert done["changes"] == {"moved": NONE, "appeared": {"train": 5, "dev": 1, "test": 2}, "went": NONE}
    after = split_of()
    assert {**after, **before} == after
    assert [after[sentence(500 + i, "is")] for i in range(3)] == list(grown) and after[sentence(600, "is")] == "train"


def test_stretches_between_blank_lines_stay_whole_under_other_numbers(cli: CLI) -> None:
    def files(starts: list[int], longer: bool) -> tuple[Path, Path]:
        """Stretches of five sentences and, if they are to be longer, another one before these."""
        sides: list[list[str]] = [[], []]
        for side, language, word in zip(sides, ("is", "en"), ("númer", "number"), strict=True):
            for start in starts:
                lines = [sentence(i, language) for i in range(start, start + 5)]
                side += [*([lines[0].replace(word, "xyz")] if longer else []), *lines, ""]
        return write("s.is", *sides[0]), write("s.en", *sides[1])

    build(cli, *files([*range(0, 100, 5)], longer=False))
    before = split_of()
    done = build(cli, *files([900, *range(0, 100, 5)], longer=True))
    after = split_of()
    assert {**after, **before} == after and after[sentence(900, "is")] == "train" and done["changes"]["moved"] == NONE
    assert all(after[sentence(i, "is").replace("númer", "xyz")] == before[sentence(i, "is")] for i in range(0, 100, 5))


def test_a_corpus_of_the_version_before_keeps_its_split(cli: CLI) -> None:
    data = ROOT / "tests" / "golden" / "earlier" / "data"
    shutil.copytree(data / "corpus", "c", copy_function=shutil.copyfile)
    before = split_of()
    header, *lines = (data / "corpus.tsv").read_text(encoding="utf-8").split("\n")[:-1]
    # Nothing of the documents is left but the pairs in them.
    rest = [line.split("\t", 1)[1] for line in sorted(lines)]
    added = write("corpus.tsv", header.split("\t", 1)[1], *rest, *(f"A new sentence called {x}\tNý setning sem heitir {x}" for x in ("baba", "abab")))
    ran = cli("corpus", "build", added, "--pair", "is-en", "--dev", 8, "--test", 8, "-o", "c", "--json")
    assert ran.json["changes"] == {"moved": NONE, "appeared": {**NONE, "train": 2}, "went": NONE}, ran.err
    assert {**split_of(), **before} == split_of() and ran.json["splits"]["test"]["pairs"] == 8
    assert {part: len(keys) for part, keys in json.loads(Path("c/split.json").read_text())["pairs"].items()} == {"dev": 8, "test": 8}


def test_the_other_direction_is_frozen_alike(cli: CLI) -> None:
    path = plain("t.tsv", [*range(200)])
    build(cli, path)
    cli("corpus", "reverse", "c", "-o", "r")
    before = split_of("r")
    assert [*before.values()] == [*split_of().values()]
    plain("t.tsv", [900, *range(199, -1, -1)])
    done = cli("corpus", "build", path, "--pair", "en-is", "-o", "r", "--json").json
    assert done["changes"] == {"moved": NONE, "appeared": {**NONE, "train": 1}, "went": NONE}
    assert split_of("r") == {**before, sentence(900, "en"): "train"}
    build(cli, path)
    cli("corpus", "reverse", "c", "-o", "r")
    assert split_of("r") == {**before, sentence(900, "en"): "train"}


def test_an_altered_corpus_keeps_dev_and_test(cli: CLI) -> None:
    path = plain("t.tsv", [*range(200)])
    build(cli, path)
    before = split_of()
    Path("c/pairs.jsonl").write_text("")
    plain("t.tsv", [900, *range(200)])
    ran = cli("corpus", "build", path, "--pair", "is-en", "-o", "c", "--json")
    assert ran.json["changes"] is None and "altered" in ran.err
    assert split_of() == {**before, sentence(900, "is"): "train"}


def test_sources_without_letters_and_sources_in_two_splits(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{sentence(i, 'is')}\t{sentence(i, 'en')}" for i in range(100)]
    # Every block has the same source once, and numbers.
    for n in range(10):
        lines[10 * n] = f"Hvað segir þú\t{sentence(900 + n, 'en')}"
        lines[10 * n + 1] = f"{n}:{n}0\tTen past {sentence(800 + n, 'en')}"
    path = write("t.tsv", "is\ten", *lines)
    options = ("--off", "letters", "near-duplicate", "--dev", 10, "--test", 10)
    # As earlier versions drew it.
    with monkeypatch.context() as earlier:
        earlier.setattr("tell.corpus.split.drop_shared", lambda *_: 0)
        build(cli, path, *options)
    before = {(p["source"], p["target"]): p["split"] for p in rows(Path("c/pairs.jsonl"))}
    assert {split for (s, _), split in before.items() if s.startswith("Hvað")} == {"dev", "test"}
    write("t.tsv", "is\ten", *reversed(lines))
    done = build(cli, path, *options)
    assert done["changes"] == {"moved": NONE, "appeared": NONE, "went": NONE}
    assert {(p["source"], p["target"]): p["split"] for p in rows(Path("c/pairs.jsonl"))} == before
