"""Experiment trackers beside metrics.jsonl: TensorBoard, MLflow or W&B, through accelerate.

Writes to the run's directory: `tensorboard/`, `mlflow/` and `wandb/` unless their own environment variables point elsewhere, and trackers.json,
from which a resumed run continues its log. A tracker that fails during a run is left out with a warning.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.console import say
from tell.errors import MissingExtra, TellmtError
from tell.extras import installed, need
from tell.files import write_json
from train.config import Recipe

IDS = "trackers.json"
# The logged keys of a row of metrics.jsonl, and the speed of the last steps.
_LOGGED = ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "dev_chrf", "dev_nats")


def require_installed(names: Sequence[str]) -> None:
    """Raises MissingExtra when a tracker that the recipe asks for is not installed."""
    for name in names:
        if not installed(name):
            raise MissingExtra(f"report_to asks for {name}, which is not installed", place="[train]", valid=f"run: pip install {name}; or leave {name} out")
    if names:
        need("accelerate", "train")


class Trackers:
    """The open trackers of one run, which continue after step `first`. Raises TellmtError when one cannot be opened."""

    def __init__(self, run_dir: Path, recipe: Recipe, title: str, first: int):
        self._trackers: dict[str, Any] = {}
        names = recipe.train.report_to
        require_installed(names)
        if not names:
            return
        import torch
        from accelerate import PartialState

        # The trackers read from it which process writes; with several processes it exists already.
        PartialState(cpu=not torch.cuda.is_available())
        ids = _ids(run_dir) if first else {}
        for name in names:
            try:
                self._trackers[name] = tracker = _tracker(name, run_dir, title, first, ids)
                tracker.start()
                if name == "mlflow":
                    ids[name] = tracker.tracker.info.run_id
                if not first:
                    tracker.store_init_configuration(_flat(recipe.model_dump(mode="json")))
            except Exception as e:  # whatever a program that is not ours raises
                self.close()
                raise TellmtError("a tracker cannot be opened", place=f"[train] report_to, {name}", found=_first_line(e), valid="leave it out") from None
        write_json(run_dir / IDS, ids)

    def log(self, row: dict[str, Any]) -> None:
        values = {k: row[k] for k in _LOGGED if row.get(k) is not None}
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.log(values, step=row["step"])
            except Exception as e:  # a full disk or a lost server must not cost the run
                say(f"warning: {name} is left out from step {row['step']:,} on ({_first_line(e)})")
                del self._trackers[name]

    def close(self) -> None:
        for name, tracker in self._trackers.items():
            try:
                tracker.finish()
            except Exception as e:  # the run is over either way
                say(f"warning: {name} could not be closed ({_first_line(e)})")
        self._trackers.clear()


def _tracker(name: str, run_dir: Path, title: str, first: int, ids: dict[str, str]) -> Any:
    from accelerate import tracking

    if name == "tensorboard":
        # The steps after the checkpoint are logged again: readers drop what an earlier attempt logged of them.
        return tracking.TensorBoardTracker("tensorboard", logging_dir=str(run_dir), purge_step=first + 1)
    if name == "mlflow":
        place = run_dir.absolute() / "mlflow"
        artifacts = None
        if "MLFLOW_TRACKING_URI" not in os.environ:
            place.mkdir(exist_ok=True)
            os.environ["MLFLOW_TRACKING_URI"], artifacts = f"sqlite:///{place / 'mlflow.db'}", (place / "artifacts").as_uri()
        return tracking.MLflowTracker("tellmt", logging_dir=artifacts, run_id=ids.get(name), run_name=title)
    ids.setdefault(name, uuid.uuid4().hex)
    # Nothing is sent unless the user asks for it: offline files can be sent later with `wandb sync`.
    mode = os.environ.get("WANDB_MODE", "offline")
    return tracking.WandBTracker("tellmt", name=title, id=ids[name], resume="allow", dir=str(run_dir), mode=mode)


def _ids(run_dir: Path) -> dict[str, str]:
    try:
        stored = json.loads((run_dir / IDS).read_bytes())
        return {k: v for k, v in stored.items() if isinstance(v, str)}
    except (OSError, ValueError, AttributeError):
        return {}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables as dotted keys and lists as JSON: what every tracker takes."""
    flat: dict[str, Any] = {}
    for key, v in value.items():
        if isinstance(v, dict):
            flat |= _flat(v, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = v if isinstance(v, bool | int | float | str) else json.dumps(v)
    return flat


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:200]
