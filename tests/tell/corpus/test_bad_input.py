"""`tellmt corpus build`: what each bad input is told, and that nothing is written then."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran
from tests.support.parallel_files import tsv

CLI = Callable[..., Ran]


@pytest.fixture
def cli(here: CLI) -> CLI:
    return here


BAD: dict[str, tuple[dict[str, bytes], list[str], list[str]]] = {
    "unequal line counts": ({"a": b"x\ny\n", "b": b"1\n2\n3\n"}, ["a", "b"], ["2 and 3 lines", "a and b"]),
    "not UTF-8": ({"a": b"fine\nhall\xf3\n", "b": b"1\n2\n"}, ["a", "b"], ["a, line 2, byte 9", "0xf3"]),
    "no such file": ({"a": b"x\n"}, ["a", "nowhere"], ["nowhere", "no such file"]),
    "a directory": ({"a": b"x\n", "d/x": b""}, ["a", "d"], ["d: this is a directory"]),
    "the same file twice": ({"a": b"x\n"}, ["a", "./a"], ["the same file is given twice"]),
    "the same table twice": ({"a.tsv": b"x\ty\n"}, ["a.tsv", "a.tsv"], ["the same file is given twice"]),
    "an empty file": ({"a": b"", "b": b""}, ["a", "b"], ["a: the file is empty"]),
    "an empty table": ({"a.tsv": b""}, ["a.tsv"], ["the file is empty"]),
    "an empty JSONL": ({"a.jsonl": b""}, ["a.jsonl"], ["the file is empty"]),
    "a header alone": ({"a.tsv": b"en\tis\n"}, ["a.tsv"], ["no rows after the header"]),
    "blank lines alone": ({"a": b"\n\n\n", "b": b"\n\n\n"}, ["a", "b"], ["no pairs left", "3 blank line"]),
    "no pairs left": ({"a": b"x\nx\n", "b": b"\n\n"}, ["a", "b"], ["no pairs left", "2 read: 2 empty target"]),
    "too few documents": ({"a": b"ein\n", "b": b"one\n"}, ["a", "b"], ["too small to leave any pair for training", "1 pairs in 1 documents", "--dev"]),
    "one text": ({"a": b"x\n"}, ["a"], ["found a;", "SOURCE.txt TARGET.txt"]),
    "three texts": ({"a": b"x\n", "b": b"x\n", "c": b"x\n"}, ["a", "b", "c"], ["a, b, c"]),
    "a text and a table": ({"a": b"x\n", "b.tsv": b"x\ty\n"}, ["a", "b.tsv"], ["a, b.tsv"]),
    "an unknown language": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--pair", "xq-en"], ["unknown language code", "'xq'"]),
    "one language": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--pair", "en-en"], ["same language"]),
    "document ids of another length": ({"a": b"x\n", "b": b"y\n", "i": b"1\n2\n"}, ["a", "b", "--docs", "i"], ["2 and 1 lines", "i and a"]),
    "a document without id": ({"a": b"x\nx\n", "b": b"y\ny\n", "i": b"1\n\n"}, ["a", "b", "--docs", "i"], ["i, line 2"]),
    "document ids for a table": ({"a.tsv": b"x\ty\n", "i": b"1\n"}, ["a.tsv", "--docs", "i"], ["--docs"]),
    "columns for texts": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--columns", "is,en"], ["--columns"]),
    "columns of other languages": ({"a.tsv": b"x\ty\n"}, ["a.tsv", "--columns", "de,en"], ["--columns", "de,en", "is,en"]),
    "a header of other languages": ({"a.tsv": b"document\tde\ten\n1\tx\ty\n"}, ["a.tsv"], ["a.tsv, line 1", "document, de, en"]),
    "not JSON": ({"a.jsonl": b'{"source": "x", "target": "y"}\nhello\n'}, ["a.jsonl"], ["a.jsonl, line 2", "not JSON"]),
    "JSON too deep": ({"a.jsonl": b"[" * 100_000 + b"\n"}, ["a.jsonl"], ["a.jsonl, line 1", "not JSON"]),
    "not an object": ({"a.jsonl": b"[1]\n"}, ["a.jsonl"], ["a.jsonl, line 1", "list"]),
    "an unknown anchor": ({"a.jsonl": b'{"query": "Translate: hello", "response": "hall"}\n'}, ["a.jsonl"], ["a.jsonl, line 1", "Translate: hello", "anchor"]),
    "damaged gzip": ({"a.tsv.gz": gzip.compress(b"x\ty\n" * 900)[:-12]}, ["a.tsv.gz"], ["a.tsv.gz", "gzip"]),
    "gzip with flipped bits": ({"a.tsv.gz": gzip.compress(b"x\ty\n")[:10] + b"\xff" * 40}, ["a.tsv.gz"], ["a.tsv.gz", "gzip"]),
    "not gzip": ({"a.tsv.gz": b"x\ty\n"}, ["a.tsv.gz"], ["a.tsv.gz", "gzip"]),
    "a test set that is not there": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--against", "nowhere"], ["nowhere", "no such file"]),
    "a test set not in UTF-8": ({"a": b"x\n", "b": b"y\n", "t": b"\xff\n"}, ["a", "b", "--against", "t"], ["t, line 1, byte 0"]),
    "a negative size": ({"a": b"x\n", "b": b"y\n"}, ["a", "b", "--dev", "-1"], ["--dev"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(cli: CLI, name: str) -> None:
    files, args, message = BAD[name]
    for path, data in files.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_bytes(data)
    pair = [] if "--pair" in args else ["--pair", "is-en"]
    ran = cli("corpus", "build", *args, *pair, "-o", "out", ok=False)
    assert ran.code == 2, ran.err
    assert not [part for part in message if part not in ran.err], ran.err
    assert ran.out == "" and not Path("out").exists()


def test_a_failed_build_leaves_the_old_corpus(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    before = {p.name: p.read_bytes() for p in Path("c").iterdir()}
    path.write_bytes(path.read_bytes() + b"\xff\n")
    assert cli("corpus", "build", path, "--pair", "is-en", "-o", "c", ok=False).code == 2
    assert {p.name: p.read_bytes() for p in Path("c").iterdir()} == before
    assert sorted(p.name for p in Path().iterdir()) == ["c", "one.tsv"]


def test_a_directory_with_other_files_is_never_replaced(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    Path("home").mkdir()
    Path("home/thesis.txt").write_text("years of work")
    ran = cli("corpus", "build", path, "--pair", "is-en", "-o", "home", ok=False)
    assert ran.code == 2 and "thesis.txt" in ran.err
    assert Path("home/thesis.txt").read_text() == "years of work"
    ran = cli("corpus", "build", path, "--pair", "is-en", "-o", path, ok=False)
    assert ran.code == 2 and "not a directory" in ran.err


def test_a_corpus_of_another_pair_is_not_replaced(cli: CLI) -> None:
    path = tsv("one.tsv", 100)
    cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    ran = cli("corpus", "build", path, "--pair", "en-is", "-o", "c", ok=False)
    assert ran.code == 2 and "another pair" in ran.err and "is-en" in ran.err


@pytest.mark.parametrize(("name", "text"), [("corpus.json", "{"), ("corpus.json", "[]"), ("corpus.json", "{}"), ("split.json", "{"), ("split.json", None)])
def test_a_damaged_corpus_is_told(cli: CLI, name: str, text: str | None) -> None:
    path = tsv("one.tsv", 100)
    cli("corpus", "build", path, "--pair", "is-en", "-o", "c")
    Path("c", name).unlink() if text is None else Path("c", name).write_text(text)
    ran = cli("corpus", "build", path, "--pair", "is-en", "--force", "-o", "c", ok=False)
    assert ran.code == 2 and name in ran.err
