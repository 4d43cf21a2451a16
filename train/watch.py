"""What a person sees of a run while it lasts: a progress bar, or a line now and then in a log, and metrics.jsonl for good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from tell.console import progress, say
from train.config import Recipe


class Watch:
    """Follows a run of `total` steps from step `first`; a context manager. `step` is called once after each optimiser step."""

    def __init__(self, run_dir: Path, recipe: Recipe, total: int, first: int, dtype: str):
        self.run_dir, self.total = run_dir, total
        self._drawn = progress(*_columns())
        self._first = first
        self._dtype = dtype

    def __enter__(self) -> Self:
        self._metrics = (self.run_dir / "metrics.jsonl").open("a", encoding="utf-8")
        self._drawn.start()
        self._bar = self._drawn.add_task(f"training in {self._dtype}", total=self.total, completed=self._first, loss="-", speed="-", share="-")
        return self

    def __exit__(self, *error: object) -> None:
        self._drawn.stop()
        self._metrics.close()

    def step(self, row: dict[str, Any], mean: float, task_share: float) -> None:
        """`row` is the step's line of metrics.jsonl: step (from 1), loss, learning_rate, gradient_norm, tokens and seconds since the run began."""
        self._metrics.write(json.dumps(row) + "\n")
        self._metrics.flush()
        speed = row["tokens"] / max(1e-9, row["seconds"])
        self._drawn.update(self._bar, completed=row["step"], loss=f"{mean:.3f}", speed=f"{speed:,.0f}", share=f"{task_share:.0%}")
        if self._drawn.disable and row["step"] % max(1, self.total // 10) == 0:
            left = (self.total - row["step"]) * row["seconds"] / row["step"]
            say(f"step {row['step']:,}/{self.total:,}: loss {mean:.3f}, {speed:,.0f} tokens/s, {left / 60:.1f} min left")


def _columns() -> tuple[Any, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s  task {task.fields[share]}"),
        TimeRemainingColumn(),
    )
