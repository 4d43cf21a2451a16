"""`tellmt runs`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tell.command import Command
from tell.console import emit, say, table

if TYPE_CHECKING:
    from train.run_list import Run


@click.command(cls=Command)
@click.argument("directory", type=click.Path(path_type=Path), metavar="[DIR]", default=Path("."))
def runs(directory: Path) -> None:
    """List the training runs below DIR with their state and scores."""
    from tell.errors import BadInput
    from train.run_list import DEPTH, find_runs

    if not directory.is_dir():
        raise BadInput("no such directory", place=str(directory), valid="one that runs were trained in")
    run_list = find_runs(directory)
    if not run_list:
        say(f"no runs in {directory}, nor {DEPTH} directories deep below it")
    emit({"directory": str(directory), "runs": [dataclasses.asdict(r) for r in run_list]}, lambda: _table(run_list) if run_list else None)


def _table(run_list: list[Run]) -> Any:
    states = Counter[str](r.state for r in run_list)
    title = f"{len(run_list):,} runs: {', '.join(f'{n:,} {state}' for state, n in sorted(states.items()))}"
    rows = [["\n".join(filter(None, cell)) for cell in (_run_cell(r), _state_cell(r), _step_cell(r), _score_cell(r))] for r in run_list]
    return table(title, ["run", "state", "steps", "scores (signatures with --json)"], rows)


def _run_cell(r: Run) -> list[str]:
    return [r.path, " ".join(x for x in (r.pair, r.base) if x)]


def _state_cell(r: Run) -> list[str]:
    state = f"running, pid {r.pid}" if r.state == "running" and r.pid else r.state
    when = [f"{word} {at.replace('T', ' ').removesuffix('Z')}" for word, at in (("from", r.started), ("to", r.updated)) if at]
    return [f"{state}: {r.message}" if r.message else state, *when]


def _step_cell(r: Run) -> list[str]:
    steps = "" if r.step is None else f"{r.step:,} of {r.total:,}" if r.total else f"{r.step:,}"
    loss = "" if r.loss is None else f"loss {r.loss:.3f}"
    return [steps, loss, "" if r.tokens_per_second is None else f"{r.tokens_per_second:,.0f} tokens/s"]


def _score_cell(r: Run) -> list[str]:
    dev = "" if r.best_dev_chrf is None else f"best dev chrF2 {r.best_dev_chrf:.2f}"
    dev = dev if r.best_dev_nats is None else f"best dev loss {r.best_dev_nats:.4f}"
    return [dev, *(f"{s['name']}: chrF2 {s['chrf']:.1f}, BLEU {s['bleu']:.1f}{'' if s.get('passed', True) else ', refused by the gate'}" for s in r.scores)]
