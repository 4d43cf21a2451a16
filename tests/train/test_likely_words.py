"""The base's likeliest words are in every step's softmax, are looked for once in a run, and change nothing of runs that were begun without them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import train.run
import train.stepper
from tell.adapter.card import WEIGHTS, open_adapter
from tell.files import sha256_file
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example
from tests.support.training import Run, make_mix, metrics, runner
from train.config import LoraOptions
from train.inputs import LIKELY, identity_before
from train.likely_words import likely_words
from train.plan import Tokenised

RECIPE = """seed = 3
[train]
batch_tokens = 256
micro_tokens = 256
save_steps = 2
threads = 1
negatives = 8
dtype = "float32"
compile = "off"
[lora]
rank = 8
"""


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


@pytest.fixture
def place(tiny: Any, tmp_path: Path) -> Path:
    make_mix(tmp_path / "mixed", tiny, 16)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def command(place: Path, out: str) -> list[Any]:
    return ["train", "--mixed", place / "mixed", "--recipe", place / "recipe.toml", "-o", place / out]


def without_likely_words(patch: pytest.MonkeyPatch) -> None:
    """As versions trained before there were likely words."""
    patch.setattr(train.run, "identity", identity_before)


def stopped_at_step(patch: pytest.MonkeyPatch, step: int) -> None:
    real = train.stepper.Stepper.step

    def hit(self: Any, number: int, *rest: Any) -> Any:
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, number, *rest)

    patch.setattr(train.stepper.Stepper, "step", hit)


def test_they_are_those_with_the_highest_mean_probability(tiny: Any) -> None:
    import torch

    from train.model import collate, load_model, response_states
    from train.output_layer import SampledVocabulary, output_layer, output_loss, output_losses

    tokens = BaseTokenizer(tiny)
    examples = [Example(f"x{i}", "task", f"Hæ {'og ' * i}\n\n", "English:\n", "Hi " * (i + 1)) for i in range(6)]
    data = [Tokenised(ids, start, True) for ids, start in tokens.example_ids(examples)]
    used = {t for e in data for t in e.ids[e.start :]}
    model = load_model(tiny, LoraOptions(rank=8), "float32", "cpu", seed=1)
    layer = output_layer(model.get_base_model())
    weight = layer.weight
    found = likely_words(model, data, used, 0, seed=4, positions=10_000, most=12)
    assert model.training and found == likely_words(model, data, used, 0, seed=4, positions=10_000, most=12)
    with torch.no_grad():
        batch = collate(data, 0)
        states = response_states(model, batch)
        mean = torch.softmax(layer.logits(states), -1).mean(0)
    wanted = sorted((w for w in range(len(weight)) if w not in used), key=lambda w: -float(mean[w]))[:12]
    assert set(found) == set(wanted)
    # Fewer positions are asked about fewer examples, by the seed.
    assert likely_words(model, data[:1], used, 0, 4, 1, 12) == likely_words(model, data, used, 0, next(s for s in range(99) if first(s, 6) == 0), 1, 12)
    exact = float(output_losses(states, layer, batch.labels).sum())

    def error(words: list[int]) -> float:
        vocabulary, losses = SampledVocabulary(layer, {*used, *words}, 4, seed=1), []
        for step in range(200):
            vocabulary.draw(step)
            losses.append(output_loss(states, vocabulary.layer, vocabulary.places(batch.labels), vocabulary.correction)[0].item())
        return sum(abs(x - exact) for x in losses)

    assert error(found) < error([])


def first(seed: int, n: int) -> int:
    import random

    return random.Random(f"likely words:{seed}").sample(range(n), n)[0]


def test_a_resumed_run_has_the_words_it_began_with(tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = tellmt(*command(place, "whole"), "--json")
    assert code == 0, err
    with monkeypatch.context() as patch:
        stopped_at_step(patch, 1)
        assert tellmt(*command(place, "broken"))[0] == 143
    manifest = next((place / "broken.run").glob("step-*/manifest.json"))
    assert len(json.loads(manifest.read_bytes())["progress"][LIKELY]) > 12

    def again(*_: Any) -> list[int]:
        raise AssertionError("the words are looked for again")

    monkeypatch.setattr(train.stepper, "likely_words", again)
    code, _, err = tellmt(*command(place, "broken"))
    assert code == 0 and "going on from the checkpoint after step 2" in err, err
    assert sha256_file(place / "broken" / WEIGHTS) == sha256_file(place / "whole" / WEIGHTS)
    assert tellmt(*command(place, "broken"), "--json")[1] == tellmt(*command(place, "broken"), "--json")[1]


def test_runs_of_before_go_on_as_they_began_and_adapters_of_before_are_reused(tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        without_likely_words(patch)
        assert tellmt(*command(place, "whole"))[0] == 0
        stopped_at_step(patch, 1)
        assert tellmt(*command(place, "broken"))[0] == 143 and tellmt(*command(place, "other"))[0] == 143
    id = open_adapter(place / "whole").id
    code, out, err = tellmt(*command(place, "whole"), "--json")
    assert code == 0 and json.loads(out)["reused"] and json.loads(out)["id"] == id, err
    code, _, err = tellmt(*command(place, "broken"))
    assert code == 0 and "going on from the checkpoint after step 2" in err, err
    assert sha256_file(place / "broken" / WEIGHTS) == sha256_file(place / "whole" / WEIGHTS)
    # What the user has changed is named, and nothing else.
    recipe = (place / "recipe.toml").read_text()
    (place / "recipe.toml").write_text(recipe.replace("negatives = 8", "negatives = 9"))
    code, _, err = tellmt(*command(place, "other"))
    assert code == 2 and "changed: train.negatives; valid: the same settings, or --restart to discard it" in err, err
    # Anew, they are in.
    code, _, err = tellmt(*command(place, "other"), "--restart")
    assert code == 0 and metrics(place / "other.run")[0]["loss"] != metrics(place / "broken.run")[0]["loss"], err


def test_where_the_softmax_is_over_all_words_nothing_is_looked_for(tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(train.stepper, "likely_words")
    for negatives in (0, 4096):
        (place / "recipe.toml").write_text(RECIPE.replace("negatives = 8", f"negatives = {negatives}"))
        assert tellmt(*command(place, f"all-{negatives}"))[0] == 0
