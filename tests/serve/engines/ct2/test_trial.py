"""What ctranslate2 computes otherwise than a base is found on a cut-down copy, at full length, and what its converter leaves out is written."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest

import serve.engines.ct2.writing
from serve.engines.ct2.convert import MODEL_FORMAT, QUANTIZATION, Conversion
from serve.engines.ct2.corrections import corrections
from serve.engines.ct2.engine import Ct2Engine
from serve.engines.ct2.trial import EXACT, Trial, prompt_limit, trial, window
from tell.adapter.translation import translator_of
from tell.errors import RequestError
from tell.files import key_of
from tell.model.base import Base
from tell.model.engine import Engine, EngineOptions, Prompt
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import segment_limit
from tests.support.bases import CLASSES, CONTEXT, make_checkpoint
from tests.support.tiny import make_tiny_adapter

SCALED = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def base_of(name: str, place: Path, cache: Path) -> Base:
    make_checkpoint(name, place, cache)
    fields = {"bos_id": 2, "eos_ids": [1], "architecture": CLASSES[name][0], "parameters": "", "licence": "", "notice": ""}
    return Base(id=name, revision=key_of(name), path=place, context=CONTEXT, files={}, **fields)


@pytest.mark.parametrize("name", ["Llama 3", "Gemma 3 with vision"])
def test_without_the_corrections_the_base_would_be_refused(name: str, tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_of(name, tmp_path / "base", tiny_cache)
    with monkeypatch.context() as patch:
        patch.setattr(serve.engines.ct2.writing, "correct_spec", lambda spec, model: None)
        reason = trial(base).reason
        assert reason and "it computes something else than" in reason
        # As found once, without computing it again.
        patch.setattr("serve.engines.ct2.trial._tried", lambda base: pytest.fail("tried again"))
        assert trial(base).reason == reason
    assert trial(base.model_copy(update={"revision": "another"})) == Trial(None, 64 if name.startswith("Gemma") else CONTEXT)


def test_a_prompt_reaches_as_far_as_the_window(tiny: Any, tiny_cache: Path, tmp_path: Path) -> None:
    base = base_of("Mistral", tmp_path / "base", tiny_cache)
    # Before a trial and after it.
    assert prompt_limit(base) == 64 and trial(base).prompt == 64 and prompt_limit(base) == 64
    assert prompt_limit(tiny) == 512
    assert window({"sliding_window": 512, "use_sliding_window": False}) is None and window({"text_config": {"sliding_window": 1024}}) == 1024
    assert EXACT == 1e-3


def test_the_engine_and_what_asks_it_keep_within_the_limit(tiny: Any, tmp_path: Path) -> None:
    adapter = make_tiny_adapter(tmp_path / "adapter", tiny)

    async def longest() -> int:
        engine = Ct2Engine(EngineOptions(tiny, threads=1))
        await engine.start()
        try:
            with pytest.raises(RequestError, match=r"too long; found 513 tokens; valid: at most 512: ctranslate2 computes longer prompts of this base wrongly"):
                await engine.generate([Prompt((5,) * 513, 4, True)], None)
            return engine.max_prompt
        finally:
            await engine.close()

    assert asyncio.run(longest()) == 512

    @dataclasses.dataclass
    class Started:
        max_prompt: int

    tokens = BaseTokenizer(tiny)
    source = "hestur " * 300
    whole = translator_of(cast(Engine, Started(2048)), tokens, adapter, 2048)
    assert len(whole.prompt(source).ids) > 512 and segment_limit(whole) == 256
    limited = translator_of(cast(Engine, Started(100)), tokens, adapter, 2048)
    refusal = limited.refusal(source)
    assert refusal and "segments of at most about 36 tokens" in str(refusal)
    assert limited.refusal("hestur") is None and segment_limit(limited) < 100


def test_only_bases_that_are_written_otherwise_now_have_another_key(tiny: Any, tiny_cache: Path, tmp_path: Path) -> None:
    from importlib.metadata import version

    before = {"format": MODEL_FORMAT, "base": tiny.revision, "weights": None, "quantization": QUANTIZATION, "ctranslate2": version("ctranslate2")}
    assert Conversion(tiny, None, 1).key == key_of(before)
    assert corrections({"model_type": "llama", "rope_scaling": SCALED}) == ["llama3 factor"]
    assert corrections({"model_type": "llama", "rope_scaling": None}) == [] == corrections({"model_type": "qwen3", "rope_scaling": SCALED})
    gemma = {"sliding_attention": {"rope_type": "default"}, "full_attention": {"rope_type": "linear", "factor": 8.0}}
    assert corrections({"model_type": "gemma3", "text_config": {"rope_parameters": gemma}}) == ["linear factor"]
    assert corrections({"model_type": "gemma3_text", "query_pre_attn_scalar": 168, "head_dim": 128}) == ["scale of queries"]
    scaled = base_of("Llama 3", tmp_path / "base", tiny_cache)
    assert Conversion(scaled, None, 1).key != key_of(before | {"base": scaled.revision})
