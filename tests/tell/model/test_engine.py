"""What is known of an engine before it is started: from its driver, its libraries and the package that it comes with."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from eval.scoring.hypotheses import System, hypotheses_key
from eval.scoring.testset import TestSet
from serve.scheduling.batch_window import BatchWindow, batch_window
from tell.errors import EngineError
from tell.languages import parse_pair
from tell.model.base import Base
from tell.model.engine import EngineOptions, EngineTraits, choose_engine, engine_names, engine_traits, engine_version, open_engine
from tests.support.fake_eval_engine import light_adapter, light_base

DRIVERS = """
from tell.model.engine import EngineTraits
class Older:
    '''Written before drivers had traits.'''
    name = 'older'
    def __init__(self, options):
        self.base = options.base
class Batching(Older):
    name = 'batching'
    traits = EngineTraits(libraries=('nothing-of-this-name', 'pytest'), model_format=7, whole_batches=True)
"""
POINTS = "[tellmt.engines]\nolder = small_engines:Older\nbatching = small_engines:Batching\nbroken = small_engines_of_old:Engine\n"
# What only extras bring, and takes seconds to import.
HEAVY = ("torch", "transformers", "ctranslate2", "vllm", "safetensors", "numpy", "fastapi")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a version of a package with engines, as far as entry points can tell, in place of the one before."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "small_engines.py").write_text(DRIVERS)

    def install(version: str) -> None:
        info = site / f"small_engines-{version}.dist-info"
        for earlier in site.glob("*.dist-info"):
            earlier.rename(info)
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: small-engines\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(POINTS)
        monkeypatch.syspath_prepend(site)

    return install


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return light_base(tmp_path)


def test_an_upgraded_engine_of_another_package_never_reuses_what_the_older_one_translated(install: Callable[[str], None], base: Base, tmp_path: Path) -> None:
    system = System.of("x", light_adapter(tmp_path / "a", base))
    dev = TestSet("dev", parse_pair("is-en"), ["Halló."], ["Hello."], ["f, line 1"])
    keys = []
    for version in ("1.0", "1.1", "1.0"):
        install(version)
        keys.append([hypotheses_key(base, system, dev, engine, 2048) for engine in ("older", "batching", "openai")])
        assert engine_version("older") == f"small-engines {version}"
    assert keys[0] == keys[2]
    assert [a == b for a, b in zip(keys[0], keys[1], strict=True)] == [False, False, True]


def test_a_version_names_the_package_its_library_and_the_format_of_its_models(install: Callable[[str], None]) -> None:
    install("2.0")
    assert engine_version("batching") == f"small-engines 2.0, {metadata.version('pytest')}, models of format 7"


def test_a_driver_without_traits_has_the_defaults(install: Callable[[str], None], base: Base) -> None:
    install("1.0")
    assert {"older", "batching", "ct2", "vllm", "openai"} <= set(engine_names())
    assert engine_traits(choose_engine("older")) == EngineTraits() == dataclasses.replace(engine_traits("openai"), penalises_prompt=False)
    assert open_engine("older", EngineOptions(base=base)).name == "older"
    assert batch_window(engine_traits("older"), 64) == BatchWindow(80)
    assert batch_window(engine_traits("batching"), 64) == BatchWindow(64, batches=True)


def test_a_driver_that_cannot_be_imported_is_an_engine_error(install: Callable[[str], None], base: Base) -> None:
    install("1.0")
    for use in (lambda: engine_version("broken"), lambda: open_engine("broken", EngineOptions(base=base))):
        with pytest.raises(EngineError, match=r"broken = small_engines_of_old:Engine: the engine's driver cannot be imported"):
            use()


def test_traits_are_known_without_importing_what_runs_models() -> None:
    program = "import sys; from tell.model.engine import engine_traits\nfor name in ('ct2', 'vllm', 'openai'): engine_traits(name)\n"
    program += f"print([m for m in {HEAVY!r} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
