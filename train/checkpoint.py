"""Checkpoints: a directory such as `<adapter>.run/step-00000050/` with the optimiser's tensors and a manifest, whole or absent.

It is written aside, flushed and renamed. The manifest is written last; it holds the hash of the tensors and of itself, and equal contents have
equal bytes, so any altered or missing byte is detected. metrics.jsonl beside the checkpoints is truncated to the step that a run resumes from.
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

CheckpointState = tuple[int, dict[str, Any], dict[str, Any]]


class DamagedCheckpoint(TellmtError):
    """The files of a checkpoint are not what was written."""


@contextmanager
def report_full_disk(place: Path) -> Iterator[None]:
    """Turn the error of a full disk into a TellmtError that names `place`, which is being written. Other errors pass."""
    try:
        yield
    except Exception as e:
        number = e.errno if isinstance(e, OSError) else None
        # safetensors has an exception of its own, with the number in its text.
        if type(e).__module__.startswith("safetensors") and (number_in_text := re.search(r"os error (\d+)", str(e))):
            number = int(number_in_text[1])
        if number not in _FULL:
            raise
        raise TellmtError(
            "cannot be written",
            place=str(place),
            found=f"{os.strerror(number)}{_free_space(place)}",
            valid="free some space and run the same command again; earlier checkpoints are kept",
        ) from None


def _free_space(place: Path) -> str:
    with suppress(OSError):
        existing = next(p for p in (place, *place.absolute().parents) if p.exists())
        return f", {shutil.disk_usage(existing).free / 1e6:,.1f} MB free"
    return ""


def _manifest_bytes(body: dict[str, Any]) -> bytes:
    """The manifest's bytes, with the hash of all the rest in them. Equal contents are equal bytes."""
    plain = json.loads(json.dumps(body))
    digest = sha256_bytes(json.dumps(plain, sort_keys=True).encode())
    return json.dumps({**plain, "sha256": digest}, sort_keys=True, indent=1).encode() + b"\n"


def write_checkpoint(path: Path, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
    """Write the state after `step` steps to the directory `path`, and replace what it held. Raises TellmtError when the disk is full."""
    from safetensors.torch import save_file

    with report_full_disk(path), atomic_dir(path) as aside:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, aside / TENSORS)
        body = {"format": FORMAT, "step": step, "files": {TENSORS: sha256_file(aside / TENSORS)}, "progress": progress}
        (aside / MANIFEST).write_bytes(_manifest_bytes(body))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint `path`, every byte of both files verified. Raises Damaged."""
    try:
        raw = (path / MANIFEST).read_bytes()
        manifest: dict[str, Any] = json.loads(raw)
        if raw != _manifest_bytes({k: v for k, v in manifest.items() if k != "sha256"}):
            raise ValueError("the manifest's bytes have changed")
        if manifest["format"] != FORMAT or not isinstance(manifest["step"], int) or not isinstance(manifest["progress"], dict):
            raise ValueError(f"not a checkpoint of format {FORMAT}")
        if sha256_file(path / TENSORS) != manifest["files"][TENSORS]:
            raise ValueError("the tensors' bytes have changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise DamagedCheckpoint("the checkpoint is damaged", place=str(path), found=_reason(e)) from None
    return manifest


def _reason(e: Exception) -> str:
    if isinstance(e, OSError):
        return f"{Path(os.fsdecode(e.filename or '')).name}: {e.strerror}"
    return "the manifest is no JSON" if isinstance(e, json.JSONDecodeError) else str(e)


def read_checkpoint(path: Path) -> CheckpointState:
    """(step, tensors, progress) of the checkpoint `path`. Raises Damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    manifest = read_manifest(path)
    try:
        return manifest["step"], load_file(path / TENSORS), manifest["progress"]
    except (OSError, SafetensorError) as e:
        raise DamagedCheckpoint("the checkpoint is damaged", place=str(path), found=str(e)) from None


def step_name(step: int) -> str:
    return f"step-{step:08}"


def save_checkpoint(run_dir: Path, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
    """Write the state after `step` steps, then remove all but this checkpoint and the one before it."""
    # A checkpoint must not outlive the rows that lead to it when the power fails.
    with suppress(FileNotFoundError), (run_dir / METRICS).open("rb") as f:
        os.fsync(f.fileno())
    write_checkpoint(run_dir / step_name(step), step, tensors, progress)
    older = sorted(p for p in run_dir.glob("step-*") if p.name < step_name(step))
    for path in run_dir.glob("step-*"):
        if path.name != step_name(step) and path not in older[-1:]:
            shutil.rmtree(path, ignore_errors=True)


def latest_checkpoint(run_dir: Path) -> CheckpointState | None:
    """(step, tensors, progress) of the newest checkpoint that verifies; None without one. Damaged checkpoints are removed with a warning."""
    damaged = 0
    for path in sorted(run_dir.glob("step-*"), reverse=True):
        try:
            state = read_checkpoint(path)
            if path.name != step_name(state[0]):
                raise DamagedCheckpoint("the checkpoint is damaged", found=f"it holds step {state[0]}")
            return state
        except DamagedCheckpoint as e:
            damaged += 1
            say(f"warning: checkpoint {path.name} is damaged and not used ({e.found})")
            # It would count as one of the two that are kept.
            shutil.rmtree(path, ignore_errors=True)
    if damaged:
        say(f"warning: no checkpoint in {run_dir} verifies; training starts from the beginning")
    return None


def truncate_metrics(run_dir: Path, step: int) -> None:
    """Keep in metrics.jsonl one row for each step up to `step`: the steps after the checkpoint are trained, and written, again."""
    file = run_dir / METRICS
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return
    rows: dict[int, bytes] = {}
    for line in raw.split(b"\n")[:-1]:
        # A torn row is no JSON, or none that ends in a line break.
        with suppress(ValueError, KeyError, TypeError):
            if 0 < (number := int(json.loads(line)["step"])) <= step:
                rows[number] = line + b"\n"
    kept = b"".join(rows[n] for n in sorted(rows))
    with report_full_disk(file):
        if raw.startswith(kept):
            # Needs no space and is atomic.
            os.truncate(file, len(kept))
        else:
            write_atomic(file, kept)
