"""`tellmt mix` finds how many tokens translations take, which `tellmt train` puts on the card; and it holds no more of a corpus than needed."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from eval.scoring.references import check_references
from eval.scoring.testset import TestSet
from tell.corpus.directory import open_corpus
from tell.errors import BadInput, CorpusError
from tell.languages import parse_pair
from tell.mix.output_length import SAMPLE, PairSample
from tell.mix.task_examples import NamedCorpus, read_known
from tell.model.base import Base
from tell.model.engine import Decoding
from tell.model.tokenizer import BaseTokenizer
from tests.conftest import Ran
from tests.support.fake_eval_engine import corpus_dir, light_base
from tests.support.mixing import corpus, general, recipe, words
from train.config import read_recipe
from train.inputs import read_inputs, with_length_factor

CLI = Callable[..., Ran]


@pytest.fixture
def light(tmp_path: Path) -> Base:
    """A base that spells every byte."""
    return light_base(tmp_path / "cache")


def sample(pairs: list[tuple[str, str]]) -> PairSample:
    found = PairSample()
    for pair in pairs:
        found.add(*pair)
    return found


def test_the_factor_is_the_99th_percentile_and_a_fifth(light: Base) -> None:
    tokens = BaseTokenizer(light)
    pairs = [("abcdefghij", "x" * (10 + i)) for i in range(100)]
    assert sample(pairs).length_factor(tokens, "c") == pytest.approx(1.2 * 10.8, abs=0.1)
    # The default, and the keys of what has it, stay where that is enough; short sources do not count.
    assert sample([("abcdefghij", "x" * 20)] * 50).length_factor(tokens, "c") is None
    assert sample([("abcdefghij", "x" * 20)] * 50 + [("a", "x" * 9)] * 50).length_factor(tokens, "c") is None
    # One in a hundred may be anything.
    assert sample([("abcdefghij", "x" * 20)] * 199 + [("abcdefghij", "x" * 900)]).length_factor(tokens, "c") is None
    with pytest.raises(CorpusError, match="spells the target language too finely"):
        sample([("abcdefghij", "x" * 400)] * 50).length_factor(tokens, "c")
    many = sample([("a", "b")] * (5 * SAMPLE))
    assert SAMPLE <= len(many.pairs) < 2 * SAMPLE and many.seen == 5 * SAMPLE


def test_a_mix_into_a_finely_spelled_language_sets_the_limit_of_its_adapters(cli: CLI, tiny: Base) -> None:
    tibetan = str.maketrans("abcdefghij ", "ཀཁགངཅཆཇཉཏཐ་")
    rows = [f"d{i // 10}\t{words(i, 'I read the book')}\t{(words(i, 'abide') * 2).translate(tibetan)}" for i in range(80)]
    Path("t.tsv").write_text("\n".join(["document\ten\tbo", *rows]) + "\n", encoding="utf-8")
    assert cli("corpus", "build", "t.tsv", "--pair", "en-bo", "--dev", 10, "--test", 10, "-o", "c").code == 0
    ran = cli("mix", "--recipe", recipe("[mix]\nratio = 0", pair="en-bo"), "--corpus", "c", "-o", "m")
    assert ran.code == 0, ran.err
    factor = json.loads(Path("m/mix.json").read_text())["length_factor"]
    assert 3.0 < factor <= 20
    inputs = read_inputs(Path("m"))
    assert with_length_factor(read_recipe(Path("r.toml")), inputs).decoding.length_factor == factor
    Path("own.toml").write_text("[decoding]\nlength_factor = 3.0\n")
    assert with_length_factor(read_recipe(Path("own.toml")), inputs).decoding.length_factor == 3.0
    # Into a language that the base knows nothing changes.
    corpus(cli, "is")
    assert cli("mix", "--recipe", recipe("[mix]\nratio = 0", "is.toml"), "--corpus", "is", "-o", "n").code == 0
    assert "length_factor" not in json.loads(Path("n/mix.json").read_text())


def test_references_that_would_be_truncated_refuse_the_scoring(light: Base, capsys: pytest.CaptureFixture[str]) -> None:
    def test_set(long: int, n: int = 100) -> TestSet:
        references = ["x" * (200 if i < long else 20) for i in range(n)]
        return TestSet("set", parse_pair("en-bo"), ["abcdefghij"] * n, references, [f"f, line {i + 1}" for i in range(n)])

    check_references(light, Decoding(), test_set(1))
    check_references(light, Decoding(length_factor=20), test_set(50))
    with pytest.raises(BadInput, match="references would be truncated: an output may have 3 tokens for each of the source and 16 more"):
        check_references(light, Decoding(), test_set(2))
    check_references(light, Decoding(length_factor=0.5), test_set(2))
    assert "are longer than an output may be" in capsys.readouterr().err


def test_without_general_data_a_mix_holds_no_texts(tmp_path: Path) -> None:
    opened = [NamedCorpus(open_corpus(corpus_dir(tmp_path / "c", train=3000)), "c")]
    tracemalloc.start()
    held, before = {}, tracemalloc.get_traced_memory()[0]
    for general_data in (False, True):
        known = read_known(opened, None, (), general_data)
        held[general_data] = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(known.segments) > 5000 and held[False] < 3000 * 4 < 3000 * 100 < held[True], held


def test_general_data_may_still_not_repeat_a_segment(cli: CLI, tiny: Base) -> None:
    corpus(cli, "c")
    general("g.jsonl", rows=[{"prompt": "Say:", "completion": words(3, "This is the English sentence")}] * 3)
    ran = cli("mix", "--recipe", recipe("[mix]\nratio = 0.5"), "--corpus", "c", "--general", "g.jsonl", "-o", "m", "--json")
    assert ran.code == 0, ran.err
