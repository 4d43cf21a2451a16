"""The service behind the page at `/`, and a real browser: started once for all tests of the page that a worker runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.corrections import Feedback
from tell.registry.registry import Registry
from tests.support.browser import Browser, Speaking, chromium
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Published, Running, publish, running


@pytest.fixture(scope="package")
def opened_browser() -> Iterator[Browser]:
    with chromium() as running_chromium:
        yield Browser(running_chromium)


@pytest.fixture
def browser(opened_browser: Browser) -> Iterator[Browser]:
    opened_browser.problems.clear()
    yield opened_browser
    opened_browser.leave()
    assert not opened_browser.problems


@pytest.fixture(scope="package")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("page")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    ids = {pair: publish(registry, light_adapter(root / pair, base, pair)) for pair in ("is-en", "en-is", "en-ar")}
    return Published(base, registry, ids)


@pytest.fixture(scope="package")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback") / "kept.jsonl"


@pytest.fixture(scope="package")
def shared(published: Published, kept: Path) -> Iterator[Running]:
    with running(published.base, published.registry, Speaking, feedback=Feedback(kept), compare_base=True) as server:
        yield server


@pytest.fixture
def service(shared: Running) -> Iterator[Running]:
    yield shared
    shared.engine.delay, shared.engine.failure, shared.engine.problems = 0.0, None, []
