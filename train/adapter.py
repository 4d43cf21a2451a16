"""Write a trained adapter: an adapter directory in peft's own format, `card.json` last."""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tell.adapter.card import CARD, CONFIG, PIECES, WEIGHTS, BaseRef, Card, KeptPieces, write_card
from tell.files import atomic_dir, sha256_file, write_json
from tell.model.anchor import Anchor
from train.config import Recipe
from train.inputs import Inputs, hint_options, prompt_files, retrieval_options
from train.loop import TrainingResult
from train.pieces import Choice

# What a card says of the data, as `mix` reported it.
_MIX_KEYS = ("sha256", "counts", "ratio", "general_tokens", "order", "granularity", "corpora", "general_sources", "left_out", "seed", "hints", "retrieval")
_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")


def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "tellmt": version("tellmt")}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _notes(inputs: Inputs, recipe: Recipe) -> list[str]:
    """The recipe's notes, after those of the adapter that training went on from: what that was trained on is in these weights too."""
    return list(dict.fromkeys([*(inputs.start.card.notes if inputs.start else []), *recipe.notes]))


def write_adapter(out: Path, inputs: Inputs, recipe: Recipe, trained: TrainingResult, key: str, choice: Choice | None = None) -> Card:
    """The adapter in peft's own format, then its card. `choice`: the pieces that it keeps of the base's vocabulary; None for all."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    model, base, mix = trained.model, inputs.base, inputs.mix
    with atomic_dir(out) as aside:
        tensors = {n: t.detach().cpu().contiguous() for n, t in sorted(get_peft_model_state_dict(model).items())}
        save_file(tensors, aside / WEIGHTS, metadata={"format": "pt"})
        config = model.peft_config["default"]
        config.inference_mode = True
        config.base_model_name_or_path = base.id
        config.save_pretrained(aside)
        adapter_config = json.loads((aside / CONFIG).read_text())
        # peft keeps the expanded module list as a set; sorted, the file is the same for the same run.
        if isinstance(adapter_config.get("target_modules"), list):
            adapter_config["target_modules"] = sorted(adapter_config["target_modules"])
        write_json(aside / CONFIG, adapter_config)
        names = (WEIGHTS, CONFIG, *prompt_files(mix))
        kept = None
        if choice is not None and choice.pieces is not None:
            names = (*names, PIECES)
            (aside / PIECES).write_bytes(choice.pieces.dump())
            kept = KeptPieces.chosen(choice.pieces, choice.left_out)
        for name in prompt_files(mix):
            shutil.copyfile(inputs.directory / name, aside / name)
        card = Card(
            pair=mix["pair"],
            base=BaseRef(id=base.id, revision=base.revision, licence=base.licence, notice=base.notice),
            anchor=Anchor.model_validate(mix["anchor"]),
            decoding=recipe.decoding,
            rank=recipe.lora.rank,
            recipe=recipe.model_dump(mode="json"),
            seed=recipe.seed,
            data={k: mix[k] for k in _MIX_KEYS if k in mix},
            training={
                "key": key,
                "steps": trained.steps,
                "tokens": trained.tokens,
                "seconds": round(trained.seconds, 1),
                "dtype": trained.dtype,
                "device": trained.device,
                "processes": trained.processes,
                "final_loss": round(trained.final_loss, 6),
                "machine": f"{platform.system()} {platform.machine()}",
                **({"dev": trained.dev} if trained.dev else {}),
                **({"from": inputs.start.id} if inputs.start else {}),
            },
            versions=_library_versions(),
            notes=_notes(inputs, recipe),
            hints=hint_options(mix),
            retrieval=retrieval_options(mix),
            pieces=kept,
            files={n: sha256_file(aside / n) for n in names},
        )
        write_card(aside, card)
        for extra in aside.iterdir():
            if extra.name not in (*names, CARD):
                extra.unlink()
        # safetensors writes for the owner alone; a registry may be read by another user's service.
        (aside / WEIGHTS).chmod(0o644)
    return card
