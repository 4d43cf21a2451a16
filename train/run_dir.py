"""The directory of a run, `<adapter>.run/`: which run it belongs to, which process works in it, and what stays after the run.

lock            the process that trains here holds it (flock); it has its pid; removed when the process ends well
run.json        the settings of the run, until it has finished: only the same run continues
status.json     stays: state, steps, pair, base, times, and what went wrong
step-*/, best/  checkpoints, until the run has finished
metrics.jsonl   stays
looks.jsonl     stays: the loss of every token at each validation, where that is by loss
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tell.console import say
from tell.errors import RecipeError, TellmtError
from tell.files import write_json
from train.checkpoint import METRICS, report_full_disk

LOCK, RUN, STATUS, BEST = "lock", "run.json", "status.json", "best"
# Seconds to wait for the lock: a process that only asks whether a run is going on holds it for an instant.
_PATIENCE = 1.0
# How tell.files names a partial write of `name`: `.name.new.` or `.name.old.` for directories, `.name.` for files, and eight characters.
_PARTIAL = re.compile(r"\.(?P<name>.+?)(?P<kind>\.new|\.old)?\.[a-z0-9_]{8}")


class Status(BaseModel):
    """What status.json says. `running` is only true while the lock is held: a killed process cannot take it back."""

    # Later versions may say more.
    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["running", "stopped", "failed", "finished"]
    total: int
    pair: str
    base: str
    started: str
    message: str = ""


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read_status(run_dir: Path) -> Status | None:
    """None when there is none or it cannot be read: it is never what a run depends on."""
    try:
        return Status.model_validate(json.loads((run_dir / STATUS).read_bytes()))
    except (OSError, ValueError, ValidationError, RecursionError):
        return None


def _write_status(run_dir: Path, status: Status) -> None:
    value = status.model_dump()
    try:
        write_json(run_dir / STATUS, value)
    except OSError:
        # The disk is full, and that is what is to be said: overwritten in place, a small file needs no more room than it has.
        with suppress(OSError), (run_dir / STATUS).open("r+b") as f:
            f.write(json.dumps(value, sort_keys=True).encode() + b"\n")
            f.truncate()


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the lock of `run_dir`. Raises TellmtError with the pid of the process that holds it already."""
    run_dir.mkdir(parents=True, exist_ok=True)
    lock_fd = _lock(run_dir)
    try:
        # The pid is for people; a full disk must not keep a run from saying so itself.
        with suppress(OSError):
            os.ftruncate(lock_fd, 0)
            os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        (run_dir / LOCK).unlink(missing_ok=True)
        os.close(lock_fd)


def _lock(run_dir: Path) -> int:
    file, until = run_dir / LOCK, time.monotonic() + _PATIENCE
    while True:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder removes its file as it leaves: a lock on that file keeps nobody out.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(file)):
                    return fd
        except BlockingIOError:
            if time.monotonic() > until:
                _, pid = lock_holder(run_dir)
                os.close(fd)
                raise TellmtError(
                    "another process trains here",
                    place=str(run_dir),
                    found=f"pid {pid}" if pid else "its lock is held",
                    valid="wait for it, stop it, or choose another directory with -o",
                ) from None
            time.sleep(0.05)
        except OSError as e:
            say(f"warning: {run_dir} cannot be locked ({e.strerror}); see to it that nothing else trains into it")
            return fd
        os.close(fd)


