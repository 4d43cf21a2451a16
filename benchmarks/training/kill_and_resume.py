#!/usr/bin/env python3
"""Kill training at random moments, let it resume, and check that nothing was lost or has changed.

Trains a tiny base again and again in child processes, each sent SIGKILL after a random delay drawn over the time that a whole run takes, so
that kills fall into start-up, steps, the writing of checkpoints and that of the adapter. One kill in four waits for one of the two to begin
and strikes within a few milliseconds, since they are short. After each kill:

- the newest checkpoint verifies and is at most `save_steps` behind the last row of metrics.jsonl;
- the same command goes on by itself and finds nothing damaged;
- a run that gets to its end has one row for each step, with the losses, and the adapter with the SHA-256, of a run that nobody disturbed.

SIGKILL ends a process, not the machine: what the disk keeps when the power fails (fsync) is not tested here.

    python -m benchmarks.training.kill_and_resume
    python -m benchmarks.training.kill_and_resume --kills 50 --seed 1 --json
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

STEPS_SAVED = 2
RECIPE = f"""seed = 3
[train]
epochs = 2
batch_tokens = 128
micro_tokens = 128
save_steps = {STEPS_SAVED}
threads = 1
compile = "off"
[lora]
rank = 8
dropout = 0.1
"""
PHASES = ("start-up", "a step", "checkpoint writing", "adapter writing", "tidying up")


@dataclasses.dataclass
class RunPaths:
    """Where one run lives, and what it is compared with."""

    folder: Path
    # Hash by file of the adapter, and the losses, of a run that nobody disturbed.
    files: dict[str, str]
    losses: list[float]
    seconds: float

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @property
    def run_dir(self) -> Path:
        return self.folder / "adapter.run"

    @property
    def command(self) -> list[str]:
        return ["train", "--mixed", str(self.folder / "mixed"), "--recipe", str(self.folder / "recipe.toml"), "-o", str(self.adapter)]

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"


def make_data(folder: Path, pairs: int = 20) -> None:
    """A mix directory as `tellmt mix` writes it, of the tiny base, and a recipe."""
    from tell.files import sha256_file, write_json, write_jsonl
    from tell.languages import parse_pair
    from tell.model.anchor import AnchorConfig, render
    from tell.paths import cache_dir
    from tell.records import Example
    from tests.support.tiny import make_tiny_base

    base = make_tiny_base(cache_dir())
    anchor = render(AnchorConfig(), parse_pair("is-en"))
    rows = [Example(f"task:c/d:{i}", "task", anchor.prompt(f"Þetta er setning númer {i}."), anchor.opening, f"Sentence {i}.").row() for i in range(pairs)]
    (folder / "mixed").mkdir(parents=True)
    write_jsonl(folder / "mixed" / "mixed.jsonl", rows)
    report = {"pair": "is-en", "base": {"id": base.id, "revision": base.revision}, "anchor": anchor.model_dump(), "seed": 0, "counts": {}}
    write_json(folder / "mixed" / "mix.json", {**report, "sha256": sha256_file(folder / "mixed" / "mixed.jsonl")})
    (folder / "recipe.toml").write_text(RECIPE)


def load_everything() -> None:
    """Import what training imports, once: children are forked from here. No thread may have been started by then."""
    import peft  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import transformers
    from transformers import Gemma3ForCausalLM  # noqa: F401

    with contextlib.suppress(ImportError):
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
    for path in sorted((ROOT / "train").glob("*.py")):
        importlib.import_module(f"train.{path.stem}")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


def start(place: RunPaths) -> int:
    """The command in a child process. Returns its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from tellmt.cli import main

        code = main(place.command)
        sys.stdout.flush()
    finally:
        os._exit(code)


def ended(pid: int, within: float) -> int | None:
    """The exit code, or None if it still runs after `within` seconds."""
    until = time.monotonic() + within
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if (remaining := until - time.monotonic()) <= 0:
            return None
        time.sleep(min(0.0005, remaining))


def asides(place: RunPaths, what: str) -> bool:
    """Whether something is on its way to a `checkpoint` or to the `adapter`."""
    folder, start = (place.run_dir, ".step-") if what == "checkpoint" else (place.folder, ".adapter.")
    with contextlib.suppress(FileNotFoundError):
        return any(name.startswith(start) for name in os.listdir(folder))
    return False


