"""What the bare base makes of the prompts by which a loaded adapter is checked (serve.adapters.load_check), kept for the next start.

Writes `<cache>/base-outputs/<key>.json`. For engines that hold a base as one model more beside those of the adapters: a service whose adapters have not changed
starts without it. The adapter itself is asked each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tell.files import key_of, write_json
from tell.machine import cores, processor
from tell.model.engine import Engine, Prompt, engine_version, traits_of
from tell.paths import cache_dir

FOLDER = "base-outputs"
# Files that are kept, the newest: a few kilobytes each.
MOST = 256


def _file(engine: Engine, prompts: Sequence[Prompt]) -> Path | None:
    """Named by all that decides the outputs; how numbers are rounded depends on the processor and its threads. None where nothing is kept."""
    version = engine_version(engine.name, engine.base)
    if not version or not traits_of(engine).model_folder or any(p.sampling for p in prompts):
        return None
    key = {"engine": engine.name, "version": version, "base": engine.base.revision, "processor": processor(), "threads": getattr(engine, "threads", cores())}
    return cache_dir() / FOLDER / f"{key_of({**key, 'prompts': [dataclasses.asdict(p) for p in prompts]})}.json"


def _read(file: Path, count: int) -> list[str] | None:
    try:
        texts = json.loads(file.read_bytes())["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return texts if isinstance(texts, list) and len(texts) == count and all(isinstance(t, str) for t in texts) else None


def _write(file: Path, texts: list[str]) -> None:
    # A cache that cannot be written costs time at the next start and nothing else.
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"outputs": texts})
        for old in sorted(file.parent.glob("*.json"), key=lambda f: f.stat().st_mtime)[:-MOST]:
            old.unlink(missing_ok=True)


async def base_outputs(engine: Engine, prompts: Sequence[Prompt]) -> list[str]:
    """The bare base's output for each prompt, as this engine computes them on this machine."""
    file = await asyncio.to_thread(_file, engine, prompts)
    if file is not None and (kept := await asyncio.to_thread(_read, file, len(prompts))) is not None:
        return kept
    texts = [g.text for g in await engine.generate(prompts, None)]
    if file is not None:
        await asyncio.to_thread(_write, file, texts)
    return texts