def lock_holder(run_dir: Path) -> tuple[bool, int | None]:
    """(whether a process trains here, its pid if it is known)."""
    try:
        fd = os.open(run_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False, None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False, None
    except BlockingIOError:
        pid = os.pread(fd, 20, 0).strip()
        return True, int(pid) if pid.isdigit() else None
    except OSError:
        return False, None
    finally:
        os.close(fd)


def clear_partial_writes(folder: Path, only: str | None = None) -> None:
    """Remove partial writes that killed processes left in `folder` (only those of the name `only`, if given), and put back what they had moved away."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        match = _PARTIAL.fullmatch(path.name)
        if not match or (only is not None and match["name"] != only) or (only is not None and not match["kind"]):
            continue
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            continue
        old, place = path / match["name"], folder / match["name"]
        # Killed between moving the old one away and the new one in.
        if match["kind"] == ".old" and old.exists() and not place.exists():
            os.replace(old, place)
        shutil.rmtree(path, ignore_errors=True)


def _checkpoint_paths(run_dir: Path) -> list[Path]:
    return [*run_dir.glob("step-*"), *([run_dir / BEST] if (run_dir / BEST).exists() else [])]


def _changed_settings(run_dir: Path, identity: dict[str, Any]) -> list[str]:
    """The settings that differ from those of the unfinished run in this directory. Raises RecipeError when its record cannot be read."""
    try:
        recorded = json.loads((run_dir / RUN).read_bytes())
        return sorted(k for k in {*recorded, *identity} if recorded.get(k) != identity.get(k))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise RecipeError("the record of an unfinished run is damaged", place=str(run_dir / RUN), valid="--restart to discard that run") from None


def begun_before(run_dir: Path, identity: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether the unfinished run in this directory was begun by an earlier version, to which the run of `identity` had the identity `before`."""
    try:
        recorded = dict(json.loads((run_dir / RUN).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return False
    return any(recorded.get(k) == before.get(k) for k in {*identity, *before} if identity.get(k) != before.get(k))


def claim(run_dir: Path, identity: dict[str, Any], restart: bool, force: bool = False) -> bool:
    """Make `run_dir` this run's. Returns whether it was before; `force` discards another run's checkpoints, `restart` its own too.

    Raises RecipeError naming what changed when it holds checkpoints of another run.
    """
    if not restart and (run_dir / RUN).exists():
        changed = _changed_settings(run_dir, identity)
        if not changed:
            return True
        if not force:
            raise RecipeError(
                "this directory holds an unfinished run with other settings",
                place=str(run_dir),
                found=f"changed: {', '.join(changed)}",
                valid="the same settings, or --restart to discard it",
            )
    # Without run.json nobody knows which run these checkpoints belong to. Files that no run wrote stay.
    for name in (RUN, STATUS, METRICS, "non-finite.json", "training.png"):
        (run_dir / name).unlink(missing_ok=True)
    for path in _checkpoint_paths(run_dir):
        shutil.rmtree(path, ignore_errors=True)
    write_json(run_dir / RUN, identity)
    return False


def _finish(run_dir: Path, status: Status) -> None:
    # In this order: without run.json the checkpoints belong to no run, and status.json says finished only when they are gone.
    (run_dir / RUN).unlink(missing_ok=True)
    for path in _checkpoint_paths(run_dir):
        shutil.rmtree(path, ignore_errors=True)
    _write_status(run_dir, status)


@contextmanager
def run_session(out: Path, run_dir: Path, identity: dict[str, Any], status: Status, restart: bool, force: bool) -> Iterator[None]:
    """The lock of a run for as long as it works. status.json has the state however the run ends; a finished run leaves only that and its metrics."""
    with report_full_disk(run_dir), locked(run_dir):
        clear_partial_writes(run_dir)
        clear_partial_writes(out.parent, only=out.name)
        if claim(run_dir, identity, restart, force) and (old := read_status(run_dir)):
            status = status.model_copy(update={"started": old.started})
        _write_status(run_dir, status)
        try:
            with report_full_disk(run_dir):
                yield
        except BaseException as e:
            # Signals end a run with 128 and their number.
            stopped = isinstance(e, KeyboardInterrupt) or getattr(e, "exit_code", 0) > 128
            reason = "" if isinstance(e, KeyboardInterrupt) else (str(e).strip().split("\n")[0] or type(e).__name__)
            _write_status(run_dir, status.model_copy(update={"state": "stopped" if stopped else "failed", "message": reason[:1000]}))
            raise
        _finish(run_dir, status.model_copy(update={"state": "finished"}))


def finish_killed_run(out: Path, run_dir: Path, identity: dict[str, Any], status: Status) -> None:
    """Clean up after a run that wrote its adapter and was killed before it had finished; called when the adapter exists already."""
    old_status = read_status(run_dir)
    if not run_dir.is_dir() or (old_status and old_status.state == "finished" and not (run_dir / RUN).exists() and not (run_dir / LOCK).exists()):
        return
    with suppress(TellmtError, OSError), locked(run_dir):
        if (run_dir / RUN).exists() and _changed_settings(run_dir, identity):
            return
        clear_partial_writes(run_dir)
        clear_partial_writes(out.parent, only=out.name)
        _finish(run_dir, status.model_copy(update={"started": old_status.started if old_status else status.started, "state": "finished"}))
