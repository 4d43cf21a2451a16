"""The directory of a run, `<adapter>.run/`: whose it is, who works in it, and what is left when the work ends.

lock            held (flock) by the one process that trains here, with its pid; gone when that ends well
run.json        what the run is, until it has finished: it is continued as itself or not at all
status.json     for good: state, steps, pair, base, when, and what went wrong
step-*/, best/  checkpoints, until it has finished
metrics.jsonl   for good
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
from train.checkpoint import METRICS, room

LOCK, RUN, STATUS, BEST = "lock", "run.json", "status.json", "best"
# Whoever only looks whether a run is going on holds the lock for an instant.
_PATIENCE = 1.0
# How tell.files names what is on its way to `name`: `.name.new.` or `.name.old.` for directories, `.name.` for files, and eight characters.
_ASIDE = re.compile(r"\.(?P<name>.+?)(?P<kind>\.new|\.old)?\.[a-z0-9_]{8}")


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
    """This process alone in `run_dir`. Raises TellmtError with the pid of the one that is there already."""
    run_dir.mkdir(parents=True, exist_ok=True)
    fd = _lock(run_dir)
    try:
        # The pid is for people; a full disk must not keep a run from saying so itself.
        with suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        (run_dir / LOCK).unlink(missing_ok=True)
        os.close(fd)


def _lock(run_dir: Path) -> int:
    file, until = run_dir / LOCK, time.monotonic() + _PATIENCE
    while True:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before takes its file away as it leaves: a lock on that one keeps nobody out.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(file)):
                    return fd
        except BlockingIOError:
            if time.monotonic() > until:
                _, pid = holder(run_dir)
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


def holder(run_dir: Path) -> tuple[bool, int | None]:
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


def clear_asides(folder: Path, only: str | None = None) -> None:
    """Remove what killed writers left on its way in `folder` (only to the name `only`, if given); what they had moved away is put back."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        found = _ASIDE.fullmatch(path.name)
        if not found or (only is not None and found["name"] != only) or (only is not None and not found["kind"]):
            continue
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            continue
        old, place = path / found["name"], folder / found["name"]
        # Killed between moving the old one away and the new one in.
        if found["kind"] == ".old" and old.exists() and not place.exists():
            os.replace(old, place)
        shutil.rmtree(path, ignore_errors=True)


def _checkpoints(run_dir: Path) -> list[Path]:
    return [*run_dir.glob("step-*"), *([run_dir / BEST] if (run_dir / BEST).exists() else [])]


def _same(run_dir: Path, identity: dict[str, Any]) -> list[str]:
    """The names of what differs from the unfinished run that lies here. Raises RecipeError when what it is cannot be read."""
    try:
        old = json.loads((run_dir / RUN).read_bytes())
        return sorted(k for k in {*old, *identity} if old.get(k) != identity.get(k))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise RecipeError("the record of an unfinished run is damaged", place=str(run_dir / RUN), valid="--restart to discard that run") from None


def claim(run_dir: Path, identity: dict[str, Any], restart: bool, force: bool = False) -> bool:
    """Make `run_dir` this run's. Returns whether it was before; `force` discards another run's checkpoints, `restart` its own too.

    Raises RecipeError naming what changed when it holds checkpoints of another run.
    """
    if not restart and (run_dir / RUN).exists():
        changed = _same(run_dir, identity)
        if not changed:
            return True
        if not force:
            raise RecipeError(
                "an unfinished run with other settings lies here",
                place=str(run_dir),
                found=f"changed: {', '.join(changed)}",
                valid="the same settings, or --restart to discard it",
            )
    # Without run.json nobody knows whose checkpoints these are. What is not ours stays.
    for name in (RUN, STATUS, METRICS, "non-finite.json", "training.png"):
        (run_dir / name).unlink(missing_ok=True)
    for path in _checkpoints(run_dir):
        shutil.rmtree(path, ignore_errors=True)
    write_json(run_dir / RUN, identity)
    return False


def _finish(run_dir: Path, status: Status) -> None:
    # In this order: from here on the checkpoints are nobody's, and status.json says so when they are gone.
    (run_dir / RUN).unlink(missing_ok=True)
    for path in _checkpoints(run_dir):
        shutil.rmtree(path, ignore_errors=True)
    _write_status(run_dir, status)


@contextmanager
def session(out: Path, run_dir: Path, identity: dict[str, Any], status: Status, restart: bool, force: bool) -> Iterator[None]:
    """The work of a run, under its lock: its state is in status.json whatever happens, and nothing but that and its metrics is left of it when it is done."""
    with room(run_dir), locked(run_dir):
        clear_asides(run_dir)
        clear_asides(out.parent, only=out.name)
        if claim(run_dir, identity, restart, force) and (old := read_status(run_dir)):
            status = status.model_copy(update={"started": old.started})
        _write_status(run_dir, status)
        try:
            with room(run_dir):
                yield
        except BaseException as e:
            # Signals end a run with 128 and their number.
            stopped = isinstance(e, KeyboardInterrupt) or getattr(e, "exit_code", 0) > 128
            said = "" if isinstance(e, KeyboardInterrupt) else (str(e).strip().split("\n")[0] or type(e).__name__)
            _write_status(run_dir, status.model_copy(update={"state": "stopped" if stopped else "failed", "message": said[:1000]}))
            raise
        _finish(run_dir, status.model_copy(update={"state": "finished"}))


def tidy(out: Path, run_dir: Path, identity: dict[str, Any], status: Status) -> None:
    """What a run that wrote its adapter, and was killed then, did not come to: for when the adapter is found to be there."""
    known = read_status(run_dir)
    if not run_dir.is_dir() or (known and known.state == "finished" and not (run_dir / RUN).exists() and not (run_dir / LOCK).exists()):
        return
    with suppress(TellmtError, OSError), locked(run_dir):
        if (run_dir / RUN).exists() and _same(run_dir, identity):
            return
        clear_asides(run_dir)
        clear_asides(out.parent, only=out.name)
        _finish(run_dir, status.model_copy(update={"started": known.started if known else status.started, "state": "finished"}))
