"""The cache of converted models: it is bounded, keeps what is in use by any process, and holds nothing half-written, whoever is killed and whatever is full."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from serve.engines.ct2 import model_cache
from serve.engines.ct2.engine import Ct2Engine
from serve.engines.ct2.model_cache import lock_model, prune
from serve.engines.ct2.trial import trial
from tell.adapter.card import open_adapter, weights_of, write_card
from tell.errors import AdapterError, BadInput
from tell.model.base import Base
from tell.model.engine import EngineOptions, Prompt
from tests.conftest import ROOT
from tests.support.serving import until
from tests.support.tiny import make_tiny_adapter

PROMPT = Prompt((2, 300, 301, 302), 8, False)


@pytest.fixture
def fresh(tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """The tiny base with a cache where nothing is converted yet."""
    monkeypatch.setenv("TELLMT_CACHE", str(tmp_path / "cache"))
    return tiny


def folder() -> Path:
    return Path(os.environ["TELLMT_CACHE"]) / "ct2"


def models() -> set[str]:
    """The last parts of the names of what is there, left-overs included."""
    return {p.name.rpartition("-")[2] if p.is_dir() else p.name for p in folder().iterdir() if p.name != ".prune.lock"}


def run(base: Base, work: Callable[[Ct2Engine], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        engine = Ct2Engine(EngineOptions(base=base, max_rank=8, threads=1))
        await engine.start()
        try:
            return await asyncio.wait_for(work(engine), 120)
        finally:
            await engine.close()

    return asyncio.run(go())


def fake(name: str, size: int, used: float) -> Path:
    path = folder() / name
    path.mkdir(parents=True)
    (path / "model.bin").write_bytes(b"x" * size)
    (path / model_cache.MARK).write_text("")
    os.utime(path / model_cache.MARK, (used, used))
    return path


def test_what_was_not_used_for_longest_goes_first_and_what_is_in_use_stays(fresh: Base) -> None:
    now = time.time()
    for name, ago in (("m-a", 400), ("m-b", 300), ("m-c", 200), ("m-d", 100)):
        fake(name, 1000, now - ago)
    assert prune(folder(), 4000) == [] and models() == {"a", "b", "c", "d"}
    # Using it makes it the last to go; letting go of it does not change that.
    used = lock_model(folder() / "m-a")
    assert used
    used.release()
    in_use = lock_model(folder() / "m-b")
    assert in_use
    os.utime(folder() / "m-b" / model_cache.MARK, (1, 1))
    assert prune(folder(), 2500) == ["m-c", "m-d"]
    assert prune(folder(), 0) == ["m-a"] and models() == {"b"}
    in_use.release()
    assert prune(folder(), 0) == ["m-b"] and models() == set()


def test_what_another_process_uses_stays_until_it_ends(fresh: Base) -> None:
    path = fake("m-a", 1000, 1)
    code = "from pathlib import Path; from serve.engines.ct2.model_cache import lock_model; "
    code += f"lock = lock_model(Path({str(path)!r})); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        assert prune(folder(), 0) == []
        # Not asked to let go, as when it crashes.
        other.kill()
        other.wait()
        assert prune(folder(), 0) == ["m-a"]


def test_what_was_removed_or_replaced_meanwhile_is_not_held(fresh: Base) -> None:
    path = fake("m-a", 10, 1)
    assert prune(folder(), 0) and lock_model(path) is None


def test_left_overs_of_killed_processes_go_and_work_in_progress_stays(fresh: Base) -> None:
    leftover, busy, young = (folder() / f".m.new.{n}" for n in "abc")
    for path in (leftover, busy, young):
        path.mkdir(parents=True)
        (path / "model.bin").write_bytes(b"x")
    for path in (leftover, busy):
        os.utime(path, (1, 1))
    model_cache.lock_unfinished(busy)
    prune(folder(), 10**9)
    assert sorted(p.name for p in folder().glob(".m.*")) == [".m.new.b", ".m.new.c"]


def test_a_service_keeps_its_cache_within_the_limit(fresh: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [make_tiny_adapter(tmp_path / n, fresh, seed=i) for i, n in enumerate("ab")]

    async def work(engine: Ct2Engine) -> None:
        fake("m-old", 1000, 1)
        for a in adapters:
            await engine.load(a.id, a.path)
            assert models() == {weights_of(x.card) for x in adapters if x.id in engine.loaded()}
            await engine.generate([PROMPT], a.id)
        await engine.unload(adapters[0].id)
        assert prune(folder(), 0) and models() == {weights_of(adapters[1].card)}
        # Loaded again, it is converted again.
        await engine.load(adapters[0].id, adapters[0].path)
        assert models() == {weights_of(a.card) for a in adapters}

    monkeypatch.setenv(model_cache.LIMIT, "0")
    run(fresh, work)
    assert prune(folder(), 0) and models() == set()


def test_another_card_over_the_same_weights_is_not_converted_again(fresh: Base, tmp_path: Path) -> None:
    """As when scores and golden sentences come onto a card: published, an adapter has another id than it was scored under."""
    first = make_tiny_adapter(tmp_path / "a", fresh)
    shutil.copytree(first.path, tmp_path / "b")
    write_card(tmp_path / "b", first.card.model_copy(update={"notes": ["scored"]}))
    second = open_adapter(tmp_path / "b")
    assert second.id != first.id and weights_of(second.card) == weights_of(first.card)

    async def work(engine: Ct2Engine) -> None:
        await engine.load(first.id, first.path)
        [model] = folder().glob("[!.]*")
        number = model.stat().st_ino
        await engine.load(second.id, second.path)
        assert models() == {weights_of(first.card)} and model.stat().st_ino == number
        assert engine.loaded() == sorted([first.id, second.id])
        text, other = [(await engine.generate([PROMPT], a.id))[0].text for a in (first, second)]
        assert text == other
        # One goes, the other holds what both were opened from.
        await engine.unload(first.id)
        assert prune(folder(), 0) == [] and (await engine.generate([PROMPT], second.id))[0].text == text

    run(fresh, work)


@pytest.mark.parametrize("text", ["-1", "many", "nan", "1e9"])
def test_a_limit_that_is_none(fresh: Base, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(model_cache.LIMIT, text)

    async def nothing(engine: Ct2Engine) -> None: ...

    with pytest.raises(BadInput, match="TELLMT_CT2_CACHE_GB: not a size"):
        run(fresh, nothing)


@pytest.mark.long
def test_services_that_convert_and_prune_at_once_do_not_harm_each_other(fresh: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them, a limit that nothing fits in, and models that come and go: every call is answered."""
    monkeypatch.setenv(model_cache.LIMIT, "0")
    adapter = make_tiny_adapter(tmp_path / "a", fresh)

    async def work(engine: Ct2Engine) -> list[str]:
        texts = []
        for _ in range(2):
            await engine.load(adapter.id, adapter.path)
            texts.append((await engine.generate([PROMPT], adapter.id))[0].text)
            await engine.unload(adapter.id)
        return texts

    async def both() -> list[list[str]]:
        engines = [Ct2Engine(EngineOptions(base=fresh, max_rank=8, threads=1)) for _ in range(2)]
        await asyncio.gather(*(e.start() for e in engines))
        try:
            return await asyncio.gather(*(work(e) for e in engines))
        finally:
            await asyncio.gather(*(e.close() for e in engines))

    first, second = asyncio.run(asyncio.wait_for(both(), 200))
    assert len({*first, *second}) == 1


