"""Adapters that come with tellmt: used where the registry has no live version of the pair, and only there."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import serve.files.local
from serve.cli import most_used_base
from serve.config import Limits
from tell.adapter.card import CARD, WEIGHTS, Adapter
from tell.adapter.shipped import on_base, shipped_adapters, shipped_dir
from tell.model.base import DEFAULT_BASE
from tell.model.engine import EngineOptions
from tell.paths import cache_dir
from tell.registry.registry import Registry
from tellmt.cli import main
from tests.support.fake_engine import FakeEngine
from tests.support.fake_eval_engine import light_adapter, light_base, make_bench
from tests.support.running import Upper
from tests.support.serving import Running, publish, running, until

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tellmt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run in this process over an engine that writes in capitals: exit code, stdout, stderr."""
    monkeypatch.setattr(serve.files.local, "open_engine", lambda name, options: Upper(EngineOptions(base=options.base)))

    def run(*args: object) -> tuple[int, str, str]:
        code = main([*map(str, args)])
        printed, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, printed, err

    return run


def ship(isolated: Path, pair: str = "is-en", seed: int = 50, base_id: str = "light", **base_fields: Any) -> Adapter:
    """An adapter where TELLMT_SHIPPED points."""
    return light_adapter(shipped_dir() / pair.replace(":", "--"), light_base(cache_dir(), base_id, **base_fields), pair, seed)


def published(isolated: Path, pair: str = "is-en", seed: int = 1) -> str:
    return publish(Registry(), light_adapter(isolated / f"{pair}-{seed}", light_base(cache_dir()), pair, seed))


def translated(tellmt: Run, *args: object, code: int = 0) -> tuple[str | None, str]:
    """The adapter that translated a file, and stderr."""
    Path("in.txt").write_text("hestur\n")
    exit_code, output, err = tellmt("translate", "in.txt", "-o", "out.txt", "--json", *args)
    assert exit_code == code, err
    return (json.loads(output)["adapter"] if output else None), err


# --- tellmt translate


def test_translate_uses_the_shipped_adapter_until_one_is_published(tellmt: Run, isolated: Path) -> None:
    shipped = ship(isolated)
    adapter, err = translated(tellmt)
    assert adapter == shipped.id and Path("out.txt").read_text() == "HESTUR\n"
    assert f"is-en: adapter {shipped.short}, which came with tellmt, on light" in err
    id = published(isolated)
    adapter, err = translated(tellmt, "--from", "is", "--to", "en")
    assert adapter == id != shipped.id and "came with" not in err
    assert Registry().ids() == [id]


