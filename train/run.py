"""One training run: reads a mix directory and a base, writes an adapter directory, `card.json` last.

Beside it, `<adapter>.run/` holds checkpoints while the run lasts, and metrics.jsonl for good. A run that was stopped goes on from its
newest checkpoint when the same command is given again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tell.anchors import Anchor
from tell.bases import Base, find_base
from tell.card import CARD, CONFIG, WEIGHTS, BaseRef, Card, read_card, write_card
from tell.console import progress, say
from tell.errors import AdapterError, CorpusError, RecipeError, TellmtError
from tell.extras import need
from tell.files import atomic_dir, key_of, sha256_file, write_json
from tell.machine import cores
from tell.paths import cache_dir
from tell.records import read_examples
from tell.tokens import Tokens
from train.checkpoint import claim, latest, save
from train.config import Recipe, TrainOptions
from train.plan import Step, Tokenised, learning_rate, make_plan

FORMAT = 2
# Tokens from which compiling pays: it takes about a minute, less once cached, and halves the time.
COMPILE_TOKENS = 50_000
# What a card says of the data, as `mix` reported it.
_FROM_MIX = ("sha256", "counts", "ratio", "general_tokens", "order", "granularity", "corpora", "general_sources", "left_out", "seed")
_LIBRARIES = ("torch", "transformers", "peft", "safetensors", "tokenizers")


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """What a run reads, verified: the mix's own report, the base it was counted for, and its examples as ids."""

    mix: dict[str, Any]
    base: Base
    data: list[Tokenised]
    names: list[str]


class Stopped(TellmtError):
    """SIGTERM: the state is saved; exit code as the shell gives it."""

    exit_code = 143


def read_inputs(mixed: Path) -> Inputs:
    report = mixed / "mix.json"
    if not report.exists():
        raise CorpusError("not a mix directory, or a half-written one", place=str(mixed), found="no mix.json", valid="what `tellmt mix -o` wrote")
    try:
        mix = json.loads(report.read_text())
    except ValueError as e:
        raise CorpusError("the mix report cannot be read", place=str(report), found=str(e)) from None
    if sha256_file(mixed / "mixed.jsonl") != mix["sha256"]:
        raise CorpusError("the mixed data is not what its report says", place=str(mixed / "mixed.jsonl"), valid="run `tellmt mix` again")
    base = find_base(mix["base"]["id"])
    if base.revision != mix["base"]["revision"]:
        raise CorpusError("the mix was made for another revision of the base", place=str(report), found=mix["base"]["revision"][:12], valid=base.revision[:12])
    examples = read_examples(mixed / "mixed.jsonl")
    if not examples:
        raise CorpusError("there is nothing to train on", place=str(mixed / "mixed.jsonl"), found="no examples")
    ids = Tokens(base, Anchor.model_validate(mix["anchor"]).chat).example_ids(examples)
    return Inputs(mix, base, [Tokenised(i, s, e.kind == "task") for e, (i, s) in zip(examples, ids, strict=True)], [e.id for e in examples])


def identity(recipe: Recipe, inputs: Inputs) -> dict[str, Any]:
    """Everything that decides the adapter's weights."""
    return {
        "format": FORMAT,
        "mixed data": inputs.mix["sha256"],
        # Beside the data: the turns are put around the examples when they are read.
        **{k: v for k, v in inputs.mix["anchor"].items() if k == "chat"},
        "base": inputs.base.revision,
        "seed": recipe.seed,
        **{f"train.{k}": v for k, v in recipe.train.model_dump().items() if k not in ("save_steps", "threads", "compile")},
        **{f"lora.{k}": v for k, v in recipe.lora.model_dump().items()},
        "decoding": recipe.decoding.model_dump(),
        **({"notes": recipe.notes} if recipe.notes else {}),
    }


