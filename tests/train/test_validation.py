"""Validation on the dev split while training: its scores, which weights are kept, when training stops, and what a kill costs."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import train.validation
from tell.adapter.card import CARD, WEIGHTS, open_adapter
from tell.corpus.dev_halves import choosing_part
from tell.files import sha256_file
from tell.records import read_pairs
from tests.support.fake_eval_engine import corpus_dir
from tests.support.training import Run, dev_corpus, make_mix, metrics, runner
from train.config import read_recipe
from train.inputs import identity_before
from train.validation import DevSplit, open_dev_split

# Four steps an epoch; the learning rate does not know how long the run is to be, so a longer run begins with the steps of a shorter one.
RECIPE = """seed = 3
[train]
epochs = EPOCHS
batch_tokens = 512
micro_tokens = 256
save_steps = 3
threads = 1
schedule = "constant"
warmup = 0.0
[lora]
rank = 8
dropout = 0.1
"""
VALIDATED = RECIPE.replace("EPOCHS", "3") + "[dev]\nevery = 2\npatience = 2\nsegments = 6\n[decoding]\nlength_factor = 0.4\nlength_extra = 4\n"


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


@pytest.fixture
def place(tellmt: Run, tiny: Any, tmp_path: Path) -> Path:
    """A mix of four steps, a dev corpus, and the recipe `validated.toml`."""
    make_mix(tmp_path / "mixed", tiny, 28)
    dev_corpus(tellmt, tmp_path)
    (tmp_path / "validated.toml").write_text(VALIDATED)
    return tmp_path


def command(place: Path, out: str = "adapter", recipe: str = "validated.toml", dev: str | None = "corpus-is-en-9") -> list[Any]:
    return ["train", "--mixed", place / "mixed", "--recipe", place / recipe, "-o", place / out, *(["--dev", place / dev] if dev else [])]


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """The metric says these scores one after the other: when training stops is then known beforehand."""
    from sacrebleu.metrics import CHRF

    scripted_scores, corpus_score = iter(scores), CHRF.corpus_score

    def score(self: Any, hypotheses: Any, references: Any) -> Any:
        score_object = corpus_score(self, hypotheses, references)
        score_object.score = next(scripted_scores)
        return score_object

    monkeypatch.setattr(CHRF, "corpus_score", score)


def dev_scores(run_dir: Path) -> dict[int, float]:
    return {r["step"]: r["dev_chrf"] for r in metrics(run_dir) if "dev_chrf" in r}


def test_training_stops_when_patience_is_used_up_and_the_best_is_kept(tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [10, 30, 20, 30, 40, 50])
    code, out, err = tellmt(*command(place), "--json")
    assert code == 0, err
    assert dev_scores(place / "adapter.run") == {2: 10, 4: 30, 6: 20, 8: 30}
    assert "stopped early, after step 8 of 12" in err
    training = json.loads(out)["card"]["training"]
    record = training["dev"]
    assert training["steps"] == 8 and record["history"] == [[2, 10], [4, 30], [6, 20], [8, 30]]
    assert (record["best_step"], record["best_chrf"], record["kept_step"], record["segments"], record["too_long"]) == (4, 30, 4, 6, 0)
    assert record["signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert open_adapter(place / "adapter").card.recipe["dev"] == {"every": 2, "patience": 2, "segments": 6}
    assert not (place / "adapter.run" / "best").exists()
    # The weights are those after step 4, to the bit: of a run that ends there and does not validate.
    (place / "plain.toml").write_text(RECIPE.replace("EPOCHS", "1"))
    code, _, err = tellmt(*command(place, "plain", "plain.toml", None))
    assert code == 0 and len(metrics(place / "plain.run")) == 4, err
    assert sha256_file(place / "adapter" / WEIGHTS) == sha256_file(place / "plain" / WEIGHTS)


def test_without_patience_training_goes_to_its_end_and_validates_there_too(tellmt: Run, place: Path) -> None:
    (place / "validated.toml").write_text(VALIDATED.replace("every = 2", "every = 5").replace("patience = 2\n", ""))
    code, out, err = tellmt(*command(place))
    assert code == 0, err
    record = open_adapter(place / "adapter").card.training["dev"]
    assert [step for step, _ in record["history"]] == [5, 10, 12] == list(dev_scores(place / "adapter.run"))
    # Real figures: it learns the one sentence that there is.
    assert record["best_chrf"] == max(c for _, c in record["history"]) > record["history"][0][1] > 0
    assert f"{record['best_chrf']:.2f} after step {record['best_step']}" in out.replace("\n", " ")
    again, out, _ = tellmt(*command(place), "--json")
    assert again == 0 and json.loads(out)["reused"]


def test_a_killed_run_with_validation_ends_with_the_same_weights(tellmt: Run, place: Path) -> None:
    assert tellmt(*command(place, "whole"))[0] == 0
    process = subprocess.Popen([sys.executable, "-m", "tellmt", *map(str, command(place, "broken"))], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list((place / "broken.run").glob("step-*/manifest.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (place / "broken" / CARD).exists()
    code, _, err = tellmt(*command(place, "broken"))
    assert code == 0 and "going on from the checkpoint" in err
    assert sha256_file(place / "broken" / WEIGHTS) == sha256_file(place / "whole" / WEIGHTS)
    assert dev_scores(place / "broken.run") == dev_scores(place / "whole.run")
    cards = [open_adapter(place / n).card.training["dev"] for n in ("whole", "broken")]
    assert cards[0] == cards[1]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_during_validation_saves_and_the_validation_is_repeated(
    tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch, sent: int, code: int
) -> None:
    assert tellmt(*command(place, "whole"))[0] == 0
    real = train.validation._GreedyEngine._decode

    def hit(self: Any, prompts: Any) -> Any:
        if os.environ.pop("TELLMT_TEST_HIT", None):
            os.kill(os.getpid(), sent)
        return real(self, prompts)

    monkeypatch.setattr(train.validation._GreedyEngine, "_decode", hit)
    monkeypatch.setenv("TELLMT_TEST_HIT", "1")
    ended, _, err = tellmt(*command(place, "broken"))
    assert ended == code and "stopped after step 2;" in err and dev_scores(place / "broken.run") == {}
    assert tellmt(*command(place, "broken"))[0] == 0
    assert sha256_file(place / "broken" / WEIGHTS) == sha256_file(place / "whole" / WEIGHTS)
    assert dev_scores(place / "broken.run") == dev_scores(place / "whole.run")
    assert [r["step"] for r in metrics(place / "broken.run")] == [r["step"] for r in metrics(place / "whole.run")]


def test_validation_decodes_as_the_model_does_one_token_at_a_time(tellmt: Run, place: Path, tiny: Any) -> None:
    """Padding, kept keys and values, and rows that leave the batch change nothing: against whole forward passes, one prompt at a time."""
    import torch
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from tell.languages import parse_pair
    from tell.model.anchor import AnchorConfig, render
    from tell.model.engine import Decoding
    from tell.model.tokenizer import BaseTokenizer
    from tell.records import read_pairs
    from train.config import DevOptions, LoraOptions
    from train.model import load_model

    assert tellmt(*command(place))[0] == 0
    model = load_model(tiny, LoraOptions(rank=8), "float32", "cpu", 1)
    set_peft_model_state_dict(model, load_file(place / "adapter" / WEIGHTS))
    anchor, tokens = render(AnchorConfig(), parse_pair("is-en")), BaseTokenizer(tiny)
    split = read_pairs(place / "corpus-is-en-9" / "pairs.jsonl", "dev")
    for decoding in (Decoding(), Decoding(repetition_penalty=1.5), Decoding(length_factor=0.3, length_extra=1)):
        watch = train.validation.Validator(DevOptions(every=1), split, anchor, tokens, decoding, tiny, "cpu")
        prompts = [watch._translator.prompt(p.source) for p in split]
        greedy = watch._engine
        greedy.model = model
        with train.validation.evaluation_mode(model, "cpu"):
            generations = asyncio.run(greedy.generate(prompts, None))
            for prompt, generation in zip(prompts, generations, strict=True):
                ids: list[int] = []
                while len(ids) < prompt.max_tokens and not (ids and ids[-1] in greedy.endings.ids(prompt.one_line)):
                    logits = model(input_ids=torch.tensor([[*prompt.ids, *ids]])).logits[0, -1]
                    for token in set(ids):
                        logits[token] *= 1 / decoding.repetition_penalty if logits[token] > 0 else decoding.repetition_penalty
                    ids.append(int(logits.argmax()))
                assert greedy.endings.generation(ids, prompt) == generation
        assert len({f.tokens for f in generations}) > 1 or decoding.length_factor < 1
    # Random numbers, dropout and gradients are as they were.
    torch.manual_seed(5)
    before = torch.get_rng_state()
    watch.validate(model, 1)
    assert torch.equal(before, torch.get_rng_state()) and model.training and torch.is_grad_enabled()


def test_segments_are_spread_evenly_from_a_start_that_the_seed_decides() -> None:
    from tell.records import Pair

    pairs = [Pair(str(i), str(i), "d", i, "o", "dev") for i in range(1000)]
    chosen = [[p.line for p in train.validation.evenly_spaced(pairs, 100, seed)] for seed in range(20)]
    assert all(len(set(c)) == 100 and {b - a for a, b in itertools.pairwise(c)} == {10} for c in chosen)
    assert len({c[0] for c in chosen}) > 3 and chosen[0] == [p.line for p in train.validation.evenly_spaced(pairs, 100, 0)]
    assert train.validation.evenly_spaced(pairs[:7], 100, 0) == pairs[:7]
    assert [len({p.line for p in train.validation.evenly_spaced(pairs, n, 1)}) for n in (999, 1000, 3)] == [999, 1000, 3]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no corpus", "validates on a dev split; found every = 2, and no --dev; valid: --dev CORPUS_DIR"),
        ("no validation", "does not validate; found [dev] every = 0"),
        ("other pair", "of another pair than the mix; found en-is; valid: is-en"),
        ("no dev split", "has no dev split"),
        ("no such corpus", "nowhere"),
    ],
)
def test_a_dev_corpus_that_cannot_be_used(tellmt: Run, place: Path, what: str, message: str) -> None:
    dev: str | None = "corpus-is-en-9"
    if what == "no corpus":
        dev = None
    elif what == "no validation":
        (place / "validated.toml").write_text(RECIPE.replace("EPOCHS", "1"))
    elif what == "other pair":
        dev = dev_corpus(tellmt, place, "en-is").name
    elif what == "no dev split":
        dev = dev_corpus(tellmt, place, dev=0).name
    else:
        dev = "nowhere"
    code, _, err = tellmt(*command(place, dev=dev))
    assert code == 2 and message in err and not (place / "adapter").exists() and not (place / "adapter.run").exists()


def test_other_options_or_segments_are_another_run(tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = train.validation._GreedyEngine._decode

    def hit(self: Any, prompts: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, prompts)

    monkeypatch.setattr(train.validation._GreedyEngine, "_decode", hit)
    assert tellmt(*command(place))[0] == 143
    (place / "validated.toml").write_text(VALIDATED.replace("patience = 2", "patience = 3"))
    code, _, err = tellmt(*command(place))
    assert code == 2 and "changed: dev.patience;" in err
    (place / "validated.toml").write_text(VALIDATED)
    other = dev_corpus(tellmt, place, dev=8).name
    code, _, err = tellmt(*command(place, dev=other))
    assert code == 2 and "changed: dev split;" in err


def made_up(place: Path, dev: int) -> Path:
    return corpus_dir(place / f"corpus-of-{dev}", train=2, dev=dev, test=1)


def test_validation_chooses_on_one_half_of_a_large_dev_split(tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = made_up(place, 220)
    scripted(monkeypatch, [10, 20, 15])
    (place / "validated.toml").write_text(VALIDATED.replace("every = 2", "every = 5").replace("patience = 2\n", ""))
    code, out, err = tellmt(*command(place, dev=dev.name), "--json")
    assert code == 0 and "noise" not in err, err
    record, half = json.loads(out)["card"]["training"]["dev"], choosing_part(read_pairs(dev / "pairs.jsonl", "dev"))
    assert record["part"] == half.record() == {"part": "choosing", "segments": len(half.pairs), "of": 220, "by": "documents"} and record["segments"] == 6
    split = open_dev_split(dev, read_recipe(place / "validated.toml"), "is-en")
    assert split and {p.source for p in split.pairs} < {p.source for p in half.pairs}


def test_validation_on_few_segments_is_said_to_be_noise(tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [10, 30, 20, 30])
    code, out, err = tellmt(*command(place), "--json")
    assert code == 0 and "the dev split has 9 segments, fewer than 100: which validation is the best is mostly noise" in err, err
    assert json.loads(out)["card"]["training"]["dev"]["part"] == {"part": "whole", "segments": 9, "of": 9}


def test_what_was_trained_before_halves_is_reused_and_goes_on(tellmt: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = made_up(place, 220).name
    (place / "validated.toml").write_text(VALIDATED.replace("epochs = 3", "epochs = 1").replace("patience = 2\n", ""))
    real = train.validation._GreedyEngine._decode

    def hit(self: Any, prompts: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, prompts)

    with monkeypatch.context() as patch:
        before_halves(patch)
        assert tellmt(*command(place, "whole", dev=dev))[0] == 0
        patch.setattr(train.validation._GreedyEngine, "_decode", hit)
        assert tellmt(*command(place, "broken", dev=dev))[0] == 143
    code, out, err = tellmt(*command(place, "whole", dev=dev), "--json")
    assert code == 0 and json.loads(out)["reused"] and "part" not in json.loads(out)["card"]["training"]["dev"], err
    code, out, err = tellmt(*command(place, "broken", dev=dev), "--json")
    assert code == 0 and "going on from the checkpoint after step 2" in err, err
    assert sha256_file(place / "broken" / WEIGHTS) == sha256_file(place / "whole" / WEIGHTS)
    assert "part" not in json.loads(out)["card"]["training"]["dev"]
    # Trained again, it validates on a half.
    again = json.loads(tellmt(*command(place, "whole", dev=dev), "--force", "--json")[1])
    assert again["card"]["training"]["dev"]["part"]["part"] == "choosing"


def before_halves(patch: pytest.MonkeyPatch) -> None:
    """As versions trained before there were halves, and likely words."""

    def open_whole(*given: Any) -> DevSplit | None:
        split = open_dev_split(*given)
        return split and split.before

    patch.setattr("train.run.open_dev_split", open_whole)
    patch.setattr("train.run.identity", identity_before)


def test_validation_by_loss_keeps_the_weights_with_the_lowest(tellmt: Run, place: Path) -> None:
    """Each validation is what `tellmt losses` says of the weights at that step, and nothing is translated."""
    text = (
        VALIDATED.replace("every = 2", 'every = 4\nmetric = "loss"')
        .replace("patience = 2\n", "")
        .replace("save_steps = 3", "save_steps = 3\nlearning_rate = 0.02")
    )
    (place / "loss.toml").write_text(text)
    code, out, err = tellmt(*command(place, "adapter", "loss.toml"))
    assert code == 0, err
    training = open_adapter(place / "adapter").card.training["dev"]
    looks = {r["step"]: r["dev_nats"] for r in metrics(place / "adapter.run") if "dev_nats" in r}
    assert [[s, n] for s, n in looks.items()] == training["history"] and list(looks) == [4, 8, 12] and "best_chrf" not in training
    assert training["best_nats"] == min(looks.values()) and training["kept_step"] == training["best_step"] == min(looks, key=lambda s: looks[s])
    assert f"{training['best_nats']:.4f} after step {training['best_step']}" in out.replace("\n", " ") and "()" not in out
    each = [json.loads(line) for line in (place / "adapter.run" / "looks.jsonl").read_text().split("\n")[:-1]]
    assert [e["step"] for e in each] == [4, 8, 12]
    assert all(sum(e["nats"]) / len(e["nats"]) == pytest.approx(looks[e["step"]], abs=1e-3) for e in each)
    code, out, err = tellmt("losses", place / "adapter", "--corpus", place / "corpus-is-en-9", "--each", "-o", place / "losses.jsonl", "--json")
    rows = [json.loads(line) for line in (place / "losses.jsonl").read_text().split("\n")[:-1]]
    assert code == 0 and all(sum(r["each"]) == pytest.approx(r["nats"], abs=0.01) and len(r["each"]) == r["tokens"] for r in rows), err
    # The six segments of the validation are among them, under the weights that were kept.
    kept = next(e["nats"] for e in each if e["step"] == training["kept_step"])
    all_losses = {tuple(r["each"]) for r in rows}
    length = len(kept) // training["segments"]
    assert any(all(abs(a - b) < 0.02 for a, b in zip(kept[:length], losses, strict=False)) for losses in all_losses)
