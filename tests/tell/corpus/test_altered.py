"""Nothing trains on, scores on or chooses from a corpus whose pairs were altered after it was built; every command says so alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.corpus.directory import open_corpus
from tell.errors import CorpusError
from tests.conftest import Tellmt
from tests.support.fake_eval_engine import Bench, make_bench
from tests.train.test_train import make_mix

# The corpus and the place of the test's own files, to the words of a command that reads the corpus.
Command = Callable[[Bench, Path, Path], list[Any]]
MIX: Command = lambda bench, corpus, here: ["mix", "--recipe", here / "mix.toml", "--corpus", corpus, "-o", here / "out"]  # noqa: E731
COMMANDS: dict[str, Command] = {
    "mix": MIX,
    "train": lambda bench, corpus, here: ["train", "--mixed", here / "mixed", "--recipe", here / "train.toml", "--dev", corpus, "-o", here / "out"],
    "losses": lambda bench, corpus, here: ["losses", here / "adapter", "--corpus", corpus, "-o", here / "out"],
    "select": lambda bench, corpus, here: ["select", "--corpus", corpus, "-k", 5, "--method", "random", "-o", here / "out"],
    "decoding": lambda bench, corpus, here: ["decoding", here / "adapter", "--corpus", corpus],
    "score": lambda bench, corpus, here: ["score", here / "adapter", "--corpus", corpus, "-o", here / "out"],
    "publish": lambda bench, corpus, here: ["publish", here / "adapter", "--corpus", corpus],
    "reverse": lambda bench, corpus, here: ["corpus", "reverse", corpus, "-o", here / "out"],
    "translate": lambda bench, corpus, here: ["translate", here / "dev.txt", "--from", "is", "--to", "en", "--corpus", corpus, "-o", here / "out"],
    "monitor freeze": lambda bench, corpus, here: ["monitor", "freeze", "is-en", "--corpus", corpus],
    "testset check": lambda bench, corpus, here: ["testset", "check", corpus],
}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Bench:
    """Also what the commands read beside the corpus: an adapter, a mix, recipes, a text and a registered test set."""
    bench = make_bench(tmp_path, monkeypatch)
    bench.adapter("adapter", 1)
    make_mix(tmp_path / "mixed", bench.base)
    (tmp_path / "mix.toml").write_text('pair = "is-en"\nbase = "light"\n[mix]\nratio = 0\n')
    (tmp_path / "train.toml").write_text("[dev]\nevery = 1\n")
    (tmp_path / "dev.txt").write_text("Eitt.\nTvö.\n", encoding="utf-8")
    for side in ("is", "en"):
        (tmp_path / f"dev.{side}").write_text("".join(f"{side} " * 8 + f"{n}\n" for n in range(120)))
    return bench


def build(tellmt: Tellmt, here: Path) -> tuple[list[Any], Path]:
    """A corpus of 120 pairs; the command that builds it, and its directory."""
    letters = "abcdefghij"
    for side, words in (("is", "Þetta er setning númer"), ("en", "This is sentence number")):
        (here / f"c.{side}").write_text("".join(f"{words} {''.join(letters[int(d)] for d in f'{n:03}')}\n" for n in range(120)), encoding="utf-8")
    command = ["corpus", "build", here / "c.is", here / "c.en", "--pair", "is-en", "-o", here / "c"]
    code, _, err = tellmt(*command)
    assert code == 0, err
    return command, here / "c"


def alter_a_dev_target(corpus: Path) -> None:
    rows = [json.loads(line) for line in (corpus / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    next(r for r in rows if r["split"] == "dev")["target"] = "What the model happens to say."
    (corpus / "pairs.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def test_every_command_refuses_an_altered_corpus_alike(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    words, corpus = build(tellmt, tmp_path)
    assert tellmt("testset", "add", "held", "--source", tmp_path / "dev.is", "--target", tmp_path / "dev.en", "--pair", "is-en")[0] == 0
    alter_a_dev_target(corpus)
    mend = f"tellmt corpus build {tmp_path / 'c.is'} {tmp_path / 'c.en'} --pair is-en -o {corpus} with the options it was made with"
    messages: dict[str, list[str]] = {}
    for name, command in COMMANDS.items():
        code, _, err = tellmt(*command(bench, corpus, tmp_path))
        assert code == 2, (name, err)
        messages.setdefault(err[err.index("tellmt: ") :], []).append(name)
    assert len(messages) == 1, messages
    (message,) = messages
    assert message.startswith(f"tellmt: {corpus}: pairs.jsonl was altered since the corpus was built; found SHA-256 ") and mend in message, message
    assert bench.calls == [] and not (tmp_path / "out").exists()

    code, _, err = tellmt(*words)
    assert code == 0 and "reused" not in err
    code, _, err = tellmt(*MIX(bench, corpus, tmp_path))
    assert code == 0, err


def test_reversed_and_selected_corpora_are_mended_by_what_made_them(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    _, corpus = build(tellmt, tmp_path)
    commands = {
        tmp_path / "r": (["corpus", "reverse", corpus, "-o", tmp_path / "r"], f"tellmt corpus reverse CORPUS -o {tmp_path / 'r'} with"),
        tmp_path / "s": (
            ["select", "--corpus", corpus, "-k", 5, "--method", "random", "-o", tmp_path / "s"],
            f"tellmt select --corpus {corpus} -o {tmp_path / 's'}",
        ),
    }
    for path, (command, mend) in commands.items():
        assert tellmt(*command)[0] == 0
        alter_a_dev_target(path)
        with pytest.raises(CorpusError, match="altered since the corpus was built") as refused:
            open_corpus(path)
        assert mend in str(refused.value)
        code, _, err = tellmt(*command)
        assert code == 0 and "reused" not in err and len(list(open_corpus(path).pairs())) > 5


def test_a_corpus_without_the_hash_of_its_pairs_is_refused_with_the_command_that_writes_it(tellmt: Tellmt, tmp_path: Path) -> None:
    command, corpus = build(tellmt, tmp_path)
    report = json.loads((corpus / "corpus.json").read_text(encoding="utf-8"))
    del report["pairs_sha256"]
    (corpus / "corpus.json").write_text(json.dumps(report), encoding="utf-8")
    code, _, err = tellmt("corpus", "reverse", corpus, "-o", tmp_path / "r")
    assert code == 2 and "no pairs_sha256" in err and f"-o {corpus}" in err
    assert tellmt(*command)[0] == 0 and tellmt("corpus", "reverse", corpus, "-o", tmp_path / "r")[0] == 0


def test_an_input_is_hashed_once_in_a_command(bench: Bench, tellmt: Tellmt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tell.files

    hashed: list[Path] = []
    true_hash = tell.files.sha256_file

    def counting_hash(path: Path) -> str:
        hashed.append(Path(path))
        return true_hash(path)

    for module in ("tell.corpus.build", "tell.corpus.directory", "tell.mix.build", "tell.select.selection"):
        monkeypatch.setattr(f"{module}.sha256_file", counting_hash)
    words, corpus = build(tellmt, tmp_path)
    (tmp_path / "held.txt").write_text("Eitthvað allt annað\n", encoding="utf-8")
    words += ["--against", tmp_path / "held.txt"]
    for again in ([], [], ["--force"]):
        hashed.clear()
        assert tellmt(*words, *again)[0] == 0
        assert [hashed.count(tmp_path / name) for name in ("c.is", "c.en", "held.txt")] == [1, 1, 1], hashed
    (tmp_path / "g.jsonl").write_text('{"prompt": "What is it?", "completion": "A thing."}\n' * 3)
    mix = [*MIX(bench, corpus, tmp_path), "--general", tmp_path / "g.jsonl", "--general-tokens", 5]
    select = COMMANDS["select"](bench, corpus, tmp_path)
    for command, inputs in ((mix, (corpus / "pairs.jsonl", tmp_path / "g.jsonl")), ([*select[:-1], tmp_path / "chosen"], (corpus / "pairs.jsonl",))):
        for again in ([], [], ["--force"]):
            hashed.clear()
            code, _, err = tellmt(*command, *again)
            assert code == 0, err
            assert [hashed.count(path) for path in inputs] == [1] * len(inputs), hashed
