"""The loss and gradient of training are the base's own, for every class; a class for which they are not is refused before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tell.errors import BaseModelError, RecipeError
from tests.support.bases import CLASSES, make_model
from tests.support.training import Run, make_mix, runner
from train.plan import Tokenised

# Layers that hand on what they read carry it past the end of a packed example, and these attend by masks of their own.
NOT_PACKED = {"LFM 2", "Granite 4", "Qwen 3.5", "Qwen 3.5 with vision", "Falcon Mamba", "BLOOM", "Falcon"}


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


class _Bare:
    """A model as training wraps it, without LoRA."""

    def __init__(self, causal: Any):
        self._causal = causal

    def get_base_model(self) -> Any:
        return self._causal

    def eval(self) -> None:
        self._causal.eval()

    def train(self) -> None:
        pass


def examples() -> list[Tokenised]:
    import random

    draw = random.Random(3)
    return [Tokenised([2, *(draw.randrange(5, 900) for _ in range(n))], n // 2, True) for n in (23, 20, 29, 90)]


@pytest.mark.parametrize("name", CLASSES)
def test_loss_and_gradient_are_those_of_the_models_own_logits(name: str) -> None:
    import torch

    from train.model import backward, collate
    from train.output_check import check_loss
    from train.output_layer import SampledVocabulary, output_layer

    causal = make_model(name)
    model, data = _Bare(causal), examples()
    # The output layer is frozen in training, which leaves its weight out of the gradient even where the embeddings share it.
    watched = next(p for _, p in reversed(list(causal.get_decoder().named_parameters())) if p.dim() == 1)
    causal.requires_grad_(False)
    watched.requires_grad_(True)
    assert check_loss(model, data, 0, name) < 1e-4
    batch = collate(data, 0)
    words = SampledVocabulary(output_layer(causal), range(1024), 0, seed=1)
    ours = float(backward(model, batch, 1.0, words))
    gradient = watched.grad.clone()
    watched.grad = None
    logits = causal(input_ids=batch.ids, use_cache=False).logits[batch.rows, batch.columns].float()
    theirs = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
    theirs.backward()
    assert ours == pytest.approx(theirs.item(), rel=1e-4)
    torch.testing.assert_close(gradient, watched.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CLASSES)
def test_packing_is_refused_where_it_changes_the_loss(name: str) -> None:
    from train.output_check import check_packing

    model = _Bare(make_model(name))
    if name not in NOT_PACKED:
        assert check_packing(model, examples(), 0, name) < 1e-3
        return
    with pytest.raises(RecipeError, match="cannot be packed"):
        check_packing(model, examples(), 0, name)


def test_a_class_that_does_more_to_its_logits_is_refused() -> None:
    from train.output_check import check_loss

    causal = make_model("Granite")
    # As in a class that scales its logits under a name of its own.
    causal.config.logits_scaling = 1.0
    forward = causal.forward

    def scaled(**options: Any) -> Any:
        output = forward(**options)
        output.logits = output.logits / 8.0
        return output

    causal.forward = scaled
    with pytest.raises(BaseModelError, match="the loss that training computes is not this base's own"):
        check_loss(_Bare(causal), examples(), 0, "granite")


def test_the_run_stops_before_anything_is_trained(tellmt: Run, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    import train.output_check
    from train.output_layer import output_layer

    make_mix(tmp_path / "mixed", tiny, 8)
    monkeypatch.setattr(train.output_check, "output_layer", lambda causal: dataclasses.replace(output_layer(causal), scale=1.1))
    code, _, err = tellmt("train", "--mixed", tmp_path / "mixed", "-o", tmp_path / "adapter")
    assert code == 1 and "the loss that training computes is not this base's own" in err and "docs/bases.md" in err, err
    assert not (tmp_path / "adapter").exists() and not list(tmp_path.glob("adapter.run/step-*"))