def test_a_damaged_live_version_is_not_covered_up(tellmt: Run, isolated: Path) -> None:
    ship(isolated)
    weights = Registry().path(published(isolated)) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4])
    _, err = translated(tellmt, code=1)
    assert "cut short" in err


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_shipped_adapters_can_be_turned_off(tellmt: Run, isolated: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    ship(isolated)
    if way == "variable":
        monkeypatch.setenv("TELLMT_TRANSLATE_NO_SHIPPED", "1")
    elif way == "file":
        Path("tellmt.toml").write_text("[translate]\nno_shipped = true\n")
    _, err = translated(tellmt, "--from", "is", "--to", "en", *(["--no-shipped"] if way == "flag" else []), code=1)
    assert "no adapter is live for this pair" in err and "publish one with" in err


def test_pairs_offered_are_those_of_both(tellmt: Run, isolated: Path) -> None:
    ship(isolated)
    published(isolated, "fo-is")
    _, err = translated(tellmt, "--from", "en", "--to", "is", code=1)
    assert "valid: fo-is, is-en" in err
    _, err = translated(tellmt, code=2)
    assert "found 2 live pairs that fit; valid: fo-is, is-en" in err


def test_a_base_that_is_not_prepared_is_told_with_its_command(tellmt: Run, isolated: Path) -> None:
    ship(isolated, base_id=DEFAULT_BASE)
    shutil.rmtree(cache_dir() / "bases")
    _, err = translated(tellmt, code=1)
    assert f"run: tellmt base fetch {DEFAULT_BASE}" in err


def test_another_revision_of_the_base(tellmt: Run, isolated: Path) -> None:
    ship(isolated)
    light_base(cache_dir(), revision="s" * 64)
    _, err = translated(tellmt, code=1)
    assert "adapter and base do not match" in err


def spoil_card(path: Path) -> None:
    (path / CARD).write_text("{")


def other_pair(path: Path) -> None:
    path.rename(path.with_name("en-is"))


def no_pair(path: Path) -> None:
    path.rename(path.with_name("readme"))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (spoil_card, "the card cannot be read"),
        (other_pair, "the card is of another pair"),
        (no_pair, "not a language pair"),
        (lambda p: (p / CARD).unlink(), "no card.json"),
    ],
)
def test_one_that_cannot_be_used_is_said_and_left_out(tellmt: Run, isolated: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(ship(isolated).path)
    other = ship(isolated, "fo-is", 51)
    (shipped_dir() / "README.md").write_text("not an adapter")
    adapter, err = translated(tellmt)
    assert adapter == other.id
    assert [line for line in err.split("\n") if "a shipped adapter is not used" in line and message in line and str(shipped_dir()) in line]


def test_altered_weights_are_not_used(tellmt: Run, isolated: Path) -> None:
    path = ship(isolated).path / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    _, err = translated(tellmt, code=1)
    assert "altered since its card was written" in err and str(path) in err


def test_a_directory_that_is_none(tellmt: Run, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLMT_SHIPPED", str(isolated / "shipd"))
    _, err = translated(tellmt, code=1)
    assert "TELLMT_SHIPPED: no such directory" in err and "shipd" in err


# --- tellmt registry


def test_registry_list_and_show(tellmt: Run, isolated: Path) -> None:
    en_is, is_en = ship(isolated, "en-is", 51), ship(isolated)
    id = published(isolated)

    def listed(*args: str) -> list[tuple[Any, ...]]:
        return [(r["pair"], r["id"], r["shipped"], r["in_use"]) for r in json.loads(tellmt("registry", "list", "--json", *args)[1])["adapters"]]

    assert listed() == [("en-is", en_is.id, True, True), ("is-en", id, False, True), ("is-en", is_en.id, True, False)]
    assert listed("--no-shipped") == [("is-en", id, False, True)]
    table = [line.split("│")[1:4] for line in tellmt("registry", "list")[1].split("\n") if line.startswith("│")]
    assert [[c.strip() for c in row] for row in table] == [
        ["en-is", en_is.short, "shipped, in use"], ["is-en", id[:12], "live"], ["is-en", is_en.short, "shipped"],
    ]  # fmt: skip
    assert json.loads(tellmt("registry", "show", is_en.short, "--json")[1])["path"] == str(is_en.path)
    assert json.loads(tellmt("registry", "show", id[:8], "--json")[1])["id"] == id
    code, _, err = tellmt("registry", "show", "")
    assert code == 1 and "not exactly one" in err


def test_rolling_back_to_nothing_and_forth(tellmt: Run, isolated: Path) -> None:
    id = published(isolated)
    code, _, err = tellmt("registry", "rollback", "is-en", "--why", "bad")
    assert code == 1 and "nothing to roll back to" in err
    shipped = ship(isolated)
    code, _, err = tellmt("registry", "rollback", "is-en", "--why", "bad", "--no-shipped")
    assert code == 1 and "nothing to roll back to" in err and Registry().state("is-en").live == id

    code, printed, err = tellmt("registry", "rollback", "is-en", "--why", "bad", "--json")
    state = json.loads(printed)
    assert (code, state["live"], state["previous"], state["generation"]) == (0, None, id, 2)
    assert f"is-en: none is live; the shipped {shipped.short} answers, generation 2" in err
    assert translated(tellmt)[0] == shipped.id
    assert "None" not in tellmt("registry", "log")[1]
    code, printed, _ = tellmt("registry", "rollback", "is-en", "--why", "good after all", "--json")
    state = json.loads(printed)
    assert (code, state["live"], state["previous"]) == (0, id, None)
    assert translated(tellmt)[0] == id


# --- tellmt serve


@contextmanager
def served(isolated: Path, **options: Any) -> Iterator[Running]:
    base = light_base(cache_dir())
    with running(base, Registry(), shipped=on_base(shipped_adapters(), base), **options) as service:
        yield service


def answering(service: Running, id: str, pair: str = "is-en") -> bool:
    return service.status(pair).get("adapter") == id


def test_the_service_swaps_to_what_is_published_and_back(isolated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shipped, other = ship(isolated), ship(isolated, "en-is", 51)
    with served(isolated) as service:
        status = service.status()
        assert (status["adapter"], status["wanted"], status["shipped"], status["state"]) == (shipped.id, shipped.id, True, "live")
        assert service.texts("a") == [f"<{shipped.id[:8]}>a"]
        id = published(isolated)
        until(lambda: answering(service, id))
        assert not service.status()["shipped"] and service.texts("a") == [f"<{id[:8]}>a"]
        until(lambda: shipped.id not in service.engine.loaded())
        # Rolled back to nothing.
        Registry().rollback("is-en", "bad", to_none=True)
        until(lambda: answering(service, shipped.id))
        Registry().rollback("is-en", "good")
        until(lambda: answering(service, id))
        # Removed.
        (Registry().root / "pairs" / "is-en.json").unlink()
        until(lambda: answering(service, shipped.id))
        assert answering(service, other.id, "en-is")
        assert service.engine.failure is None and service.service.pairs() == ["en-is", "is-en"]
    err = capfd.readouterr().err
    assert f"is-en: {shipped.short} is live, as it came with tellmt\n" in err and f"is-en: {id[:12]} is live, instead of {shipped.short}\n" in err


def test_no_request_fails_while_a_shipped_adapter_is_replaced(isolated: Path) -> None:
    from tests.serve.adapters.test_follower import Stream

    shipped = ship(isolated)
    with served(isolated) as service, Stream(service, clients=4) as stream:
        until(lambda: stream.seen(shipped.id) > 5)
        id = published(isolated)
        until(lambda: stream.seen(id) > 5)
        Registry().rollback("is-en", "bad", to_none=True)
        answers_before = stream.seen(shipped.id)
        until(lambda: stream.seen(shipped.id) > answers_before + 5)
    assert stream.failures == []


def test_published_pairs_have_the_first_claim_to_room(isolated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ids = {pair: ship(isolated, pair, 50 + i).id for i, pair in enumerate(("is-en", "en-is", "fo-is"))}
    first = published(isolated, "fo-en")
    with served(isolated, limits=Limits(adapters=3, context=2048)) as service:
        # Two pairs and one place for a change.
        assert answering(service, first, "fo-en")
        until(lambda: service.service.pairs() == ["en-is", "fo-en"] and answering(service, ids["en-is"], "en-is"))
        assert "no place for a shipped adapter" in service.status("is-en")["reason"]
        second = published(isolated, "en-fo", 2)
        until(lambda: answering(service, second, "en-fo"))
        assert service.service.pairs() == ["en-fo", "fo-en"] and answering(service, first, "fo-en")
        until(lambda: ids["en-is"] not in service.engine.loaded())
        assert service.status("en-is")["state"] == "refused" and "its place went to en-fo" in service.status("en-is")["reason"]
        assert service.engine.most_loaded <= 3
        # When there is room again it comes back by itself.
        (Registry().root / "pairs" / "en-fo.json").unlink()
        until(lambda: len(service.service.pairs()) == 2)
        assert "fo-en" in service.service.pairs()


def test_what_was_published_answers_before_what_came_with_tellmt_is_loaded(isolated: Path) -> None:
    shipped, gate = ship(isolated), threading.Event()
    id = published(isolated, "fo-en")

    class Slow(FakeEngine):
        async def load(self, adapter_id: str, path: Path) -> None:
            if adapter_id == shipped.id:
                await asyncio.to_thread(gate.wait, 20)
            await super().load(adapter_id, path)

    with served(isolated, engine=Slow) as service:
        try:
            assert answering(service, id, "fo-en") and service.http.get("/ready").status_code == 200
            assert service.status("is-en")["state"] == "loading" and service.engine.loads[0] == id
        finally:
            gate.set()
        until(lambda: answering(service, shipped.id))


def test_one_that_does_not_act_is_refused_and_the_others_answer(isolated: Path) -> None:
    ship(isolated, seed=13)
    other = ship(isolated, "en-is")
    with served(isolated) as service:
        assert service.service.pairs() == ["en-is"] and answering(service, other.id, "en-is")
        status = service.status()
        assert (status["state"], status["shipped"]) == ("refused", True) and "does not act" in status["reason"]
        id = published(isolated)
        until(lambda: answering(service, id))


def test_the_base_is_that_of_the_registry_then_of_the_shipped(isolated: Path) -> None:
    assert most_used_base(Registry(), {}) == DEFAULT_BASE
    ship(isolated, base_id="other")
    assert most_used_base(Registry(), shipped_adapters()) == "other"
    published(isolated)
    assert most_used_base(Registry(), shipped_adapters()) == "light"


def test_serve_as_a_process(isolated: Path) -> None:
    from tests.serve.test_cli import Process

    shipped = ship(isolated)
    ship(isolated, "en-is", 51, "other")
    card = ship(isolated, "fo-is", 52).path / CARD
    card.write_text(card.read_text().replace("r" * 64, "s" * 64))
    process = Process("--json")
    try:
        process.said(r"ready: \S+, engine \S+, base light, is-en " + shipped.short)
        assert "en-is: the shipped adapter is not used: the base that runs is light, and it was trained on other" in process.lines
        assert (
            "fo-is: the shipped adapter is not used: the base that runs is light, and it was trained on another revision of it, ssssssssssss" in process.lines
        )
        assert process.err.count("the shipped adapter is not used") == 2
        assert process.end(15) == 0
    finally:
        process.process.kill()
    without = Process("--no-shipped", "--base", "light")
    try:
        without.said(r"ready: \S+, engine \S+, base light, no pair is live yet")
        assert without.end(15) == 0 and "shipped" not in without.err
    finally:
        without.process.kill()


# --- tellmt publish


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path, tellmt: Run) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Publish an adapter that spoils this share of the words, where the shipped one spoils 40 % and the base 70 %."""
    bench = make_bench(tmp_path, monkeypatch)
    ship(isolated, seed=2)

    def publish(spoilt: float, *args: str) -> tuple[int, dict[str, Any], str]:
        bench.spoilt[9] = spoilt
        code, printed, err = tellmt("--json", "publish", bench.adapter("mine", 9).path, "--corpus", bench.corpus, *args)
        return code, json.loads(printed) if printed else {}, err

    return publish


def test_the_gate_compares_with_the_shipped_one(gate: Any, isolated: Path) -> None:
    shipped = shipped_adapters()["is-en"]
    code, report, err = gate(0.6)
    assert code == 1 and Registry().state("is-en").live is None
    assert f"worse than the shipped version {shipped.id[:12]}: chrF2" in err and "--no-shipped publishes without this comparison" in err
    assert report["verdict"]["against"] == shipped.id and report["verdict"]["paired"]["adapter_vs_shipped"]["delta"] < 0
    assert set(report["verdict"]["metrics"]) == {"base", "adapter", "shipped"}
    # The same adapter, asked without it, only has to beat the bare base.
    code, report, err = gate(0.6, "--no-shipped")
    assert code == 0 and report["passed"] and set(report["verdict"]["metrics"]) == {"base", "adapter"}, err


def test_a_worse_one_goes_in_by_force(gate: Any) -> None:
    code, report, err = gate(0.6, "--force", "--why", "our own words")
    assert code == 0 and report["forced"] and "worse than the shipped version" in Registry().log()[-1]["why"], err


def test_a_better_one_passes(gate: Any) -> None:
    code, report, err = gate(0.1)
    assert code == 0 and report["passed"] and report["verdict"]["paired"]["adapter_vs_shipped"]["delta"] > 0, err


def test_a_damaged_shipped_one_keeps_nobody_out(gate: Any, isolated: Path) -> None:
    path = shipped_dir() / "is-en" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-4])
    code, report, err = gate(0.6)
    assert code == 0 and report["verdict"]["against"] is None and "note: the shipped version cannot be read" in err


def test_one_on_another_base_is_not_compared_with(gate: Any, isolated: Path) -> None:
    ship(isolated, seed=2, base_id="other")
    code, report, err = gate(0.6)
    assert code == 0 and report["verdict"]["against"] is None and "is on another base (other) and was not compared with" in err
