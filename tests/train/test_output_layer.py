"""Losses and gradients: of the output layer over all words or a sample, and of batches that are padded or packed."""

from __future__ import annotations

from typing import Any

import pytest

from tell.model.tokenizer import BaseTokenizer
from tell.records import Example
from train.plan import Tokenised


@pytest.mark.parametrize(("softcap", "scale", "biased"), [(None, 1.0, False), (5.0, 1.0, False), (None, 0.125, False), (None, 1.0, True), (5.0, 0.5, True)])
def test_the_output_layers_loss_and_gradient_are_those_of_autograd(softcap: float | None, scale: float, biased: bool) -> None:
    import torch
    from torch.nn import functional as F

    from train.output_layer import OutputLayer, output_loss, output_losses

    torch.manual_seed(0)
    hidden = torch.randn(600, 32, dtype=torch.float64, requires_grad=True)
    weight, labels = torch.randn(700, 32, dtype=torch.float64), torch.randint(0, 700, (600,))
    bias = torch.randn(700, dtype=torch.float64) if biased else None
    logits = F.linear(hidden, weight, bias) * scale
    expected = F.cross_entropy(torch.tanh(logits / softcap) * softcap if softcap else logits, labels, reduction="sum")
    expected.backward()
    layer = OutputLayer(weight, bias, scale, softcap)
    loss, gradient = output_loss(hidden.detach(), layer, labels)
    assert output_losses(hidden.detach(), layer, labels).sum().item() == pytest.approx(expected.item(), rel=1e-12)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(gradient, hidden.grad)


def test_sampled_words_estimate_the_whole_output_layer() -> None:
    """The normaliser is unbiased, the data's words are exact, and with enough samples nothing is left to chance."""
    import torch

    from train.output_layer import OutputLayer, SampledVocabulary, output_loss

    torch.manual_seed(0)
    hidden = torch.randn(50, 16, dtype=torch.float64)
    layer = OutputLayer(torch.randn(900, 16, dtype=torch.float64) / 4, torch.randn(900, dtype=torch.float64) / 2, 0.5, 3.0)
    used = list(range(0, 900, 9))
    labels = torch.tensor(used)[torch.randint(0, 100, (50,))]
    full, gradient = output_loss(hidden, layer, labels)
    assert SampledVocabulary(layer, used, 800, seed=1).all and SampledVocabulary(layer, used, 0, seed=1).all
    words = SampledVocabulary(layer, used, 200, seed=1)
    normalisers, gradients, losses = [], [], []
    for step in range(1500):
        words.draw(step)
        assert len(words.layer.weight) == 300
        normalisers.append(torch.logsumexp(words.layer.logits(hidden) + words.correction, -1).exp())
        loss, g = output_loss(hidden, words.layer, words.places(labels), words.correction)
        losses.append(loss.item())
        gradients.append(g)
    exact = torch.logsumexp(layer.logits(hidden), -1).exp()
    error = torch.stack(normalisers).std(0) / 1500**0.5
    assert ((torch.stack(normalisers).mean(0) - exact).abs() < 5 * error).all()
    # The logarithm of an unbiased estimate is not unbiased, but close.
    assert sum(losses) / 1500 == pytest.approx(full.item(), rel=0.02)
    assert (torch.stack(gradients).mean(0) - gradient).norm() < 0.05 * gradient.norm()
    words.draw(7)
    again = words.layer.weight
    words.draw(8)
    assert not torch.equal(again, words.layer.weight)
    words.draw(7)
    assert torch.equal(again, words.layer.weight)


@pytest.mark.parametrize(("packed", "again"), [(False, False), (True, False), (True, True)])
def test_the_batched_loss_is_the_models_own(tiny: Any, packed: bool, again: bool) -> None:
    """Padding or packing, the choice of response positions and activations made again change nothing: transformers' own loss, one example at a time."""
    import torch

    from train.config import LoraOptions
    from train.model import backward, checkpoint_activations, collate, load_model, lora_parameters
    from train.output_layer import SampledVocabulary, output_layer

    tokenizer = BaseTokenizer(tiny)
    examples = [Example(f"x{i}", "task", f"Hæ {'og ' * i}\n\n", "English:\n", "Hi " * (i + 1)) for i in range(5)]
    data = [Tokenised(ids, start, True) for ids, start in tokenizer.example_ids(examples)]
    model = load_model(tiny, LoraOptions(rank=8), "float32", "cpu", seed=1)
    for p in lora_parameters(model).values():
        p.data.normal_(std=0.05)
    words = SampledVocabulary(output_layer(model.get_base_model()), {t for e in data for t in e.ids[e.start :]}, 0, seed=1)
    if again:
        checkpoint_activations(model)
    together = backward(model, collate(data, 0, packed), 1.0, words).item()
    gradients = {n: p.grad.clone() for n, p in lora_parameters(model).items()}
    model.zero_grad()
    apart = 0.0
    for e in data:
        labels = torch.tensor([[-100] * e.start + e.ids[e.start :]])
        output = model(input_ids=torch.tensor([e.ids]), labels=labels)
        (output.loss * (len(e.ids) - e.start)).backward()
        apart += output.loss.item() * (len(e.ids) - e.start)
    assert together == pytest.approx(apart, rel=1e-4)
    for n, p in lora_parameters(model).items():
        torch.testing.assert_close(gradients[n], p.grad, rtol=2e-3, atol=2e-4)


def test_packed_logits_are_those_of_each_example_alone(tiny: Any) -> None:
    """Over and under the base's sliding window; and in a row that is one example."""
    import torch

    from train.config import LoraOptions
    from train.model import collate, load_model, response_states
    from train.output_layer import output_layer

    torch.manual_seed(2)
    model = load_model(tiny, LoraOptions(rank=8), "float32", "cpu", seed=1).eval()
    layer = output_layer(model.get_base_model())
    data = [Tokenised(torch.randint(5, 60, (n,)).tolist(), 1, True) for n in (3, 600, 17, 33)]
    with torch.no_grad():
        packed = layer.logits(response_states(model, collate(data, 0, packed=True)))
        alone = torch.cat([model(input_ids=torch.tensor([e.ids])).logits[0, :-1] for e in data])
        torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)
        alone_in_row = layer.logits(response_states(model, collate(data[:1], 0, packed=True)))
        torch.testing.assert_close(alone_in_row, alone[: len(alone_in_row)], rtol=1e-4, atol=1e-4)
