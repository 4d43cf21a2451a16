"""A small corpus, and the lexicon that is learned from it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from tellmt.cli import main
from tests.support.corpora import pairs


def run(*arguments: object) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    assert code == 0, err.getvalue()
    return out.getvalue()


def write_corpus(folder: Path, rows: list[tuple[str, str]], pair: str = "is-en", dev: int = 20) -> Path:
    file = folder / "rows.tsv"
    file.write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    off = ("language", "near-duplicate", "misaligned")
    run("corpus", "build", file, "--columns", pair.replace("-", ","), "--pair", pair, "--dev", dev, "--test", 0, "--off", *off, "-o", folder / "corpus")
    return folder / "corpus"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("lexicon"), pairs(240))


@pytest.fixture(scope="session")
def learned(corpus: Path) -> Path:
    """The directory of a lexicon; tests must not alter it."""
    out = corpus.parent / "lexicon"
    run("lexicon", "build", corpus, "-o", out)
    return out
