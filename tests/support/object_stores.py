"""What tests of a registry in an object store share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tell.adapter.card import Adapter
from tell.registry.fsspec_client import ObjectStore
from tell.registry.registry import Registry

Make = Callable[..., Adapter]


def add(registry: Registry, adapter: Adapter) -> str:
    return registry.add(adapter.path, adapter.card)


def objects(registry: Registry) -> ObjectStore:
    return registry.store.objects  # type: ignore[attr-defined,no-any-return]


def another(url: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Registry:
    """The registry as another machine sees it: with nothing copied yet."""
    monkeypatch.setenv("TELLMT_CACHE", str(cache))
    return Registry(url)


def old(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month later: what happened now is long ago."""
    later = time.time() + 40 * 86400
    monkeypatch.setattr("tell.registry.registry.time", SimpleNamespace(time=lambda: later))
