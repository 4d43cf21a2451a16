"""Poisoned adapter directories: each is refused with its reason, by the registry and by a running service, and the old version goes on answering.

A service's engine is never asked to load one: what it would do with a pickle or a NaN is not waited for.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.engines import checkpoint
from tell.adapter.card import CARD, CONFIG, WEIGHTS, Adapter, adapter_id, open_adapter, read_card
from tell.errors import AdapterError, EngineError, TellmtError
from tell.files import write_atomic
from tell.registry.registry import Registry
from tests.support.fake_engine import FakeEngine
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.poisons import GOOD, KEEPS_NAME, MARK, POISONS, RANK, sign, values, weights
from tests.support.serving import Running, publish, running, until


class Careful(FakeEngine):
    """Notes what it was asked to load."""

    load_requests: list[str]

    async def load(self, adapter_id: str, path: Path) -> None:
        self.load_requests = [*getattr(self, "load_requests", []), adapter_id]
        await super().load(adapter_id, path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Registry, str]]:
    root = tmp_path_factory.mktemp("poison")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    old = publish(registry, light_adapter(root / "good", base, seed=1))
    with running(base, registry, Careful) as service:
        yield service, registry, old


def poisoned(registry: Registry, root: Path, name: str, poison: Callable[[Path], None]) -> str:
    """Puts it where a registry keeps its adapters, past everything that `add` would have refused. Returns the id it lies under."""
    adapters = registry.root / "adapters"
    good = light_adapter(root / "made", light_base(root / "cache"), seed=2, rank=RANK)
    path = adapters / good.id
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(good.path, path)
    poison(path)
    if name in KEEPS_NAME or path.is_symlink():
        return good.id
    try:
        id = adapter_id(read_card(path))
    except AdapterError:
        return good.id
    if id != good.id:
        shutil.rmtree(adapters / id, ignore_errors=True)
        path.rename(adapters / id)
    return id


@pytest.mark.parametrize(("name", "poison", "message"), POISONS, ids=[p[0] for p in POISONS])
def test_poison(served: tuple[Running, Registry, str], tmp_path: Path, name: str, poison: Callable[[Path], None], message: str) -> None:
    service, registry, old = served
    state = registry.root / "pairs" / "is-en.json"
    state_before = state.read_bytes()
    id = poisoned(registry, tmp_path, name, poison)
    path = registry.root / "adapters" / id
    try:
        with pytest.raises(TellmtError) as e:
            registry.adapter(id)
        assert message in str(e.value) and len(str(e.value)) < 1000 and str(e.value).replace("\n", "").isprintable()
        with pytest.raises(TellmtError):
            registry.promote("is-en", id, "why")
        assert state.read_bytes() == state_before and registry.state("is-en").live == old

        # Somebody writes it into the state by hand.
        aside = state.with_name(".next")
        aside.write_text(json.dumps({**json.loads(state_before), "live": id, "generation": 99}))
        aside.rename(state)
        status = until(lambda: (s := service.status())["state"] == "refused" and s["wanted"] == id and s)
        assert message in status["reason"] and status["adapter"] == old
        assert service.texts("a") == [f"<{old[:8]}>a"]
        assert set(service.engine.load_requests) == {old} and service.engine.loaded() == [old]
        assert not list(registry.root.rglob("sprung"))
    finally:
        aside = state.with_name(".back")
        aside.write_bytes(state_before)
        aside.rename(state)
        until(lambda: service.status()["state"] == "live")
        if path.is_symlink():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
        for leftover in (registry.root / "adapters").glob(".real-*"):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink()


@pytest.mark.parametrize("name", ["a pickle beside the weights", "a folder inside"])
def test_what_lies_beside_an_adapter_is_not_published_with_it(tmp_path: Path, name: str) -> None:
    """A training directory may hold other things; they stay where they are."""
    poison = next(p[1] for p in POISONS if p[0] == name)
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"))
    poison(a.path)
    registry = Registry(tmp_path / "registry")
    assert {p.name for p in registry.adapter(registry.add(a.path, a.card)).path.iterdir()} == {WEIGHTS, CONFIG, CARD}


INSIDE = [p for p in POISONS if "no part of" not in p[2]]


@pytest.mark.parametrize(("name", "poison", "message"), INSIDE, ids=[p[0] for p in INSIDE])
def test_none_comes_in_by_the_front_door(tmp_path: Path, name: str, poison: Callable[[Path], None], message: str) -> None:
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"), rank=RANK)
    poison(a.path)
    registry = Registry(tmp_path / "registry")
    if name in ("another card", "a directory behind a link"):
        # Its owner may do either in a directory of his own.
        assert registry.adapter(registry.add(a.path, read_card(a.path))).card.pair == "is-en"
        return
    with pytest.raises(AdapterError) as e:
        registry.add(a.path, a.card)
    assert message in str(e.value)
    assert registry.ids() == [] and not list(tmp_path.rglob("sprung"))


def test_a_card_of_another_pair(served: tuple[Running, Registry, str], tmp_path: Path) -> None:
    service, registry, old = served
    other = light_adapter(tmp_path / "other", light_base(tmp_path / "cache"), "en-is", seed=5)
    id = registry.add(other.path, other.card)
    with pytest.raises(TellmtError, match="this adapter is for another pair"):
        registry.promote("is-en", id, "why")
    state = registry.root / "pairs" / "is-en.json"
    state_before = state.read_bytes()
    write_atomic(state, json.dumps({**json.loads(state_before), "live": id}))
    status = until(lambda: (s := service.status())["state"] == "refused" and s)
    assert "this adapter is for another pair" in status["reason"] and status["adapter"] == old
    write_atomic(state, state_before.decode())
    until(lambda: service.status()["state"] == "live")
    assert set(service.engine.load_requests) == {old}


@pytest.mark.parametrize("pair", ["../x", "is", "is-en/../../x", "\x00-en", "is-is", ""])
def test_a_card_of_no_pair(tmp_path: Path, pair: str) -> None:
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"))
    sign(a.path, pair=pair)
    registry = Registry(tmp_path / "registry")
    with pytest.raises(TellmtError):
        registry.add(a.path, read_card(a.path))
    assert registry.ids() == []


# What the base says of the shapes


def _opened(a: Adapter, shapes: dict[str, list[int]], **overrides: Any) -> Adapter:
    return checkpoint.open_fitting(light_base(a.path.parent / "cache"), shapes, overrides.get("id", a.id), a.path, overrides.get("rank", 16))


def test_shapes_that_do_not_fit_the_base(tmp_path: Path) -> None:
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"))
    assert _opened(a, {"layers.0.self_attn.q_proj": [8, 8]}).id == a.id
    for shapes in ({"layers.0.self_attn.q_proj": [8, 9]}, {"layers.0.self_attn.q_proj": [9, 8]}, {"layers.1.self_attn.q_proj": [8, 8]}):
        with pytest.raises(AdapterError, match=r"the shape does not fit the base|the base has no such module"):
            _opened(a, shapes)
    with pytest.raises(AdapterError, match="the adapter's rank cannot be served"):
        _opened(a, {"layers.0.self_attn.q_proj": [8, 8]}, rank=2)
    with pytest.raises((AdapterError, EngineError), match="another adapter"):
        _opened(a, {"layers.0.self_attn.q_proj": [8, 8]}, id="0" * 32)


def test_a_good_adapter_is_none_of_these(tmp_path: Path) -> None:
    """So that no test above passes because everything is refused."""
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"), rank=RANK)
    weights({**GOOD, MARK: {"format": "pt"}})(a.path)
    for dtype, raw in (("F32", struct.pack("<f", -3.4e38)), ("F16", struct.pack("<e", 65504)), ("BF16", struct.pack("<H", 0xFF7F)), ("F64", bytes(8))):
        values(dtype, raw)(a.path)
        assert open_adapter(a.path).card.rank == RANK