def last_row(place: RunPaths) -> int:
    """The step of the last whole row of metrics.jsonl; 0 without one."""
    with contextlib.suppress(FileNotFoundError):
        rows = (place.run_dir / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
        return json.loads(rows[-1])["step"] if rows else 0
    return 0


def stamp(place: RunPaths) -> tuple[int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        status = (place.run_dir / "metrics.jsonl").stat()
        return status.st_size, status.st_mtime_ns
    return None


def verified(place: RunPaths) -> int:
    """The step of the newest checkpoint, every one of whose bytes was checked; 0 without any. Raises Damaged when that one does not verify."""
    from train.checkpoint import read_manifest

    checkpoints = sorted(place.run_dir.glob("step-*"))
    return int(read_manifest(checkpoints[-1])["step"]) if checkpoints else 0


def told(place: RunPaths) -> list[str]:
    """What the log says that a kill must not lead to."""
    if not place.log.exists():
        return []
    return [line for line in place.log.read_text(errors="replace").split("\n") if any(w in line for w in ("damaged", "warning", "Traceback", "Error"))]


def content(place: RunPaths) -> tuple[dict[str, str], list[float], list[int]]:
    """(hash by file of the adapter, losses, steps) of a finished run; the card without the seconds that the run took."""
    from tell.adapter.card import WEIGHTS, open_adapter
    from tell.files import key_of, sha256_file

    card = open_adapter(place.adapter).card.model_dump(mode="json")
    card["training"].pop("seconds")
    files = {p.name: sha256_file(p) for p in place.adapter.iterdir()} | {"card.json": key_of(card)}
    rows = [json.loads(line) for line in (place.run_dir / "metrics.jsonl").read_text().split("\n") if line]
    assert WEIGHTS in files
    return files, [r["loss"] for r in rows], [r["step"] for r in rows]


def check_finished(place: RunPaths) -> list[str]:
    files, losses, steps = content(place)
    wrong = [f"{n} has another SHA-256 than that of a run that nobody disturbed" for n in sorted({*files, *place.files}) if files.get(n) != place.files.get(n)]
    if steps != list(range(1, len(place.losses) + 1)):
        wrong.append(f"metrics.jsonl does not have one row for each step: {steps}")
    elif losses != place.losses:
        wrong.append("metrics.jsonl has other losses than those of a run that nobody disturbed")
    everything = [p.name for folder in (place.folder, place.run_dir) for p in folder.iterdir()]
    leftovers = sorted(name for name in everything if name.startswith((".", "step-", "lock", "run.json")))
    return wrong + ([f"left behind: {', '.join(leftovers)}"] if leftovers else [])


def clear(place: RunPaths) -> None:
    import shutil

    for path in (place.adapter, place.run_dir):
        shutil.rmtree(path, ignore_errors=True)
    place.log.unlink(missing_ok=True)


def undisturbed(place: RunPaths) -> None:
    """Run it twice, the first one untimed, and keep what came out. Raises SystemExit when it does not work at all, or not twice the same."""
    for attempt in range(2):
        clear(place)
        began = time.monotonic()
        code = ended(start(place), 120)
        if code != 0:
            raise SystemExit(f"the undisturbed run ended with {code}:\n{place.log.read_text()}")
        place.seconds = time.monotonic() - began
        files, losses, _ = content(place)
        if attempt and (files, losses) != (place.files, place.losses):
            raise SystemExit("two undisturbed runs differ: nothing can be compared with them")
        place.files, place.losses = files, losses


def strike(place: RunPaths, draw: random.Random, aimed: str | None) -> tuple[str | None, list[str]]:
    """One attempt: start, wait, kill. Returns (the phase it was killed in, or None when it had finished, what was wrong)."""
    before = stamp(place)
    # When the adapter is there, its checkpoints may be half removed.
    behind = 0 if (place.adapter / "card.json").exists() else verified(place)
    pid = start(place)
    if aimed:
        until = time.monotonic() + draw.uniform(0, place.seconds) if aimed == "checkpoint" else 0
        code = None
        while code is None and (time.monotonic() < until or not asides(place, aimed)):
            code = ended(pid, 0.0003)
        code = ended(pid, draw.uniform(0, 0.008)) if code is None else code
    else:
        code = ended(pid, draw.uniform(0, 1.02 * place.seconds))
    if code is not None:
        wrong = [f"exit code {code}: {place.log.read_text(errors='replace')[-500:]}"] if code else check_finished(place)
        return None, wrong + told(place)
    os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != -signal.SIGKILL:
        # It came to its end between the last look and the signal.
        return None, (check_finished(place) if code == 0 else [f"exit code {code}"]) + told(place)
    wrong = told(place)
    if asides(place, "adapter"):
        phase = "adapter writing"
    elif (place.adapter / "card.json").exists():
        phase = "tidying up"
    elif asides(place, "checkpoint"):
        phase = "checkpoint writing"
    else:
        phase = "start-up" if stamp(place) == before else "a step"
    if phase != "tidying up":
        saved, row = verified(place), last_row(place)
        if row - saved > STEPS_SAVED:
            wrong.append(f"the newest checkpoint is of step {saved}, {row - saved} behind the last row")
        if saved < behind:
            wrong.append(f"the newest checkpoint is of step {saved}, and was of step {behind} before")
    return phase, wrong


def kill_all(place: RunPaths, kills: int, draw: random.Random) -> dict[str, Any]:
    phases: Counter[str] = Counter()
    failures: list[str] = []
    finished = lost = attempts = waited = 0
    began = time.monotonic()
    while sum(phases.values()) < kills and len(failures) < 5:
        attempts += 1
        aimed = draw.choice(["checkpoint", "adapter"]) if draw.random() < 0.25 else None
        at = last_row(place)
        try:
            phase, wrong = strike(place, draw, aimed)
        except Exception as e:  # whatever the checks stumble over is a finding
            phase, wrong = "a step", [f"{type(e).__name__}: {e}"]
        number = sum(phases.values()) + 1
        failures += [f"kill {number}, {phase or 'finished'}, after row {at}: {w}" for w in wrong]
        if phase is None or wrong:
            finished += phase is None
            clear(place)
            continue
        phases[phase] += 1
        waited += aimed is not None
        if phase != "tidying up":
            lost = max(lost, last_row(place) - verified(place))
        if sys.stderr.isatty():
            print(f"\r{number}/{kills}", end="", file=sys.stderr)
    # The last one is let come to its end too.
    code = ended(start(place), 120)
    failures += [f"the last run: {w}" for w in ([f"exit code {code}"] if code else check_finished(place)) + told(place)]
    seconds = time.monotonic() - began
    return {
        "kills": sum(phases.values()), "phases": {p: phases[p] for p in PHASES}, "aimed": waited, "attempts": attempts, "finished": finished + (code == 0),
        "steps": len(place.losses), "save_steps": STEPS_SAVED, "most_steps_lost": lost, "failures": failures,
        "seconds": round(seconds, 1), "seconds_undisturbed": round(place.seconds, 2), "weights_sha256": place.files["adapter_model.safetensors"],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-train.") as scratch:
        os.environ |= {"TELLMT_CACHE": f"{scratch}/cache", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        load_everything()
        place = RunPaths(Path(scratch) / "run", {}, [], 0.0)
        make_data(place.folder)
        undisturbed(place)
        figures = {"seed": options.seed, **kill_all(place, options.kills, random.Random(options.seed))}
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        print(f"{figures['kills']} of {options.kills} kills, seed {options.seed}, in {figures['seconds']} s")
        print(f"an undisturbed run of {figures['steps']} steps takes {figures['seconds_undisturbed']} s and saves every {STEPS_SAVED}")
        for phase, count in figures["phases"].items():
            print(f"  {phase:20} {count:4}")
        print(f"{figures['aimed']} of the kills waited for a checkpoint or the adapter to be begun; the others fell at any time")
        print(f"{figures['finished']} runs came to their end, all in {figures['attempts'] + 1} attempts; most steps lost at once: {figures['most_steps_lost']}")
        print(f"SHA-256 of the weights: {figures['weights_sha256']}")
        for failure in figures["failures"]:
            print(f"FAILED {failure}")
    return 1 if figures["failures"] or figures["kills"] < options.kills else 0


if __name__ == "__main__":
    sys.exit(main())
