"""What is said when vLLM cannot start with a base, without vLLM."""

from __future__ import annotations

import pydantic
import pytest

import serve.engines.vllm
from tell.errors import EngineError
from tell.model.base import Base
from tell.model.engine import EngineOptions


def test_a_setting_that_is_refused_is_told_with_its_reason() -> None:
    class Settings(pydantic.BaseModel):
        model: int

    with pytest.raises(pydantic.ValidationError) as raised:
        Settings(model="secret")  # type: ignore[arg-type]
    assert serve.engines.vllm._reason(raised.value) == "Input should be a valid integer, unable to parse string as an integer"
    assert serve.engines.vllm._reason(ValueError("\nfirst\nsecond")) == "first"
    assert serve.engines.vllm._reason(ValueError()) == ""


def test_a_class_that_needs_torchvision_is_refused_without_it(tiny: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.engines.vllm, "need", lambda module, extra: None)
    monkeypatch.setattr(serve.engines.vllm, "installed", lambda module: False)
    engine = serve.engines.vllm.VllmEngine(EngineOptions(base=tiny.model_copy(update={"architecture": "Gemma3ForConditionalGeneration"})))
    with pytest.raises(EngineError, match="vLLM needs torchvision for this base; found not installed; valid: the build of torchvision"):
        engine._open()
