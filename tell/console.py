"""The output of commands: messages and progress on stderr, results on stdout, as text or (with --json) as one JSON object."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Collection
from typing import Any

_json = False


def use_json(on: bool) -> None:
    global _json
    _json = on


def json_mode() -> bool:
    return _json


def _console(stderr: bool) -> Any:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One line for the person watching: on stderr, so that it never mixes with results. Plain text, no markup.

    Never raises: a closed terminal or a full disk of the log is no reason to stop working.
    """
    with contextlib.suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)


def emit(result: dict[str, Any], human: Callable[[], Any] | None = None) -> None:
    """A command's result: the JSON object in --json mode, else what `human` returns (text or a rich renderable) on stdout."""
    if _json:
        print(json.dumps(result, ensure_ascii=False, sort_keys=True))
    elif human is not None:
        shown = human()
        if shown is not None:
            print(shown) if isinstance(shown, str) else _console(stderr=False).print(shown)


def table(title: str, columns: list[str], rows: list[list[Any]], whole: Collection[str] = ()) -> Any:
    """A rich table; numbers to the right. The columns in `whole` break no lines, since a reader copies what stands in them; the others then break earlier."""
    from rich.table import Table
    from rich.text import Text

    from tell.errors import printable

    rich_table = Table(title=title or None, title_justify="left")
    for i, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(r[i], (int, float)) for r in rows)
        rich_table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=name in whole)
    for row in rows:
        # As text: what stands in a cell may be a stranger's, and is neither markup nor commands for the terminal.
        rich_table.add_row(*(Text(printable(f"{c:,}" if isinstance(c, int) else str(c))) for c in row))
    return rich_table


def progress(*columns: Any) -> Any:
    """A rich progress bar on stderr, silent where stderr is not a terminal (nothing is drawn over a log)."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    counted = TextColumn("{task.completed:,}/{task.total:,}")
    shown = columns or (TextColumn("{task.description}"), BarColumn(), counted, TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*shown, console=_console(stderr=True), disable=not sys.stderr.isatty())


def clock(seconds: float) -> str:
    """A length of time as people say it: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
