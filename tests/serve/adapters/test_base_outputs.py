"""What the bare base made of a check's prompts is kept for the next start, and for nothing that would compute it otherwise."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from serve.adapters import base_outputs as kept
from tell.model.base import Base
from tell.model.engine import EngineTraits, Generation, Prompt

PROMPTS = [Prompt((2, 5, 6), 8, True), Prompt((2, 7), 8, True)]


class Engine:
    traits = EngineTraits(model_folder="ct2")
    name, threads = "ct2", 2

    def __init__(self, base: Base):
        self.base, self.asked = base, 0

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        assert adapter_id is None
        self.asked += 1
        return [Generation(f"{p.ids}", 1, "stop") for p in prompts]


@pytest.fixture
def engine(tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("TELLMT_CACHE", str(tmp_path))
    monkeypatch.setattr(kept, "engine_version", lambda name, base: "1")
    return Engine(tiny)


def outputs(engine: Engine, prompts: list[Prompt] = PROMPTS) -> list[str]:
    return asyncio.run(kept.base_outputs(engine, prompts))  # type: ignore[arg-type]


def test_the_base_is_asked_once_by_all_processes(engine: Engine, tiny: Base) -> None:
    assert outputs(engine) == outputs(engine) == outputs(Engine(tiny)) == ["(2, 5, 6)", "(2, 7)"] and engine.asked == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda e, m: setattr(e, "threads", 1),
        lambda e, m: setattr(e, "base", e.base.model_copy(update={"revision": "f" * 64})),
        lambda e, m: m.setattr(kept, "engine_version", lambda name, base: "2"),
        lambda e, m: m.setattr(kept, "processor", lambda: "another"),
    ],
)
def test_whatever_would_compute_it_otherwise_asks_again(engine: Engine, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs(engine)
    change(engine, monkeypatch)
    outputs(engine)
    assert engine.asked == 2


def test_other_prompts_ask_again(engine: Engine) -> None:
    outputs(engine)
    outputs(engine, [PROMPTS[0], dataclasses.replace(PROMPTS[1], max_tokens=9)])
    outputs(engine, PROMPTS[:1])
    assert engine.asked == 3


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"outputs": ["one"]}', b'{"outputs": [1, 2]}', b"\xff"])
def test_a_file_that_holds_something_else_is_made_again(engine: Engine, tmp_path: Path, raw: bytes) -> None:
    first = outputs(engine)
    (file,) = (tmp_path / kept.FOLDER).iterdir()
    file.write_bytes(raw)
    assert outputs(engine) == first and outputs(engine) == first and engine.asked == 2


def test_engines_that_hold_the_base_anyway_keep_nothing(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "traits", EngineTraits(), raising=False)
    outputs(engine)
    outputs(engine)
    assert engine.asked == 2 and not (tmp_path / kept.FOLDER).exists()


def test_a_cache_that_cannot_be_written(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / kept.FOLDER).write_text("")
    assert outputs(engine) == ["(2, 5, 6)", "(2, 7)"]


def test_the_newest_files_stay(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    for n in range(4):
        outputs(engine, [Prompt((n,), 8, True)])
    assert len(list((tmp_path / kept.FOLDER).iterdir())) == 2
