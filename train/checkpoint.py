"""Checkpoints: `<adapter>.run/step-00000050/` with the optimiser's tensors and a manifest of their hash, whole or absent.

Reads and writes `<adapter>.run/run.json` (what this run is) as well, so that a run is only continued as itself.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tell.console import say
from tell.errors import RecipeError
from tell.files import atomic_dir, sha256_file, write_json

TENSORS, MANIFEST, RUN = "state.safetensors", "manifest.json", "run.json"


def claim(run_dir: Path, identity: dict[str, Any], restart: bool) -> None:
    """Make `run_dir` this run's. Raises RecipeError naming what changed when it holds checkpoints of another one."""
    if restart:
        shutil.rmtree(run_dir, ignore_errors=True)
    known = run_dir / RUN
    if known.exists():
        try:
            old = json.loads(known.read_text())
        except ValueError:
            old = {}
        changed = sorted(k for k in {*old, *identity} if old.get(k) != identity.get(k))
        if changed:
            raise RecipeError(
                "an unfinished run with other settings lies here",
                place=str(run_dir),
                found=f"changed: {', '.join(changed)}",
                valid="the same settings, or --restart to discard it",
            )
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(known, identity)


def save(run_dir: Path, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
    """Write the state after `step` steps; only then are all but the newest two removed."""
    from safetensors.torch import save_file

    final = run_dir / f"step-{step:08}"
    with atomic_dir(final) as aside:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, aside / TENSORS)
        write_json(aside / MANIFEST, {"step": step, "sha256": sha256_file(aside / TENSORS), "progress": progress})
    for old in sorted(run_dir.glob("step-*"))[:-2]:
        shutil.rmtree(old, ignore_errors=True)


def latest(run_dir: Path) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """(step, tensors, progress) of the newest checkpoint that verifies; damaged ones are passed over with a warning."""
    from safetensors.torch import load_file

    for path in sorted(run_dir.glob("step-*"), reverse=True):
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            if sha256_file(path / TENSORS) != manifest["sha256"]:
                raise ValueError("its bytes have changed")
            return int(manifest["step"]), load_file(path / TENSORS), manifest["progress"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            say(f"warning: checkpoint {path.name} is damaged and passed over ({e})")
    return None
