"""What tests of the serving benchmarks share: their modules by name, and a home with adapters."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_eval_engine import light_adapter, light_base


@pytest.fixture(scope="module")
def serving() -> Any:
    """Modules of benchmarks/serving/ by name."""
    return lambda name: importlib.import_module(f"benchmarks.serving.{name}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A light base in the cache and two light adapters in place of those that come with tellmt."""
    from tell.paths import cache_dir

    base = light_base(cache_dir())
    for pair in ("is-en", "en-is"):
        light_adapter(tmp_path / "shipped" / pair, base, pair)
    monkeypatch.setenv("TELLMT_SHIPPED", str(tmp_path / "shipped"))
    return tmp_path