def test_a_full_disk_is_told_and_leaves_nothing(fresh: Base, tmp_path: Path) -> None:
    """No file may grow past 64 KiB, which stands for a disk that is full: the weights of the model take more, and those of the copy that is tried before."""
    adapter = make_tiny_adapter(tmp_path / "a", fresh)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def refused(engine: Ct2Engine, message: str) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
        try:
            with pytest.raises(AdapterError, match=message):
                await engine.load(adapter.id, adapter.path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert models() == set()

    async def work(engine: Ct2Engine) -> None:
        await refused(engine, "could not be tried on a copy of the base; found File too large; valid: free space there, or TMPDIR on another disk")
        # Nothing was concluded about the base.
        assert trial(fresh).reason is None
        await refused(engine, "no room for the converted model; found File too large; valid: free space there, a smaller TELLMT_CT2_CACHE_GB")
        await engine.load(adapter.id, adapter.path)

    run(fresh, work)


def test_when_the_service_is_killed_its_conversion_ends_and_leaves_nothing(fresh: Base, tmp_path: Path) -> None:
    adapter = make_tiny_adapter(tmp_path / "a", fresh)
    code = f"""
import asyncio
from pathlib import Path
from serve.engines.ct2.engine import Ct2Engine
from tell.model.base import Base
from tell.model.engine import EngineOptions
async def go():
    engine = Ct2Engine(EngineOptions(base=Base.model_validate_json({json.dumps(fresh.model_dump_json())}), max_rank=8, threads=1))
    await engine.start()
    await engine.load({adapter.id!r}, Path({str(adapter.path)!r}))
asyncio.run(go())
"""
    service = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: folder().exists() and list(folder().glob(".*.new.*")), 60)
        children = [int(p) for path in Path(f"/proc/{service.pid}/task").glob("*/children") for p in path.read_text().split()]
        [child] = [p for p in children if b"serve.engines.ct2.convert" in Path(f"/proc/{p}/cmdline").read_bytes()]
        assert os.getpriority(os.PRIO_PROCESS, child) >= 10
        # In a session of its own, so that Ctrl-C in a terminal does not reach it.
        assert os.getsid(child) == child
    finally:
        os.kill(service.pid, signal.SIGKILL)
        service.wait()
    until(lambda: not Path(f"/proc/{child}").exists() and models() == set(), 20)
