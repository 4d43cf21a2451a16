"""Lists the runs below a directory: reads `<adapter>.run/` directories and the files beside them; writes nothing.

The state of a run comes from its status.json, lock, metrics and checkpoints. Its scores come from the adapter's card, from the gate's verdict,
and from a scores.json beside it that names the same weights. A run that cannot be read has the reason in its line, and the others are listed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from tell.adapter.card import CARD, Card, read_card
from tell.errors import TellmtError
from train.checkpoint import METRICS
from train.run_dir import RUN, STATUS, Status, lock_holder, read_status

# How many levels of directories are searched: a study keeps its runs three levels deep.
DEPTH = 6
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}
_READ_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One line of `tellmt runs`. A value that is not known is None."""

    path: str
    state: Literal["running", "stopped", "failed", "finished", "unreadable"]
    # Why the run failed, stopped or cannot be read.
    message: str = ""
    pid: int | None = None
    pair: str | None = None
    base: str | None = None
    # Steps done: for a stopped run those in its newest checkpoint, else those of the last row of metrics.jsonl.
    step: int | None = None
    total: int | None = None
    loss: float | None = None
    # Over the whole run, in seconds of training.
    tokens_per_second: float | None = None
    started: str | None = None
    updated: str | None = None
    best_dev_chrf: float | None = None
    # Nats per token, where the run validates by loss.
    best_dev_nats: float | None = None
    scores: tuple[dict[str, Any], ...] = ()


def find_runs(root: Path) -> list[Run]:
    """Every run in and below `root`, links not followed."""
    return [read_run(path, root) for path in sorted(_directories(root))]


def _directories(root: Path) -> Iterator[Path]:
    if root.name.endswith(".run"):
        yield root
        return
    for folder, names, _ in os.walk(root, followlinks=False):
        here = Path(folder)
        yield from (here / n for n in names if n.endswith(".run") and not n.startswith(".") and not (here / n).is_symlink())
        deep = len(here.relative_to(root).parts) >= DEPTH
        names[:] = [] if deep else [n for n in names if not n.startswith(".") and not n.endswith(".run") and n not in _SKIPPED]


def read_run(run_dir: Path, root: Path) -> Run:
    name = os.path.relpath(run_dir, root) if run_dir != root else str(run_dir)
    try:
        return _read(run_dir, name)
    except _READ_ERRORS as e:
        return Run(name, "unreadable", message=f"{e.strerror}" if isinstance(e, OSError) else f"damaged ({type(e).__name__}: {e})")


def _read(run_dir: Path, name: str) -> Run:
    names = set(os.listdir(run_dir))
    running, pid = lock_holder(run_dir)
    if not running and not names & {STATUS, RUN, METRICS}:
        return Run(name, "unreadable", message="not a run of tellmt train")
    adapter = run_dir.with_name(run_dir.name.removesuffix(".run"))
    status, card = read_status(run_dir), _card(adapter)
    rows = _metric_rows(run_dir / METRICS)
    last = rows[-1] if rows else {}
    saved = max((int(n[5:]) for n in names if n.startswith("step-") and n[5:].isdigit()), default=0)
    state, message = _state(status, running, names, card)
    seconds = last.get("seconds") or 0
    looks, losses = ([r[key] for r in rows if isinstance(r.get(key), (int, float))] for key in ("dev_chrf", "dev_nats"))
    updated = max((run_dir / n).stat().st_mtime for n in names & {STATUS, RUN, METRICS}) if names & {STATUS, RUN, METRICS} else None
    return Run(
        path=name,
        state=state,
        message=message,
        pid=pid if running else None,
        pair=status.pair if status else card.pair if card else None,
        base=status.base if status else card.base.id if card else None,
        step=last.get("step", 0) if state in ("running", "finished") else saved,
        total=status.total if status else card.training.get("steps") if card and state == "finished" else None,
        loss=last.get("loss"),
        tokens_per_second=round(last["tokens"] / seconds, 1) if seconds else None,
        started=status.started if status else None,
        updated=None if updated is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(updated)),
        best_dev_chrf=max(looks, default=None),
        best_dev_nats=min(losses, default=None),
        # An unfinished run is about to replace the adapter that lies there: those scores are not its own.
        scores=tuple(_scores(adapter, card)) if card and state == "finished" else (),
    )


def _state(status: Status | None, held: bool, names: set[str], card: Card | None) -> tuple[Literal["running", "stopped", "failed", "finished"], str]:
    if held:
        return "running", ""
    if status is None:
        # Runs of versions without status.json, and runs whose status is damaged.
        return ("stopped", "its status.json cannot be read" if STATUS in names else "") if RUN in names or card is None else ("finished", "")
    if status.state == "running":
        return "stopped", "killed"
    return status.state, status.message


def _card(adapter: Path) -> Card | None:
    with suppress(TellmtError, OSError):
        return read_card(adapter) if (adapter / CARD).exists() else None
    return None


def _metric_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl that can be read: the last one of a killed run may be torn."""
    rows = []
    with suppress(FileNotFoundError):
        for line in file.read_bytes().split(b"\n"):
            with suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    rows.append(row)
    return rows


def _scores(adapter: Path, card: Card) -> Iterator[dict[str, Any]]:
    """{"name", "chrf", "bleu", "signatures", "from"} of each test set and of the gate's dev split, each test set once."""
    sources = [(s, "card") for s in card.scores]
    files = [adapter.parent / "scores.json", *sorted(adapter.parent.glob("*/scores.json"))]
    for file in files:
        with suppress(*_READ_ERRORS):
            scores = json.loads(file.read_bytes())
            if scores["adapter"]["weights"] == card.files:
                sources.append((scores, os.path.relpath(file, adapter.parent)))
    seen = set()
    for scores, place in sources:
        with suppress(*_READ_ERRORS):
            line = _score_row(str(scores["name"]), scores["systems"]["adapter"], place)
            if (key := (line["name"], line["chrf"], line["bleu"])) not in seen:
                seen.add(key)
                yield line
    with suppress(*_READ_ERRORS):
        file = adapter.with_name(f"{adapter.name}.verdict.json")
        verdict = card.verdict or json.loads(file.read_bytes())
        if verdict["adapter"]["weights"] == card.files:
            yield {**_score_row("dev", verdict["metrics"]["adapter"], "card" if card.verdict else file.name), "passed": verdict["passed"]}


def _score_row(name: str, system: dict[str, Any], place: str) -> dict[str, Any]:
    chrf, bleu = system["chrf"], system["bleu"]
    signatures = {"chrf": chrf["signature"], "bleu": bleu["signature"]}
    return {"name": name, "chrf": float(chrf["score"]), "bleu": float(bleu["score"]), "signatures": signatures, "from": place}
