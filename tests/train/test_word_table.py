"""The embedding and output layer in the base's file: what is computed with them is what is computed with them in memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.bases import CLASSES, make_model


def _base(name: str, path: Path, dtype: str) -> Any:
    """A checkpoint of this class with its weights in `dtype`, as far as loading needs one."""
    import torch

    make_model(name).to(getattr(torch, dtype)).save_pretrained(path)
    return SimpleNamespace(path=path)


def _load(base: Any, dtype: str) -> tuple[Any, Any]:
    """(in tables, in memory)"""
    import torch
    import transformers

    from tell.model.embeddings import from_pretrained
    from train.word_table import load_beside_tables

    loader = transformers.AutoModelForCausalLM
    return load_beside_tables(loader, base, "eager", getattr(torch, dtype)), from_pretrained(loader, base, "eager", dtype=getattr(torch, dtype)).eval()


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_computes_the_same_with_its_words_in_the_file(name: str, tmp_path: Path) -> None:
    import torch

    from train.output_layer import output_layer

    mapped, whole = _load(_base(name, tmp_path, "bfloat16"), "float32")
    assert mapped.get_output_embeddings().word_table is not None
    assert mapped.dtype == whole.dtype == torch.float32
    ids = torch.tensor([[2, 7, 1023, 7, 400, 0], [2, 5, 6, 900, 3, 1]])
    with torch.no_grad():
        torch.testing.assert_close(mapped(input_ids=ids, use_cache=False).logits, whole(input_ids=ids, use_cache=False).logits, rtol=1e-5, atol=1e-5)
        hidden = whole.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.equal(mapped.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state, hidden)
        torch.testing.assert_close(output_layer(mapped).logits(hidden[0]), output_layer(whole).logits(hidden[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("stored", "dtype"), [("bfloat16", "bfloat16"), ("float32", "float32"), ("float32", "bfloat16"), ("float16", "float32")])
def test_rows_losses_and_gradients_are_those_of_the_weight_in_memory(stored: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import train.word_table
    from train.output_layer import SampledVocabulary, output_layer, output_loss

    # Blocks of seven rows, of which the last is not full.
    monkeypatch.setattr(train.word_table, "BLOCK", 7 * 32)
    mapped, whole = map(output_layer, _load(_base("Gemma 3", tmp_path, stored), dtype))
    words = torch.tensor([0, 1023, 5, 5, 512])
    assert torch.equal(mapped.rows(words).weight, whole.weight[words])
    hidden, labels = torch.randn(40, 32, dtype=getattr(torch, dtype)), torch.randint(0, 1024, (40,))
    for negatives in (0, 100):
        losses = []
        for layer in (mapped, whole):
            sample = SampledVocabulary(layer, labels.tolist(), negatives, seed=1)
            sample.draw(3)
            losses.append(output_loss(hidden, sample.layer, sample.places(labels), sample.correction))
        near = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 2e-2, "atol": 2e-2}
        torch.testing.assert_close(losses[0], losses[1], **near)


def test_the_words_take_no_memory(tmp_path: Path) -> None:
    mapped, _ = _load(_base("Gemma 3", tmp_path, "bfloat16"), "float32")
    weight = mapped.get_input_embeddings().weight
    assert weight.untyped_storage().nbytes() == 4
    # Whatever reads it in spite of that gets no number, and the loss with it.
    assert weight.isnan().all() and mapped.get_output_embeddings().weight is weight


@pytest.mark.parametrize(("n_inner", "possible"), [(65, True), (64, False)])
def test_a_base_stays_in_memory_where_a_matrix_with_as_many_rows_is_something_else(n_inner: int, possible: bool, tmp_path: Path) -> None:
    """It has as many positions as words, which is an embedding too; a layer as wide as that is none."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=1, n_head=2, n_inner=n_inner)).save_pretrained(tmp_path)
    mapped, whole = _load(SimpleNamespace(path=tmp_path), "float32")
    assert (mapped is not None) == possible
    ids = torch.tensor([[2, 7, 63]])
    with torch.no_grad():
        torch.testing.assert_close((mapped or whole)(input_ids=ids).logits, whole(input_ids=ids).logits)
