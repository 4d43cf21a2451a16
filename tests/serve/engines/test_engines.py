"""One contract, every driver: ctranslate2 on merged weights, vLLM with LoRA requests, and a `vllm serve` elsewhere. All run the tiny base for real."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import Adapter, open_adapter
from tell.adapter.translation import translator_of
from tell.errors import AdapterError, RequestError
from tell.model.base import Base
from tell.model.engine import Decoding, Generation, Prompt, Sampling, traits_of
from tell.model.tokenizer import BaseTokenizer
from tests.support.engine_fixtures import CONTEXT, Running, need_exact_int8, prompts
from tests.support.hinted import with_lexicon
from tests.support.memories import with_memory

pytest_plugins = ["tests.support.engine_fixtures"]
pytestmark = pytest.mark.usefixtures("in_cache")
NEVER = 400


def test_the_base_answers_and_answers_the_same_again(running: Running) -> None:
    first = running.do(running.engine.generate(prompts(5), None))
    assert all(isinstance(g, Generation) and g.text and 1 <= g.tokens <= 24 for g in first)
    assert len({g.text for g in first}) > 1
    assert running.do(running.engine.generate(prompts(5), None)) == first


def test_nothing_in_gives_nothing_out(running: Running) -> None:
    assert running.do(running.engine.generate([], None)) == []


def test_greedy_output_is_that_of_transformers(running: Running, base: Base) -> None:
    """The base in float32 is the reference. int8 and bfloat16 may choose otherwise on a near tie, so most must agree from the first token on."""
    need_exact_int8(running.engine)
    import torch
    from transformers import AutoModelForCausalLM

    batch = prompts(8, max_tokens=6)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    expected = []
    for p in batch:
        out = model.generate(torch.tensor([p.ids]), attention_mask=torch.ones(1, len(p.ids)), max_new_tokens=6, do_sample=False)[0].tolist()
        expected.append(BaseTokenizer(base).decode(out[len(p.ids) :]))
    outputs = running.texts(batch, None)
    assert sum(f == e for f, e in zip(outputs, expected, strict=True)) >= 6, list(zip(outputs, expected, strict=True))


@pytest.mark.clock
def test_load_unload_and_what_is_loaded(running: Running, adapters: tuple[Adapter, Adapter]) -> None:
    a, b = adapters
    engine = running.engine
    assert engine.loaded() == []
    running.do(engine.load(a.id, a.path))
    running.do(engine.load(a.id, a.path))
    assert engine.loaded() == [a.id]
    bare, adapted = running.texts(prompts(5), None), running.texts(prompts(5), a.id)
    assert all(x != y for x, y in zip(bare, adapted, strict=True))
    running.do(engine.load(b.id, b.path))
    assert engine.loaded() == sorted([a.id, b.id])
    running.do(engine.unload(a.id))
    assert engine.loaded() == [b.id]
    with pytest.raises(AdapterError, match="not loaded"):
        running.do(engine.generate(prompts(1), a.id))
    started = time.monotonic()
    running.do(engine.load(a.id, a.path))
    assert time.monotonic() - started < 3, "what was converted once is not converted again"
    assert running.texts(prompts(5), a.id) == adapted
    for each in (a, b):
        running.do(engine.unload(each.id))
    assert engine.loaded() == [] and running.texts(prompts(5), None) == bare


def test_adapters_share_the_engine_and_keep_apart(running: Running, loaded: tuple[str, str]) -> None:
    a, b = loaded
    batch = prompts(12, max_tokens=8)
    alone = {k: running.texts(batch, k) for k in (None, a, b)}
    assert len({tuple(v) for v in alone.values()}) == 3

    async def together() -> list[list[Generation]]:
        return await asyncio.gather(*(running.engine.generate(batch[i::2], k) for k in (None, a, b) for i in range(2)))

    outputs = running.do(together())
    for n, (k, i) in enumerate((k, i) for k in (None, a, b) for i in range(2)):
        texts = [g.text for g in outputs[n]]
        same = sum(x == y for x, y in zip(texts, alone[k][i::2], strict=True))
        # A prompt's batch changes the order of float additions, which may turn a near tie; never more than that.
        assert same >= len(texts) - 1, (k, texts, alone[k][i::2])


def test_an_adapter_with_hints_or_pairs_is_the_same_weights_with_other_prompts(running: Running, adapters: tuple[Adapter, Adapter], tmp_path: Path) -> None:
    plain, engine = adapters[0], running.engine
    tokenizer = BaseTokenizer(engine.base)
    source, hinted = "Hundurinn í húsinu og setningin", "Hundurinn 【 dog】 í húsinu og setningin 【 sentence】"
    line, near = "【Hundurinn í húsinu】 The dog in the house\n", (("Hundurinn í húsinu", "The dog in the house"),)
    cases: dict[str, tuple[Callable[[Adapter], Adapter], str]] = {
        "hints": (with_lexicon, hinted),
        "pairs": (lambda adapter: with_memory(adapter, near), line + source),
        "both": (lambda adapter: with_memory(with_lexicon(adapter), near), line + hinted),
    }
    running.do(engine.load(plain.id, plain.path))
    for name, (make, written) in cases.items():
        shutil.copytree(plain.path, tmp_path / name)
        adapter = make(open_adapter(tmp_path / name))
        translator = translator_of(engine, tokenizer, adapter, CONTEXT)
        prompt = translator.prompt(source)
        assert list(prompt.ids) == tokenizer.prompt_ids(plain.card.anchor, written)
        # Where a penalty counts the prompt, the words of hints and pairs would be made unlikely.
        penalised = dataclasses.replace(translator, decoding=Decoding(repetition_penalty=1.5)).prompt(source)
        assert penalised.repetition_penalty == (1.0 if traits_of(engine).penalises_prompt else 1.5)
        running.do(engine.load(adapter.id, adapter.path))
        try:
            assert running.texts([prompt], adapter.id) == running.texts([prompt], plain.id)
            (hypothesis,) = running.do(translator.translate([source]))
            assert hypothesis.text == translator.hypothesis(source, running.do(engine.generate([prompt], plain.id))[0]).text
        finally:
            running.do(engine.unload(adapter.id))
    running.do(engine.unload(plain.id))


def test_unloading_waits_for_what_runs(running: Running, adapters: tuple[Adapter, Adapter]) -> None:
    a = adapters[0]

    async def swap() -> tuple[list[Generation], bool]:
        await running.engine.load(a.id, a.path)
        call = asyncio.create_task(running.engine.generate(prompts(8, max_tokens=100), a.id))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(running.engine.unload(a.id))
        await asyncio.sleep(0)
        unloaded = a.id not in running.engine.loaded()
        generations = await call
        await leaving
        return generations, unloaded

    generations, unloaded = running.do(swap())
    assert unloaded and len(generations) == 8 and all(g.text for g in generations)


def test_cancelling_stops_the_work(running: Running) -> None:
    """Cancelled at once or in the middle, the engine is free again long before the work would have been done."""

    async def cancel(after: float) -> None:
        call = asyncio.create_task(running.engine.generate(prompts(16, NEVER), None))
        await asyncio.sleep(after)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    async def timed(work: Coroutine[Any, Any, Any]) -> float:
        started = time.monotonic()
        await work
        return time.monotonic() - started

    whole = running.do(timed(running.engine.generate(prompts(16, NEVER), None)))
    for after in (0.0, whole / 10):
        running.do(cancel(after))
        assert running.do(timed(running.engine.generate(prompts(1, 4), None))) < whole * 0.6
    assert running.do(running.engine.healthy())


def test_what_is_cut_says_so(running: Running) -> None:
    """Each prompt has its own limit, in one batch."""
    batch = [dataclasses.replace(p, max_tokens=3 + i) for i, p in enumerate(prompts(6))]
    generations = running.do(running.engine.generate(batch, None))
    cut = [g for g in generations if g.finish == "length"]
    assert len(cut) >= 4
    assert [g.tokens for g in generations if g.finish == "length"] == [p.max_tokens for p, g in zip(batch, generations, strict=True) if g.finish == "length"]
    assert all(g.tokens <= p.max_tokens for p, g in zip(batch, generations, strict=True))
    longer = running.do(running.engine.generate([dataclasses.replace(batch[0], max_tokens=12)], None))[0]
    assert longer.text.startswith(generations[0].text.rstrip("�"))


@pytest.fixture(scope="module")
def breaking(base: Base, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, ...]]:
    """Prompts that the base goes on from with a line break a few tokens later; found with transformers, so that the engines are not asked twice."""
    import torch
    from transformers import AutoModelForCausalLM

    from tell.model.tokenizer import BaseTokenizer

    tokenizer = BaseTokenizer(base)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    torch.manual_seed(3)
    ids = torch.randint(4, 1024, (2048, 8))
    ids[:, 0] = 2
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
    return [tuple(p.tolist()) for p, o in zip(ids, out, strict=True) if "\n" in tokenizer.decode(o[9:].tolist()) and "\n" not in tokenizer.decode([int(o[8])])]


def test_one_line_ends_at_a_line_break(running: Running, breaking: list[tuple[int, ...]]) -> None:
    need_exact_int8(running.engine)
    batch = [Prompt(ids, 16, False) for ids in breaking[:12]]
    assert batch, "the tiny base writes no line break"
    free = running.do(running.engine.generate(batch, None))
    short = running.do(running.engine.generate([dataclasses.replace(p, one_line=True) for p in batch], None))
    with_break = [(f, s) for f, s in zip(free, short, strict=True) if "\n" in f.text]
    assert with_break, [f.text for f in free]
    for f, s in with_break:
        assert s.text == f.text.split("\n", 1)[0]
        assert s.finish == "stop" and s.tokens < f.tokens


def test_repetition_penalty_reaches_the_engine(running: Running) -> None:
    batch = prompts(8, max_tokens=24)
    plain = running.texts(batch, None)
    penalised = running.texts([dataclasses.replace(p, repetition_penalty=1.8) for p in batch], None)
    assert plain != penalised


def test_candidates_are_drawn_beside_the_greedy_output(running: Running) -> None:
    """In one call; each draw under its own settings and seed. Of the likeliest token alone nothing else can be drawn."""
    batch = prompts(5)
    greedy = running.do(running.engine.generate(batch, None))
    ways = [None, Sampling(seed=1), Sampling(seed=2), Sampling(2.0, 1, 1.0, 3), Sampling(1.5, 40, 0.9, 4)]

    def draw() -> list[list[Generation]]:
        flat = running.do(running.engine.generate([dataclasses.replace(p, sampling=way) for way in ways for p in batch], None))
        return [flat[i : i + len(batch)] for i in range(0, len(flat), len(batch))]

    first, second = draw(), draw()
    for generations in (first, second):
        for n in (0, 3):
            # A batch of another make-up may turn a near tie.
            assert sum(g.text == f.text for g, f in zip(greedy, generations[n], strict=True)) >= len(batch) - 1
        assert len({tuple(g.text for g in generations[n]) for n in (0, 1, 2, 4)}) == 4
        assert all(g.tokens <= p.max_tokens for drawn_alone in generations for g, p in zip(drawn_alone, batch, strict=True))
    if running.engine.name != "ct2":
        # As far as numbers repeat: bfloat16 in another batch may not.
        same = [a.text == b.text for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)]
        assert sum(same) >= 0.6 * len(same)


def test_the_context_is_respected(running: Running) -> None:
    with pytest.raises(RequestError, match="context"):
        running.do(running.engine.generate([Prompt((2, *[300] * 400), CONTEXT - 400, False)], None))
    fits = [Prompt((2, *range(300, 700)), CONTEXT - 401, False)]
    assert running.do(running.engine.generate(fits, None))[0].tokens >= 1
