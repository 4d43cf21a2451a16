"""Conversion for ctranslate2 in the process of a test."""

from __future__ import annotations

from pathlib import Path

from serve.engines.ct2.convert import Conversion, run_job


async def converted_here(conversion: Conversion) -> Path:
    """`convert_model` without a process of its own, which would load torch again."""
    if not conversion.done():
        run_job({**conversion.job(), "threads": 1})
    return conversion.directory
