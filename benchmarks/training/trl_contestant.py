"""One contestant of bench_train.py, in its own process: `tellmt train`, or TRL's SFTTrainer on the same ids.

Reads data.json, recipe.toml and mixed/ in the working directory. Writes <name>/adapter and <name>/told.json there: the time and tokens of every
step, what it trained on, and peak memory of the GPU.

    python -m benchmarks.training.trl_contestant trl-default DIR '{}'
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

# per_device_train_batch_size as TrainingArguments has it.
BATCH = 8
# Keys that are not SFTConfig's: how the model is loaded, and a packed row's length.
MODEL_KEYS = ("attn_implementation", "dtype", "use_kernels")
# TRL at its fastest here, found by trying (docs/results/train-speed.md).
BEST_CPU: dict[str, Any] = {"gradient_checkpointing": False, "packing": True}
# On a GPU rows are packed to a step's length; Liger's kernels where they are installed.
BEST_GPU: dict[str, Any] = {"gradient_checkpointing": False, "packing": True, "use_liger_kernel": True}


def settings_for(name: str) -> dict[str, Any]:
    """What is set beside the default for a contestant of this name, on this device."""
    if name == "trl-float32":
        return {"dtype": "float32"}
    if name != "trl-best":
        return {}
    import torch

    return BEST_GPU if torch.cuda.is_available() else BEST_CPU


def cuda_peak() -> dict[str, int]:
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"allocated": torch.cuda.max_memory_allocated() // 2**20, "reserved": torch.cuda.max_memory_reserved() // 2**20}


def ours(work: Path) -> dict[str, Any]:
    """The command that a user types, in this process, so that the GPU's peak can be read."""
    from tellmt.cli import main

    folder = work / "ours"
    if code := main(["train", "--mixed", str(work / "mixed"), "--recipe", str(work / "recipe.toml"), "-o", str(folder / "adapter"), "--force"]):
        sys.exit(code)
    metrics = [json.loads(line) for line in (folder / "adapter.run" / "metrics.jsonl").read_text().strip().split("\n")]
    card = json.loads((folder / "adapter" / "card.json").read_text())
    dtypes = {"base": card["training"]["dtype"], "lora": f"{card['training']['dtype']}, masters in float32", "torch": card["versions"]["torch"]}
    return {"rows": [(m["step"], m["tokens"], m["seconds"]) for m in metrics], **dtypes, "recipe": card["recipe"]["train"]}


def trl(work: Path, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """SFTTrainer with its defaults, but for `settings` and what makes the runs comparable."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from tell.machine import cores

    data_settings = json.loads((work / "data.json").read_text())
    cuda = torch.cuda.is_available()
    if not cuda:
        torch.set_num_threads(cores())
    settings = dict(settings)
    # SFTTrainer would load the base in float32 and compute in bfloat16 by autocast; everybody is to have it in the dtype that we compute in.
    model = {"dtype": data_settings["dtype"]} | {key: settings.pop(key) for key in MODEL_KEYS if key in settings}
    if settings.get("packing"):
        # A packed row is as long as a step of everybody else.
        settings = {"max_length": data_settings["batch_tokens"], "per_device_train_batch_size": 1, **settings}
    config = SFTConfig(
        **{
            "output_dir": str(out / "trainer"),
            "learning_rate": data_settings["learning_rate"],
            "lr_scheduler_type": "constant",
            "adam_beta2": 0.99,
            # Without it SFTConfig, which asks for bf16, ends with an error that tells one to set it.
            "use_cpu": not cuda,
            "bf16": data_settings["dtype"] == "bfloat16",
            "num_train_epochs": 1,
            "seed": data_settings["seed"],
            # The order of the mix, which everybody follows.
            "train_sampling_strategy": "sequential",
            "completion_only_loss": True,
            "model_init_kwargs": model,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            **settings,
        }
    )
    data = Dataset.from_list([{"input_ids": ids, "completion_mask": [0] * start + [1] * (len(ids) - start)} for ids, start in data_settings["examples"]])
    tokens_seen = torch.zeros((), dtype=torch.long, device="cuda" if cuda else "cpu")
    rows: list[tuple[int, Any, float]] = []
    began = 0.0

    class Counting(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *positional: Any, **keys: Any) -> Any:
            nonlocal tokens_seen
            # Added up on the device: reading it would make the GPU wait.
            tokens_seen = tokens_seen + (inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel())
            return super().training_step(model, inputs, *positional, **keys)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            nonlocal began
            began = time.monotonic()

        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if cuda and state.global_step in (max(2, state.max_steps // 5), state.max_steps):
                torch.cuda.synchronize()
            rows.append((state.global_step, tokens_seen, time.monotonic() - began))

    trainer = Counting(
        model=data_settings["base"],
        args=config,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(data_settings["base"]),
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    trainer.train()
    trainer.save_model(str(out / "adapter"))
    dtypes = {kind: sorted({str(p.dtype) for p in trainer.model.parameters() if p.requires_grad is (kind == "lora")}) for kind in ("base", "lora")}
    facts = {kind: ", ".join(names).replace("torch.", "") for kind, names in dtypes.items()}
    facts["compute"] = "bfloat16 by autocast" if config.bf16 else facts["base"]
    return {
        "rows": [(step, int(tokens), round(seconds, 3)) for step, tokens, seconds in rows],
        "examples": list(trained_on(trainer.train_dataset)),
        "settings": {**settings, **model},
        "gradient_checkpointing": config.gradient_checkpointing,
        "attention": trainer.model.config._attn_implementation,
        **facts,
        **{name: version(name) for name in ("trl", "transformers", "peft", "torch")},
    }


def trained_on(dataset: Any) -> Any:
    """(ids, labels) of every example, as the trainer holds them after its own preparation; packed rows taken apart."""
    for row in dataset:
        at = 0
        for length in row.get("seq_lengths") or [len(row["input_ids"])]:
            yield row["input_ids"][at : at + length], row["labels"][at : at + length]
            at += length


def main() -> int:
    name, work, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    report = ours(work) if name == "ours" else trl(work, folder, settings)
    (folder / "told.json").write_text(json.dumps({**report, "cuda": cuda_peak()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