@contextmanager
def _sigterm() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying in the middle of a step."""
    seen: list[int] = []
    old = {s: signal.signal(s, lambda number, frame: seen.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def run(mixed: Path, recipe: Recipe, out: Path, force: bool = False, restart: bool = False) -> tuple[Card, bool]:
    """Train, or find that `out` already is what this would make. Returns (card, whether it was reused)."""
    torch = need("torch", "train")
    for module in ("transformers", "peft", "safetensors"):
        need(module, "train")
    inputs = read_inputs(mixed)
    who = identity(recipe, inputs)
    if out.exists() and not (out / CARD).exists() and any(out.iterdir()):
        raise AdapterError("this directory exists and is not an adapter", place=str(out), valid="a new directory with -o")
    if (out / CARD).exists() and not force and read_card(out).training.get("key") == key_of(who):
        return read_card(out), True

    run_dir = out.with_name(out.name + ".run")
    claim(run_dir, who, restart or force)
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    if not cuda:
        torch.set_num_threads(recipe.train.threads or cores())
    plan = make_plan(inputs.data, recipe.train, recipe.seed, reshuffle=inputs.mix.get("order", "shuffled") == "shuffled")
    say(
        f"{len(inputs.data):,} examples, {sum(s.tokens for s in plan):,} tokens in {len(plan):,} steps over {recipe.train.epochs} epoch(s), "
        f"{sum(s.task_tokens for s in plan) / max(1, sum(s.tokens for s in plan)):.0%} of them task data"
    )
    trained = _train(inputs, recipe, plan, run_dir, device)
    card = _write(out, inputs, recipe, trained, key_of(who))
    for old in run_dir.glob("step-*"):
        shutil.rmtree(old, ignore_errors=True)
    (run_dir / "run.json").unlink(missing_ok=True)
    return card, False


def _train(inputs: Inputs, recipe: Recipe, plan: list[Step], run_dir: Path, device: str) -> dict[str, Any]:
    import torch

    from train.model import backward, compile_layers, load_model, lora_parameters, pick_dtype
    from train.optimiser import Masters
    from train.output import Words

    options = recipe.train
    dtype = pick_dtype(options, device == "cuda")
    model = load_model(inputs.base, recipe.lora, dtype, device, recipe.seed)
    masters = Masters(lora_parameters(model), options)
    used = {token for example in inputs.data for token in example.ids[example.start :]}
    words = Words(model.get_base_model().get_output_embeddings().weight, used, options.negatives, recipe.seed)
    state: dict[str, Any] = {"seconds": 0.0, "tokens": 0, "recent": []}
    first = 0
    if found := latest(run_dir):
        first, tensors, state = found
        masters.restore(tensors, first)
        say(f"going on from the checkpoint after step {first:,} of {len(plan):,}")
    if _compiled(options, sum(s.tokens for s in plan[first:])):
        compile_layers(model)
    pad = inputs.base.eos_ids[0]
    metrics = (run_dir / "metrics.jsonl").open("a", encoding="utf-8")
    began = time.monotonic() - state["seconds"]
    drawn = progress(*_columns())
    with metrics, _sigterm() as stop, drawn:
        bar = drawn.add_task(f"training in {dtype}", total=len(plan), completed=first, loss="-", speed="-", share="-")
        for number in range(first, len(plan)):
            step = plan[number]
            # Per step, so that dropout after a resume is what it would have been.
            torch.manual_seed(recipe.seed * 1_000_003 + number)
            words.draw(number)
            loss = 0.0
            for micro in step.micro:
                loss += backward(model, [inputs.data[i] for i in micro], 1 / step.targets, pad, device, words)
                masters.collect()
            loss /= step.targets
            rate = learning_rate(number, len(plan), options)
            norm = masters.step(rate, options.max_grad_norm)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                bad = [inputs.names[i] for i in sorted(i for micro in step.micro for i in micro)]
                write_json(run_dir / "non-finite.json", {"step": number + 1, "loss": str(loss), "gradient_norm": str(norm), "examples": bad})
                raise TellmtError(
                    "the loss or its gradient is no longer a number",
                    place=f"step {number + 1}",
                    found=f"loss {loss}, gradient norm {norm}",
                    valid=f"a lower learning rate; the examples are listed in {run_dir / 'non-finite.json'}",
                )
            state["tokens"] += step.tokens
            state["recent"] = (state["recent"] + [loss])[-20:]
            state["seconds"] = time.monotonic() - began
            row = {
                "step": number + 1,
                "loss": round(loss, 6),
                "learning_rate": rate,
                "gradient_norm": round(norm, 6),
                "tokens": state["tokens"],
                "seconds": round(state["seconds"], 2),
            }
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()
            mean = sum(state["recent"]) / len(state["recent"])
            speed = state["tokens"] / max(1e-9, state["seconds"])
            drawn.update(bar, advance=1, loss=f"{mean:.3f}", speed=f"{speed:,.0f}", share=f"{step.task_tokens / step.tokens:.0%}")
            if drawn.disable and (number + 1) % max(1, len(plan) // 10) == 0:
                left = (len(plan) - number - 1) * state["seconds"] / (number + 1)
                say(f"step {number + 1:,}/{len(plan):,}: loss {mean:.3f}, {speed:,.0f} tokens/s, {left / 60:.1f} min left")
            if stop or (number + 1) % options.save_steps == 0:
                save(run_dir, number + 1, masters.tensors(), state)
            if stop:
                say(f"stopped after step {number + 1:,}; the same command goes on from here")
                if stop[0] == signal.SIGINT:
                    raise KeyboardInterrupt
                raise Stopped("stopped by SIGTERM")
    return {"model": model, "masters": masters, "dtype": dtype, "device": device, "steps": len(plan), **state}


def _compiled(options: TrainOptions, tokens: int) -> bool:
    """Whether to compile a run of this many tokens. Raises RecipeError where the recipe insists and nothing can be compiled."""
    from train.model import compiles

    if options.compile == "off" or (options.compile == "auto" and tokens < COMPILE_TOKENS):
        return False
    # Compiled code is a cache like the others; torch's own default is the directory for temporary files.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))
    if compiles():
        return True
    if options.compile == "on":
        raise RecipeError("torch.compile does not work here", place="[train] compile", found="on", valid="a C++ compiler and Python's headers, or auto")
    say("not compiled: that would take a C++ compiler and Python's headers")
    return False


def _columns() -> tuple[Any, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s  task {task.fields[share]}"),
        TimeRemainingColumn(),
    )


def _versions() -> dict[str, str]:
    out = {"python": platform.python_version(), "tellmt": version("tellmt")}
    for name in _LIBRARIES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out


def _write(out: Path, inputs: Inputs, recipe: Recipe, trained: dict[str, Any], key: str) -> Card:
    """The adapter in peft's own format, then its card."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    model, base, mix = trained["model"], inputs.base, inputs.mix
    with atomic_dir(out) as aside:
        tensors = {n: t.detach().cpu().contiguous() for n, t in sorted(get_peft_model_state_dict(model).items())}
        save_file(tensors, aside / WEIGHTS, metadata={"format": "pt"})
        config = model.peft_config["default"]
        config.inference_mode = True
        config.base_model_name_or_path = base.id
        config.save_pretrained(aside)
        written = json.loads((aside / CONFIG).read_text())
        # peft keeps the expanded module list as a set; sorted, the file is the same for the same run.
        if isinstance(written.get("target_modules"), list):
            written["target_modules"] = sorted(written["target_modules"])
        write_json(aside / CONFIG, written)
        card = Card(
            pair=mix["pair"],
            base=BaseRef(id=base.id, revision=base.revision, licence=base.licence, notice=base.notice),
            anchor=Anchor.model_validate(mix["anchor"]),
            decoding=recipe.decoding,
            rank=recipe.lora.rank,
            recipe=recipe.model_dump(mode="json"),
            seed=recipe.seed,
            data={k: mix[k] for k in _FROM_MIX if k in mix},
            training={
                "key": key,
                "steps": trained["steps"],
                "tokens": trained["tokens"],
                "seconds": round(trained["seconds"], 1),
                "dtype": trained["dtype"],
                "device": trained["device"],
                "final_loss": round(sum(trained["recent"]) / max(1, len(trained["recent"])), 6),
                "machine": f"{platform.system()} {platform.machine()}",
            },
            versions=_versions(),
            notes=recipe.notes,
            files={n: sha256_file(aside / n) for n in (WEIGHTS, CONFIG)},
        )
        write_card(aside, card)
        for extra in aside.iterdir():
            if extra.name not in (WEIGHTS, CONFIG, CARD):
                extra.unlink()
        # safetensors writes for the owner alone; a registry may be read by another user's service.
        (aside / WEIGHTS).chmod(0o644)
    return card
