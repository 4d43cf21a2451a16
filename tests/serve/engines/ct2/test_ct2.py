"""What is the ctranslate2 driver's own: which prompts share a batch, and conversion in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from serve.engines.ct2.batch_cost import READ, STEP, split_batch
from serve.engines.ct2.batching import GenerateCall, PromptQueue, QueuedPrompt
from serve.engines.ct2.convert import Conversion, convert_model
from serve.engines.ct2.engine import Ct2Engine
from serve.engines.ct2.vocabulary import Vocabulary
from tell.errors import AdapterError, EngineError, TellmtError
from tell.model.base import Base
from tell.model.engine import EngineOptions, Prompt
from tests.support.tiny import make_tiny_adapter


@pytest.fixture
def fresh(tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """The tiny base with a cache where nothing is converted yet."""
    monkeypatch.setenv("TELLMT_CACHE", str(tmp_path / "cache"))
    return tiny


def call(queue: PromptQueue, adapter: str | None, lengths: list[int], one_line: bool = True, max_tokens: int = 8) -> GenerateCall:
    loop = asyncio.new_event_loop()
    queued = GenerateCall(adapter, None, Vocabulary([]), [None] * len(lengths), loop.create_future())
    loop.close()
    queue.add(queued, [Prompt(tuple(range(n)), max_tokens, one_line) for n in lengths])
    return queued


def drain(queue: PromptQueue) -> list[list[tuple[str | None, int]]]:
    """Every batch in order, as (adapter, length of the prompt)."""
    batches = []
    while batch := queue.take():
        batches.append([(i.call.adapter_id, len(i.prompt.ids)) for i in batch])
    assert not len(queue)
    return batches


def test_adapters_take_turns() -> None:
    queue = PromptQueue(2)
    call(queue, "hot", [10] * 6)
    call(queue, "cold", [10])
    assert [b[0][0] for b in drain(queue)] == ["hot", "cold", "hot", "hot"]


def test_callers_take_turns_at_the_head_of_a_batch() -> None:
    """A sentence that comes behind a file is in the second batch, however different its length."""
    queue = PromptQueue(4)
    call(queue, "a", [10] * 40)
    call(queue, "a", [200])
    assert [len(b) for b in drain(queue)] == [4, 1, *[4] * 9]


def test_a_batch_holds_near_lengths_of_one_kind_and_all_are_served_once() -> None:
    queue = PromptQueue(8)
    call(queue, None, [10, 300, 12, 290, 11], max_tokens=90)
    call(queue, None, [10, 12], one_line=False, max_tokens=90)
    batches = [sorted(n for _, n in b) for b in drain(queue)]
    assert batches == [[10, 11, 12], [10, 12], [290, 300]]


def cost(sizes: list[tuple[int, int, int]], ends: list[int], most: int, tokens: int) -> float:
    """What `split` means by time, written out step by step."""
    total, start = 0.0, 0
    for end in ends:
        batch = sizes[start:end]
        shortest = min(s for s, _, _ in batch)
        if len(batch) > most or (len(batch) > 1 and len(batch) * max(b for _, _, b in batch) > tokens):
            return float("inf")
        steps = [s - shortest + o for s, o, _ in batch]
        total += READ * shortest * len(batch) + STEP * max(steps) + sum(steps)
        start = end
    return total


@pytest.mark.parametrize("seed", range(6))
def test_no_other_way_to_split_takes_less_time(seed: int) -> None:
    rng = random.Random(seed)
    sizes = sorted((n := rng.randint(5, 120), n // 2 + rng.randint(0, 20), 3 * n) for _ in range(9))
    most, tokens = 6, 1200
    cuts = [[*(i + 1 for i in range(8) if mask >> i & 1), 9] for mask in range(256)]
    ends = split_batch(sizes, most, tokens)
    assert cost(sizes, ends, most, tokens) == pytest.approx(min(cost(sizes, c, most, tokens) for c in cuts))


def test_a_batch_that_is_put_back_comes_first_again_without_those_who_left() -> None:
    queue = PromptQueue(4)
    abandoned = call(queue, "a", [10])
    call(queue, "a", [11, 11, 11])
    call(queue, "b", [10])
    batch = queue.take()
    assert len(batch) == 4
    abandoned.stop.is_set = True
    call(queue, "a", [11])
    queue.put_back(batch)
    assert [[a for a, _ in b] for b in drain(queue)] == [["a"] * 4, ["b"]]


def test_memory_bounds_a_batch_but_never_empties_it() -> None:
    queue = PromptQueue(4)
    call(queue, None, [1900] * 3, max_tokens=100)
    call(queue, None, [3000], max_tokens=1000)
    assert [len(b) for b in drain(queue)] == [1, 1, 1, 1]
    call(queue, None, [900] * 4, max_tokens=100)
    assert [len(b) for b in drain(queue)] == [2, 2]


def test_a_caller_that_has_gone_leaves_nothing_waiting() -> None:
    queue = PromptQueue(2)
    abandoned = call(queue, "a", [10] * 5)
    call(queue, "a", [10])
    queue.take()
    queue.remove(abandoned)
    assert drain(queue) == [[("a", 10)]]


def conversions() -> list[int]:
    """Processes that convert and were started by this one."""
    pids = []
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            try:
                if b"serve.engines.ct2.convert" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    pids.append(int(pid))
            except FileNotFoundError:
                continue
    return pids


def run(base: Base, work: Callable[[Ct2Engine], Awaitable[None]], threads: int = 1) -> None:
    async def go() -> None:
        engine = Ct2Engine(EngineOptions(base=base, max_rank=8, threads=threads))
        await engine.start()
        try:
            await asyncio.wait_for(work(engine), 120)
        finally:
            await engine.close()

    asyncio.run(go())


def watched(engine: Ct2Engine) -> list[int]:
    """The sizes of the batches that the engine runs, as they begin."""
    sizes: list[int] = []
    run_batch = engine._run_batch

    def batch(items: list[QueuedPrompt]) -> list[list[int]]:
        sizes.append(len(items))
        return run_batch(items)

    engine._run_batch = batch  # type: ignore[method-assign]
    return sizes


def test_a_batch_that_has_only_begun_is_run_again_with_what_came_since(fresh: Base) -> None:
    prompt = Prompt((2, 300, 301, 302), 600, False)

    async def work(engine: Ct2Engine) -> None:
        alone = await engine.generate([prompt], None)
        sizes = watched(engine)
        first = asyncio.create_task(engine.generate([prompt], None))
        while not sizes:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(engine.generate([prompt], None)) for _ in range(15)]
        assert [g for call in await asyncio.gather(first, *others) for g in call] == alone * 16
        assert sizes == [1, 16]

    run(fresh, work)


def test_what_ctranslate2_calls_back_holds_no_model(fresh: Base) -> None:
    """Its thread may be the last to hold it, and a generator thrown away in its own thread ends the whole process: "Resource deadlock avoided"."""
    seen: list[Any] = []

    class Spy:
        def __init__(self, model: Any):
            self.model = model

        def generate_batch(self, *args: Any, **options: Any) -> Any:
            seen.append(options["callback"])
            return self.model.generate_batch(*args, **options)

        def unload_model(self) -> None:
            self.model.unload_model()

    async def work(engine: Ct2Engine) -> None:
        await engine.generate([Prompt((2, 300), 4, False)], None)
        engine._models[None] = Spy(engine._models[None])
        await engine.generate([Prompt((2, 300), 4, False)], None)
        referents = [cell.cell_contents for cell in seen[0].__closure__]
        for _ in range(4):
            referents += [x for x in gc.get_referents(*referents) if not isinstance(x, type | ModuleType)]
        assert referents and not any(isinstance(x, GenerateCall | QueuedPrompt | Ct2Engine | Spy) for x in referents)

    run(fresh, work)


def test_callers_that_ask_again_at_once_fall_into_step(fresh: Base) -> None:
    """One that is out of step with seven others would otherwise stay so, and half of the batches would hold one prompt."""
    prompt = Prompt((2, 300, 301, 302), 300, False)

    async def work(engine: Ct2Engine) -> None:
        await engine.generate([prompt], None)
        sizes = watched(engine)

        async def ask() -> None:
            await asyncio.sleep(0.05)
            for _ in range(6):
                await engine.generate([prompt], None)

        seven = asyncio.gather(*(ask() for _ in range(7)))
        while not seven.done():
            await engine.generate([prompt], None)
        await seven
        assert 8 in sizes

    run(fresh, work)


@pytest.mark.clock
def test_translations_go_on_while_an_adapter_is_converted(fresh: Base, tmp_path: Path) -> None:
    adapter = make_tiny_adapter(tmp_path / "a", fresh)
    prompt = Prompt((2, 300, 301, 302), 8, False)

    async def work(engine: Ct2Engine) -> None:
        first = await engine.generate([prompt], None)
        loading = asyncio.create_task(engine.load(adapter.id, adapter.path))
        answers, slowest = 0, 0.0
        while not loading.done():
            started = time.monotonic()
            assert await engine.generate([prompt], None) == first
            await asyncio.sleep(0.01)
            answers, slowest = answers + 1, max(slowest, time.monotonic() - started)
        await loading
        assert answers >= 10 and slowest < 2
        assert engine.loaded() == [adapter.id]

    run(fresh, work)


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_conversion_that_is_not_wanted_any_more_ends(fresh: Base, tmp_path: Path, how: str) -> None:
    adapter = make_tiny_adapter(tmp_path / "a", fresh)
    cache = Path(os.environ["TELLMT_CACHE"]) / "ct2"

    async def work(engine: Ct2Engine) -> None:
        loading = asyncio.create_task(engine.load(adapter.id, adapter.path))
        while not (cache.exists() and list(cache.glob(".*.new.*"))):
            await asyncio.sleep(0.02)
        if how == "cancel":
            loading.cancel()
        else:
            await engine.close()
        outcome = (await asyncio.gather(loading, return_exceptions=True))[0]
        assert isinstance(outcome, asyncio.CancelledError if how == "cancel" else EngineError)
        assert engine.loaded() == []

    run(fresh, work)
    assert conversions() == []
    assert list(cache.iterdir()) == []


def test_a_conversion_that_is_killed_is_an_adapter_error(fresh: Base, tmp_path: Path) -> None:
    adapter = make_tiny_adapter(tmp_path / "a", fresh)

    async def work(engine: Ct2Engine) -> None:
        loading = asyncio.create_task(engine.load(adapter.id, adapter.path))
        while not (pids := conversions()):
            await asyncio.sleep(0.02)
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(AdapterError, match=r"was ended; found SIGKILL; valid: more free memory"):
            await loading
        await engine.load(adapter.id, adapter.path)
        assert engine.loaded() == [adapter.id]

    run(fresh, work)


def test_the_base_is_unloaded_when_nothing_has_asked_it_for_a_while(fresh: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as large as an adapter, and asked at each load of one. Calls that come while it waits or goes are answered, and the adapters stay."""
    monkeypatch.setattr("serve.engines.ct2.engine.BASE_IDLE", 0.3)
    monkeypatch.setattr("serve.engines.ct2.engine.WORK_IDLE", 0.1)
    given_back: list[int] = []
    monkeypatch.setattr("serve.engines.ct2.engine.give_back", lambda: given_back.append(1))

    prompt = Prompt((2, 300, 301, 302), 8, False)

    async def work(engine: Ct2Engine) -> None:
        first = await engine.generate([prompt], None)
        assert None in engine._models
        before = len(given_back)
        await asyncio.gather(*(engine.generate([prompt], None) for _ in range(2)))
        while None in engine._models or None in engine._locks:
            await asyncio.sleep(0.02)
        # After the last batch, and after the model.
        while len(given_back) < before + 2:
            await asyncio.sleep(0.02)
        assert await engine.generate([prompt], None) == first

    run(fresh, work)


