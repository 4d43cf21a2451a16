"""`tellmt select` on input it cannot use: each is told what is wrong, where, and what would be right, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.model.base import Base
from tests.conftest import Ran
from tests.tell.select.test_selection import corpus, example, general

CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")


def refused(cli: CLI, *options: object, code: int = 2, base: str = "tiny") -> str:
    """The one line that a refused selection prints."""
    done = cli("select", *options, "--base", base, "-o", "out", ok=False)
    assert done.code == code and done.err.count("\n") == 1, done.err
    assert not Path("out").exists()
    return done.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-k", 101), ["k is larger than the pool", "101 of 100 items (1 left out)", "at most 100"]),
        (("-k", 0), ["-k"]),
        (("-k", "many"), ["-k", "many"]),
        (("--percent", 0), ["not a percentage", "above 0, at most 100"]),
        (("--percent", "100.1"), ["not a percentage", "100.1"]),
        (("--percent", "nan"), ["not a percentage"]),
        (("--percent", "half"), ["not a number", "half"]),
        (("--percent", "0.99"), ["less than one item", "0.99% of 100", "at least 1"]),
        (("--tokens", 10**6), ["the budget is larger than the pool", "1000000 of "]),
        (("--tokens", 2, "--method", "random"), ["the budget is smaller than the first item"]),
        ((), ["how much is chosen", "none of them", "-k or --percent or --tokens"]),
        (("-k", 5, "--percent", 5), ["how much is chosen", "-k, --percent"]),
        (("-k", 5, "--clusters", 6), ["more clusters than items to choose", "6 clusters, 5 items"]),
        (("-k", 5, "--clusters", 2, "--method", "random"), ["a random choice has no clusters"]),
        (("-k", 5, "--seed", "x"), ["--seed", "x"]),
        (("-k", 5, "--method", "best"), ["--method", "best"]),
        (("-k", 5, "--text", "pool.jsonl"), ["what is chosen from", "--general, --text"]),
    ],
)
def test_refused(cli: CLI, options: tuple[Any, ...], says: list[str]) -> None:
    pool = general(extra=(json.dumps(example("words", 1)),))
    refusal = refused(cli, "--general", pool, *options)
    assert all(s in refusal for s in says), refusal


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "0 lines"), ("not json\n[1]\n{}\n", "3 lines"), ('{"prompt": "p", "completion": "  "}\n{"prompt": "\\ud800", "completion": "c"}\n', "2 lines")],
)
def test_a_file_without_a_usable_line(cli: CLI, text: str, says: str) -> None:
    pool = general()
    Path("bad.jsonl").write_text(text)
    refusal = refused(cli, "--general", pool, "bad.jsonl", "-k", 5)
    assert "bad.jsonl: no usable line" in refusal and says in refusal


def test_files(cli: CLI) -> None:
    pool = general()
    assert "missing.jsonl: no such file" in refused(cli, "--general", "missing.jsonl", "-k", 5)
    assert "the same file is given twice" in refused(cli, "--general", pool, "./pool.jsonl", "-k", 5)
    Path("lines.txt").write_bytes(b"fine\nnot \xff\n")
    assert "lines.txt, line 2, byte" in refused(cli, "--text", "lines.txt", "-k", 1)
    Path("lines.txt").write_text("\n - \n123\n")
    assert "lines.txt: no usable line; found 3 lines" in refused(cli, "--text", "lines.txt", "-k", 1)


def test_corpora(cli: CLI) -> None:
    corpus(cli, "one")
    corpus(cli, "other", start=200, pair="en-is")
    refusal = refused(cli, "--corpus", "one", "other", "-k", 5)
    assert "other: this corpus is of another pair; found en-is; valid: is-en" in refusal
    assert "not a corpus" in refused(cli, "--corpus", "one.tsv", "-k", 5)
    assert "the same corpus is given twice" in refused(cli, "--corpus", "one", "./one", "-k", 5)
    # Everything that is left to choose from is test elsewhere.
    pairs = Path("one/pairs.jsonl").read_text(encoding="utf-8")
    Path("one/pairs.jsonl").write_text(pairs + pairs, encoding="utf-8")
    assert "pairs.jsonl was altered since the corpus was built" in refused(cli, "--corpus", "one", "-k", 5)


def test_a_pool_without_training_pairs(cli: CLI) -> None:
    from tell.files import sha256_file

    corpus(cli, "one")
    rows = [{**json.loads(line), "split": "dev"} for line in Path("one/pairs.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    Path("one/pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    report = json.loads(Path("one/corpus.json").read_text())
    Path("one/corpus.json").write_text(json.dumps({**report, "pairs_sha256": sha256_file(Path("one/pairs.jsonl"))}))
    assert "one: the pool is empty; found no training pairs" in refused(cli, "--corpus", "one", "-k", 5)


def test_what_lies_at_out_is_not_lost(cli: CLI) -> None:
    pool = general()
    corpus(cli, "one")
    before = {p: p.read_bytes() for p in Path("one").iterdir()}
    for options in (("--corpus", "one"), ("--general", pool)):
        done = cli("select", *options, "--base", "tiny", "-k", 5, "--method", "random", "-o", "one", ok=False)
        assert done.code == 2 and "this directory holds a corpus, which would be replaced" in done.err
    assert {p: p.read_bytes() for p in Path("one").iterdir()} == before
    cli("select", "--corpus", "one", "--base", "tiny", "-k", 50, "--method", "random", "-o", "chosen")
    for where in ("chosen", "chosen/../chosen"):
        done = cli("select", "--corpus", "chosen", "--base", "tiny", "-k", 5, "--method", "random", "-o", where, ok=False)
        assert done.code == 2 and "the pool lies in this directory" in done.err
    done = cli("select", "--general", pool, "--base", "tiny", "-k", 5, "--method", "random", "-o", ".", ok=False)
    assert done.code == 2 and "holds other files" in done.err
    Path("chosen/select.json").write_text("[")
    done = cli("select", "--corpus", "one", "--base", "tiny", "-k", 50, "--method", "random", "-o", "chosen", ok=False)
    assert done.code == 2 and "select.json cannot be read" in done.err


def broken(tiny: Base, name: str, value: float) -> None:
    """A base whose last norm has this weight."""
    from safetensors.torch import load_file, save_file

    path = tiny.path.parent / name
    if not path.exists():
        shutil.copytree(tiny.path, path)
        weights = load_file(path / "model.safetensors")
        weights["model.norm.weight"].fill_(value)
        save_file(weights, path / "model.safetensors", {"format": "pt"})
        manifest = json.loads((path / "tellmt-base.json").read_text())
        (path / "tellmt-base.json").write_text(json.dumps({**manifest, "id": name, "revision": name, "path": str(path)}))


def test_a_base_that_gives_no_numbers(cli: CLI, tiny: Base) -> None:
    pool = general()
    for name, value in (("not-a-number", float("nan")), ("infinite", float("inf"))):
        broken(tiny, name, value)
        refusal = refused(cli, "--general", pool, "-k", 5, base=name, code=1)
        assert "the base gives no finite embedding" in refusal and name in refusal
        assert not list((tiny.path.parent.parent / "embeddings").glob(f"{name}*/*.keys"))


def test_embeddings_in_the_cache_that_are_no_numbers(cli: CLI, tiny: Base) -> None:
    import numpy as np

    pool = general("cached.jsonl", {"runes": 30})
    broken(tiny, "copy", 1.0)
    cli("select", "--general", pool, "--base", "copy", "-k", 5, "-o", "first")
    (shard,) = (tiny.path.parent.parent / "embeddings").glob("copy*/*.npy")
    rows = np.load(shard)
    rows[3, 3] = np.nan
    np.save(shard, rows)
    refusal = refused(cli, "--general", pool, "-k", 5, base="copy", code=1)
    assert "the embeddings in the cache cannot be used" in refusal and str(shard.parent) in refusal


@pytest.mark.parametrize("module", ["numpy", "torch", "transformers", "sklearn", "threadpoolctl"])
def test_without_the_extra(cli: CLI, tmp_path: Path, module: str) -> None:
    pool = general()
    # On the path before the real one, as a package that is not installed looks to an import.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {module!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    other = {"PYTHONPATH": str(tmp_path)}
    # A pool of its own: where all embeddings are in the cache, torch is not needed.
    Path("new.jsonl").write_text("".join(json.dumps(example("words", 5000 + len(module) * 10 + i)) + "\n" for i in range(9)))
    done = cli("select", "--general", "new.jsonl", "--base", "tiny", "-k", 5, "-o", "out", ok=False, **other)
    assert done.code == 1 and 'run: pip install "tellmt[train]"' in done.err and done.err.count("\n") == 1
    # A random choice needs no extra.
    cli("select", "--general", pool, "--base", "tiny", "--tokens", 300, "--method", "random", "-o", "out", **other)
    cli("select", "--general", pool, "--base", "no-such-base", "-k", 3, "--method", "random", "-o", "three", **other)


def test_a_base_that_is_not_there(cli: CLI) -> None:
    assert "no such base" in refused(cli, "--general", general(), "-k", 5, base="tny", code=1)
