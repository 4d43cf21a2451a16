"""Fixtures of the tests that talk to the service: one running over the fake engine, with four pairs live."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tell.registry.registry import Registry
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Published, Running, publish, running


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("service")
    base = light_base(root / "cache")
    registry = Registry(root / "registry")
    ids = {pair: publish(registry, light_adapter(root / pair, base, pair)) for pair in ("is-en", "en-is", "fo-is", "pt-BR:en")}
    return Published(base, registry, ids)


@pytest.fixture(scope="module")
def shared(published: Published) -> Iterator[Running]:
    with running(published.base, published.registry) as service:
        yield service


@pytest.fixture
def service(shared: Running) -> Iterator[Running]:
    yield shared
    shared.engine.delay, shared.engine.failure, shared.engine.alive = 0.0, None, True


@pytest.fixture
def mark(published: Published) -> str:
    return f"<{published.ids['is-en'][:8]}>"
