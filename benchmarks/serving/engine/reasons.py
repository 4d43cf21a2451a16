"""Why a figure of `engine_bench.py` is below its aim, by the figure's title: said beside it."""

from __future__ import annotations

REASONS: dict[str, str] = {}
