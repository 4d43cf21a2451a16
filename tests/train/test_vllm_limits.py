"""A recipe is refused, with the reason, when vLLM could not load what it would make; what asks for nothing is let pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve.engines.checkpoint import check_checkpoint, open_fitting
from tell.adapter.card import CONFIG, WEIGHTS, open_adapter, read_header
from tests.support.training import Run, make_mix, runner

SMALL = "[train]\nbatch_tokens = 512\nmicro_tokens = 512\nthreads = 1\ncompile = 'off'\n"


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


def train(tellmt: Run, tiny: Any, place: Path, text: str) -> tuple[int, str, str]:
    (place / "r.toml").write_text(text)
    return tellmt("train", "--mixed", make_mix(place / "mixed", tiny, 8), "--recipe", place / "r.toml", "-o", place / "adapter")


REFUSED = [
    ("[lora]\nuse_dora = true", "use_dora: vLLM has no DoRA", "True"),
    ("[lora]\ndora = true", "dora: vLLM has no DoRA", "True"),
    ("[lora]\nuse_dora = 0", "use_dora: vLLM has no DoRA", "0"),
    ("[lora]\nbias = 'all'", "bias: vLLM adds no bias", "'all'"),
    ("[lora]\nbias = 'lora_only'", 'valid: "none"', "'lora_only'"),
    ("[lora]\nlora_bias = true", "lora_bias: vLLM adds no bias", "True"),
    ("[lora]\nmodules_to_save = ['embed_tokens']", "modules_to_save: vLLM loads the two matrices of a LoRA", "['embed_tokens']"),
    ("[lora]\ninit_lora_weights = 'pissa_niter_4'", "init_lora_weights: vLLM adds an adapter to the base as published", "'pissa_niter_4'"),
    ("[lora]\ninit_lora_weights = 'olora'", "this start changes the base's own weights", "'olora'"),
    ("[lora]\ninit_lora_weights = 'loftq'", "this start changes the base's own weights", "'loftq'"),
    ("[lora]\ninit_lora_weights = 'gaussian'", "there is one start here", "'gaussian'"),
    ("[lora]\nrank = 12", "rank: vLLM holds adapters in buffers of these ranks only: 1, 8, 16, 32, 64, 128, 256, 320, 512", "12"),
    ("[lora]\nrank = true", "rank: vLLM holds adapters", "True"),
    ("[lora]\nr = 8", "valid: rank, as it is called here", "r;"),
    ("[lora]\nlora_alpha = 8", "valid: alpha, as it is called here", "lora_alpha;"),
    ("[lora]\nrank_pattern = { q_proj = 8 }", "rank_pattern: all layers share one rank", "{'q_proj': 8}"),
    ("[lora]\nuse_rslora = 1", "use_rslora", "1"),
    ("[lora]\ntrainable_token_indices = [5]", "vLLM gives an adapter no tokens of its own", "[5]"),
    ("[lora]\ntarget_modules = ['q_proj', 'embed_tokens']", "embed_tokens is no place for a LoRA: vLLM loads none on the embeddings", "'embed_tokens'"),
    ("[lora]\ntarget_modules = ['model.lm_head']", "model.lm_head is no place for a LoRA", "lm_head"),
    ("[lora]\ntarget_modules = 'q_proj'", 'neither "all-linear" nor a list', "'q_proj'"),
    ("[lora]\ntarget_modules = []", "empty: nothing would be trained", "[]"),
    ("[lora]\ntarget_modules = ['q_proj', 3]", 'neither "all-linear" nor a list', "3"),
    ("[train]\nadd_tokens = ['<is>']", "add_tokens: vLLM gives an adapter no tokens of its own", "['<is>']"),
    ("[train]\nadded_tokens = 3", "added_tokens: vLLM gives an adapter no tokens of its own", "3"),
    ("[train]\nnew_tokens = ['<is>']", "new_tokens: vLLM gives an adapter no tokens of its own", "['<is>']"),
    ("[train]\nmicro_tokens = 63", "micro_tokens: valid: auto, or a whole number from 64 to 4,000,000", "63"),
    ("[train]\nreport_to = 'clearml'", "report_to: valid: one of tensorboard, mlflow, wandb", "'clearml'"),
    ("[dev]\npatience = 3", "patience counts validations", ""),
    ("[dev]\nevry = 3", "every (did you mean this?)", "evry"),
]


@pytest.mark.parametrize(("text", "message", "value"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_vllm_cannot_load_is_refused_with_the_reason(tellmt: Run, tmp_path: Path, text: str, message: str, value: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    code, _, err = tellmt("train", "--mixed", tmp_path / "mixed", "--recipe", tmp_path / "r.toml", "-o", tmp_path / "adapter")
    table = text.split("\n")[0]
    assert code == 2 and message in err and f"r.toml, {table}" in err and (not value or f"found {value}" in err or value in err.split("found ")[1])


def test_a_target_that_the_base_lacks_is_refused_with_those_it_has(tellmt: Run, tiny: Any, tmp_path: Path) -> None:
    code, _, err = train(tellmt, tiny, tmp_path, SMALL + "[lora]\ntarget_modules = ['q_proj', 'query_key_value']\n")
    assert code == 2 and "found query_key_value; valid: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in err
    assert not (tmp_path / "adapter").exists()


def test_chosen_layers_and_what_asks_for_nothing_make_an_adapter_that_engines_load(tellmt: Run, tiny: Any, tmp_path: Path) -> None:
    harmless = "use_dora = false\nbias = 'none'\nmodules_to_save = []\ninit_lora_weights = true\nrank_pattern = {}\n"
    chosen = "[lora]\nrank = 8\ntarget_modules = ['v_proj', 'q_proj']\nuse_rslora = true\n"
    code, _, err = train(tellmt, tiny, tmp_path, f"{SMALL}add_tokens = []\n{chosen}{harmless}")
    assert code == 0, err
    header = read_header(tmp_path / "adapter" / WEIGHTS)
    assert len(header) == 2 * 2 * 2 and all(".q_proj." in n or ".v_proj." in n for n in header)
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    assert config["use_rslora"] is True and config["target_modules"] == ["q_proj", "v_proj"]
    adapter = open_adapter(tmp_path / "adapter")
    assert adapter.card.recipe["lora"]["target_modules"] == ["q_proj", "v_proj"]
    open_fitting(tiny, check_checkpoint(tiny), adapter.id, tmp_path / "adapter", 16)


def test_what_is_new_in_recipes_makes_no_other_run_of_old_ones(tellmt: Run, tiny: Any, tmp_path: Path) -> None:
    code, _, err = train(tellmt, tiny, tmp_path, SMALL + "[lora]\nrank = 8\n")
    assert code == 0, err
    spelled = SMALL + "report_to = []\nsave_steps = 3\npacking = false\n[lora]\nrank = 8\ntarget_modules = 'all-linear'\n"
    spelled += "use_rslora = false\nbias = 'none'\n[dev]\nevery = 0\n"
    (tmp_path / "r.toml").write_text(spelled)
    code, out, _ = tellmt("train", "--mixed", tmp_path / "mixed", "--recipe", tmp_path / "r.toml", "-o", tmp_path / "adapter", "--json")
    assert code == 0 and json.loads(out)["reused"]
    (tmp_path / "r.toml").write_text(spelled.replace("use_rslora = false", "use_rslora = true"))
    code, out, _ = tellmt("train", "--mixed", tmp_path / "mixed", "--recipe", tmp_path / "r.toml", "-o", tmp_path / "adapter", "--json")
    assert code == 0 and not json.loads(out)["reused"]


@pytest.mark.slow
def test_vllm_itself_refuses_what_the_recipe_refuses() -> None:
    """Against its own loader: our list is neither longer nor shorter than need be for these."""
    helper = pytest.importorskip("vllm.lora.peft_helper").PEFTHelper
    from vllm.config.lora import LoRAConfig, MaxLoRARanks

    from train.config import RANKS

    assert set(RANKS) == set(MaxLoRARanks.__args__)
    limits = LoRAConfig(max_lora_rank=16, max_loras=1)
    plain = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    helper.from_dict(plain | {"use_rslora": True}).validate_legal(limits)
    for more in (
        {"use_dora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"modules_to_save": ["embed_tokens"]},
        *({"init_lora_weights": start} for start in ("pissa", "pissa_niter_4", "olora", "loftq", "corda")),
        {"alora_invocation_tokens": [1]},
        {"layer_replication": [[0, 1]]},
        {"use_qalora": True},
        {"use_bdlora": {"a": 1}},
    ):
        with pytest.raises(ValueError):
            helper.from_dict(plain | more).validate_legal(limits)
