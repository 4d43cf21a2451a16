"""Reports a run's progress: a progress bar on a terminal, or lines in a log; and metrics.jsonl and training.png, which stay."""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tell.console import progress, say
from train.checkpoint import METRICS, report_full_disk, truncate_metrics
from train.config import Recipe
from train.plot import draw
from train.trackers import Trackers

# The reported speed is the mean over this many steps.
SPEED_STEPS = 20


class RunProgress:
    """Follows a run of `total` steps from step `first`; a context manager. `step` is called once after each optimiser step. `title` says what is trained."""

    def __init__(self, run_dir: Path, recipe: Recipe, total: int, first: int, dtype: str, title: str = ""):
        self.run_dir, self.total, self.title = run_dir, total, title
        self._bar = progress(*_columns())
        self._recipe, self._first = recipe, first
        self._dtype = dtype
        # Tokens and seconds after each of the last steps.
        self._recent: deque[tuple[int, float]] = deque(maxlen=SPEED_STEPS + 1)

    def __enter__(self) -> Self:
        truncate_metrics(self.run_dir, self._first)
        self._trackers = Trackers(self.run_dir, self._recipe, self.title, self._first)
        self._metrics = (self.run_dir / METRICS).open("a", encoding="utf-8")
        self._bar.start()
        self._task = self._bar.add_task(f"training in {self._dtype}", total=self.total, completed=self._first, loss="-", speed="-", share="-", dev="")
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
        # A full disk was reported when the row was written.
        with suppress(OSError):
            self._metrics.close()
        self._trackers.close()
        try:
            draw(self.run_dir, self.title)
        except Exception as e:  # a picture is not worth a run, whatever is wrong with matplotlib or the disk
            say(f"warning: no picture of the run ({type(e).__name__}: {e})")

    def step(self, row: dict[str, Any], mean: float, task_share: float) -> None:
        """`row` is the step's line of metrics.jsonl: step (from 1), loss, learning_rate, gradient_norm, tokens and seconds since the run began;
        and dev_chrf or dev_nats where the dev split was looked at. The seconds of looks are left out.
        """
        with report_full_disk(self.run_dir / METRICS):
            self._metrics.write(json.dumps(row) + "\n")
            self._metrics.flush()
        self._recent.append((row["tokens"], row["seconds"]))
        speed = self._speed()
        self._trackers.log({**row, "tokens_per_second": speed})
        speed_text = f"{speed:,.0f}" if speed is not None else "-"
        self._bar.update(self._task, completed=row["step"], loss=f"{mean:.3f}", speed=speed_text, share=f"{task_share:.0%}")
        if "dev_chrf" in row:
            self._bar.update(self._task, dev=f"  dev chrF2 {row['dev_chrf']:.1f}")
            say(f"step {row['step']:,}/{self.total:,}: dev chrF2 {row['dev_chrf']:.2f}")
        if "dev_nats" in row:
            self._bar.update(self._task, dev=f"  dev loss {row['dev_nats']:.3f}")
            say(f"step {row['step']:,}/{self.total:,}: dev loss {row['dev_nats']:.4f}")
        if self._bar.disable and row["step"] % max(1, self.total // 10) == 0:
            seconds_left = (self.total - row["step"]) * row["seconds"] / row["step"]
            say(f"step {row['step']:,}/{self.total:,}: loss {mean:.3f}, {speed_text} tokens/s, {task_share:.0%} task, {seconds_left / 60:.1f} min left")

    def _speed(self) -> float | None:
        """Tokens a second over the last steps; None before there are two, unless the run began with the first."""
        (tokens, seconds), (now_tokens, now_seconds) = self._recent[0], self._recent[-1]
        if len(self._recent) == 1:
            return now_tokens / max(1e-9, now_seconds) if self._first == 0 else None
        return (now_tokens - tokens) / max(1e-9, now_seconds - seconds)


def _columns() -> tuple[Any, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s  task {task.fields[share]}{task.fields[dev]}"),
        TimeRemainingColumn(),
    )
