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
from tell.files import sha256_file, write_json
from tests.support.training import make_mix
from train.config import read_recipe
from train.inputs import identity, read_inputs

RECIPE = "seed = 3\n[train]\nepochs = 2\nbatch_tokens = 512\nmicro_tokens = 256\nsave_steps = 2\nthreads = 1\n[lora]\nrank = 8\ndropout = 0.1\n"


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
    adapter_dir = tmp_path / "adapter"
    ran = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", adapter_dir, "--json")
    adapter = open_adapter(adapter_dir)
    assert ran.json["id"] == adapter.id
    assert sorted(p.name for p in adapter_dir.iterdir()) == sorted([WEIGHTS, CONFIG, CARD])
    assert adapter.card.base.revision == tiny.revision and adapter.card.rank == 8 and adapter.card.seed == 3
    # q, k, v, o, gate, up, down in each of two layers, A and B: and neither embeddings nor the output layer.
    header = read_header(adapter_dir / WEIGHTS)
    assert len(header) == 2 * 7 * 2 and not any("embed" in n or "lm_head" in n for n in header)
    config = json.loads((adapter_dir / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "tiny" and str(tmp_path) not in (adapter_dir / CONFIG).read_text()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "adapter.run" / "metrics.jsonl").read_text().split("\n") if line]
    assert losses[-1] < losses[0] - 0.5
    assert not list((tmp_path / "adapter.run").glob("step-*"))


def test_the_same_command_reuses_and_another_recipe_does_not(cli: Any, mixed: Path, recipe: Path, tmp_path: Path) -> None:
    adapter_dir = tmp_path / "adapter"
    first = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", adapter_dir, "--json").json
    again = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", adapter_dir, "--json").json
    assert not first["reused"] and again["reused"] and again["id"] == first["id"]
    other = cli("train", "--mixed", mixed, "--recipe", recipe, "--seed", 4, "-o", adapter_dir, "--json").json
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
    adapter_dir = tmp_path / "adapter"
    process = subprocess.Popen([sys.executable, "-m", "tellmt", "train", "--mixed", mixed, "--recipe", recipe, "-o", adapter_dir], stderr=subprocess.PIPE)
    run_dir = tmp_path / "adapter.run"
    while len(list(run_dir.glob("step-*/manifest.json"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    newest = max(run_dir.glob("step-*"))
    raw = bytearray((newest / "state.safetensors").read_bytes())
    raw[-1] ^= 1
    (newest / "state.safetensors").write_bytes(bytes(raw))
    ran = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", adapter_dir)
    assert f"checkpoint {newest.name} is damaged" in ran.err and "going on from the checkpoint" in ran.err


def test_a_changed_recipe_refuses_to_resume_and_names_the_change(cli: Any, mixed: Path, recipe: Path, tmp_path: Path) -> None:
    adapter_dir = tmp_path / "adapter"
    other = identity(read_recipe(recipe), read_inputs(mixed)) | {"train.learning_rate": 5e-4}
    (tmp_path / "adapter.run").mkdir()
    write_json(tmp_path / "adapter.run" / "run.json", other)
    ran = cli("train", "--mixed", mixed, "--recipe", recipe, "-o", adapter_dir, ok=False)
    assert ran.code == 2 and "changed: train.learning_rate;" in ran.err and "--restart" in ran.err
    assert cli("train", "--mixed", mixed, "--recipe", recipe, "-o", adapter_dir, "--restart").code == 0


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
    ("text", "message"),
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
def test_a_wrong_recipe_is_refused_by_name(cli: Any, mixed: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    ran = cli("train", "--mixed", mixed, "--recipe", path, "-o", tmp_path / "adapter", ok=False)
    assert ran.code == 2 and message in ran.err and "bad.toml" in ran.err
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize("what", ["no directory", "no report", "altered", "other base", "empty"])
def test_mixed_data_that_cannot_be_used(cli: Any, mixed: Path, tmp_path: Path, tiny: Any, what: str) -> None:
    report = json.loads((mixed / "mix.json").read_text())
    code, message = 2, ""
    if what == "no directory":
        mixed, message = tmp_path / "nowhere", "no mix.json"
    elif what == "no report":
        (mixed / "mix.json").unlink()
        message = "no mix.json"
    elif what == "altered":
        (mixed / "mixed.jsonl").write_text((mixed / "mixed.jsonl").read_text() + "\n")
        message = "not what its report says"
    elif what == "other base":
        write_json(mixed / "mix.json", {**report, "base": {"id": "tiny", "revision": "0" * 64}})
        message = "another revision of the base"
    else:
        (mixed / "mixed.jsonl").write_text("")
        write_json(mixed / "mix.json", {**report, "sha256": sha256_file(mixed / "mixed.jsonl")})
        message = "nothing to train on"
    ran = cli("train", "--mixed", mixed, "-o", tmp_path / "adapter", ok=False)
    assert ran.code == code and message in ran.err


def test_an_output_directory_that_is_something_else_is_left_alone(cli: Any, mixed: Path, tmp_path: Path) -> None:
    adapter_dir = tmp_path / "precious"
    adapter_dir.mkdir()
    (adapter_dir / "thesis.tex").write_text("years of work")
    ran = cli("train", "--mixed", mixed, "-o", adapter_dir, ok=False)
    assert ran.code == 1 and "not an adapter" in ran.err
    assert (adapter_dir / "thesis.tex").read_text() == "years of work"


@pytest.mark.long
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
