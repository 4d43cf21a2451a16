"""Training on a mix with nearest pairs: what validation asks, and what the adapter takes along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import MEMORY, open_adapter, retriever_of
from tell.model.engine import Generation, Prompt
from tell.model.tokenizer import BaseTokenizer
from tell.retrieval.retriever import RetrievalOptions
from tests.support.training import Run, dev_corpus, runner
from train.config import read_recipe
from train.inputs import identity, read_inputs
from train.validation import _GreedyEngine

RECIPE = """base = "tiny"
[retrieval]
pairs = 2
min_score = 0.3
dropout = 0
[train]
batch_tokens = 8192
threads = 1
[lora]
rank = 8
[dev]
every = 1
segments = 2
[decoding]
length_factor = 0.1
length_extra = 1
"""


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


def test_an_adapter_takes_its_memory_along(tellmt: Run, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, mixed, recipe = dev_corpus(tellmt, tmp_path), tmp_path / "mixed", tmp_path / "r.toml"
    recipe.write_text(RECIPE)
    code, _, err = tellmt("mix", "--recipe", recipe, "--corpus", corpus, "-o", mixed)
    assert code == 0, err
    given: list[str] = []
    generate = _GreedyEngine.generate

    async def listened(self: _GreedyEngine, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        given.extend(BaseTokenizer(tiny).decode(list(p.ids)) for p in prompts)
        return await generate(self, prompts, adapter_id)

    monkeypatch.setattr(_GreedyEngine, "generate", listened)
    train = ("train", "--recipe", recipe, "--mixed", mixed, "--dev", corpus)
    code, _, err = tellmt(*train, "-o", tmp_path / "adapter")
    assert code == 0, err
    assert len(given) == 2 and all(prompt.count("【Þetta er setning um ") == 2 and "】 This is sentence number " in prompt for prompt in given)
    adapter = open_adapter(tmp_path / "adapter")
    assert adapter.card.retrieval == RetrievalOptions(pairs=2, min_score=0.3) and (adapter.path / MEMORY).read_bytes() == (mixed / MEMORY).read_bytes()
    assert adapter.card.files[MEMORY] == adapter.card.data["retrieval"]["memory_sha256"]
    near = retriever_of(adapter)
    assert near and near.lines("Þetta er setning um hest.").count("\n") == 2
    inputs = read_inputs(mixed)
    parts = identity(read_recipe(recipe), inputs)
    assert parts["retrieval"] == [{"pairs": 2, "min_score": 0.3}, adapter.card.files[MEMORY]] and "hints" not in parts
    # A memory that is not the mix's is noticed before anything is trained.
    for break_ in (lambda: (mixed / MEMORY).write_bytes(b"x"), (mixed / MEMORY).unlink):
        break_()
        code, _, err = tellmt(*train, "-o", tmp_path / "other")
        assert code == 2 and "memory.tsv: the memory is not the one that the mix was made with" in err and not (tmp_path / "other").exists()
