"""Checkpoints: a directory such as `<adapter>.run/step-00000050/` with the optimiser's tensors and a manifest, whole or absent.

It is filled aside, flushed and renamed; the manifest is written last, names the hash of the tensors and of itself, and has one spelling only:
one altered byte anywhere, or one that is missing, is found. Beside the checkpoints, metrics.jsonl is cut to the step that a run goes on from.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tell.console import say
from tell.errors import TellmtError
from tell.files import atomic_dir, sha256_bytes, sha256_file, write_atomic

TENSORS, MANIFEST, METRICS = "state.safetensors", "manifest.json", "metrics.jsonl"
FORMAT = 2
# EFBIG is what a limit on the size of files gives (`ulimit -f`), EDQUOT a quota.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

State = tuple[int, dict[str, Any], dict[str, Any]]


class Damaged(TellmtError):
    """A checkpoint that is not what was written."""


@contextmanager
def room(place: Path) -> Iterator[None]:
    """Tells of a disk that is full while `place` is written, as TellmtError: what is named there is on its way to it. Other errors pass."""
    try:
        yield
    except Exception as e:
        number = e.errno if isinstance(e, OSError) else None
        # safetensors has an exception of its own, with the number in its text.
        if type(e).__module__.startswith("safetensors") and (found := re.search(r"os error (\d+)", str(e))):
            number = int(found[1])
        if number not in _FULL:
            raise
        raise TellmtError(
            "cannot be written",
            place=str(place),
            found=f"{os.strerror(number)}{_free(place)}",
            valid="make room and give the same command again; what was saved before is kept",
        ) from None


def _free(place: Path) -> str:
    with suppress(OSError):
        there = next(p for p in (place, *place.absolute().parents) if p.exists())
        return f", {shutil.disk_usage(there).free / 1e6:,.1f} MB free"
    return ""


def _rendered(body: dict[str, Any]) -> bytes:
    """The manifest's bytes, with the hash of all the rest in them. Equal contents are equal bytes."""
    plain = json.loads(json.dumps(body))
    own = sha256_bytes(json.dumps(plain, sort_keys=True).encode())
    return json.dumps({**plain, "sha256": own}, sort_keys=True, indent=1).encode() + b"\n"


def save_as(path: Path, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
    """Write the state after `step` steps as the directory `path`, in place of what it held. Raises TellmtError when the disk is full."""
    from safetensors.torch import save_file

    with room(path), atomic_dir(path) as aside:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, aside / TENSORS)
        body = {"format": FORMAT, "step": step, "files": {TENSORS: sha256_file(aside / TENSORS)}, "progress": progress}
        (aside / MANIFEST).write_bytes(_rendered(body))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint `path`, every byte of both files verified. Raises Damaged."""
    try:
        raw = (path / MANIFEST).read_bytes()
        manifest: dict[str, Any] = json.loads(raw)
        if raw != _rendered({k: v for k, v in manifest.items() if k != "sha256"}):
            raise ValueError("the manifest's bytes have changed")
        if manifest["format"] != FORMAT or not isinstance(manifest["step"], int) or not isinstance(manifest["progress"], dict):
            raise ValueError(f"not a checkpoint of format {FORMAT}")
        if sha256_file(path / TENSORS) != manifest["files"][TENSORS]:
            raise ValueError("the tensors' bytes have changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise Damaged("the checkpoint is damaged", place=str(path), found=_reason(e)) from None
    return manifest


def _reason(e: Exception) -> str:
    if isinstance(e, OSError):
        return f"{Path(os.fsdecode(e.filename or '')).name}: {e.strerror}"
    return "the manifest is no JSON" if isinstance(e, json.JSONDecodeError) else str(e)


def read_checkpoint(path: Path) -> State:
    """(step, tensors, progress) of the checkpoint `path`. Raises Damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    manifest = read_manifest(path)
    try:
        return manifest["step"], load_file(path / TENSORS), manifest["progress"]
    except (OSError, SafetensorError) as e:
        raise Damaged("the checkpoint is damaged", place=str(path), found=str(e)) from None


def step_name(step: int) -> str:
    return f"step-{step:08}"


def save(run_dir: Path, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
    """Write the state after `step` steps; only then is all but this checkpoint and the one before it removed."""
    # A checkpoint must not outlive the rows that lead to it when the power fails.
    with suppress(FileNotFoundError), (run_dir / METRICS).open("rb") as f:
        os.fsync(f.fileno())
    save_as(run_dir / step_name(step), step, tensors, progress)
    older = sorted(p for p in run_dir.glob("step-*") if p.name < step_name(step))
    for path in run_dir.glob("step-*"):
        if path.name != step_name(step) and path not in older[-1:]:
            shutil.rmtree(path, ignore_errors=True)


def latest(run_dir: Path) -> State | None:
    """(step, tensors, progress) of the newest checkpoint that verifies. Damaged ones are passed over with a warning, and removed."""
    damaged = 0
    for path in sorted(run_dir.glob("step-*"), reverse=True):
        try:
            state = read_checkpoint(path)
            if path.name != step_name(state[0]):
                raise Damaged("the checkpoint is damaged", found=f"it holds step {state[0]}")
            return state
        except Damaged as e:
            damaged += 1
            say(f"warning: checkpoint {path.name} is damaged and passed over ({e.found})")
            # It would count as one of the two that are kept.
            shutil.rmtree(path, ignore_errors=True)
    if damaged:
        say(f"warning: no checkpoint in {run_dir} verifies; training starts from the beginning")
    return None


def cut_metrics(run_dir: Path, step: int) -> None:
    """Leave in metrics.jsonl one row for each step up to `step`: what follows the checkpoint is trained, and written, again."""
    file = run_dir / METRICS
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return
    kept: dict[int, bytes] = {}
    for line in raw.split(b"\n")[:-1]:
        # A torn row is no JSON, or none that ends in a line break.
        with suppress(ValueError, KeyError, TypeError):
            if 0 < (number := int(json.loads(line)["step"])) <= step:
                kept[number] = line + b"\n"
    rest = b"".join(kept[n] for n in sorted(kept))
    with room(file):
        if raw.startswith(rest):
            # Takes no room and cannot be half done.
            os.truncate(file, len(rest))
        else:
            write_atomic(file, rest)
