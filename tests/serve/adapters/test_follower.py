"""What is published while the service runs: it goes live without a failed request, and whatever is wrong with it, the old version goes on."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve.config import Limits
from tell.adapter.card import WEIGHTS, Adapter
from tell.errors import EngineError
from tell.files import write_atomic
from tell.model.base import Base
from tell.model.engine import EngineOptions
from tell.registry.registry import Registry
from tests.support.fake_engine import FakeEngine
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Running, publish, running, until


class Bench:
    """A base, a registry and adapters made on demand."""

    def __init__(self, root: Path):
        self.root, self.base, self.registry = root, light_base(root / "cache"), Registry(root / "registry")

    def adapter(self, pair: str = "is-en", seed: int = 0, **options: Any) -> Adapter:
        return light_adapter(self.root / f"{pair}-{seed}".replace(":", "--"), options.pop("base", self.base), pair, seed, **options)

    def publish(self, pair: str = "is-en", seed: int = 0, **options: Any) -> str:
        return publish(self.registry, self.adapter(pair, seed, **options))

    def pair_file(self, pair: str = "is-en") -> Path:
        return self.registry.root / "pairs" / f"{pair}.json"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def live(service: Running, id: str | None, pair: str = "is-en") -> bool:
    return bool(service.status(pair).get("adapter") == id)


# A change under load


class Stream:
    """Clients that ask without a pause while something happens; every answer is kept."""

    def __init__(self, service: Running, clients: int = 8):
        self.service, self.answers, self.failures = service, [], []  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(clients)]

    def _ask(self, client: int) -> None:
        n = 0
        while not self._stop.is_set():
            n += 1
            # Some of many segments, some of one; the first is the same in all, so that answers can be compared.
            texts = ["Halló heimur.", *(f"lína {client} {n} {k}" for k in range(n % 3))]
            try:
                answer = self.service.translate(texts)
                body = answer.json()
                if answer.status_code != 200 or len(body["translations"]) != len(texts):
                    self.failures.append((answer.status_code, body))
                else:
                    self.answers.append((body["adapter"], body["translations"][0]["text"]))
            except Exception as e:
                self.failures.append(repr(e))

    def __enter__(self) -> Stream:
        for t in self._threads:
            t.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for t in self._threads:
            t.join()

    def seen(self, id: str) -> int:
        return Counter(a for a, _ in self.answers)[id]


def fake_engine(root: Path) -> tuple[Callable[[EngineOptions], Any], Base, Callable[[int], Adapter]]:
    base = light_base(root / "cache")

    def engine(options: EngineOptions) -> FakeEngine:
        fake = FakeEngine(options)
        fake.delay = 0.02
        return fake

    return engine, base, lambda seed: light_adapter(root / f"a{seed}", base, "is-en", seed)


def real_engine(name: str) -> Callable[[Path], tuple[Callable[[EngineOptions], Any], Base, Callable[[int], Adapter]]]:
    def make(root: Path) -> tuple[Callable[[EngineOptions], Any], Base, Callable[[int], Adapter]]:
        from tell.model.engine import open_engine
        from tests.support.tiny import make_tiny_adapter, make_tiny_base

        cache = Path(os.environ["TELLMT_CACHE"])
        base = make_tiny_base(cache)
        return lambda options: open_engine(name, options), base, lambda seed: make_tiny_adapter(root / f"a{seed}", base, seed=seed)

    return make


# The conversion of a version and the answers of the one before.
@pytest.mark.all_cores
@pytest.mark.parametrize(
    ("make", "module", "versions", "enough"),
    [
        pytest.param(fake_engine, "uvicorn", 6, 20, id="fake"),
        # Each version is a conversion, some 15 s of two cores.
        pytest.param(real_engine("ct2"), "ctranslate2", 2, 6, id="ct2"),
        pytest.param(real_engine("ct2"), "ctranslate2", 3, 6, id="ct2 and an unload", marks=pytest.mark.long),
        pytest.param(real_engine("vllm"), "vllm", 3, 6, id="vllm", marks=pytest.mark.long),
    ],
)
def test_versions_published_under_a_stream_of_requests_go_live_without_a_failed_one(tmp_path: Path, make: Any, module: str, versions: int, enough: int) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    engine, base, adapter = make(tmp_path)
    registry = Registry(tmp_path / "registry")
    adapters = [adapter(seed) for seed in range(versions)]
    ids = [publish(registry, adapters[0])]
    with running(base, registry, engine, Limits(context=1024)) as service:
        with Stream(service) as stream:
            until(lambda: stream.seen(ids[-1]) >= enough, 60)
            for one in adapters[1:]:
                ids.append(publish(registry, one))
                until(lambda: stream.seen(ids[-1]) >= enough, 120)
            registry.rollback("is-en", "test")
            back = stream.seen(ids[-2])
            until(lambda: stream.seen(ids[-2]) >= back + enough, 60)
        assert stream.failures == []
        assert {a for a, _ in stream.answers} == set(ids)
        # Each version's answers are its own: nothing stale came out under a new name.
        texts = {id: {t for a, t in stream.answers if a == id} for id in ids}
        assert all(len(t) == 1 for t in texts.values()), texts
        assert len(set.union(*texts.values())) == len(ids)
        # What nobody uses any more is out of the engine, but for what undoing the roll back would bring.
        until(lambda: set(service.engine.loaded()) == set(ids[-2:]), 60)


# What is refused, and why


@contextmanager
def serving_one(bench: Bench) -> Iterator[tuple[Running, str]]:
    id = bench.publish(seed=1)
    with running(bench.base, bench.registry, limits=Limits(context=2048, adapters=3, rank=8)) as service:
        yield service, id


def refused(service: Running, new: str, old: str, reason: str) -> None:
    """The new version is refused with its reason, the old one goes on answering, and the engine holds nothing of the new one."""
    status = until(lambda: (s := service.status())["state"] == "refused" and s["wanted"] == new and s)
    assert reason in status["reason"], status["reason"]
    assert status["adapter"] == old
    assert service.texts("a") == [f"<{old[:8]}>a"]
    assert service.engine.loaded() == [old]


def test_an_adapter_that_does_not_act(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    with serving_one(bench) as (service, old):
        new = bench.publish(seed=13)
        refused(service, new, old, "the adapter does not act: every probe came out as from the bare base")
        until(lambda: service.metric("tellmt_adapter_changes_total", pair="is-en", outcome="refused") >= 1)
    lines = [x for x in capfd.readouterr().err.split("\n") if "does not act" in x]
    assert len(lines) == 1 and f"{old[:12]} goes on answering" in lines[0]


def test_an_adapter_of_another_base(bench: Bench) -> None:
    with serving_one(bench) as (service, old):
        new = bench.publish(seed=2, base=light_base(bench.root / "other", "other"))
        refused(service, new, old, "adapter and base do not match")


def test_an_adapter_of_the_same_base_at_another_revision(bench: Bench) -> None:
    with serving_one(bench) as (service, old):
        new = bench.publish(seed=2, base=bench.base.model_copy(update={"revision": "s" * 64}))
        refused(service, new, old, "adapter and base do not match")


def test_an_adapter_of_too_high_a_rank(bench: Bench) -> None:
    with serving_one(bench) as (service, old):
        refused(service, bench.publish(seed=2, rank=16), old, "rank is too high; found 16; valid: at most 8")


@pytest.mark.parametrize("damage", ["cut", "altered", "missing", "gone"])
def test_an_adapter_that_is_damaged_and_mended(bench: Bench, damage: str) -> None:
    with serving_one(bench) as (service, old):
        adapter = bench.adapter(seed=2)
        new = bench.registry.add(adapter.path, adapter.card)
        weights = bench.registry.path(new) / WEIGHTS
        whole, raw = bench.root / "whole", weights.read_bytes()
        shutil.copytree(weights.parent, whole)
        # Promote first: the registry itself would refuse a damaged one.
        state = bench.registry.state("is-en").model_copy(update={"live": new, "generation": 9})
        if damage == "gone":
            shutil.rmtree(weights.parent)
        elif damage == "missing":
            weights.unlink()
        else:
            weights.write_bytes(raw[:-10] if damage == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))
        bench.pair_file().write_text(state.model_dump_json())
        reason = {"cut": "cut short", "altered": "altered", "missing": "incomplete", "gone": "no such adapter"}[damage]
        refused(service, new, old, reason)
        shutil.copytree(whole, weights.parent, dirs_exist_ok=True)
        until(lambda: live(service, new))
        assert service.texts("a") == [f"<{new[:8]}>a"]


def test_an_engine_that_cannot_load_is_asked_again(bench: Bench) -> None:
    with serving_one(bench) as (service, old):
        service.engine.load_failure = EngineError("out of memory")
        new = bench.publish(seed=2)
        refused(service, new, old, "out of memory")
        service.engine.load_failure = RuntimeError("unheard of")
        until(lambda: "unexpected RuntimeError" in service.status()["reason"])
        service.engine.load_failure = None
        until(lambda: live(service, new))


def test_an_adapter_of_another_pair_under_this_name(bench: Bench) -> None:
    with serving_one(bench) as (service, old):
        other = bench.publish("en-is", seed=3)
        state = json.loads(bench.pair_file().read_text())
        write_atomic(bench.pair_file(), json.dumps({**state, "live": other}))
        status = until(lambda: (s := service.status())["state"] == "refused" and s)
        assert "this adapter is for another pair" in status["reason"] and status["adapter"] == old


# The registry itself


def test_a_pair_removed_from_the_registry_stops_being_served(bench: Bench) -> None:
    with serving_one(bench) as (service, _):
        bench.pair_file().unlink()
        until(lambda: service.translate("a").status_code == 400)
        assert service.http.get("/languages").json() == []
        until(lambda: service.engine.loaded() == [])
        assert "valid: no pair is served now" in service.translate("a").json()["error"]
        new = bench.publish(seed=2)
        until(lambda: live(service, new))


def test_a_pair_whose_live_adapter_was_taken_back(bench: Bench) -> None:
    with serving_one(bench) as (service, _):
        state = json.loads(bench.pair_file().read_text())
        write_atomic(bench.pair_file(), json.dumps({**state, "live": None}))
        until(lambda: service.translate("a").status_code == 400)
        assert service.status()["reason"] == "no adapter is live for this pair"


def test_the_registry_goes_away_and_comes_back(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    with serving_one(bench) as (service, old):
        bench.registry.root.rename(bench.root / "aside")
        until(lambda: service.http.get("/api/v1/adapters").json()["reason"])
        assert service.texts("a") == [f"<{old[:8]}>a"]
        (bench.root / "aside").rename(bench.registry.root)
        until(lambda: service.http.get("/api/v1/adapters").json()["reason"] is None)
        new = bench.publish(seed=2)
        until(lambda: live(service, new))
    assert capfd.readouterr().err.count("what is live stays") == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pair": 3}', '{"pair": "fo-en", "live": null}', "\0", '{"pair": "is-en", "live": "../../etc"}'])
def test_a_broken_state_file_leaves_what_is_live(bench: Bench, content: str) -> None:
    with serving_one(bench) as (service, old):
        good = bench.pair_file().read_text()
        bench.pair_file().write_text(content)
        status = until(lambda: (s := service.status())["state"] == "refused" and s)
        assert status["reason"] and status["adapter"] == old
        assert service.texts("a") == [f"<{old[:8]}>a"]
        # The other pairs are followed meanwhile.
        other = bench.publish("fo-is", seed=4)
        until(lambda: live(service, other, "fo-is"))
        bench.pair_file().write_text(good)
        until(lambda: service.status()["state"] == "live")


def test_odd_files_in_the_registry_are_no_pairs(bench: Bench) -> None:
    bench.publish(seed=1)
    for name in (".is-en.json.x1", "notes.txt", "xx-yy.json", "zzz.json"):
        (bench.registry.root / "pairs" / name).write_text("{}")
    (bench.registry.root / "pairs" / "de-en.json").mkdir()
    with running(bench.base, bench.registry) as service:
        assert service.http.get("/ready").json()["pairs"] == ["is-en"]
        status = {p["pair"]: p for p in service.http.get("/api/v1/adapters").json()["pairs"]}
        assert set(status) == {"is-en", "xx-yy", "zzz", "de-en"}
        assert all(p["reason"] for name, p in status.items() if name != "is-en")


def test_no_registry_then_one(bench: Bench) -> None:
    with running(bench.base, bench.registry) as service:
        answer = service.translate("a")
        assert answer.status_code == 400 and answer.json()["pairs"] == []
        assert service.http.get("/languages").json() == []
        ready = service.http.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "empty")
        id = bench.publish(seed=1)
        until(lambda: live(service, id))
        assert service.http.get("/ready").status_code == 200


# Draining


def test_a_request_under_way_ends_on_the_version_it_began_with(bench: Bench) -> None:
    with serving_one(bench) as (service, old):
        service.engine.delay = 1.0
        translations: list[str] = []
        asking = threading.Thread(target=lambda: translations.extend(service.texts("a")))
        asking.start()
        until(lambda: service.engine.running[old] == 1)
        service.engine.delay = 0
        new = bench.publish(seed=2)
        until(lambda: live(service, new))
        assert service.texts("b") == [f"<{new[:8]}>b"]
        assert set(service.engine.loaded()) == {old, new} and translations == []
        asking.join()
        assert translations == [f"<{old[:8]}>a"]
        # It stays for a roll back, until there is a nearer one.
        newer = bench.publish(seed=3)
        until(lambda: live(service, newer))
        until(lambda: set(service.engine.loaded()) == {new, newer})


def test_a_roll_back_to_a_version_that_still_drains_takes_it_up_again(bench: Bench) -> None:
    with serving_one(bench) as (service, old):
        service.engine.delay = 1.0
        asking = threading.Thread(target=service.texts, args=("a",))
        asking.start()
        until(lambda: service.engine.running[old] == 1)
        service.engine.delay = 0
        new = bench.publish(seed=2)
        until(lambda: live(service, new))
        calls = len(service.engine.calls)
        bench.registry.rollback("is-en", "test")
        until(lambda: live(service, old))
        assert len(service.engine.calls) == calls, "proved a second time"
        asking.join()
        assert service.engine.unloads == []
        assert service.texts("b") == [f"<{old[:8]}>b"]