def test_a_base_that_ctranslate2_does_not_know(fresh: Base, tmp_path: Path) -> None:
    from transformers import Olmo2Config, Olmo2ForCausalLM

    other = tmp_path / "olmo"
    size = {"vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    Olmo2ForCausalLM(Olmo2Config(**size, pad_token_id=0, eos_token_id=1)).save_pretrained(other)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(fresh.path / name, other)
    base = fresh.model_copy(update={"path": other, "revision": "e" * 64, "architecture": "Olmo2ForCausalLM"})

    async def work(engine: Ct2Engine) -> None:
        with pytest.raises(EngineError, match=r"ctranslate2 cannot serve this base; found it has no converter for Olmo2ForCausalLM; valid: --engine vllm"):
            await engine.generate([Prompt((2, 300), 4, False)], None)
        assert await engine.healthy()

    run(base, work)


def test_a_cache_that_cannot_be_written_is_named(fresh: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("TELLMT_CACHE", str(blocked))
    with pytest.raises(TellmtError, match="TELLMT_CACHE"):
        asyncio.run(convert_model(Conversion(fresh, None, 1)))


def test_a_converted_model_of_another_version_is_made_again(fresh: Base) -> None:
    job = Conversion(fresh, None, 1)
    model = asyncio.run(convert_model(job))
    mark = model / "tellmt-ct2.json"
    assert job.done() and json.loads(mark.read_text())["divergence"] < 0.05
    mark.write_text(json.dumps({"key": "older"}))
    assert not job.done()
    asyncio.run(convert_model(job))
    assert job.done()
